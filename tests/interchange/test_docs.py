"""The first examples in docs/interchange.md run; tests of the other forms run theirs."""

import numpy as np
import pytest
from support.docs import examples
from support.fitted import brief, network, one_thread

import fastmlp
from fastmlp import reference

__all__ = ["network", "one_thread"]  # fixtures


@brief
def test_files_and_scikit_learn(tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    monkeypatch.setattr(fastmlp, "MLP", reference.MLP, raising=False)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(examples("Files") + examples("scikit-learn"), names)
    assert (tmp_path / "net.safetensors").exists()
    X = names["X"]
    for estimator in ("theirs", "ours", "net"):
        np.testing.assert_array_equal(names[estimator].predict(X), names["clf"].predict(X))

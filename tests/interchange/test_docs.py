"""The examples in docs/interchange.md run."""

import re

import numpy as np
import pytest
from support.fitted import brief, network
from support.nets import ROOT

import fastmlp
from fastmlp import reference

__all__ = ["network"]  # a fixture


@brief
def test_files_and_scikit_learn(tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    monkeypatch.setattr(fastmlp, "MLP", reference.MLP, raising=False)
    monkeypatch.chdir(tmp_path)
    sections = re.split(r"^## ", (ROOT / "docs" / "interchange.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    names = {}
    for title in ("Files", "scikit-learn"):
        (section,) = [text for text in sections if text.startswith(f"{title}\n")]
        for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
            exec(block, names)
    assert (tmp_path / "net.safetensors").exists()
    X = names["X"]
    for estimator in ("theirs", "ours", "net"):
        np.testing.assert_array_equal(names[estimator].predict(X), names["clf"].predict(X))

"""The examples in docs/interchange.md run. That of C is in `test_c.py`."""

import os

import numpy as np
import pytest
from support.docs import examples
from support.fitted import brief, network, one_thread

import fastmlp
from fastmlp import reference

__all__ = ["network", "one_thread"]  # fixtures

NEEDS = {
    "Files": ["safetensors"],
    "scikit-learn": [],
    "ONNX": ["onnx", "onnxruntime", "skl2onnx"],
    "PyTorch": ["torch"],
    "Keras": ["torch", "keras"],
}


@brief
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")  # Keras
@pytest.mark.parametrize("title", NEEDS)
def test_the_examples_of_a_section(title, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "torch"))
    for package in NEEDS[title]:
        pytest.importorskip(package)
    monkeypatch.setattr(fastmlp, "MLP", reference.MLP, raising=False)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(examples(title), names)
    net, X_test = names["net"], names["X_test"]
    assert net.score(X_test, names["y_test"]) > 0.85
    for copied, original in {"again": net, "ours": names.get("clf"), "inside": names.get("clf")}.items():
        if copied in names:
            np.testing.assert_array_equal(names[copied].predict(X_test), original.predict(X_test))
    if title == "ONNX":
        np.testing.assert_array_equal(names["label"], net.predict(X_test))
    if title == "PyTorch":
        np.testing.assert_array_equal(names["same"].predict(names["X"]), names["labels"])
    if title == "Keras":
        proba = names["same"].predict_proba(names["X"])
        convert = pytest.importorskip("keras").ops.convert_to_numpy
        np.testing.assert_allclose(convert(names["probabilities"]), proba, atol=2e-6)

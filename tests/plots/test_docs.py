"""The examples of docs/plots.md run; digits stand in for MNIST."""

import pytest
from support.docs import code_blocks
from support.nets import ROOT

import fastmlp
from fastmlp import datasets, reference


def test_the_examples(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot

    monkeypatch.setattr(datasets, "load_mnist", lambda: [part[:300] for part in datasets.load_digits()])
    monkeypatch.setattr(fastmlp, "MLP", reference.MLP, raising=False)
    monkeypatch.setattr(pyplot, "show", lambda: None)
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "plots.md").read_text(encoding="utf-8")
    (setup,), (pictures, displays) = code_blocks(text, "python setup"), code_blocks(text)
    assert len(pictures.splitlines()) == 8
    names = {}
    exec(setup.replace("784", "64"), names)
    exec(pictures, names)
    assert len(pyplot.get_fignums()) == 5
    exec(displays, names)
    assert names["display"].confusion_matrix.shape == (10, 10)
    assert names["display"].top == names["net"].most_confused(names["X_test"], names["y_test"])
    assert {path.name for path in tmp_path.iterdir()} == {"confusion.pdf", "guesses.svg"}
    pyplot.close("all")

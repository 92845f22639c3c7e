"""``fastmlp train --plot``: which pictures it writes, and what it refuses before it trains."""

import sys

import numpy as np
import pytest

import fastmlp
from fastmlp import datasets, reference
from fastmlp.cli import main

ALWAYS = {"learning_curves", "confusion_matrix", "calibration", "weights"}
OF_IMAGES = {"samples", "wrong_guesses"}


@pytest.fixture(autouse=True)
def plain(monkeypatch, tmp_path):
    """The network in NumPy, which compiles nothing; files lie in the working directory."""
    monkeypatch.setattr(fastmlp, "MLP", reference.MLP, raising=False)
    monkeypatch.chdir(tmp_path)


def few_digits():
    X, y, _, _ = datasets.load_digits()
    np.savez("few.npz", X_train=X[:60], y_train=y[:60], X_test=X[60:100], y_test=y[60:100])


@pytest.mark.parametrize(
    ("data", "form", "more"), [("few.npz", "png", OF_IMAGES), ("xor", "svg", {"decision_boundary"})]
)
def test_every_picture_that_applies(data, form, more, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    few_digits()
    chosen = ["--plot-format", form] if form != "png" else []
    pictures = tmp_path / "new" / "folder"
    assert main(["train", "--data", data, "--layers", "4", "--epochs", "2", "--plot", str(pictures), *chosen]) == 0
    assert {path.name for path in pictures.iterdir()} == {f"{name}.{form}" for name in ALWAYS | more}
    start = {"png": b"\x89PNG", "svg": b"<?xml"}[form]
    assert all(path.read_bytes().startswith(start) for path in pictures.iterdir())
    assert f"plotted into {pictures}: learning_curves, confusion_matrix, calibration" in capsys.readouterr().err
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plot", "few.npz"], "--plot 'few.npz' is a file; give a folder"),
        (["--plot", "few.npz/pictures"], "few.npz/pictures: Not a directory"),
        (["--plot", "x", "--plot-format", "jpg"], "must be one of png, svg, not 'jpg'"),
    ],
)
def test_a_wrong_folder_is_refused_before_training(arguments, message, capsys):
    pytest.importorskip("matplotlib")
    few_digits()
    assert main(["train", "--data", "few.npz", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


def test_without_matplotlib_nothing_is_trained(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["train", "--data", "xor", "--plot", "pictures"]) == 2
    out, err = capsys.readouterr()
    assert (out, "--plot needs matplotlib: pip install 'fastmlp[plot]'" in err) == ("", True)
    assert not (tmp_path / "pictures").exists()

"""What a notebook shows, executed by a kernel of its own."""

import re

import pytest

pytest.importorskip("ipykernel")
nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")

SETUP = """
import os, signal, threading, warnings
import numpy as np
from fastmlp import Ensemble, MLPClassifier, fit_many, reference, search

X = np.random.default_rng(0).standard_normal((40, 4)).astype("f4")
y = (X[:, 0] > 0).astype(int)
net = reference.MLP([4, 5, 2])

class At:
    def __init__(self, epoch, act):
        self.epoch, self.act = epoch, act
    def on_epoch_end(self, net, fit):
        if fit.epoch == self.epoch:
            self.act()

def interrupt_soon():
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
"""
CELLS = {  # a name, the code, and how many outputs
    "fit": ("h = net.fit(X, y, epochs=300, batch_size=4, progress=True, validation_data=(X, y))", 1),
    "two fits": ("for _ in range(2): h = net.fit(X, y, epochs=30, progress=True)", 2),
    "nested": (
        "other = lambda: reference.MLP([4, 5, 2]).fit(X, y, epochs=7, progress=True)\n"
        "h = net.fit(X, y, epochs=3, progress=True, callbacks=[At(2, other)])",
        2,
    ),
    "interrupted": (
        "warnings.simplefilter('ignore')\n"
        "h = net.fit(X, y, epochs=10**7, progress=True, callbacks=[At(1, interrupt_soon)])",
        1,
    ),
    "failed": (
        "try: net.fit(X, y, epochs=50, progress=True, callbacks=[At(5, lambda: 1 / 0)])\n"
        "except ZeroDivisionError: pass",
        1,
    ),
    "in a thread": (
        "thread = threading.Thread(target=net.fit, args=(X, y), kwargs={'epochs': 30, 'progress': True})\n"
        "thread.start(); thread.join()",
        1,
    ),
    "many": ("hs = fit_many([reference.MLP([4, 5, 2]) for _ in range(3)], X, y, epochs=30, progress=True)", 1),
    "ensemble": ("hs = Ensemble(reference.MLP([4, 5, 2]), n=4).fit(X, y, epochs=30, progress=True)", 1),
    "search": (
        "r = search({'learning_rate': [0.01, 0.1, 1.0]}, X, y, strategy='grid', layers=[4, 5, 2], epochs=3, "
        "progress=True)",
        1,
    ),
    **{
        f"{solver}, {n}": (
            f"c = MLPClassifier((5,), solver='{solver}', max_iter=20, n_networks={n}, verbose=1).fit(X, y)",
            1,
        )
        for solver in ("adam", "lbfgs")
        for n in (1, 3)
    },
    "two": ("c = MLPClassifier((5,), max_iter=3, verbose=2).fit(X, y)", 1),
    "partial": (
        "c = MLPClassifier((5,), verbose=True)\nfor _ in range(3): c = c.partial_fit(X, y, classes=[0, 1])",
        1,
    ),
}


@pytest.fixture(scope="module")
def outputs():
    """Give the outputs of each cell."""
    cells = [nbformat.v4.new_code_cell(source) for source in (SETUP, *(source for source, _ in CELLS.values()))]
    nbclient.NotebookClient(nbformat.v4.new_notebook(cells=cells), timeout=300).execute()
    return dict(zip(CELLS, [cell.outputs for cell in cells[1:]], strict=True))


def texts(outputs):
    """Return the plain text of each output."""
    return [output["data"]["text/plain"] if "data" in output else output["text"] for output in outputs]


def test_a_fit_has_one_output(outputs):
    assert {name: len(shown) for name, shown in outputs.items()} == {name: n for name, (_, n) in CELLS.items()}


def test_an_output_shows_the_last_state(outputs):
    (whole,) = texts(outputs["fit"])
    assert re.fullmatch(r"epoch 300/300: 100%.* 3000/3000 .*step/s, loss 0.\d{4}, val_accuracy .*", whole)
    (output,) = outputs["fit"]
    assert '<progress value="3000" max="3000"' in output["data"]["text/html"]
    assert "/10000000 " in texts(outputs["interrupted"])[0]
    assert texts(outputs["interrupted"])[0].endswith(", interrupted]")
    assert " 5/50 " in texts(outputs["failed"])[0]
    assert [text.partition(":")[0] for text in texts(outputs["nested"])] == ["epoch 3/3", "epoch 7/7"]
    assert texts(outputs["in a thread"])[0].startswith("epoch 30/30: 100%")


def test_many_fits_share_an_output(outputs):
    for name, label in (("many", "3/3 networks: 100%"), ("ensemble", "4/4 networks: 100%")):
        assert texts(outputs[name])[0].startswith(label)
    lines = texts(outputs["search"])[0].splitlines()
    assert [line.partition(":")[0] for line in lines] == ["rung 1/2", "rung 2/2", "1/1 networks"]


def test_estimators_show_the_same(outputs):
    assert texts(outputs["adam, 1"])[0].startswith("epoch 20/20: 100%")
    assert texts(outputs["lbfgs, 1"])[0].startswith("lbfgs: ")
    assert [texts(outputs[f"{solver}, 3"])[0][:18] for solver in ("adam", "lbfgs")] == ["3/3 networks: 100%"] * 2
    for name in ("two", "partial"):  # the lines of scikit-learn, which are one output of text
        assert texts(outputs[name])[0].count("Iteration ") == 3

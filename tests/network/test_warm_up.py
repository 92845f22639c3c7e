"""`fastmlp.warm_up` leaves nothing to compile for the fits and predictions that follow."""

import numpy as np
import pytest
from support.nets import data, refused

import fastmlp
from fastmlp import MLP
from fastmlp.engine import compiled, inference

pytestmark = pytest.mark.loops("any line")


@pytest.fixture
def ready(monkeypatch):
    """Return the set of loops that this process has ready, as it is in a new process."""
    monkeypatch.setattr(inference, "_compiled", set())
    return inference._compiled


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("layers", [[4, 8, 3], [4, 3]])
def test_nothing_is_left_to_compile(ready, layers, optimizer):
    assert fastmlp.warm_up(layers, optimizer=optimizer) is None
    before = set(ready)
    assert len(before) == 4  # training and predictions, with few and with many zeros
    X, y = data(200)
    for rows in (X, np.where(X > 1.5, X, 0)):
        net = MLP(layers)
        net.fit(rows, y, epochs=1, optimizer=optimizer, validation_data=(rows, y))
        for some in (rows, rows[:1]):
            net.predict(some)
            net.predict_proba(some)
            net.evaluate(some, y[: len(some)])
    assert ready == before


def test_each_kind_of_rows(ready, monkeypatch):
    formats = []
    monkeypatch.setattr(compiled.CompiledEngine, "prepare", lambda engine, X, *_: formats.append(X))
    monkeypatch.setattr(compiled.CompiledEngine, "prepare_inference", lambda engine, X: formats.append(X))
    pytest.importorskip("scipy")
    fastmlp.warm_up([100, 8, 3], rows=("dense", "sparse", "uint8", "sparse uint8", "csr"), dtype="float64")
    kinds = [compiled.rows_in_place(X, "auto", 1).format for X in formats]
    assert kinds == [kind for kind in ("dense", "packed", "bytes", "packed bytes", "csr") for _ in range(2)]
    assert [str(X.dtype) for X in formats[::2]] == ["float64", "float64", "uint8", "uint8", "float64"]


def test_wrong_arguments(ready):
    X, _ = data(10)
    with refused(ValueError, "rows must be one of 'dense', 'sparse', 'uint8', 'sparse uint8', 'csr', not 'spars'"):
        fastmlp.warm_up([4, 8, 3], rows="spars")
    with refused(ValueError, "did you mean 'adam'"):
        fastmlp.warm_up([4, 8, 3], optimizer="adm")
    with pytest.raises(TypeError):
        fastmlp.warm_up([4, 8, 3], rows=X)
    with pytest.raises(TypeError):
        fastmlp.warm_up(4)
    with pytest.raises(ValueError, match="output"):
        fastmlp.warm_up([4, 3], output="none")
    assert ready == set()
    fastmlp.warm_up([4, 8, 3], rows=[])
    assert ready == set()

"""`fit_many` with arguments that several networks wear out, and what it leaves in memory."""

import gc
import threading
import warnings
import weakref
from contextlib import suppress

import numpy as np
import pytest
from support.nets import AtEpochEnd, data, parameters, plain, refused

from fastmlp import MLP, fit_many, reference
from fastmlp.callbacks import EarlyStopping
from fastmlp.engine import compiled
from fastmlp.training import Trainer

pytestmark = pytest.mark.loops("many")

N_ROWS, LAYERS = 300, [4, 32, 3]
X, Y = data(N_ROWS)


def raise_broken(net, fit):
    raise ValueError("broken")


def raise_interrupt(net, fit):
    raise KeyboardInterrupt


@pytest.mark.parametrize("in_fits", [False, True])
def test_iterators_serve_all_networks(in_fits):
    called = []
    given = {
        "callbacks": iter([AtEpochEnd(lambda net, fit: called.append(net))]),
        "metrics": (name for name in ["balanced_accuracy"]),
    }
    both = {"fits": [given] * 3} if in_fits else given
    histories = fit_many(plain(), X, Y, epochs=2, validation_fraction=0.2, **both)
    assert len(called) == 6
    assert all(len(history["val_balanced_accuracy"]) == 2 for history in histories)


def test_callbacks_derived_from_those_of_fastmlp_are_copied_too():
    class Own(EarlyStopping):
        pass

    given = Own(patience=1, monitor="loss")
    before = vars(given).copy()
    fit_many(plain(), X, Y, epochs=3, callbacks=[given])
    assert vars(given) == before


def test_rows_for_all_networks_belong_into_fits():
    with refused(TypeError, "belong into fits"):
        fit_many(plain(), X, Y, rows=[0])
    with refused(TypeError, "fits[1] has 1 "):
        fit_many(plain(2), X, Y, fits=[{}, {1: 2}])


def test_a_warning_that_is_an_error_hides_no_errors():
    fits = [{"callbacks": [AtEpochEnd(raise_broken)]}, {"callbacks": [AtEpochEnd(raise_interrupt)]}]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ExceptionGroup, match="1 of 2") as caught:
            fit_many(plain(2), X, Y, epochs=5, fits=fits)
    assert isinstance(caught.value.__context__, Warning)


@pytest.mark.parametrize("fit", [{}, {"callbacks": [AtEpochEnd(raise_broken)]}], ids=["done", "failed"])
@pytest.mark.parametrize("return_exceptions", [False, True])
def test_nothing_keeps_x_in_memory(fit, return_exceptions):
    """Even if the garbage collector does not run."""
    given = X.copy()
    known = weakref.ref(given)
    gc.collect()
    gc.disable()
    try:
        with suppress(ExceptionGroup):
            fit_many([MLP(LAYERS), *plain(1)], given, Y, epochs=1, return_exceptions=return_exceptions, **fit)
        del given
        assert known() is None
    finally:
        gc.enable()


def test_copies_of_rows_are_freed_as_each_network_ends(monkeypatch):
    """Rows for validation, and those of networks with dropout, are copied while their network trains."""
    copies, alive = [], []

    def noted(trainer, run=Trainer.run):
        if trainer.callbacks:
            alive.append(sum(copy() is not None for copy in copies))
        run(trainer)
        copies.extend(map(weakref.ref, (trainer.X, trainer.validation[0])))

    monkeypatch.setattr(Trainer, "run", noted)
    nets = plain(4, dropout=0.5)
    fits = [{"rows": range(250 - i), "callbacks": [AtEpochEnd(lambda net, fit: None)]} for i in range(4)]
    fit_many(nets, X, Y, n_jobs=1, epochs=1, validation_fraction=0.2, fits=fits)
    assert alive == [0] * 4
    assert len(copies) == 8


def test_an_error_before_the_first_step_leaves_the_network_as_it_was(monkeypatch):
    def no_memory(trainer):
        raise MemoryError

    monkeypatch.setattr(Trainer, "_copy_rows", no_memory)
    nets = plain(2)
    before = [(net.history, parameters(net)) for net in nets]
    fits = [{"rows": [0, 1, 2], "validation_fraction": 0.4}] * 2
    results = fit_many(nets, X, np.zeros(N_ROWS, int), fits=fits, return_exceptions=True)
    assert [type(result) for result in results] == [MemoryError] * 2
    for net, (history, _) in zip(nets, before, strict=True):
        assert net.history is history


def test_kernels_for_rows_that_are_copied_are_compiled_before_training(monkeypatch):
    """Ctrl-C can end the call then, and leaves the networks as they were."""
    compiles, training = [], []

    def noted(engine, loop, call, compile=compiled.CompiledEngine._compile):
        compiles.append((loop, bool(training)))
        compile(engine, loop, call)

    def run(trainer, run=Trainer.run):
        training.append(trainer)
        run(trainer)

    monkeypatch.setattr(compiled.CompiledEngine, "_compile", noted)
    monkeypatch.setattr(Trainer, "run", run)
    fit_many([MLP(LAYERS, seed=seed) for seed in range(2)], X, Y, epochs=1, validation_fraction=0.2)
    before = {loop for loop, during in compiles if not during}
    assert {loop for loop, during in compiles if during} <= before


@pytest.mark.parametrize("what", ["X", "validation_data"])
def test_x_may_be_the_parameters_of_one_of_the_networks(what):
    """It is what it was when the call began."""
    nets, twins = ([reference.MLP([4, 8, 4], seed=seed) for seed in range(3)] for _ in range(2))
    view = nets[0].weights[1]
    fixed, y = view.copy(), np.arange(8) % 4
    both = [(nets, view), (twins, fixed)]
    histories = []
    for each, rows in both:
        given = {"validation_data": (rows, y)} if what == "validation_data" else {}
        X_ = rows if what == "X" else X[:8]
        histories.append(fit_many(each, X_, y, n_jobs=1, epochs=3, learning_rate=1.0, **given))
    for net, twin in zip(nets, twins, strict=True):
        np.testing.assert_array_equal(parameters(net)[0], parameters(twin)[0])
    for history, other in zip(*histories, strict=True):
        assert history.to_dict() | {"seconds": 0} == other.to_dict() | {"seconds": 0}


def test_no_thread_stays_in_the_list_of_python():
    before = threading.active_count()
    fit_many(plain(4), X, Y, n_jobs=4, epochs=2)
    assert threading.active_count() == before

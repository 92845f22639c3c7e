"""The history: lists by name, what is best, tables and plots."""

import copy
import math
import pickle
import sys

import numpy as np
import pytest
from support.nets import refused

from fastmlp import History
from fastmlp.history import Best, check_monitor, direction


@pytest.fixture
def history():
    """Three epochs of a classifier with a metric."""
    history = History()
    for loss, f1 in ((1.0, 0.5), (0.5, 0.7), (0.25, 0.6)):
        history.append(
            loss=loss, accuracy=f1, val_loss=2 * loss, val_accuracy=f1, learning_rate=0.1, seconds=0.01, val_f1_macro=f1
        )
    return history


def test_lists(history):
    assert history.loss == [1.0, 0.5, 0.25]
    assert history.val_loss == [2.0, 1.0, 0.5]
    assert history.accuracy == history.val_accuracy == [0.5, 0.7, 0.6]
    assert history.learning_rate == [0.1] * 3
    assert history.seconds == [0.01] * 3
    assert history.metrics == {"val_f1_macro": [0.5, 0.7, 0.6]}
    assert not history.interrupted
    assert history["val_f1_macro"] is history.metrics["val_f1_macro"]
    assert history["loss"] is history.loss


def test_words(history):
    assert repr(History()) == "<History of 0 epochs>"
    words = "loss 0.2500, accuracy 0.6000, val_loss 0.5000, val_accuracy 0.6000, val_f1_macro 0.6000"
    assert history.last() == words
    history.interrupted = True
    assert repr(history) == f"<History of 3 epochs, interrupted: {words}>"


def test_histories_do_not_share(history):
    for other in (copy.deepcopy(history), pickle.loads(pickle.dumps(history)), History()):
        other.append(loss=0.0, val_f1_macro=0.0)
        assert len(history["val_f1_macro"]) == 3
    assert history.to_dict() is not history.to_dict()
    history.to_dict()["val_f1_macro"].clear()
    assert len(history["val_f1_macro"]) == 3


def test_histories_of_older_versions():
    history = History.__new__(History)
    history.__setstate__({"loss": [1.0], "accuracy": [0.5], "interrupted": True})
    assert repr(history) == "<History of 1 epochs, interrupted: loss 1.0000, accuracy 0.5000>"
    assert history.learning_rate == []


def test_where_nothing_was_measured_stands_nan():
    history = History()
    history.append(loss=1.0, accuracy=0.5)
    history.append(loss=1.0, accuracy=0.5, val_loss=2.0, val_r2=0.1)
    history.append(loss=1.0, accuracy=0.5)
    np.testing.assert_array_equal(history.val_loss, [math.nan, 2.0, math.nan])
    np.testing.assert_array_equal(history["val_r2"], [math.nan, 0.1, math.nan])
    assert history.val_accuracy == []
    assert list(history.to_dict()) == ["loss", "accuracy", "val_loss", "val_r2"]


def test_what_was_not_measured(history):
    with refused(KeyError, "'val_r2' was not measured, but loss, accuracy, val_loss, val_accuracy, val_f1_macro, "):
        history["val_r2"]
    with refused(KeyError, "'loss' was not measured, but nothing yet"):
        History()["loss"]


# --- what is good -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sign"),
    [
        ("loss", -1), ("val_loss", -1), ("val_rmse", -1), ("val_mae", -1), ("val_log_loss", -1),
        ("val_max_error", -1), ("accuracy", 1), ("val_accuracy", 1), ("val_r2", 1), ("val_f1_macro", 1),
    ],
)  # fmt: skip
def test_direction_goes_by_the_name(name, sign):
    assert direction(name) == sign
    assert direction(name, "min") == -1
    assert direction(name, "max") == 1


def test_wrong_directions():
    with refused(ValueError, "mode must be one of 'auto', 'min', 'max', not 'minimum'; did you mean 'min'?"):
        direction("loss", "minimum")
    with refused(TypeError, "monitor must be the name of a measurement, e.g. 'val_loss', not 3"):
        direction(3)


def test_best_epoch(history):
    assert history.best_epoch() == 3
    assert history.best_epoch("val_loss", "max") == 1
    assert history.best_epoch("val_f1_macro") == 2
    assert history.best_epoch("loss", min_delta=0.4) == 2
    history.append(loss=math.nan, val_f1_macro=0.7)
    assert history.best_epoch("loss") == 3
    assert history.best_epoch("val_f1_macro") == 2  # the first of equal ones
    lost = History(loss=[math.nan, math.nan])
    assert lost.best_epoch("loss") == 0


def test_best_looks_at_each_epoch_once(history):
    best = Best("val_f1_macro")
    assert not best.is_last(history)
    assert best.epoch == 2
    history.metrics["val_f1_macro"][0] = 9.0
    history.append(loss=1.0, val_f1_macro=0.8)
    assert best.is_last(history)
    assert best.epoch == 4
    assert history.best_epoch("val_f1_macro") == 1


def test_monitor_must_be_measured():
    check_monitor(None, ())
    check_monitor("loss", ("loss", "accuracy"))
    with refused(ValueError, "monitor is 'val_loss', but this fit measures loss, accuracy; give validation_data"):
        check_monitor("val_loss", ("loss", "accuracy"))
    with refused(ValueError, "monitor is 'val_r2', but this fit measures loss, val_loss; add 'r2' to metrics"):
        check_monitor("val_r2", ("loss", "val_loss"))
    with pytest.raises(ValueError, match="monitor is 'acc', but this fit measures loss, accuracy$"):
        check_monitor("acc", ("loss", "accuracy"))
    with refused(ValueError, "add 'acc' to metrics, or did you mean 'val_accuracy'?"):
        check_monitor("val_acc", ("loss", "accuracy", "val_loss", "val_accuracy"))
    with refused(ValueError, "this fit measures loss, accuracy; did you mean 'accuracy'?"):
        check_monitor("acuracy", ("loss", "accuracy"))


# --- tables and plots -------------------------------------------------------------------------------------------------


def test_to_dict(history):
    names = ["loss", "accuracy", "val_loss", "val_accuracy", "val_f1_macro", "learning_rate", "seconds"]
    measured = history.to_dict()
    assert list(measured) == names
    assert all(measured[name] == history[name] for name in names)
    assert History().to_dict() == {}


def test_to_pandas(history):
    pytest.importorskip("pandas")
    frame = history.to_pandas()
    assert list(frame.columns) == list(history.to_dict())
    assert frame.index.name == "epoch"
    assert list(frame.index) == [1, 2, 3]
    assert list(frame["val_f1_macro"]) == history["val_f1_macro"]
    assert frame["val_loss"].idxmin() == history.best_epoch()
    assert len(History().to_pandas()) == 0


@pytest.fixture
def pyplot():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def test_plot(history, pyplot):
    axes = history.plot()
    assert [ax.get_ylabel() for ax in axes] == ["loss", "accuracy", "f1 macro"]
    assert {ax.get_xlabel() for ax in axes} == {"epoch"}
    training, validation = axes[0].lines
    assert (training.get_label(), validation.get_label()) == ("training", "validation")
    np.testing.assert_array_equal(training.get_xydata(), [(1, 1.0), (2, 0.5), (3, 0.25)])
    np.testing.assert_array_equal(validation.get_ydata(), history.val_loss)
    assert [line.get_label() for line in axes[2].lines] == ["validation"]
    axes[0].figure.canvas.draw()


def test_plot_into_given_axes(history, pyplot):
    _, ax = pyplot.subplots()
    assert history.plot(ax) is ax
    assert ax.get_ylabel() == "loss"
    assert len(pyplot.get_fignums()) == 1


def test_plot_of_little(pyplot):
    for history in (History(loss=[1.0]), History(loss=[1.0, math.nan])):
        (ax,) = history.plot()
        ax.figure.canvas.draw()
    with pytest.raises(ValueError, match="there is no history; train first"):
        History().plot()


@pytest.mark.parametrize(
    ("module", "use", "message"),
    [
        ("pandas", History.to_pandas, "history.to_pandas() needs pandas: pip install pandas"),
        ("matplotlib", History.plot, "plots need matplotlib: pip install 'fastmlp[plot]'"),
    ],
)
def test_what_is_missing_is_named(history, monkeypatch, module, use, message):
    monkeypatch.setitem(sys.modules, module, None)
    with refused(ImportError, message):
        use(history)

"""`fastmlp.search`: trials that fail, Ctrl-C, data of every kind, and wrong arguments."""

import math
import signal

import numpy as np
import pytest
from support.nets import assert_bits, parameters, raise_broken, refused
from support.searches import FEW, GIVEN, LAYERS, LogUniform, N, X, Y, found, rows_of

import fastmlp
from fastmlp import callbacks, search

pytestmark = pytest.mark.loops("many")

# --- trials that fail -------------------------------------------------------------------------------------------------


def test_a_trial_that_diverges_is_last():
    result = found({"learning_rate": [1e30, 0.1, 1e35]}, factor=2)
    assert result.best_settings == {"learning_rate": 0.1}
    assert [row["error"] is None for row in result.table] == [True, False, False]
    assert result.table[1]["error"].startswith("FloatingPointError: loss is ")
    assert math.isnan(result.table[1]["val_accuracy"])
    assert "2 failed" in repr(result)


def test_all_trials_fail():
    with pytest.raises(FloatingPointError, match="lower learning_rate") as raised:
        found({"learning_rate": [1e30, 1e35]})
    assert "all 2 trials of the search failed; this is the first error" in raised.value.__notes__
    with refused(RuntimeError, "broken"):
        found({}, callbacks=[Broken(lambda net: True)])
    with refused(ValueError, "val_nothing is nan"):
        found({}, metric=nothing)


def nothing(y_true, y_pred):
    return math.nan


class Broken:
    """Raises at the end of an epoch if the network is one of these."""

    def __init__(self, which, epoch=1, error=RuntimeError):
        self.which, self.epoch, self.error = which, epoch, error

    def on_epoch_end(self, net, fit):
        if fit.epoch == self.epoch and self.which(net):
            raise self.error("broken")


def test_a_callback_that_raises_ends_its_trial_alone():
    result = found({"seed": [0, 1, 2, 3]}, factor=None, callbacks=[Broken(lambda net: net.seed == 2)])
    assert result.trials[-1].settings == {"seed": 2}
    assert result.trials[-1].error == "RuntimeError: broken"
    assert [trial.error for trial in result.trials[:-1]] == [None] * 3


def test_if_all_that_stayed_fail_the_best_of_the_others_is_trained_again():
    broken = Broken(lambda net: True, epoch=4)
    result = found(FEW, callbacks=[broken], **GIVEN)
    best, failed = result.trials[0], result.trials[-1]
    assert failed.error == "RuntimeError: broken"
    assert (best.epochs, best.error) == (3, None)
    assert result.best_net.history.val_loss == best.histories[0].val_loss


def test_a_fold_that_fails_fails_its_trial():
    calls = []

    def third_is_nan(y_true, y_pred):
        calls.append(1)
        return math.nan if len(calls) == 3 else 1.0

    result = found({"seed": [1, 2]}, folds=2, epochs=1, metric=third_is_nan, n_jobs=1, refit=False)
    assert [trial.error for trial in result.trials] == [None, "val_third_is_nan is nan"]


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [1, 2, 5])
def test_ctrl_c_returns_what_there_is(epoch):
    press = Broken(lambda net: True, epoch, KeyboardInterrupt)
    with pytest.warns(UserWarning, match="Ctrl-C stopped the search after . of 3 rungs"):
        result = found(callbacks=[press])
    assert result.interrupted
    assert len(result.best_net.history.loss) >= 1
    assert result.best_score == result.best_net.history.val_accuracy[-1]
    assert len(result.trials) == 9
    assert {trial.error for trial in result.trials} <= {None, "not trained"}


def test_a_real_ctrl_c_stops_all_networks():
    """The signal comes while threads train: no fit ends for hours."""
    press = callbacks_of(on_epoch_end=lambda net, fit: fit.epoch == 3 and signal.raise_signal(signal.SIGINT))
    with pytest.warns(UserWarning, match="Ctrl-C stopped the search after 0 of 1 rungs"):
        result = found(epochs=10**8, factor=None, callbacks=[press], **GIVEN)
    assert result.interrupted
    assert result.best_net.predict(X).shape == (N,)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_before_anything_is_known():
    press = callbacks_of(on_fit_begin=lambda net, fit: press_ctrl_c())
    with pytest.raises(KeyboardInterrupt):
        found(callbacks=[press])


def test_ctrl_c_while_the_best_is_trained_anew():
    class InRefit:
        def on_epoch_end(self, net, fit):
            if "val_loss" not in fit.measures:
                raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="Ctrl-C stopped the search after 3 of 3 rungs"):
        result = found(callbacks=[InRefit()])
    assert result.best_net.history is result.trials[0].histories[0]
    with pytest.warns(UserWarning, match="Ctrl-C"):
        assert found(callbacks=[InRefit()], folds=2).best_net is None


def press_ctrl_c():
    raise KeyboardInterrupt


def callbacks_of(**hooks):
    return type("Hooks", (), {name: staticmethod(hook) for name, hook in hooks.items()})()


# --- data of every kind -----------------------------------------------------------------------------------------------


def test_tables_names_of_classes_and_weights():
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame(X, columns=list("abcd"))
    names = pd.Series(np.array(["x", "y", "z"])[Y], index=np.arange(N)[::-1])
    weights = np.linspace(0.5, 1.5, N)
    settings = {"sample_weight": weights, "class_weight": {"x": 2.0}, "folds": 3}
    result = found(FEW, table, names, **settings)
    plain = found(FEW, X, Y, **settings | {"class_weight": {0: 2.0}})
    assert rows_of(result) == rows_of(plain)
    assert_bits(result.best_net, parameters(plain.best_net))
    assert result.best_net.feature_names == list("abcd")
    assert result.best_net.predict(table)[0] in ("x", "y", "z")
    with refused(ValueError, "validation X has its columns in another order"):
        found(FEW, table, names, validation_data=(table[list("bacd")], names))
    given = found(FEW, table, names, validation_data=(table, names))
    assert given.best_score == given.best_net.score(table, names)


def test_one_hot_columns_and_a_class_that_a_fold_does_not_have():
    pd = pytest.importorskip("pandas")
    one_hot = pd.DataFrame(np.eye(3, dtype=int)[Y], columns=["x", "y", "z"])
    assert rows_of(found(FEW, y=one_hot, folds=2)) == rows_of(found(FEW, folds=2))
    y = np.array(["x", "y", "z"])[np.sort(Y)]
    half = [(np.arange(60), np.arange(60, N))]
    assert found({}, y=y, folds=half).best_net.classes.tolist() == ["x", "y", "z"]


@pytest.mark.parametrize("form", ["csr", "coo"])
def test_sparse_rows(form):
    sparse = pytest.importorskip("scipy.sparse")
    dense = np.where(X > 0.3, X, 0)
    result = found(FEW, sparse.csr_array(dense).asformat(form), folds=2)
    assert result.best_score == pytest.approx(found(FEW, dense, folds=2).best_score, abs=0.05)


def test_regression():
    y = X @ [1.0, 2.0, -1.0, 0.5]
    result = found({"learning_rate": [0.001, 0.01, 0.1]}, y=y, layers=[4, 6, 1], output="identity", folds=2)
    assert result.metric == "val_loss"
    assert result.best_settings == {"learning_rate": 0.1}
    assert found({}, y=y, layers=[4, 6, 1], output="identity", metric="r2").best_score > 0.5


# --- wrong arguments --------------------------------------------------------------------------------------------------


class Fails:
    def rvs(self, random_state):
        raise ArithmeticError("no number")


@pytest.mark.parametrize(
    ("space", "settings", "error", "message"),
    [
        ({"learning_rate": []}, {}, ValueError, "space['learning_rate'] is empty"),
        ({"learning_rate": 0.1}, {}, TypeError, "pass what is fixed as learning_rate=..."),
        ({"activation": "relu"}, {}, TypeError, "space['activation'] must be a list"),
        ({"lr": [0.1]}, {}, TypeError, "unknown argument 'lr'; did you mean 'learning_rate'?"),
        ({3: [0.1]}, {}, TypeError, "unknown argument '3'"),
        ({}, {"n_trial": 3}, TypeError, "unknown argument 'n_trial'; did you mean 'n_trials'?"),
        ({"epochs": [1, 2]}, {}, ValueError, "epochs is an argument of search"),
        ({"sample_weight": [None]}, {}, ValueError, "sample_weight is the same for all trials"),
        ({"learning_rate": [0.1]}, {"learning_rate": 0.1}, ValueError, "both in the space and an argument"),
        ({}, {"resume": True}, ValueError, "resume is for a single fit"),
        ([], {}, TypeError, "space must be a dict"),
        (np.zeros((99, 9)), {}, TypeError, "or a list of them, not ndarray"),
        ([{}, 3], {}, TypeError, "space must be a dict"),
        ({"activation": ["relu", "rleu"]}, {}, ValueError, "did you mean 'relu'?"),
        ({"optimizer": ["sgd", "adma"]}, {}, ValueError, "did you mean 'adam'?"),
        ({"batch_size": [16, 0.5]}, {}, TypeError, "batch_size must be an integer"),
        ({"learning_rate": [0.1, math.nan]}, {}, ValueError, "learning_rate must be more than 0"),
        ({"learning_rate": Fails()}, {}, ArithmeticError, "no number"),
        ({"learning_rate": LogUniform(0.1, 1)}, {"strategy": "grid"}, ValueError, "'learning_rate' is a distribution"),
        ({}, {"strategy": "grid", "n_trials": 2}, ValueError, "strategy='grid' tries the whole grid"),
        ({}, {"strategy": "bayes"}, ValueError, "strategy must be one of"),
        ({}, {"n_trials": 0}, ValueError, "n_trials must be at least 1"),
        ({}, {"factor": 1}, ValueError, "factor must be at least 2"),
        ({}, {"epochs": 0}, ValueError, "epochs must be at least 1"),
        ({}, {"min_epochs": 10}, ValueError, "min_epochs is 10, but epochs is 9"),
        ({}, {"folds": 1}, ValueError, "folds must be at least 2"),
        ({}, {"folds": "five"}, TypeError, "folds must be a number, a splitter"),
        ({}, {"folds": N + 1}, ValueError, "there are only 120 rows"),
        ({}, {"folds": []}, ValueError, "no folds"),
        ({}, {"folds": [([0, 1], [N])]}, ValueError, "the validation rows of fold 0 must be from 0 to 119"),
        ({}, {"folds": [3]}, TypeError, "fold 0 must be a pair"),
        ({}, {"folds": [([0.5], [1])]}, ValueError, "the training rows of fold 0 must be a list of row numbers"),
        ({}, {"folds": 3, "validation_fraction": 0.1}, ValueError, "not validation_fraction and folds"),
        ({}, {"validation_fraction": 1.5}, ValueError, "validation_fraction must be"),
        ({}, {"validation_data": X}, TypeError, "validation_data must be a pair"),
        ({}, {"metric": "f3"}, ValueError, "must be one of"),
        ({}, {"mode": "most"}, ValueError, "mode must be one of"),
        ({}, {"layers": [5, 3]}, ValueError, "X has 4 features, but the network has 5 inputs"),
        ({"l2": [0.0, 0.1]}, {"layers": [4, 2]}, ValueError, "label 2, but the network has 2 outputs"),
        ({}, {"sample_weight": [1.0]}, ValueError, "sample_weight must have the shape (120,)"),
        ({}, {"callbacks": callbacks.TimeLimit(9)}, TypeError, "callbacks must be a list"),
        ({}, {"callbacks": [raise_broken]}, TypeError, "has none of the methods"),
        ({name: list(range(1000)) for name in ("seed", "l2", "batch_size", "clip_norm", "clip_value", "learning_rate",
                                               "input_noise")}, {}, ValueError, "make some of the lists distributions"),
    ],
)  # fmt: skip
def test_wrong_arguments(space, settings, error, message, monkeypatch):
    monkeypatch.setattr("fastmlp.many.trials.train_many", raise_broken)  # nothing is trained
    with refused(error, message):
        found(space, **settings)


def test_layers_are_needed():
    with refused(ValueError, "a search needs layers"):
        search(FEW, X, Y)
    with refused(ValueError, "a search needs layers"):
        search([{"layers": [LAYERS]}, {}], X, Y)


def test_an_error_of_a_setting_names_the_trial():
    with pytest.raises(ValueError, match="dropout") as raised:
        found({"dropout": [0.1, 0.2, 1.5]}, strategy="grid")
    assert raised.value.__notes__ == ["in trial 2 of the search, with {'dropout': 1.5}"]


def test_what_cannot_be_copied():
    class Uncopied:
        def on_epoch_end(self, net, fit): ...

        def __deepcopy__(self, memo):
            raise TypeError("no copies")

    with refused(TypeError, "callbacks must be copied for each trial, but copy.deepcopy fails: no copies"):
        found({}, callbacks=[Uncopied()])


def test_the_data_are_never_changed_nor_copied_for_each_network():
    given = X.copy(), Y.copy()
    for array in given:
        array.setflags(write=False)
    found(FEW, *given, folds=2)
    np.testing.assert_array_equal(given[0], X)
    assert fastmlp.search is search

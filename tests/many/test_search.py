"""`fastmlp.search`: what is drawn, who trains how long, and what comes out."""

import gc
import pickle
import weakref

import numpy as np
import pytest
from support.nets import assert_bits, parameters, refused
from support.searches import FEW, GIVEN, LAYERS, RATES, X_VAL, Y_VAL, LogUniform, N, X, Y, found, n_epochs, rows_of

from fastmlp import MLP, callbacks, schedules, search
from fastmlp.many.halving import rungs
from fastmlp.optimizers import SGD

pytestmark = pytest.mark.loops("many")

# --- who trains how long ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((27, 27, 3), [(27, 1), (9, 3), (3, 9), (1, 27)]),
        ((16, 27, 3), [(16, 3), (6, 9), (2, 27)]),
        ((8, 10, 2), [(8, 1), (4, 2), (2, 5), (1, 10)]),
        ((100, 5, 3), [(100, 1), (34, 5)]),
        ((100, 2, 3), [(100, 2)]),
        ((1, 50, 3), [(1, 50)]),
        ((2, 50, 3), [(2, 50)]),
        ((27, 27, 3, 5), [(27, 9), (9, 27)]),
        ((27, 27, 3, 27), [(27, 27)]),
        ((27, 27, None), [(27, 27)]),
    ],
)
def test_rungs(arguments, expected):
    assert rungs(*arguments) == expected


def test_each_rung_trains_a_third_for_three_times_as_long():
    result = found()
    assert n_epochs(result) == [9, 3, 3, 1, 1, 1, 1, 1, 1]
    assert [trial.rung for trial in result.trials] == [3, 2, 2, 1, 1, 1, 1, 1, 1]
    assert [trial.epochs for trial in result.trials] == n_epochs(result)


def test_without_halving_all_train_to_the_end_and_the_best_score_wins():
    result = found(factor=None)
    assert n_epochs(result) == [9] * 9
    scores = [trial.score for trial in result.trials]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1]


@pytest.mark.parametrize(
    "schedule", [None, "cosine", "one_cycle", "warmup", schedules.ReduceOnPlateau("loss", patience=1)]
)
@pytest.mark.parametrize(("optimizer", "dtype"), [("sgd", "float64"), ("adam", "float32")])  # others compile these too
def test_a_trial_has_the_bits_of_one_long_fit(schedule, optimizer, dtype):
    fit = {"schedule": schedule, "optimizer": optimizer, "clip_norm": 1.0}
    result = found({"learning_rate": [0.001, 0.01, 0.05], "seed": [3, 4]}, factor=2, dtype=dtype, **GIVEN, **fit)
    assert n_epochs(result) == [9, 9, 4, 2, 2, 2]
    best = result.best_settings
    net = MLP(LAYERS, seed=best["seed"], dtype=dtype)
    history = net.fit(X, Y, epochs=9, batch_size=16, learning_rate=best["learning_rate"], **GIVEN, **fit)
    assert_bits(result.best_net, parameters(net))
    assert history.val_loss == result.best_net.history.val_loss
    assert history.learning_rate == result.best_net.history.learning_rate
    assert result.best_score == history.val_accuracy[-1]


def test_callbacks_see_one_fit():
    calls = {}

    class Note:
        def _note(self, net, what):
            calls.setdefault(id(net), []).append(what)

        def on_fit_begin(self, net, fit):
            self._note(net, "begin")

        def on_epoch_end(self, net, fit):
            self._note(net, fit.epoch)

        def on_fit_end(self, net, fit):
            self._note(net, "end")

    found(FEW, callbacks=[Note()], **GIVEN)
    assert sorted(calls.values(), key=len) == [["begin", *range(1, n + 1), "end"] for n in (3, 3, 9)]


def test_early_stopping_counts_through_all_rungs_and_keeps_the_best():
    stop = callbacks.EarlyStopping("val_loss", patience=2)
    space = {"learning_rate": [0.5, 3.0, 4.0, 5.0]}
    result = found(space, factor=2, epochs=16, callbacks=[stop], metric="loss", **GIVEN)
    assert stop.best_epoch == 0  # each trial has its own
    for trial in result.trials:
        losses, net = trial.histories[0].val_loss, MLP(LAYERS)
        assert trial.score == min(losses) == losses[trial.epochs - 1]
        net.fit(X, Y, epochs=len(losses), batch_size=16, learning_rate=trial.settings["learning_rate"], **GIVEN)
        assert net.history.val_loss == losses
    assert len({len(trial.histories[0].loss) for trial in result.trials}) > 1
    assert result.best_net.evaluate(X_VAL, Y_VAL)["loss"] == result.best_score


# --- what is drawn ----------------------------------------------------------------------------------------------------


def test_a_grid_has_all_combinations():
    result = found({"activation": ["relu"], "batch_size": [16, 32], "learning_rate": [0.1, 0.2]}, strategy="grid")
    drawn = {(t.settings["batch_size"], t.settings["learning_rate"]) for t in result.trials}
    assert drawn == {(16, 0.1), (16, 0.2), (32, 0.1), (32, 0.2)}
    assert list(result.best_settings) == ["activation", "batch_size", "learning_rate"]


def test_random_points_of_a_grid_are_drawn_once():
    result = found(n_trials=100, epochs=1)
    assert sorted(trial.settings["learning_rate"] for trial in result.trials) == RATES["learning_rate"]
    assert len(found(n_trials=4, epochs=1).trials) == 4


def test_distributions_and_several_dicts():
    space = [{"learning_rate": LogUniform(0.01, 1)}, {"optimizer": ["adam"], "learning_rate": [0.001]}]
    result = found(space, n_trials=20, epochs=1)
    rates = [t.settings["learning_rate"] for t in result.trials if "optimizer" not in t.settings]
    assert 0 < len(rates) < 20
    assert len(set(rates)) == len(rates)
    assert all(type(rate) is float and 0.01 <= rate <= 1 for rate in rates)
    assert {row["optimizer"] for row in result.table} == {None, "adam"}


def test_a_distribution_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    result = found({"learning_rate": stats.loguniform(0.01, 1), "batch_size": stats.randint(8, 32)}, n_trials=3)
    assert all(type(trial.settings["batch_size"]) is int for trial in result.trials)


def test_the_same_seed_gives_the_same_table():
    space = {"learning_rate": LogUniform(0.01, 1), "layers": [LAYERS, [4, 3]]}
    one, other = (search(space, X, Y, n_trials=6, epochs=4, seed=5, n_jobs=n, folds=2) for n in (1, 2))
    assert rows_of(one) == rows_of(other)
    assert_bits(one.best_net, parameters(other.best_net))
    assert rows_of(one) != rows_of(search(space, X, Y, n_trials=6, epochs=4, seed=6, folds=2))
    assert len(search(space, X, Y, n_trials=2, epochs=1, seed=None).trials) == 2


def test_one_trial_and_an_empty_space():
    assert len(found({}).trials) == 1
    assert found({"learning_rate": [0.1]}, epochs=1).best_settings == {"learning_rate": 0.1}


def test_objects_of_the_space_are_shared_by_no_trials():
    schedule = schedules.ReduceOnPlateau("loss", patience=1, factor=0.5)
    space = {"schedule": [schedule, "cosine"], "optimizer": [SGD(learning_rate=3.0), SGD(learning_rate=0.1)]}
    result = found(space, strategy="grid", factor=None, **GIVEN)
    for trial in result.trials:
        net, settings = MLP(LAYERS), dict(trial.settings)
        if settings["schedule"] is schedule:
            settings["schedule"] = schedules.ReduceOnPlateau("loss", patience=1, factor=0.5)
        assert net.fit(X, Y, epochs=9, batch_size=16, **GIVEN, **settings).loss == trial.histories[0].loss
    assert any(trial.settings["schedule"] is schedule for trial in result.trials)  # as it was given


# --- what is scored ---------------------------------------------------------------------------------------------------


def test_folds_train_on_their_rows_and_score_the_others():
    from sklearn.model_selection import StratifiedKFold

    splitter = StratifiedKFold(3, shuffle=True, random_state=1)
    result = found(FEW, folds=splitter, factor=None)
    for trial in result.trials:
        scores = []
        for training, held_out in splitter.split(X, Y):
            net = MLP(LAYERS)
            net.fit(X[training], Y[training], epochs=9, batch_size=16, **trial.settings)
            scores.append(net.score(X[held_out], Y[held_out]))
        assert trial.scores == scores
        assert (trial.score, trial.std) == (np.mean(scores), np.std(scores))
    assert rows_of(result) == rows_of(found(FEW, folds=list(splitter.split(X, Y)), factor=None))
    assert [row["std"] for row in result.table] == [trial.std for trial in result.trials]


def test_folds_by_number_are_stratified_and_masks_are_rows():
    y = np.repeat([0, 1, 2], [90, 21, 9])
    result = found({}, y=y, folds=3, metric="balanced_accuracy")
    assert len(result.trials[0].histories) == 3
    mask = np.arange(N) < 80
    assert rows_of(found({}, folds=[(mask, ~mask)])) == rows_of(found({}, folds=[(np.arange(80), np.arange(80, N))]))


def test_a_fraction_holds_out_the_rows_that_a_fit_would():
    result = found({"learning_rate": [0.1]}, validation_fraction=0.3, seed=7)
    net = MLP(LAYERS, seed=7)
    history = net.fit(X, Y, epochs=9, batch_size=16, learning_rate=0.1, validation_fraction=0.3)
    assert result.trials[0].histories[0].val_loss == history.val_loss


@pytest.mark.parametrize(
    ("metric", "column", "best"),
    [
        (None, "val_accuracy", max),
        ("val_loss", "val_loss", min),
        ("f1_macro", "val_f1_macro", max),
        ("val_roc_auc", "val_roc_auc", max),
        (lambda y_true, y_pred: float(np.mean(y_true != y_pred)), "val_<lambda>", max),
    ],
)
def test_metrics(metric, column, best):
    result = found(FEW, metric=metric, factor=None, metrics=["roc_auc"], **GIVEN)
    assert result.metric == column
    assert result.best_score == best(row[column] for row in result.table)
    assert result.best_score == result.best_net.history[column][-1]


def test_a_mode_turns_a_metric_round():
    def wrong(y_true, y_pred):
        return float(np.mean(y_true != y_pred))

    result = found(FEW, metric=wrong, mode="min", factor=None, **GIVEN)
    assert (
        result.best_score
        == min(row["val_wrong"] for row in result.table)
        == pytest.approx(1 - found(FEW, **GIVEN).best_score)
    )


# --- the best network -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{}, {"validation_fraction": 0.3}, {"folds": 2}])
def test_the_best_network_is_trained_anew_on_all_rows(how):
    result = found(schedule="cosine", **how)
    net = MLP(LAYERS)
    net.fit(X, Y, epochs=9, batch_size=16, schedule="cosine", **result.best_settings)
    assert_bits(result.best_net, parameters(net))
    assert found(refit=False, folds=2).best_net is None
    kept = found(refit=False, validation_fraction=0.3)
    assert kept.best_net.history is kept.trials[0].histories[0]


def test_with_validation_data_nothing_is_trained_twice():
    result = found(**GIVEN)
    assert result.best_net.history is result.trials[0].histories[0]


def test_it_is_trained_for_as_long_as_early_stopping_found_best():
    stop = callbacks.EarlyStopping("val_loss", patience=1)
    result = found({"learning_rate": [3.0]}, callbacks=[stop], epochs=20, validation_fraction=0.3, schedule="cosine")
    epochs = result.trials[0].epochs
    assert epochs < len(result.trials[0].histories[0].loss) < 20
    assert len(result.best_net.history.loss) == epochs


def test_a_network_that_cannot_be_trained_on_all_rows():
    class OnlyWithValidation:
        def on_epoch_end(self, net, fit):
            assert "val_loss" in fit.measures, "no validation data"

    with pytest.warns(UserWarning, match="best_net was not trained on all rows, .*no validation data"):
        result = found({}, callbacks=[OnlyWithValidation()], validation_fraction=0.3)
    assert result.best_net.history is result.trials[0].histories[0]
    with refused(ValueError, "but refit=True trains on all rows"):
        found({}, schedule=schedules.ReduceOnPlateau("val_loss"))
    assert found({}, schedule=schedules.ReduceOnPlateau("val_loss"), refit=False).best_score > 0


# --- the result -------------------------------------------------------------------------------------------------------


def test_the_result():
    pd = pytest.importorskip("pandas")
    result = found({"layers": [LAYERS, [4, 3]], **RATES})
    table = result.to_pandas()
    assert isinstance(table, pd.DataFrame)
    assert list(table.columns) == ["trial", "val_accuracy", "epochs", "rung", "seconds", *result.best_settings, "error"]
    assert list(table.index) == list(range(1, 19))
    lines = repr(result).splitlines()
    assert lines[0] == f"<SearchResult of 18 trials: best val_accuracy {result.best_score:.4f}>"
    assert len(lines) == 13
    assert lines[-1] == "... and 8 more, see to_pandas()"
    again = pickle.loads(pickle.dumps(result))
    assert rows_of(again, "error") == rows_of(result, "error")
    assert_bits(again.best_net, parameters(result.best_net))


def test_networks_of_dropped_trials_are_freed():
    nets = []

    class Alive:
        def on_fit_begin(self, net, fit):
            nets.append(weakref.ref(net))

        def on_epoch_end(self, net, fit):
            if fit.epoch == 9:
                gc.collect()
                assert sum(ref() is not None for ref in nets) == 1

    result = found(callbacks=[Alive()], **GIVEN)
    assert result.trials[0].error is None
    assert len(nets) == 9


def test_progress_is_reported(capsys):
    found(progress=True, **GIVEN)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rung")]
    assert lines[0].startswith("rung 1/3: 9 trials until epoch 1, best val_accuracy 0.")
    assert len(lines) == 3

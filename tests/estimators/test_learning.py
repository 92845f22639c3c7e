"""What the estimators learn by, and the company they keep: copies, pipelines, searches."""

import copy
import io
import pickle
import subprocess
import sys
import warnings

import joblib
import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import balanced_accuracy_score, log_loss, mean_squared_error
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support.fitted import (  # noqa: F401
    DIGITS,
    IRIS,
    NUMBER,
    brief,
    compiled,
    fitted,
    network,
    one_thread,
    ours,
    parameters,
    same_bits,
)

from fastmlp import MLPClassifier, MLPRegressor
from fastmlp.callbacks import EarlyStopping
from fastmlp.optimizers import SGD, Adagrad, AdamW, RMSprop, at_step
from fastmlp.schedules import Cosine, ReduceOnPlateau

# --- learning ---------------------------------------------------------------------------------------------------------


@ours
@pytest.mark.parametrize(
    "solver",
    ["adam", "sgd", "lbfgs", AdamW(), RMSprop(momentum=0.5), Adagrad(), SGD(learning_rate=0.01, momentum=0.9)],
    ids=str,
)
def test_it_learns(kind, solver):
    data = DIGITS if kind is MLPClassifier else NUMBER
    settings = {"max_iter": 400, "learning_rate_init": 0.01, "hidden_layer_sizes": (20,), "batch_size": 30}
    assert fitted(kind, data, solver=solver, **settings).score(*data) > 0.85


@pytest.mark.parametrize("factor", [3, 1.5])
def test_an_optimizer_sees_the_gradient_of_scikit_learn(factor):
    for optimizer in (
        SGD(momentum=0.9, weight_decay=0.1),
        AdamW(),
        RMSprop(weight_decay=0.1, centered=True),
        Adagrad(initial_accumulator_value=0.3, weight_decay=0.2),
    ):
        ends = []
        for used, scaled in ((optimizer, factor), (optimizer.rescaled(factor), 1.0)):
            w = np.ones(5)
            state = [np.zeros(5) for _ in range(used.slots)]
            used.start(state)
            for t, g in enumerate(np.random.default_rng(1).normal(size=(4, 5)), 1):
                coefficients = used.coefficients(np.array([t]), np.array([used.learning_rate]))
                used.update(w, scaled * g, state, at_step(coefficients, 0))
            ends.append(w)
        np.testing.assert_allclose(ends[1], ends[0], rtol=1e-12)


def test_schedules():
    plain = fitted(learning_rate_init=0.01)
    for schedule in (Cosine(), lambda step: 0.5, ReduceOnPlateau(patience=1)):
        assert not same_bits(fitted(learning_rate=schedule, learning_rate_init=0.01, max_iter=20), plain)
    assert same_bits(fitted(learning_rate=lambda step: 1.0, learning_rate_init=0.01), plain)


def test_a_schedule_goes_on_in_partial_fit():
    seen = []

    def schedule(step):
        seen.append(step)
        return 1.0

    begun = MLPClassifier(learning_rate=schedule, batch_size=50)
    for _ in range(3):
        begun.partial_fit(*IRIS, classes=[0, 1, 2])
    assert seen == list(range(9))


def test_dropout():
    plain, dropped = fitted(data=DIGITS), fitted(data=DIGITS, dropout=0.5)
    assert not same_bits(plain, dropped)
    assert same_bits(dropped, fitted(data=DIGITS, dropout=[0.5]))
    assert dropped.predict_proba(DIGITS[0]).tobytes() == dropped.predict_proba(DIGITS[0]).tobytes()


@brief
def test_class_weight():
    X, y = DIGITS[0], (DIGITS[1] == 1).astype(int)
    weights = np.where(y == 1, 5.0, 1.0)
    of_rows = MLPClassifier(random_state=0, max_iter=30, tol=0)
    of_classes = clone(of_rows).set_params(class_weight={1: 5.0})
    assert same_bits(of_rows.fit(X, y, weights), of_classes.fit(X, y))
    few, balanced = (
        MLPClassifier((), random_state=0, max_iter=15, class_weight=w).fit(X, y) for w in (None, "balanced")
    )
    assert balanced_accuracy_score(y, balanced.predict(X)) > balanced_accuracy_score(y, few.predict(X))


def test_class_weight_may_name_classes_that_no_row_has_yet():
    X, y = IRIS
    first = slice(100)  # of classes 0 and 1
    of_classes = MLPClassifier(random_state=0, class_weight={0: 2.0, 2: 5.0}).partial_fit(
        X[first], y[first], classes=[0, 1, 2]
    )
    of_rows = MLPClassifier(random_state=0).partial_fit(
        X[first], y[first], np.where(y[first] == 0, 2.0, 1.0), [0, 1, 2]
    )
    assert same_bits(of_classes, of_rows)
    with pytest.raises(ValueError, match="not in class_weight"):
        MLPClassifier(class_weight={7: 2.0}).fit(X, y)


@brief
def test_weights_of_zero_leave_rows_out():
    keep = np.arange(150) % 3 > 0
    settings = {"random_state": 0, "max_iter": 30, "shuffle": False, "tol": 0}
    weighted = MLPClassifier(**settings).fit(*IRIS, keep.astype(float))
    fewer = MLPClassifier(**settings).fit(IRIS[0][keep], IRIS[1][keep])
    np.testing.assert_allclose(weighted.coefs_[0], fewer.coefs_[0], atol=1e-9)
    with pytest.raises(ValueError, match="more than zero|non-zero"):
        MLPClassifier().fit(*IRIS, np.zeros(150))


@ours
def test_validation_data_of_ones_own(kind):
    X, y = DIGITS
    given = {"X_val": X[300:], "y_val": y[300:]}
    watched = kind(random_state=0, max_iter=6)
    with pytest.warns(ConvergenceWarning):
        watched.fit(X[:300], y[:300], **given)
    assert len(watched.validation_scores_) == len(watched.validation_loss_curve_) == 6
    assert watched.validation_scores_[-1] == pytest.approx(watched.score(X[300:], y[300:]))
    assert same_bits(watched, fitted(kind, (X[:300], y[:300]), max_iter=6, hidden_layer_sizes=(100,)))
    stopped = kind(random_state=0, early_stopping=True, n_iter_no_change=1, tol=0.05).fit(X[:300], y[:300], **given)
    assert stopped.best_validation_score_ == max(stopped.validation_scores_)
    assert stopped.score(X[300:], y[300:]) == pytest.approx(stopped.best_validation_score_)
    with pytest.raises(ValueError, match="X_val and y_val belong together"):
        kind().fit(X, y, X_val=X)
    with pytest.raises(ValueError, match="sample_weight_val belongs to X_val and y_val"):
        kind().fit(X, y, sample_weight_val=np.ones(400))
    with pytest.raises(ValueError, match="X_val is for solver='sgd', 'adam' or an optimizer, not 'lbfgs'"):
        kind(solver="lbfgs").fit(X, y, X_val=X, y_val=y)


@brief
def test_validation_loss_is_that_of_scikit_learn():
    X, y = IRIS
    settings = {"random_state": 0, "max_iter": 3}
    weights = np.linspace(0.5, 2, 30)
    classifier = MLPClassifier(**settings).fit(X, y, X_val=X[::5], y_val=y[::5], sample_weight_val=weights)
    regressor = MLPRegressor(**settings).fit(X, X[:, :2], X_val=X[::5], y_val=X[::5, :2])
    expected = log_loss(y[::5], classifier.predict_proba(X[::5]), sample_weight=weights)
    assert classifier.validation_loss_curve_[-1] == pytest.approx(expected)
    expected = mean_squared_error(X[::5, :2], regressor.predict(X[::5])) / 2
    assert regressor.validation_loss_curve_[-1] == pytest.approx(expected)


@pytest.mark.parametrize(
    "scoring", ["loss", "balanced_accuracy", "neg_log_loss", lambda net, X, y: net.score(X, y) - 1]
)
def test_scoring(scoring):
    estimator = fitted(early_stopping=True, scoring=scoring, max_iter=30, n_iter_no_change=2)
    assert estimator.best_validation_score_ == max(estimator.validation_scores_)
    if scoring == "loss":
        np.testing.assert_allclose(estimator.validation_scores_, -np.array(estimator.validation_loss_curve_))


def test_scoring_takes_weights_where_it_can():
    def plain(net, X, y):
        return net.score(X, y)

    def weighted(net, X, y, sample_weight=None):
        return net.score(X, y, sample_weight)

    data = *DIGITS, np.linspace(0, 3, 400)
    scores = {
        scoring: fitted(data=data, early_stopping=True, scoring=scoring, max_iter=9).validation_scores_
        for scoring in (None, plain, weighted, "accuracy")
    }
    assert scores[weighted] == scores["accuracy"] == pytest.approx(scores[None])
    assert scores[plain] != scores[weighted]


def test_early_stopping_needs_numbers():
    def scoring(net, X, y):
        return np.nan

    with pytest.raises(ValueError, match="scoring gives nan for the validation data"):
        fitted(early_stopping=True, scoring=scoring)
    watched = MLPClassifier(scoring=scoring, max_iter=2)
    with pytest.warns(ConvergenceWarning):
        watched.fit(*IRIS, X_val=IRIS[0], y_val=IRIS[1])
    assert np.isnan(watched.validation_scores_).all()


def test_callbacks():
    class Watch:
        def __init__(self):
            self.epochs = []

        def on_epoch_end(self, net, fit):
            self.epochs.append((fit.epoch, fit.history.loss[-1]))
            fit.stop = fit.epoch == 3

    watch = Watch()
    estimator = MLPClassifier(callbacks=[watch], random_state=0).fit(*IRIS)
    assert [epoch for epoch, _ in watch.epochs] == [1, 2, 3]
    assert estimator.n_iter_ == 3
    assert estimator.loss_curve_ == pytest.approx([loss for _, loss in watch.epochs])
    with pytest.raises(ValueError, match="monitor is 'val_loss', but this fit measures loss, accuracy"):
        MLPClassifier(callbacks=[EarlyStopping()]).fit(*IRIS)
    clone(MLPClassifier(callbacks=[EarlyStopping()]))


@compiled
@ours
def test_warm_start_goes_on(kind):
    begun = fitted(kind, warm_start=True, max_iter=3)
    before = [parameter.copy() for parameter in parameters(begun)]
    memory = begun._network()._training_state.optimizer_state[0][0].copy()
    assert memory.any()
    with pytest.warns(ConvergenceWarning):
        begun.fit(*IRIS)
    assert len(begun.loss_curve_) == 6
    assert begun.n_iter_ == 3
    assert begun.t_ == 6 * 150
    assert begun._network()._training_state.steps == 6
    assert not np.array_equal(before[0], begun.coefs_[0])


@ours
def test_a_second_fit_is_as_the_first(kind):
    estimator = fitted(kind)
    bits = [parameter.tobytes() for parameter in parameters(estimator)]
    with pytest.warns(ConvergenceWarning):
        estimator.fit(*IRIS)
    assert bits == [parameter.tobytes() for parameter in parameters(estimator)]


@compiled
def test_parameters_may_be_changed_by_hand():
    estimator, other = fitted(), fitted(random_state=1)
    estimator.coefs_[0] *= 2
    changed = estimator.predict_proba(IRIS[0])
    assert not np.array_equal(changed, fitted().predict_proba(IRIS[0]))
    estimator.coefs_[:] = [coef.copy() for coef in other.coefs_]
    estimator.intercepts_ = [intercept.copy() for intercept in other.intercepts_]
    np.testing.assert_array_equal(estimator.predict_proba(IRIS[0]), other.predict_proba(IRIS[0]))


@pytest.mark.parametrize("kind", [pytest.param(MLPClassifier, marks=compiled), MLPRegressor])
def test_ctrl_c(kind):
    class Press:
        def on_epoch_end(self, net, fit):
            if fit.epoch == 2:
                raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="Training interrupted by user."):
        estimator = kind(callbacks=[Press()]).fit(*IRIS)
    assert estimator.n_iter_ == 2
    estimator.predict(IRIS[0])


# --- copies and company -----------------------------------------------------------------------------------------------


@compiled
@ours
def test_pickles_are_small_and_whole(kind):
    estimator = fitted(kind, IRIS, hidden_layer_sizes=(50, 400))
    written = pickle.dumps(estimator)
    assert len(written) <= 1.1 * 3 * sum(parameter.nbytes for parameter in parameters(estimator))  # two slots of Adam
    for twin in (pickle.loads(written), copy.deepcopy(estimator), through_joblib(estimator)):
        assert same_bits(twin, estimator)
        np.testing.assert_array_equal(twin.predict(IRIS[0]), estimator.predict(IRIS[0]))


def through_joblib(estimator):
    file = io.BytesIO()
    joblib.dump(estimator, file)
    return joblib.load(file)


def test_partial_fit_goes_on_from_a_pickle_to_the_bit():
    def steps(estimator, n):
        for _ in range(n):
            estimator.partial_fit(*IRIS, classes=[0, 1, 2])
        return estimator

    def make():
        return MLPClassifier(random_state=0, dropout=0.2)

    whole = steps(make(), 6)
    halves = steps(pickle.loads(pickle.dumps(steps(make(), 3))), 3)
    assert same_bits(whole, halves)


@ours
def test_settings_may_change_between(kind):
    estimator = fitted(kind, warm_start=True)
    estimator.set_params(solver="sgd", alpha=0.0, n_threads=1, dropout=0.1)
    with pytest.warns(ConvergenceWarning):
        estimator.fit(*IRIS)
    estimator.set_params(solver="lbfgs", dropout=0.0, max_iter=1000, tol=1e-2).fit(*IRIS)
    estimator.predict(IRIS[0])


@ours
@pytest.mark.parametrize("before", [{"solver": "lbfgs"}, {"early_stopping": True}, {}], ids=str)
@pytest.mark.parametrize("after", [{}, {"early_stopping": True}], ids=str)
def test_warm_start_goes_on_where_epochs_are_judged_otherwise(kind, before, after):
    estimator = fitted(kind, warm_start=True, **before)
    estimator.set_params(**{"solver": "adam", "early_stopping": False, "max_iter": 3} | after)
    with pytest.warns(ConvergenceWarning):
        estimator.fit(*IRIS)
    assert len(estimator.loss_curve_) == (3 if "solver" in before else 8)
    assert (estimator.best_loss_ is None) == (estimator.best_validation_score_ is not None) == bool(after)
    if after:
        assert estimator.best_validation_score_ == max(estimator.validation_scores_)
    else:
        assert estimator.best_loss_ == min(estimator.loss_curve_[-3:])
        assert estimator.partial_fit(*IRIS).n_iter_ == 1


@ours
def test_lbfgs_has_nothing_left_of_epochs(kind):
    estimator = fitted(kind).set_params(solver="lbfgs", max_iter=1000, tol=1e-2).fit(*IRIS)
    assert not hasattr(estimator, "loss_curve_")
    assert not hasattr(estimator, "best_loss_")


@compiled
@brief
def test_pipeline_search_and_calibration():
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(max_iter=30, random_state=0))
    assert cross_val_score(pipeline, *IRIS, cv=3).mean() > 0.7
    search = GridSearchCV(pipeline, {"mlpclassifier__alpha": [1e-4, 1e-2]}, cv=2, n_jobs=2).fit(*IRIS)
    assert search.best_score_ > 0.7
    CalibratedClassifierCV(MLPClassifier(max_iter=5), cv=2).fit(*IRIS).predict_proba(IRIS[0])


@brief
def test_metadata_routing():
    weights = np.linspace(0, 1, 150)
    with config_context(enable_metadata_routing=True):
        estimator = MLPClassifier(max_iter=3, random_state=0).set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        routed = make_pipeline(scaler, estimator).fit(*IRIS, sample_weight=weights)
    scaled = StandardScaler().fit_transform(IRIS[0])
    assert same_bits(routed[-1], MLPClassifier(max_iter=3, random_state=0).fit(scaled, IRIS[1], weights))


@brief
def test_validation_data_goes_through_a_pipeline():
    X, y = IRIS
    with config_context(enable_metadata_routing=True):
        estimator = MLPClassifier(max_iter=3).set_fit_request(X_val=True, y_val=True)
        routed = make_pipeline(StandardScaler(), estimator, transform_input=["X_val"])
        routed.fit(X, y, X_val=X[::5], y_val=y[::5])
        assert routed[-1].validation_scores_[-1] == routed.score(X[::5], y[::5])


@brief
@ours
def test_the_best_epoch_of_all_lasts_through_warm_starts(kind):
    scores = iter(range(100, 0, -1))
    settings = {"early_stopping": True, "scoring": lambda net, X, y: next(scores), "random_state": 0}
    estimator = kind(max_iter=4, warm_start=True, **settings).fit(*IRIS)
    best = [parameter.copy() for parameter in parameters(estimator)]
    estimator.fit(*IRIS)
    assert estimator.validation_scores_ == list(range(100, 92, -1))
    assert estimator.best_validation_score_ == 100
    for parameter, of_best in zip(parameters(estimator), best, strict=True):
        np.testing.assert_array_equal(parameter, of_best)


@compiled
@ours
@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_bits_do_not_depend_on_threads(kind, n_threads):
    assert same_bits(fitted(kind, n_threads=n_threads), fitted(kind))


def test_import_needs_no_compiler():
    program = "import sys, fastmlp.estimators; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_last_step_after_which_the_loss_is_not_finite():
    generator = np.random.default_rng(0)
    X = generator.standard_normal((60, 5)).astype("f4")
    model = MLPRegressor(hidden_layer_sizes=(16,), solver=SGD(learning_rate=1e20), alpha=0, max_iter=1, random_state=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, X[:, 0])
    told = [each for each in caught if str(each.message).startswith("the last step has made the loss inf; lower the ")]
    assert len(told) == 1
    assert (told[0].category, told[0].filename) == (ConvergenceWarning, __file__)
    assert all(np.isfinite(coef).all() for coef in model.coefs_)

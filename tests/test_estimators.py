"""The estimators as users of scikit-learn meet them; `test_estimators_parity.py` holds their numbers."""

import copy
import io
import pickle
import re
import subprocess
import sys
import warnings

import joblib
import numpy as np
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits, load_iris, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

from fastmlp import MLPClassifier, MLPRegressor, reference
from fastmlp.callbacks import EarlyStopping
from fastmlp.optimizers import SGD, Adagrad, AdamW, RMSprop
from fastmlp.schedules import Cosine, ReduceOnPlateau

DIGITS = load_digits().data[:400] / 16, load_digits().target[:400]
IRIS = load_iris(return_X_y=True)
NUMBER = scale(IRIS[0][:, :3]), IRIS[0][:, 3]


@pytest.fixture(autouse=True)
def network(request, monkeypatch):
    """Have the network in NumPy, which needs no compiler, where a test does not ask for the compiled one."""
    if "compiled" not in request.keywords:
        monkeypatch.setattr("fastmlp.estimator_base.BaseMLP._network_class", reference.MLP)


@pytest.fixture(autouse=True)
def one_thread():
    """Keep NumPy's matrix products, which are small, from waiting for other threads."""
    with threadpool_limits(1):
        yield


compiled = pytest.mark.compiled
ours = pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
brief = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def fitted(kind=MLPClassifier, data=IRIS, **settings):
    """Return a fitted estimator; that its few epochs do not converge is no news."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return kind(**{"random_state": 0, "max_iter": 5, "hidden_layer_sizes": (8,)} | settings).fit(*data)


def parameters(estimator):
    return [*estimator.coefs_, *estimator.intercepts_]


def same_bits(one, other):
    return all(a.tobytes() == b.tobytes() for a, b in zip(parameters(one), parameters(other), strict=True))


# --- the face ---------------------------------------------------------------------------------------------------------


CHECKED = [MLPClassifier(), MLPRegressor()]
CHECKED_SLOWLY = [kind(solver=solver) for kind in (MLPClassifier, MLPRegressor) for solver in ("sgd", "lbfgs")]


@brief
@pytest.mark.filterwarnings("ignore:.*batch_size.*:UserWarning", "ignore:X does not have valid feature:UserWarning")
@parametrize_with_checks(CHECKED)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@compiled
@pytest.mark.slow
@brief
@pytest.mark.filterwarnings("ignore:.*batch_size.*:UserWarning", "ignore:X does not have valid feature:UserWarning")
@parametrize_with_checks([*CHECKED, *CHECKED_SLOWLY])
def test_scikit_learn_checks_of_the_compiled_network(estimator, check):
    check(estimator)


@ours
def test_parameters_are_those_of_scikit_learn_and_more(kind):
    mine, given = kind().get_params(), getattr(theirs, kind.__name__)().get_params()
    assert {name: mine[name] for name in given} == given
    more = {"dropout", "scoring", "callbacks", "n_threads", "dtype"}
    assert set(mine) - set(given) == more | ({"class_weight"} if kind is MLPClassifier else set())


@ours
def test_methods_and_attributes_are_there(kind):
    original = getattr(theirs, kind.__name__)
    assert [name for name in dir(original) if not name.startswith("_") and not hasattr(kind, name)] == []
    with pytest.warns(ConvergenceWarning):
        other = original(max_iter=2, early_stopping=True).fit(*IRIS)
    mine = fitted(kind, max_iter=2, early_stopping=True)
    assert [name for name in vars(other) if not name.startswith("_") and not hasattr(mine, name)] == []


def test_positional_arguments():
    assert MLPClassifier((3, 4), "tanh").hidden_layer_sizes == (3, 4)
    assert MLPRegressor("poisson", (3, 4), "tanh").loss == "poisson"


@ours
def test_docstrings_are_whole(kind):
    assert "{" not in kind.__doc__.replace("{array", "").replace("{'", "")
    for name in kind().get_params():
        assert name in kind.__doc__, name


def test_the_html_picture_is_drawn():
    assert "MLPClassifier" in MLPClassifier()._repr_html_()


# --- what a program tests for -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"activation": "ghost"}, "The 'activation' parameter of MLPClassifier must be"),
        ({"solver": "rmsprop"}, "The 'solver' parameter of MLPClassifier must be"),
        ({"learning_rate": "fast"}, "The 'learning_rate' parameter of MLPClassifier must be"),
        ({"alpha": -1}, "The 'alpha' parameter of MLPClassifier must be a float in the range"),
        ({"hidden_layer_sizes": (3, 0)}, "hidden_layer_sizes must be > 0, got [3, 0]."),
        ({"dropout": 1.0}, "The 'dropout' parameter of MLPClassifier must be"),
        ({"dropout": 0.5, "solver": "lbfgs"}, "dropout is for solver='sgd'"),
        ({"callbacks": [list], "solver": "lbfgs"}, "callbacks is for solver='sgd'"),
        ({"early_stopping": True, "validation_fraction": 0.001}, "The validation set is too small"),
    ],
    ids=str,
)
def test_errors(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        MLPClassifier(**settings).fit(*IRIS)


X, Y = IRIS
SAID_BY_BOTH = {
    "other classes": lambda own: own.MLPClassifier(warm_start=True, tol=9).fit(X, Y).fit(X[:100], Y[:100]),
    "new class": lambda own: own.MLPClassifier().partial_fit(X, Y, classes=[0, 1]),
    "no classes": lambda own: own.MLPClassifier().partial_fit(X, Y),
    "partial_fit of lbfgs": lambda own: own.MLPClassifier(solver="lbfgs").partial_fit(X, Y),
    "partial_fit with early stopping": lambda own: own.MLPRegressor(early_stopping=True).partial_fit(X, Y),
    "fewer features": lambda own: own.MLPRegressor().partial_fit(X, Y).partial_fit(X[:, :2], Y),
    "fewer features to predict": lambda own: own.MLPRegressor().partial_fit(X, Y).predict(X[:, :2]),
    "not fitted": lambda own: own.MLPRegressor().predict(X),
    "nan": lambda own: own.MLPClassifier().fit(np.where(X > 7, np.nan, X), Y),
    "nan in y": lambda own: own.MLPRegressor().fit(X, np.where(Y == 1, np.nan, Y)),
    "one dimension": lambda own: own.MLPClassifier().fit(X[0], Y),
    "no rows": lambda own: own.MLPClassifier().fit(X[:0], Y[:0]),
    "too few y": lambda own: own.MLPClassifier().fit(X, Y[:10]),
    "several classes": lambda own: own.MLPClassifier().fit(X, np.c_[Y, Y]),
    "too few weights": lambda own: own.MLPRegressor().fit(X, Y, np.ones(3)),
    "layer without units": lambda own: own.MLPRegressor(hidden_layer_sizes=(3, -1)).fit(X, Y),
    "momentum": lambda own: own.MLPRegressor(momentum=2).fit(X, Y),
    "loss": lambda own: own.MLPRegressor(loss="log_loss").fit(X, Y),
    "too little validation data": lambda own: own.MLPClassifier(early_stopping=True, validation_fraction=0.001).fit(
        X, Y
    ),
}


@pytest.mark.parametrize("wrong", SAID_BY_BOTH)
def test_errors_are_those_of_scikit_learn(wrong):
    said = []
    for own in (theirs, sys.modules["fastmlp"]):
        with pytest.raises((ValueError, AttributeError)) as caught:
            SAID_BY_BOTH[wrong](own)
        said.append((type(caught.value), str(caught.value)))
    assert said[1] == said[0]


def test_partial_fit_errors():
    assert not hasattr(MLPClassifier(solver="lbfgs"), "partial_fit")
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        MLPClassifier(early_stopping=True).partial_fit(*IRIS, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="classes must be passed on the first call to partial_fit"):
        MLPClassifier().partial_fit(*IRIS)
    begun = MLPClassifier().partial_fit(*IRIS, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="`y` has classes not in `self.classes_`"):
        begun.partial_fit(IRIS[0], IRIS[1] + 1)
    with pytest.raises(ValueError, match="class_weight='balanced' needs all rows at once"):
        MLPClassifier(class_weight="balanced").partial_fit(*IRIS, classes=[0, 1, 2])


def test_warnings():
    with pytest.warns(ConvergenceWarning, match=r"Stochastic Optimizer: Maximum iterations \(2\) reached and the opt"):
        MLPClassifier(max_iter=2).fit(*IRIS)
    with pytest.warns(ConvergenceWarning, match=r"lbfgs failed to converge after 2 iteration"):
        MLPClassifier(max_iter=2, solver="lbfgs").fit(*IRIS)
    with pytest.warns(UserWarning, match="Got `batch_size` less than 1 or larger than sample size"):
        MLPClassifier(batch_size=1000, tol=1e9).fit(*IRIS)


def test_a_warning_names_the_line_of_the_user():
    with pytest.warns(ConvergenceWarning) as caught:
        MLPClassifier(max_iter=1).fit(*IRIS)
    assert caught[0].filename == __file__


def test_not_fitted():
    with pytest.raises(NotFittedError):
        MLPClassifier().predict(IRIS[0])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_divergence():
    settings = {"solver": "sgd", "learning_rate_init": 1e6, "activation": "identity", "max_iter": 50}
    with pytest.raises(ValueError, match="Solver produced non-finite parameter weights") as caught:
        MLPRegressor(**settings).fit(*IRIS)
    assert "loss is" in str(caught.value)
    with pytest.warns(ConvergenceWarning, match="the parameters are those of the best epoch"):
        kept = MLPRegressor(**settings, early_stopping=True).fit(*IRIS)
    assert np.isnan(kept.validation_scores_[-1])
    assert np.isfinite(kept.predict(IRIS[0])).all()


def test_verbose_speaks_as_scikit_learn(capsys):
    said = []
    for module in (theirs, sys.modules["fastmlp"]):
        for settings in ({}, {"early_stopping": True}, {"solver": "sgd", "learning_rate": "adaptive"}):
            settings |= {"tol": 0.1, "n_iter_no_change": 2, "verbose": True, "random_state": 0, "max_iter": 60}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                module.MLPClassifier(**settings).fit(*IRIS)
        said.append(capsys.readouterr().out)
    assert said[1] == said[0]
    assert "Stopping." in said[1]


def test_verbose_shows_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for verbose, lines in ((1, 0), (2, 5)):
        fitted(verbose=verbose)
        said = capsys.readouterr()
        assert said.out.count("Iteration") == lines
        assert ("100%" in said.err) == (lines == 0)


# --- X and y ----------------------------------------------------------------------------------------------------------


@ours
@pytest.mark.parametrize(
    ("given", "computed"),
    [
        ("float64", "float64"),
        ("int64", "float64"),
        ("float32", "float32"),
        ("float16", "float32"),
        ("uint8", "float32"),
    ],
)
def test_dtype_follows_X(kind, given, computed):
    X = (16 * DIGITS[0]).astype(given)
    estimator = fitted(kind, (X, DIGITS[1]))
    assert {parameter.dtype for parameter in parameters(estimator)} == {np.dtype(computed)}
    answer = estimator.predict_proba(X) if kind is MLPClassifier else estimator.predict(X)
    assert answer.dtype == computed


@ours
def test_dtype_may_be_chosen(kind):
    chosen = fitted(kind, dtype="float32")
    assert chosen.coefs_[0].dtype == np.float32
    assert same_bits(chosen, fitted(kind, (IRIS[0].astype(np.float32), IRIS[1])))
    assert same_bits(chosen, fitted(kind, dtype=np.float32))


@compiled
@pytest.mark.slow
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_sparse_X_of_the_compiled_network(solver):
    test_sparse_X(MLPClassifier, "csr_matrix", solver)


@ours
@pytest.mark.parametrize("form", ["csr_matrix", "csc_matrix", "coo_array", "csr_array"])
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_sparse_X(kind, form, solver):
    settings = {"solver": solver, "early_stopping": solver == "adam"}
    X = getattr(sparse, form)(DIGITS[0])
    dense, thin = fitted(kind, DIGITS, **settings), fitted(kind, (X, DIGITS[1]), **settings)
    for a, b in zip(parameters(dense), parameters(thin), strict=True):
        np.testing.assert_allclose(b, a, atol=1e-9)
    np.testing.assert_allclose(thin.predict(X), thin.predict(DIGITS[0]), atol=1e-9)


def test_labels_of_any_kind():
    numbered = fitted()
    for labels in (["a", "b", "c"], np.array(["x", "yy", "zzz"], object), [-3, 0, 17], [1.0, 2.0, 4.0]):
        named = fitted(data=(IRIS[0], np.asarray(labels)[IRIS[1]]))
        assert same_bits(named, numbered)
        np.testing.assert_array_equal(named.predict(IRIS[0]), np.asarray(labels)[numbered.predict(IRIS[0])])
    with pytest.raises(ValueError, match="Unknown label type"):
        MLPClassifier().fit(IRIS[0], IRIS[0][:, 0])


def test_sparse_labels():
    X, y = make_multilabel_classification(60, random_state=0)
    thin = fitted(data=(X, sparse.csr_matrix(y)))
    assert same_bits(thin, fitted(data=(X, y)))
    assert sparse.issparse(thin.predict(X))
    assert fitted(data=(X, y)).predict_proba(X).shape == y.shape


def test_a_column_of_targets_warns():
    from sklearn.exceptions import DataConversionWarning

    with pytest.warns(DataConversionWarning):
        fitted(data=(IRIS[0], IRIS[1][:, None]))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames(library):
    frames = pytest.importorskip(library)
    names = ["a", "b", "c", "d"]
    X = frames.DataFrame({name: IRIS[0][:, i] for i, name in enumerate(names)})
    named = fitted(data=(X, frames.Series(IRIS[1])), early_stopping=True)
    assert same_bits(named, fitted(early_stopping=True))
    assert named.feature_names_in_.tolist() == names
    named.predict(X)
    with pytest.raises(ValueError, match="feature names should match"):
        named.predict(X[["b", "a", "c", "d"]])
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        named.predict(IRIS[0])
    fitted(data=(X, frames.Series(IRIS[1])), early_stopping=True, scoring="neg_log_loss")  # warns of nothing


@brief
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_of_a_step_before(library):
    pytest.importorskip(library)
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(max_iter=300, random_state=0))
    pipeline.set_output(transform=library).fit(*IRIS)
    assert pipeline[-1].feature_names_in_.tolist() == ["x0", "x1", "x2", "x3"]
    assert pipeline.score(*IRIS) > 0.9


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
    from fastmlp.solvers import of_scale

    for optimizer in (
        SGD(momentum=0.9, weight_decay=0.1),
        AdamW(),
        RMSprop(weight_decay=0.1, centered=True),
        Adagrad(initial_accumulator_value=0.3, weight_decay=0.2),
    ):
        ends = []
        for used, scaled in ((optimizer, factor), (of_scale(optimizer, factor), 1.0)):
            w = np.ones(5)
            memory = [np.zeros(5) for _ in range(used.slots)]
            used.start(memory)
            for t, g in enumerate(np.random.default_rng(1).normal(size=(4, 5)), 1):
                row = used.coefficients(np.array([t]), np.array([used.learning_rate]))[0]
                used.update(w, scaled * g, memory, row)
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


def test_class_weight():
    X, y = DIGITS[0], (DIGITS[1] == 1).astype(int)
    weights = np.where(y == 1, 5.0, 1.0)
    of_rows = MLPClassifier(random_state=0, max_iter=30, tol=0)
    of_classes = clone(of_rows).set_params(class_weight={1: 5.0})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        assert same_bits(of_rows.fit(X, y, weights), of_classes.fit(X, y))
        few, balanced = (
            MLPClassifier((), random_state=0, max_iter=15, class_weight=w).fit(X, y) for w in (None, "balanced")
        )
    assert balanced_accuracy_score(y, balanced.predict(X)) > balanced_accuracy_score(y, few.predict(X))


def test_weights_of_zero_leave_rows_out():
    keep = np.arange(150) % 3 > 0
    settings = {"random_state": 0, "max_iter": 30, "shuffle": False, "tol": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
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


def test_validation_loss_is_that_of_scikit_learn():
    from sklearn.metrics import log_loss, mean_squared_error

    X, y = IRIS
    settings = {"random_state": 0, "max_iter": 3}
    weights = np.linspace(0.5, 2, 30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
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
    memory = begun._network()._progress.memory[0][0].copy()
    assert memory.any()
    with pytest.warns(ConvergenceWarning):
        begun.fit(*IRIS)
    assert len(begun.loss_curve_) == 6
    assert begun.n_iter_ == 3
    assert begun.t_ == 6 * 150
    assert begun._network()._progress.steps == 6
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
    assert len(written) <= 1.1 * sum(parameter.nbytes for parameter in parameters(estimator))
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


@compiled
@ours
@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_bits_do_not_depend_on_threads(kind, n_threads):
    assert same_bits(fitted(kind, n_threads=n_threads), fitted(kind))


def test_import_needs_no_compiler():
    program = "import sys, fastmlp.estimators; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)

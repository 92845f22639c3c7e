"""The estimators step by step beside scikit-learn's own: same first weights, same batches, same parameters."""

import warnings

import numpy as np
import pytest
from sklearn import neural_network as theirs
from sklearn.datasets import load_diabetes, load_digits, load_iris, make_multilabel_classification, make_regression
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score
from sklearn.utils import shuffle
from support.fitted import beside_1_9, one_thread  # noqa: F401

import fastmlp
from fastmlp import reference
from fastmlp.estimators.solvers import StochasticTrainer, initial_parameters
from fastmlp.optimizers import SGD

pytestmark = beside_1_9

DIGITS = load_digits().data / 16, load_digits().target
SOME_DIGITS = DIGITS[0][:450], DIGITS[1][:450]
IRIS = load_iris(return_X_y=True)
TWO = SOME_DIGITS[0], np.where(SOME_DIGITS[1] > 4, "high", "low")
ONE = IRIS[0], np.full(150, "all")
LABELS = make_multilabel_classification(200, random_state=0)
NUMBER = load_diabetes(scaled=False, return_X_y=True)[0] / 50, load_diabetes().target / 100
NUMBERS = tuple(a / s for a, s in zip(make_regression(200, 10, n_targets=3, random_state=0), (1, 100), strict=True))
COUNTS = NUMBER[0], np.round(4 * NUMBER[1])

CLASSIFIED = {"digits": DIGITS, "iris": IRIS, "two": TWO, "one": ONE, "labels": LABELS}
ESTIMATED = {"number": NUMBER, "numbers": NUMBERS, "counts": COUNTS}


@pytest.fixture(params=["reference", pytest.param("compiled", marks=pytest.mark.slow)])
def network(request, monkeypatch):
    """Run a test with the network in NumPy and with the compiled one, which takes long to compile for each."""
    if request.param == "reference":
        monkeypatch.setattr("fastmlp.estimators.base.BaseMLP._network_class", reference.MLP)
    return request.param


def both(data, sample_weight=None, **settings):
    """Return scikit-learn's estimator and ours, both fitted."""
    X, y = data
    kind = "MLPRegressor" if any(data is known for known in ESTIMATED.values()) else "MLPClassifier"
    settings |= {"loss": "poisson"} if data is COUNTS else {}
    weights = {} if sample_weight is None else {"sample_weight": sample_weight}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return [
            getattr(module, kind)(**{"random_state": 3, "max_iter": 20} | settings).fit(X, y, **weights)
            for module in (theirs, fastmlp)
        ]


def assert_same(one, other, rtol=1e-6):
    assert other.n_iter_ == one.n_iter_
    assert other.t_ == one.t_
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(one, name), getattr(other, name), strict=True):
            assert b.dtype == a.dtype
            np.testing.assert_allclose(b, a, rtol=0, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(other.loss_curve_, one.loss_curve_, rtol=rtol)
    for name in ("loss_", "best_loss_", "best_validation_score_"):
        mine, given = getattr(other, name), getattr(one, name)
        assert isinstance(mine, type(given)), name
        assert given is None or mine == pytest.approx(given, rel=rtol), name
    assert (other.validation_scores_ is None) == (one.validation_scores_ is None)
    if one.validation_scores_ is not None:
        np.testing.assert_allclose(other.validation_scores_, one.validation_scores_, rtol=1e-9)
    for name in ("n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(other, name) == getattr(one, name), name


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("data", [*CLASSIFIED.values(), *ESTIMATED.values()], ids=[*CLASSIFIED, *ESTIMATED])
def test_twenty_epochs(network, data, solver):
    assert_same(*both(data, solver=solver))


@pytest.mark.parametrize(
    ("data", "solver"),
    [
        pytest.param(DIGITS, "sgd", marks=pytest.mark.slow),
        (DIGITS, "adam"),
        (IRIS, "adam"),
        pytest.param(COUNTS, "adam", marks=pytest.mark.slow),
    ],
    ids=["digits-sgd", "digits-adam", "iris-adam", "counts-adam"],
)  # fmt: skip
def test_twenty_epochs_of_the_compiled_network(data, solver):
    assert_same(*both(data, solver=solver))


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_activations_and_ragged_batches(network, activation):
    estimators = both(IRIS, activation=activation, hidden_layer_sizes=(7, 9), batch_size=32, alpha=0.01)
    assert_same(*estimators, rtol=1e-5)  # the loss that is reported has not the exact penalty of a smaller batch


def test_no_hidden_layer(network):
    assert_same(*both(IRIS, hidden_layer_sizes=()))


@pytest.mark.parametrize(
    "settings",
    [
        {"learning_rate": "invscaling"},
        {"learning_rate": "invscaling", "nesterovs_momentum": False},
        {"learning_rate": "adaptive"},
        {"learning_rate": "adaptive", "nesterovs_momentum": False},
        {"momentum": 0},
        {"momentum": 0.5, "power_t": 0.1, "learning_rate": "invscaling"},
    ],
    ids=str,
)
def test_learning_rates_and_momentum(network, settings):
    settings |= {"solver": "sgd", "learning_rate_init": 0.05, "n_iter_no_change": 3, "tol": 1e-3, "max_iter": 150}
    assert_same(*both(IRIS, batch_size=40, **settings))


@pytest.mark.parametrize("settings", [{"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3}, {"shuffle": False}], ids=str)
def test_other_settings(network, settings):
    assert_same(*both(SOME_DIGITS, **settings))


@pytest.mark.parametrize("data", [IRIS, TWO, ONE, LABELS, NUMBER], ids=["iris", "two", "one", "labels", "number"])
def test_early_stopping(network, data):
    assert_same(*both(data, early_stopping=True, max_iter=40, n_iter_no_change=3, batch_size=64))


def test_until_it_converges(network):
    settings = {"max_iter": 3000, "learning_rate_init": 0.01, "n_iter_no_change": 4}
    one, other = both(IRIS, **settings)
    assert one.n_iter_ < 3000
    assert_same(one, other)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("data", [SOME_DIGITS, NUMBER, COUNTS], ids=["digits", "number", "counts"])
def test_sample_weights(network, data, early_stopping):
    weights = np.random.default_rng(0).uniform(0.1, 3, len(data[1]))
    assert_same(*both(data, weights, early_stopping=early_stopping))


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_partial_fit(network, solver):
    estimators = []
    for module in (theirs, fastmlp):
        estimator = module.MLPClassifier(solver=solver, random_state=0, learning_rate="invscaling")
        for rows in np.array_split(np.arange(1500), 7):
            estimator.partial_fit(DIGITS[0][rows], DIGITS[1][rows], classes=np.arange(10))
        estimators.append(estimator)
    assert_same(*estimators)


def test_a_random_state_is_drawn_from_alike(network):
    states = [np.random.RandomState(5) for _ in range(2)]
    for state, module in zip(states, (theirs, fastmlp), strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            module.MLPRegressor(random_state=state, max_iter=3, early_stopping=True).fit(*NUMBER)
    assert states[0].randint(2**31) == states[1].randint(2**31)


@pytest.mark.parametrize("data", [IRIS, TWO, LABELS, NUMBER, COUNTS], ids=["iris", "two", "labels", "number", "counts"])
def test_lbfgs_ends_at_the_same_loss(network, data):
    one, other = both(data, solver="lbfgs", alpha=1.0, activation="tanh", hidden_layer_sizes=(5,), tol=1e-7, max_iter=9)
    assert other.loss_ == pytest.approx(one.loss_, abs=1e-6)
    assert type(other.loss_) is type(one.loss_)
    assert other.n_iter_ == one.n_iter_


@pytest.mark.parametrize("data", [DIGITS, IRIS], ids=["digits", "iris"])
def test_lbfgs_converges_to_the_same_loss(network, data):
    settings = {"alpha": 3.0, "activation": "identity", "hidden_layer_sizes": (), "tol": 1e-6, "max_iter": 2000}
    one, other = both(data, solver="lbfgs", **settings)
    assert other.loss_ == pytest.approx(one.loss_, abs=1e-6)


@pytest.mark.parametrize("data", [TWO, SOME_DIGITS, LABELS, *ESTIMATED.values()], ids=["2", "10", "labels", *ESTIMATED])
def test_the_same_parameters_predict_the_same(network, data):
    one, other = both(data, max_iter=3)
    if not hasattr(one, "classes_"):
        np.testing.assert_allclose(other.predict(data[0]), one.predict(data[0]), rtol=1e-9)
    else:
        np.testing.assert_array_equal(other.predict(data[0]), one.predict(data[0]))
        np.testing.assert_array_equal(other.classes_, one.classes_)
        np.testing.assert_allclose(other.predict_proba(data[0]), one.predict_proba(data[0]), atol=1e-12)
        np.testing.assert_allclose(other.predict_log_proba(data[0]), one.predict_log_proba(data[0]), atol=1e-6)


def test_the_order_of_the_rows_is_that_of_scikit_learn(monkeypatch):
    seen, permutations = [], StochasticTrainer._permutations

    def note(self, n_epochs):
        order = permutations(self, n_epochs)
        seen.extend(order.copy())
        return order

    monkeypatch.setattr(StochasticTrainer, "_permutations", note)
    X, y = load_digits(return_X_y=True)
    ours = fastmlp.MLPClassifier(8, max_iter=14, tol=0, random_state=np.random.RandomState(5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ours.fit(X[:77], y[:77])
    random, order = np.random.RandomState(5), np.arange(77)
    initial_parameters([64, 8, 10], ["relu", "relu"], random, np.float64)
    assert len(seen) == 14
    for permutation in seen:
        order = shuffle(order, random_state=random)
        np.testing.assert_array_equal(permutation, order)
    assert ours._random_state.randint(2**31) == random.randint(2**31)  # nothing more has been drawn


@pytest.mark.parametrize(
    "y", [[2, 0, 1, 1], [7, 7, 9, 7], ["a", "bc", "a", "d"], [True, False, True, True], [0.0, 1.0, 2.0, 1.0]], ids=repr
)
def test_score_is_the_accuracy(y):
    y = np.array(y * 8)
    X = np.random.default_rng(0).normal(size=(len(y), 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ours = fastmlp.MLPClassifier(8, solver=SGD(), alpha=0, max_iter=2, random_state=0).fit(X, y)
    predicted, others = ours.predict(X), np.roll(y, 1)
    for true in (y, others, others.tolist()):
        score = ours.score(X, true)
        assert type(score) is float
        assert score == accuracy_score(true, predicted)
    weights = np.arange(1.0, 33.0)
    assert ours.score(X, others, weights) == accuracy_score(others, predicted, sample_weight=weights)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        ours.score(X, y[1:])


@pytest.mark.parametrize("y", [[2, 0, 1, 1], ["a", "bc", "a", "d"]], ids=repr)
def test_partial_fit_refuses_unknown_classes(y):
    y = np.array(y * 5)
    X, unknown = np.ones((20, 3)), y.copy()
    ours = fastmlp.MLPClassifier(8, random_state=0).partial_fit(X, y, classes=np.unique(y))
    for place in (0, 3):
        for label in (-1, 9) if y.dtype.kind == "i" else ("", "zz"):
            unknown[place] = label
            with pytest.raises(ValueError, match="has classes not in"):
                ours.partial_fit(X, unknown)
            unknown[:] = y
    before = ours.coefs_[0].copy()
    some = y != y[1]
    ours.partial_fit(X[some], y[some])  # some of the classes are enough
    assert not np.array_equal(before, ours.coefs_[0])

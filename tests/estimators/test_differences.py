"""The table of differences in docs/scikit-learn.md, row by row: what scikit-learn does, and what fastmlp does."""

import copy
import pickle

import numpy as np
import pytest
from sklearn import neural_network as theirs
from sklearn.exceptions import ConvergenceWarning
from support.fitted import IRIS, beside_1_9, network, one_thread, same_bits  # noqa: F401

import fastmlp

pytestmark = [
    beside_1_9,
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore::RuntimeWarning"),
]

X, Y = IRIS
SMALL = {"hidden_layer_sizes": (4,), "random_state": 0, "max_iter": 4}


def both(kind, **settings):
    """Return an estimator of scikit-learn, and one of fastmlp."""
    return [getattr(module, kind)(**SMALL | settings) for module in (theirs, fastmlp)]


def outcome(call, *arguments, **named):
    """Return the result of a call, or the error."""
    try:
        return call(*arguments, **named)
    except Exception as error:
        return error


def same(one, other, atol=1e-9):
    pairs = zip(one.coefs_ + one.intercepts_, other.coefs_ + other.intercepts_, strict=True)
    return all(np.allclose(a, b, rtol=0, atol=atol) for a, b in pairs)


def test_warm_start_keeps_the_state_of_the_optimizer():
    given, ours = both("MLPRegressor", warm_start=True)
    assert same(given.fit(X, Y), ours.fit(X, Y))
    assert not same(given.fit(X, Y), ours.fit(X, Y))
    given, ours = both("MLPRegressor", warm_start=True, solver="sgd", momentum=0)  # there is no state
    assert same(given.fit(X, Y).fit(X, Y), ours.fit(X, Y).fit(X, Y))
    adaptive = {"solver": "sgd", "momentum": 0, "learning_rate": "adaptive", "tol": 9, "n_iter_no_change": 1}
    given, ours = both("MLPRegressor", warm_start=True, **adaptive)  # the rate falls, and starts anew
    assert same(given.fit(X, Y).fit(X, Y), ours.fit(X, Y).fit(X, Y))


def test_warm_start_with_early_stopping_ends_with_the_best():
    worse = {"warm_start": True, "early_stopping": True, "solver": "sgd", "learning_rate_init": 0.01}
    given, ours = both("MLPRegressor", **worse, alpha=0)
    for net in (given, ours):
        net.fit(X, Y)
    best = copy.deepcopy(ours)
    assert same(given, ours)
    for net in (given, ours):
        net.set_params(alpha=1e4, max_iter=2).fit(X, Y)  # which only makes it worse
        assert max(net.validation_scores_[-2:]) < net.best_validation_score_
    assert same(ours, best)
    assert not same(given, best)


@pytest.mark.parametrize(
    ("before", "after", "error"),
    [
        ({"solver": "lbfgs"}, {"solver": "adam"}, AttributeError),
        ({}, {"early_stopping": True}, AttributeError),
        ({"early_stopping": True}, {"early_stopping": False}, TypeError),
    ],
    ids=str,
)
def test_warm_start_continues_after_a_change_of_what_counts(before, after, error):
    given, ours = both("MLPRegressor", warm_start=True, **before)
    assert isinstance(outcome(given.fit(X, Y).set_params(**after).fit, X, Y), error)
    ours.fit(X, Y).set_params(**after).fit(X, Y)
    assert ours.n_iter_ == 4


def test_partial_fit_uses_new_settings():
    given, ours = both("MLPRegressor", solver="sgd", learning_rate_init=1e-3)
    unchanged = copy.deepcopy(given)
    for net in (given, ours):
        net.partial_fit(X, Y).set_params(learning_rate_init=1e-9).partial_fit(X, Y)
    assert same(given, unchanged.partial_fit(X, Y).partial_fit(X, Y))
    assert not same(given, ours)


def test_partial_fit_of_lbfgs():
    for kind in ("MLPClassifier", "MLPRegressor"):
        given, ours = both(kind, solver="lbfgs")
        assert hasattr(given, "partial_fit") == (kind == "MLPRegressor")
        assert not hasattr(ours, "partial_fit")


def test_a_loss_is_not_capped():
    far = 1000 * np.random.default_rng(0).normal(size=(200, 5))
    y = np.digitize(far[:, 0], [-500, 500])
    given, ours = (net.fit(far, y) for net in both("MLPClassifier", hidden_layer_sizes=(8,), max_iter=300))
    assert given.loss_curve_[0] < 36.1 < ours.loss_curve_[0]
    assert given.n_iter_ < 50  # the capped loss does not fall
    assert ours.n_iter_ == 300
    assert ours.score(far, y) > given.score(far, y) + 0.2
    given, ours = (net.fit(far, y) for net in both("MLPClassifier", hidden_layer_sizes=(8,), max_iter=9))
    assert same(given, ours)  # as long as no loss decides


def test_the_penalty_of_a_smaller_batch():
    for batch_size, alpha, off in ((64, 0, 1e-12), (50, 10, 1e-12), (64, 10, 1e-4)):
        given, ours = (net.fit(X, Y) for net in both("MLPRegressor", batch_size=batch_size, alpha=alpha))
        assert same(given, ours)
        np.testing.assert_allclose(ours.loss_curve_, given.loss_curve_, rtol=off)


def test_a_loss_that_is_not_finite():
    calls = []
    settings = {"solver": "sgd", "learning_rate_init": 1e9, "activation": "identity", "max_iter": 50}
    for net in both("MLPRegressor", **settings):
        error = outcome(net.fit, X, Y)
        assert isinstance(error, ValueError)
        assert str(error).startswith("Solver produced non-finite parameter weights. The input data may contain large")
        calls.append((net.n_iter_, str(error)))
    assert calls[0][0] == 50  # to the end
    assert calls[1][0] < 50
    assert "at epoch" in calls[1][1]
    with pytest.warns(ConvergenceWarning, match="the parameters are those of the best epoch"):
        both("MLPRegressor", early_stopping=True, **settings)[1].fit(X, Y)


def test_lbfgs_of_several_outputs():
    Y3 = np.c_[X[:, :2], Y]
    settings = {"solver": "lbfgs", "max_iter": 3000, "alpha": 0.1, "hidden_layer_sizes": ()}
    given, ours = (net.fit(X, Y3) for net in both("MLPRegressor", **settings))

    def gradient(net):
        """Return the gradient of half the sum of the squared errors, plus the penalty."""
        return X.T @ (net.predict(X) - Y3) / len(X) + 0.1 * net.coefs_[0] / len(X)

    assert np.abs(gradient(ours)).max() < 1e-4 < np.abs(gradient(given)).max()  # 1e-4 is tol
    error = ((ours.predict(X) - Y3) ** 2).mean() / 2 + 0.1 * (ours.coefs_[0] ** 2).sum() / 2 / len(X)
    assert ours.loss_ == pytest.approx(error, rel=1e-9)


def test_weights_that_are_negative_or_zero():
    weights = np.ones(len(X))
    weights[0] = -1
    given, ours = both("MLPRegressor")
    given.fit(X, Y, weights)
    with pytest.raises(ValueError, match="sample_weight has -1.0 in row 0, but weights are finite and not negative"):
        ours.fit(X, Y, weights)
    weights = (np.arange(len(X)) >= 50).astype(float)  # those of the first batch are all 0
    given, ours = both("MLPRegressor", batch_size=50, shuffle=False)
    assert isinstance(outcome(given.fit, X, Y, weights), ZeroDivisionError)
    assert np.isfinite(ours.fit(X, Y, weights).coefs_[0]).all()


def test_dtypes():
    X32 = X.astype(np.float32)
    given, ours = (net.fit(X32, Y) for net in both("MLPRegressor", solver="lbfgs"))
    assert (given.coefs_[0].dtype, ours.coefs_[0].dtype) == (np.float64, np.float32)
    given, ours = (net.fit(X32, Y) for net in both("MLPRegressor"))
    assert (given.predict(X).dtype, ours.predict(X).dtype) == (np.float64, np.float32)
    for dtype in ("float16", "uint8"):
        given, ours = (net.fit(X.astype(dtype), Y) for net in both("MLPRegressor"))
        assert (given.coefs_[0].dtype, ours.coefs_[0].dtype) == (np.float64, np.float32)


def test_a_probability_is_below_one():
    given, ours = (net.fit(X, Y > 0) for net in both("MLPClassifier"))
    for net, largest in ((given, 1.0), (ours, np.nextafter(1.0, 0.0))):
        net.intercepts_[-1][:] = 99
        assert net.predict_proba(X).max() == largest


def test_negative_counts():
    given, ours = both("MLPRegressor", loss="poisson")
    assert np.isnan(given.fit(X, Y - 1.0).loss_)
    with pytest.raises(ValueError, match="y has -1.0 in row 0, but counts are 0 or more"):
        ours.fit(X, Y - 1.0)


def test_pickles_have_no_second_copy_of_the_parameters():
    given, ours = (net.fit(X, Y) for net in both("MLPRegressor", hidden_layer_sizes=(50, 400)))
    n_bytes = sum(parameter.nbytes for parameter in ours.coefs_ + ours.intercepts_)
    assert 4 * n_bytes < len(pickle.dumps(given))
    assert 3 * n_bytes < len(pickle.dumps(ours)) < 3.2 * n_bytes


def test_momentum_of_one():
    given, ours = both("MLPRegressor", solver="sgd", momentum=1)
    given.fit(X, Y)
    with pytest.raises(ValueError, match="momentum must be"):
        ours.fit(X, Y)


def test_labels_of_minus_one():
    labels = np.c_[Y > 0, Y > 1] * 2 - 1
    given, ours = both("MLPClassifier")
    given.fit(X, labels)
    with pytest.raises(ValueError, match="y has -1 in row 0, column 0, but labels of logistic outputs are 0 or 1"):
        ours.fit(X, labels)


@pytest.mark.parametrize("settings", [{}, {"solver": "sgd"}, {"solver": "lbfgs"}, {"early_stopping": True}], ids=str)
@pytest.mark.parametrize(("dtype", "size"), [("float32", 1e30), ("float64", 1e200)])
def test_targets_whose_square_is_too_large(dtype, size, settings):
    y = size * (1.0 + Y)
    given, ours = both("MLPRegressor", **settings)
    kept = copy.deepcopy(ours.fit(X.astype(dtype), Y))
    with pytest.raises(
        ValueError, match=rf"y has 3e.{np.log10(size):.0f}, whose square is too large for {dtype}; scale"
    ):
        ours.fit(X.astype(dtype), y)
    assert same_bits(ours, kept)
    if "early_stopping" not in settings:  # it trains, or says that the parameters are not finite
        error = outcome(given.fit, X.astype(dtype), y)
        assert (settings == {"solver": "sgd"}) == isinstance(error, ValueError)


def test_targets_that_are_missing():
    y = np.where(Y == 1, None, Y)
    given, ours = both("MLPRegressor", early_stopping=True)
    assert np.isnan(given.fit(X, y).validation_scores_).all()
    with pytest.raises(ValueError, match="y has nan in row 50, column 0"):
        ours.fit(X, y)


def test_training_with_an_assigned_output():
    given, ours = (net.fit(X, Y) for net in both("MLPRegressor"))
    for net in (given, ours):
        net.out_activation_ = "tanh"
    given.partial_fit(X, Y)
    with pytest.raises(ValueError, match="out_activation_ is 'tanh', which only predictions can use"):
        ours.partial_fit(X, Y)
    given, ours = (net.fit(X, Y / 2) for net in both("MLPRegressor", solver="sgd", momentum=0))
    for net in (given, ours):
        net.out_activation_ = "logistic"
    p = ours.predict(X)
    entropy = -(Y / 2 * np.log(p) + (1 - Y / 2) * np.log(1 - p)).mean()
    assert same(given.partial_fit(X, Y / 2), ours.partial_fit(X, Y / 2))
    assert given.loss_ == pytest.approx(((p - Y / 2) ** 2).mean() / 2, rel=1e-3)
    assert ours.loss_ == pytest.approx(entropy, rel=1e-3)


def test_assigned_layers():
    given, ours = (net.fit(X, Y) for net in both("MLPRegressor", hidden_layer_sizes=(4, 4)))
    for net in (given, ours):
        net.coefs_ = [net.coefs_[0], np.eye(4), *net.coefs_[1:]]
        net.intercepts_ = [net.intercepts_[0], np.zeros(4), *net.intercepts_[1:]]
    assert given.predict(X).shape == (150, 4)  # the layer that does not count is the last
    assert ours.predict(X).shape == (150,)
    given, ours = (net.fit(X, Y) for net in both("MLPRegressor"))
    for net in (given, ours):
        net.coefs_ = [net.coefs_[0][:, :2], net.coefs_[1][:2]]
        net.intercepts_ = [net.intercepts_[0][:2], net.intercepts_[1]]
    assert isinstance(outcome(given.partial_fit, X, Y), ValueError)  # the state of Adam has other shapes
    ours.partial_fit(X, Y)


def test_other_layers_in_between():
    for net, error in zip(both("MLPRegressor"), (TypeError, type(None)), strict=True):
        net.fit(X, Y).set_params(hidden_layer_sizes=(3, 3))
        assert isinstance(outcome(lambda net=net: net.partial_fit(X, Y) and None), error)
        assert net.coefs_[0].shape == (4, 4)


def test_partial_fit_checks_parameters():
    given, ours = (net.partial_fit(X, Y).set_params(tol="wrong", loss="ghost") for net in both("MLPRegressor"))
    assert isinstance(outcome(given.partial_fit, X, Y), KeyError)
    with pytest.raises(ValueError, match="The 'loss' parameter of MLPRegressor must be|The 'tol' parameter of"):
        ours.partial_fit(X, Y)
    ours.set_params(tol=1e-4, loss="squared_error").partial_fit(X, Y)


def test_another_number_of_targets():
    given, ours = (net.fit(X, X[:, :2]) for net in both("MLPRegressor"))
    given.partial_fit(X, Y)
    with pytest.raises(ValueError, match="y has 1 column, but the network has 2 outputs"):
        ours.partial_fit(X, Y)


@pytest.mark.parametrize("name", ["epsilon", "learning_rate_init"])
def test_settings_that_are_zero_in_float32(name):
    given, ours = both("MLPRegressor", **{name: 1e-60})
    given.fit(X, Y)
    with pytest.raises(ValueError, match=f"{name} 1e-60 is too small: float32 makes it 0.0"):
        ours.fit(X, Y)


def test_a_shallow_copy_is_independent():
    for net, changed in zip(both("MLPRegressor"), (True, False), strict=True):
        twin = copy.copy(net.fit(X, Y))
        before = twin.coefs_[0].copy()
        net.partial_fit(X, Y)
        assert (len(twin.loss_curve_) == 5) == changed
        assert np.array_equal(twin.coefs_[0], before) != changed


def test_a_refused_call_changes_nothing():
    for net, changed in zip(both("MLPClassifier"), (True, False), strict=True):
        before = net.fit(X, Y).predict(X)
        assert isinstance(outcome(net.fit, X[:, :2], Y, np.ones(3)), ValueError)
        assert (net.n_features_in_ == 2) == changed
        if not changed:
            np.testing.assert_array_equal(net.predict(X), before)

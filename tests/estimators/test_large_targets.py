"""Losses decide when training stops, so they are exact in float64, also beside targets that float32 cannot resolve."""

import numpy as np
import pytest
from sklearn import neural_network as theirs
from sklearn.exceptions import ConvergenceWarning
from support.fitted import beside_1_9, compiled, network, one_thread  # noqa: F401

import fastmlp

X = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
SLOPE = 1 + X[:, 0].astype(np.float64)


def both(size, **settings):
    """Return both estimators, fitted to targets of this size until max_iter was reached."""
    for module in (theirs, fastmlp):
        net = module.MLPRegressor(**{"random_state": 0, "hidden_layer_sizes": (20,)} | settings)
        with pytest.warns(ConvergenceWarning):
            yield net.fit(X, size * SLOPE)


@pytest.mark.slow  # a loop of its own; the losses that it computes are those of `test_losses_are_exact`
@compiled
@pytest.mark.parametrize("size", [1e8, 1e9])
def test_adam_does_not_stop_before_its_time(size):
    with pytest.warns(ConvergenceWarning, match="Maximum iterations"):
        net = fastmlp.MLPRegressor(random_state=0).fit(X, size * SLOPE)
    assert net.n_iter_ == 200
    assert (np.diff(net.loss_curve_) < 0).all()


@beside_1_9
@pytest.mark.parametrize("size", [1e8, 1e9])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 1e-12},
        {"solver": "lbfgs", "max_iter": 50},
    ],
    ids=str,
)
def test_decisions_are_those_of_scikit_learn(size, settings):
    given, ours = both(size, **settings)
    assert ours.n_iter_ == given.n_iter_
    if settings.get("solver") != "lbfgs":
        np.testing.assert_allclose(ours.loss_curve_, given.loss_curve_, rtol=1e-7)
        assert (np.diff(ours.loss_curve_) < 0).all()
    else:
        assert ours.score(X, size * SLOPE) > 0.99


@pytest.mark.parametrize("scoring", ["loss", None])
def test_early_stopping_sees_small_steps(scoring):
    settings = {"random_state": 0, "early_stopping": True, "scoring": scoring, "max_iter": 30, "tol": 0}
    with pytest.warns(ConvergenceWarning, match="Maximum iterations"):
        net = fastmlp.MLPRegressor(**settings).fit(X, 1e8 * SLOPE)
    assert net.n_iter_ == 30
    assert (np.diff(net.validation_scores_) > 0).all()


@pytest.mark.parametrize("kind", [pytest.param(fastmlp.MLP, marks=compiled), fastmlp.reference.MLP])
@pytest.mark.parametrize(("output", "size"), [("identity", 1e8), ("exp", 1e7)])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_losses_are_exact(kind, output, size, n_outputs):
    net = kind([4, 20, n_outputs], output=output, seed=1)
    net.biases[-1][:] = np.log(size) if output == "exp" else 0.0
    y = (size * np.abs(SLOPE[:, None] + np.arange(n_outputs))).astype(np.float32)
    p, t = (a.reshape(300, -1).astype(np.float64) for a in (net.predict(X), y))
    if output == "exp":  # the predictions have been rounded to float32
        expected = (t * np.log(np.where(t > 0, t, 1) / p) - t + p).mean()
        assert net.evaluate(X, y)["loss"] == pytest.approx(expected, rel=1e-5)
    else:
        assert net.evaluate(X, y)["loss"] == pytest.approx(((p - t) ** 2).mean(), rel=1e-12)
        loss, _, _ = net.gradients(X, y)
        assert loss == pytest.approx(((p - t) ** 2).mean(), rel=1e-12)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("kind", [pytest.param(fastmlp.MLP, marks=compiled), fastmlp.reference.MLP])
def test_a_mean_that_overflows_float32_has_an_infinite_loss(kind):
    net = kind([4, 20, 1], output="exp", seed=1)
    net.biases[-1][:] = 89  # exp(89) is finite in float64
    with pytest.raises(FloatingPointError):
        net.fit(X, np.ones(300), epochs=1)

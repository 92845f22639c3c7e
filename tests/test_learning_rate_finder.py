"""`LearningRateFinder`, on the plain network."""

import numpy as np
import pytest
from support.nets import assert_bits, refused, snapshot

from fastmlp import reference
from fastmlp.callbacks import LearningRateFinder


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"low": 0}, "low must be more than 0 and finite, not 0"),
        ({"low": 2, "high": 1}, "low must be below high, but low is 2 and high is 1"),
        ({"steps": 2}, "steps must be at least 10, not 2"),
    ],
)
def test_wrong_settings(settings, message):
    with refused(ValueError, message):
        LearningRateFinder(**settings)


@pytest.fixture(scope="module")
def blobs():
    """Three clouds of points."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, 300)
    return generator.standard_normal((300, 6)) + 2 * np.eye(3, 6)[y], y


@pytest.mark.parametrize(
    ("optimizer", "low", "high"),
    [(None, 0.02, 2), ("adam", 0.002, 0.2), ("adagrad", 0.002, 0.2), ("nesterov", 0.002, 0.5)],
)  # fmt: skip
def test_finder(blobs, optimizer, low, high):
    net = reference.MLP([6, 16, 3])
    before, state = snapshot(net), net._random.generator.bit_generator.state
    finder = LearningRateFinder()
    rate = finder.find(net, *blobs, optimizer=optimizer)
    assert low < rate < high
    assert rate == finder.suggestion
    assert rate in finder.rates
    assert len(finder.rates) == len(finder.losses) == len(finder.smooth_losses) <= 100
    assert finder.find(net, *blobs, optimizer=optimizer) == rate
    assert_bits(net, before)
    assert net._random.generator.bit_generator.state == state
    history = net.fit(*blobs, epochs=10, learning_rate=rate, optimizer=optimizer)
    assert history.accuracy[-1] > 0.8


def test_finder_takes_what_fit_takes(blobs):
    sparse = pytest.importorskip("scipy.sparse")
    X, y = blobs
    finder, net = LearningRateFinder(steps=40, high=1), reference.MLP([6, 16, 3], input_scale=0.5)
    rate = finder.find(net, X, y)
    assert finder.find(net, X.tolist(), list(y)) == rate
    assert finder.find(net, sparse.coo_array(X), np.eye(3)[y]) == pytest.approx(rate)
    assert len(finder.rates) == 40


def test_finder_where_there_is_nothing_to_find(blobs):
    net = reference.MLP([6, 16, 3])
    with refused(ValueError, "the loss falls at none of the learning rates from 1e-12 to 1e-08"):
        LearningRateFinder(low=1e-12, high=1e-8).find(net, *blobs)
    with refused(ValueError, "the loss falls at none of the learning rates from 1e+06 to 1e+08"):
        LearningRateFinder(low=1e6, high=1e8).find(net, *blobs)
    X, y = blobs[0].copy(), blobs[1]
    X[201, 2] = np.nan
    with refused(ValueError, "X has nan in row 201, column 2"):
        LearningRateFinder().find(net, X, y)
    net.weights[0][...] = np.nan
    with refused(ValueError, "the loss is nan or infinite before the first step"):
        LearningRateFinder().find(net, *blobs)


def test_finder_draws(blobs):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    finder = LearningRateFinder()
    with refused(ValueError, "nothing has been found yet; call find(net, X, y) first"):
        finder.plot()
    finder.find(reference.MLP([6, 16, 3]), *blobs)
    ax = finder.plot()
    assert ax.get_xscale() == "log"
    assert finder.plot(ax) is ax
    ax.figure.canvas.draw()
    pyplot.close("all")

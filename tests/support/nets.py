"""What the tests of the networks share: small data, twins of both kinds, comparisons to the bit."""

import functools
import re
from pathlib import Path

import numpy as np
import pytest

from fastmlp import MLP, reference
from fastmlp.hooks import HOOKS

ROOT = Path(__file__).resolve().parents[2]
DTYPES = ("float32", "float64")
ACTIVATIONS = ("relu", "logistic")
NETS = ([4, 3], [1, 2], [5, 1, 2], [6, 1, 1, 3], [13, 17, 7], [30, 65, 33, 10], [7, 16, 9, 12, 5, 8, 3], [3, 300, 2])
LONG = 700  # rows of a batch that does not go through the network in one piece
both_kinds = pytest.mark.parametrize("kind", [MLP, reference.MLP], ids=["compiled", "plain"])
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}


def data(n_rows, n_features=4, n_classes=3, seed=0, dtype="float32"):
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((n_rows, n_features)).astype(dtype)
    return X, generator.integers(0, n_classes, n_rows)


def data_for(net, n_rows, seed=0):
    return data(n_rows, net.layers[0], net.layers[-1], seed, net.dtype)


def parameters(net):
    return net.weights + net.biases


def snapshot(net):
    return [p.copy() for p in parameters(net)]


def assert_bits(net, expected):
    for p, q in zip(parameters(net), expected, strict=True):
        np.testing.assert_array_equal(p, q)


def assert_same(net, other):
    assert_bits(net, parameters(other))


def assert_same_training(net, other):
    """Compare all that training has left in two networks, but for the seconds."""
    assert_bits(net, parameters(other))
    own, others = net.history.to_dict(), other.history.to_dict()
    assert own | {"seconds": None} == others | {"seconds": None}
    assert net.history.steps == other.history.steps
    assert net.feature_names == other.feature_names
    assert net._random.generator.bit_generator.state == other._random.generator.bit_generator.state
    for slots, of_other in zip(net._training_state.optimizer_state, other._training_state.optimizer_state, strict=True):
        for slot, same in zip(slots, of_other, strict=True):
            np.testing.assert_array_equal(slot, same)


def assert_close(got, expected, dtype, factor=1):
    tolerance = factor * TOLERANCE[dtype]
    for g, e in zip(got, expected, strict=True):
        assert np.shape(g) == np.shape(e)
        np.testing.assert_allclose(g, e, rtol=tolerance, atol=tolerance * max(np.abs(e).max(), 1e-3))


def filled(layers, kind=reference.MLP, **settings):
    """A network whose biases are not zero."""
    net = kind(layers, **settings)
    generator = np.random.default_rng(1)
    for b in net.biases:
        b[:] = generator.normal(scale=0.5, size=b.shape)
    return net


def plain(n=3, **settings):
    """Networks that need no compiler."""
    return [reference.MLP([4, 8, 3], seed=seed, **settings) for seed in range(n)]


def twins(layers, **settings):
    """The same network twice, compiled and plain, with biases that are not zero."""
    nets = MLP(layers, **settings), reference.MLP(layers, **settings)
    for net in nets:
        generator = np.random.default_rng(7)
        for b in net.biases:
            b[:] = generator.normal(scale=0.1, size=b.shape)
    return nets


def refused(error, message):
    return pytest.raises(error, match=re.escape(message))


class Recorder:
    """Notes each call of a hook: its name, fit.epoch and fit.step."""

    def __init__(self):
        self.calls = []
        for hook in HOOKS:
            setattr(self, hook, functools.partial(self._note, hook))

    def _note(self, hook, net, fit):
        self.calls.append((hook, fit.epoch, fit.step))


class AtEpochEnd:
    """Calls a function at the end of each epoch; has no other method."""

    def __init__(self, function):
        self.on_epoch_end = function


def raise_broken(*_):
    raise RuntimeError("broken")


X, Y = data(10)

"""What the benchmarks of the asv suite share: networks, data, and checks that a timed network has learned."""

import contextlib
import importlib

import numpy as np

import fastmlp


def _compiled(layers, **settings):
    return fastmlp.MLP(layers, **settings)


def _plain(layers, **settings):
    from fastmlp import reference

    return reference.MLP(layers, **settings)


IMPLEMENTATIONS = {"fastmlp": _compiled, "numpy": _plain}
"""The compiled network, and the one in plain NumPy that it is compared with. Each is imported when it is made."""

LEAST_ACCURACY = 0.85  # on the training rows of MNIST during the last epoch; a network that learns has 0.9

FEW_ROWS = None
"""Rows of MNIST to train on; all of them, except in `benchmarks.check`. A network cannot learn much from few."""

MORE_THAN_A_GUESS = 0.15


class WrongAccuracy(ArithmeticError):
    """The timed network has not learned what it should, so its time means nothing."""


class Benchmark:
    """Settings of all benchmarks. asv keeps the history of a benchmark as long as its version stays the same."""

    timeout = 300  # for a busy machine; a quiet one needs seconds
    version = "1"


class OnMnist(Benchmark):
    """A benchmark on MNIST, which is loaded once."""

    def setup_cache(self):
        X, y, *test = fastmlp.datasets.load_mnist()
        return X[:FEW_ROWS], y[:FEW_ROWS], *test


def warm_up(make, X, y, **settings):
    """Compile or load the kernels that a fit on such rows needs."""
    make().fit(X[:256], y[:256], **({"epochs": 1} | settings))


def best_epoch(net, X, y, epochs, least_accuracy=LEAST_ACCURACY, **settings):
    """Return the seconds of the fastest of some epochs; fail if the network has not learned."""
    history = net.fit(X, y, epochs=epochs, **settings)
    check_accuracy(history.accuracy[-1], least_accuracy)
    return min(history.seconds)


def check_accuracy(accuracy, least):
    """Raise WrongAccuracy unless an accuracy is high enough."""
    if not accuracy >= at_least(least):
        raise WrongAccuracy(f"accuracy is {accuracy:.4f}, less than {least}")


def at_least(accuracy):
    """Return the accuracy to ask for, which is lower if there are few rows."""
    return min(accuracy, MORE_THAN_A_GUESS) if FEW_ROWS else accuracy


def only(condition):
    """Skip a benchmark, in the way asv asks for, unless a condition holds. Call it in `setup`."""
    if not condition:
        raise NotImplementedError


def part(*names):
    """Import a module of fastmlp, which older commits have under another name; skip the benchmark if it is missing."""
    for name in names:
        with contextlib.suppress(ImportError):
            return importlib.import_module(f"fastmlp.{name}")
    raise NotImplementedError


def without_zeros(X):
    """Return rows without zeros that can be learned as well as before."""
    return X + np.float32(1 / 512)

"""What the benchmarks of the asv suite share: networks and data by name, and epochs whose accuracy is looked at."""

import importlib
import os

import numpy as np

import fastmlp


def _compiled(layers, **settings):
    return fastmlp.MLP(layers, **settings)


def _plain(layers, **settings):
    from fastmlp import reference

    return reference.MLP(layers, **settings)


IMPLEMENTATIONS = {"fastmlp": _compiled, "numpy": _plain}
"""The compiled network, and the one in plain NumPy that it is held against; each imported by whom it concerns."""

LEAST_ACCURACY = 0.85  # on MNIST's training rows while the last of some epochs runs; a network that learns has 0.9

FEW_ROWS = 4096 if os.environ.get("FASTMLP_FEW_ROWS", "") not in ("", "0") else None
"""Rows of MNIST that are trained on where no time counts, as in CI; a network need not learn much from them."""

MORE_THAN_A_GUESS = 0.15


class WrongAccuracy(ArithmeticError):
    """What was timed has not learned what it should: its time says nothing."""


class Benchmark:
    """Settings of all benchmarks. Each names its version: a change that keeps what it measures keeps its history."""

    timeout = 300  # of a busy machine: seconds are enough on a quiet one
    version = "1"


class OnMnist(Benchmark):
    """A benchmark on MNIST, which is unpacked once."""

    def setup_cache(self):
        X, y, *test = fastmlp.datasets.load_mnist()
        return X[:FEW_ROWS], y[:FEW_ROWS], *test


def warm_up(make, X, y, **settings):
    """Compile, or load, all that a fit of such rows needs; the rows themselves are in memory already."""
    make().fit(X[:256], y[:256], **({"epochs": 1} | settings))


def best_epoch(net, X, y, epochs, least_accuracy=LEAST_ACCURACY, **settings):
    """Return the seconds of the fastest of some epochs; fail where the network has not learned meanwhile."""
    history = net.fit(X, y, epochs=epochs, **settings)
    check_accuracy(history.accuracy[-1], least_accuracy)
    return min(history.seconds)


def check_accuracy(accuracy, least):
    """Raise WrongAccuracy unless an accuracy is high enough."""
    if not accuracy >= at_least(least):
        raise WrongAccuracy(f"accuracy is {accuracy:.4f}, less than {least}")


def at_least(accuracy):
    """Return the accuracy that is asked for, which is less where rows are few."""
    return min(accuracy, MORE_THAN_A_GUESS) if FEW_ROWS else accuracy


def only(condition):
    """Leave out, in asv's way, what there is not to measure; to be called in `setup`."""
    if not condition:
        raise NotImplementedError


def part(name):
    """Import a part of fastmlp; a commit that lacks it leaves the benchmark out."""
    try:
        return importlib.import_module(f"fastmlp.{name}")
    except ImportError:
        raise NotImplementedError from None


def without_zeros(X):
    """Return rows with no zero, each as easy to tell from others as before."""
    return X + np.float32(1 / 512)

"""What the benchmarks of the asv suite share: networks and data by name, and epochs whose accuracy is looked at."""

import numpy as np

import fastmlp
from fastmlp import reference

IMPLEMENTATIONS = {"fastmlp": fastmlp.MLP, "numpy": reference.MLP}
"""The compiled network, and the one in plain NumPy that it is held against."""

LEAST_ACCURACY = 0.85  # on MNIST's training rows while the last of some epochs runs; a network that learns has 0.9


class WrongAccuracy(ArithmeticError):
    """What was timed has not learned what it should: its time says nothing."""


class Benchmark:
    """Settings of all benchmarks. Each names its version: a change that keeps what it measures keeps its history."""

    timeout = 120
    version = "1"


class OnMnist(Benchmark):
    """A benchmark on MNIST, which is unpacked once."""

    def setup_cache(self):
        return fastmlp.datasets.load_mnist()


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
    if not accuracy >= least:
        raise WrongAccuracy(f"accuracy is {accuracy:.4f}, less than {least}")


def only(condition):
    """Leave out, in asv's way, what there is not to measure."""
    if not condition:
        raise NotImplementedError


def without_zeros(X):
    """Return rows with no zero, each as easy to tell from others as before."""
    return X + np.float32(1 / 512)

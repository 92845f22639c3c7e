"""Calls on a few rows take microseconds, so what they do in Python is counted, in calls of functions."""

import gc
import sys

import numpy as np
import pytest

from fastmlp import MLP

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
y = np.array([0, 1, 1, 0])


class Watcher:
    def on_epoch_end(self, net, fit):
        pass


def n_calls(work):
    """Return how many functions a call makes run, those of C included, when it is made once more."""
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    work()  # compiles kernels, and makes workspaces
    gc.collect()  # finalizers of other tests would be counted
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def fit(net, epochs):
    return lambda: net.fit(X, y, epochs=epochs, callbacks=[Watcher()])


@pytest.mark.parametrize(
    ("work", "most"),
    [
        (lambda net: net.predict_proba(X[:1]), 40),
        (lambda net: net.evaluate(X, y), 85),
        (lambda net: net.train_batch(X, y), 245),
        (lambda net: net.train_batch(X, y, optimizer="adam"), 265),
        (lambda net: net.fit(X, y, epochs=1), 510),
        (lambda net: net.fit(X, y, epochs=100), 520),
    ],
    ids=["predict_proba", "evaluate", "step", "step of adam", "epoch", "many epochs"],
)
def test_a_small_call_does_little(work, most):
    net = MLP([2, 8, 2], n_threads=1)
    net.fit(X, y, epochs=3)
    assert n_calls(lambda: work(net)) <= most


def test_an_epoch_with_callbacks_does_little():
    net = MLP([2, 8, 2])
    assert n_calls(fit(net, 30)) - n_calls(fit(net, 20)) <= 10 * 220

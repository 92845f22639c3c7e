"""Plain SGD of the compiled network gives the numbers of the plain network."""

import numpy as np
import pytest
from support.nets import (
    ACTIVATIONS,
    DTYPES,
    LONG,
    NETS,
    assert_bits,
    assert_close,
    data,
    data_for,
    parameters,
    twins,
)

from fastmlp import MLP, reference

pytestmark = pytest.mark.loops("plain SGD")

SLOW = ("logistic", "float64")
loops = pytest.mark.parametrize(
    ("activation", "dtype"),
    [pytest.param(a, d, marks=pytest.mark.slow if (a, d) == SLOW else ()) for a in ACTIVATIONS for d in DTYPES],
)


@loops
@pytest.mark.parametrize("layers", NETS, ids=str)
def test_gradients(layers, activation, dtype):
    net, plain = twins(layers, activation=activation, dtype=dtype)
    for n_rows in (1, 3, 13, 64, LONG):
        X, y = data_for(net, n_rows)
        (loss, dw, db), (plain_loss, plain_dw, plain_db) = net.gradients(X, y), plain.gradients(X, y)
        assert_close([loss], [plain_loss], dtype)
        assert_close(dw + db, plain_dw + plain_db, dtype)
        assert all(g.dtype == dtype for g in dw + db)


@loops
@pytest.mark.parametrize("layers", NETS, ids=str)
def test_steps(layers, activation, dtype):
    net, plain = twins(layers, activation=activation, dtype=dtype)
    for step, n_rows in enumerate([1, 7, 32, 33, 2, LONG, 64]):
        X, y = data_for(net, n_rows, seed=step)
        rate = 0.01 * (step + 1)
        assert_close([net.train_batch(X, y, rate)], [plain.train_batch(X, y, rate)], dtype)
        assert_close(parameters(net), parameters(plain), dtype)


@loops
@pytest.mark.parametrize(
    ("layers", "n_rows", "batch_size"),
    [
        ([4, 8, 3], 50, 16),
        ([4, 8, 3], 49, 16),  # the last batch has one row
        ([4, 8, 3], 50, 1),
        ([4, 8, 3], 50, 50),
        ([4, 8, 3], 50, 1000),
        ([4, 8, 3], 1, 1),
        ([4, 8, 3], 1, 64),
        ([1, 5, 2], 30, 7),  # one feature
        ([6, 1, 3], 30, 7),  # one hidden unit
        ([3, 2, 2], 30, 7),  # two classes
        ([8, 9, 8, 7, 6, 5, 4], 40, 13),
        ([20, 70, 10], 101, 25),
        ([4, 8, 3], 2 * LONG, 600),
        ([4, 40, 3], 1025, 513),
        ([4, 8, 3], 1024, 512),
    ],
    ids=str,
)
def test_fits(layers, n_rows, batch_size, activation, dtype):
    net, plain = twins(layers, activation=activation, dtype=dtype, seed=3)
    X, y = data_for(net, n_rows)
    settings = {"epochs": 3, "batch_size": batch_size, "learning_rate": 0.05}
    history, plain_history = net.fit(X, y, **settings), plain.fit(X, y, **settings)
    assert_close([history.loss], [plain_history.loss], dtype)
    assert history.accuracy == plain_history.accuracy
    assert len(history.seconds) == 3
    assert_close(parameters(net), parameters(plain), dtype, factor=3)
    net.fit(X, y, **settings)
    plain.fit(X, y, **settings)
    assert_close(parameters(net), parameters(plain), dtype, factor=10)


@pytest.mark.parametrize("init", ["he", "xavier", "normal"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_first_parameters_are_those_of_the_plain_network(init, dtype):
    settings = {"init": init, "seed": 11, "dtype": dtype}
    assert_bits(MLP([5, 7, 3], **settings), parameters(reference.MLP([5, 7, 3], **settings)))


@loops
@pytest.mark.parametrize("n_rows", [1, 2, 255, 256, 257, LONG])
def test_predictions(n_rows, activation, dtype):
    net, plain = twins([9, 33, 17, 5], activation=activation, dtype=dtype)
    X, y = data_for(net, n_rows)
    proba = net.predict_proba(X)
    assert proba.dtype == dtype
    assert_close([proba], [plain.predict_proba(X)], dtype)
    labels = net.predict(X)
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, plain.predict(X))
    measured = net.evaluate(X, y)
    assert_close([measured["loss"]], [plain.evaluate(X, y)["loss"]], dtype)
    assert measured["accuracy"] == plain.evaluate(X, y)["accuracy"] == net.score(X, y) == np.mean(labels == y)


def test_shuffle_can_be_left_out():
    X, y = data(50)
    net, plain, by_steps = MLP([4, 8, 3]), reference.MLP([4, 8, 3]), MLP([4, 8, 3])
    net.fit(X, y, epochs=2, batch_size=16, shuffle=False)
    plain.fit(X, y, epochs=2, batch_size=16, shuffle=False)
    assert_close(parameters(net), parameters(plain), "float32")
    for start in [0, 16, 32, 48] * 2:
        by_steps.train_batch(X[start : start + 16], y[start : start + 16])
    assert_bits(net, parameters(by_steps))

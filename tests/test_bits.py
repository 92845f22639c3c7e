"""The result is the same, to the bit, for any number of threads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmlp import MLP, reference

NETS = (
    [1, 1],
    [4, 3],
    [5, 1, 2],
    [3, 2, 2, 2, 2],
    [20, 33, 10],
    [7, 300, 5],
    [300, 7, 300],
    [16, 64, 64, 16],
    [9, 130, 3, 130, 2],
    [12, 31, 17, 40, 8, 65, 3],
    [2, 512, 512, 2],
)


def trained(layers, n_rows, batch_size, n_threads, epochs=2, seed=0, zeros=0.0, **settings):
    """Train a network on random data; give its parameters, its losses and its answers."""
    generator = np.random.default_rng([seed, n_rows])
    X = generator.standard_normal((n_rows, layers[0])).astype(settings["dtype"])
    X[generator.random(X.shape) < zeros] = 0
    y = generator.integers(0, layers[-1], n_rows)
    net = MLP(layers, n_threads=n_threads, seed=seed, **settings)
    history = net.fit(X, y, epochs=epochs, batch_size=batch_size, learning_rate=0.05)
    return [*net.weights, *net.biases, np.array([history.loss, history.accuracy]), net.predict_proba(X), net.predict(X)]


def assert_same_bits(results, expected):
    for got, wanted in zip(results, expected, strict=True):
        assert np.isfinite(wanted).all()
        np.testing.assert_array_equal(got.view(np.uint8), wanted.view(np.uint8))  # also the sign of zero


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ["relu", "logistic"])
@pytest.mark.parametrize("layers", NETS, ids=str)
def test_bits_do_not_depend_on_threads(layers, activation, dtype):
    for n_rows, batch_size in ((60, 25), (7, 1), (13, 3), (700, 600)):
        given = {"n_rows": n_rows, "batch_size": batch_size, "activation": activation, "dtype": dtype}
        alone = trained(layers, n_threads=1, **given)
        for n_threads in (2, 3, 4):
            assert_same_bits(trained(layers, n_threads=n_threads, **given), alone)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("layers", NETS, ids=str)
def test_bits_do_not_depend_on_leaving_out_zeros(layers, zeros, dtype):
    for n_rows, batch_size in ((60, 25), (7, 1), (700, 600)):
        given = {"n_rows": n_rows, "batch_size": batch_size, "activation": "relu", "dtype": dtype, "zeros": zeros}
        dense = trained(layers, n_threads=1, first_layer="dense", **given)
        for n_threads in (1, 3):
            assert_same_bits(trained(layers, n_threads=n_threads, first_layer="sparse", **given), dense)


@pytest.mark.parametrize("n_threads", [None, 2, 3, 4, 7])
def test_bits_of_a_network_that_shares_its_work_by_itself(n_threads):
    given = {"layers": [50, 128, 10], "n_rows": 400, "batch_size": 200, "activation": "relu", "dtype": "float32"}
    assert_same_bits(trained(n_threads=n_threads, **given), trained(n_threads=1, **given))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_stay_the_same_again_and_again(dtype):
    given = {"layers": [20, 70, 40, 5], "n_rows": 200, "batch_size": 8, "activation": "relu", "dtype": dtype}
    first = trained(n_threads=2, **given)
    for _ in range(15):
        assert_same_bits(trained(n_threads=2, **given), first)


SIZES = st.one_of(st.integers(1, 20), st.integers(1, 140))

CASES = st.fixed_dictionaries(
    {
        "layers": st.lists(SIZES, min_size=2, max_size=6),
        "n_rows": st.one_of(st.integers(1, 40), st.integers(500, 1200)),
        "batch_size": st.one_of(st.integers(1, 50), st.integers(450, 1300)),
        "activation": st.sampled_from(["relu", "logistic"]),
        "dtype": st.sampled_from(["float32", "float64"]),
        "seed": st.integers(0, 1000),
        "zeros": st.sampled_from([0.0, 0.3, 0.8, 1.0]),
    }
)


def check(case, n_threads):
    """Compare threads with one thread to the bit, and that with the plain network as far as rounding goes."""
    case = case | {"batch_size": max(case["batch_size"], case["n_rows"] // 20)}  # few steps: many threads on few cores
    alone = trained(n_threads=1, first_layer="dense", **case)
    for first_layer in ("dense", "sparse"):
        assert_same_bits(trained(n_threads=n_threads, first_layer=first_layer, **case), alone)
    if case["dtype"] == "float64":
        layers, n_rows = case["layers"], case["n_rows"]
        generator = np.random.default_rng([case["seed"], n_rows])
        X = generator.standard_normal((n_rows, layers[0]))
        X[generator.random(X.shape) < case["zeros"]] = 0
        y = generator.integers(0, layers[-1], n_rows)
        plain = reference.MLP(layers, activation=case["activation"], seed=case["seed"], dtype="float64")
        plain.fit(X, y, epochs=2, batch_size=case["batch_size"], learning_rate=0.05)
        for got, wanted in zip(alone, plain.weights + plain.biases, strict=False):
            np.testing.assert_allclose(got, wanted, rtol=1e-8, atol=1e-10)


@settings(max_examples=25)
@given(case=CASES, n_threads=st.integers(2, 4))
def test_bits_of_any_network(case, n_threads):
    check(case, n_threads)


@pytest.mark.slow
@settings(max_examples=200)
@given(case=CASES, n_threads=st.integers(2, 8))
def test_bits_of_many_networks(case, n_threads):
    check(case, n_threads)

"""The result is the same, to the bit, for any number of threads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from fastmlp import MLP, reference

NETS = (
    [1, 2],
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


# --- any network, any data, any form of the rows ----------------------------------------------------------------------

SIZES = st.one_of(st.integers(1, 20), st.integers(1, 70))
HIDDEN = st.one_of(SIZES, st.integers(97, 140))  # some wide enough to be divided by columns among four threads


FORMS = ("numbers", "bytes", "csr", "csr bytes")
LOOPS = [{"activation": a, "dtype": d} for a, d in (("relu", "float32"), ("relu", "float64"), ("logistic", "float32"))]
ALL_LOOPS = [{"form": form} | loop for form in FORMS for loop in LOOPS]
SOME_LOOPS = [{"form": "numbers"} | loop for loop in LOOPS] + [{"form": form} | LOOPS[0] for form in FORMS[1:]]
"""A loop takes seconds to compile: only rows of numbers are tested with all activations and dtypes."""


@st.composite
def cases(draw, n_rows, most_layers=3, loops=SOME_LOOPS):
    """A network, the seed of its data, how they are given and how they are trained on."""
    n_rows = draw(n_rows)
    most = draw(st.integers(1, n_rows + 5))
    return {
        "layers": [draw(SIZES), *draw(st.lists(HIDDEN, max_size=most_layers - 1)), draw(SIZES) + 1],
        "n_rows": n_rows,
        "batch_size": max(draw(st.integers(1, most)), n_rows // 20),  # few steps: many threads on few cores
        "density": draw(st.one_of(st.sampled_from([0.0, 0.1, 1.0]), st.floats(0, 1))),
        "first_layer": draw(st.sampled_from(["dense", "sparse", "auto"])),
        **draw(st.sampled_from(loops)),
        "seed": draw(st.integers(0, 1000)),
    }


def rows_of(case):
    """X as it is given, the scale it is given with, and what these are as dense numbers; y."""
    dtype, shape = np.dtype(case["dtype"]), (case["n_rows"], case["layers"][0])
    generator = np.random.default_rng(case["seed"])
    there = generator.random(shape) < case["density"]
    y = generator.integers(0, case["layers"][-1], case["n_rows"])
    if "bytes" in case["form"]:
        X, scale = (generator.integers(0, 256, shape) * there).astype(np.uint8), 1 / 255
        plain = X.astype(dtype) * dtype.type(scale)
    else:
        X, scale = np.where(there, generator.standard_normal(shape), 0).astype(dtype), 1.0
        plain = X
    return (sparse.csr_array(X) if "csr" in case["form"] else X), scale, plain, y


def check(case, sizes):
    """Compare teams with one thread on dense numbers to the bit, and that with the plain network but for rounding."""
    X, scale, plain, y = rows_of(case)
    fixed = {name: case[name] for name in ("activation", "dtype", "seed")}
    course = {"epochs": 2, "batch_size": case["batch_size"], "learning_rate": 0.05}

    def results(net, rows):
        history = net.fit(rows, y, **course)
        of_all = net.evaluate(rows, y)
        losses = np.array([*history.loss, of_all["loss"]])
        accuracies = np.array([*history.accuracy, of_all["accuracy"]])
        return [*net.weights, *net.biases, losses, accuracies, net.predict_proba(rows), net.predict(rows)]

    expected = results(MLP(case["layers"], n_threads=1, first_layer="dense", **fixed), plain)
    as_given = fixed | {"first_layer": case["first_layer"], "input_scale": scale}
    for size in sizes:
        net = MLP(case["layers"], n_threads=size, **as_given)
        got = results(net, X)
        assert_same_bits(got, expected)
    for i in range(0, case["n_rows"], 1 + case["n_rows"] // 8):
        assert_same_bits([net.predict_proba(X[i : i + 1])[0]], [got[-2][i]])
    if case["dtype"] == "float64":
        close = results(reference.MLP(case["layers"], **fixed), plain)
        for parameter, wanted in zip(
            expected[:-3], close[:-3], strict=True
        ):  # rounding decides which of equals is right
            np.testing.assert_allclose(parameter, wanted, rtol=1e-8, atol=1e-10)


@settings(max_examples=100, derandomize=True)
@given(case=cases(st.integers(1, 200)))
def test_bits_of_any_network(case):
    check(case, (1, 2, 3))


@settings(max_examples=20, derandomize=True)
@given(case=cases(st.integers(500, 1200)))
def test_bits_of_any_network_in_long_batches(case):
    check(case | {"batch_size": 500 + case["batch_size"] // 2}, (1, 2, 4))


@pytest.mark.slow
@settings(max_examples=400)
@given(
    case=cases(st.one_of(st.integers(1, 200), st.integers(500, 1200)), most_layers=5, loops=ALL_LOOPS),
    size=st.integers(2, 8),
)
def test_bits_of_many_networks(case, size):
    check(case, (size,))

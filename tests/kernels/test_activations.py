"""Activations, their slopes and dropout, over the rows and columns that they are given."""

import numpy as np
import pytest

from fastmlp.activations import ACTIVATIONS
from fastmlp.kernels import activations
from fastmlp.kernels.activations import CODES, RELU, stores_slope
from fastmlp.kernels.structs import Block, Matrix
from fastmlp.random import keep_threshold, kept, row_keys

EXACT = np.longdouble
UNITS = {"leaky_relu": 1, "elu": 3, "gelu": 8, "silu": 6, "tanh": 4, "logistic": 4, "identity": 0}
SLOPE_UNITS = {"leaky_relu": 1, "elu": 3, "gelu": 64, "silu": 16, "tanh": 8, "logistic": 8, "identity": 0}
ROWS = np.arange(100, 200)


def activate(both, n_rows, rows, columns, name, *, slope=True, drop_below=0, scale=1.0, epoch=6, layer=2):
    """The kernel on values whose slopes are stored `n_rows` rows below."""
    slope_at = both.at + n_rows * both.pitch if slope else 0
    h, block = Matrix(both.flat, both.at, both.pitch), Block(*rows, *columns)
    activations.activate(h, slope_at, block, CODES[name], ROWS[3:], 5, epoch, layer, drop_below, scale)
    return both.view[:n_rows], both.view[n_rows:]


def with_slopes(padded, z, lanes, extra=0):
    return padded(np.concatenate([z, np.full_like(z, 7)]), z.shape[1] + extra, lanes)


def test_codes():
    assert CODES.keys() == ACTIVATIONS.keys()
    assert [name for name in CODES if not stores_slope(name, True)] == ["relu"]
    assert [name for name in CODES if not stores_slope(name, False)] == ["relu", "identity"]
    assert [name for name, code in CODES.items() if activations.floor_of(code) != -np.inf] == ["relu"]
    assert activations.floor_of(RELU) == 0


def units_beyond(got, exact):
    """How far numbers are from exact ones, in units in the last place; where exp is subnormal 0 is right."""
    tiny = np.finfo(got.dtype).tiny
    distance = np.abs(got.astype(EXACT) - exact) / np.spacing(np.maximum(np.abs(exact), tiny).astype(got.dtype))
    return np.where((np.abs(exact) < 1000 * tiny) & (np.abs(got) < 1000 * tiny), 0, distance)


@pytest.mark.parametrize("name", UNITS)
def test_values_and_slopes(rng, dtype, lanes, padded, name):
    scales = np.repeat([1e-6, 0.1, 1, 4, 30, 300], 100)
    z = (rng.standard_normal(600) * scales)[: 600 // lanes * lanes].reshape(-1, lanes).astype(dtype)
    h, slope = activate(both := with_slopes(padded, z, lanes), len(z), (0, len(z)), (0, 1), name)
    exact = z.astype(EXACT)
    with np.errstate(under="ignore"):
        value = exact_gelu(exact)[0] if name == "gelu" else ACTIVATIONS[name].value(exact)
        wanted = exact_gelu(exact)[1] if name == "gelu" else ACTIVATIONS[name].slope(exact)
    if name == "leaky_relu":  # the textbook's slope is of a dtype
        value, wanted = np.where(z > 0, z, z * dtype.type(0.01)), np.where(z > 0, 1, dtype.type(0.01))
    if name == "gelu":  # the exponential of the cube has the error of the cube
        near = np.abs(z) < 3
        assert np.all(units_beyond(h, value)[near] <= UNITS[name] + 20)
        np.testing.assert_allclose(
            h, value, rtol=1e-5 if dtype == np.float32 else 1e-13, atol=1000 * np.finfo(dtype).tiny
        )
    else:
        assert np.all(units_beyond(h, value) <= UNITS[name])
    # where terms cancel, slopes are as exact as 1 is
    np.testing.assert_allclose(slope, wanted, rtol=0, atol=SLOPE_UNITS[name] * np.finfo(dtype).eps)
    assert both.nothing_else_changed()


def exact_gelu(z):
    u = np.sqrt(EXACT(2) / EXACT(np.pi)) * (z + EXACT(0.044715) * z**3)
    with np.errstate(over="ignore"):
        p = 1 / (1 + np.exp(-2 * u))
    return z * p, p + z * p * (1 - p) * 2 * np.sqrt(EXACT(2) / EXACT(np.pi)) * (1 + 3 * EXACT(0.044715) * z**2)


@pytest.mark.parametrize("name", UNITS)
def test_large_and_special_numbers(dtype, lanes, padded, name):
    largest = np.finfo(dtype).max
    z = np.array([0, 80, -80, 700, -700, 1e4, -1e4, 1e30, -1e30, largest, -largest, np.nan], dtype).reshape(-1, 1)
    h, slope = activate(with_slopes(padded, np.repeat(z, lanes, axis=1), lanes), len(z), (0, len(z)), (0, 1), name)
    limit = -1 if name in ("elu", "tanh") else 0
    above = np.minimum(z, 1) if name in ("tanh", "logistic") else z
    wanted = {"identity": z, "leaky_relu": np.where(z > 0, z, z * dtype.type(0.01))}.get(
        name, np.where(z > 0, above, limit)
    )
    got, far = h[:, :1], np.abs(z) > 50
    np.testing.assert_array_equal(np.isnan(h), np.repeat(np.isnan(z), lanes, axis=1))
    np.testing.assert_allclose(got[far], wanted[far], rtol=4 * np.finfo(dtype).eps, atol=1e-25)
    assert np.isfinite(slope[:-1]).all()
    if name not in ("identity", "leaky_relu"):
        flat = name in ("tanh", "logistic")
        np.testing.assert_allclose(slope[:, :1][far], np.where(z > 0, not flat, 0)[far], atol=1e-25)
        assert np.all(slope[0] == {"elu": 1, "gelu": 0.5, "silu": 0.5, "tanh": 1, "logistic": 0.25}[name])


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize(("rows", "columns"), [((0, 7), (0, 3)), ((2, 5), (1, 2)), ((6, 7), (2, 3)), ((3, 3), (0, 3))])
def test_other_rows_and_columns_are_left(rng, dtype, lanes, padded, name, rows, columns):
    z = rng.standard_normal((7, 3 * lanes)).astype(dtype)
    sloped = name != "relu"
    whole, part = (with_slopes(padded, z, lanes, lanes) for _ in range(2))
    dropout = {"drop_below": 2**31, "scale": 2.0}
    h_all, slope_all = activate(whole, 7, (0, 7), (0, 3), name, slope=sloped, **dropout)
    h, slope = activate(part, 7, rows, columns, name, slope=sloped, **dropout)
    inside = slice(*rows), slice(columns[0] * lanes, columns[1] * lanes)
    np.testing.assert_array_equal(h[inside], h_all[inside])
    np.testing.assert_array_equal(slope[inside], slope_all[inside])
    h[inside], slope[inside] = z[inside], 7
    np.testing.assert_array_equal(h, z)
    assert np.all(slope == 7)
    assert part.nothing_else_changed()


# --- dropout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("name", ["relu", "identity", "tanh"])
def test_dropout_has_the_bits_of_the_textbook(rng, dtype, lanes, padded, name, rate):
    z = rng.standard_normal((20, 5 * lanes)).astype(dtype)
    scale, sloped = dtype.type(1 / (1 - rate)), name != "relu"
    plain, dropped = with_slopes(padded, z, lanes), with_slopes(padded, z, lanes)
    h, slope = activate(plain, 20, (0, 20), (0, 5), name, slope=sloped)
    for epoch, layer in ((0, 1), (2**32 - 1, 2)):
        dropped.view[:20] = z
        got, got_slope = activate(
            dropped, 20, (0, 20), (0, 5), name, slope=sloped,
            drop_below=keep_threshold(rate), scale=1 / (1 - rate), epoch=epoch, layer=layer,
        )  # fmt: skip
        keep = kept(row_keys(5, epoch, ROWS[3:23], layer), 5 * lanes, rate)
        np.testing.assert_array_equal(got, np.where(keep, h * scale, 0))
        if sloped:
            np.testing.assert_array_equal(got_slope, np.where(keep, slope * scale, 0))


# --- backward pass ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [(0, 7), (2, 5), (4, 4)])
def test_gradients(rng, dtype, lanes, padded, rows):
    h, g = (rng.standard_normal((7, 3 * lanes)).astype(dtype) for _ in range(2))
    h[1:, ::3] = 0
    h[:, 1::5] = -0.0
    g[0, :3] = np.nan, np.inf, -np.inf
    values, delta, product = padded(h, 3 * lanes, lanes), padded(g, 3 * lanes, 2 * lanes), padded(g, 3 * lanes, lanes)
    matrices = (Matrix(a.flat, a.at, 3 * lanes) for a in (values, delta, product))
    h_matrix, delta_matrix, product_matrix = matrices
    block = Block(*rows, 0, 3)
    activations.relu_gradient_rows(delta_matrix, h_matrix, block, 1.25)
    activations.multiply_rows(product_matrix, h_matrix, block)
    inside = slice(*rows)
    with np.errstate(invalid="ignore"):
        expected_products = g * h
    for got, wanted in ((delta, np.where(h > 0, g * dtype.type(1.25), 0)), (product, expected_products)):
        expected = g.copy()
        expected[inside] = wanted[inside]
        np.testing.assert_array_equal(got.view, expected)
        assert got.nothing_else_changed()
    np.testing.assert_array_equal(values.view, h)

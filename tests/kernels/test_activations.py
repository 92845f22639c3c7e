"""Activations and their gradients, over the rows and columns that they are given."""

import numpy as np
import pytest

from fastmlp.kernels import activations
from fastmlp.kernels.activations import IDENTITY, LOGISTIC, RELU

KINDS = (IDENTITY, RELU, LOGISTIC)


def logistic(z):
    z = z.astype(np.longdouble)
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-z))


def activate(h, rows, columns, kind):
    activations.activate(h.flat, h.at, h.pitch, *rows, *columns, kind)


def gradient_of(kind, h, g):
    if kind == LOGISTIC:
        return g * (h * (1 - h))
    return np.where(h > 0, g, 0) if kind == RELU else g


def test_codes():
    assert activations.CODES == {"relu": RELU, "logistic": LOGISTIC}
    assert [activations.floor_of(kind) for kind in KINDS] == [-np.inf, 0, -np.inf]


def test_logistic(rng, dtype, lanes, padded):
    z = rng.uniform(-30, 30, (50, 3 * lanes)).astype(dtype)
    h = padded(z, 3 * lanes, 0)
    activate(h, (0, 50), (0, 3), LOGISTIC)
    np.testing.assert_allclose(h.view, logistic(z), rtol=4 * np.finfo(dtype).eps)  # exp 2 units, a sum and a quotient


def test_logistic_of_large_and_special_numbers(dtype, lanes, padded):
    largest = np.finfo(dtype).max
    z = [0, -0.0, 20, -20, 80, -80, 700, -700, 1e4, -1e4, largest, -largest, np.inf, -np.inf, np.nan, 1]
    z = np.array(z, dtype).reshape(-1, 1)
    h = padded(np.repeat(z, lanes, axis=1), lanes, lanes)
    activate(h, (0, len(z)), (0, 1), LOGISTIC)
    got = h.view[:, :1]
    assert np.all((h.view == got) | np.isnan(got))
    exact = logistic(z)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(z))
    ordinary = ~(exact < np.finfo(dtype).tiny)  # where it is subnormal, 0 is right
    np.testing.assert_allclose(got[ordinary], exact[ordinary], rtol=4 * np.finfo(dtype).eps)
    assert np.all(got[exact < np.finfo(dtype).tiny] == 0)


def test_logistic_is_symmetric_and_bounded(rng, dtype, lanes, padded):
    z = (
        np.concatenate([rng.normal(scale=20, size=500), [0.0] * 12])[: 512 // lanes * lanes]
        .astype(dtype)
        .reshape(-1, lanes)
    )
    up, down = padded(z, lanes, 0), padded(-z, lanes, 0)
    for h in (up, down):
        activate(h, (0, len(z)), (0, 1), LOGISTIC)
        assert np.all((h.view >= 0) & (h.view <= 1))
    np.testing.assert_allclose(up.view + down.view, 1, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rows", "columns"), [((0, 7), (0, 3)), ((2, 5), (1, 2)), ((6, 7), (2, 3)), ((3, 3), (0, 3))])
def test_activate_leaves_other_rows_and_columns(rng, dtype, lanes, padded, kind, rows, columns):
    z = rng.standard_normal((7, 3 * lanes)).astype(dtype)
    h = padded(z, 4 * lanes, lanes)
    activate(h, rows, columns, kind)
    expected = z.astype(np.longdouble)
    inside = slice(*rows), slice(columns[0] * lanes, columns[1] * lanes)
    if kind == LOGISTIC:  # the tile has applied the others
        expected[inside] = logistic(z[inside])
    np.testing.assert_allclose(h.view, expected, rtol=4 * np.finfo(dtype).eps)
    untouched = h.view.copy()
    untouched[inside] = z[inside]
    np.testing.assert_array_equal(untouched, z)
    assert h.nothing_else_changed()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [(0, 7), (2, 5), (4, 4)])
def test_gradient(rng, dtype, lanes, padded, kind, rows):
    h, g = (rng.standard_normal((7, 3 * lanes)).astype(dtype) for _ in range(2))
    h[:, ::3] = 0
    h[:, 1::5] = -0.0
    values, delta = padded(h, 3 * lanes, lanes), padded(g, 3 * lanes, 2 * lanes)
    activations.activate_gradient(delta.flat, delta.at, 3 * lanes, values.flat, values.at, 3 * lanes, *rows, 0, 3, kind)
    expected = g.copy()
    expected[slice(*rows)] = gradient_of(kind, h, g)[slice(*rows)]
    np.testing.assert_array_equal(delta.view, expected)  # the same operations, each rounded alike
    np.testing.assert_array_equal(values.view, h)
    assert delta.nothing_else_changed()


@pytest.mark.parametrize("kind", [IDENTITY, RELU, LOGISTIC])
def test_gradient_of_nan_and_infinity(dtype, lanes, kind):
    g = np.full(lanes, 1, dtype)
    g[:3] = np.nan, np.inf, -np.inf
    h = np.full(lanes, 0.5, dtype)
    delta = g.copy()
    activations.activate_gradient(delta, 0, lanes, h, 0, lanes, 0, 1, 0, 1, kind)
    np.testing.assert_array_equal(delta, gradient_of(kind, h, g))

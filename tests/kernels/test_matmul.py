"""Matrix products of dense rows, made of register tiles: forward, update and transposition, against plain NumPy."""

import numpy as np
import pytest

from fastmlp.kernels import matmul, tile
from fastmlp.kernels.structs import Block, Matrix

SIZES = (1, 2, 3, 7, 8, 13, 16, 17, 33, 64, 65)
EXACT = np.longdouble  # wider than float64 where the platform has it; the bounds below hold where it does not


def normal(rng, shape, dtype):
    return rng.standard_normal(shape).astype(dtype)


def assert_within(got, exact, bound):
    excess = np.abs(got.astype(EXACT) - exact) - bound
    assert not np.any(excess > 0), f"off by {excess.max()} more than rounding allows"


def sum_bound(n_terms, magnitude, dtype):
    """Return how far a sum of products may be off: n roundings of half a unit, and as many of the exact result."""
    return (n_terms + 1) * np.finfo(dtype).eps * magnitude


def shuffled_rows(rng, n_rows, width):
    """Return where rows start in a larger buffer: in shuffled order, at odd distances."""
    return rng.permutation(n_rows + 3)[:n_rows].astype(np.int64) * (width + 3) + 1


class Forward:
    """The forward pass of one layer with all its buffers. The rows of x are shuffled in a larger one."""

    def __init__(self, rng, dtype, lanes, padded, n_rows, n_in, n_vectors, gap=1):
        n_out, self.pitch = n_vectors * lanes, (n_vectors + gap) * lanes
        self.x_buffer = normal(rng, (n_rows + 3) * (n_in + 3) + 1 + n_in, dtype)
        self.starts = np.concatenate([[10**9] * 2, shuffled_rows(rng, n_rows, n_in), [10**9]])
        self.x = np.array([self.x_buffer[s : s + n_in] for s in self.starts[2:-1]])
        self.w = padded(normal(rng, (n_in, n_out), dtype), self.pitch, 3 * lanes)
        self.b = padded(normal(rng, (1, n_out), dtype), n_out, lanes)
        self.out = padded(np.full((n_rows, n_out), 77, dtype), self.pitch, 2 * lanes)
        self.rows, self.columns = (0, n_rows), (0, n_vectors)

    def run(self, call, rows=None, columns=None, floor=-np.inf, prefetched=None):
        call.forward(
            out=self.out.flat, at=self.out.at, x=self.x_buffer, starts=self.starts, starts_at=2, w=self.w.flat,
            w_at=self.w.at, b=self.b.flat, b_at=self.b.at, n_in=self.x.shape[1], pitch=self.pitch,
            rows=rows or self.rows, columns=columns or self.columns, floor=floor,
            prefetched=prefetched,
        )  # fmt: skip
        return self.out.view

    def check(self, got, floor=-np.inf):
        x, w, b = (a.astype(EXACT) for a in (self.x, self.w.values, self.b.values))
        bound = sum_bound(x.shape[1], np.abs(x) @ np.abs(w) + np.abs(b), self.x.dtype)
        assert_within(got, np.maximum(x @ w + b, floor), bound)
        assert self.out.nothing_else_changed()


@pytest.mark.parametrize("n_rows", SIZES)
@pytest.mark.parametrize("n_in", SIZES)
def test_forward(rng, dtype, lanes, padded, call, n_rows, n_in):
    for n_vectors in (1, 2, 3, 5):
        layer = Forward(rng, dtype, lanes, padded, n_rows, n_in, n_vectors)
        layer.check(layer.run(call))


@pytest.mark.parametrize("n_rows", range(1, 14))
@pytest.mark.parametrize("n_vectors", range(1, 10))
def test_forward_of_every_tail(rng, dtype, lanes, padded, call, n_rows, n_vectors):
    layer = Forward(rng, dtype, lanes, padded, n_rows, 5, n_vectors, gap=n_vectors % 2)
    layer.check(layer.run(call, floor=0.25), floor=0.25)
    whole = layer.out.view.copy()
    for n_left in (1, n_rows, 100):  # rows to prefetch
        layer.out.view[:] = 77
        order = np.arange(n_left) % n_rows
        np.testing.assert_array_equal(layer.run(call, floor=0.25, prefetched=order), whole)
        assert layer.out.nothing_else_changed()


def test_tails_use_every_shape_of_tile():
    shapes = {(tile.tile_height(left, vectors), vectors) for left in range(1, 20) for vectors in (1, 2, tile.VECTORS)}
    assert shapes == set(tile.SHAPES)


@pytest.mark.parametrize("n_vectors", range(1, 10))
def test_tiles_change_no_bit(rng, dtype, lanes, padded, call, n_vectors):
    layer = Forward(rng, dtype, lanes, padded, 29, 17, n_vectors)
    whole = layer.run(call).copy()
    for height, width in ((1, 1), (5, 2), (29, 1), (1, n_vectors)):
        layer.out.view[:] = 0
        for row in range(0, 29, height):
            for column in range(0, n_vectors, width):
                layer.run(call, (row, min(row + height, 29)), (column, min(column + width, n_vectors)))
        np.testing.assert_array_equal(layer.out.view, whole)


@pytest.mark.parametrize(
    ("rows", "columns"), [((2, 9), (0, 5)), ((0, 11), (1, 4)), ((4, 5), (3, 5)), ((3, 3), (0, 5)), ((0, 11), (2, 2))]
)
def test_forward_leaves_other_rows_and_columns(rng, dtype, lanes, padded, call, rows, columns):
    layer = Forward(rng, dtype, lanes, padded, 11, 7, 5)
    whole = layer.run(call).copy()
    layer.out.view[:] = 77
    got = layer.run(call, rows, columns).copy()
    inside = slice(*rows), slice(columns[0] * lanes, columns[1] * lanes)
    np.testing.assert_array_equal(got[inside], whole[inside])
    got[inside] = 77
    assert np.all(got == 77)
    assert layer.out.nothing_else_changed()


def test_forward_of_special_numbers(rng, dtype, lanes, padded, call):
    layer = Forward(rng, dtype, lanes, padded, 9, 4, 3)
    clean = layer.run(call, floor=0).copy()
    layer.x_buffer[layer.starts[2 + 3]] = np.nan
    layer.x_buffer[layer.starts[2 + 5] + 1] = np.inf
    layer.w.view[1, 1:3] = 0, -1
    got = layer.run(call, floor=0)
    assert np.all(np.isnan(got[3]))  # ReLU keeps NaN
    others = [i for i in range(9) if i not in (3, 5)]
    columns = [c for c in range(3 * lanes) if c not in (1, 2)]
    np.testing.assert_array_equal(got[np.ix_(others, columns)], clean[np.ix_(others, columns)])
    assert np.isnan(got[5, 1])  # infinity times zero
    assert got[5, 2] == 0
    np.testing.assert_array_equal(got[5, columns], np.where(layer.w.view[1, columns] > 0, np.inf, 0))


def test_relu_of_negative_zero_and_below(dtype, lanes, padded, call):
    out = np.full(lanes, 5, dtype)
    z = np.linspace(-1, 1, lanes).astype(dtype)
    z[0] = -0.0
    starts, zero = np.zeros(1, np.int64), np.zeros(lanes, dtype)
    call.forward(out=out, x=zero, starts=starts, w=zero, b=z, n_in=1, pitch=lanes, rows=(0, 1), columns=(0, 1), floor=0)
    np.testing.assert_array_equal(out, np.maximum(z, 0))


class Update:
    """The update of one layer with all its buffers. The rows of x are shuffled in a larger one."""

    def __init__(self, rng, dtype, lanes, padded, n_rows, n_in, n_vectors, gap=1, rate=-0.3):
        n_out, self.pitch = n_vectors * lanes, (n_vectors + gap) * lanes
        self.rate = rate
        self.x_buffer = normal(rng, (n_rows + 3) * (n_in + 3) + 1 + n_in, dtype)
        self.starts = np.concatenate([[10**9], shuffled_rows(rng, n_rows, n_in), [10**9]])
        self.x = np.array([self.x_buffer[s : s + n_in] for s in self.starts[1:-1]])
        self.w = padded(normal(rng, (n_in, n_out), dtype), self.pitch, 3 * lanes)
        self.delta = padded(normal(rng, (n_rows, n_out), dtype), self.pitch, lanes)
        self.zeros = np.zeros(tile.VECTORS * lanes, dtype)
        self.inputs, self.columns = (0, n_in), (0, n_vectors)

    def run(self, call, inputs=None, columns=None):
        call.update(
            w=self.w.flat, at=self.w.at, x=self.x_buffer, starts=self.starts, starts_at=1, delta=self.delta.flat,
            delta_at=self.delta.at, zeros=self.zeros, n_rows=len(self.x), pitch=self.pitch,
            inputs=inputs or self.inputs, columns=columns or self.columns, rate=self.rate,
        )  # fmt: skip
        return self.w.view

    def check(self, got):
        dtype = self.x.dtype
        rate = EXACT(dtype.type(self.rate))
        x, w, delta = (a.astype(EXACT) for a in (self.x, self.w.values, self.delta.values))
        exact = w + rate * (x.T @ delta)
        bound = abs(rate) * sum_bound(len(x), np.abs(x.T) @ np.abs(delta), dtype) + np.finfo(dtype).eps * np.abs(exact)
        assert_within(got, exact, bound)
        assert self.w.nothing_else_changed()
        assert not self.zeros.any()


@pytest.mark.parametrize("n_rows", SIZES)
@pytest.mark.parametrize("n_in", SIZES)
def test_update(rng, dtype, lanes, padded, call, n_rows, n_in):
    for n_vectors in (1, 2, 3, 5):
        layer = Update(rng, dtype, lanes, padded, n_rows, n_in, n_vectors)
        layer.check(layer.run(call))


@pytest.mark.parametrize("n_in", range(1, 14))
@pytest.mark.parametrize("n_vectors", range(1, 10))
def test_update_of_every_tail(rng, dtype, lanes, padded, call, n_in, n_vectors):
    layer = Update(rng, dtype, lanes, padded, 5, n_in, n_vectors, gap=n_vectors % 2)
    layer.check(layer.run(call))


@pytest.mark.parametrize("n_vectors", range(1, 10))
def test_tiles_change_no_bit_of_an_update(rng, dtype, lanes, padded, call, n_vectors):
    layer = Update(rng, dtype, lanes, padded, 17, 29, n_vectors)
    whole = layer.run(call).copy()
    for height, width in ((1, 1), (5, 2), (29, 1), (1, n_vectors)):
        layer.w.view[:] = layer.w.values
        for i in range(0, 29, height):
            for column in range(0, n_vectors, width):
                layer.run(call, (i, min(i + height, 29)), (column, min(column + width, n_vectors)))
        np.testing.assert_array_equal(layer.w.view, whole)


@pytest.mark.parametrize(
    ("inputs", "columns"), [((2, 9), (0, 5)), ((0, 11), (1, 4)), ((4, 5), (3, 5)), ((3, 3), (0, 5)), ((0, 11), (2, 2))]
)
def test_update_leaves_other_rows_and_columns(rng, dtype, lanes, padded, call, inputs, columns):
    layer = Update(rng, dtype, lanes, padded, 7, 11, 5)
    whole = layer.run(call).copy()
    layer.w.view[:] = layer.w.values
    expected = layer.w.values.copy()
    inside = slice(*inputs), slice(columns[0] * lanes, columns[1] * lanes)
    expected[inside] = whole[inside]
    np.testing.assert_array_equal(layer.run(call, inputs, columns), expected)
    assert layer.w.nothing_else_changed()


def test_update_by_nan_reaches_its_own_weights_only(rng, dtype, lanes, padded, call):
    layer = Update(rng, dtype, lanes, padded, 6, 9, 3)
    layer.x_buffer[layer.starts[1 + 2] + 4] = np.nan
    assert np.array_equal(np.isnan(layer.run(call)).all(axis=1), np.arange(9) == 4)
    assert np.isnan(layer.w.view).any(axis=1).sum() == 1


@pytest.mark.parametrize("n_rows", SIZES)
@pytest.mark.parametrize("columns", [(0, 1), (0, 5), (1, 4), (2, 2)])
def test_update_bias(rng, dtype, lanes, padded, call, n_rows, columns):
    delta = padded(normal(rng, (n_rows, 5 * lanes), dtype), 6 * lanes, lanes)
    b = padded(normal(rng, (1, 5 * lanes), dtype), 5 * lanes, 2 * lanes)
    call.update_bias(
        b=b.flat, at=b.at, delta=delta.flat, delta_at=delta.at, zeros=np.zeros(lanes, dtype), n_rows=n_rows,
        pitch=6 * lanes, columns=columns, rate=-0.3,
    )  # fmt: skip
    rate = EXACT(dtype.type(-0.3))
    exact = b.values[0] + rate * delta.values.astype(EXACT).sum(axis=0)
    bound = abs(rate) * sum_bound(n_rows, np.abs(delta.values).sum(axis=0), dtype) + np.finfo(dtype).eps * np.abs(exact)
    inside = slice(columns[0] * lanes, columns[1] * lanes)
    assert_within(b.view[0, inside], exact[inside], bound[inside])
    untouched = b.view[0].copy()
    untouched[inside] = b.values[0, inside]
    np.testing.assert_array_equal(untouched, b.values[0])
    assert b.nothing_else_changed()


@pytest.mark.parametrize("squares", [(1, 1), (2, 3), (4, 1)])
def test_transpose(rng, dtype, lanes, padded, squares):
    n_in, n_out = squares[0] * lanes, squares[1] * lanes
    w = padded(normal(rng, (n_in, n_out), dtype), n_out + lanes, lanes)
    out = padded(np.full((n_out, n_in), 77, dtype), n_in + 2 * lanes, 3 * lanes)
    matmul.transpose(Matrix(out.flat, out.at, out.pitch), Matrix(w.flat, w.at, w.pitch), Block(0, n_in, 0, squares[1]))
    np.testing.assert_array_equal(out.view, w.values.T)
    assert out.nothing_else_changed()


def test_transpose_of_some_squares(rng, dtype, lanes, padded):
    w = padded(normal(rng, (4 * lanes, 4 * lanes), dtype), 4 * lanes, 0)
    out = padded(np.full((4 * lanes, 4 * lanes), 77, dtype), 4 * lanes, 0)
    # the last square starts inside the block, so it is transposed whole: rows are padded to whole squares
    block = Block(lanes, 2 * lanes + 1, 1, 3)
    matmul.transpose(Matrix(out.flat, 0, out.pitch), Matrix(w.flat, 0, w.pitch), block)
    expected = np.full_like(out.values, 77)
    inside = slice(lanes, 3 * lanes), slice(lanes, 3 * lanes)
    expected[inside] = w.values.T[inside]
    np.testing.assert_array_equal(out.view, expected)


def test_add_and_clear(rng, dtype, lanes):
    y, x = normal(rng, 6 * lanes, dtype), normal(rng, 6 * lanes, dtype)
    expected_y, expected_x, exact = y.copy(), x.copy(), y + EXACT(dtype.type(-0.7)) * x
    matmul.add_and_clear(y, x, lanes, 4 * lanes, -0.7)
    assert_within(
        y[lanes : 4 * lanes], exact[lanes : 4 * lanes], np.finfo(dtype).eps * np.abs(exact[lanes : 4 * lanes])
    )
    expected_y[lanes : 4 * lanes], expected_x[lanes : 4 * lanes] = y[lanes : 4 * lanes], 0
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(x, expected_x)

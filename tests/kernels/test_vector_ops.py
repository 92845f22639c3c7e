"""Vectors in memory: loads, stores, lanes, sums, and the transposition of squares, each against NumPy."""

import math

import numpy as np

from fastmlp.kernels import simd, vector_ops
from fastmlp.kernels.jit import kernel
from fastmlp.kernels.structs import Matrix


@kernel
def count_kernel(x):
    return vector_ops.lane_count(x)


@kernel
def copy_kernel(out, at, x, x_at):
    vector_ops.store(out, at, vector_ops.load(x, x_at))


@kernel
def copy_first_kernel(out, x, at, count, fill):
    vector_ops.store(out, 0, vector_ops.first_lanes(vector_ops.load(x, at), count, fill))


@kernel
def splat_kernel(out, number):
    vector_ops.store(out, 0, vector_ops.splat(out, number))


@kernel
def sum_kernel(x):
    return vector_ops.reduce_add(vector_ops.load(x, 0))


@kernel
def with_lane_kernel(x, i, number):
    v = vector_ops.set_lane(vector_ops.load(x, 0), i, number)
    vector_ops.store(x, 0, v)
    return vector_ops.lane(v, i)


@kernel
def transpose_kernel(out, out_at, out_pitch, x, x_at, x_pitch):
    vector_ops.transpose_square(Matrix(out, out_at, out_pitch), Matrix(x, x_at, x_pitch))


@kernel
def peek_kernel(x, at):
    return vector_ops.peek(x, at)


def test_widths(dtype, lanes):
    assert count_kernel(np.zeros(1, dtype)) == lanes
    assert lanes * dtype.itemsize == simd.VECTOR_BYTES in (16, 32, 64)


def test_load_and_store(rng, dtype, lanes):
    x = rng.standard_normal(4 * lanes).astype(dtype)
    for at in range(2 * lanes):  # any element may start a vector
        out = np.full(4 * lanes, 7, dtype)
        copy_kernel(out, at, x, at + 1)
        expected = np.full(4 * lanes, 7, dtype)
        expected[at : at + lanes] = x[at + 1 : at + 1 + lanes]
        np.testing.assert_array_equal(out, expected)


def test_load_first(rng, dtype, lanes):
    x = rng.standard_normal(3 * lanes).astype(dtype)
    x[2 * lanes :] = np.nan
    for count in range(1, 2 * lanes + 3):
        at, out = 2 * lanes - count % lanes, np.zeros(lanes, dtype)
        copy_first_kernel(out, x, at, count, -math.inf)
        np.testing.assert_array_equal(out, np.where(np.arange(lanes) < count, x[at : at + lanes], -np.inf))


def test_splat(dtype, lanes):
    out = np.zeros(lanes, dtype)
    for number in (0.1, -math.inf, 3.0, dtype.type(0.7)):
        splat_kernel(out, number)
        np.testing.assert_array_equal(out, np.full(lanes, number, dtype))


def test_sum_is_taken_by_halves(rng, dtype, lanes):
    x = rng.standard_normal(lanes).astype(dtype)
    halves = x.copy()
    while len(halves) > 1:
        halves = halves[: len(halves) // 2] + halves[len(halves) // 2 :]
    assert sum_kernel(x) == halves[0]
    assert type(sum_kernel(x)) is float
    x[lanes - 1] = np.nan
    assert math.isnan(sum_kernel(x))


def test_a_lane_is_set_and_read(rng, dtype, lanes):
    x = rng.standard_normal(lanes).astype(dtype)
    for i in range(lanes):
        wanted = x.copy()
        wanted[i] = i / 3
        assert with_lane_kernel(x, i, i / 3) == dtype.type(i / 3)
        np.testing.assert_array_equal(x, wanted)


def test_transpose_square(rng, dtype, lanes):
    for out_gap, gap in ((0, 0), (1, 3), (lanes, 2 * lanes)):
        pitch, out_pitch = lanes + gap, lanes + out_gap
        x = rng.standard_normal(2 + lanes * pitch).astype(dtype)
        out = np.full(3 + lanes * out_pitch, 7, dtype)
        transpose_kernel(out, 3, out_pitch, x, 2, pitch)
        square = x[2:].reshape(lanes, pitch)[:, :lanes]
        np.testing.assert_array_equal(out[3:].reshape(lanes, out_pitch)[:, :lanes], square.T)
        assert np.all(out[:3] == 7)
        assert np.all(out[3:].reshape(lanes, out_pitch)[:, lanes:] == 7)


def test_peek():
    x = np.array([3, -5], np.int64)
    assert [peek_kernel(x, 0), peek_kernel(x, 1)] == [3, -5]

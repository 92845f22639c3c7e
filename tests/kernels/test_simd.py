"""Vectors: loads, stores, reductions, the transposition of squares, and the formulas, each lane against NumPy."""

import math

import numpy as np

from fastmlp.kernels import simd, vmath
from fastmlp.kernels.jit import kernel

exp_formula = simd.formula(vmath.exp)
fma_formula = simd.formula(simd.fma)
maximum_formula = simd.formula(simd.maximum)
mixed_formula = simd.formula(lambda a, b: (2 - a) * 3 + (1 / b - (-a)) - a / b * 0.5 + (1 + a))
where_formula = simd.formula(lambda a, b: simd.where(a > b, a - b, 7))
equal_formula = simd.formula(lambda a, b: simd.where(a == b, 1.0, simd.where(b > a, b, 0.0)))


def over_vectors(formula):
    """A kernel that applies a formula of one vector to a whole array."""

    @kernel
    def apply(out, x):
        for at in range(0, len(x), simd.lane_count(x)):
            simd.store(out, at, formula(simd.load(x, at)))

    return apply


def over_pairs(formula):
    @kernel
    def apply(out, x, y):
        for at in range(0, len(x), simd.lane_count(x)):
            simd.store(out, at, formula(simd.load(x, at), simd.load(y, at)))

    return apply


exp_kernel, mixed_kernel, where_kernel, equal_kernel, maximum_kernel = (
    over_vectors(exp_formula),
    *map(over_pairs, (mixed_formula, where_formula, equal_formula, maximum_formula)),
)


@kernel
def fma_kernel(out, a, b, number):
    simd.store(out, 0, fma_formula(simd.load(a, 0), simd.load(b, 0), number))


@kernel
def count_kernel(x):
    return simd.lane_count(x)


@kernel
def copy_kernel(out, at, x, x_at):
    simd.store(out, at, simd.load(x, x_at))


@kernel
def copy_first_kernel(out, x, at, count, fill):
    simd.store(out, 0, simd.first_lanes(simd.load(x, at), count, fill))


@kernel
def splat_kernel(out, number):
    simd.store(out, 0, simd.splat(out, number))


@kernel
def sum_kernel(x):
    return simd.reduce_add(simd.load(x, 0))


@kernel
def with_lane_kernel(x, i, number):
    v = simd.set_lane(simd.load(x, 0), i, number)
    simd.store(x, 0, v)
    return simd.lane(v, i)


@kernel
def transpose_kernel(out, out_at, out_pitch, x, x_at, x_pitch):
    simd.transpose_square(out, out_at, out_pitch, x, x_at, x_pitch)


@kernel
def peek_kernel(x, at):
    return simd.peek(x, at)


def applied(apply, *arrays):
    """Apply a kernel to arrays of any length: the last vector is filled up."""
    n, lanes = len(arrays[0]), simd.lanes(arrays[0].dtype)
    whole = [np.concatenate([a, np.ones(-n % lanes, a.dtype)]) for a in arrays]
    out = np.empty_like(whole[0])
    apply(out, *whole)
    return out[:n]


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
    for number in (0.1, -math.inf, 3, dtype.type(0.7)):
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


# --- formulas ---------------------------------------------------------------------------------------------------------


def test_operators_are_those_of_numbers(rng, dtype):
    a, b = (rng.standard_normal(1000).astype(dtype) for _ in range(2))
    one, half = dtype.type(1), dtype.type(0.5)
    expected = (2 - a) * 3 + (one / b - (-a)) - a / b * half + (1 + a)
    np.testing.assert_array_equal(applied(mixed_kernel, a, b), expected)


def test_comparisons(dtype):
    values = np.array([-np.inf, -1, -0.0, 0.0, 1, np.inf, np.nan], dtype)
    a, b = (grid.ravel() for grid in np.meshgrid(values, values))
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(applied(where_kernel, a, b), np.where(a > b, a - b, 7))
    np.testing.assert_array_equal(applied(equal_kernel, a, b), np.where(a == b, 1, np.where(b > a, b, 0)))


def test_maximum_keeps_a_nan_of_its_second_operand(dtype):
    bound = np.array([0, 0, 0, 0, np.nan, -np.inf, 0.0, 1], dtype)
    v = np.array([-1, 2, np.nan, -np.inf, 3, np.nan, -0.0, 1], dtype)
    np.testing.assert_array_equal(
        applied(maximum_kernel, bound, v), np.array([0, 2, np.nan, 0, 3, np.nan, 0, 1], dtype)
    )


def test_fma_is_rounded_once(dtype, lanes):
    eps = np.finfo(dtype).eps
    a, b, out = np.full(lanes, 1 + eps, dtype), np.full(lanes, 1 - eps, dtype), np.zeros(lanes, dtype)
    fma_kernel(out, a, b, -1.0)
    np.testing.assert_array_equal(out, np.full(lanes, -(eps**2), dtype))  # 0 where the product is rounded first


# --- exp --------------------------------------------------------------------------------------------------------------


def units_off(got, x):
    """How many units in the last place `got` is off from e**x."""
    exact = np.exp(x.astype(np.longdouble if x.dtype == np.float64 else np.float64))
    return np.abs((got - exact) / np.spacing(exact.astype(x.dtype)))


def exp_samples(rng, dtype):
    lowest = np.log(np.finfo(dtype).tiny) * (1 - 1e-6)
    near_halves = (np.arange(-120, 0) + 0.5) * np.log(2)  # where the rounding to n log 2 turns over
    tiny = -np.logspace(-12, 0, 10_000)
    samples = np.concatenate([np.linspace(lowest, 0, 200_000), rng.uniform(lowest, 0, 200_000), near_halves, tiny])
    return samples[samples >= lowest].astype(dtype)


def test_exp_is_right_to_two_units(rng, dtype):
    x = exp_samples(rng, dtype)
    off = units_off(applied(exp_kernel, x), x)
    assert off.max() <= 2, f"off by {off.max()} units at {x[off.argmax()]!r}"


def test_exp_of_special_numbers(dtype):
    lowest = np.finfo(dtype).min
    x = np.array(
        [0.0, -0.0, -np.inf, lowest, -1e4, np.nan, -np.finfo(dtype).tiny, -np.nextafter(dtype.type(0), 1)], dtype
    )
    np.testing.assert_array_equal(applied(exp_kernel, x), np.array([1, 1, 0, 0, 0, np.nan, 1, 1], dtype))


def test_exp_at_the_subnormal_edge(dtype):
    tiny = np.finfo(dtype).tiny
    edge = dtype.type(np.log(np.longdouble(tiny)))
    offsets = np.logspace(-16, -3, 4000)
    x = np.unique((edge * (1 + np.concatenate([-offsets, offsets]))).astype(dtype))
    got = applied(exp_kernel, x)
    assert np.all((got == 0) | (got >= tiny))  # no subnormal number is ever made
    assert np.all(got[x < edge - 2 * np.spacing(abs(edge))] == 0)
    flushed = (got == 0) & (x > edge)
    assert np.all(x[flushed] < edge * (1 - 1e-6))  # zero comes at most this early
    assert units_off(got[got > 0], x[got > 0]).max() <= 2
    assert np.all(np.diff(got) >= 0)
    assert np.all(applied(exp_kernel, edge * np.array([1.001, 1.1, 2, 100], dtype)) == 0)

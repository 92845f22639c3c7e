"""Formulas of whole vectors, each lane against NumPy."""

import numpy as np

from fastmlp.kernels import simd, trace, vector_ops, vmath
from fastmlp.kernels.jit import kernel

exp_formula = trace.formula(vmath.exp)
fma_formula = trace.formula(simd.fma)
maximum_formula = trace.formula(simd.maximum)
mixed_formula = trace.formula(lambda a, b: (2 - a) * 3 + (1 / b - (-a)) - a / b * 0.5 + (1 + a))
where_formula = trace.formula(lambda a, b: simd.where(a > b, a - b, 7))
equal_formula = trace.formula(lambda a, b: simd.where(a == b, 1.0, simd.where(b > a, b, 0.0)))


def over_vectors(formula):
    """A kernel that applies a formula of one vector to a whole array."""

    @kernel
    def apply(out, x):
        for at in range(0, len(x), vector_ops.lane_count(x)):
            vector_ops.store(out, at, formula(vector_ops.load(x, at)))

    return apply


def over_pairs(formula):
    @kernel
    def apply(out, x, y):
        for at in range(0, len(x), vector_ops.lane_count(x)):
            vector_ops.store(out, at, formula(vector_ops.load(x, at), vector_ops.load(y, at)))

    return apply


exp_kernel, mixed_kernel, where_kernel, equal_kernel, maximum_kernel = (
    over_vectors(exp_formula),
    *map(over_pairs, (mixed_formula, where_formula, equal_formula, maximum_formula)),
)


@kernel
def fma_kernel(out, a, b, number):
    vector_ops.store(out, 0, fma_formula(vector_ops.load(a, 0), vector_ops.load(b, 0), number))


def applied(apply, *arrays):
    """Apply a kernel to arrays of any length: the last vector is filled up."""
    n, lanes = len(arrays[0]), simd.lanes(arrays[0].dtype)
    whole = [np.concatenate([a, np.ones(-n % lanes, a.dtype)]) for a in arrays]
    out = np.empty_like(whole[0])
    apply(out, *whole)
    return out[:n]


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

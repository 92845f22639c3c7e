"""Functions of whole vectors, each lane against NumPy's longest numbers."""

import numpy as np
import pytest

from fastmlp.kernels import simd, trace, vector_ops, vmath
from fastmlp.kernels.jit import kernel

EXACT = np.longdouble


def over_vectors(function):
    """Apply a formula of one vector to a whole array."""
    formula = trace.formula(function)

    @kernel
    def apply(out, x):
        for at in range(0, len(x), vector_ops.lane_count(x)):
            vector_ops.store(out, at, formula(vector_ops.load(x, at)))

    def applied(x):
        whole = np.concatenate([x, np.ones(-len(x) % simd.lanes(x.dtype), x.dtype)])
        out = np.empty_like(whole)
        apply(out, whole)
        return out[: len(x)]

    return applied


FUNCTIONS = {  # compiled; exact; lowest and highest argument; units in the last place
    "exp": (over_vectors(vmath.exp), np.exp, -87, 0, 2),
    "exp of any": (over_vectors(vmath.exp_of_any), np.exp, -87, 87, 4),
    "expm1": (over_vectors(vmath.expm1), np.expm1, -100, 0, 2),
    "log1p": (over_vectors(vmath.log1p), np.log1p, 0, 1, 2),
    "logistic": (over_vectors(vmath.logistic), lambda z: 1 / (1 + np.exp(-z)), -85, 85, 4),
    "tanh": (over_vectors(vmath.tanh), np.tanh, -30, 30, 4),
}
log = over_vectors(vmath.log)
cosine, sine, sqrt = map(over_vectors, (lambda x: vmath.turn(x)[0], lambda x: vmath.turn(x)[1], simd.sqrt))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_accuracy(rng, dtype, name):
    apply, exact, low, high, units = FUNCTIONS[name]
    small = 10.0 ** rng.uniform(-30, 0, 5000)
    x = np.concatenate([rng.uniform(low, high, 20000), small, -small, [low, high]])
    x = x[(x >= low) & (x <= high)].astype(dtype)
    wanted = exact(x.astype(EXACT))
    beyond = np.abs(apply(x) - wanted) / np.spacing(np.abs(wanted).astype(dtype))
    assert beyond.max() <= units


def test_far_and_special_numbers(dtype):
    far = np.array([-1e4, -1e30, -np.inf, 0, np.nan], dtype)
    np.testing.assert_array_equal(FUNCTIONS["exp"][0](far), [0, 0, 0, 1, np.nan])
    np.testing.assert_array_equal(FUNCTIONS["exp of any"][0](far), [0, 0, 0, 1, np.nan])
    np.testing.assert_array_equal(FUNCTIONS["exp of any"][0](-far), [np.inf, np.inf, np.inf, 1, np.nan])
    np.testing.assert_array_equal(FUNCTIONS["expm1"][0](far), [-1, -1, -1, 0, np.nan])
    np.testing.assert_array_equal(FUNCTIONS["logistic"][0](far), [0, 0, 0, 0.5, np.nan])
    np.testing.assert_array_equal(FUNCTIONS["logistic"][0](-far), [1, 1, 1, 0.5, np.nan])
    np.testing.assert_array_equal(FUNCTIONS["tanh"][0](far), [-1, -1, -1, 0, np.nan])
    np.testing.assert_array_equal(FUNCTIONS["tanh"][0](-far), [1, 1, 1, 0, np.nan])
    np.testing.assert_array_equal(FUNCTIONS["log1p"][0](np.array([0, np.nan], dtype)), [0, np.nan])
    np.testing.assert_array_equal(np.signbit(FUNCTIONS["tanh"][0](np.array([-0.5, 0.5], dtype))), [True, False])


def test_logarithm(rng):
    near_one = 1 - 2.0 ** -np.arange(1, 53), 1 + 2.0 ** -np.arange(1, 53), [1]
    x = np.concatenate([rng.random(20000), rng.uniform(1, 3000, 20000), 2.0 ** rng.uniform(-900, 900, 5000), *near_one])
    wanted = np.log(x.astype(EXACT))
    assert np.max(np.abs(log(x) - wanted) / np.spacing(np.abs(wanted).astype(float))) <= 2


def test_turn_and_root(rng, dtype):
    x = np.concatenate([rng.random(20000), np.arange(65) / 64, 2.0 ** -rng.uniform(0, 300, 2000)])
    angle = 2 * np.arctan2(EXACT(0), EXACT(-1)) * x.astype(EXACT)
    np.testing.assert_allclose(cosine(x), np.cos(angle), rtol=0, atol=4e-16)
    np.testing.assert_allclose(sine(x), np.sin(angle), rtol=4e-16 * 4, atol=4e-16)
    np.testing.assert_array_equal(sqrt(x.astype(dtype)), np.sqrt(x.astype(dtype)))

"""Formulas of optimizers, to the bit those of `fastmlp.optimizers`; sums of squares."""

import inspect

import numpy as np
import pytest

from fastmlp.kernels import blockwise, optimizers
from fastmlp.kernels.jit import kernel
from fastmlp.kernels.structs import Matrix, Slots
from fastmlp.optimizers import SGD, Adagrad, Adam, AdamW, RMSprop, at_step

DECAY = {"weight_decay": 0.02}
OPTIMIZERS = {
    "sgd": SGD(**DECAY),
    "momentum": SGD(momentum=0.9, **DECAY),
    "nesterov": SGD(momentum=0.8, nesterov=True, **DECAY),
    "adam": Adam(betas=(0.8, 0.99), **DECAY),
    "adamw": AdamW(learning_rate=0.03),
    "rmsprop": RMSprop(**DECAY),
    "rmsprop_momentum": RMSprop(momentum=0.7, **DECAY),
    "rmsprop_centered": RMSprop(centered=True, **DECAY),
    "rmsprop_centered_momentum": RMSprop(centered=True, momentum=0.7, **DECAY),
    "adagrad": Adagrad(lr_decay=0.1, initial_accumulator_value=0.1, **DECAY),
}


def test_there_is_a_formula_of_each():
    assert optimizers.FORMULAS.keys() == OPTIMIZERS.keys()
    for name, optimizer in OPTIMIZERS.items():
        assert optimizer.formula == name
        named = optimizers.coefficient_names(optimizers.FORMULAS[name])
        assert named[0] == "rate"
        assert set(named) == optimizer.coefficients(np.array([1]), np.array([0.1])).keys()
        assert len(inspect.signature(optimizers.FORMULAS[name]).parameters) - len(named) == 2 + optimizer.slots


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_numbers_are_those_of_numpy(rng, dtype, lanes, padded, name):
    optimizer = OPTIMIZERS[name]
    apply = optimizers.apply_formula(optimizers.FORMULAS[name])

    @kernel
    def call(w, w_at, pitch, g, g_at, g_pitch, state, state_at, distance, coefficients, step, n_rows, n_vectors):
        slots = Slots(state, state_at, distance)
        apply(Matrix(w, w_at, pitch), Matrix(g, g_at, g_pitch), slots, coefficients, step, n_rows, n_vectors)

    n_rows, n_vectors = 5, 3
    shape, pitch = (n_rows, n_vectors * lanes), (n_vectors + 1) * lanes
    w = padded(rng.standard_normal(shape).astype(dtype), pitch, 2 * lanes)
    slots = [padded(np.zeros(shape, dtype), pitch, 3 * lanes) for _ in range(optimizer.slots)]
    state = np.concatenate([slot.flat for slot in slots] or [np.zeros(0, dtype)])
    views = [state[i * len(s.flat) :][: len(s.flat)] for i, s in enumerate(slots)]
    views = [v[3 * lanes : 3 * lanes + n_rows * pitch].reshape(n_rows, pitch)[:, : shape[1]] for v in views]
    optimizer.start(views)
    expected, expected_state = w.view.copy(), [v.copy() for v in views]
    rates = np.array([0.1, 0.3, 0.01])
    coefficients = optimizer.coefficients(np.arange(1, 4), rates)
    table = optimizers.coefficient_table(name, coefficients, np.nan, np.nan, np.nan)
    assert table.flags.c_contiguous
    for step in range(3):
        g = padded(rng.standard_normal(shape).astype(dtype), n_vectors * lanes, lanes)
        before = state.copy()
        call(
            w.flat, w.at, pitch, g.flat, g.at, g.pitch, state, 3 * lanes, len(slots[0].flat) if slots else 0, table,
            step, n_rows, n_vectors,
        )  # fmt: skip
        optimizer.update(expected, g.view, expected_state, at_step(coefficients, step))
        np.testing.assert_array_equal(w.view, expected)
        for got, wanted in zip(views, expected_state, strict=True):
            np.testing.assert_array_equal(got, wanted)
        assert np.count_nonzero(state != before) <= len(slots) * w.view.size  # and nothing beside
    assert w.nothing_else_changed()


def test_clipping(rng, dtype, lanes):
    g, w = rng.standard_normal((2, 3 * 2 * lanes)).astype(dtype)
    expected, scale = g + 0.5 * w, 0.7
    expected = np.clip(expected, -0.6, 0.6) * scale
    expected[lanes] = g[lanes] = np.nan
    blockwise.penalize_and_clip(Matrix(g, 0, 2 * lanes), Matrix(w, 0, 2 * lanes), 3, 2, 0.5, 0.6, scale)
    np.testing.assert_array_equal(g, expected)


@pytest.mark.parametrize("n_rows", [1, 2, 7, 33])
def test_sums_of_squares(rng, dtype, lanes, n_rows):
    n_vectors, stride = 3, -(-n_rows // lanes) + 2
    a = rng.standard_normal((n_rows, n_vectors * lanes)).astype(dtype)
    sums = np.full(n_vectors * stride + 5, -1.0)
    blockwise.sum_squares(sums, 4, stride, Matrix(a.ravel(), 0, n_vectors * lanes), n_rows, n_vectors)
    for column in range(n_vectors):
        for square in range(-(-n_rows // lanes)):
            block = a[square * lanes : (square + 1) * lanes, column * lanes : (column + 1) * lanes].astype(float)
            got = sums[4 + column * stride + square]
            assert got == pytest.approx((block**2).sum(), rel=1e-6 if dtype == np.float32 else 1e-14)
    assert np.count_nonzero(sums == -1) == len(sums) - n_vectors * -(-n_rows // lanes)
    whole = np.arange(16.0)
    assert blockwise.total_of(whole, 8, 16) == whole[8:].sum()

"""Softmax, its cross-entropy and the gradient, row by row, against NumPy, finite differences and the reference."""

import math

import numpy as np
import pytest

from fastmlp import losses as reference_losses
from fastmlp import reference
from fastmlp.kernels import jit, losses, simd

EXACT = np.longdouble
SMOOTHING = 0.2
CLASSES = (1, 2, 3, 7, 8, 10, 13, 16, 17, 33, 65)


@jit.kernel
def _softmax_in_place(z, at, n_out):
    largest = losses.largest_of(z, at, n_out)
    return largest, losses.softmax(z, at, n_out, largest, 1.0)


def softmax_in_place(row, n_out):
    """The kernel on a padded row; its largest output and the sum of exponentials."""
    return _softmax_in_place(row.flat, row.at, n_out)


def softmax(z):
    z = z.astype(EXACT)
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def cross_entropy(z, labels):
    z = z.astype(EXACT)
    top = z.max(axis=1)
    return np.log(np.exp(z - top[:, None]).sum(axis=1)) + top - z[np.arange(len(z)), labels]


def row_of(padded, lanes, z):
    """One row, its last vector filled up with NaN: nothing may depend on what is there."""
    width = -(-len(z) // lanes) * lanes
    row = padded(np.full((1, width), np.nan, z.dtype), width, lanes)
    row.view[0, : len(z)] = z
    return row


# --- softmax ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_out", CLASSES)
@pytest.mark.parametrize("scale", [1e-3, 1, 30])
def test_softmax(rng, dtype, lanes, padded, n_out, scale):
    eps = np.finfo(dtype).eps
    z = rng.normal(scale=scale, size=n_out).astype(dtype)
    row = row_of(padded, lanes, z)
    largest, norm = softmax_in_place(row, n_out)
    p, exact = row.view[0, :n_out], softmax(z)
    # the difference z - max z is rounded, and exp makes a relative error of it
    bound = (6 + n_out) * eps + eps * (z.max() - z.astype(EXACT))
    assert np.all(np.abs(p - exact) <= bound * exact + np.finfo(dtype).tiny)
    assert abs(p.astype(EXACT).sum() - 1) <= (2 + n_out) * eps
    assert np.all((p >= 0) & (p <= 1 + eps))
    assert largest == z.max()
    exact_norm = np.exp(z.astype(EXACT) - z.max()).sum()
    assert abs(norm - exact_norm) <= (4 + n_out) * eps * exact_norm
    assert not row.view[0, n_out:].any()  # the lanes that belong to no class
    assert row.nothing_else_changed()


@pytest.mark.parametrize("n_out", CLASSES)
def test_softmax_of_large_outputs(dtype, lanes, padded, n_out):
    for places in ([0], [n_out - 1], range(n_out)):
        for large in (1e30, -1e30, float(np.finfo(dtype).max)):
            z = np.full(n_out, 0 if large > 0 else -float(np.finfo(dtype).max), dtype)
            z[list(places)] = large
            row = row_of(padded, lanes, z)
            softmax_in_place(row, n_out)
            expected = (z == z.max()) / np.count_nonzero(z == z.max())
            np.testing.assert_allclose(row.view[0, :n_out], expected, rtol=4 * np.finfo(dtype).eps)


def test_softmax_of_minus_infinity_and_nan(dtype, lanes, padded):
    row = row_of(padded, lanes, np.array([0, -np.inf, 0, -np.inf], dtype))
    softmax_in_place(row, 4)
    np.testing.assert_array_equal(row.view[0, :4], [0.5, 0, 0.5, 0])
    for n_out in (4, 2 * lanes + 1):
        for place in range(n_out):
            z = np.zeros(n_out, dtype)
            z[place] = np.nan
            row = row_of(padded, lanes, z)
            softmax_in_place(row, n_out)
            assert np.all(np.isnan(row.view[0, :n_out]))


# --- argmax -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_out", CLASSES)
def test_argmax(rng, dtype, lanes, padded, n_out):
    for place in range(n_out):
        z = rng.standard_normal(n_out).astype(dtype)
        z[place] = 9
        row = row_of(padded, lanes, z)
        assert losses.argmax(row.flat, row.at, n_out) == place
        assert row.nothing_else_changed()


@pytest.mark.parametrize("n_out", CLASSES)
def test_argmax_of_equal_outputs_is_the_first(rng, dtype, lanes, padded, n_out):
    for number in (0, -3, 5, -np.inf, np.inf):
        row = row_of(padded, lanes, np.full(n_out, number, dtype))
        assert losses.argmax(row.flat, row.at, n_out) == 0
    for _ in range(20):
        z = rng.integers(0, 3, n_out).astype(dtype)
        row = row_of(padded, lanes, z)
        assert losses.argmax(row.flat, row.at, n_out) == z.argmax()


def test_argmax_looks_at_no_other_lane(dtype, lanes, padded):
    z = np.arange(3, dtype=dtype)
    row = padded(np.full((1, lanes), np.inf, dtype), lanes, 0)
    n_out = min(3, lanes - 1)
    row.view[0, :n_out] = z[:n_out]
    assert losses.argmax(row.flat, 0, n_out) == n_out - 1


# --- cross-entropy ----------------------------------------------------------------------------------------------------


class Batch:
    """Outputs of the last layer with all buffers of the loss."""

    def __init__(self, padded, lanes, z, targets):
        n_rows, n_out = z.shape
        width = -(-n_out // lanes) * lanes
        self.z, self.targets = z, np.asarray(targets, np.int32 if np.ndim(targets) == 1 else z.dtype).ravel()
        self.buffer = padded(np.full((n_rows, width), np.nan, z.dtype), width + lanes, lanes)
        self.buffer.view[:, :n_out] = z
        self.row_loss, self.correct = np.full(n_rows, -7.0), np.zeros(n_rows, np.bool_)
        self.correct[::2] = True
        self.correct_before = self.correct.copy()

    def run(self, call, rows=None, **settings):
        n_rows, self.n_out = self.z.shape
        call.loss(
            row_loss=self.row_loss, correct=self.correct, z=self.buffer.flat, at=self.buffer.at,
            pitch=self.buffer.pitch, targets=self.targets, n_out=self.n_out, rows=rows or (0, n_rows), **settings,
        )  # fmt: skip
        return self.row_loss, self.correct, self.buffer.view[:, : self.n_out]


@pytest.mark.parametrize("n_out", CLASSES)
@pytest.mark.parametrize("n_rows", [1, 3, 13, 37])
def test_cross_entropy_and_its_gradient(rng, dtype, lanes, padded, call, n_out, n_rows):
    eps = np.finfo(dtype).eps
    z = rng.normal(scale=3, size=(n_rows, n_out)).astype(dtype)
    labels = rng.integers(0, n_out, n_rows)
    batch = Batch(padded, lanes, z, labels)
    weight = 1 / n_rows
    loss, correct, gradient = batch.run(call, weight=weight)
    spread = np.ptp(z, axis=1).astype(EXACT)
    assert np.all(np.abs(loss - cross_entropy(z, labels)) <= eps * (4 + n_out + spread))
    np.testing.assert_array_equal(correct, z.argmax(axis=1) == labels)
    exact = softmax(z)
    bound = eps * (8 + n_out + spread[:, None]) * np.maximum(exact, 1e-30)
    exact[np.arange(n_rows), labels] -= 1
    bound[np.arange(n_rows), labels] += eps
    assert np.all(np.abs(gradient - exact * EXACT(weight)) <= bound * weight)
    # the same numbers from the textbook
    np.testing.assert_allclose(
        loss, reference.cross_entropy(z.astype(float), labels), rtol=0, atol=eps * (14 + n_out + 20)
    )
    assert not batch.buffer.view[:, n_out:].any()
    assert batch.buffer.nothing_else_changed()


@pytest.mark.parametrize("n_out", [2, 7, 17])
def test_gradient_meets_finite_differences(rng, padded, call, n_out):
    lanes, h = simd.lanes("float64"), 1e-6
    z, labels = rng.standard_normal((1, n_out)), [n_out // 2]
    _, _, gradient = Batch(padded, lanes, z, labels).run(call)
    for o in range(n_out):
        losses_around = []
        for sign in (1, -1):
            moved = z.copy()
            moved[0, o] += sign * h
            losses_around.append(Batch(padded, lanes, moved, labels).run(call)[0][0])
        assert gradient[0, o] == pytest.approx((losses_around[0] - losses_around[1]) / (2 * h), abs=1e-9)


@pytest.mark.parametrize("n_out", CLASSES)
@pytest.mark.parametrize("weighted", [False, True])
def test_many_rows_at_once_have_the_bits_of_one(rng, dtype, lanes, padded, call, n_out, weighted):
    n_rows = 2 * lanes + 3
    z, labels = rng.normal(scale=3, size=(n_rows, n_out)).astype(dtype), rng.integers(0, n_out, n_rows)
    weights = rng.random(n_rows if weighted else 0).astype(dtype)
    odd = z.copy()
    for row, number in enumerate((np.nan, np.inf, -np.inf, 1e30, -1e30)):
        odd[row], odd[lanes + row, n_out // 2] = number, number
    for values in (odd, z):
        together, apart = (Batch(padded, lanes, values, labels) for _ in range(2))
        loss, correct, gradient = together.run(call, weight=0.3, row_weights=weights)
        for row in range(n_rows):
            apart.run(call, rows=(row, row + 1), weight=0.3, row_weights=weights)
        np.testing.assert_array_equal(loss, apart.row_loss)
        np.testing.assert_array_equal(correct, apart.correct)
        np.testing.assert_array_equal(gradient, apart.buffer.view[:, :n_out])
    if weighted:
        np.testing.assert_allclose(
            loss, weights * cross_entropy(z, labels), rtol=0, atol=(30 + n_out) * np.finfo(dtype).eps
        )
        exact = softmax(z)
        exact[np.arange(n_rows), labels] -= 1
        exact *= 0.3 * weights[:, None].astype(EXACT)
        np.testing.assert_allclose(gradient, exact, rtol=0, atol=(8 + n_out) * np.finfo(dtype).eps)
    assert together.buffer.nothing_else_changed()


def test_other_rows_are_left(rng, dtype, lanes, padded, call):
    z, labels = rng.standard_normal((9, 5)).astype(dtype), rng.integers(0, 5, 9)
    whole, part = (Batch(padded, lanes, z, labels) for _ in range(2))
    full = whole.run(call)
    loss, correct, gradient = part.run(call, rows=(2, 6))
    np.testing.assert_array_equal(loss[2:6], full[0][2:6])
    np.testing.assert_array_equal(correct[2:6], full[1][2:6])
    np.testing.assert_array_equal(gradient[2:6], full[2][2:6])
    others = [0, 1, 6, 7, 8]
    assert np.all(loss[others] == -7)
    np.testing.assert_array_equal(correct[others], part.correct_before[others])
    np.testing.assert_array_equal(gradient[others], z[others])
    assert part.buffer.nothing_else_changed()


def test_loss_of_large_outputs(dtype, lanes, padded, call):
    z = np.array([[1e30, 0, -1e30], [1e30, 0, -1e30], [-1e30] * 3, [200, 0, 0], [200, 0, 0]], dtype)
    loss, correct, gradient = Batch(padded, lanes, z, [0, 1, 2, 1, 0]).run(call)
    np.testing.assert_allclose(loss, [0, 1e30, math.log(3), 200, 0], rtol=1e-6)
    np.testing.assert_array_equal(correct, [True, False, False, False, True])
    third = 1 / 3
    expected = [[0, 0, 0], [1, -1, 0], [third, third, third - 1], [1, -1, 0], [0, 0, 0]]
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-30)


def test_loss_of_nan_and_infinity_is_not_finite(dtype, lanes, padded, call):
    for n_out in (3, 2 * lanes + 1):
        for place in (0, 1, n_out - 1):
            for bad in (np.nan, np.inf):
                z = np.zeros((3, n_out), dtype)
                z[1, place] = bad
                loss = Batch(padded, lanes, z, [0, 0, 0]).run(call)[0]
                assert not math.isfinite(loss[1]), (n_out, place, bad)
                np.testing.assert_allclose(loss[[0, 2]], math.log(n_out), rtol=1e-6)
    z = np.zeros((1, 3), dtype)
    z[0, 1] = -np.inf
    assert Batch(padded, lanes, z, [1]).run(call)[0][0] == np.inf
    assert Batch(padded, lanes, z, [0]).run(call)[0][0] == pytest.approx(math.log(2))


def test_loss_is_never_negative(rng, dtype, lanes, padded, call):
    z = rng.normal(scale=20, size=(200, 4)).astype(dtype)
    loss, _, gradient = Batch(padded, lanes, z, z.argmax(axis=1)).run(call)
    assert np.all(loss >= 0)
    assert np.all(np.abs(gradient.astype(EXACT).sum(axis=1)) <= 8 * np.finfo(dtype).eps)


# --- the other losses -------------------------------------------------------------------------------------------------


TEXTBOOK = {
    "smoothed softmax": lambda n_out: reference_losses.Softmax(n_out, SMOOTHING),
    "logistic": reference_losses.Logistic,
    "identity": reference_losses.Identity,
    "exp": reference_losses.Poisson,
}


def targets_for(name, rng, n_rows, n_out, dtype):
    if name == "smoothed softmax":
        return rng.integers(0, n_out, n_rows)
    if name == "logistic":
        return rng.integers(0, 2, (n_rows, n_out)).astype(dtype)
    if name == "exp":
        return rng.poisson(2.0, (n_rows, n_out)).astype(dtype)
    return rng.standard_normal((n_rows, n_out)).astype(dtype)


@pytest.mark.parametrize("n_out", CLASSES)
@pytest.mark.parametrize("name", TEXTBOOK)
@pytest.mark.parametrize("scale", [1e-3, 1, 30])
def test_losses_of_each_kind(rng, dtype, lanes, padded, call, name, n_out, scale):
    z = np.minimum(rng.normal(scale=scale, size=(13, n_out)), 80).astype(dtype)  # of which exp does not overflow
    y = targets_for(name, rng, 13, n_out, dtype)
    batch, textbook = Batch(padded, lanes, z, y), TEXTBOOK[name](n_out)
    loss, correct, gradient = batch.run(call, loss=name, smoothing=SMOOTHING, weight=0.25)
    exact, eps = z.astype(EXACT), np.finfo(dtype).eps
    wanted = textbook.losses(exact, y)
    np.testing.assert_allclose(loss, wanted, rtol=(8 + n_out) * eps, atol=(4 + scale) * eps * (2 + n_out))
    np.testing.assert_array_equal(correct, textbook.correct(z, y))
    slopes = textbook.gradient(exact, y) / 4
    np.testing.assert_allclose(gradient, slopes, rtol=8 * eps, atol=(8 + n_out + 10 * scale) * eps / (1 + n_out))
    assert not batch.buffer.view[:, n_out:].any()
    assert batch.buffer.nothing_else_changed()


@pytest.mark.parametrize("name", TEXTBOOK)
@pytest.mark.parametrize("n_out", [1, 3, 17])
def test_losses_of_each_kind_that_are_not_finite(rng, dtype, lanes, padded, call, name, n_out):
    y = targets_for(name, rng, 3, n_out, dtype)
    for bad in (np.nan, np.inf):
        for place in range(n_out):
            z = np.zeros((3, n_out), dtype)
            z[1, place] = -bad if name == "logistic" and y[1, place] else bad  # else it would be right
            loss = Batch(padded, lanes, z, y).run(call, loss=name, smoothing=SMOOTHING)[0]
            assert not math.isfinite(loss[1]), (place, bad)
            assert np.isfinite(loss[[0, 2]]).all()


def test_logistic_loss_of_large_outputs(dtype, lanes, padded, call):
    z = np.array([[1e30], [1e30], [-1e30], [-1e30], [100]], dtype)
    y = np.array([[1], [0], [1], [0], [1]], dtype)
    loss, correct, gradient = Batch(padded, lanes, z, y).run(call, loss="logistic")
    np.testing.assert_allclose(loss, [0, z[1, 0], z[1, 0], 0, math.exp(-100)], rtol=1e-5, atol=1e-40)
    np.testing.assert_array_equal(correct, [True, False, False, True, True])
    np.testing.assert_allclose(gradient[:, 0], [0, 1, -1, 0, 0], atol=1e-40)


@pytest.mark.parametrize("n_out", CLASSES)
@pytest.mark.parametrize("name", TEXTBOOK)
def test_answers_of_each_kind(rng, dtype, lanes, padded, name, n_out):
    z, textbook = rng.normal(scale=3, size=(5, n_out)).astype(dtype), TEXTBOOK[name](n_out)
    if name == "smoothed softmax" and n_out == 1:
        return
    width, n_columns = -(-n_out // lanes) * lanes, textbook.n_classes or n_out
    rows = padded(np.full((5, width), np.nan, dtype), width, lanes)
    numbers, labels = np.full((6, n_columns), -5, dtype), np.full((6, n_out), -5)
    for kernel, out in ((losses.LOSSES[name].numbers, numbers), (losses.LOSSES[name].labels, labels)):
        rows.view[:, :n_out] = z
        for row in range(5):
            kernel(out.reshape(-1), row, rows.flat, rows.at + row * width, n_out)
        assert rows.nothing_else_changed()
    assert np.all(numbers[5:] == -5)
    if name in ("identity", "exp"):
        eps = 4 * np.finfo(dtype).eps if name == "exp" else 0
        np.testing.assert_allclose(numbers[:5].ravel(), textbook.predicted(z.astype(EXACT)).ravel(), rtol=eps)
        return
    np.testing.assert_allclose(
        numbers[:5], textbook.probabilities(z.astype(EXACT)), rtol=(20 + n_out) * np.finfo(dtype).eps
    )
    found = labels.reshape(-1)[:5] if name == "smoothed softmax" else textbook.decode(labels[:5])
    np.testing.assert_array_equal(found, textbook.predicted(z))

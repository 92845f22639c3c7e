"""The counts of operations, compared with a network that counts its products."""

import numpy as np
import pytest

from fastmlp import reference
from fastmlp.bench.flops import count_nonzero, epoch_flops


class Counted(np.ndarray):
    """An array that computes matrix products number by number and counts the multiply-adds."""

    multiply_adds = 0
    with_a_zero = 0  # in the left factor, such as X

    def __array_ufunc__(self, ufunc, method, *inputs, **settings):
        inputs = [np.asarray(array) for array in inputs]
        if ufunc is not np.matmul:
            if "out" in settings:
                settings["out"] = tuple(np.asarray(array) for array in settings["out"])
            result = getattr(ufunc, method)(*inputs, **settings)
            return result.view(Counted) if isinstance(result, np.ndarray) else result
        a, b = inputs
        out = np.zeros((len(a), b.shape[1]))
        for i, k in np.ndindex(a.shape):
            for j in range(b.shape[1]):
                out[i, j] += a[i, k] * b[k, j]
                Counted.multiply_adds += 1
                Counted.with_a_zero += a[i, k] == 0
        return out.view(Counted)


@pytest.mark.parametrize("layers", [(5, 3), (4, 3, 2), (6, 5, 4, 3)], ids=str)
@pytest.mark.parametrize("zeros", [0.0, 0.7])
def test_epoch_flops_are_those_of_the_reference(layers, zeros):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((10, layers[0])) * (rng.random((10, layers[0])) >= zeros)
    y = rng.integers(0, layers[-1], len(X))
    net = reference.MLP(layers, activation="logistic", dtype="float64")  # whose outputs are never zero
    weights, biases = ([array.view(Counted) for array in part] for part in (net.weights[:], net.biases[:]))
    Counted.multiply_adds = Counted.with_a_zero = 0
    for rows in (slice(0, 4), slice(4, 8), slice(8, 10)):
        sums = reference.forward(X[rows].view(Counted), weights, biases, "logistic")
        dw, _ = reference.backward(sums, y[rows], weights, "logistic")
        assert [g.shape for g in dw] == [w.shape for w in weights]
    assert epoch_flops(layers, len(X)) == 2 * Counted.multiply_adds
    assert epoch_flops(layers, len(X), count_nonzero(X)) == 2 * (Counted.multiply_adds - Counted.with_a_zero)


def test_flops_of_mnist():
    assert epoch_flops((784, 128, 10), 60_000) == 24_545_280_000


def test_nonzero_numbers_of_sparse_rows():
    sparse = pytest.importorskip("scipy.sparse")
    X = np.array([[0.0, 1.0, 0.0], [2.0, 0.0, 3.0]])
    assert count_nonzero(X) == count_nonzero(sparse.csr_matrix(X)) == 3

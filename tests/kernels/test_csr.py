"""The first layer on CSR rows has the bits of dense products, and empties its lists of columns after each step."""

import numpy as np
import pytest

from fastmlp.engine.layout import aligned_zeros
from fastmlp.kernels import matmul
from fastmlp.kernels.formats import csr
from fastmlp.kernels.structs import SETTINGS, Block, Csr, Data, Gathered, Matrix, Workspace

SHAPES = [(1, 1, 1), (1, 3, 7), (2, 13, 17), (3, 64, 33), (7, 65, 130), (65, 63, 10), (40, 500, 128)]


class Batch:
    """CSR rows in a shuffled order, with weights and deltas of one layer, and the same rows dense."""

    def __init__(self, rng, dtype, lanes, n_rows, n_in, n_out, density):
        self.n_rows, self.n_in = n_rows, n_in
        self.width = -(-n_out // lanes)
        self.pitch = (self.width + 1) * lanes
        x = rng.standard_normal((n_rows + 3, n_in)).astype(dtype)
        x[rng.random(x.shape) >= density] = 0
        x[n_rows // 2] = 0
        self.order = rng.permutation(n_rows + 3)[:n_rows]
        self.dense, self.dense_starts = x.reshape(-1), self.order * n_in
        numbers, indices = x[x != 0], np.nonzero(x)[1].astype(np.int32)
        indptr = np.concatenate([[0], np.cumsum(np.count_nonzero(x, axis=1))])
        self.x = Csr(numbers, indices, np.zeros(n_rows, np.int64), np.zeros(n_rows, np.int64))
        unread = np.zeros(0, np.int64)
        data = Data(numbers, indptr, indices, unread, unread, self.order)
        ws = Workspace(numbers, self.x.starts, unread, unread, self.x.ends, unread.view(np.uint64), unread)
        csr.load(ws, data, np.zeros(1, SETTINGS)[0], 0, n_rows, n_in, 0)
        self.n_nonzeros = np.count_nonzero(x[self.order])
        self.columns = np.flatnonzero(x[self.order].any(axis=0))
        self.w, self.b, self.delta = (aligned_zeros(n * self.pitch, dtype) for n in (n_in, 1, n_rows))
        for flat in (self.w, self.b, self.delta):
            flat.reshape(-1, self.pitch)[:, :n_out] = rng.standard_normal((flat.size // self.pitch, n_out))
        self.zeros = aligned_zeros(8 * lanes, dtype)

    def lists(self, n_nonzeros=None):
        space = self.n_nonzeros if n_nonzeros is None else n_nonzeros
        return np.zeros(1 + self.n_in + csr.LINK_FIELDS * space, np.int32)


@pytest.fixture(params=SHAPES, ids=str)
def shape(request):
    return request.param


@pytest.fixture(params=[0.0, 0.1, 1.0])
def batch(request, rng, dtype, lanes, shape):
    return Batch(rng, dtype, lanes, *shape, request.param)


@pytest.mark.parametrize("floor", [0.0, -np.inf])
def test_forward_has_the_bits_of_the_dense_product(batch, floor):
    expected, out = (np.full(batch.n_rows * batch.pitch, -1, batch.w.dtype) for _ in range(2))
    w, b, block = Matrix(batch.w, 0, batch.pitch), Matrix(batch.b, 0, 0), Block(0, batch.n_rows, 0, batch.width)
    rows = Gathered(batch.dense, batch.dense_starts, 0)
    matmul.forward(Matrix(expected, 0, batch.pitch), rows, w, b, batch.n_in, block, floor, 0)
    csr.forward_rows(Matrix(out, 0, batch.pitch), batch.x, w, b, block, floor)
    np.testing.assert_array_equal(out, expected)


def test_update_has_the_bits_of_the_dense_product(batch, new_layer):
    expected, w = batch.w.copy(), batch.w.copy()
    rows, delta = Gathered(batch.dense, batch.dense_starts, 0), Matrix(batch.delta, 0, batch.pitch)
    block = Block(0, batch.n_in, 0, batch.width)
    matmul.update(Matrix(expected, 0, batch.pitch), rows, delta, batch.zeros, batch.n_rows, block, -0.1)
    lists, middle = batch.lists(), batch.n_in // 2
    for first, end in ((0, middle), (middle, batch.n_in)):
        layer = new_layer(n_in=batch.n_in, row=first, end_row=end, end_column=batch.width)
        csr.update(Matrix(w, 0, batch.pitch), batch.x, lists, delta, layer, batch.n_rows, -0.1)
        assert not lists[1 : 1 + batch.n_in].any()  # every list is empty again
    np.testing.assert_array_equal(w.view(np.uint8), expected.view(np.uint8))


def test_an_update_changes_only_the_weights_of_its_columns(batch, new_layer):
    w = np.full_like(batch.w, np.nan)
    w.reshape(batch.n_in, -1)[batch.columns] = 1
    lists = batch.lists(batch.n_nonzeros + 3)
    layer = new_layer(n_in=batch.n_in, end_row=batch.n_in, end_column=batch.width)
    csr.list_columns(lists, batch.x, layer, batch.n_rows)
    assert lists[0] == len(batch.columns)
    columns = lists[1 + batch.n_in :][: lists[0]]
    np.testing.assert_array_equal(np.sort(columns), batch.columns)
    delta = Matrix(batch.delta, 0, batch.pitch)
    csr.update_owned(Matrix(w, 0, batch.pitch), batch.x, lists, delta, layer, -0.1)
    np.testing.assert_array_equal(
        np.isnan(w.reshape(batch.n_in, -1)).all(axis=1), ~np.isin(np.arange(batch.n_in), batch.columns)
    )

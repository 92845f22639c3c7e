"""The first layer on CSR rows: the bits of the dense products, and chains that are empty again after each step."""

import numpy as np
import pytest

from fastmlp.engine.layout import aligned_zeros
from fastmlp.kernels import csr, dense

SHAPES = [(1, 1, 1), (1, 3, 7), (2, 13, 17), (3, 64, 33), (7, 65, 130), (65, 63, 10), (40, 500, 128)]


class Batch:
    """CSR rows in a shuffled order, with weights and deltas of one layer, and the same rows dense."""

    def __init__(self, rng, dtype, lanes, n_rows, n_in, n_out, part):
        self.n_rows, self.n_in = n_rows, n_in
        self.width = -(-n_out // lanes)
        self.pitch = (self.width + 1) * lanes
        x = rng.standard_normal((n_rows + 3, n_in)).astype(dtype)
        x[rng.random(x.shape) >= part] = 0
        x[n_rows // 2] = 0
        self.order = rng.permutation(n_rows + 3)[:n_rows]
        self.dense, self.dense_starts = x.reshape(-1), self.order * n_in
        self.x, self.indices = x[x != 0], np.nonzero(x)[1].astype(np.int32)
        starts = np.concatenate([[0], np.cumsum(np.count_nonzero(x, axis=1))])
        self.ends_at = n_rows
        self.starts = np.zeros(2 * n_rows, np.int64)
        none = np.zeros(0, np.uint64)
        csr.read_csr(self.starts, none, self.x, self.x, starts, none, self.order, 0, n_rows, n_in, n_rows, 1.0)
        self.n_numbers = np.count_nonzero(x[self.order])
        self.features = np.flatnonzero(x[self.order].any(axis=0))
        self.w, self.b, self.delta = (aligned_zeros(n * self.pitch, dtype) for n in (n_in, 1, n_rows))
        for flat in (self.w, self.b, self.delta):
            flat.reshape(-1, self.pitch)[:, :n_out] = rng.standard_normal((flat.size // self.pitch, n_out))
        self.zeros = aligned_zeros(8 * lanes, dtype)

    def links(self, n_numbers=None):
        room = self.n_numbers if n_numbers is None else n_numbers
        return np.zeros(1 + self.n_in + csr.LINK_FIELDS * room, np.int32)


@pytest.fixture(params=SHAPES, ids=str)
def shape(request):
    return request.param


@pytest.fixture(params=[0.0, 0.1, 1.0])
def batch(request, rng, dtype, lanes, shape):
    return Batch(rng, dtype, lanes, *shape, request.param)


@pytest.mark.parametrize("floor", [0.0, -np.inf])
def test_forward_has_the_bits_of_the_dense_product(batch, floor):
    expected, out = (np.full(batch.n_rows * batch.pitch, -1, batch.w.dtype) for _ in range(2))
    weights, tail = (batch.w, 0, batch.pitch, batch.b, 0), (0, batch.n_rows, 0, batch.width, floor)
    dense.forward(
        expected,
        0,
        batch.dense,
        batch.dense_starts,
        0,
        *weights,
        batch.n_in,
        batch.pitch,
        *tail,
        batch.dense,
        batch.starts,
        0,
        1,
    )
    csr.csr_forward(out, 0, batch.x, batch.starts, batch.ends_at, batch.indices, *weights, batch.pitch, *tail)
    np.testing.assert_array_equal(out, expected)


def test_update_has_the_bits_of_the_dense_product(batch):
    expected, w = batch.w.copy(), batch.w.copy()
    tail = (batch.delta, 0, batch.zeros, batch.n_rows, batch.pitch, 0, batch.n_in, 0, batch.width, -0.1)
    dense.update(expected, 0, batch.pitch, batch.dense, batch.dense_starts, 0, *tail)
    links, middle = batch.links(), batch.n_in // 2
    for first, last in ((0, middle), (middle, batch.n_in)):
        csr.link_features(links, batch.starts, batch.ends_at, batch.indices, batch.n_rows, batch.n_in, first, last)
        csr.csr_update(
            w,
            0,
            batch.pitch,
            batch.x,
            batch.starts,
            links,
            batch.n_in,
            batch.delta,
            0,
            batch.pitch,
            0,
            batch.width,
            -0.1,
        )
        assert not links[1 : 1 + batch.n_in].any()  # every chain is empty again
    np.testing.assert_array_equal(w.view(np.uint8), expected.view(np.uint8))


def test_an_update_touches_the_weights_of_its_features_alone(batch):
    w = np.full_like(batch.w, np.nan)
    w.reshape(batch.n_in, -1)[batch.features] = 1
    links = batch.links(batch.n_numbers + 3)
    csr.link_features(links, batch.starts, batch.ends_at, batch.indices, batch.n_rows, batch.n_in, 0, batch.n_in)
    assert links[0] == len(batch.features)
    features = links[1 + batch.n_in :][: links[0]]
    np.testing.assert_array_equal(np.sort(features), batch.features)
    csr.csr_update(
        w, 0, batch.pitch, batch.x, batch.starts, links, batch.n_in, batch.delta, 0, batch.pitch, 0, batch.width, -0.1
    )
    np.testing.assert_array_equal(
        np.isnan(w.reshape(batch.n_in, -1)).all(axis=1), ~np.isin(np.arange(batch.n_in), batch.features)
    )

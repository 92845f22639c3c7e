"""The first layer that leaves out zeros: the same bits as the dense products, at every pattern of zeros."""

import numpy as np
import pytest

from fastmlp.engine.layout import aligned_zeros, n_words
from fastmlp.kernels import dense, rows, sparse

PATTERNS = {
    "all zero": lambda x, rng: x * 0,
    "no zero": lambda x, rng: x,
    "one number": lambda x, rng: x * (np.arange(x.size).reshape(x.shape) == x.size // 2),
    "one feature": lambda x, rng: x * (np.arange(x.shape[1]) == x.shape[1] - 1),
    "one row": lambda x, rng: x * (np.arange(len(x))[:, None] == len(x) // 2),
    "a fifth": lambda x, rng: x * (rng.random(x.shape) < 0.2),
    "negative zeros": lambda x, rng: np.where(rng.random(x.shape) < 0.5, x, -0.0),
    "tiny numbers": lambda x, rng: x * rng.choice([0, np.finfo(x.dtype).smallest_subnormal], x.shape),
}
SHAPES = [
    *((1, 1, 1), (1, 3, 7), (2, 13, 17), (3, 64, 33), (7, 65, 130), (64, 784, 128), (65, 63, 10), (130, 129, 100)),
    (300, 201, 150),  # sums of the update wait for more rows
]


forward = sparse.sparse_forward(rows.fetch_nothing)
NO_NEXT = (np.zeros(0, np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64), 0)


class Batch:
    """Rows of a larger x in a shuffled order, with weights and deltas of one layer."""

    def __init__(self, rng, dtype, lanes, n_rows, n_in, n_out, pattern):
        self.n_rows, self.n_in, self.words = n_rows, n_in, n_words(n_in)
        self.width = -(-n_out // lanes)
        self.pitch = (self.width + 1) * lanes
        x = rng.standard_normal((n_rows + 3, n_in)).astype(dtype)
        self.rows = PATTERNS[pattern](x, rng).astype(dtype)
        self.x = self.rows.reshape(-1)
        self.order = rng.permutation(n_rows + 3)[:n_rows]
        self.starts = self.order * n_in
        self.marks = np.zeros(n_rows * self.words, np.uint64)
        self.packed = np.full(3 + n_rows * (n_in + lanes), 5, dtype)
        self.places = np.zeros(2 * n_rows, np.int64)  # the second half is for the kernels
        self.places[:n_rows] = 3 + np.arange(n_rows) * (n_in + lanes)
        for row, start in enumerate(self.starts):
            rows.pack_row(self.packed, self.places[row], self.marks, row * self.words, self.x, start, n_in)
        self.waiting = n_rows * self.pitch  # behind the deltas
        self.w, self.b = (aligned_zeros(n * self.pitch, dtype) for n in (n_in + n_in % 2, 1))
        self.delta = aligned_zeros(self.waiting + sparse.SUMS_BYTES // dtype.itemsize + lanes, dtype)
        self.delta[-lanes:] = 7
        for flat, n in ((self.w, n_in), (self.b, 1), (self.delta[: self.waiting], n_rows)):
            flat.reshape(-1, self.pitch)[:n, :n_out] = rng.standard_normal((n, n_out))
        self.zeros = aligned_zeros(8 * lanes, dtype)

    @property
    def rows_in(self):
        return self.packed, self.places, self.n_rows, self.marks


@pytest.fixture(params=SHAPES, ids=str)
def shape(request):
    return request.param


@pytest.fixture(params=PATTERNS)
def batch(request, rng, dtype, lanes, shape):
    return Batch(rng, dtype, lanes, *shape, request.param)


def bits(array):
    return array.view(np.uint8)


def pairs_of(x):
    """Which pairs of features (n, pairs) are not zero."""
    return np.logical_or.reduceat(x != 0, range(0, x.shape[1], rows.PAIR), axis=1)


def test_marks_say_what_is_not_zero(batch):
    marks = np.unpackbits(bits(batch.marks).reshape(batch.n_rows, -1), axis=1, bitorder="little")
    expected = pairs_of(batch.rows[batch.order])
    np.testing.assert_array_equal(marks[:, : expected.shape[1]], expected)
    assert not marks[:, expected.shape[1] :].any()


def turned(batch):
    groups = -(-batch.n_rows // rows.WORD)
    by_pair = np.full(groups * batch.words * rows.WORD, 7, np.uint64)
    sparse.turn_marks(by_pair, batch.marks, batch.n_rows, batch.n_in)
    return by_pair, groups


def test_marks_are_turned_around(batch):
    by_pair, groups = turned(batch)
    marks = np.unpackbits(bits(by_pair).reshape(groups, -1, 8), axis=2, bitorder="little")
    for group in range(groups):
        order = batch.order[group * rows.WORD : (group + 1) * rows.WORD]
        expected = pairs_of(batch.rows[order]).T
        np.testing.assert_array_equal(marks[group, : len(expected), : len(order)], expected)
        assert not marks[group, :, len(order) :].any()
        assert not marks[group, len(expected) :].any()


@pytest.mark.parametrize("floor", [0.0, -np.inf])
def test_forward_has_the_bits_of_the_dense_product(batch, floor):
    shared = (batch.w, 0, batch.pitch, batch.b, 0, batch.n_in)
    size = batch.n_rows * batch.pitch
    expected, apart = np.full(size, -1, batch.w.dtype), np.full(2 * size, -1, batch.w.dtype)
    tail = (0, batch.n_rows, 0, batch.width, floor)
    dense.forward(expected, 0, batch.x, batch.starts, 0, *shared, batch.pitch, *tail, batch.x, batch.order, 0, 1)
    forward(apart, 0, batch.pitch, size, batch.pitch, *batch.rows_in, *shared, *tail, *NO_NEXT)
    np.testing.assert_array_equal(apart[:size], expected)
    in_place = np.full(size, -1, batch.w.dtype)
    forward(in_place, 0, batch.pitch, 0, batch.pitch, *batch.rows_in, *shared, *tail, *NO_NEXT)
    np.testing.assert_array_equal(in_place, expected)


def test_forward_of_a_part_leaves_the_rest(batch):
    out = np.full(batch.n_rows * batch.pitch, -1, batch.w.dtype)
    whole = out.copy()
    common = (batch.pitch, 0, batch.pitch, *batch.rows_in, batch.w, 0, batch.pitch, batch.b, 0, batch.n_in)
    forward(whole, 0, *common, 0, batch.n_rows, 0, batch.width, 0.0, *NO_NEXT)
    first, column = batch.n_rows // 3, batch.width // 2
    forward(out, 0, *common, first, batch.n_rows, column, batch.width, 0.0, *NO_NEXT)
    inside = np.zeros((batch.n_rows, batch.pitch), bool)
    lanes = batch.pitch // (batch.width + 1)
    inside[first:, column * lanes : batch.width * lanes] = True
    np.testing.assert_array_equal(out, np.where(inside.ravel(), whole, -1))


def test_update_has_the_bits_of_the_dense_product(batch):
    by_pair = np.zeros(-(-batch.n_rows // rows.WORD) * batch.words * rows.WORD, np.uint64)
    expected, w = batch.w.copy(), batch.w.copy()
    dense.update(
        expected, 0, batch.pitch, batch.x, batch.starts, 0, batch.delta, 0, batch.zeros, batch.n_rows, batch.pitch,
        0, batch.n_in, 0, batch.width, -0.1,
    )  # fmt: skip
    middle = batch.n_in // 4 * 2
    for first, last in ((0, middle), (middle, batch.n_in)):
        sparse.sparse_update(
            w, 0, batch.pitch, *batch.rows_in, by_pair, batch.n_rows, batch.n_in, batch.delta, 0, batch.pitch,
            batch.waiting, first, last, 0, batch.width, -0.1,
        )  # fmt: skip
    np.testing.assert_array_equal(bits(w), bits(expected))
    assert np.all(batch.delta[-(batch.pitch // (batch.width + 1)) :] == 7)  # behind the room for waiting sums


def test_a_nan_in_a_row_stays_one(rng, dtype, lanes):
    batch = Batch(rng, dtype, lanes, 4, 5, 3, "a fifth")
    batch.x[batch.order[1] * 5 + 2] = np.nan
    rows.pack_row(batch.packed, batch.places[1], batch.marks, 1, batch.x, batch.starts[1], 5)
    out = np.zeros(4 * batch.pitch, dtype)
    common = (batch.pitch, 0, batch.pitch, *batch.rows_in, batch.w, 0, batch.pitch, batch.b, 0, 5)
    forward(out, 0, *common, 0, 4, 0, batch.width, 0.0, *NO_NEXT)
    nan = np.isnan(out.reshape(4, -1)[:, :3])
    np.testing.assert_array_equal(nan.all(axis=1), [False, True, False, False])

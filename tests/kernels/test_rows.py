"""How the rows of a batch come to the first layer: brought from bytes, or from where their zeros were left out."""

import numpy as np
import pytest

from fastmlp.kernels import rows
from fastmlp.layout import n_words

SENTINEL = -7.0
NONE = np.zeros(0, np.int64), np.zeros(0, np.uint64)
N_FEATURES = (1, 3, 8, 15, 16, 17, 31, 63, 64, 65, 128, 130, 784)


class Place:
    """Where the rows of a batch are brought, from a shuffled order of a larger x."""

    def __init__(self, rng, dtype, n_in, n_rows=5):
        self.n_in, self.n_rows, self.words = n_in, n_rows, n_words(n_in)
        self.order = rng.permutation(n_rows + 4)[:n_rows]
        self.pitch = self.words * rows.WORD + 3
        self.work = np.full(2 + n_rows * self.pitch, SENTINEL, dtype)
        self.notes = 2 + np.arange(n_rows) * self.pitch
        self.marks = np.full(n_rows * self.words, 7, np.uint64)

    def bring(self, take, x, starts, index, scale=1.0, at=1):
        orders = np.concatenate([[0] * at, self.order, self.order[:2]])  # the last are of the next batch
        take(self.notes, self.marks, self.work, x, starts, index, orders, at, self.n_rows, self.n_in, 0, scale)

    @property
    def brought(self):
        return np.stack([self.work[at : at + self.n_in] for at in self.notes])

    def assert_nothing_else_changed(self):
        inside = np.zeros(self.work.size, bool)
        for at in self.notes:
            inside[at : at + self.words * rows.WORD] = True
        assert np.all(self.work[~inside] == SENTINEL)

    def assert_marks(self, expected):
        got = np.unpackbits(self.marks.view(np.uint8).reshape(self.n_rows, -1), axis=1, bitorder="little")
        np.testing.assert_array_equal(got[:, : self.n_in], expected[self.order] != 0)
        assert not got[:, self.n_in :].any()


@pytest.mark.parametrize("n_in", N_FEATURES)
@pytest.mark.parametrize("scale", [1.0, 1 / 255, 0.1])
def test_bytes_are_scaled_like_numbers(rng, dtype, n_in, scale):
    place = Place(rng, dtype, n_in)
    x = rng.integers(0, 256, (9, n_in)).astype(np.uint8) * (rng.random((9, n_in)) < 0.7).astype(np.uint8)
    place.bring(rows.widen_rows, x.reshape(-1), *NONE, scale)
    np.testing.assert_array_equal(place.brought, (x.astype(dtype) * dtype.type(scale))[place.order])
    place.assert_marks(x)
    place.assert_nothing_else_changed()
    place.marks = np.zeros(0, np.uint64)  # no room for marks: none are made
    place.work[:] = SENTINEL
    place.bring(rows.widen_rows, x.reshape(-1), *NONE, scale)
    np.testing.assert_array_equal(place.brought, (x.astype(dtype) * dtype.type(scale))[place.order])


@pytest.mark.parametrize("n_in", N_FEATURES)
@pytest.mark.parametrize("part", [0.0, 0.2, 1.0])
def test_packed_rows_come_out_as_they_went_in(rng, dtype, n_in, part):
    x = rng.standard_normal((9, n_in)).astype(dtype)
    x[rng.random(x.shape) >= part] = 0
    starts = np.zeros(10, np.int64)
    for first, last in ((0, 4), (4, 9)):
        rows.count_rows(starts[1:], x.reshape(-1), n_in, first, last)
    per_word = 8 // dtype.itemsize
    np.testing.assert_array_equal(starts[1:], n_words(n_in) + -(-np.count_nonzero(x, axis=1) // per_word))
    starts = np.cumsum(starts)
    index = np.zeros(starts[-1] + 8, np.uint64)
    packed = index.view(dtype)
    for first, last in ((4, 9), (0, 4)):  # whoever is later leaves alone what the other wrote
        rows.pack_rows(packed, index, starts, x.reshape(-1), n_in, first, last)
    for row, start in enumerate(starts[:-1]):
        numbers = packed[(start + n_words(n_in)) * per_word :][: np.count_nonzero(x[row])]
        np.testing.assert_array_equal(numbers, x[row][x[row] != 0])
    assert not index[starts[-1] :].any()
    place = Place(rng, dtype, n_in)
    place.bring(rows.unpack_rows, packed, starts, index)
    np.testing.assert_array_equal(place.brought, x[place.order])
    place.assert_marks(x)
    place.assert_nothing_else_changed()


@pytest.mark.parametrize("n_in", N_FEATURES)
def test_rows_are_read_in_place(rng, dtype, n_in):
    x = rng.standard_normal((9, n_in)).astype(dtype)
    x[rng.random(x.shape) < 0.5] = 0
    place = Place(rng, dtype, n_in)
    place.bring(rows.read_in_place, x.reshape(-1), *NONE)
    np.testing.assert_array_equal(place.notes, place.order * n_in)
    assert np.all(place.marks == 7)
    place.bring(rows.mark_in_place, x.reshape(-1), *NONE)
    np.testing.assert_array_equal(place.notes, place.order * n_in)
    place.assert_marks(x)
    assert np.all(place.work == SENTINEL)

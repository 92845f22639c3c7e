"""How the rows of a batch come to the first layer: brought from bytes, or packed, that is, without their zeros."""

import numpy as np
import pytest

from fastmlp.engine.layout import n_words
from fastmlp.kernels import rows, simd

SENTINEL = -7.0
NONE = np.zeros(0, np.int64), np.zeros(0, np.uint64)
N_FEATURES = (1, 3, 8, 15, 16, 17, 31, 63, 64, 65, 128, 130, 784)


def pairs_of(x):
    """Return the pairs of neighbours (n, pairs, 2) in x (n, features); a zero follows the last of odd features."""
    return np.pad(x, ((0, 0), (0, x.shape[1] % 2))).reshape(len(x), -1, rows.PAIR)


def numbers_of(row):
    """Return the numbers of a packed row."""
    pairs = pairs_of(row[None])[0]
    return pairs[pairs.any(axis=1)].reshape(-1)


class Place:
    """Where the rows of a batch are brought, from a shuffled order of a larger x."""

    def __init__(self, rng, dtype, n_in, n_rows=5):
        self.n_in, self.n_rows, self.words = n_in, n_rows, n_words(n_in)
        self.order = rng.permutation(n_rows + 4)[:n_rows]
        self.pitch = self.words * rows.PAIR * rows.WORD + 3
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
            inside[at : at + self.words * rows.PAIR * rows.WORD] = True
        assert np.all(self.work[~inside] == SENTINEL)

    def assert_marks(self, expected):
        got = np.unpackbits(self.marks.view(np.uint8).reshape(self.n_rows, -1), axis=1, bitorder="little")
        expected = pairs_of(expected[self.order]).any(axis=2)
        np.testing.assert_array_equal(got[:, : expected.shape[1]], expected)
        assert not got[:, expected.shape[1] :].any()

    def assert_packed(self, x):
        """Each row is packed where its place is."""
        self.assert_marks(x)
        for row, at in zip(self.order, self.notes, strict=True):
            numbers = numbers_of(x[row])
            np.testing.assert_array_equal(self.work[at : at + len(numbers)], numbers)
        self.assert_nothing_else_changed()


@pytest.mark.parametrize("n_in", N_FEATURES)
@pytest.mark.parametrize("scale", [1.0, 1 / 255, 0.1])
def test_bytes_are_scaled_like_numbers(rng, dtype, n_in, scale):
    place = Place(rng, dtype, n_in)
    x = rng.integers(0, 256, (9, n_in)).astype(np.uint8) * (rng.random((9, n_in)) < 0.7).astype(np.uint8)
    numbers = x.astype(dtype) * dtype.type(scale)
    place.bring(rows.widen_rows, x.reshape(-1), *NONE, scale)
    place.assert_packed(numbers)
    place.marks = np.zeros(0, np.uint64)  # no room for marks: none are made
    place.work[:] = SENTINEL
    place.bring(rows.widen_rows, x.reshape(-1), *NONE, scale)
    np.testing.assert_array_equal(place.brought, numbers[place.order])
    place.assert_nothing_else_changed()


def holes(rng, n_in, dtype, part):
    x = rng.standard_normal((9, n_in)).astype(dtype)
    x[rng.random(x.shape) >= part] = 0
    return x


@pytest.mark.parametrize("n_in", N_FEATURES)
@pytest.mark.parametrize("part", [0.0, 0.2, 1.0])
def test_packed_rows_hold_what_is_not_zero(rng, dtype, n_in, part):
    x = holes(rng, n_in, dtype, part)
    per_word, words = 8 // dtype.itemsize, n_words(n_in)
    most = words + -(-n_in // 2) * 2 // per_word
    room = 4 * most + simd.VECTOR_BYTES // 8  # of the first rows: whole vectors are written
    index = np.full(room + 5 * most + 16, 7, np.uint64)
    packed = index.view(dtype)
    starts, bad = np.zeros(10, np.int64), np.full(1, -1)
    for first, last, start in ((4, 9, room), (0, 4, 0)):
        rows.pack_rows(packed, index, starts[1:], bad, x.reshape(-1), n_in, start, first, last)
    lengths = words + np.array([numbers_of(row).size for row in x]) // per_word
    np.testing.assert_array_equal(starts[1:4] - starts[:3], lengths[:3])
    starts[4] = room
    np.testing.assert_array_equal(np.diff(starts)[4:], lengths[4:])
    assert bad[0] == -1
    place = Place(rng, dtype, n_in)
    place.bring(rows.read_packed, packed, starts, index)
    place.assert_marks(x)
    for row, at in zip(place.order, place.notes, strict=True):
        numbers = numbers_of(x[row])
        np.testing.assert_array_equal(packed[at:][: numbers.size], numbers)
    assert np.all(place.work == SENTINEL)
    assert np.all(index[room + 5 * most + simd.VECTOR_BYTES // 8 :] == 7)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n_in", [1, 15, 130])
def test_packing_finds_the_first_row_with_a_bad_number(rng, dtype, n_in, bad):
    x = holes(rng, n_in, dtype, 0.5)
    x[6, -1] = x[7, 0] = bad
    index, found = np.zeros(9 * (3 + n_in) + 16, np.uint64), np.full(1, -1)
    rows.pack_rows(index.view(dtype), index, np.zeros(9, np.int64), found, x.reshape(-1), n_in, 0, 0, 9)
    assert found[0] == 6


@pytest.mark.parametrize("n_in", N_FEATURES)
@pytest.mark.parametrize("part", [0.0, 0.4, 1.0])
def test_rows_are_packed_as_they_are_brought(rng, dtype, n_in, part):
    x = holes(rng, n_in, dtype, part)
    place = Place(rng, dtype, n_in)
    place.bring(rows.pack_numbers, x.reshape(-1), *NONE)
    place.assert_packed(x)


@pytest.mark.parametrize("n_in", N_FEATURES)
def test_rows_are_read_in_place(rng, dtype, n_in):
    x = holes(rng, n_in, dtype, 0.5)
    place = Place(rng, dtype, n_in)
    place.bring(rows.read_in_place, x.reshape(-1), *NONE)
    np.testing.assert_array_equal(place.notes, place.order * n_in)
    assert np.all(place.marks == 7)
    assert np.all(place.work == SENTINEL)


@pytest.mark.parametrize("n_in", N_FEATURES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_look_finds_bad_numbers(rng, dtype, n_in, bad):
    none, packed = np.zeros(0, np.int64), np.zeros(1, np.int64)
    for n_bad in range(2 * n_in + 1):
        place = Place(rng, dtype, n_in)
        place.work[:] = bad  # what is left of other rows does not count
        x = rng.standard_normal((9, n_in)).astype(dtype) * (rng.random((9, n_in)) < 0.5)
        if n_bad < n_in:
            x[place.order[n_bad % 5], n_bad] = bad
        place.bring(rows.pack_numbers, x.reshape(-1), *NONE)
        for look, starts in ((rows.look_at_packed, none), (rows.look_at_packed, packed), (rows.look_at_nothing, none)):
            found = np.full(1, -1)
            look(found, x.reshape(-1), place.work, place.notes, place.marks, starts, 3, 5, n_in)
            assert found[0] == (3 if n_bad < n_in and look is rows.look_at_packed and len(starts) == 0 else -1)
        for first, last in ((0, 9), (place.order[n_bad % 5], place.order[n_bad % 5] + 1)):
            found = np.full(1, -1)
            rows.look_at_numbers(
                found, x.reshape(-1), place.work, place.notes, place.marks, none, first, last - first, n_in
            )
            assert found[0] == (first if n_bad < n_in else -1)

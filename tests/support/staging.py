"""What the tests of the row formats share: a batch and the workspace into which its rows are loaded."""

import numpy as np

from fastmlp.kernels import structs
from fastmlp.kernels.bits import WORD
from fastmlp.kernels.formats import packed

N_FEATURES = (1, 3, 8, 15, 16, 17, 31, 63, 64, 65, 128, 130, 784)
NO_INDPTR, NO_INDICES = np.zeros(0, np.int64), np.zeros(0, np.uint64)
SENTINEL = -7.0


def with_zeros(rng, n_in, dtype, density):
    """Return nine rows of random numbers, of which this part is not zero."""
    x = rng.standard_normal((9, n_in)).astype(dtype)
    x[rng.random(x.shape) >= density] = 0
    return x


def pairs_of(x):
    """Return the pairs of neighbours (n, pairs, 2) in x (n, features); a zero follows the last of odd features."""
    return np.pad(x, ((0, 0), (0, x.shape[1] % 2))).reshape(len(x), -1, packed.PAIR)


def numbers_of(row):
    """Return the numbers of a packed row."""
    pairs = pairs_of(row[None])[0]
    return pairs[pairs.any(axis=1)].reshape(-1)


class Stage:
    """A batch from a shuffled order of a larger X, and a workspace for it; rows start at ``starts`` there."""

    def __init__(self, rng, dtype, n_in, n_rows=5):
        self.n_in, self.n_rows, self.n_words = n_in, n_rows, packed.words_of(n_in)
        self.order = rng.permutation(n_rows + 4)[:n_rows]
        self.row_size = self.n_words * packed.PAIR * WORD
        self.starts = 2 + np.arange(n_rows) * (self.row_size + 3)
        self.work = np.full(2 + n_rows * (self.row_size + 3), SENTINEL, dtype)
        self.masks = np.full(self.n_words * n_rows, 7, np.uint64)
        self.unread = np.zeros(0, np.int64)

    def workspace(self):
        return structs.Workspace(self.work, self.starts, *[self.unread] * 3, self.masks, self.unread)

    def data(self, x, indptr=NO_INDPTR, indices=NO_INDICES, at=1):
        order = np.concatenate([[0] * at, self.order, self.order[:2]])  # the last two belong to the next batch
        return structs.Data(x, indptr, indices, self.unread, self.unread, order)

    def load(self, load, x, indptr=NO_INDPTR, indices=NO_INDICES, scale=1.0, at=1):
        settings = np.zeros(1, structs.SETTINGS)
        settings["input_scale"] = scale
        load(self.workspace(), self.data(x, indptr, indices, at), settings[0], at, self.n_rows, self.n_in, 0)

    def check(self, check, x, at, n_rows, indptr=NO_INDPTR):
        """Return the row that a check of rows notes, -1 if it notes none."""
        bad_row = np.full(1, -1)
        check(bad_row, self.workspace(), self.data(x, indptr), at, n_rows, self.n_in)
        return bad_row[0]

    @property
    def loaded(self):
        return np.stack([self.work[at : at + self.n_in] for at in self.starts])

    def assert_nothing_else_changed(self):
        inside = np.zeros(self.work.size, bool)
        for at in self.starts:
            inside[at : at + self.row_size] = True
        assert np.all(self.work[~inside] == SENTINEL)

    def assert_masks(self, expected):
        got = np.unpackbits(self.masks.view(np.uint8).reshape(self.n_rows, -1), axis=1, bitorder="little")
        expected = pairs_of(expected[self.order]).any(axis=2)
        np.testing.assert_array_equal(got[:, : expected.shape[1]], expected)
        assert not got[:, expected.shape[1] :].any()

    def assert_packed(self, x):
        """Assert that each row is packed where it starts in the workspace."""
        self.assert_masks(x)
        for row, at in zip(self.order, self.starts, strict=True):
            numbers = numbers_of(x[row])
            np.testing.assert_array_equal(self.work[at : at + len(numbers)], numbers)
        self.assert_nothing_else_changed()

"""Packed rows: how they are packed and loaded; the first layer has the bits of dense products at every pattern."""

import numpy as np
import pytest
from support.staging import N_FEATURES, NO_INDICES, NO_INDPTR, SENTINEL, Stage, numbers_of, with_zeros

from fastmlp.engine.layout import aligned_zeros
from fastmlp.kernels import matmul, simd
from fastmlp.kernels.activations import CODES
from fastmlp.kernels.bits import WORD
from fastmlp.kernels.formats import packed
from fastmlp.kernels.structs import Block, Data, Gathered, Matrix, Packed

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
    (300, 201, 150),  # the update keeps partial sums
]
FLOORS = {0.0: CODES["relu"], -np.inf: CODES["identity"]}
NO_NUMBERS, NO_ORDER = np.zeros(0, np.uint8), np.zeros(0, np.int64)
NO_DATA = Data(NO_NUMBERS, NO_INDPTR, NO_INDICES, NO_ORDER, NO_ORDER, NO_ORDER)  # nothing to prefetch
forward_products = packed.products(packed.no_prefetch).forward


# Pack and load --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_in", N_FEATURES)
@pytest.mark.parametrize("density", [0.0, 0.2, 1.0])
def test_packed_rows_hold_what_is_not_zero(rng, dtype, n_in, density):
    x = with_zeros(rng, n_in, dtype, density)
    per_word, n_words = 8 // dtype.itemsize, packed.words_of(n_in)
    most = n_words + -(-n_in // 2) * 2 // per_word
    space = 4 * most + simd.VECTOR_BYTES // 8  # of the first rows: whole vectors are written
    words = np.full(space + 5 * most + 16, 7, np.uint64)
    numbers = words.view(dtype)
    indptr, bad_row = np.zeros(10, np.int64), np.full(1, -1)
    for first, end, start in ((4, 9, space), (0, 4, 0)):
        packed.pack_rows(numbers, words, indptr[1:], bad_row, x.reshape(-1), n_in, start, first, end)
    lengths = n_words + np.array([numbers_of(row).size for row in x]) // per_word
    np.testing.assert_array_equal(indptr[1:4] - indptr[:3], lengths[:3])
    indptr[4] = space
    np.testing.assert_array_equal(np.diff(indptr)[4:], lengths[4:])
    assert bad_row[0] == -1
    stage = Stage(rng, dtype, n_in)
    stage.load(packed.load, numbers, indptr, words)
    stage.assert_masks(x)
    for row, at in zip(stage.order, stage.starts, strict=True):
        expected = numbers_of(x[row])
        np.testing.assert_array_equal(numbers[at:][: expected.size], expected)
    assert np.all(stage.work == SENTINEL)
    assert np.all(words[space + 5 * most + simd.VECTOR_BYTES // 8 :] == 7)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n_in", [1, 15, 130])
def test_packing_finds_the_first_row_with_a_bad_number(rng, dtype, n_in, bad):
    x = with_zeros(rng, n_in, dtype, 0.5)
    x[6, -1] = x[7, 0] = bad
    words, bad_row = np.zeros(9 * (3 + n_in) + 16, np.uint64), np.full(1, -1)
    packed.pack_rows(words.view(dtype), words, np.zeros(9, np.int64), bad_row, x.reshape(-1), n_in, 0, 0, 9)
    assert bad_row[0] == 6


@pytest.mark.parametrize("n_in", N_FEATURES)
@pytest.mark.parametrize("density", [0.0, 0.4, 1.0])
def test_rows_are_packed_as_they_are_loaded(rng, dtype, n_in, density):
    x = with_zeros(rng, n_in, dtype, density)
    stage = Stage(rng, dtype, n_in)
    stage.load(packed.load_or_pack, x.reshape(-1))
    stage.assert_packed(x)


@pytest.mark.parametrize("n_in", N_FEATURES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_check_finds_bad_numbers(rng, dtype, n_in, bad):
    for n_bad in range(2 * n_in + 1):
        stage = Stage(rng, dtype, n_in)
        stage.work[:] = bad  # what is left of other rows does not count
        x = rng.standard_normal((9, n_in)).astype(dtype) * (rng.random((9, n_in)) < 0.5)
        if n_bad < n_in:
            x[stage.order[n_bad % 5], n_bad] = bad
        stage.load(packed.load_or_pack, x.reshape(-1))
        assert stage.check(packed.check, x.reshape(-1), 3, 5) == (3 if n_bad < n_in else -1)
        assert (
            stage.check(packed.check, x.reshape(-1), 3, 5, np.zeros(1, np.int64)) == -1
        )  # a packed X has been checked


# Products -------------------------------------------------------------------------------------------------------------


class Batch:
    """Rows of a larger x in a shuffled order, with weights and deltas of one layer."""

    def __init__(self, rng, dtype, lanes, n_rows, n_in, n_out, pattern):
        self.n_rows, self.n_in, self.n_words = n_rows, n_in, packed.words_of(n_in)
        self.width = -(-n_out // lanes)
        self.pitch = (self.width + 1) * lanes
        x = rng.standard_normal((n_rows + 3, n_in)).astype(dtype)
        self.rows = PATTERNS[pattern](x, rng).astype(dtype)
        self.x = self.rows.reshape(-1)
        self.order = rng.permutation(n_rows + 3)[:n_rows]
        self.starts = self.order * n_in
        masks, numbers = np.zeros(n_rows * self.n_words, np.uint64), np.full(3 + n_rows * (n_in + lanes), 5, dtype)
        packed_starts = 3 + np.arange(n_rows) * (n_in + lanes)
        for row, start in enumerate(self.starts):
            packed.pack_row(numbers, packed_starts[row], masks, row * self.n_words, self.x, start, n_in)
        self.packed = Packed(numbers, packed_starts, np.zeros(n_rows, np.int64), masks)
        self.partial_sums = n_rows * self.pitch  # behind the deltas
        self.w, self.b = (aligned_zeros(n * self.pitch, dtype) for n in (n_in + n_in % 2, 1))
        self.delta = aligned_zeros(self.partial_sums + packed.SUMS_BYTES // dtype.itemsize + lanes, dtype)
        self.delta[-lanes:] = 7
        for flat, n in ((self.w, n_in), (self.b, 1), (self.delta[: self.partial_sums], n_rows)):
            flat.reshape(-1, self.pitch)[:n, :n_out] = rng.standard_normal((n, n_out))
        self.zeros = aligned_zeros(8 * lanes, dtype)

    def forward(self, out, layer, block):
        w, b = Matrix(self.w, 0, self.pitch), Matrix(self.b, 0, 0)
        forward_products(Matrix(out, 0, self.pitch), self.packed, w, b, layer, block, NO_DATA, 0)


@pytest.fixture(params=SHAPES, ids=str)
def shape(request):
    return request.param


@pytest.fixture(params=PATTERNS)
def batch(request, rng, dtype, lanes, shape):
    return Batch(rng, dtype, lanes, *shape, request.param)


def bits(array):
    return array.view(np.uint8)


def pairs_of(x):
    """Return which pairs of features (n, pairs) are not zero."""
    return np.logical_or.reduceat(x != 0, range(0, x.shape[1], packed.PAIR), axis=1)


def test_masks_say_what_is_not_zero(batch):
    masks = np.unpackbits(bits(batch.packed.masks).reshape(batch.n_rows, -1), axis=1, bitorder="little")
    expected = pairs_of(batch.rows[batch.order])
    np.testing.assert_array_equal(masks[:, : expected.shape[1]], expected)
    assert not masks[:, expected.shape[1] :].any()


def test_masks_are_transposed(batch):
    n_groups = packed.groups_of(batch.n_rows)
    masks_t = np.full(n_groups * batch.n_words * WORD, 7, np.uint64)
    packed.transpose_masks(masks_t, batch.packed.masks, batch.n_rows, batch.n_in)
    masks = np.unpackbits(bits(masks_t).reshape(n_groups, -1, 8), axis=2, bitorder="little")
    for group in range(n_groups):
        order = batch.order[group * WORD : (group + 1) * WORD]
        expected = pairs_of(batch.rows[order]).T
        np.testing.assert_array_equal(masks[group, : len(expected), : len(order)], expected)
        assert not masks[group, :, len(order) :].any()
        assert not masks[group, len(expected) :].any()


@pytest.mark.parametrize("floor", FLOORS)
def test_forward_has_the_bits_of_the_dense_product(batch, new_layer, floor):
    size = batch.n_rows * batch.pitch
    expected, elsewhere = np.full(size, -1, batch.w.dtype), np.full(2 * size, -1, batch.w.dtype)
    block = Block(0, batch.n_rows, 0, batch.width)
    matmul.forward(
        Matrix(expected, 0, batch.pitch), Gathered(batch.x, batch.starts, 0), Matrix(batch.w, 0, batch.pitch),
        Matrix(batch.b, 0, 0), batch.n_in, block, floor, 0,
    )  # fmt: skip
    layer = {"n_in": batch.n_in, "activation": FLOORS[floor], "delta_pitch": batch.pitch}
    batch.forward(elsewhere, new_layer(delta=size, **layer), block)  # sums are kept where deltas will be
    np.testing.assert_array_equal(elsewhere[:size], expected)
    in_place = np.full(size, -1, batch.w.dtype)
    batch.forward(in_place, new_layer(delta=0, **layer), block)
    np.testing.assert_array_equal(in_place, expected)


def test_forward_of_a_block_leaves_the_rest(batch, new_layer):
    out = np.full(batch.n_rows * batch.pitch, -1, batch.w.dtype)
    whole = out.copy()
    layer = new_layer(n_in=batch.n_in, activation=CODES["relu"], delta_pitch=batch.pitch)
    batch.forward(whole, layer, Block(0, batch.n_rows, 0, batch.width))
    first, column = batch.n_rows // 3, batch.width // 2
    batch.forward(out, layer, Block(first, batch.n_rows, column, batch.width))
    inside = np.zeros((batch.n_rows, batch.pitch), bool)
    lanes = batch.pitch // (batch.width + 1)
    inside[first:, column * lanes : batch.width * lanes] = True
    np.testing.assert_array_equal(out, np.where(inside.ravel(), whole, -1))


def test_update_has_the_bits_of_the_dense_product(batch, new_layer):
    masks_t = np.zeros(packed.groups_of(batch.n_rows) * batch.n_words * WORD, np.uint64)
    expected, w = batch.w.copy(), batch.w.copy()
    delta = Matrix(batch.delta, 0, batch.pitch)
    matmul.update(
        Matrix(expected, 0, batch.pitch), Gathered(batch.x, batch.starts, 0), delta, batch.zeros, batch.n_rows,
        Block(0, batch.n_in, 0, batch.width), -0.1,
    )  # fmt: skip
    middle = batch.n_in // 4 * 2
    for first, end in ((0, middle), (middle, batch.n_in)):
        layer = new_layer(
            n_in=batch.n_in, row=first, end_row=end, end_column=batch.width, partial_sums=batch.partial_sums
        )
        packed.update(Matrix(w, 0, batch.pitch), batch.packed, masks_t, delta, layer, batch.n_rows, -0.1)
    np.testing.assert_array_equal(bits(w), bits(expected))
    assert np.all(batch.delta[-(batch.pitch // (batch.width + 1)) :] == 7)  # behind the space for partial sums


def test_nan_in_a_row_stays_there(rng, dtype, lanes, new_layer):
    batch = Batch(rng, dtype, lanes, 4, 5, 3, "a fifth")
    batch.x[batch.order[1] * 5 + 2] = np.nan
    numbers, starts, _, masks = batch.packed
    packed.pack_row(numbers, starts[1], masks, 1, batch.x, batch.starts[1], 5)
    out = np.zeros(4 * batch.pitch, dtype)
    layer = new_layer(n_in=5, activation=CODES["relu"], delta_pitch=batch.pitch)
    batch.forward(out, layer, Block(0, 4, 0, batch.width))
    nan = np.isnan(out.reshape(4, -1)[:, :3])
    np.testing.assert_array_equal(nan.all(axis=1), [False, True, False, False])

"""Bit masks of lanes, and vectors moved by them, against NumPy and Python's integers."""

import numpy as np
import pytest

from fastmlp.kernels import bits
from fastmlp.kernels.jit import kernel
from fastmlp.kernels.vector_ops import load


@kernel
def masks_of(x, at):
    return bits.nonzero_lanes(x, at), bits.nonfinite_lanes(x, at)


@kernel
def nonzero_pairs(x, at):
    return bits.nonzero_pairs(x, at)


@kernel
def compress(out, out_at, x, at, mask):
    bits.compress(out, out_at, load(x, at), mask)


@kernel
def keep_lanes(out, out_at, x, at, mask, factor):
    bits.keep_lanes(out, out_at, x, at, mask, factor)


@kernel
def count_bits(mask):
    return bits.count_bits(mask)


@kernel
def extract_bits(mask, places):
    return bits.extract_bits(mask, places)


@kernel
def transpose_bits(words, at):
    bits.transpose_bits(words, at)


def bit_list(mask, n=64):
    return [int(mask) >> i & 1 for i in range(n)]


def random_words(rng, n=50):
    return np.concatenate([rng.integers(0, 2**64, n, np.uint64), np.array([0, 1, 2**63, 2**64 - 1], np.uint64)])


def test_masks_of_lanes(dtype, lanes):
    special = np.array([0, -0.0, 1, -1, np.nan, np.inf, -np.inf, np.finfo(dtype).smallest_subnormal], dtype)
    x = np.resize(special, 3 * lanes)
    for at in range(2 * lanes):
        nonzero, nonfinite = masks_of(x, at)
        np.testing.assert_array_equal(bit_list(nonzero, lanes), x[at : at + lanes] != 0)
        np.testing.assert_array_equal(bit_list(nonfinite, lanes), ~np.isfinite(x[at : at + lanes]))
        assert max(int(nonzero), int(nonfinite)) < 2**lanes


@pytest.mark.parametrize("density", [0.0, 0.1, 0.9, 1.0])
def test_a_pair_of_bytes_is_not_zero_if_one_of_them_is_not(rng, density):
    x = rng.integers(1, 256, 67).astype(np.uint8) * (rng.random(67) < density).astype(np.uint8)
    for at in (0, 3):
        expected = np.repeat(x[at : at + 64].reshape(32, 2).any(axis=1), 2)
        assert bit_list(nonzero_pairs(x, at)) == expected.tolist()


def test_lanes_are_moved_by_a_mask(rng, dtype, lanes):
    x = rng.standard_normal(2 * lanes).astype(dtype)
    for mask in {0, 1, 2**lanes - 1, *rng.integers(0, 2**lanes, 20).tolist()}:
        keep, out = np.array(bit_list(mask, lanes), bool), np.full(3 * lanes, 7, dtype)
        compress(out, lanes, x, 3, np.uint64(mask))
        expected = x[3 : 3 + lanes][keep]
        np.testing.assert_array_equal(out[lanes : lanes + len(expected)], expected)
        assert np.all(out[:lanes] == 7)
        assert np.all(out[2 * lanes :] == 7)
        keep_lanes(out, lanes, x, 3, np.uint64(mask), 0.7)
        np.testing.assert_array_equal(out[lanes : 2 * lanes], np.where(keep, x[3 : 3 + lanes] * dtype.type(0.7), 0))
        assert np.all(out[:lanes] == 7)
        assert np.all(out[2 * lanes :] == 7)


@pytest.mark.parametrize("extract", [extract_bits, bits._extract_one_by_one], ids=["extract", "one by one"])
def test_bits_are_counted_extracted_and_doubled(rng, extract):
    for word, places in zip(random_words(rng), random_words(rng)[::-1], strict=True):
        assert count_bits(word) == sum(bit_list(word))
        together = [bit for bit, place in zip(bit_list(word), bit_list(places), strict=True) if place]
        assert bit_list(extract(word, places)) == together + [0] * (64 - len(together))
        assert bit_list(bits.double_bits(word)) == [bit for bit in bit_list(word, 32) for _ in range(2)]


def test_a_square_of_bits_is_transposed(rng):
    words = rng.integers(0, 2**64, 70, np.uint64)
    before = words.copy()
    transpose_bits(words, 3)
    square = np.array([bit_list(word) for word in before[3:67]])
    np.testing.assert_array_equal([bit_list(word) for word in words[3:67]], square.T)
    np.testing.assert_array_equal(np.delete(words, slice(3, 67)), np.delete(before, slice(3, 67)))

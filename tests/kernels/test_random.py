"""Random numbers of kernels: to the bit those of `fastmlp.random`; noise to its rounding."""

import numpy as np
import pytest

from fastmlp import random as textbook
from fastmlp.kernels import random, vector_ops
from fastmlp.kernels.formats.dense import NOISE_LAYER
from fastmlp.kernels.jit import kernel

ROWS = np.array([0, 1, 59_999, 2**31, 2**40 + 7])
KEYS = [(0, 0, 0), (5, 6, 1), (2**32 - 1, 2**32 - 1, 3), (123456789, 77, NOISE_LAYER)]


@kernel
def keep_all(out, key, drop_below, scale):
    for k in range(0, len(out), vector_ops.lane_count(out)):
        vector_ops.store(out, k, random.kept(vector_ops.load(out, k), key, k, drop_below, scale))


@kernel
def bits_of(key, unit, drop_below):
    return random.kept_bits(key, unit, drop_below)


@kernel
def add_noise(out, key, size):
    for k in range(0, len(out), vector_ops.lane_count(out)):
        vector_ops.store(out, k, random.noisy(vector_ops.load(out, k), key, k, size))


@pytest.mark.parametrize(("seed", "epoch", "layer"), KEYS)
def test_keys_and_words(seed, epoch, layer):
    keys = textbook.row_keys(seed, epoch, ROWS, layer)
    assert [random.row_key(seed, epoch, row, layer) for row in ROWS] == keys.tolist()
    words = textbook.random_bits(keys, 200)
    assert [[random.random_bits(key, unit) for unit in range(200)] for key in keys.tolist()] == words.tolist()


@pytest.mark.parametrize("rate", [0.0, 1e-9, 0.2, 0.5, 1 - 1e-12])
def test_what_is_kept(rng, dtype, rate):
    drop_below = textbook.keep_threshold(rate)
    for key in textbook.row_keys(5, 6, ROWS, 0):
        x = rng.standard_normal(192).astype(dtype)
        keep = textbook.kept(np.array([key]), 192, rate)[0]
        got = x.copy()
        keep_all(got, int(key), drop_below, 1.3)
        np.testing.assert_array_equal(got, np.where(keep, x * dtype.type(1.3), 0))
        for unit in (0, 64, 128):
            bits = np.uint64(bits_of(int(key), unit, drop_below))
            assert [bool(bits >> np.uint64(i) & np.uint64(1)) for i in range(64)] == keep[unit : unit + 64].tolist()


def test_noise(rng, dtype):
    for key in textbook.row_keys(5, 6, np.arange(200), NOISE_LAYER):
        x = rng.standard_normal(192).astype(dtype)
        got = x.copy()
        add_noise(got, int(key), 0.3)
        noise = 0.3 * textbook.normal_noise(np.array([key]), 192)[0]
        np.testing.assert_allclose(got, x + noise.astype(dtype), rtol=0, atol=4 * np.finfo(dtype).eps)

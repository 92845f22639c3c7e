"""Rows of bytes, which are scaled as they are loaded, and packed there or not."""

import numpy as np
import pytest
from support.staging import N_FEATURES, SENTINEL, Stage

from fastmlp.kernels.formats import bytes as byte_rows


@pytest.mark.parametrize("n_in", N_FEATURES)
@pytest.mark.parametrize("scale", [1.0, 1 / 255, 0.1])
def test_bytes_are_scaled_like_numbers(rng, dtype, n_in, scale):
    stage = Stage(rng, dtype, n_in)
    x = rng.integers(0, 256, (9, n_in)).astype(np.uint8) * (rng.random((9, n_in)) < 0.7).astype(np.uint8)
    numbers = x.astype(dtype) * dtype.type(scale)
    stage.load(byte_rows.load_packed, x.reshape(-1), scale=scale)
    stage.assert_packed(numbers)
    stage.masks = np.zeros(0, np.uint64)  # only packed rows have masks
    stage.work[:] = SENTINEL
    stage.load(byte_rows.load, x.reshape(-1), scale=scale)
    np.testing.assert_array_equal(stage.loaded, numbers[stage.order])
    stage.assert_nothing_else_changed()

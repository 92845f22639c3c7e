"""Rows of numbers: they are read in place, and checked for numbers that are not finite."""

import numpy as np
import pytest
from support.staging import N_FEATURES, SENTINEL, Stage, with_zeros

from fastmlp.kernels.formats import dense
from fastmlp.kernels.formats.base import no_check


@pytest.mark.parametrize("n_in", N_FEATURES)
def test_rows_are_read_in_place(rng, dtype, n_in):
    x = with_zeros(rng, n_in, dtype, 0.5)
    stage = Stage(rng, dtype, n_in)
    stage.load(dense.load, x.reshape(-1))
    np.testing.assert_array_equal(stage.starts, stage.order * n_in)
    assert np.all(stage.masks == 7)
    assert np.all(stage.work == SENTINEL)


@pytest.mark.parametrize("n_in", N_FEATURES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_check_finds_bad_numbers(rng, dtype, n_in, bad):
    for n_bad in range(2 * n_in + 1):
        stage = Stage(rng, dtype, n_in)
        x = rng.standard_normal((9, n_in)).astype(dtype) * (rng.random((9, n_in)) < 0.5)
        row = stage.order[n_bad % 5]
        if n_bad < n_in:
            x[row, n_bad] = bad
        for first, end in ((0, 9), (row, row + 1)):
            found = stage.check(dense.check, x.reshape(-1), first, end - first)
            assert found == (first if n_bad < n_in else -1)
        assert stage.check(no_check, x.reshape(-1), 3, 5) == -1

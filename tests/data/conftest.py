"""The rows of the tests of blocks."""

import numpy as np
import pytest
from support.blocks import FEATURES, C, N


@pytest.fixture(scope="module")
def rows():
    """Rows of three classes, sorted by class."""
    random = np.random.default_rng(0)
    y = np.sort(random.integers(C, size=N))
    return (random.standard_normal((N, FEATURES)) + 2 * np.eye(C, FEATURES)[y]).astype(np.float32), y


@pytest.fixture
def files(rows, tmp_path):
    np.save(tmp_path / "x.npy", rows[0])
    np.save(tmp_path / "y.npy", rows[1])
    return tmp_path / "x.npy", tmp_path / "y.npy"

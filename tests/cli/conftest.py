"""What the tests of the command line train on."""

import numpy as np
import pytest


@pytest.fixture
def archive(tmp_path):
    """A file of user's data: two classes, told apart by the first of three columns."""
    X = np.random.default_rng(0).standard_normal((90, 3)).astype(np.float32)
    arrays = {"X_train": X[:60], "X_test": X[60:], "y_train": X[:60, 0] > 0, "y_test": X[60:, 0] > 0}

    def write(name="mine.npz", **changes):
        held = {key: value.astype(np.int64) if value.dtype == bool else value for key, value in arrays.items()}
        held = {key: value for key, value in (held | changes).items() if value is not None}
        np.savez(tmp_path / name, **held)
        return tmp_path / name

    return write

"""Row formats, as parameters of tests."""

import numpy as np
import pytest
from scipy import sparse

from fastmlp.engine.rows import rows_to_train
from fastmlp.kernels.formats import FORMATS

BYTE_SCALE = 1 / 255

TRAIN_ROWS = {
    rows.name: (name, rows)
    for name, row_format in FORMATS.items()
    for rows in (row_format.train, row_format.dropout, row_format.noise)
    if rows is not None
}
"""By the names of the loops that train: the row format, and the `formats.Rows` of the loop."""

PLAIN_ROWS = {rows.name for name, rows in TRAIN_ROWS.values() if rows is FORMATS[name].train}
"""Loops that train without dropout and noise on the inputs."""


def row_param(name, *others, dtype=None):
    """Return the name of rows, and the parameters beside it, to be tested in one dtype and slowly in the other.

    Bytes and CSR rows are tested in float32, rows with dropout or noise in float64, the others in both; `dtype`
    overrides that.
    """
    if dtype is None and name in TRAIN_ROWS and name not in PLAIN_ROWS:
        dtype = "float64"
    elif dtype is None and name.replace("_", " ") in ("bytes", "packed bytes", "csr"):
        dtype = "float32"
    return pytest.param(name, *others, marks=pytest.mark.main_dtype(dtype) if dtype else ())


def in_format(x, name):
    """Return X (n, I) in a row format, as users pass it, and the numbers that this format holds."""
    if "bytes" in name:
        X = (100 * np.abs(x)).astype(np.uint8)
        return X, X.astype(x.dtype) * x.dtype.type(BYTE_SCALE)
    return sparse.csr_array(x) if name == "csr" else x, x


def train_rows(X, name, n_threads=1):
    """Return the `engine.rows.Rows` of X, which must come out in this format."""
    rows = rows_to_train(X, "sparse" if "packed" in name else "dense", 8, n_threads)
    assert rows.format == name
    return rows

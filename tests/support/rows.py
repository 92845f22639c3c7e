"""Kinds of rows, as parameters of tests."""

import pytest


def kind_of_rows(kind, *others, dtype=None):
    """Return a kind of rows, and the parameters beside it, to be tested in one dtype and as a slow test in the other.

    Bytes and CSR rows are tested in float32, dropout and noise in float64, the others in both; `dtype` says otherwise.
    """
    if dtype is None and kind.startswith(("disturbed", "dropped")):
        dtype = "float64"
    elif dtype is None and kind in ("bytes", "sparse bytes", "csr"):
        dtype = "float32"
    return pytest.param(kind, *others, marks=pytest.mark.main_dtype(dtype) if dtype else ())

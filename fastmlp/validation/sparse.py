"""Checks of sparse matrices. Kernels do not check indices, so broken ones must never reach them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["as_csr", "check_lines", "csr_rows", "is_sparse"]


def is_sparse(data: object) -> bool:
    """Return whether `data` is a sparse matrix."""
    return hasattr(data, "tocsr")  # so has every sparse class of SciPy


def as_csr(X: Any, name: str, *, copy: bool = False) -> Any:
    """Return a sparse matrix (n, I) as a CSR array with sorted indices and without duplicates.

    Indices are copied in any case, and the numbers with ``copy=True``: a loader may write the next rows over them.

    Raises
    ------
    ValueError
        If its indices are broken. They are checked before SciPy reads them.
    """
    from scipy import sparse  # a sparse matrix comes from SciPy, so it is installed

    n_rows, n_features = X.shape
    csr = sparse.csr_array(_without_bad_indices(X, name).tocsr())
    _check_indices(csr.indptr, csr.indices, csr.data, n_rows, n_features, name)
    if not _is_sorted(csr):
        csr = csr.copy()
        csr.has_canonical_format = csr.has_sorted_indices = False  # cached flags may be stale
        csr.sum_duplicates()
    elif copy:
        csr.data = csr.data.copy()
    return csr


def csr_rows(csr: Any, start: int, stop: int, name: str) -> Any:
    """Return a copy of some rows of a CSR matrix. SciPy would read behind the ends of broken ones.

    Raises
    ------
    ValueError
        If these rows are broken. They are checked each time, since somebody may write to them meanwhile.
    """
    from scipy import sparse

    indptr, n_rows = np.array(csr.indptr[start : stop + 1]), stop - start
    first, end = (max(0, int(place)) for place in (indptr[0], indptr[-1]))
    indices, data = np.array(csr.indices[first:end]), np.array(csr.data[first:end])
    indptr -= indptr.dtype.type(first)
    _check_indices(indptr, indices, data, n_rows, csr.shape[1], name)
    return sparse.csr_array((data, indices, indptr), shape=(n_rows, csr.shape[1]))


def _without_bad_indices(X: Any, name: str) -> Any:
    """Return a sparse matrix that SciPy can convert without reading out of bounds, with its own copy of the indices.

    They are copied before they are checked: checked indices must not change while kernels use them.
    """
    n_rows, n_features = X.shape
    if X.format in ("csr", "csc", "bsr"):
        indptr, indices, data = np.array(X.indptr), np.array(X.indices), np.asarray(X.data)
        if X.format == "csr":
            _check_indices(indptr, indices, data, n_rows, n_features, name)
        elif X.format == "csc":
            _check_indices(indptr, indices, data, n_features, n_rows, name)
        elif data.ndim != 3 or not all(data.shape[1:]):
            raise ValueError(f"{name} is broken: its data must have three dimensions, but its shape is {data.shape}")
        else:
            _check_indices(indptr, indices, data[:, 0, 0], n_rows // data.shape[1], n_features // data.shape[2], name)
        return type(X)((data, indices, indptr), shape=X.shape)
    if X.format == "coo":
        row, column = np.array(X.row), np.array(X.col)
        for places, n_places in ((row, n_rows), (column, n_features)):
            _check_range(places, n_places, name)
        if not len(row) == len(column) == len(X.data):
            raise ValueError(f"{name} is broken: it has {len(X.data)} values, but {len(row)} indices")
        return type(X)((X.data, (row, column)), shape=X.shape)
    if X.format == "lil" and [len(row) for row in X.rows] != [len(row) for row in X.data]:
        raise ValueError(f"{name} is broken: a row has different numbers of values and of indices")
    if X.format == "dia" and (np.ndim(X.data) != 2 or len(X.data) != len(X.offsets)):
        raise ValueError(f"{name} is broken: it has {len(X.data)} diagonals, but {len(X.offsets)} offsets")
    return X


def _check_indices(indptr: Any, indices: Any, data: Any, n_lines: int, n_places: int, name: str) -> None:
    """Refuse broken indices of a compressed matrix: `n_lines` rows (or columns) with `n_places` each."""
    check_lines(indptr, indices, data, n_lines, name)
    _check_range(indices[: indptr[-1]], n_places, name)


def check_lines(indptr: Any, indices: Any, data: Any, n_lines: int, name: str) -> None:
    """Refuse a compressed matrix that does not say where each of its lines begins and ends."""
    for array, what in ((indptr, "indptr"), (indices, "indices"), (data, "data")):
        if np.ndim(array) != 1:
            raise ValueError(
                f"{name} is broken: its {what} must have one dimension, but its shape is {np.shape(array)}"
            )
    if len(indptr) != n_lines + 1:
        raise ValueError(f"{name} is broken: its indptr must have {n_lines + 1} entries, not {len(indptr)}")
    if indptr.dtype.kind not in "iu":
        raise ValueError(f"{name} is broken: its indptr must be integers, not {indptr.dtype}")
    if indptr[0] != 0 or np.any(indptr[1:] < indptr[:-1]):
        raise ValueError(f"{name} is broken: its indptr must start with 0 and never decrease")
    if indptr[-1] > min(len(indices), len(data)):
        raise ValueError(
            f"{name} is broken: its indptr ends at {indptr[-1]}, "
            f"but there are {len(indices)} indices and {len(data)} numbers"
        )


def _check_range(indices: npt.NDArray[Any], n_places: int, name: str) -> None:
    if indices.dtype.kind not in "iu":
        raise ValueError(f"{name} is broken: its indices must be integers, not {indices.dtype}")
    if len(indices) and not 0 <= indices.min() <= indices.max() < n_places:
        bad = indices[(indices < 0) | (indices >= n_places)][0]
        raise ValueError(f"{name} is broken: its indices must be from 0 to {n_places - 1}, but there is {bad}")


def _is_sorted(csr: Any) -> bool:
    """Return whether the indices of each row increase."""
    indices = csr.indices[: csr.indptr[-1]]
    grows = indices[1:] > indices[:-1]
    starts = csr.indptr[1:-1]
    grows[starts[(starts > 0) & (starts < len(indices))] - 1] = True
    return bool(grows.all())

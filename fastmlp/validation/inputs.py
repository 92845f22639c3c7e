"""Checks of X, and of arrays in general."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.engine.cores import at_work, share
from fastmlp.engine.threads import run_team
from fastmlp.validation.frames import frame_as_array, is_frame, is_series, missing_value, series_as_array
from fastmlp.validation.sparse import as_csr, is_sparse

__all__ = ["as_numbers", "check_X", "check_finite"]

_BLOCK_BYTES = 1 << 20  # of rows checked at a time, to find a value that is not finite

_KINDS = {"O": "object", "U": "string", "S": "string", "T": "string", "c": "complex", "M": "date", "m": "time"}


def as_numbers(data: object, name: str, advice: str) -> npt.NDArray[Any]:
    """Return `data` as an array of real numbers (float, integer or bool), if possible without a copy.

    Tables and their columns may be nullable, and have columns of several kinds of numbers.
    """
    if type(data) is np.ndarray and data.dtype.kind in "fiub":
        return data  # at once: a step on a few rows takes microseconds
    if hasattr(data, "tocsr"):  # as every sparse matrix has
        raise TypeError(f"{name} is sparse; make it dense first: {name.split()[-1]}.toarray()")
    if isinstance(data, np.ma.MaskedArray) and np.ma.is_masked(data):
        count = np.count_nonzero(np.ma.getmaskarray(data))
        raise ValueError(f"{name} has {count} masked values; fill them first: {name.split()[-1]}.filled(value)")
    if is_frame(data):
        return frame_as_array(data, name)
    try:
        array: npt.NDArray[Any] = series_as_array(data, name) if is_series(data) else np.asarray(data)
    except ValueError as error:
        if is_series(data):
            raise
        raise ValueError(f"{name} cannot be made an array: its rows differ in length or kind ({error})") from error
    if array.dtype.kind not in "fiub":
        kind = _KINDS.get(array.dtype.kind, "unknown")
        raise TypeError(f"{name} holds {kind} values (dtype {array.dtype}), not numbers; {advice}")
    return array


def _check_shape(shape: tuple[int, ...], n_features: int, name: str) -> None:
    word = name.split()[-1]
    if math.prod(shape) == 0:
        raise ValueError(f"{name} is empty: its shape is {shape}")
    if len(shape) == 1:
        advice = "reshape(-1, 1) for one feature" if n_features == 1 else "reshape(1, -1) for a single row"
        raise ValueError(f"{name} must have two dimensions (rows, features), not one; use {word}.{advice}")
    if len(shape) != 2:
        advice = f"; use {word}.reshape(len({word}), -1)" if len(shape) > 2 else ""
        raise ValueError(f"{name} must have two dimensions (rows, features), but its shape is {shape}{advice}")
    if shape[1] != n_features:
        raise ValueError(f"{name} has {shape[1]} features, but the network has {n_features} inputs")


def _all_finite(array: npt.NDArray[Any]) -> bool:
    if array.nbytes < _BLOCK_BYTES:
        return bool(np.isfinite(array).all())
    if array.nbytes <= 16 * _BLOCK_BYTES:
        return _sum_is_finite(array, 1)
    return at_work(lambda: _sum_is_finite(array, share()))


def _sum_is_finite(array: npt.NDArray[Any], n_threads: int) -> bool:
    sums = [0.0] * n_threads

    def add(rank: int) -> None:  # fast, without a temporary: a sum with NaN or infinity is not finite
        first, last = (len(array) * r // n_threads for r in (rank, rank + 1))
        with np.errstate(over="ignore", invalid="ignore"):
            sums[rank] = float(array[first:last].sum())

    if n_threads == 1:
        add(0)
    else:
        run_team(n_threads, add)
    return all(map(math.isfinite, sums))


def check_finite(array: npt.NDArray[Any], source: npt.NDArray[Any], name: str, columns: Any = None) -> None:
    """Refuse `array` (n, I) if a value is not finite. The error names the first one as it is in `source`.

    `columns` are the names of the columns of a table, where NaN stands for a missing value.
    """
    if _all_finite(array):
        return
    n_rows = max(1, _BLOCK_BYTES // array[0].nbytes)
    for start in range(0, len(array), n_rows):
        bad = np.argwhere(~np.isfinite(array[start : start + n_rows]))
        if len(bad):
            row, column = bad[0] + (start, 0)
            value = source[row, column]
            what = f"{value}, too large for {array.dtype}," if np.isfinite(value) else f"{value}"
            if columns is not None and np.isnan(value):
                raise ValueError(missing_value(name, row, f", column {columns[column]!r}"))
            raise ValueError(f"{name} has {what} in row {row}, column {_column(column, columns)}")


def _column(column: int, columns: Any) -> str:
    return str(column) if columns is None else repr(columns[column])


def check_X(
    X: object, n_features: int, dtype: npt.DTypeLike, scale: float = 1.0, name: str = "X", *, finite: bool = True
) -> Any:
    """Return `X` as the engines take it: an array (n, n_features) of `dtype`, times `scale`, or of uint8, or CSR.

    Arrays are C-contiguous, aligned and in native byte order. All values are finite. Bytes (uint8) are not scaled yet.
    CSR rows have sorted indices without duplicates. Data that is already in this form is not copied; with
    ``finite=False`` its values are not checked, because the engine will.

    Raises
    ------
    TypeError
        If `X` does not hold real numbers.
    ValueError
        If its shape does not fit, values are masked, missing or infinite, or its indices are broken.
    """
    if type(X) is np.ndarray and not finite and _is_ready(X, dtype, scale) and X.size and X.shape[1:] == (n_features,):
        return X  # a shortcut: predicting one row takes a few microseconds
    if is_sparse(X):
        return _check_csr(X, n_features, dtype, scale, name)
    source = as_numbers(X, name, f"convert it first, e.g. {name.split()[-1]}.astype(np.float32)")
    _check_shape(source.shape, n_features, name)
    if source.dtype == np.uint8 and 255 * scale < float(np.finfo(dtype).max):
        return np.require(source, np.uint8, ["C"])
    if is_frame(X):
        return _as_finite(source, dtype, scale, name, X.columns)  # type: ignore[attr-defined]
    return source if not finite and _is_ready(source, dtype, scale) else _as_finite(source, dtype, scale, name)


def _is_ready(source: npt.NDArray[Any], dtype: npt.DTypeLike, scale: float) -> bool:
    return source.dtype == dtype and scale == 1 and source.flags.c_contiguous and source.flags.aligned


def _as_finite(
    source: npt.NDArray[Any], dtype: npt.DTypeLike, scale: float, name: str, columns: Any = None
) -> npt.NDArray[Any]:
    array = source
    if not _is_ready(source, dtype, scale):
        with np.errstate(over="ignore", under="ignore"):  # check_finite reports what overflowed
            array = np.require(source, dtype, ["C", "A"])
            if scale != 1:
                array = array * array.dtype.type(scale)
    check_finite(array, source, name, columns)
    return array


def _check_csr(X: Any, n_features: int, dtype: npt.DTypeLike, scale: float, name: str) -> Any:
    """Return a sparse matrix as `check_X` does, in CSR format."""
    from scipy import sparse

    _check_shape(X.shape, n_features, name)
    if X.dtype.kind not in "fiub":
        raise TypeError(f"{name} holds {_KINDS.get(X.dtype.kind, 'unknown')} values (dtype {X.dtype}), not numbers")
    csr = as_csr(X, name)
    data = _as_finite(csr.data[: csr.indptr[-1], None], dtype, scale, f"the numbers of {name}")[:, 0]
    return sparse.csr_array((np.ascontiguousarray(data), csr.indices[: csr.indptr[-1]], csr.indptr), shape=csr.shape)

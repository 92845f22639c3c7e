"""Tables of pandas and polars as arrays. They are recognized by what they have, so neither package is imported."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["column_names", "frame_as_array", "is_frame", "is_series", "series_as_array"]

_SHOWN = 5
_DTYPES = {"f": np.float64, "i": np.int64, "u": np.uint64, "b": np.bool_}


def is_frame(data: object) -> bool:
    """Return whether `data` is a table with named columns."""
    return type(data) is not np.ndarray and hasattr(data, "columns") and hasattr(data, "dtypes")


def is_series(data: object) -> bool:
    """Return whether `data` is a column of a table."""
    return hasattr(data, "to_numpy") and hasattr(data, "dtype") and not is_frame(data)


def column_names(data: object) -> tuple[str, ...] | None:
    """Return the names of the columns of a table, or None if `data` is none or some names are no strings."""
    if not is_frame(data):
        return None
    names = tuple(data.columns)  # type: ignore[attr-defined]
    return tuple(map(str, names)) if names and all(isinstance(name, str) for name in names) else None


def frame_as_array(frame: Any, name: str) -> npt.NDArray[Any]:
    """Return the numbers (n, I) of a table, if possible without a copy; bools are 0 and 1.

    Raises
    ------
    TypeError
        If a column holds something else. All such columns are named.
    ValueError
        If a value is missing.
    """
    labels, dtypes = list(frame.columns), list(frame.dtypes)
    kinds = {dtype: _kind(dtype) for dtype in set(dtypes)}
    if None in kinds.values():
        bad = [f"{label!r} ({dtype})" for label, dtype in zip(labels, dtypes, strict=True) if kinds[dtype] is None]
        more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        advice = "drop them, or make numbers of them, e.g. with pandas.get_dummies"
        raise TypeError(f"{name} has columns that are not numbers: {', '.join(bad[:_SHOWN])}{more}; {advice}")
    if labels and all(isinstance(dtype, np.dtype) for dtype in kinds):
        array: npt.NDArray[Any] = frame.to_numpy(dtype=np.result_type(*kinds))
        return array
    columns = [frame.iloc[:, i] if hasattr(frame, "iloc") else frame[label] for i, label in enumerate(labels)]
    arrays = [series_as_array(c, name, f", column {label!r}") for c, label in zip(columns, labels, strict=True)]
    return np.stack(arrays, axis=1) if arrays else np.zeros((len(frame), 0))


def series_as_array(series: Any, name: str, where: str = "") -> npt.NDArray[Any]:
    """Return a column of a table as an array (n,). The kind is that of NumPy; it need not be numbers.

    Raises
    ------
    ValueError
        If a value of a nullable column is missing.
    """
    kind = _kind(series.dtype)
    if kind is None or isinstance(series.dtype, np.dtype):
        return np.asarray(series)
    missing = np.asarray(series.isna() if hasattr(series, "isna") else series.is_null())
    if missing.any():
        raise ValueError(missing_value(name, int(missing.argmax()), where))
    array = np.asarray(series)
    return array.astype(_DTYPES[kind]) if array.dtype == object else array


def missing_value(name: str, row: int, where: str) -> str:
    """Return the message about a missing value."""
    word = name.split()[-1]
    return f"{name} has a missing value in row {row}{where}; fill it or drop the row, e.g. {word}.fillna(0)"


def _kind(dtype: Any) -> str | None:
    """Return the kind of a column of numbers as NumPy abbreviates it (f, i, u, b), or None of any other column."""
    if hasattr(dtype, "is_numeric"):  # polars
        kinds = {"b": str(dtype) == "Boolean", "u": dtype.is_unsigned_integer(), "i": dtype.is_integer()}
        kinds["f"] = dtype.is_float()
        return next((kind for kind, is_kind in kinds.items() if is_kind), None)
    kind = getattr(dtype, "kind", None)
    return kind if kind in _DTYPES else None

"""Checks of what users hand in; both networks call them before anything changes.

Every check returns the value in the form that the networks use, or raises ValueError or TypeError in the user's words.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.threads import available_threads, run_together

__all__ = [
    "check_X",
    "check_choice",
    "check_dtype",
    "check_input_scale",
    "check_layers",
    "check_learning_rate",
    "check_n_threads",
    "check_positive_int",
    "check_seed",
    "check_validation_data",
    "check_y",
]

_BLOCK_BYTES = 1 << 20  # of rows looked at together, to find a value that is not finite

_MOST_THREADS = 1024

_NOTHING: Mapping[str, str] = {}

_KINDS = {"O": "object", "U": "string", "S": "string", "T": "string", "c": "complex", "M": "date", "m": "time"}


# --- settings ---------------------------------------------------------------------------------------------------------


def _check_int(name: str, value: object, least: int, expected: str = "an integer") -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be {expected}, not {value!r}")
    if int(value) < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    return int(value)


def check_layers(layers: object) -> tuple[int, ...]:
    """Return the layer sizes as a tuple: at least two integers, each 1 or more."""
    if isinstance(layers, str) or not isinstance(layers, (Sequence, np.ndarray)):
        raise TypeError(f"layers must be a list of layer sizes, e.g. [784, 128, 10], not {layers!r}")
    if len(layers) < 2:
        raise ValueError(f"layers must name at least two sizes, inputs and outputs, e.g. [784, 10], not {layers!r}")
    return tuple(check_positive_int(f"layers[{i}]", size) for i, size in enumerate(layers))


def check_choice(name: str, value: object, choices: Sequence[str], also_called: Mapping[str, str] = _NOTHING) -> str:
    """Return `value` if it is one of `choices`; if not, say which exist and which may be meant."""
    if isinstance(value, str) and value in choices:
        return value
    word = value.lower() if isinstance(value, str) else ""
    close = [also_called[word]] if word in also_called else difflib.get_close_matches(word, choices, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    kind = ValueError if isinstance(value, str) else TypeError
    raise kind(f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}{hint}")


def check_dtype(value: object, choices: Sequence[str]) -> str:
    """Return the name of a dtype, given as a name or as NumPy's own (np.float32), if it is one of `choices`."""
    if value is not None and not isinstance(value, str):
        with contextlib.suppress(TypeError):  # check_choice refuses it
            value = np.dtype(value).name  # type: ignore[call-overload]
    return check_choice("dtype", value, choices)


def check_positive_int(name: str, value: object) -> int:
    """Return `value` as an int, if it is an integer of 1 or more."""
    return _check_int(name, value, 1)


def check_learning_rate(value: object) -> float:
    """Return the learning rate as a float, if it is positive and finite, also as float32."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"learning_rate must be a number, not {value!r}")
    try:
        rate = float(value)
    except OverflowError:  # an int or a fraction beyond every float
        rate = math.inf
    if not 0 < rate < math.inf:
        raise ValueError(f"learning_rate must be positive and finite, not {value}")
    with np.errstate(over="ignore", under="ignore"):
        rate32 = np.float32(rate)
    if not 0 < rate32 < np.inf:
        raise ValueError(f"learning_rate {value} is too {'small' if rate < 1 else 'large'}: float32 makes it {rate32}")
    return rate


def check_input_scale(value: object, dtype: str) -> float:
    """Return the factor of the input as a float, if it is positive and finite, also in `dtype`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"input_scale must be a number, not {value!r}")
    try:
        with np.errstate(over="ignore", under="ignore"):
            scale = float(np.dtype(dtype).type(value))
    except OverflowError:  # an int or a fraction beyond every float
        scale = math.inf
    if not 0 < scale < math.inf:
        raise ValueError(f"input_scale must be positive and finite, not {value}")
    return scale


def check_seed(seed: object) -> int | None:
    """Return the seed as an int of 0 or more, or None."""
    return None if seed is None else _check_int("seed", seed, 0, "an integer or None")


def check_n_threads(value: object) -> int | None:
    """Return the number of threads as an int from 1 to 1024, or None."""
    n_threads = None if value is None else _check_int("n_threads", value, 1, "an integer or None")
    if n_threads is not None and n_threads > _MOST_THREADS:
        raise ValueError(f"n_threads must be at most {_MOST_THREADS}, not {n_threads}")
    return n_threads


# --- data -------------------------------------------------------------------------------------------------------------


def _as_numbers(data: object, name: str, advice: str) -> npt.NDArray[Any]:
    """Return `data` as a plain array of real numbers (float, integer or bool), without a copy where it can be."""
    if _is_sparse(data):
        raise TypeError(f"{name} is sparse; make it dense first: {name.split()[-1]}.toarray()")
    if isinstance(data, np.ma.MaskedArray) and np.ma.is_masked(data):
        count = np.count_nonzero(np.ma.getmaskarray(data))
        raise ValueError(f"{name} has {count} masked values; fill them first: {name.split()[-1]}.filled(value)")
    try:
        array: npt.NDArray[Any] = np.asarray(data)
    except ValueError as error:
        raise ValueError(f"{name} cannot be made an array: its rows differ in length or kind ({error})") from error
    if array.dtype.kind not in "fiub":
        kind = _KINDS.get(array.dtype.kind, "unknown")
        raise TypeError(f"{name} holds {kind} values (dtype {array.dtype}), not numbers; {advice}")
    return array


def _check_shape(array: npt.NDArray[Any], n_features: int, name: str) -> None:
    word = name.split()[-1]
    if array.size == 0:
        raise ValueError(f"{name} is empty: its shape is {array.shape}")
    if array.ndim == 1:
        advice = "reshape(-1, 1) for one feature" if n_features == 1 else "reshape(1, -1) for a single row"
        raise ValueError(f"{name} must have two dimensions (rows, features), not one; use {word}.{advice}")
    if array.ndim != 2:
        advice = f"; use {word}.reshape(len({word}), -1)" if array.ndim > 2 else ""
        raise ValueError(f"{name} must have two dimensions (rows, features), but its shape is {array.shape}{advice}")
    if array.shape[1] != n_features:
        raise ValueError(f"{name} has {array.shape[1]} features, but the network has {n_features} inputs")


def _all_finite(array: npt.NDArray[Any]) -> bool:
    if array.nbytes < _BLOCK_BYTES:
        return bool(np.isfinite(array).all())
    n_threads = available_threads() if array.nbytes > 16 * _BLOCK_BYTES else 1
    sums = [0.0] * n_threads

    def add(rank: int) -> None:  # one quick pass without a temporary: NaN and infinity stay in a sum
        first, last = (len(array) * r // n_threads for r in (rank, rank + 1))
        with np.errstate(over="ignore", invalid="ignore"):
            sums[rank] = float(array[first:last].sum())

    if n_threads == 1:
        add(0)
    else:
        run_together(n_threads, add)
    return all(map(math.isfinite, sums))


def _check_finite(array: npt.NDArray[Any], source: npt.NDArray[Any], name: str) -> None:
    """Refuse `array` (n, I), made from `source`, if a value is not finite; name the first such place."""
    if _all_finite(array):
        return
    n_rows = max(1, _BLOCK_BYTES // array[0].nbytes)
    for start in range(0, len(array), n_rows):
        bad = np.argwhere(~np.isfinite(array[start : start + n_rows]))
        if len(bad):
            row, column = bad[0] + (start, 0)
            value = source[row, column]
            what = f"{value}, too large for {array.dtype}," if np.isfinite(value) else f"{value}"
            raise ValueError(f"{name} has {what} in row {row}, column {column}")


def check_X(X: object, n_features: int, dtype: npt.DTypeLike, scale: float = 1.0, name: str = "X") -> Any:
    """Return `X` as a (n, n_features) array of `dtype`, times `scale`, or of bytes, or as a CSR array.

    Arrays are C-contiguous, aligned and of native byte order; all values are finite. Bytes (uint8) are neither copied
    nor scaled. The numbers of a row of a CSR array are in order, one for a feature. What already is so is not copied.

    Raises
    ------
    TypeError
        If `X` does not hold real numbers.
    ValueError
        If its shape does not fit, it has masked, missing or infinite values, or its indices are broken.
    """
    if _is_sparse(X):
        return _check_csr(X, n_features, dtype, scale, name)
    source = _as_numbers(X, name, f"convert it first, e.g. {name.split()[-1]}.astype(np.float32)")
    _check_shape(source, n_features, name)
    if source.dtype == np.uint8 and 255 * scale < float(np.finfo(dtype).max):
        return np.require(source, np.uint8, ["C"])
    return _as_finite(source, dtype, scale, name)


def _as_finite(source: npt.NDArray[Any], dtype: npt.DTypeLike, scale: float, name: str) -> npt.NDArray[Any]:
    array = source
    if source.dtype != dtype or scale != 1 or not (source.flags.c_contiguous and source.flags.aligned):
        with np.errstate(over="ignore", under="ignore"):  # _check_finite says what overflowed, and where
            array = np.require(source, dtype, ["C", "A"])
            if scale != 1:
                array = array * array.dtype.type(scale)
    _check_finite(array, source, name)
    return array


def _is_sparse(data: object) -> bool:
    return hasattr(data, "tocsr")  # every sparse class of SciPy


def _check_csr(X: Any, n_features: int, dtype: npt.DTypeLike, scale: float, name: str) -> Any:
    """Return a sparse matrix as a CSR array whose rows are in order; what is broken is found before SciPy reads it."""
    from scipy import sparse  # whoever has a sparse matrix has SciPy

    if X.ndim != 2:
        raise ValueError(f"{name} must have two dimensions (rows, features), but its shape is {X.shape}")
    if X.shape[0] == 0:
        raise ValueError(f"{name} is empty: its shape is {X.shape}")
    if X.shape[1] != n_features:
        raise ValueError(f"{name} has {X.shape[1]} features, but the network has {n_features} inputs")
    if X.dtype.kind not in "fiub":
        raise TypeError(f"{name} holds {_KINDS.get(X.dtype.kind, 'unknown')} values (dtype {X.dtype}), not numbers")
    csr = sparse.csr_array(_whole(X, name).tocsr())
    _check_indices(csr.indptr, csr.indices, csr.data, X.shape[0], n_features, name)
    if not _rows_in_order(csr):
        csr = csr.copy()
        csr.has_canonical_format = csr.has_sorted_indices = False  # what it remembers may be stale
        csr.sum_duplicates()
    data = _as_finite(csr.data[: csr.indptr[-1], None], dtype, scale, f"the numbers of {name}")[:, 0]
    return sparse.csr_array((np.ascontiguousarray(data), csr.indices[: csr.indptr[-1]], csr.indptr), shape=csr.shape)


def _whole(X: Any, name: str) -> Any:
    """Return a sparse matrix whose conversion by SciPy reads nothing beyond it, with indices that nobody else has.

    Whoever keeps a matrix can change its indices while kernels trust them, so they are copied before they are checked.
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
            raise ValueError(f"{name} is broken: it has {len(X.data)} numbers at {len(row)} places")
        return type(X)((X.data, (row, column)), shape=X.shape)
    if X.format == "lil" and [len(row) for row in X.rows] != [len(row) for row in X.data]:
        raise ValueError(f"{name} is broken: a row has more numbers than places, or fewer")
    if X.format == "dia" and (np.ndim(X.data) != 2 or len(X.data) != len(X.offsets)):
        raise ValueError(f"{name} is broken: it has {len(X.data)} diagonals at {len(X.offsets)} places")
    return X


def _check_indices(indptr: Any, indices: Any, data: Any, n_lines: int, n_places: int, name: str) -> None:
    """Refuse a compressed matrix of `n_lines` rows (or columns) of `n_places` each whose indices are broken."""
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
    _check_range(indices[: indptr[-1]], n_places, name)


def _check_range(indices: npt.NDArray[Any], n_places: int, name: str) -> None:
    if indices.dtype.kind not in "iu":
        raise ValueError(f"{name} is broken: its indices must be integers, not {indices.dtype}")
    if len(indices) and not 0 <= indices.min() <= indices.max() < n_places:
        bad = indices[(indices < 0) | (indices >= n_places)][0]
        raise ValueError(f"{name} is broken: its indices must be from 0 to {n_places - 1}, but there is {bad}")


def _rows_in_order(csr: Any) -> bool:
    """Whether the features of each row grow from number to number."""
    indices = csr.indices[: csr.indptr[-1]]
    grows = indices[1:] > indices[:-1]
    starts = csr.indptr[1:-1]
    grows[starts[(starts > 0) & (starts < len(indices))] - 1] = True
    return bool(grows.all())


def _labels_from_one_hot(onehot: npt.NDArray[Any], n_classes: int, name: str) -> npt.NDArray[np.int32]:
    if onehot.shape[1] == 1 and n_classes != 1:
        word = name.split()[-1]
        raise ValueError(f"{name} is a column of shape {onehot.shape}; use {word}.ravel() for class labels")
    if onehot.shape[1] != n_classes:
        raise ValueError(f"{name} has {onehot.shape[1]} one-hot columns, but the network has {n_classes} outputs")
    ones, zeros = np.count_nonzero(onehot == 1, axis=1), np.count_nonzero(onehot == 0, axis=1)
    bad = np.flatnonzero((ones != 1) | (zeros != n_classes - 1))
    if len(bad):
        raise ValueError(f"{name} must be one-hot, a single 1 and zeros in each row, but row {bad[0]} is not")
    labels: npt.NDArray[np.int32] = onehot.argmax(axis=1).astype(np.int32)
    return labels


def _check_labels(labels: npt.NDArray[Any], n_classes: int, name: str) -> None:
    """Refuse labels (n,) that are not the integers 0 to n_classes - 1."""
    if labels.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(labels) | (labels != np.floor(labels)))
        if len(bad):
            value = labels[bad[0]]
            raise ValueError(f"{name} has {value} in row {bad[0]}, but class labels are integers from 0 on")
    low, high = int(labels.min()), int(labels.max())
    if low < 0:
        raise ValueError(f"{name} has label {low}, but class labels are 0 to {n_classes - 1}")
    if high >= n_classes:
        raise ValueError(
            f"{name} has label {high}, but the network has {n_classes} outputs (labels 0 to {n_classes - 1})"
        )


def check_y(y: object, n_rows: int, n_classes: int, name: str = "y") -> npt.NDArray[np.int32]:
    """Return `y`, class labels (n,) or one-hot rows (n, C), as a C-contiguous (n,) int32 array of class labels.

    Raises
    ------
    TypeError
        If `y` is sparse or does not hold real numbers.
    ValueError
        If its length is not `n_rows`, or a label is not one of 0 to n_classes - 1.
    """
    word = name.split()[-1]
    array = _as_numbers(y, name, f"number the classes first: classes, {word} = np.unique({word}, return_inverse=True)")
    if array.ndim not in (1, 2):
        raise ValueError(f"{name} must be class labels (n,) or one-hot (n, C), but its shape is {array.shape}")
    if len(array) != n_rows:
        raise ValueError(f"{name.removesuffix('y')}X has {n_rows} rows, but {name} has {len(array)}")
    if array.ndim == 2:
        return _labels_from_one_hot(array, n_classes, name)
    _check_labels(array, n_classes, name)
    return np.array(array, np.int32)  # a copy, that nobody can change: kernels trust it


def check_validation_data(
    validation_data: object, n_features: int, n_classes: int, dtype: npt.DTypeLike, scale: float = 1.0
) -> tuple[Any, npt.NDArray[np.int32]] | None:
    """Return the pair (X, y), each checked like training data, or None for None."""
    if validation_data is None:
        return None
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
        raise TypeError("validation_data must be a pair (X, y)")
    X = check_X(validation_data[0], n_features, dtype, scale, "validation X")
    return X, check_y(validation_data[1], X.shape[0], n_classes, "validation y")

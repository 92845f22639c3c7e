"""Checks of y.

Every check returns the targets in the form that the engines use, or raises TypeError or ValueError.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.validation.inputs import as_numbers, check_finite

__all__ = ["check_numbers", "check_two_classes", "check_y"]


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
    low, high = int(np.minimum.reduce(labels)), int(np.maximum.reduce(labels))
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
    array = as_numbers(y, name, f"number the classes first: classes, {word} = np.unique({word}, return_inverse=True)")
    if array.ndim not in (1, 2):
        raise ValueError(f"{name} must be class labels (n,) or one-hot (n, C), but its shape is {array.shape}")
    if len(array) != n_rows:
        raise ValueError(f"{name.removesuffix('y')}X has {n_rows} rows, but {name} has {len(array)}")
    if array.ndim == 2:
        return _labels_from_one_hot(array, n_classes, name)
    labels = np.array(array)  # a copy before the check: kernels would write outside of their arrays for a wrong label
    _check_labels(labels, n_classes, name)
    return labels.astype(np.int32)


def _check_columns(y: object, n_rows: int, n_outputs: int, name: str, advice: str) -> npt.NDArray[Any]:
    """Return `y`, (n,) or (n, C), as an array (n, C) of real numbers."""
    array = as_numbers(y, name, advice)
    if array.ndim not in (1, 2):
        shapes = "(n,)" if n_outputs == 1 else f"(n, {n_outputs})"
        raise ValueError(f"{name} must have the shape {shapes}, but its shape is {array.shape}")
    if len(array) != n_rows:
        raise ValueError(f"{name.removesuffix('y')}X has {n_rows} rows, but {name} has {len(array)}")
    columns = array.reshape(n_rows, -1)
    if columns.shape[1] != n_outputs:
        has, needed = _count(columns.shape[1], "column"), _count(n_outputs, "output")
        raise ValueError(f"{name} has {has}, but the network has {needed}")
    return columns


def _count(n: int, thing: str) -> str:
    return f"{n} {thing}{'s' * (n != 1)}"


def check_two_classes(
    y: object, n_rows: int, n_outputs: int, dtype: npt.DTypeLike, name: str = "y"
) -> npt.NDArray[Any]:
    """Return `y`, zeros and ones (n,) or (n, C), as a C-contiguous (n, C) array of `dtype`.

    Raises
    ------
    TypeError
        If `y` is sparse or does not hold real numbers.
    ValueError
        If its shape does not fit, or a value is neither 0 nor 1.
    """
    columns = _check_columns(y, n_rows, n_outputs, name, "each label must be 0 or 1")
    bad = np.argwhere((columns != 0) & (columns != 1))
    if len(bad):
        row, column = bad[0]
        where = f"row {row}" if n_outputs == 1 else f"row {row}, column {column}"
        raise ValueError(f"{name} has {columns[row, column]} in {where}, but labels of logistic outputs are 0 or 1")
    return np.array(columns, dtype, order="C")


def check_numbers(y: object, n_rows: int, n_outputs: int, dtype: npt.DTypeLike, name: str = "y") -> npt.NDArray[Any]:
    """Return `y`, finite numbers (n,) or (n, C), as a C-contiguous (n, C) array of `dtype`.

    Raises
    ------
    TypeError
        If `y` is sparse or does not hold real numbers.
    ValueError
        If its shape does not fit, or a value is not finite in `dtype`.
    """
    word = name.split()[-1]
    columns = _check_columns(y, n_rows, n_outputs, name, f"convert it first, e.g. {word}.astype(np.float32)")
    with np.errstate(over="ignore", under="ignore"):
        numbers = np.array(columns, dtype, order="C")
    check_finite(numbers, columns, name)
    return numbers

"""Checks of y and of the weights of rows and classes, before anything changes.

Every check returns the value in the form that the networks use, or raises ValueError or TypeError in the user's words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.validation.settings import as_numbers, check_choice, check_finite, check_int, check_number

__all__ = [
    "check_class_weight",
    "check_numbers",
    "check_sample_weight",
    "check_two_classes",
    "check_y",
]


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
    array = as_numbers(y, name, f"number the classes first: classes, {word} = np.unique({word}, return_inverse=True)")
    if array.ndim not in (1, 2):
        raise ValueError(f"{name} must be class labels (n,) or one-hot (n, C), but its shape is {array.shape}")
    if len(array) != n_rows:
        raise ValueError(f"{name.removesuffix('y')}X has {n_rows} rows, but {name} has {len(array)}")
    if array.ndim == 2:
        return _labels_from_one_hot(array, n_classes, name)
    _check_labels(array, n_classes, name)
    return np.array(array, np.int32)  # a copy, that nobody can change: kernels trust it


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


def check_sample_weight(sample_weight: object, n_rows: int) -> npt.NDArray[np.float64] | None:
    """Return the weights (n,) of the rows, finite and at least 0, or None for None."""
    if sample_weight is None:
        return None
    weights = as_numbers(sample_weight, "sample_weight", "give a number for each row")
    if weights.shape != (n_rows,):
        raise ValueError(f"sample_weight must have the shape ({n_rows},), a number for each row, not {weights.shape}")
    weights = np.array(weights, np.float64)
    bad = np.flatnonzero(~((weights >= 0) & (weights < np.inf)))
    if len(bad):
        raise ValueError(
            f"sample_weight has {weights[bad[0]]} in row {bad[0]}, but weights are finite and not negative"
        )
    return weights


def check_class_weight(
    class_weight: object, classes: npt.NDArray[Any], n_classes: int
) -> npt.NDArray[np.float64] | None:
    """Return the weight (C,) of each class, or None for None.

    Parameters
    ----------
    class_weight : "balanced", mapping of classes to weights, array_like (C,) or None
        "balanced" gives each class that is there the same sum: n / (classes that are there * rows of the class).
        Classes that a mapping does not name have the weight 1.
    classes : (n,) array
        Class of each row.
    n_classes : int
        0 where rows have no class.
    """
    if class_weight is None:
        return None
    if n_classes == 0:
        raise ValueError("class_weight needs rows of one class each: output='softmax', or 'logistic' with one unit")
    if isinstance(class_weight, str):
        check_choice("class_weight", class_weight, ("balanced",))
        counts = np.bincount(classes, minlength=n_classes)
        balanced: npt.NDArray[np.float64] = len(classes) / (np.count_nonzero(counts) * np.maximum(counts, 1))
        return balanced
    weights = np.ones(n_classes)
    if not isinstance(class_weight, Mapping):
        given = as_numbers(class_weight, "class_weight", "give 'balanced', or a weight for each class")
        if given.shape != weights.shape:
            raise ValueError(f"class_weight has the shape {given.shape}, but there are {n_classes} classes")
        class_weight = dict(enumerate(given.tolist()))
    for label, weight in class_weight.items():
        if check_int("a class of class_weight", label, 0) >= n_classes:
            raise ValueError(f"class_weight has class {label}, but classes are 0 to {n_classes - 1}")
        weights[label] = check_number(f"class_weight[{label}]", weight)
    return weights

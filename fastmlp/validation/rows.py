"""Weights of the rows, and which rows are for validation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.losses import Loss, Targets
from fastmlp.random import validation_mask
from fastmlp.validation.inputs import as_numbers
from fastmlp.validation.settings import check_choice, check_int, check_number

__all__ = [
    "balanced", "check_class_weight", "check_sample_weight", "check_total", "row_weights", "validation_rows", "weigh",
]  # fmt: skip


def check_sample_weight(sample_weight: object, n_rows: int) -> npt.NDArray[np.float64] | None:
    """Return the weights (n,) of the rows, which must be finite and 0 or more, or None."""
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
    """Return the weight (C,) of each class, or None.

    Parameters
    ----------
    class_weight : "balanced", mapping of classes to weights, array_like (C,) or None
        "balanced" is n / (number of classes in the data * rows of the class), so that all have the same total. Classes
        missing from a mapping have weight 1.
    classes : (n,) array
        Class of each row.
    n_classes : int
        0 if rows have no class or several.
    """
    if class_weight is None:
        return None
    if n_classes == 0:
        raise ValueError("class_weight needs rows of one class each: output='softmax', or 'logistic' with one unit")
    if isinstance(class_weight, str):
        others = ("a dict with weights of classes", "a list with one for each class", "None")
        check_choice("class_weight", class_weight, ("balanced",), others=others)
        return balanced(np.bincount(classes, minlength=n_classes))
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


def balanced(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the weight (C,) of each class with which all classes have the same total, given their rows."""
    weights: npt.NDArray[np.float64] = counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return weights


def row_weights(
    weights: Floats | None, class_weight: object, y: Targets, loss: Loss, dtype: npt.DTypeLike
) -> Floats | None:
    """Return the checked weight of each row times that of its class, or None if all are 1.

    Raises
    ------
    TypeError, ValueError
        If `class_weight` is wrong, or the sum of all weights is 0 or infinite.
    """
    if weights is None and class_weight is None:
        return None
    of_classes = check_class_weight(class_weight, loss.decode(y), loss.n_classes)
    product = weigh(weights, of_classes, y, loss, dtype)
    with np.errstate(over="ignore"):
        total = float(product.sum(dtype=np.float64))
    check_total(total)
    return product


def weigh(weights: Floats | None, of_classes: Floats | None, y: Targets, loss: Loss, dtype: npt.DTypeLike) -> Floats:
    """Return the checked weight of each row times that of its class."""
    if of_classes is not None:
        weights = of_classes[loss.decode(y)] * (1 if weights is None else weights)
    with np.errstate(over="ignore", under="ignore"):
        product: Floats = np.asarray(weights).astype(dtype)
    return product


def check_total(total: float) -> None:
    """Refuse weights that add up to nothing, or to infinity."""
    if not 0 < total < np.inf:
        advice = "make them smaller" if total else "some must be more than 0"
        raise ValueError(f"the weights of all rows add up to {total}; {advice}")


def validation_rows(y: Targets, loss: Loss, fraction: object, seed: int) -> npt.NDArray[np.bool_]:
    """Return the mask of the rows for validation, a fraction of each class.

    Raises
    ------
    TypeError, ValueError
        If `fraction` is not between 0 and 1, or selects no row.
    """
    fraction = check_number("validation_fraction", fraction, below=1, zero=False)
    groups = loss.decode(y) if loss.n_classes else np.zeros(len(y), np.int32)
    mask = validation_mask(groups, fraction, seed)
    if not mask.any():
        raise ValueError(f"validation_fraction={fraction} selects no row: y has one row of each class")
    return mask

"""What is measured on validation data besides loss and accuracy: scikit-learn's metrics by name, and any function.

For classes there are balanced_accuracy, and f1, precision and recall, each with _macro, _micro or _weighted behind it;
for labels that do not exclude each other the same but the first; for numbers r2, mae, rmse, and, of one output,
max_error. A function takes what is true and what is predicted, and has the name that it was defined by.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np

from fastmlp.losses import Loss
from fastmlp.validation.settings import check_choice

__all__ = ["Metric", "check_metrics", "r2"]

Metric: TypeAlias = Callable[[Any, Any], float]
"""A function of what is true and what is predicted, in the form in which users hand in y."""


def _of_scikit_learn(name: str, **settings: Any) -> Metric:
    def metric(y_true: Any, y_pred: Any) -> float:
        from sklearn import metrics

        return float(getattr(metrics, name)(y_true, y_pred, **settings))

    return metric


def _balanced_accuracy(y_true: Any, y_pred: Any) -> float:
    """Return the mean, over the classes that are there, of the part of their rows that is predicted right."""
    right = y_true == y_pred
    return float(np.mean([right[y_true == label].mean() for label in np.unique(y_true)]))


r2 = _of_scikit_learn("r2_score")

_OF_LABELS = {
    f"{name}_{average}": _of_scikit_learn(f"{name}_score", average=average, zero_division=0)
    for name in ("f1", "precision", "recall")
    for average in ("macro", "micro", "weighted")
}
_OF_CLASSES = {"balanced_accuracy": _balanced_accuracy, **_OF_LABELS}
_OF_NUMBERS = {
    "r2": r2,
    "mae": _of_scikit_learn("mean_absolute_error"),
    "rmse": _of_scikit_learn("root_mean_squared_error"),
    "max_error": _of_scikit_learn("max_error"),
}


def _names(head: Loss) -> dict[str, Metric]:
    """Return the metrics that fit what a network predicts."""
    one = head.n_outputs == 1
    if not head.classifies:
        return {name: metric for name, metric in _OF_NUMBERS.items() if one or name != "max_error"}
    return _OF_CLASSES if head.n_classes else _OF_LABELS


def check_metrics(metrics: object, head: Loss) -> dict[str, Metric]:
    """Return the chosen metrics by name; a function has its own.

    Raises
    ------
    TypeError, ValueError
        If there is no such metric, or not for what the network predicts, or two have the same name.
    """
    if isinstance(metrics, str) or not isinstance(metrics, Iterable):
        raise TypeError(f"metrics must be a list of names or functions, e.g. ['f1_macro'], not {metrics!r}")
    known = _names(head)
    chosen: dict[str, Metric] = {}
    for metric in metrics:
        if isinstance(metric, str) and metric == "accuracy" and head.classifies:  # measured in any case
            continue
        if callable(metric):
            name, function = getattr(metric, "__name__", type(metric).__name__), _checked(metric)
        else:
            name = check_choice("metrics", metric, list(known))
            function = known[name]
        if name in chosen or name in ("loss", "accuracy"):
            raise ValueError(f"metrics has two of the name {name!r}")
        chosen[name] = function
    return chosen


def _checked(metric: Callable[[Any, Any], Any]) -> Metric:
    """Return a user's function with a check of what it returns."""

    def checked(y_true: Any, y_pred: Any) -> float:
        value = metric(y_true, y_pred)
        if not isinstance(value, numbers.Real):
            raise TypeError(f"metric {metric!r} must return a number, not {value!r}")
        return float(value)

    return checked

"""Metrics: scikit-learn's by name, or any function. `fit` measures them on validation data, beside loss and accuracy.

Names for classes: balanced_accuracy, and f1, precision or recall followed by _macro, _micro or _weighted, such as
f1_macro. For multilabel outputs: the same without balanced_accuracy. For numbers: r2, mae, rmse, and max_error if there
is one output. A function is called with (y_true, y_pred); its name in the history is its ``__name__``.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from fastmlp.engine.base import Engine
from fastmlp.losses import Loss, Targets
from fastmlp.validation.settings import check_choice

__all__ = ["Metric", "check_metrics", "measure", "r2"]

Metric: TypeAlias = Callable[[Any, Any], float]
"""A function of (y_true, y_pred), both in the form in which users pass y."""


def _from_scikit_learn(name: str, **settings: Any) -> Metric:
    def metric(y_true: Any, y_pred: Any) -> float:
        from sklearn import metrics

        return float(getattr(metrics, name)(y_true, y_pred, **settings))

    return metric


def _balanced_accuracy(y_true: Any, y_pred: Any) -> float:
    """Return the accuracy of each class in y_true, averaged over these classes."""
    correct = y_true == y_pred
    return float(np.mean([correct[y_true == label].mean() for label in np.unique(y_true)]))


r2 = _from_scikit_learn("r2_score")

_FOR_LABELS = {
    f"{name}_{average}": _from_scikit_learn(f"{name}_score", average=average, zero_division=0)
    for name in ("f1", "precision", "recall")
    for average in ("macro", "micro", "weighted")
}
_FOR_CLASSES = {"balanced_accuracy": _balanced_accuracy, **_FOR_LABELS}
_FOR_NUMBERS = {
    "r2": r2,
    "mae": _from_scikit_learn("mean_absolute_error"),
    "rmse": _from_scikit_learn("root_mean_squared_error"),
    "max_error": _from_scikit_learn("max_error"),
}


def _available(loss: Loss) -> dict[str, Metric]:
    """Return the metrics that fit the predictions of a network with this loss."""
    one = loss.n_outputs == 1
    if not loss.classifies:
        return {name: metric for name, metric in _FOR_NUMBERS.items() if one or name != "max_error"}
    return _FOR_CLASSES if loss.n_classes else _FOR_LABELS


def check_metrics(metrics: object, loss: Loss) -> dict[str, Metric]:
    """Return the chosen metrics by name.

    Raises
    ------
    TypeError, ValueError
        If a metric does not exist or does not fit the outputs, or if two have the same name.
    """
    if isinstance(metrics, tuple) and not metrics:
        return {}
    if isinstance(metrics, str) or not isinstance(metrics, Iterable):
        raise TypeError(f"metrics must be a list of names or functions, e.g. ['f1_macro'], not {metrics!r}")
    known = _available(loss)
    chosen: dict[str, Metric] = {}
    for metric in metrics:
        if isinstance(metric, str) and metric == "accuracy" and loss.classifies:  # always measured
            continue
        if callable(metric):
            name, function = getattr(metric, "__name__", type(metric).__name__), _checked(metric)
        else:
            name = check_choice("metrics", metric, list(known))
            function = known[name]
        if name in chosen or name in ("loss", "accuracy"):
            raise ValueError(f"metrics has two entries named {name!r}")
        chosen[name] = function
    return chosen


_NO_METRICS: Mapping[str, Metric] = {}


def measure(engine: Engine, X: Any, y: Targets, metrics: Mapping[str, Metric] = _NO_METRICS) -> dict[str, float]:
    """Return the mean loss of checked data, the accuracy if the outputs are classes or labels, and `metrics`."""
    loss = engine.settings.loss
    losses, correct = engine.losses(X, y)
    measured = {"loss": float(losses.mean(dtype=np.float64))}
    if loss.classifies:
        measured["accuracy"] = float(correct.mean())
    if metrics:
        y_true, y_pred = loss.decode(y).copy(), engine.predict(X)  # a copy: a metric may write into it
        measured |= {name: metric(y_true, y_pred) for name, metric in metrics.items()}
    return measured


def _checked(metric: Callable[[Any, Any], Any]) -> Metric:
    """Wrap a user's function to check what it returns."""

    def checked(y_true: Any, y_pred: Any) -> float:
        value = metric(y_true, y_pred)
        if not isinstance(value, numbers.Real):
            raise TypeError(f"metric {metric!r} must return a number, not {value!r}")
        return float(value)

    return checked

"""Metrics, by name or as functions, that `fit` measures on validation data beside loss and accuracy.

=====================================  =============================================================================
outputs                                names
=====================================  =============================================================================
classes                                balanced_accuracy, f1, precision, recall, log_loss, brier, roc_auc and
                                       average_precision. With two classes f1, precision and recall are those of
                                       class 1, otherwise means over the classes; f1_macro, f1_micro, f1_weighted
                                       and so on choose the mean. roc_auc and average_precision of more than two
                                       classes are means of each class against the others.
labels (several logistic outputs)      the same without balanced_accuracy, means over the labels
numbers                                r2, mse, rmse, mae, mape, and max_error if there is one output
=====================================  =============================================================================

A function is called with (y_true, y_pred), both in the form of y, and ``sample_weight`` if validation data has weights.
Its name in the history is its ``__name__``. Functions of scikit-learn that need probabilities, such as
``sklearn.metrics.roc_auc_score``, get them in place of y_pred: those of class 1 (n,) if there are two classes, else
(n, C). So does a function with the attribute ``response_method = "predict_proba"``, as in scikit-learn's `make_scorer`.
"""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.engine.base import Engine
from fastmlp.losses import Loss, Targets
from fastmlp.validation.settings import check_choice, is_iterable

__all__ = ["Metric", "check_metrics", "measure", "r2"]

Metric: TypeAlias = Callable[[Any, Any], float]
"""Function of (y_true, y_pred), both in the form of y, that returns a number."""

_Weighted: TypeAlias = Callable[..., float]  # of (y_true, y_pred, sample_weight)

_SMALLEST = float(np.finfo(np.float64).tiny)


# --- by name ----------------------------------------------------------------------------------------------------------


def _from_scikit_learn(name: str, **settings: Any) -> _Weighted:
    def metric(y_true: Any, y_pred: Any, sample_weight: Floats | None = None) -> float:
        from sklearn import metrics

        return float(getattr(metrics, name)(y_true, y_pred, sample_weight=sample_weight, **settings))

    metric.__doc__ = f"""Return `sklearn.metrics.{name}`.

    Parameters
    ----------
    y_true, y_pred : array_like
        True and predicted values.
    sample_weight : (n,) array or None, default=None
        Weight of each row.

    Returns
    -------
    float
        The value of the metric.
    """
    return metric


def _max_error(y_true: Any, y_pred: Any) -> float:
    return float(np.max(np.abs(y_true - y_pred)))


def _balanced_accuracy(y_true: Any, y_pred: Any, sample_weight: Floats | None = None) -> float:
    """Return the accuracy of each class in y_true, averaged over these classes."""
    correct, weights = y_true == y_pred, np.ones(len(y_true)) if sample_weight is None else sample_weight
    rows = [y_true == label for label in np.unique(y_true[weights > 0])]
    return float(np.mean([np.average(correct[of_class], weights=weights[of_class]) for of_class in rows]))


def _columns(y_true: Any, p: Floats) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Return what is true and its probability for each label, or class against the others: two (n, K) arrays."""
    if y_true.ndim == 1 and p.ndim == 2:
        y_true = y_true[:, None] == np.arange(p.shape[1])
    return y_true.reshape(len(p), -1).astype(bool), p.reshape(len(p), -1).astype(np.float64)


def _log_loss(y_true: Any, p: Any, sample_weight: Floats | None = None) -> float:
    true, p_true = _columns(y_true, p)
    losses = -np.log(np.maximum(np.where(true, p_true, 1 - p_true), _SMALLEST))
    one_class = y_true.ndim == 1 and p.ndim == 2
    return float(np.average(losses[true] if one_class else losses.mean(axis=1), weights=sample_weight))


def _brier(y_true: Any, p: Any, sample_weight: Floats | None = None) -> float:
    true, p_true = _columns(y_true, p)
    errors = np.square(p_true - true)
    one_class = y_true.ndim == 1 and p.ndim == 2
    return float(np.average(errors.sum(axis=1) if one_class else errors.mean(axis=1), weights=sample_weight))


def _mean_over_columns(name: str) -> _Weighted:
    """Return a metric of binary labels and probabilities, averaged over the labels that some rows have and some not."""
    of_one = _from_scikit_learn(name)

    def metric(y_true: Any, p: Any, sample_weight: Floats | None = None) -> float:
        if sample_weight is not None:
            y_true, p, sample_weight = (rows[sample_weight > 0] for rows in (y_true, p, sample_weight))
        columns = [(true, p_true) for true, p_true in zip(*map(np.transpose, _columns(y_true, p)), strict=True)]
        values = [of_one(true, p_true, sample_weight) for true, p_true in columns if 0 < true.sum() < len(true)]
        return float(np.mean(values)) if values else np.nan

    return metric


r2 = _from_scikit_learn("r2_score")

_AVERAGED = ("f1", "precision", "recall")
_FOR_LABELS = {
    f"{name}_{average}": _from_scikit_learn(f"{name}_score", average=average, zero_division=0)
    for name in _AVERAGED
    for average in ("macro", "micro", "weighted")
}
_FOR_PROBABILITIES = {
    "log_loss": _log_loss,
    "brier": _brier,
    "roc_auc": _mean_over_columns("roc_auc_score"),
    "average_precision": _mean_over_columns("average_precision_score"),
}
_FOR_NUMBERS = {
    "r2": r2,
    "mse": _from_scikit_learn("mean_squared_error"),
    "rmse": _from_scikit_learn("root_mean_squared_error"),
    "mae": _from_scikit_learn("mean_absolute_error"),
    "mape": _from_scikit_learn("mean_absolute_percentage_error"),
    "max_error": _max_error,
}
_ALSO_CALLED = {
    "auc": "roc_auc",
    "auroc": "roc_auc",
    "roc_auc_score": "roc_auc",
    "ap": "average_precision",
    "average_precision_score": "average_precision",
    "f1_score": "f1",
    "precision_score": "precision",
    "recall_score": "recall",
    "cross_entropy": "log_loss",
    "brier_score_loss": "brier",
    "brier_score": "brier",
    "mean_squared_error": "mse",
    "neg_mean_squared_error": "mse",
    "root_mean_squared_error": "rmse",
    "mean_absolute_error": "mae",
    "neg_mean_absolute_error": "mae",
    "r2_score": "r2",
}

_GET_PROBABILITIES = {
    "average_precision_score", "brier_score_loss", "coverage_error", "d2_brier_score", "d2_log_loss_score", "dcg_score",
    "label_ranking_average_precision_score", "label_ranking_loss", "log_loss", "ndcg_score", "roc_auc_score",
    "top_k_accuracy_score",
}  # fmt: skip
"""Functions of scikit-learn."""


def _available(loss: Loss) -> dict[str, _Weighted]:
    """Return the metrics that fit the predictions of a network with this loss."""
    if not loss.classifies:
        one = loss.n_outputs == 1
        return {name: metric for name, metric in _FOR_NUMBERS.items() if one or name != "max_error"}
    average = "binary" if loss.n_classes == 2 else "macro"
    averaged = {name: _from_scikit_learn(f"{name}_score", average=average, zero_division=0) for name in _AVERAGED}
    balanced = {"balanced_accuracy": _balanced_accuracy} if loss.n_classes else {}
    return {**balanced, **averaged, **_FOR_LABELS, **_FOR_PROBABILITIES}


# --- what fit is given ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Chosen:
    """A metric with all that it needs beside y_true and y_pred; it gets its own copies of both."""

    function: Callable[..., Any]
    on_probabilities: bool = False
    arguments: tuple[tuple[str, Any], ...] = ()
    classes: npt.NDArray[Any] | None = None

    def __call__(self, y_true: Any, y_pred: Any) -> float:
        """Return the value.

        Raises
        ------
        TypeError
            If it is not a number.
        """
        if self.classes is None:
            y_true, y_pred = np.array(y_true), np.array(y_pred)  # a function that writes into them must not reach ours
        else:
            y_true = self.classes[y_true]
            y_pred = np.array(y_pred) if self.on_probabilities else self.classes[y_pred]
        value = self.function(y_true, y_pred, **dict(self.arguments))
        if not isinstance(value, numbers.Real):
            raise TypeError(f"metric {_name(self.function)!r} must return a number, not {value!r}")
        return float(value)


def check_metrics(
    metrics: object, loss: Loss, sample_weight: Floats | None = None, classes: npt.NDArray[Any] | None = None
) -> dict[str, Metric]:
    """Check metrics and return them by name.

    Parameters
    ----------
    metrics : iterable of str or callables
        Names of metrics, and functions.
    loss : Loss
        Loss of the network, which determines the metrics that fit its outputs.
    sample_weight : (n,) array or None, default=None
        Weights of the rows to be measured.
    classes : (C,) array or None, default=None
        Class names, which functions get in y_true and y_pred.

    Returns
    -------
    dict of str to Metric
        The metrics.

    Raises
    ------
    TypeError, ValueError
        If a metric does not exist, does not fit the outputs or takes no weights, or if two have the same name.
    """
    if isinstance(metrics, tuple) and not metrics:
        return {}
    if isinstance(metrics, str) or not is_iterable(metrics):
        raise TypeError(f"metrics must be a list of names or functions, e.g. ['f1_macro'], not {metrics!r}")
    known = _available(loss)
    chosen: dict[str, Metric] = {}
    for metric in metrics:
        if isinstance(metric, str) and metric == "accuracy" and loss.classifies:  # always measured
            continue
        if callable(metric):
            name, one = _name(metric), _function(metric, loss, classes)
        else:
            name = check_choice("metrics", metric, list(known), _ALSO_CALLED, ["a function of (y_true, y_pred)"])
            one = _Chosen(known[name], name in _FOR_PROBABILITIES)
        if name in chosen or name in ("loss", "accuracy"):
            raise ValueError(f"metrics has two entries named {name!r}")
        chosen[name] = one if sample_weight is None else _weighted(one, name, sample_weight)
    return chosen


def _name(metric: Callable[..., Any]) -> str:
    function = metric.func if isinstance(metric, partial) else metric
    return str(getattr(function, "__name__", type(function).__name__))


def _function(metric: Callable[..., Any], loss: Loss, classes: npt.NDArray[Any] | None) -> _Chosen:
    """Return the metric that a user's function is."""
    if isinstance(metric, type) or hasattr(metric, "_score_func"):
        what = "a class" if isinstance(metric, type) else "a scorer, which takes an estimator"
        raise TypeError(f"metrics must be names or functions of (y_true, y_pred), but {metric!r} is {what}")
    function = metric.func if isinstance(metric, partial) else metric
    from_scikit_learn = str(getattr(function, "__module__", "")).startswith("sklearn.metrics")
    name = _name(metric)
    if from_scikit_learn and name in _GET_PROBABILITIES:
        classes = None  # numbers of classes are in the order of the columns
    elif getattr(metric, "response_method", None) != "predict_proba":
        return _Chosen(metric, classes=classes)
    if not loss.classifies:
        raise ValueError(f"metric {name!r} needs probabilities, but the network predicts numbers")
    arguments: dict[str, Any] = {}
    if from_scikit_learn and loss.n_classes:
        taken, given = inspect.signature(function).parameters, getattr(metric, "keywords", {})
        if "labels" in taken and "labels" not in given and not (name == "roc_auc_score" and loss.n_classes == 2):
            arguments["labels"] = np.arange(loss.n_classes)
        if "multi_class" in taken and given.get("multi_class", "raise") == "raise" and loss.n_classes > 2:
            arguments["multi_class"] = "ovr"
    return _Chosen(metric, True, tuple(arguments.items()), classes)


def _weighted(metric: _Chosen, name: str, sample_weight: Floats) -> _Chosen:
    try:
        parameters = inspect.signature(metric.function).parameters.values()
    except ValueError:  # of a function in C
        parameters = {}.values()
    if not any(p.name == "sample_weight" or p.kind is p.VAR_KEYWORD for p in parameters):
        raise ValueError(f"metric {name!r} takes no sample_weight, but the validation data has weights")
    arguments = (*metric.arguments, ("sample_weight", sample_weight))
    return _Chosen(metric.function, metric.on_probabilities, arguments, metric.classes)


_NO_METRICS: Mapping[str, Metric] = {}


def measure(
    engine: Engine,
    X: Any,
    y: Targets | None = None,
    sample_weight: Floats | None = None,
    *,
    metrics: Mapping[str, Metric] = _NO_METRICS,
) -> dict[str, float]:
    """Return the mean loss, the accuracy and further metrics of data that have been checked.

    Parameters
    ----------
    engine : Engine
        Engine of the network.
    X : array, or iterable of (X, y, sample_weight)
        Rows; or, without y, blocks of rows. Predictions of all blocks are kept only if there are `metrics`.
    y : array or None, default=None
        Targets, as the loss takes them.
    sample_weight : (n,) array or None, default=None
        Weight of each row.
    metrics : mapping of str to Metric, default={}
        Further metrics, from `check_metrics`.

    Returns
    -------
    dict of str to float
        Values by name. There is an accuracy if the outputs are classes or labels.
    """
    loss = engine.settings.loss
    sum_of_losses, n_correct, weight = 0.0, 0.0, 0.0
    kept = _Predictions(loss, metrics) if metrics else None
    for rows, targets, weights in X if y is None else [(X, y, sample_weight)]:
        losses, correct = engine.losses(rows, targets)
        sum_of_losses += _sum(losses, weights)
        if loss.classifies:
            n_correct += _sum(correct, weights)
        weight += len(targets) if weights is None else float(weights.astype(np.float64).sum())
        if kept is not None:
            kept.add(engine, rows, targets)
    measured = {"loss": sum_of_losses / weight}
    if loss.classifies:
        measured["accuracy"] = n_correct / weight
    return measured if kept is None else measured | kept.measured()


def _sum(values: npt.NDArray[Any], weights: Floats | None) -> float:
    if weights is None:
        return float(np.add.reduce(values, dtype=np.float64))  # in a third of the time of np.mean
    return float((values * weights.astype(np.float64)).sum())


class _Predictions:
    """The targets and predictions that some metrics need."""

    def __init__(self, loss: Loss, metrics: Mapping[str, Metric]) -> None:
        self._loss, self._metrics = loss, metrics
        wanted = [getattr(metric, "on_probabilities", False) for metric in metrics.values()]
        self._labels, self._probabilities = not all(wanted), any(wanted)
        self._rows: list[tuple[Any, ...]] = []

    def add(self, engine: Engine, X: Any, y: Targets) -> None:
        """Predict some rows."""
        labels = engine.predict(X) if self._labels else None
        p = _probabilities(engine, X) if self._probabilities else None
        self._rows.append((self._loss.decode(y).copy(), labels, p))  # a metric may write into it

    def measured(self) -> dict[str, float]:
        """Return what the metrics say of all rows."""
        y_true, labels, p = (parts[0] if len(parts) == 1 else _joined(parts) for parts in zip(*self._rows, strict=True))
        return {
            name: metric(y_true, p if getattr(metric, "on_probabilities", False) else labels)
            for name, metric in self._metrics.items()
        }


def _joined(parts: Sequence[Any]) -> Any:
    return None if parts[0] is None else np.concatenate(parts)


def _probabilities(engine: Engine, X: Any) -> npt.NDArray[np.float64]:
    """Return the float64 probabilities (n, C) of classes or labels, or (n,) of class 1 of two."""
    p = engine.predict_proba(X).astype(np.float64)
    if engine.settings.loss.n_classes:
        p /= p.sum(axis=1, keepdims=True)  # to 1 in float64, as scikit-learn demands
    return p[:, 1] if engine.settings.loss.n_classes == 2 else p

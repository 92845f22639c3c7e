"""What pictures and reports are about: a network, an ensemble, an estimator, or a pipeline, and what it predicts.

Nothing here needs matplotlib.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from fastmlp.data.blocks import Blocks
from fastmlp.fitting import check_data
from fastmlp.history import History
from fastmlp.many.ensemble import Ensemble
from fastmlp.names import Names
from fastmlp.network import Network

__all__ = ["Predictions", "Subject", "Task"]

Task = Literal["classes", "labels", "numbers"]
"""What each row has: one class, several labels that are 0 or 1, or numbers."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model predicts for some rows, and what is true.

    Attributes
    ----------
    task : {"classes", "labels", "numbers"}
    classes : (C,) array
        The classes or labels as y has them, in the order of the outputs. Empty for numbers.
    names : list of str
        The same to be shown: `display_labels` if they were given.
    true, predicted : (n,) or (n, C) arrays
        "classes": indices (n,) of `classes`; "labels": 0 and 1 (n, C); "numbers": numbers (n,) or (n, C). Without y,
        `true` is None.
    probabilities : (n, C) array or None
        None for numbers, and for estimators of scikit-learn that have none.
    """

    task: Task
    classes: npt.NDArray[Any]
    names: list[str]
    true: Any
    predicted: npt.NDArray[Any]
    probabilities: Any

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether each row (n,) is predicted right, in all its labels."""
        return np.asarray((self.true == self.predicted).reshape(len(self.predicted), -1).all(axis=1))

    @property
    def confidence(self) -> npt.NDArray[Any]:
        """Probability (n,) of what is predicted for each row; of several labels, the smallest.

        Raises
        ------
        TypeError
            If the model has no probabilities.
        """
        p, predicted = self.probabilities, self.predicted
        if p is None:
            raise TypeError("the model has no probabilities: it has no predict_proba")
        if self.task == "classes":
            return np.asarray(np.take_along_axis(p, predicted[:, None], axis=1)[:, 0])
        return np.asarray(np.where(predicted == 1, p, 1 - p).min(axis=1))


@dataclass(frozen=True, eq=False)
class Subject:
    """A model that is looked at.

    Attributes
    ----------
    model : object
        As it was given. It predicts.
    inner : Network, Ensemble or estimator
        What is inside of pipelines and searches.
    """

    model: Any
    inner: Any

    @classmethod
    def of(cls, net: Any) -> Self:
        """Return what is to be looked at.

        Raises
        ------
        TypeError
            If `net` is no `MLP`, `Ensemble`, estimator of scikit-learn's kind, or pipeline that ends in one; or it has
            several targets, each with classes of its own.
        NotFittedError
            If it is an estimator that is not fitted.
        """
        if isinstance(net, (Network, Ensemble)):
            return cls(net, net)
        if isinstance(net, type) or not (hasattr(net, "fit") and hasattr(net, "get_params")):
            given = f"the class {net.__name__}" if isinstance(net, type) else type(net).__name__
            raise TypeError(
                f"net must be an MLP, an Ensemble, an estimator, or a pipeline that ends in one, not {given}"
            )
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(net)
        if isinstance(getattr(net, "classes_", None), list):
            raise TypeError(
                f"net is a {type(net).__name__} of several targets with classes of their own; give one of them"
            )
        if not hasattr(net, "predict"):
            raise TypeError(f"net is a {type(net).__name__} that does not predict; it must end in an estimator")
        return cls(net, _inner(net))

    @property
    def networks(self) -> tuple[Network, ...]:
        """Its networks: one, or the members of an ensemble; none for estimators of others."""
        if isinstance(self.inner, Network):
            return (self.inner,)
        if isinstance(self.inner, Ensemble):
            return self.inner.members
        if not hasattr(self.inner, "_network"):
            return ()
        return tuple(each._network() for each in vars(self.inner).get("estimators_", [self.inner]))

    @property
    def histories(self) -> list[History]:
        """The history of each network; of an estimator, made of its curves."""
        if isinstance(self.inner, (Network, Ensemble)):
            return [net.history for net in self.networks]
        members = vars(self.inner).get("estimators_", [self.inner])
        return [_history(member) for member in members if hasattr(member, "loss_curve_")]

    @property
    def n_features(self) -> int | None:
        """Number of columns of X; None if it is not known."""
        if isinstance(self.model, (Network, Ensemble)):
            return int(self._named.layers[0])
        n = getattr(self.model, "n_features_in_", None)
        return None if n is None else int(n)

    @property
    def feature_names(self) -> list[str] | None:
        """Names of the columns of X, if it was a table."""
        if isinstance(self.model, (Network, Ensemble)):
            return self.model.feature_names
        names = getattr(self.model, "feature_names_in_", None)
        return None if names is None else [str(name) for name in names]

    @property
    def task(self) -> Task:
        """What it predicts."""
        if isinstance(self.inner, (Network, Ensemble)):
            loss = self._named._loss
            return "numbers" if not loss.classifies else "classes" if loss.n_classes else "labels"
        if not hasattr(self.model, "classes_"):
            return "numbers"
        several = getattr(self.inner, "out_activation_", "") == "logistic" and self.inner.n_outputs_ > 1
        several |= bool(getattr(self.inner, "multilabel_", False))
        return "labels" if several else "classes"

    def predictions(self, X: Any, y: Any, display_labels: Sequence[Any] | None = None) -> Predictions:
        """Predict rows whose truth is known.

        Parameters
        ----------
        X, y
            As for `score` of the model.
        display_labels : sequence of C names or None
            Names of the classes, to be shown in place of those in y.

        Raises
        ------
        TypeError, ValueError
            If X or y is wrong, or as many names as classes are not given.
        """
        if isinstance(X, Blocks):
            raise TypeError("X is Blocks; pictures and reports need rows in memory")
        if y is None:
            raise TypeError("y is missing: one target for each row of X")
        return self._predictions(X, y, display_labels)

    def answers(self, X: Any) -> Predictions:
        """Predict rows of which nothing is known: `Predictions.true` is None."""
        return self._predictions(X, None, None)

    def _predictions(self, X: Any, y: Any, display_labels: Sequence[Any] | None) -> Predictions:
        of_network = isinstance(self.model, (Network, Ensemble))
        classes, true, predicted, p = (self._of_network if of_network else self._of_estimator)(X, y)
        names = [str(label) for label in classes.tolist()]
        if display_labels is not None:
            wrong = isinstance(display_labels, (str, bytes, Mapping, Set)) or not hasattr(display_labels, "__len__")
            if wrong or len(display_labels) != len(names):
                raise ValueError(f"display_labels must be a list of {len(names)} names, one for each class")
            names = [str(label) for label in display_labels]
        return Predictions(self.task, classes, names, true, predicted, p)

    @property
    def _named(self) -> Network:
        named: Network = self.inner._named if isinstance(self.inner, Ensemble) else self.inner
        return named

    def _of_network(self, X: Any, y: Any) -> tuple[Any, ...]:
        """Return classes, what is true, what is predicted, and probabilities."""
        named, engine = self._named, self.model._engine
        loss, names = named._loss, named._names
        if y is None:
            X_, true = named._check_X(X, finite=True), None
        else:
            names = names.learned(X, y, loss)
            X_, targets = check_data(named, X, y, names=names)
            true = loss.decode(targets)
        predicted = engine.predict(X_)
        if not loss.classifies:
            return np.zeros(0), true, predicted, None
        known = np.arange(loss.n_classes or loss.n_outputs) if names.classes is None else names.classes
        return known, true, predicted, engine.predict_proba(X_)

    def _of_estimator(self, X: Any, y: Any) -> tuple[Any, ...]:
        task, model = self.task, self.model
        if y is not None:
            from sklearn.utils.validation import check_consistent_length

            check_consistent_length(X, y)
        predicted = _dense(model.predict(X))
        if task == "numbers":
            true = None if y is None else np.asarray(y, np.float64).reshape(predicted.shape)
            return np.zeros(0), true, predicted, None
        p = np.asarray(model.predict_proba(X)) if hasattr(model, "predict_proba") else None
        classes = np.asarray(model.classes_)
        if classes.dtype == object and all(isinstance(label, str) for label in classes.tolist()):
            classes = classes.astype(str)
        if task == "labels":
            true = None if y is None else _dense(y)
            if true is not None and true.shape != predicted.shape:
                raise ValueError(f"y must have shape {predicted.shape}, a 0 or 1 for each label, not {true.shape}")
            return classes, true, predicted, p
        names = Names(classes=classes)
        true = None if y is None else np.asarray(names.encoded(_column(y), "y"))
        return classes, true, np.asarray(names.encoded(predicted, "the prediction")), p


def _inner(model: Any) -> Any:
    """Return the estimator inside of pipelines, searches and transformed targets."""
    while True:
        if hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        elif hasattr(model, "regressor_"):
            model = model.regressor_
        elif hasattr(model, "steps") and hasattr(model, "named_steps"):
            model = model.steps[-1][1]
        else:
            return model


def _history(estimator: Any) -> History:
    """Return the curves of an estimator."""
    history = History(loss=list(estimator.loss_curve_))
    losses, scores = (getattr(estimator, name, None) for name in ("validation_loss_curve_", "validation_scores_"))
    history.val_loss = list(losses or ())
    if scores and getattr(estimator, "scoring", None) is not None:
        history.metrics["val_score"] = list(scores)
    elif scores and hasattr(estimator, "classes_"):
        history.val_accuracy = list(scores)
    elif scores:
        history.metrics["val_r2"] = list(scores)
    return history


def _dense(y: Any) -> npt.NDArray[Any]:
    return np.asarray(y.toarray() if hasattr(y, "toarray") else y)


def _column(y: Any) -> npt.NDArray[Any]:
    """Return classes (n,), also from a table or an array with one column."""
    array = np.asarray(y)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"y must hold one class for each row, (n,), but its shape is {array.shape}")
    return array

"""`MLPClassifier`."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels

from fastmlp.activations import Floats
from fastmlp.estimators.base import BaseMLP
from fastmlp.estimators.blocks import for_blocks_too, targets_of
from fastmlp.estimators.parameters import CONSTRAINTS, documented
from fastmlp.validation.rows import balanced

__all__ = ["MLPClassifier"]


@documented
class MLPClassifier(ClassifierMixin, BaseMLP):  # type: ignore[misc]
    """Multilayer perceptron classifier with the interface of `sklearn.neural_network.MLPClassifier`.

    It minimizes the cross-entropy. The output activation is softmax for more than two classes, and logistic for two
    classes and for multilabel targets, where y (n_samples, n_labels) holds 0 and 1.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    {attributes}

    See Also
    --------
    MLPRegressor : Multilayer perceptron regressor.
    MLP : The network itself, with minibatches, schedules and metrics of its own.

    Examples
    --------
    >>> from fastmlp import MLPClassifier
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.model_selection import train_test_split
    >>> X, y = make_classification(n_samples=100, random_state=1)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=1)
    >>> clf = MLPClassifier(random_state=1, max_iter=300).fit(X_train, y_train)
    >>> clf.score(X_test, y_test)
    0.88
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CONSTRAINTS,
        "class_weight": [StrOptions({"balanced"}), dict, list, None],
    }
    loss = "log_loss"

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        class_weight: Any = None,
        scoring: Any = None,
        callbacks: Any = None,
        n_threads: int | None = None,
        dtype: Any = None,
        n_networks: int = 1,
    ) -> None:
        self._keep(locals())

    @available_if(lambda estimator: estimator._check_solver())  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Update the model with a single iteration over the given data.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features)
            The input data.
        y : array_like of shape (n_samples,) or (n_samples, n_labels)
            The target values.
        sample_weight : array_like of shape (n_samples,), default=None
            Sample weights.
        classes : array_like of shape (n_classes,), default=None
            All classes that occur in any call. Required in the first call.

        Returns
        -------
        self : object
            The trained model.
        """
        before = self.__dict__.copy()
        try:
            if _check_partial_fit_first_call(self, classes):
                labels = y if type_of_target(y).startswith("multilabel") else classes
                self._label_binarizer = LabelBinarizer().fit(labels)
            return self._partial_fit(X, y, sample_weight)
        except BaseException:
            if not self._n_fitted:  # the first call is still to come
                self.__dict__ = before
            raise

    @for_blocks_too
    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Predict the class of each row, or its labels.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features), or fastmlp.data.Blocks
            The input data.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_labels)
            Predicted classes, or 0 and 1 for each label.
        """
        X = self._check_X(X)
        predicted: npt.NDArray[Any]
        if "estimators_" in vars(self):
            p = self._probabilities(X)
            if self._output() == "softmax":
                return np.asarray(self.classes_.take(p.argmax(axis=1)))
            predicted = ((p[:, 1] if self.n_outputs_ == 1 else p) > 0.5).astype(np.int64)
        elif self.out_activation_ == self._output():
            predicted = self._network().predict(X)
            if self.out_activation_ == "softmax":
                return np.asarray(self.classes_.take(predicted, mode="clip"))
        else:
            predicted = self._outputs(X)
            predicted = predicted.ravel() if predicted.shape[1] == 1 else predicted
        labels: npt.NDArray[Any] = self._label_binarizer.inverse_transform(predicted)
        return labels

    @for_blocks_too
    def predict_proba(self, X: Any) -> Floats:
        """Return the probability of each class or label.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features), or fastmlp.data.Blocks
            The input data.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities in the order of `classes_`. If `out_activation_` was assigned, outputs of the last layer.
        """
        return self._probabilities(self._check_X(X))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the accuracy.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features), or fastmlp.data.Blocks
            Test samples.
        y : array_like of shape (n_samples,) or (n_samples, n_outputs), or None if X is Blocks, default=None
            True classes or labels.
        sample_weight : array_like of shape (n_samples,), default=None
            Sample weights.

        Returns
        -------
        float
            Accuracy of `predict`. With several labels, a row counts as correct only if all its labels are.
        """
        y, sample_weight = targets_of(X, y, sample_weight)
        predicted = self.predict(X)
        if sample_weight is None and type(y) is np.ndarray and y.shape == predicted.shape and self._knows(y):
            return float(np.mean(predicted == y))
        return float(accuracy_score(y, predicted, sample_weight=sample_weight))

    def _probabilities(self, X: Any) -> Floats:
        if "estimators_" in vars(self):
            return self._mean_of("_probabilities", X)
        if self.out_activation_ != self._output():
            outputs = self._outputs(X)
            return np.hstack([1 - outputs, outputs]) if outputs.shape[1] == 1 else outputs
        probabilities = self._network().predict_proba(X)
        if self.out_activation_ == "logistic":  # rounding must not make it certain
            smallest, largest = np.finfo(probabilities.dtype).tiny, np.nextafter(1, 0, dtype=probabilities.dtype)
            np.clip(probabilities, smallest, largest, out=probabilities)
        return probabilities

    def predict_log_proba(self, X: Any) -> Floats:
        """Return the log-probability of each class or label.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features), or fastmlp.data.Blocks
            The input data.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Logarithms of `predict_proba`.
        """
        probabilities = self.predict_proba(X)
        return np.asarray(np.log(probabilities, out=probabilities))

    def _output(self) -> str:
        return "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"

    def _learn_classes(self, y: Any, incremental: bool) -> None:
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        elif self.warm_start:
            classes = unique_labels(y)
            if set(classes) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                    f"Previously got {self.classes_}, `y` has {classes}"
                )

    def _encode(self, y: Any) -> npt.NDArray[Any]:
        """Return class indices (n,) for a softmax, 0 and 1 (n, n_outputs) for logistic outputs."""
        if not self._knows(y):
            classes = unique_labels(y)
            if len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
                raise ValueError(
                    f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {classes}."
                )
        if self._output() == "softmax" and y.ndim == 1 and self.out_activation_ == "softmax":
            return np.asarray(np.searchsorted(self.classes_, y))
        encoded: npt.NDArray[Any] = self._label_binarizer.transform(y)
        return encoded

    def _knows(self, y: Any) -> bool:
        """Return whether y certainly has known classes only.

        If so, the checks of scikit-learn find nothing, and they take as long as some epochs of a small network.
        """
        if y.ndim != 1 or y.dtype != self.classes_.dtype or y.dtype.kind not in "iuU":
            return False
        return np.array_equal(self.classes_.take(np.searchsorted(self.classes_, y), mode="clip"), y)

    def _weigh(self, y: Any, weights: Floats | None, incremental: bool) -> Floats | None:
        if self.class_weight is None:
            return weights
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' needs all rows at once, which partial_fit does not have; give a dict, e.g. of "
                "sklearn.utils.class_weight.compute_class_weight('balanced', classes=classes, y=y)"
            )
        of_classes: Floats
        if isinstance(self.class_weight, dict) and y.ndim == 1:  # it may name classes that are not in y
            of_each = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
            of_classes = of_each[np.searchsorted(self.classes_, y)]
        else:
            of_classes = compute_sample_weight(self.class_weight, y)
        bad = np.flatnonzero(~((of_classes >= 0) & (of_classes < np.inf)))
        if len(bad):
            raise ValueError(
                f"class_weight gives {of_classes[bad[0]]} to class {y[bad[0]]}, but weights are finite and not negative"
            )
        return of_classes if weights is None else weights * of_classes

    def _classes_of_rows(self) -> npt.NDArray[Any] | None:
        return None if self._label_binarizer.y_type_.startswith("multilabel") else np.asarray(self.classes_)

    def _weigh_classes(self, counts: npt.NDArray[np.int64]) -> Floats | None:
        if self.class_weight is None:
            return None
        if not len(counts):
            raise ValueError("class_weight needs rows of one class each here, not multilabel targets")
        if self.class_weight == "balanced":
            of_classes: Floats = balanced(counts)
            return of_classes
        weights: Floats = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_)
        return weights

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

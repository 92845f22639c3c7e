"""`CheckedMLP`: the checks of X, y and sample weights of an estimator, and the score of its validation data."""

from __future__ import annotations

import inspect
import math
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import is_classifier
from sklearn.metrics import accuracy_score, check_scoring, r2_score
from sklearn.model_selection import train_test_split
from sklearn.utils import column_or_1d
from sklearn.utils.validation import _check_sample_weight, validate_data

from fastmlp.activations import Floats
from fastmlp.estimators.fitted import FittedMLP
from fastmlp.losses import Targets
from fastmlp.network import Network
from fastmlp.once import Sharing, each_time
from fastmlp.validation.rows import check_sample_weight
from fastmlp.validation.targets import check_numbers

__all__ = ["CheckedMLP", "check_weights"]

_SMALL = ("uint8", "float16")  # exactly representable in float32


class CheckedMLP(FittedMLP):
    """What checks the data of an estimator."""

    @abstractmethod
    def _encode(self, y: Any) -> npt.NDArray[Any]:
        """Return y as targets of the network."""

    def _check_X_y(self, X: Any, y: Any, reset: bool) -> tuple[Any, Any]:
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            y_numeric=not is_classifier(self),
            dtype=self._dtypes(X),
            reset=reset,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _dtypes(self, X: Any) -> list[Any]:
        """Return the accepted dtypes of X; others are converted to the first."""
        if _is_small(X):
            return [np.float32 if self.dtype is None else np.dtype(self.dtype), np.uint8]
        return [np.float64, np.float32] if self.dtype is None else [np.dtype(self.dtype)]

    def _dtype_of(self, X: Any) -> str:
        return np.dtype(X.dtype if self.dtype is None and X.dtype != np.uint8 else self.dtype or np.float32).name

    def _check_data(
        self, net: Network, X: Any, targets: Any, what: str = "", once: Sharing = each_time
    ) -> tuple[Any, Targets]:
        """Return rows and targets for the network; scikit-learn has checked that all numbers are finite."""
        return once(lambda: self._checked_data(net, X, targets, what), X, "data", what, net.output)

    def _checked_data(self, net: Network, X: Any, targets: Any, what: str) -> tuple[Any, Targets]:
        if net.output == self._output():
            X, y = net._check_data(X, targets, what, finite=False)
        else:  # of an `out_activation_` that was assigned: any numbers
            X, _ = net._check_data(X, np.zeros((len(targets), net.layers[-1])), what, finite=False)
            y = check_numbers(targets, len(targets), net.layers[-1], net.dtype, f"{what}y")
        if y.dtype == net.dtype:
            largest = np.abs(y).max()
            if largest > math.sqrt(np.finfo(net.dtype).max) / 2:
                raise ValueError(
                    f"{what}y has {largest:g}, whose square is too large for {net.dtype}; scale y first, for example "
                    "with sklearn.compose.TransformedTargetRegressor"
                )
        return X, y

    def _split(
        self, X: Any, y: Any, targets: Any, weights: Floats | None
    ) -> tuple[Any, Any, Floats | None, Any, Any, Floats | None]:
        """Return X, targets and weights for training, then X, y and weights for validation."""
        two_classes = is_classifier(self) and self.n_outputs_ == 1
        train, val = train_test_split(
            np.arange(X.shape[0]),
            random_state=self._random_state,
            test_size=self.validation_fraction,
            stratify=targets.astype(bool) if two_classes else None,
        )
        if len(val) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        weights_train, weights_val = (None, None) if weights is None else (weights[train], weights[val])
        return X[train], targets[train], weights_train, X[val], y[val], weights_val

    def _monitor(self, X: Any, y: Any, weights: Floats | None) -> tuple[str, dict[str, Callable[[Any, Any], float]]]:
        """Return the name of the measurement that scores the validation data, and the metrics to measure for it."""
        if isinstance(self.scoring, str) and self.scoring == "loss":
            return "val_loss", {}
        own = self.out_activation_ == self._output()
        always_right = is_classifier(self) and len(self.classes_) == 1  # the network may still predict the other class
        if self.scoring is None and own and not always_right:
            if is_classifier(self) and weights is None:
                return "val_accuracy", {}
            if is_classifier(self):
                return "val_score", {"score": _where_finite(partial(accuracy_score, sample_weight=weights))}
            return "val_score", {"score": _where_finite(lambda _, y_pred: _r2(y, y_pred, weights))}
        scorer = check_scoring(self, self.scoring)
        nameless = object.__new__(type(self))  # it has no feature names, as X has none here
        weighs = weights is not None and "sample_weight" in inspect.signature(scorer).parameters
        settings = {"sample_weight": weights} if weighs else {}

        def score(*_: Any) -> float:
            nameless.__dict__ = {name: value for name, value in vars(self).items() if name != "feature_names_in_"}
            value = float(scorer(nameless, X, y, **settings))
            if self.early_stopping and np.isnan(value):
                raise ValueError("scoring gives nan for the validation data; early_stopping needs numbers to compare")
            return value

        return "val_score", {"score": score}


def _is_small(X: Any) -> bool:
    """Return whether all of X is of a type that float32 represents exactly."""
    dtypes = X.dtypes if hasattr(X, "dtypes") else [getattr(X, "dtype", None)]
    return all(str(dtype).lower() in _SMALL for dtype in dtypes)


def check_weights(sample_weight: Any, X: Any) -> Floats | None:
    """Return the weight of each row, or None if all are 1."""
    if sample_weight is None:
        return None
    weights = check_sample_weight(_check_sample_weight(sample_weight, X, dtype=np.float64), X.shape[0])
    if weights is not None and not 0 < weights.sum() < np.inf:
        raise ValueError(f"sample_weight adds up to {weights.sum()}; some weights must be more than zero")
    return weights


def _where_finite(measure: Callable[[Any, Any], float]) -> Callable[[Any, Any], float]:
    """Return a metric that is nan if a prediction is not finite."""

    def measured(y_true: Any, y_pred: Any) -> float:
        return float(measure(y_true, y_pred)) if np.isfinite(y_pred).all() else math.nan

    return measured


def _r2(y: Any, y_pred: Floats, weights: Floats | None) -> float:
    """Return R² in float64: beside a large y, float32 hides small steps."""
    return float(r2_score(np.asarray(y, np.float64), y_pred.astype(np.float64), sample_weight=weights))

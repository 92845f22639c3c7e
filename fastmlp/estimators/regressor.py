"""`MLPRegressor`."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import RegressorMixin
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from fastmlp.activations import Floats
from fastmlp.estimators.base import BaseMLP
from fastmlp.estimators.blocks import for_blocks_too, targets_of
from fastmlp.estimators.parameters import CONSTRAINTS, documented

__all__ = ["MLPRegressor"]


@documented
class MLPRegressor(RegressorMixin, BaseMLP):  # type: ignore[misc]
    """Multilayer perceptron regressor with the interface of `sklearn.neural_network.MLPRegressor`.

    Parameters
    ----------
    loss : {'squared_error', 'poisson'}, default='squared_error'
        Loss to minimize: half the squared error, or half the Poisson deviance. The latter is for counts, y >= 0, and
        uses an exponential output activation.
    {parameters}

    Attributes
    ----------
    {attributes}

    See Also
    --------
    MLPClassifier : Multilayer perceptron classifier.
    MLP : The network itself, with minibatches, schedules and metrics of its own.

    Examples
    --------
    >>> from fastmlp import MLPRegressor
    >>> from sklearn.datasets import make_regression
    >>> from sklearn.model_selection import train_test_split
    >>> X, y = make_regression(n_samples=200, n_features=20, random_state=1)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=1)
    >>> regr = MLPRegressor(random_state=1, max_iter=2000, tol=0.1).fit(X_train, y_train)
    >>> round(regr.score(X_test, y_test), 2)
    0.98
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CONSTRAINTS,
        "loss": [StrOptions({"squared_error", "poisson"})],
    }

    def __init__(
        self,
        loss: str = "squared_error",
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
        scoring: Any = None,
        callbacks: Any = None,
        n_threads: int | None = None,
        dtype: Any = None,
        n_networks: int = 1,
    ) -> None:
        self._keep(locals())

    @available_if(lambda estimator: estimator._check_solver())  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Update the model with a single iteration over the given data.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features)
            The input data.
        y : array_like of shape (n_samples,) or (n_samples, n_outputs)
            The target values.
        sample_weight : array_like of shape (n_samples,), default=None
            Sample weights.

        Returns
        -------
        self : object
            The trained model.
        """
        return self._partial_fit(X, y, sample_weight)

    @for_blocks_too
    def predict(self, X: Any) -> Floats:
        """Predict the target of each row.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features), or fastmlp.data.Blocks
            The input data.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Predicted values.
        """
        outputs = self._outputs(self._check_X(X))
        return outputs.ravel() if outputs.shape[1] == 1 else outputs

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the coefficient of determination, R².

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features), or fastmlp.data.Blocks
            Test samples.
        y : array_like of shape (n_samples,) or (n_samples, n_outputs), or None if X is Blocks, default=None
            True values.
        sample_weight : array_like of shape (n_samples,), default=None
            Sample weights.

        Returns
        -------
        float
            R² of `predict`: 1 at best, and 0 for a model that always predicts the mean of y.
        """
        return float(super().score(X, *targets_of(X, y, sample_weight)))

    def _output(self) -> str:
        return "exp" if self.loss == "poisson" else "identity"

    def _encode(self, y: Any) -> npt.NDArray[Any]:
        """Return y as (n, n_outputs)."""
        if hasattr(y, "toarray"):
            raise TypeError("y is sparse; make it dense first: y.toarray()")
        return np.asarray(y).reshape(len(y), -1)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = self.loss == "poisson"
        return tags

"""The methods of `MLPClassifier` and `MLPRegressor` that exchange them with other programs."""

from __future__ import annotations

import os
from typing import Any, Self

__all__ = ["EstimatorMethods"]


class EstimatorMethods:
    """Methods of `MLPClassifier` and `MLPRegressor`."""

    # --- ONNX ---------------------------------------------------------------------------------------------------------

    def to_onnx(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Convert the estimator to an ONNX model.

        The input "X" (n_samples, n_features) has the dtype of `coefs_`. For a classifier, the outputs are "label"
        (int64 or strings) and "probabilities"; for a regressor, the output is "variable". They equal the results of
        `predict` and `predict_proba` up to rounding. skl2onnx can convert the estimator too, alone or in a pipeline.

        Parameters
        ----------
        path : str or path or None, default=None
            Name of a file to write, such as "model.onnx". An existing file is replaced as a whole or not at all.

        Returns
        -------
        onnx.ModelProto
            The model.

        Raises
        ------
        ImportError
            If onnx is not installed.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        TypeError
            If classes are neither integers nor strings.
        ValueError
            If parameters are not finite, or take 2 GiB or more, which an ONNX file cannot hold.
        OSError
            If the file cannot be written.
        """
        from fastmlp.interchange.onnx.export import estimator_to_onnx

        return estimator_to_onnx(self, path)

    # --- scikit-learn -------------------------------------------------------------------------------------------------

    @property
    def network_(self) -> Any:
        """A copy of the fitted network as a new `MLP`, for example to save it or to export it.

        It is what ``MLP.from_sklearn(self)`` returns. Training it or writing into its weights does not change the
        estimator.
        """
        from fastmlp.interchange import sklearn

        return sklearn.network_of(self)

    def to_sklearn(self) -> Any:
        """Convert the estimator to scikit-learn's, with parameters, fitted attributes and the state of the optimizer.

        Returns
        -------
        sklearn.neural_network.MLPClassifier or MLPRegressor
            A fitted copy. Training parameters that scikit-learn does not have, such as `dropout`, are dropped with a
            warning.

        Raises
        ------
        ValueError
            If scikit-learn cannot make the same predictions, because it lacks an activation or has one for all layers.
        NotFittedError
            If this estimator is not fitted.
        """
        from fastmlp.interchange import sklearn

        return sklearn.to_sklearn(self)

    @classmethod
    def from_sklearn(cls, estimator: Any) -> Self:
        """Convert a scikit-learn estimator, with parameters, fitted attributes and the state of the optimizer.

        Parameters
        ----------
        estimator : sklearn.neural_network.MLPClassifier or MLPRegressor
            A fitted estimator of the same kind.

        Returns
        -------
        MLPClassifier or MLPRegressor
            A fitted copy.

        Raises
        ------
        TypeError
            If `estimator` is not such an estimator.
        ValueError
            If its parameters do not fit each other.
        NotFittedError
            If it is not fitted.
        """
        from fastmlp.interchange import sklearn

        own: Self = sklearn.from_sklearn(cls, estimator)
        return own

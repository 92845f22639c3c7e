"""The methods of `MLPClassifier` and `MLPRegressor` that exchange them with other programs."""

from __future__ import annotations

import os
from typing import Any, Self

__all__ = ["EstimatorMethods"]


class EstimatorMethods:
    """Methods of `MLPClassifier` and `MLPRegressor`."""

    # --- ONNX ---------------------------------------------------------------------------------------------------------

    def to_onnx(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Return the estimator as an ONNX model, and write it to `path` if that is given.

        The input "X" (n_samples, n_features) has the dtype of `coefs_`. The outputs are "label", as from `predict`,
        int64 or strings, and "probabilities", as from `predict_proba`; that of a regressor is "variable", as from
        `predict`. They differ from these by rounding. skl2onnx converts the estimator too, alone and in a pipeline.

        Parameters
        ----------
        path : str or path or None
            Name of the file, such as "model.onnx". An older file is replaced as a whole or not at all.

        Returns
        -------
        onnx.ModelProto

        Raises
        ------
        ImportError
            Without the package onnx.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        TypeError
            If classes are neither integers nor strings.
        ValueError
            If parameters are not finite, or have 2 GiB, which a file of ONNX cannot hold.
        OSError
            If the file cannot be written.
        """
        from fastmlp.interchange.onnx.export import estimator_to_onnx

        return estimator_to_onnx(self, path)

    # --- scikit-learn -------------------------------------------------------------------------------------------------

    @property
    def network_(self) -> Any:
        """The network of the fitted estimator, a new `MLP`: for files, for other programs and for fits of its own.

        It is what ``MLP.from_sklearn(self)`` returns; training it or writing into its weights does not change the
        estimator.
        """
        from fastmlp.interchange import sklearn

        return sklearn.network_of(self)

    def to_sklearn(self) -> Any:
        """Return the estimator of scikit-learn with the same parameters, attributes and state of the optimizer.

        Returns
        -------
        sklearn.neural_network.MLPClassifier or MLPRegressor
            Fitted; it shares nothing with this estimator. Settings of training that scikit-learn does not have, such as
            `dropout`, are left out with a warning.

        Raises
        ------
        ValueError
            If scikit-learn cannot predict the same: it has no such activation, or one for each layer.
        NotFittedError
            If this estimator is not fitted.
        """
        from fastmlp.interchange import sklearn

        return sklearn.to_sklearn(self)

    @classmethod
    def from_sklearn(cls, estimator: Any) -> Self:
        """Return an estimator with the parameters, attributes and state of the optimizer of scikit-learn's.

        Parameters
        ----------
        estimator : sklearn.neural_network.MLPClassifier or MLPRegressor
            Fitted, and of the same kind.

        Returns
        -------
        MLPClassifier or MLPRegressor
            It shares nothing with `estimator`.

        Raises
        ------
        TypeError
            If `estimator` is something else.
        ValueError
            If its parameters do not fit each other.
        NotFittedError
            If it is not fitted.
        """
        from fastmlp.interchange import sklearn

        own: Self = sklearn.from_sklearn(cls, estimator)
        return own

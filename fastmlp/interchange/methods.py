"""The methods of networks and estimators that exchange them with other programs."""

from __future__ import annotations

from typing import Any, Self

from fastmlp.validation.calls import advised_methods

__all__ = ["EstimatorMethods", "NetworkMethods"]


@advised_methods
class NetworkMethods:
    """Methods of `MLP`."""

    # --- C ------------------------------------------------------------------------------------------------------------

    # --- Keras --------------------------------------------------------------------------------------------------------

    # --- ONNX ---------------------------------------------------------------------------------------------------------

    # --- PyTorch ------------------------------------------------------------------------------------------------------

    # --- scikit-learn -------------------------------------------------------------------------------------------------

    @classmethod
    def from_sklearn(cls, estimator: Any) -> Self:
        """Return a network with the parameters of a fitted estimator.

        Parameters
        ----------
        estimator : MLPClassifier or MLPRegressor
            Of scikit-learn or of fastmlp. Of a pipeline, pass the last step: what the other steps do is not part of the
            network.

        Returns
        -------
        MLP
            Its dtype is that of `coefs_`. It predicts the labels of `classes_`, knows the names of the columns, and
            shares nothing with the estimator. Penalties, dropout and the state of the optimizer are not taken over.

        Raises
        ------
        TypeError
            If `estimator` is something else.
        ValueError
            If its parameters do not fit each other, or no network has such an `out_activation_`.
        NotFittedError
            If it is not fitted.
        """
        from fastmlp.interchange import sklearn

        net: Self = sklearn.network_from(cls, estimator)
        return net


class EstimatorMethods:
    """Methods of `MLPClassifier` and `MLPRegressor`."""

    # --- ONNX ---------------------------------------------------------------------------------------------------------

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

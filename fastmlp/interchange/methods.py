"""The methods of networks and estimators that exchange them with other programs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.validation.calls import advised_methods

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastmlp.network import Network

__all__ = ["EstimatorMethods", "NetworkMethods"]


@advised_methods
class NetworkMethods:
    """Methods of `MLP`."""

    # --- C ------------------------------------------------------------------------------------------------------------

    # --- Keras --------------------------------------------------------------------------------------------------------

    # --- ONNX ---------------------------------------------------------------------------------------------------------

    def to_onnx(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Return the network as an ONNX model, and write it to `path` if that is given.

        It needs opset 13 and no other operators, so every runtime of the last years reads it. The input "X" (n, I) has
        the network's dtype. The outputs are "label", as from `predict`, and "probabilities", as from `predict_proba`;
        for regression it is "variable", as from `predict`. They differ from these by rounding. Names of classes are in
        the model, those of columns in its metadata.

        Parameters
        ----------
        path : str or path or None
            Name of the file, such as "net.onnx". An older file is replaced as a whole or not at all.

        Returns
        -------
        onnx.ModelProto

        Raises
        ------
        ImportError
            Without the package onnx.
        ValueError
            If parameters are not finite, or have 2 GiB, which a file of ONNX cannot hold.
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> net.to_onnx("net.onnx")  # doctest: +SKIP
        >>> session = onnxruntime.InferenceSession("net.onnx")  # doctest: +SKIP
        >>> label, probabilities = session.run(None, {"X": X_test})  # doctest: +SKIP
        """
        from fastmlp.interchange.onnx.export import network_to_onnx

        return network_to_onnx(cast("Any", self), path)

    @classmethod
    def from_onnx(cls, path: Any, *, output: str | None = None, **settings: Any) -> Self:
        """Return the network that an ONNX file holds, if it is a multilayer perceptron.

        Files of `to_onnx`, of PyTorch, Keras and skl2onnx are read, and others of the same operators. What has no
        effect on predictions, such as Dropout, is left out. A scaling of the inputs becomes `input_scale` if it is one
        factor. Otherwise it is multiplied into the weights, as batch normalization is, which changes results by
        rounding. Weights of 16 bits become float32.

        Parameters
        ----------
        path : str, path or onnx.ModelProto
            Name of the file, or a model.
        output : {"softmax", "logistic", "identity", "exp"} or None
            What the outputs mean, for a file that ends with the sums of the last layer, such as those of PyTorch's
            classifiers. None is what the file says; such sums are then numbers, "identity".
        **settings
            Further settings of `MLP` for training, such as ``l2=1e-4``.

        Returns
        -------
        MLP

        Raises
        ------
        ImportError
            Without the package onnx.
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is damaged, its weights are in files outside its folder, or it computes something that a network
            cannot; the message names it.
        """
        from fastmlp.interchange.onnx.read import read_network

        return cast("Self", read_network(cast("Any", cls), path, output, settings))

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
    def network_(self) -> Network:
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

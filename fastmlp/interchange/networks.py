"""The methods of `MLP` that exchange it with other programs: ``to_...`` and ``from_...``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, Self, cast

import numpy.typing as npt

from fastmlp.model import Model
from fastmlp.options import Activation, Output
from fastmlp.validation.calls import advised_methods

__all__ = ["NetworkMethods"]


@advised_methods
class NetworkMethods(Model):
    """Methods of `MLP`."""

    # --- C ------------------------------------------------------------------------------------------------------------

    def to_c(
        self,
        path: str | os.PathLike[str],
        name: str = "net",
        bits: Literal[8, 32] = 32,
        *,
        X: Any = None,
        y: npt.ArrayLike | None = None,
    ) -> dict[str, float]:
        """Write the network as C to `path`, for a micro-controller or any other program, and a test program beside it.

        The file is C99 and needs nothing but the C library, without allocation. ``net_predict`` and
        ``net_predict_proba`` predict one row as `predict` and `predict_proba` do; the comment at its beginning says how
        to call them, and how much memory they take. ``net_test.c`` beside a ``net.c`` compares up to 100 rows.

        Parameters
        ----------
        path : str or path
            Name of the file, such as "net.c". Older files are replaced.
        name : str
            What the names in C begin with.
        bits : {32, 8}
            Of a weight. 32 is float32. 8 bits need a fourth of the memory, and no floating-point numbers in the inner
            loop, but cost some accuracy, which is measured on `X` and printed. Neither is exact for a network in
            float64.
        X : (n, I) array_like, table of pandas or polars, or sparse matrix of SciPy, or None
            Rows to measure on, as for `predict`; 8 bits need some. The rows of the test program are among them. Without
            X they are normal random numbers.
        y : (n,) or (n, C) array_like or None
            As for `score`.

        Returns
        -------
        dict of str to float
            What was measured on X, otherwise empty: "n_rows", the fraction of "equal" predictions, or for regression
            the "largest_difference", and with y "accuracy" or "r2" of the network, and "accuracy_in_c" or "r2_in_c".
            It is measured in NumPy, with the arithmetic of the C file.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong, 8 bits have no X, or parameters are not finite in float32. Nothing is written.
        OSError
            If a file cannot be written, or the file of the test program is not one that `to_c` wrote.

        Examples
        --------
        >>> measured = net.to_c("net.c", bits=8, X=X_test, y=y_test)
        8-bit weights: accuracy 0.9528 -> 0.9528 (+0.0000), 0 predictions differ on 360 rows
        """
        from fastmlp.interchange import c

        return c.write(cast("Any", self), path, name, bits, X, y)

    # --- Keras --------------------------------------------------------------------------------------------------------

    def to_keras(self) -> Any:
        """Return a model of Keras with copies of the parameters.

        It takes the X of this network, and returns what `predict_proba` returns, or for regression `predict`, as
        (n, C). A single logistic output is the probability of class 1, (n, 1). Dropout, `input_noise` and `l2` are part
        of the model, but it is not compiled. Names of columns and classes, label smoothing and training state are not
        part of it.

        Returns
        -------
        keras.Model
            Of Dense layers; a Rescaling layer is the `input_scale`.

        Raises
        ------
        ImportError
            If there is no Keras, or none of its backends.
        ValueError
            If the backend has no float64, but the network does.

        Examples
        --------
        >>> net.to_keras().save("net.keras")
        """
        from fastmlp.interchange import keras

        return keras.to_keras(self)

    @classmethod
    def from_keras(
        cls,
        model: Any,
        *,
        activation: Activation | Sequence[Activation] | None = None,
        output: Output | None = None,
        **settings: Any,
    ) -> Self:
        """Return a network with copies of the parameters of a Keras model.

        Parameters
        ----------
        model : keras.Sequential or functional keras.Model
            Of Dense layers, one after the other, with activations that fastmlp has. Dropout, a Rescaling layer at the
            start, Gaussian noise after it and L2 penalties of all kernels become settings of the network.
        activation : str, sequence of str or None
            Checked if given. Only "gelu" changes something: it replaces the exact GELU, Keras's default, by the
            approximation by tanh, which differs by up to 5e-4.
        output : {"softmax", "logistic", "identity", "exp"} or None
            What the outputs mean. None is what the last activation says: softmax, sigmoid, exponential, or if there is
            none, the loss with which the model was compiled, and otherwise "identity".
        **settings
            Further settings of `MLP`, such as ``n_threads=1``. They replace those found in the model.

        Returns
        -------
        MLP
            Of the model's dtype; bfloat16 and float16 become float32.

        Raises
        ------
        ImportError
            If there is no Keras, or none of its backends.
        TypeError
            If `model` is no model of Keras, or a setting is wrong.
        ValueError
            If the model has something that fastmlp's networks do not have; the error names it.

        Examples
        --------
        >>> import keras
        >>> net.to_keras().save("net.keras")
        >>> net = MLP.from_keras(keras.saving.load_model("net.keras"))
        """
        from fastmlp.interchange import keras

        return keras.from_keras(cls, model, activation, output, settings)

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
        >>> import onnxruntime
        >>> net.to_onnx("net.onnx")
        >>> session = onnxruntime.InferenceSession("net.onnx")
        >>> label, probabilities = session.run(None, {"X": X_test})
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

    def to_torch(self, *, probabilities: bool = False, scaled_inputs: bool = False, training: bool = False) -> Any:
        """Return an nn.Sequential of PyTorch with copies of the parameters.

        It takes the X of this network, as a tensor of its dtype, and returns the outputs (n, C) of the last layer, as
        losses of PyTorch take them. They are logits of classes or labels, the numbers of a regression, or logarithms of
        means of counts. It is on the CPU, with Linear layers, activations and Dropout, and in eval mode unless
        ``training=True``. Names of columns and classes are not part of it.

        Parameters
        ----------
        probabilities : bool
            Whether to add a Softmax or Sigmoid; a single logistic output is the probability of class 1, (n, 1).
        scaled_inputs : bool
            Whether the module will get ``X * input_scale``, which keeps its parameters bit-equal to those of this
            network. If not, the first weights are multiplied by `input_scale`.
        training : bool
            Whether to return the optimizer with its state and the loss too, so that PyTorch continues training. Options
            of `fit`, such as schedule, clipping and class weights, are not part of them.

        Returns
        -------
        nn.Sequential, or with ``training=True`` a named tuple (module, optimizer, loss)
            `loss` takes the outputs and targets: classes (n,) int64 for a softmax, else (n, C) of the network's dtype.
            The network's `l2` is a weight decay of the weights.

        Raises
        ------
        ImportError
            If there is no PyTorch.
        TypeError
            If there are no probabilities.
        ValueError
            With ``training=True``, if this network has not been trained, or has an optimizer or a penalty that PyTorch
            does not have, or an `input_scale` without ``scaled_inputs=True``.

        Examples
        --------
        >>> module = net.to_torch()
        >>> module, optimizer, loss = net.to_torch(training=True)
        """
        from fastmlp.interchange import torch

        return torch.to_torch(self, probabilities=probabilities, scaled_inputs=scaled_inputs, training=training)

    @classmethod
    def from_torch(
        cls,
        module: Any,
        *,
        activation: Activation | Sequence[Activation] | None = None,
        output: Output | None = None,
        optimizer: Any = None,
        **settings: Any,
    ) -> Self:
        """Return a network with copies of the parameters of a PyTorch module or of a state_dict.

        Parameters
        ----------
        module : nn.Module or mapping of str to tensors or arrays
            A module that computes Linear layers, one after the other, with activations that fastmlp has: an
            nn.Sequential, or any module whose forward `torch.fx` can trace. Dropout and a factor of X become settings
            of the network. A state_dict holds the weights and biases of Linear layers only, in their order.
        activation : str, sequence of str or None
            Of the hidden layers. A state_dict needs it. For a module it is checked, and only "gelu" changes something:
            it replaces the exact GELU, PyTorch's default, by the approximation by tanh, which differs by up to 5e-4.
        output : {"softmax", "logistic", "identity", "exp"} or None
            What the outputs mean. None is what the module ends in, a softmax or a sigmoid; if it ends in a Linear
            layer, "softmax", as for `MLP`.
        optimizer : torch.optim.Optimizer or None
            SGD, Adam, AdamW, RMSprop or Adagrad of the module's parameters. Its settings and state are taken over, so
            that ``fit(..., resume=True)`` continues. More weight decay of weights than of biases becomes `l2`.
        **settings
            Further settings of `MLP`, such as ``input_scale=1 / 255``. They replace those found in the module.

        Returns
        -------
        MLP
            Of the module's dtype; bfloat16 and float16 become float32.

        Raises
        ------
        ImportError
            If `module` is no mapping, and there is no PyTorch.
        TypeError
            If an argument has the wrong type.
        ValueError
            If module or optimizer have something that fastmlp does not have; the error names it.

        Examples
        --------
        >>> import torch
        >>> module, optimizer, loss = net.to_torch(training=True)
        >>> numbers = MLP.from_torch(module, output="identity")
        >>> torch.save(module.state_dict(), "net.pt")
        >>> same = MLP.from_torch(torch.load("net.pt", weights_only=True), activation="relu")
        >>> resumed = MLP.from_torch(module, optimizer=optimizer)
        >>> history = resumed.fit(X, y, epochs=5, resume=True)
        """
        from fastmlp.interchange import torch

        return torch.from_torch(cls, module, activation, output, optimizer, settings)

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

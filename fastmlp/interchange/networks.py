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
        """Write the network as C99, for a microcontroller or any other program.

        The file needs only the C library and allocates no memory. Its functions ``net_predict`` and
        ``net_predict_proba`` predict one row, like `predict` and `predict_proba`. The comment at the top says how to
        call them and how much memory they take. A test program, ``net_test.c`` beside ``net.c``, compares up to 100
        rows.

        Parameters
        ----------
        path : str or path
            Name of the file, such as "net.c". Existing files are replaced.
        name : str, default="net"
            Prefix of all names in C.
        bits : {32, 8}, default=32
            Bits of a weight. 32 is float32. 8 takes a quarter of the memory and needs no floating-point arithmetic in
            the inner loop, but costs some accuracy, which is measured on `X` and printed. Neither is exact for a
            network in float64.
        X : (n, I) array_like, table or sparse matrix, or None, default=None
            Rows for the measurement and for the test program, as for `predict`. Required for 8 bits. Without X, the
            test program uses normal random numbers.
        y : (n,) or (n, C) array_like or None, default=None
            Targets of these rows, as for `score`.

        Returns
        -------
        dict of str to float
            Measurements on X, or empty without X: "n_rows", the fraction of "equal" predictions or, for regression, the
            "largest_difference"; with y also "accuracy" or "r2" of the network, and "accuracy_in_c" or "r2_in_c". They
            are computed in NumPy with the arithmetic of the C file.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong, X is missing for 8 bits, or parameters are not finite in float32. Nothing is
            written.
        OSError
            If a file cannot be written, or the test program would replace a file that `to_c` did not write.

        Examples
        --------
        >>> measured = net.to_c("net.c", bits=8, X=X_test, y=y_test)
        8-bit weights: accuracy 0.9528 -> 0.9528 (+0.0000), 0 predictions differ on 360 rows
        """
        from fastmlp.interchange import c

        return c.write(cast("Any", self), path, name, bits, X, y)

    # --- Keras --------------------------------------------------------------------------------------------------------

    def to_keras(self) -> Any:
        """Convert the network to a Keras model.

        The model takes the same X and returns probabilities, or numbers for regression, as (n, C). A single logistic
        output is the probability of class 1, (n, 1). Dropout, `input_noise` and `l2` become part of the model. Names of
        columns and classes, label smoothing and the training state do not. The model is not compiled.

        Returns
        -------
        keras.Model
            Dense layers with copies of the parameters, after a Rescaling layer for `input_scale`.

        Raises
        ------
        ImportError
            If Keras or its backend is not installed.
        ValueError
            If the network is in float64 and the backend does not support it.

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
        """Convert a Keras model to a network.

        Parameters
        ----------
        model : keras.Sequential or functional keras.Model
            A stack of Dense layers with activations that fastmlp has. Dropout, a Rescaling layer at the start, Gaussian
            noise after it and L2 penalties of all kernels become settings of the network.
        activation : str, sequence of str or None, default=None
            Expected activations. They are checked, and only "gelu" changes something: Keras's exact GELU is replaced by
            the tanh approximation, which differs by up to 5e-4.
        output : {"softmax", "logistic", "identity", "exp"} or None, default=None
            Output of the network. None takes it from the model's last activation: softmax, sigmoid or exponential. If
            there is none, it is taken from the loss with which the model was compiled, and otherwise "identity".
        **settings
            Further parameters of `MLP`, such as ``n_threads=1``. They replace those found in the model.

        Returns
        -------
        MLP
            A network with copies of the model's parameters, in its dtype; bfloat16 and float16 become float32.

        Raises
        ------
        ImportError
            If Keras or its backend is not installed.
        TypeError
            If `model` is not a Keras model, or a setting is wrong.
        ValueError
            If the model has something that fastmlp's networks do not have; the message names it.

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
        """Convert the network to an ONNX model.

        The model uses standard operators of opset 13 only. Its input "X" (n, I) has the network's dtype. Its outputs
        are "label" and "probabilities", or "variable" for regression. They equal the results of `predict` and
        `predict_proba` up to rounding. The model contains the class names, and its metadata the column names.

        Parameters
        ----------
        path : str or path or None, default=None
            Name of a file to write, such as "net.onnx". An existing file is replaced as a whole or not at all.

        Returns
        -------
        onnx.ModelProto
            The model.

        Raises
        ------
        ImportError
            If onnx is not installed.
        ValueError
            If parameters are not finite, or take 2 GiB or more, which an ONNX file cannot hold.
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> import onnxruntime
        >>> model = net.to_onnx("net.onnx")
        >>> session = onnxruntime.InferenceSession("net.onnx")
        >>> label, probabilities = session.run(None, {"X": X_test})
        """
        from fastmlp.interchange.onnx.export import network_to_onnx

        return network_to_onnx(cast("Any", self), path)

    @classmethod
    def from_onnx(cls, path: Any, *, output: str | None = None, **settings: Any) -> Self:
        """Convert an ONNX model that is a multilayer perceptron to a network.

        Models from `to_onnx`, PyTorch, Keras and skl2onnx can be read, and others with the same operators. Operators
        that do not affect predictions, such as Dropout, are dropped. Scaling of the inputs becomes `input_scale` if it
        is a single factor. Otherwise it is folded into the weights, like batch normalization, which changes results by
        rounding. Weights of 16 bits become float32.

        Parameters
        ----------
        path : str, path or onnx.ModelProto
            Name of the file, or a model.
        output : {"softmax", "logistic", "identity", "exp"} or None, default=None
            Output of the network. Needed for models that return logits, as PyTorch's classifiers do. None takes it from
            the model; logits are then "identity".
        **settings
            Further parameters of `MLP` for training, such as ``l2=1e-4``.

        Returns
        -------
        MLP
            A network with copies of the model's parameters.

        Raises
        ------
        ImportError
            If onnx is not installed.
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
        """Convert the network to a PyTorch module.

        The module takes X as a tensor of the network's dtype and returns the outputs (n, C) of the last layer, as
        PyTorch's losses expect: logits for classes and labels, numbers for regression, and logarithms of the means for
        counts. It is on the CPU, and in eval mode unless ``training=True``. Names of columns and classes are not part
        of it.

        Parameters
        ----------
        probabilities : bool, default=False
            Whether to add a Softmax or Sigmoid; a single logistic output is the probability of class 1, (n, 1).
        scaled_inputs : bool, default=False
            Whether the module will get ``X * input_scale``; its parameters are then bit-identical to those of the
            network. If not, the first weights are multiplied by `input_scale`.
        training : bool, default=False
            Whether to return the optimizer with its state and the loss too, so that PyTorch can continue training.
            Arguments of `fit`, such as schedule, clipping and class weights, are not part of them.

        Returns
        -------
        nn.Sequential, or with ``training=True`` a named tuple (module, optimizer, loss)
            The module has Linear layers, activations and Dropout, with copies of the parameters. `loss` takes the
            outputs and the targets: classes (n,) int64 for softmax, else (n, C) in the network's dtype. The network's
            `l2` becomes weight decay of the weights.

        Raises
        ------
        ImportError
            If PyTorch is not installed.
        TypeError
            If ``probabilities=True`` is given for a regression.
        ValueError
            With ``training=True``, if the network has not been trained, if PyTorch lacks its optimizer or penalty, or
            if it has an `input_scale` without ``scaled_inputs=True``.

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
        """Convert a PyTorch module or state_dict to a network.

        Parameters
        ----------
        module : nn.Module or mapping of str to tensors or arrays
            An nn.Sequential, or a module that `torch.fx` can trace, of Linear layers in a row with activations that
            fastmlp has. Dropout and a factor of X become settings of the network. A state_dict must hold only weights
            and biases of Linear layers, in order.
        activation : str, sequence of str or None, default=None
            Activation of the hidden layers, required for a state_dict. For a module it is checked, and only "gelu"
            changes something: PyTorch's exact GELU is replaced by the tanh approximation, which differs by up to 5e-4.
        output : {"softmax", "logistic", "identity", "exp"} or None, default=None
            Output of the network. None takes it from the end of the module: a softmax or a sigmoid. If that is a Linear
            layer, the output is "softmax", as for `MLP`.
        optimizer : torch.optim.Optimizer or None, default=None
            SGD, Adam, AdamW, RMSprop or Adagrad of the module's parameters. Its settings and state are copied, so that
            ``fit(..., resume=True)`` can continue. Where weights have more weight decay than biases, the difference
            becomes `l2`.
        **settings
            Further parameters of `MLP`, such as ``input_scale=1 / 255``. They replace those found in the module.

        Returns
        -------
        MLP
            A network with copies of the module's parameters, in its dtype; bfloat16 and float16 become float32.

        Raises
        ------
        ImportError
            If `module` is not a mapping and PyTorch is not installed.
        TypeError
            If an argument has the wrong type.
        ValueError
            If the module or the optimizer has something that fastmlp does not have; the message names it.

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
        """Convert a fitted estimator to a network.

        Parameters
        ----------
        estimator : MLPClassifier or MLPRegressor
            A fitted estimator of scikit-learn or fastmlp. For a pipeline, pass its last step; the other steps do not
            become part of the network.

        Returns
        -------
        MLP
            A network with copies of `coefs_` and `intercepts_`, in their dtype. It keeps `classes_` and the column
            names, but not penalties, dropout and the state of the optimizer.

        Raises
        ------
        TypeError
            If `estimator` is not such an estimator.
        ValueError
            If its parameters do not fit each other, or its `out_activation_` is not an output of `MLP`.
        NotFittedError
            If it is not fitted.
        """
        from fastmlp.interchange import sklearn

        net: Self = sklearn.network_from(cls, estimator)
        return net

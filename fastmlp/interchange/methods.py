"""The methods of networks and estimators that exchange them with other programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from fastmlp.interchange import keras, torch
from fastmlp.model import Model
from fastmlp.options import Activation, Output
from fastmlp.validation.calls import advised_methods

__all__ = ["EstimatorMethods", "NetworkMethods"]


@advised_methods
class NetworkMethods(Model):
    """Methods of `MLP`."""

    # --- C ------------------------------------------------------------------------------------------------------------

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
        >>> net = MLP.from_keras(keras.saving.load_model("net.keras"))
        """
        return keras.from_keras(cls, model, activation, output, settings)

    # --- ONNX ---------------------------------------------------------------------------------------------------------

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
        >>> net = MLP.from_torch(module, output="identity")
        >>> net = MLP.from_torch(torch.load("net.pt", weights_only=True), activation="relu")
        >>> net = MLP.from_torch(module, optimizer=optimizer)
        >>> net.fit(X, y, epochs=5, resume=True)
        """
        return torch.from_torch(cls, module, activation, output, optimizer, settings)

    # --- scikit-learn -------------------------------------------------------------------------------------------------


class EstimatorMethods:
    """Methods of `MLPClassifier` and `MLPRegressor`."""

    # --- ONNX ---------------------------------------------------------------------------------------------------------

    # --- scikit-learn -------------------------------------------------------------------------------------------------

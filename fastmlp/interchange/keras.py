"""Conversion of networks to Keras models, and back."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fastmlp.activations import LEAK
from fastmlp.interchange.chain import Chain
from fastmlp.model import Model
from fastmlp.storage import written_whole

__all__ = ["from_keras", "save_keras", "to_keras"]

_Net = TypeVar("_Net", bound=Model)


def _keras() -> Any:
    try:
        import keras
    except ImportError as error:
        if error.name == "keras":
            raise ImportError("Keras models need keras: pip install keras") from error
        raise ImportError(
            f"Keras finds no backend ({error}); set the environment variable KERAS_BACKEND to one that is installed: "
            "torch, jax or tensorflow"
        ) from error
    return keras


# --- to Keras ---------------------------------------------------------------------------------------------------------

_HEADS = {"softmax": "softmax", "logistic": "sigmoid", "identity": None, "exp": "exponential"}


def to_keras(net: Model) -> Any:
    """Return a functional model; see `MLP.to_keras`."""
    keras = _keras()
    _check_dtype(keras, net.dtype)
    made = {"dtype": net.dtype}
    x = inputs = keras.Input((net.layers[0],), dtype=net.dtype)
    if net.input_scale != 1:
        x = keras.layers.Rescaling(net.input_scale, **made)(x)
    if net.input_noise:
        x = keras.layers.GaussianNoise(net.input_noise, **made)(x)
    dense = []
    for i, (rate, units) in enumerate(zip(net.dropout_rates, net.layers[1:], strict=True)):
        if rate:
            x = keras.layers.Dropout(rate, **made)(x)
        name = net.activations[i] if i < len(net.activations) else None
        function = _HEADS[net.output] if name is None else _ACTIVATIONS.get(name, name)
        dense.append(
            keras.layers.Dense(
                units,
                activation=function,
                kernel_initializer="zeros",  # drawing them is slow
                kernel_regularizer=keras.regularizers.L2(net.l2 / 2) if net.l2 else None,
                **made,
            )
        )
        x = dense[-1](x)
        if name == "leaky_relu":  # as an activation of Dense its slope is 0.2
            x = keras.layers.LeakyReLU(LEAK, **made)(x)
        elif name == "gelu":  # as an activation of Dense it is exact
            x = keras.ops.gelu(x, approximate=True)
    model = keras.Model(inputs, x)
    for layer, w, b in zip(dense, net.weights, net.biases, strict=True):
        layer.set_weights([w.copy(), b.copy()])  # some backends keep the arrays that they are given
    return model


def save_keras(net: Any, path: str) -> None:
    """Write ``net.to_keras()``, a file that ``keras.saving.load_model`` reads, whole or not at all."""
    model = net.to_keras()
    with tempfile.TemporaryDirectory() as folder, written_whole(path) as file:  # Keras writes into the file itself
        model.save(written := os.path.join(folder, "net.keras"))
        with open(written, "rb") as source:
            shutil.copyfileobj(source, file)


_ACTIVATIONS = {"leaky_relu": None, "gelu": None, "logistic": "sigmoid", "identity": None}


def _check_dtype(keras: Any, dtype: str) -> None:
    """Refuse a dtype that the backend does not have."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX warns and makes another
        made = keras.ops.convert_to_numpy(keras.ops.zeros((1,), dtype=dtype)).dtype.name
    if made != dtype:
        raise ValueError(
            f"Keras with the backend {keras.backend.backend()} made {made} instead of {dtype}; with JAX, "
            "jax.config.update('jax_enable_x64', True) allows float64"
        )


# --- from Keras -------------------------------------------------------------------------------------------------------


def from_keras(
    cls: type[_Net],
    model: Any,
    activation: str | Sequence[str] | None,
    output: str | None,
    settings: dict[str, Any],
) -> _Net:
    """Return a network with the parameters of a model; see `MLP.from_keras`."""
    for name in {"layers", "dtype"} & settings.keys():
        raise TypeError(f"{name} cannot be given: it is that of the model")
    keras = _keras()
    if not isinstance(model, keras.Model):
        hint = (
            "; read a file first: keras.saving.load_model(path)" if isinstance(model, (str, bytes, os.PathLike)) else ""
        )
        kind = type(model)
        hint = "; use MLP.from_torch" if kind.__module__.partition(".")[0] == "torch" else hint
        raise TypeError(f"model must be a keras.Model, not {kind.__name__}{hint}")
    chain, found = Chain(), dict[str, Any]()
    try:
        operations = _operations(keras, model)
        _check_rows(model, operations)
        for operation in operations:
            _read(keras, chain, operation, found)
        if output is None and chain.functions[-1:] == ["identity"]:
            output = _output(model)
        layers, read = chain.network(activation, output, "identity")
        if "l2" not in settings:
            found["l2"] = _l2(operations)
    except ValueError as error:
        raise ValueError(f"from_keras cannot read the model {model.name!r}: {error}") from None
    return cls._with_parameters(layers.weights, layers.biases, **read | found | settings)


def _operations(keras: Any, model: Any) -> list[Any]:
    """Return layers and operations in the order in which they compute; those of models inside it too."""
    if isinstance(model, keras.Sequential):
        if not model.built:
            raise ValueError("it is not built; call it once, or give it a keras.Input")
        found = model.layers
    elif hasattr(model, "operations"):
        found = []
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise ValueError(f"it has {len(model.inputs)} inputs and {len(model.outputs)} outputs, not one of each")
        tensor = model.outputs[0]
        while tensor is not model.inputs[0]:
            operation, i, _ = tensor._keras_history
            before = operation._inbound_nodes[i].input_tensors
            if len(before) != 1:
                raise ValueError(f"{_where(operation)} has {len(before)} inputs; its layers must follow one another")
            found.append(operation)
            tensor = before[0]
        found.reverse()
    else:
        raise ValueError("only Sequential and functional models can be read")
    parts = [_operations(keras, part) if isinstance(part, keras.Model) else [part] for part in found]
    return [operation for part in parts for operation in part]


def _check_rows(model: Any, operations: Sequence[Any]) -> None:
    """Refuse a model that keeps axes other than rows and columns."""
    kinds = [type(operation).__name__ for operation in operations]
    first = kinds.index("Dense") if "Dense" in kinds else len(kinds)
    if len(model.inputs[0].shape) > 2 and not {"Flatten", "Reshape"} & set(kinds[:first]):
        raise ValueError(f"its inputs have the shape {model.inputs[0].shape}, and no Flatten comes before its layers")


def _where(operation: Any) -> str:
    return f"{type(operation).__name__} {operation.name!r}"


def _read(keras: Any, chain: Chain, operation: Any, found: dict[str, Any]) -> None:
    """Read one layer or operation; `found` gets settings."""
    kind, where = type(operation).__name__, _where(operation)
    if type(operation).__module__.partition(".")[0] != "keras":
        raise ValueError(f"{where} is not one of Keras's own layers")
    if kind == "Dense":
        bias = operation.bias if operation.use_bias else None
        chain.dense(_array(keras, operation.kernel), None if bias is None else _array(keras, bias), where)
        _read_function(keras, chain, operation.activation, where)
    elif kind == "Activation":
        _read_function(keras, chain, operation.activation, where)
    elif kind == "Dropout" and operation.noise_shape is None:
        chain.dropout(float(operation.rate), where)
    elif kind == "Rescaling":
        if np.any(operation.offset) or np.ndim(operation.scale) or "input_noise" in found:
            raise ValueError(f"{where} does more than multiply X by one number")
        chain.scale(float(operation.scale), where)
    elif kind == "GaussianNoise" and not chain.weights and not found:
        found["input_noise"] = float(operation.stddev)
    elif kind not in ("InputLayer", "Flatten") and (kind != "Reshape" or len(operation.target_shape) > 1):
        _read_function(keras, chain, operation, where)


def _array(keras: Any, variable: Any) -> npt.NDArray[Any]:
    if keras.backend.standardize_dtype(variable.dtype) in ("float16", "bfloat16"):
        variable = keras.ops.cast(variable, "float32")
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(variable)))


def _read_function(keras: Any, chain: Chain, function: Any, where: str) -> None:
    """Read an activation: a function of keras.activations, a layer or an operation."""
    if not isinstance(function, keras.Operation):
        name = getattr(function, "__name__", type(function).__name__)
        ours = function is getattr(keras.activations, name, None)
        if function is keras.activations.linear:
            return
        if not ours or not chain.function(name, where, slope=0.2, approximate=False):  # the defaults of Keras
            raise ValueError(f"{where} has the activation {name}, which fastmlp does not have")
        return
    kind, config = type(function).__name__, function.get_config()
    if kind == "Activation":
        _read_function(keras, chain, function.activation, where)
        return
    slope = config.get("negative_slope", 0.0)
    if kind == "ReLU" and slope:
        kind = "LeakyReLU"
    if config.get("max_value") is not None or config.get("threshold"):
        raise ValueError(f"{where} is a ReLU with a maximum or a threshold, which fastmlp does not have")
    options = {"alpha": config.get("alpha", 1.0), "axis": config.get("axis"), "approximate": config.get("approximate")}
    if not chain.function(kind, where, slope=slope, **options):
        raise ValueError(f"it has {where}, which fastmlp's networks do not have")


def _output(model: Any) -> str | None:
    """Return what the outputs mean by the loss with which the model was compiled, if that takes logits."""
    loss = getattr(model, "loss", None)
    config = loss.get_config() if loss is not None and hasattr(loss, "get_config") else {}
    if not config.get("from_logits"):
        return None
    outputs = {"CategoricalCrossentropy": "softmax", "BinaryCrossentropy": "logistic"}
    return outputs.get(type(loss).__name__.removeprefix("Sparse"))


def _l2(operations: Sequence[Any]) -> float:
    """Return the l2 of a network whose penalty is that of these layers."""
    dense = [operation for operation in operations if type(operation).__name__ == "Dense"]
    found: set[float | None] = set()
    for layer in dense:
        config = {} if layer.kernel_regularizer is None else layer.kernel_regularizer.get_config()
        others = {name for name, value in config.items() if name != "l2" and np.any(value)}
        found.add(None if others or layer.bias_regularizer is not None else 2 * float(config.get("l2", 0.0)))
    if len(found) != 1 or None in found:
        raise ValueError("its penalties are not one L2 of all kernels; pass l2=0 or another number to replace them")
    return found.pop() or 0.0

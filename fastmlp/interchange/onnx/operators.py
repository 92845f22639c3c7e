"""Follows the nodes of a model: what each of them makes of its inputs, if it belongs to a multilayer perceptron."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.activations import elu, gelu, leaky_relu, logistic, relu
from fastmlp.interchange.onnx.files import MOST_AXES, Tensors
from fastmlp.interchange.onnx.values import (
    Both,
    Label,
    Rows,
    Softmax,
    Sums,
    Value,
    are_both,
    computed,
)

__all__ = ["follow"]

Inputs = list[Any]
Attributes = dict[str, Any]

_MOST_OUTPUTS = 16
_EXACT_GELU = "is the exact gelu, but gelu here is the formula with tanh; export it with approximate='tanh'"


def follow(model: Any, tensors: Tensors) -> dict[str, Value]:
    """Return what a model computes, by the names of its outputs.

    Raises
    ------
    ValueError
        If a node computes something that no multilayer perceptron does; the message names it.
    """
    import onnx

    graph = model.graph
    if len(graph.sparse_initializer):
        raise ValueError("it has sparse tensors")
    constants = {tensor.name: tensor for tensor in graph.initializer}
    inputs = [given for given in graph.input if given.name not in constants]
    if len(inputs) != 1:
        raise ValueError(f"it has {len(inputs)} inputs ({', '.join(given.name for given in inputs)}), not one")
    n_rows, rows = _input(inputs[0])
    values: dict[str, Value | None] = {"": None, inputs[0].name: rows}
    outputs = dict.fromkeys(output.name for output in graph.output)
    if len(outputs) > _MOST_OUTPUTS:
        raise ValueError(f"it has {len(outputs):,} outputs")

    def value(name: str) -> Value | None:
        if name not in values:
            if name not in constants:
                raise ValueError(f"needs {name!r}, which no node before it computes")
            values[name] = tensors.array(constants[name])
        return values[name]

    for node in graph.node:
        try:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            if "value" in attributes and isinstance(attributes["value"], onnx.TensorProto):
                attributes["value"] = tensors.array(attributes["value"])
            if node.op_type == "Reshape":
                attributes["n_rows"] = n_rows
                attributes["of_skl2onnx"] = model.producer_name == "skl2onnx" and node.output[0] in outputs
            given = [value(name) for name in node.input]
            tensors.count(sum(getattr(each, "nbytes", 0) for each in given))
            result = values[node.output[0]] = _compute(node, given, attributes)
            tensors.count(getattr(result, "nbytes", 0))
        except OSError:
            raise
        except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError) as error:
            name = f" {node.name!r}" if node.name else ""
            why = str(error) if isinstance(error, ValueError) else f"has wrong inputs ({error})"
            raise ValueError(f"the node{name} ({node.op_type}) {why}") from error
    found = {name: value(name) for name in outputs}
    return {name: result for name, result in found.items() if result is not None}


def _input(given: Any) -> tuple[int, Rows]:
    """Return the number of rows that the model was exported for, or -1, and the rows."""
    kind = given.type.tensor_type
    shape = [dim.dim_value or -1 for dim in kind.shape.dim] if kind.HasField("shape") else [-1, -1]
    if kind.elem_type in (0, 8) or len(shape) < 2:
        raise ValueError(f"its input {given.name!r} is not rows of numbers")
    return shape[0], Rows(Sums(None, None), tuple(shape[1:]))


def _compute(node: Any, inputs: Inputs, attributes: Attributes) -> Value:
    kind = node.op_type
    if node.domain not in ("", "ai.onnx", "ai.onnx.ml"):
        raise ValueError(f"is of the domain {node.domain!r}, which only its own runtime has")
    if kind in _OPERATORS:
        return _OPERATORS[kind](inputs, attributes)
    if kind not in _FUNCTIONS and kind not in _WITH_ATTRIBUTES:
        raise ValueError("computes what no multilayer perceptron does")
    function = _FUNCTIONS[kind] if kind in _FUNCTIONS else _WITH_ATTRIBUTES[kind](attributes)
    while inputs and inputs[-1] is None:
        inputs.pop()
    if not any(isinstance(given, Rows) for given in inputs):
        return _of_constants(function, inputs)
    for given in inputs:
        if isinstance(given, Softmax | Both | Label):
            raise ValueError("follows the output of the network")
    shown = ", ".join(f"{name}={attributes[name]:g}" for name in ("alpha",) if name in attributes)
    return computed(f"{kind}({shown})" if shown else kind, function, inputs)


def _of_constants(function: Any, arrays: Inputs) -> npt.NDArray[Any]:
    if not all(isinstance(array, np.ndarray) and array.dtype.kind in "fiubV" for array in arrays):
        raise ValueError("follows the output of the network")
    with np.errstate(all="ignore"):
        shape = np.broadcast_shapes(*(array.shape for array in arrays))
        if math.prod(shape) > max(array.size for array in arrays):
            raise ValueError("makes a larger constant of smaller ones")
        integers = function is np.divide and all(array.dtype.kind in "iu" for array in arrays)
        return np.asarray((np.floor_divide if integers else function)(*arrays))


# --- element by element -----------------------------------------------------------------------------------------------


def _elu(attributes: Attributes) -> Any:
    alpha = attributes.get("alpha", 1.0)
    return elu if alpha == 1 else lambda x: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _gelu(attributes: Attributes) -> Any:
    if attributes.get("approximate", b"none") != b"tanh":
        raise ValueError(_EXACT_GELU)
    return gelu


def _leaky_relu(attributes: Attributes) -> Any:
    alpha = attributes.get("alpha", 0.01)
    return leaky_relu if alpha == 0.01 else lambda x: np.where(x > 0, x, alpha * x)


def _swish(attributes: Attributes) -> Any:
    alpha = attributes.get("alpha", 1.0)
    return lambda x: x * logistic(alpha * x)


def _threshold(attributes: Attributes) -> Any:
    threshold = attributes.get("threshold", 0.0)
    return lambda x: x > threshold


def _clip(x: Any, low: Any = None, high: Any = None) -> Any:
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Abs": np.abs,
    "Add": np.add,
    "Clip": _clip,
    "Div": np.divide,
    "Exp": np.exp,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Max": lambda *arrays: functools.reduce(np.maximum, arrays),
    "Min": lambda *arrays: functools.reduce(np.minimum, arrays),
    "Mul": np.multiply,
    "Neg": np.negative,
    "PRelu": lambda x, slope: np.where(x > 0, x, slope * x),
    "Pow": np.power,
    "Reciprocal": np.reciprocal,
    "Relu": relu,
    "Sigmoid": logistic,
    "Sqrt": np.sqrt,
    "Sub": np.subtract,
    "Tanh": np.tanh,
    "Where": np.where,
}

_WITH_ATTRIBUTES: dict[str, Callable[[Attributes], Callable[..., Any]]] = {
    "Binarizer": _threshold,
    "Elu": _elu,
    "Gelu": _gelu,
    "LeakyRelu": _leaky_relu,
    "Swish": _swish,
}


# --- other operators --------------------------------------------------------------------------------------------------


def _matmul(inputs: Inputs, attributes: Attributes) -> Value:
    rows, weights = inputs[0], inputs[1]
    if isinstance(rows, Softmax | Both | Label):
        raise ValueError("follows the output of the network")
    if not isinstance(rows, Rows) or not isinstance(weights, np.ndarray):
        raise ValueError("does not multiply rows by weights")
    if weights.ndim != 2 or weights.dtype.kind not in "fV" or 0 in weights.shape:
        raise ValueError(f"multiplies by {weights.dtype} of shape {weights.shape}, which are no weights of a layer")
    if len(rows.shape) != 1 or rows.shape[0] not in (-1, len(weights)):
        raise ValueError(f"multiplies rows of shape {rows.shape} by weights of shape {weights.shape}")
    if weights.dtype.name not in ("float32", "float64"):
        weights = weights.astype(np.float32)
    return Rows(Sums(rows, weights), (weights.shape[1],))


def _gemm(inputs: Inputs, attributes: Attributes) -> Value:
    rows, weights, bias = inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None
    if attributes.get("transA") or not isinstance(weights, np.ndarray):
        raise ValueError("does not multiply rows by weights")
    weights = weights.T if attributes.get("transB") else weights
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    product = _matmul([rows, weights if alpha == 1 else weights * weights.dtype.type(alpha)], {})
    if bias is None:
        return product
    return computed("Gemm", np.add, [product, bias if beta == 1 else bias * beta])  # type: ignore[list-item]


def _batch_normalization(inputs: Inputs, attributes: Attributes) -> Value:
    rows, scale, shift, mean, variance = (inputs[i] for i in range(5))
    if attributes.get("training_mode"):
        raise ValueError("is in training mode; export the model for predictions")
    factor = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + attributes.get("epsilon", 1e-5))
    scaled = computed("BatchNormalization", np.multiply, [rows, factor])
    return computed("BatchNormalization", np.add, [scaled, shift - mean * factor])


def _scaler(inputs: Inputs, attributes: Attributes) -> Value:
    shifted = computed("Scaler", np.subtract, [inputs[0], np.array(attributes.get("offset", [0.0]))])
    return computed("Scaler", np.multiply, [shifted, np.array(attributes.get("scale", [1.0]))])


def _same(inputs: Inputs, attributes: Attributes) -> Value:
    value: Value = inputs[0]
    return value


def _dropout(inputs: Inputs, attributes: Attributes) -> Value:
    if len(inputs) > 2 and inputs[2] is not None and np.any(inputs[2]):
        raise ValueError("is in training mode; export the model for predictions")
    return _same(inputs, attributes)


def _cast(inputs: Inputs, attributes: Attributes) -> Value:
    import onnx

    value, dtype = inputs[0], onnx.helper.tensor_dtype_to_np_dtype(attributes["to"])
    if isinstance(value, np.ndarray):
        return value.astype(dtype)
    if isinstance(value, Label) or dtype.kind in "fV":
        return _same(inputs, attributes)
    if not isinstance(value, Rows):
        raise ValueError("makes integers of probabilities")
    return computed("Cast", np.not_equal if dtype.kind == "b" else _truncated, [value, np.zeros(())])


def _truncated(x: Any, _: Any) -> Any:
    return np.trunc(x)


def _constant(inputs: Inputs, attributes: Attributes) -> Value:
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        if name in attributes:
            return np.asarray(attributes[name])
    raise ValueError("is a constant of an unknown kind")


def _shape(inputs: Inputs, attributes: Attributes) -> Value:
    if set(attributes) - {"start"} or attributes.get("start") or not isinstance(inputs[0], Rows):
        raise ValueError("asks for a shape in an unknown way")
    return np.array([-1, *inputs[0].shape])


def _width(rows: Rows) -> int:
    return -1 if -1 in rows.shape else math.prod(rows.shape)


def _flatten(inputs: Inputs, attributes: Attributes) -> Value:
    rows = inputs[0]
    if not isinstance(rows, Rows) or attributes.get("axis", 1) not in (1, -len(rows.shape)):
        raise ValueError("does not keep rows as they are")
    return _reshaped(rows, (_width(rows),))


def _reshaped(rows: Rows, shape: tuple[int, ...]) -> Rows:
    """Return rows in another shape; functions of them work on each number."""
    result = Rows(rows.sums, shape, rows.text, rows.function, rows.arguments, rows.root, size=rows.size)
    result.scale, result.shift = rows.scale, rows.shift
    return result


def _reshape(inputs: Inputs, attributes: Attributes) -> Value:
    value, wanted = inputs[0], [int(size) for size in np.ravel(inputs[1])]
    if isinstance(value, np.ndarray):
        return value.reshape(wanted)
    if isinstance(value, Label):
        return value
    width = _width(value) if isinstance(value, Rows) else 0
    whole = len(wanted) == 2 and wanted[0] in (-1, 0, attributes["n_rows"])
    if isinstance(value, Rows) and width == 1 and wanted == [-1]:
        return _reshaped(value, ())
    if isinstance(value, Rows) and wanted == [-1, 1] and attributes.get("of_skl2onnx"):
        return value  # its converter of MLPRegressor forgets that there may be several outputs
    if not isinstance(value, Rows) or not whole or (wanted[1] not in (width, -1, 0) and width != -1):
        raise ValueError(f"makes the shape {wanted} of rows, but a network needs whole rows (n, units)")
    return _reshaped(value, (width if wanted[1] <= 0 else wanted[1],))


def _axes(inputs: Inputs, attributes: Attributes) -> list[int] | None:
    axes: Any = inputs[1] if len(inputs) > 1 else attributes.get("axes")
    if np.size(axes) > MOST_AXES:
        raise ValueError(f"has {np.size(axes):,} axes")
    return None if axes is None else [int(axis) for axis in np.ravel(axes)]


def _squeeze(inputs: Inputs, attributes: Attributes) -> Value:
    value, axes = inputs[0], _axes(inputs, attributes)
    if isinstance(value, np.ndarray):
        return value.squeeze(None if axes is None else tuple(axes))
    if isinstance(value, Label):
        return value
    if not isinstance(value, Rows):
        raise ValueError("changes the shape of probabilities")
    n = len(value.shape) + 1
    axes = [i for i, size in enumerate(value.shape, 1) if size == 1] if axes is None else [axis % n for axis in axes]
    if 0 in axes or any(value.shape[axis - 1] != 1 for axis in axes):
        raise ValueError("changes the number of rows")
    return _reshaped(value, tuple(size for i, size in enumerate(value.shape, 1) if i not in axes))


def _unsqueeze(inputs: Inputs, attributes: Attributes) -> Value:
    value, axes = inputs[0], _axes(inputs, attributes)
    if isinstance(value, np.ndarray):
        return np.expand_dims(value, tuple(axes or ()))
    if not isinstance(value, Rows) or value.shape != () or axes not in ([1], [-1]):
        raise ValueError("does not keep rows as they are")
    return _reshaped(value, (1,))


def _transpose(inputs: Inputs, attributes: Attributes) -> Value:
    if not isinstance(inputs[0], np.ndarray):
        raise ValueError("does not keep rows as they are")
    return inputs[0].transpose(attributes.get("perm"))


def _concat(inputs: Inputs, attributes: Attributes) -> Value:
    if all(isinstance(given, np.ndarray) and given.size <= 8 for given in inputs) and len(inputs) <= 8:
        return np.concatenate(inputs, attributes["axis"])
    columns = all(isinstance(given, Rows) and given.shape == (1,) for given in inputs) and len(inputs) == 2
    if columns and attributes["axis"] in (1, -1) and are_both(*inputs):
        return Both(inputs[1])
    raise ValueError("puts columns beside each other that are not 1 - p and p of one output")


def _softmax(inputs: Inputs, attributes: Attributes) -> Value:
    rows = inputs[0]
    if not isinstance(rows, Rows) or len(rows.shape) != 1 or attributes.get("axis", 1) not in (1, -1):
        raise ValueError("is not over the columns of the last layer")
    return Softmax(rows)


def _argmax(inputs: Inputs, attributes: Attributes) -> Value:
    value = inputs[0]
    if not isinstance(value, Rows | Softmax | Both) or attributes.get("axis", 0) not in (1, -1):
        raise ValueError("is not over the columns of the last layer")
    if attributes.get("select_last_index"):
        raise ValueError("selects the last of equal columns, but predict the first")
    if isinstance(value, Rows) and value.shape == (1,):
        raise ValueError("is over one column")
    return Label(value)


def _gather(inputs: Inputs, attributes: Attributes) -> Value:
    table, index = inputs[0], inputs[1]
    if not isinstance(table, np.ndarray) or attributes.get("axis", 0) not in (0, -1):
        raise ValueError("selects columns of rows")
    if isinstance(index, np.ndarray):
        if index.size > max(8, table.size):
            raise ValueError("makes a larger constant of smaller ones")
        return np.asarray(np.take(table, index, axis=0))
    if isinstance(index, Rows) and index.shape in ((), (1,)):
        index = Label(index)
    if not isinstance(index, Label) or index.classes is not None or table.ravel().shape != (table.size,):
        raise ValueError("selects by something other than the most probable class")
    return Label(index.of, table.ravel())


_OPERATORS: dict[str, Callable[[Inputs, Attributes], Value]] = {
    "ArgMax": _argmax,
    "ArrayFeatureExtractor": _gather,
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Concat": _concat,
    "Constant": _constant,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "Identity": _same,
    "LogSoftmax": _softmax,
    "MatMul": _matmul,
    "Reshape": _reshape,
    "Scaler": _scaler,
    "Shape": _shape,
    "Softmax": _softmax,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "ZipMap": _same,
}

"""Follows the nodes of a model: what each of them makes of its inputs, if it belongs to a multilayer perceptron."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.activations import gelu
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


def follow(model: Any, tensors: Tensors) -> dict[str, Value]:
    """Return what a model computes, by the names of its outputs.

    Raises
    ------
    ValueError
        If a node computes something that no multilayer perceptron does; the message names it.
    """
    import onnx

    graph, versions = model.graph, model.opset_import
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
            result = values[node.output[0]] = _compute(node, given, attributes, versions)
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


def _compute(node: Any, inputs: Inputs, attributes: Attributes, versions: Any) -> Value:
    kind = node.op_type
    if node.domain not in ("", "ai.onnx", "ai.onnx.ml"):
        raise ValueError(f"is of the domain {node.domain!r}, which only its own runtime has")
    if kind in _OF_CONSTANTS and all(isinstance(given, np.ndarray) for given in inputs):
        if "to" in attributes and _dtype(attributes).kind not in "fiubV":  # strings may need a hundred times the memory
            raise ValueError("makes something else than numbers of a constant")
        n_axes = max((given.size for given in inputs[1:]), default=0)
        if n_axes > MOST_AXES:
            raise ValueError(f"has {n_axes:,} axes")
        return np.asarray(_by_onnx(node, versions)(*inputs))
    if kind in _OPERATORS:
        return _OPERATORS[kind](inputs, attributes)
    if kind not in _ELEMENTWISE:
        raise ValueError("computes what no multilayer perceptron does")
    function = _by_onnx(node, versions)
    inputs = [given for given in inputs if given is not None]
    if not any(isinstance(given, Rows) for given in inputs):
        return _of_constants(function, inputs)
    for given in inputs:
        if isinstance(given, Softmax | Both | Label):
            raise ValueError("follows the output of the network")
    shown = ", ".join(f"{name}={attributes[name]:g}" for name in ("alpha",) if name in attributes)
    return computed(f"{kind}({shown})" if shown else kind, _AFFINE.get(kind, function), inputs)


def _of_constants(function: Any, arrays: Inputs) -> npt.NDArray[Any]:
    if not all(isinstance(array, np.ndarray) and array.dtype.kind in "fiubV" for array in arrays):
        raise ValueError("follows the output of the network")
    with np.errstate(all="ignore"):
        shape = np.broadcast_shapes(*(array.shape for array in arrays))
        if math.prod(shape) > max(array.size for array in arrays):
            raise ValueError("makes a larger constant of smaller ones")
        return np.asarray(function(*arrays))


# --- nodes that the package onnx computes -----------------------------------------------------------------------------

_OF_CONSTANTS = {"Cast", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}

_AFFINE = {"Add": np.add, "Div": np.divide, "Mul": np.multiply, "Neg": np.negative, "Sub": np.subtract}

_ELEMENTWISE = {
    *_AFFINE, "Abs", "Binarizer", "Clip", "Elu", "Exp", "Greater", "GreaterOrEqual", "LeakyRelu", "Less", "LessOrEqual",
    "Max", "Min", "PRelu", "Pow", "Reciprocal", "Relu", "Sigmoid", "Sqrt", "Swish", "Tanh", "Where",
}  # fmt: skip


def _by_onnx(node: Any, versions: Any) -> Callable[..., Any]:
    """Return the function of a node and its attributes, as the package onnx computes it for the model's opset."""
    import onnx

    kinds = onnx.AttributeProto
    harmless = (kinds.FLOAT, kinds.FLOATS, kinds.INT, kinds.INTS, kinds.STRING)
    if any(attribute.type not in harmless for attribute in node.attribute):  # a tensor might be in any other file
        raise ValueError("has attributes that are not numbers")
    names = [f"x{i}" if name else "" for i, name in enumerate(node.input)]
    copy = onnx.NodeProto(op_type=node.op_type, domain=node.domain, input=names, output=["y"], attribute=node.attribute)
    given = [name for name in names if name]

    @functools.cache
    def evaluator() -> Any:
        from onnx.reference import ReferenceEvaluator

        return ReferenceEvaluator(onnx.helper.make_function("", "one", given, ["y"], [copy], versions))

    def function(*arrays: npt.NDArray[Any]) -> Any:
        try:
            return evaluator().run(None, dict(zip(given, arrays, strict=True)), {})[0]
        except Exception as error:  # onnx raises many kinds
            raise ValueError(f"cannot be computed ({error})") from error

    return function


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


def _gelu(inputs: Inputs, attributes: Attributes) -> Value:
    if attributes.get("approximate", b"none") != b"tanh":
        raise ValueError("is the exact gelu, but gelu here is the formula with tanh; export it with approximate='tanh'")
    return computed("Gelu", gelu, inputs)


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


def _dtype(attributes: Attributes) -> np.dtype[Any]:
    import onnx

    dtype: np.dtype[Any] = onnx.helper.tensor_dtype_to_np_dtype(attributes["to"])
    return dtype


def _cast(inputs: Inputs, attributes: Attributes) -> Value:
    value, dtype = inputs[0], _dtype(attributes)
    if isinstance(value, Label) or dtype.kind in "fV":
        return _same(inputs, attributes)
    if not isinstance(value, Rows):
        raise ValueError("makes integers of probabilities")
    return computed("Cast", (lambda x: x != 0) if dtype.kind == "b" else np.trunc, [value])


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
    return replace(rows, shape=(_width(rows),))


def _reshape(inputs: Inputs, attributes: Attributes) -> Value:
    value, wanted = inputs[0], [int(size) for size in np.ravel(inputs[1])]
    if isinstance(value, Label):
        return value
    width = _width(value) if isinstance(value, Rows) else 0
    whole = len(wanted) == 2 and wanted[0] in (-1, 0, attributes["n_rows"])
    if isinstance(value, Rows) and width == 1 and wanted == [-1]:
        return replace(value, shape=())
    if isinstance(value, Rows) and wanted == [-1, 1] and attributes.get("of_skl2onnx"):
        return value  # its converter of MLPRegressor forgets that there may be several outputs
    if not isinstance(value, Rows) or not whole or (wanted[1] not in (width, -1, 0) and width != -1):
        raise ValueError(f"makes the shape {wanted} of rows, but a network needs whole rows (n, units)")
    return replace(value, shape=(width if wanted[1] <= 0 else wanted[1],))


def _axes(inputs: Inputs, attributes: Attributes) -> list[int] | None:
    axes: Any = inputs[1] if len(inputs) > 1 else attributes.get("axes")
    if np.size(axes) > MOST_AXES:
        raise ValueError(f"has {np.size(axes):,} axes")
    return None if axes is None else [int(axis) for axis in np.ravel(axes)]


def _squeeze(inputs: Inputs, attributes: Attributes) -> Value:
    value, axes = inputs[0], _axes(inputs, attributes)
    if isinstance(value, Label):
        return value
    if not isinstance(value, Rows):
        raise ValueError("changes the shape of probabilities")
    n = len(value.shape) + 1
    axes = [i for i, size in enumerate(value.shape, 1) if size == 1] if axes is None else [axis % n for axis in axes]
    if 0 in axes or any(value.shape[axis - 1] != 1 for axis in axes):
        raise ValueError("changes the number of rows")
    return replace(value, shape=tuple(size for i, size in enumerate(value.shape, 1) if i not in axes))


def _unsqueeze(inputs: Inputs, attributes: Attributes) -> Value:
    value, axes = inputs[0], _axes(inputs, attributes)
    if not isinstance(value, Rows) or value.shape != () or axes not in ([1], [-1]):
        raise ValueError("does not keep rows as they are")
    return replace(value, shape=(1,))


def _transpose(inputs: Inputs, attributes: Attributes) -> Value:
    raise ValueError("does not keep rows as they are")


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
    "Gelu": _gelu,
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

"""The computation of a network as ONNX nodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastmlp.activations import GELU_CUBE, GELU_SCALE, LEAK, Floats
from fastmlp.network import Network

__all__ = ["OPSET", "Head", "Nodes", "add_network"]

OPSET = 13  # of 2020: every runtime has it, and later ones add nothing that is needed here

_INT64 = 7  # TensorProto.INT64


class Nodes(ABC):
    """Where nodes and constants are added; all numbers have one dtype."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self._numbers: dict[float, str] = {}

    @abstractmethod
    def constant(self, name: str, array: npt.NDArray[Any]) -> str:
        """Add a constant and return its name."""

    @abstractmethod
    def add(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Add a node and return the name of what it computes."""

    def number(self, value: float) -> str:
        """Return the name of a constant of one number."""
        if value not in self._numbers:
            self._numbers[value] = self.constant("number", np.array(value, self.dtype))
        return self._numbers[value]


class Head(NamedTuple):
    """What follows the sums of the last layer."""

    function: str
    """Of the sums: softmax, exp or an activation."""
    labels: bool
    """Whether there are labels and probabilities, or just numbers."""
    single: bool
    """Whether each row has one label."""
    classes: npt.NDArray[Any] | None = None
    """(C,) int64 or strings, the names of the classes; None numbers them."""


# --- functions of the sums --------------------------------------------------------------------------------------------
# onnxruntime has LeakyRelu and Elu in float32 only. Gelu came with opset 20.


def _leaky_relu(nodes: Nodes, z: str) -> str:
    if nodes.dtype == "float32":
        return nodes.add("LeakyRelu", [z], "hidden", alpha=LEAK)
    return nodes.add("Max", [z, nodes.add("Mul", [z, nodes.number(LEAK)], "part")], "hidden")


def _elu(nodes: Nodes, z: str) -> str:
    if nodes.dtype == "float32":
        return nodes.add("Elu", [z], "hidden", alpha=1.0)
    zero, one = nodes.number(0), nodes.number(1)
    exp = nodes.add("Exp", [nodes.add("Min", [z, zero], "part")], "part")
    positive = nodes.add("Greater", [z, zero], "positive")
    return nodes.add("Where", [positive, z, nodes.add("Sub", [exp, one], "part")], "hidden")


def _gelu(nodes: Nodes, z: str) -> str:
    cube = nodes.add("Mul", [nodes.add("Mul", [z, z], "part"), z], "part")
    inner = nodes.add("Add", [z, nodes.add("Mul", [cube, nodes.number(GELU_CUBE)], "part")], "part")
    t = nodes.add("Tanh", [nodes.add("Mul", [inner, nodes.number(GELU_SCALE)], "part")], "part")
    half = nodes.add("Mul", [z, nodes.number(0.5)], "part")
    return nodes.add("Mul", [half, nodes.add("Add", [t, nodes.number(1)], "part")], "hidden")


def _silu(nodes: Nodes, z: str) -> str:
    return nodes.add("Mul", [z, nodes.add("Sigmoid", [z], "part")], "hidden")


def _one_node(kind: str, **attributes: Any) -> Callable[[Nodes, str], str]:
    return lambda nodes, z: nodes.add(kind, [z], "hidden", **attributes)


FUNCTIONS: dict[str, Callable[[Nodes, str], str]] = {
    "relu": _one_node("Relu"),
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "gelu": _gelu,
    "silu": _silu,
    "tanh": _one_node("Tanh"),
    "logistic": _one_node("Sigmoid"),
    "identity": lambda nodes, z: z,
    "softmax": _one_node("Softmax", axis=1),
    "exp": _one_node("Exp"),
}
"""Every activation, and every function of the last layer."""


# --- the network ------------------------------------------------------------------------------------------------------


def add_network(nodes: Nodes, x: str, net: Network, head: Head) -> list[str]:
    """Add all that the network computes of `x` (n, I), and return the names of label and probabilities, or of numbers.

    Shapes are those of `predict` and `predict_proba`.
    """
    z = _last_sums(nodes, x, net)
    outputs, one = FUNCTIONS[head.function](nodes, z), net.layers[-1] == 1
    if not head.labels:
        return [_column(nodes, outputs) if one else outputs]
    if head.single and not one:
        scores = z if head.function == "softmax" else outputs
        label = nodes.add("ArgMax", [scores], "index", axis=1, keepdims=0)
    else:
        scores, least = (z, 0) if head.function == "logistic" else (outputs, 0.5)
        label = nodes.add("Cast", [nodes.add("Greater", [scores, nodes.number(least)], "positive")], "index", to=_INT64)
        label = _column(nodes, label) if one else label
    if head.classes is not None:
        label = nodes.add("Gather", [nodes.constant("classes", head.classes), label], "name", axis=0)
    if not one:
        return [label, outputs]
    if head.function == "logistic":
        other = nodes.add("Sigmoid", [nodes.add("Neg", [z], "part")], "part")
    else:
        other = nodes.add("Sub", [nodes.number(1), outputs], "part")
    return [label, nodes.add("Concat", [other, outputs], "both", axis=1)]


def _last_sums(nodes: Nodes, x: str, net: Network) -> str:
    """Add all layers, and return the name of the sums of the last one, before its function."""
    if net.input_scale != 1:
        x = nodes.add("Mul", [x, nodes.number(net.input_scale)], "scaled")
    for i, (w, b) in enumerate(zip(net.weights, net.biases, strict=True)):
        arrays: list[Floats] = [np.ascontiguousarray(array, nodes.dtype) for array in (w, b)]
        parameters = [nodes.constant(f"{name}_{i}", a) for name, a in zip(("weights", "biases"), arrays, strict=True)]
        x = nodes.add("Gemm", [x, *parameters], "sums")
        if i < len(net.activations):
            x = FUNCTIONS[net.activations[i]](nodes, x)
    return x


def _column(nodes: Nodes, values: str) -> str:
    """Return (n,) of (n, 1)."""
    return nodes.add("Reshape", [values, nodes.constant("shape", np.array([-1]))], "column")

"""What a hidden layer makes of its sums z, and the slope of it: the textbook's formulas in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["ACTIVATIONS", "Activation", "logistic", "per_layer", "relu"]

Floats: TypeAlias = npt.NDArray[Any]

_LEAK = 0.01
_GELU, _GELU_CUBE = math.sqrt(2 / math.pi), 0.044715
_GELU_FAR = 20.0  # beyond it the slope of gelu is 0 or 1 in every dtype, and z**2 stays far from overflow


class Activation(NamedTuple):
    """A function of z (B, O), element by element, and its derivative, also as a function of z."""

    value: Callable[[Floats], Floats]
    slope: Callable[[Floats], Floats]


def relu(z: Floats) -> Floats:
    """Return max(z, 0)."""
    h: Floats = np.maximum(z, 0)
    return h


def logistic(z: Floats) -> Floats:
    """Return 1 / (1 + exp(-z)), written so that exp never overflows."""
    e = np.exp(-np.abs(z))
    h: Floats = np.where(z >= 0, 1, e) / (1 + e)
    return h


def _logistic_slope(z: Floats) -> Floats:
    h = logistic(z)
    slope: Floats = h * (1 - h)
    return slope


def _leaky_relu(z: Floats) -> Floats:
    h: Floats = np.where(z > 0, z, _LEAK * z)
    return h


def _leaky_relu_slope(z: Floats) -> Floats:
    slope: Floats = np.where(z > 0, z.dtype.type(1), z.dtype.type(_LEAK))
    return slope


def _elu(z: Floats) -> Floats:
    h: Floats = np.where(z > 0, z, np.expm1(np.minimum(z, 0)))
    return h


def _elu_slope(z: Floats) -> Floats:
    slope: Floats = np.exp(np.minimum(z, 0))
    return slope


def _gelu_tanh(z: Floats) -> Floats:
    t: Floats = np.tanh(_GELU * (z + _GELU_CUBE * z * z * z))
    return t


def _gelu(z: Floats) -> Floats:
    """Return z times about the probability that a standard normal number is below z (Hendrycks and Gimpel 2016)."""
    h: Floats = 0.5 * z * (1 + _gelu_tanh(z))
    return h


def _gelu_slope(z: Floats) -> Floats:
    z = np.clip(z, -_GELU_FAR, _GELU_FAR)
    t = _gelu_tanh(z)
    slope: Floats = 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * _GELU * (1 + 3 * _GELU_CUBE * z * z)
    return slope


def _silu(z: Floats) -> Floats:
    h: Floats = z * logistic(z)
    return h


def _silu_slope(z: Floats) -> Floats:
    s = logistic(z)
    slope: Floats = s * (1 + z * (1 - s))
    return slope


def _tanh(z: Floats) -> Floats:
    h: Floats = np.tanh(z)
    return h


def _tanh_slope(z: Floats) -> Floats:
    h = np.tanh(z)
    slope: Floats = 1 - h * h
    return slope


ACTIVATIONS = {
    "relu": Activation(relu, lambda z: z > 0),
    "leaky_relu": Activation(_leaky_relu, _leaky_relu_slope),
    "elu": Activation(_elu, _elu_slope),
    "gelu": Activation(_gelu, _gelu_slope),
    "silu": Activation(_silu, _silu_slope),
    "tanh": Activation(_tanh, _tanh_slope),
    "logistic": Activation(logistic, _logistic_slope),
    "identity": Activation(lambda z: z, np.ones_like),
}


def per_layer(activation: str | Sequence[str], n_hidden: int) -> tuple[str, ...]:
    """Return the name of the activation of each hidden layer, from one name for all or one name for each."""
    return (activation,) * n_hidden if isinstance(activation, str) else tuple(activation)

"""Activations of hidden layers and their slopes, the textbook's formulas in NumPy.

To add one, write its value and its slope here and add them to `ACTIVATIONS`; `kernels/activations.py` has the same for
the kernels, under the same name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["ACTIVATIONS", "Activation", "logistic", "per_layer", "relu"]

Floats: TypeAlias = npt.NDArray[Any]

LEAK = 0.01
GELU_SCALE, GELU_CUBE = math.sqrt(2 / math.pi), 0.044715
GELU_FAR = 20.0  # beyond it the slope is 0 or 1 in every dtype; z**2 of larger z could overflow


class Activation(NamedTuple):
    """A function of z (B, O), element by element, and its derivative, also a function of z."""

    value: Callable[[Floats], Floats]
    slope: Callable[[Floats], Floats]


def relu(z: Floats) -> Floats:
    """Return the rectified linear unit of each element.

    Parameters
    ----------
    z : array
        Sums before the activation.

    Returns
    -------
    array
        ``max(z, 0)``.
    """
    h: Floats = np.maximum(z, 0)
    return h


def relu_slope(z: Floats) -> Floats:
    """Return 1 where z is positive, else 0."""
    return z > 0


def leaky_relu(z: Floats) -> Floats:
    """Return z, times 0.01 where it is negative."""
    h: Floats = np.where(z > 0, z, LEAK * z)
    return h


def leaky_relu_slope(z: Floats) -> Floats:
    """Return 1, and 0.01 where z is negative."""
    slope: Floats = np.where(z > 0, z.dtype.type(1), z.dtype.type(LEAK))
    return slope


def elu(z: Floats) -> Floats:
    """Return z, and exp(z) - 1 where it is negative (Clevert et al., 2016)."""
    h: Floats = np.where(z > 0, z, np.expm1(np.minimum(z, 0)))
    return h


def elu_slope(z: Floats) -> Floats:
    """Return 1, and exp(z) where z is negative."""
    slope: Floats = np.exp(np.minimum(z, 0))
    return slope


def _gelu_tanh(z: Floats) -> Floats:
    t: Floats = np.tanh(GELU_SCALE * (z + GELU_CUBE * z * z * z))
    return t


def gelu(z: Floats) -> Floats:
    """Return z times, about, the probability that a standard normal number is below z (Hendrycks and Gimpel, 2016)."""
    h: Floats = 0.5 * z * (1 + _gelu_tanh(z))
    return h


def gelu_slope(z: Floats) -> Floats:
    """Return the derivative of `gelu`."""
    z = np.clip(z, -GELU_FAR, GELU_FAR)
    t = _gelu_tanh(z)
    slope: Floats = 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * GELU_SCALE * (1 + 3 * GELU_CUBE * z * z)
    return slope


def silu(z: Floats) -> Floats:
    """Return z logistic(z) (Elfwing et al., 2018)."""
    h: Floats = z * logistic(z)
    return h


def silu_slope(z: Floats) -> Floats:
    """Return the derivative of `silu`."""
    s = logistic(z)
    slope: Floats = s * (1 + z * (1 - s))
    return slope


def tanh(z: Floats) -> Floats:
    """Return the hyperbolic tangent."""
    h: Floats = np.tanh(z)
    return h


def tanh_slope(z: Floats) -> Floats:
    """Return 1 - tanh(z)**2."""
    h = np.tanh(z)
    slope: Floats = 1 - h * h
    return slope


def logistic(z: Floats) -> Floats:
    """Return the logistic function of each element, computed so that exp never overflows.

    Parameters
    ----------
    z : array
        Sums before the activation.

    Returns
    -------
    array
        ``1 / (1 + exp(-z))``.
    """
    e = np.exp(-np.abs(z))
    h: Floats = np.where(z >= 0, 1, e) / (1 + e)
    return h


def logistic_slope(z: Floats) -> Floats:
    """Return the derivative of `logistic`."""
    h = logistic(z)
    slope: Floats = h * (1 - h)
    return slope


def identity(z: Floats) -> Floats:
    """Return z."""
    return z


ACTIVATIONS = {
    "relu": Activation(relu, relu_slope),
    "leaky_relu": Activation(leaky_relu, leaky_relu_slope),
    "elu": Activation(elu, elu_slope),
    "gelu": Activation(gelu, gelu_slope),
    "silu": Activation(silu, silu_slope),
    "tanh": Activation(tanh, tanh_slope),
    "logistic": Activation(logistic, logistic_slope),
    "identity": Activation(identity, np.ones_like),
}


def per_layer(activation: str | Sequence[str], n_hidden: int) -> tuple[str, ...]:
    """Return the name of the activation of each hidden layer, from one name for all or one for each."""
    return (activation,) * n_hidden if isinstance(activation, str) else tuple(activation)

"""The layers of a network as C computes them: their tables of float32 or 8 bits, and the same arithmetic in NumPy.

With 8 bits, the weights of each output are integers from -127 to 127 times a scale, and so are the inputs of each
layer, row by row, with as many bits as fit: 15, or fewer if sums of products could overflow 32 bits. Biases, scales and
activations are float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastmlp.activations import ACTIVATIONS, Floats

if TYPE_CHECKING:
    from fastmlp.network import Network

__all__ = ["SMALLEST", "Layer", "dense_rows", "in_8_bits", "layers_in_8_bits", "layers_of", "sums"]

SMALLEST = np.float32(1e-30)
"""Inputs of 8-bit layers that are all smaller count as 0, because their reciprocal could overflow."""

_BLOCK_ROWS = 4096  # computed at a time


@dataclass(frozen=True)
class Layer:
    """A layer as it is in C: z = x @ w + b, or z = x @ (w * scale) + b with integers w and rounded x."""

    weights: npt.NDArray[Any]  # (I, O) float32 or int8
    biases: Floats  # (O,) float32
    activation: str
    scale: Floats | None = None  # (O,) float32
    limit: int = 0  # of the rounded inputs
    factor: Floats | None = None  # (I,) float32, of x

    @property
    def tables(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays of the layer by the letter that is part of their names in C."""
        tables = {"factor": self.factor, "w": self.weights, "scale": self.scale, "b": self.biases}
        return {letter: table for letter, table in tables.items() if table is not None}

    def outputs(self, x: Floats) -> Floats:
        """Return what C computes for rows `x` (B, I): their outputs (B, O), up to rounding."""
        if self.factor is not None:
            x = x * self.factor
        if self.scale is None:
            z: Floats = x @ self.weights + self.biases
        else:
            largest = np.abs(x).max(axis=1, keepdims=True)
            limit = np.float32(self.limit)
            inverse = np.where(largest > SMALLEST, limit / np.maximum(largest, SMALLEST), np.float32(0))
            v = x * inverse
            q = np.trunc(v + np.copysign(np.float32(0.5), v))
            sums = (q.astype(np.float64) @ self.weights).astype(np.float32)  # exact before it is rounded to float32
            z = sums * self.scale * (largest / limit) + self.biases
        return ACTIVATIONS[self.activation].value(z)


def layers_of(net: Network) -> Iterator[Layer]:
    """Yield the layers in float32; the weights of the first take `input_scale` in.

    Raises
    ------
    ValueError
        If parameters are not finite.
    """
    factors = [net.input_scale, *(1.0 for _ in net.activations)]
    activations = [*net.activations, "identity"]
    for layer, (w, b, factor, activation) in enumerate(zip(net.weights, net.biases, factors, activations, strict=True)):
        with np.errstate(over="ignore", under="ignore"):
            weights = (w.astype(np.float64) * factor).astype(np.float32)
            biases = b.astype(np.float32)
        if not (np.isfinite(weights).all() and np.isfinite(biases).all()):
            known = np.isfinite(w).all() and np.isfinite(b).all()
            why = "too large for float32" if known else "not finite, since a fit has diverged"
            raise ValueError(f"the network cannot be written as C: parameters of layer {layer} are {why}")
        yield Layer(weights, biases, activation)


def layers_in_8_bits(layers: Sequence[Layer], rows: Any) -> list[Layer]:
    """Return layers with weights of 8 bits.

    Inputs of very different sizes have weights of very different sizes, and the integers of the small ones would be 0.
    So inputs are divided by their largest value in `rows` (n, I), if that at least halves the error.
    """
    plain = [in_8_bits(layer) for layer in layers]
    largest = np.zeros(rows.shape[1], np.float32)  # (I,), of the absolute values
    for start in range(0, rows.shape[0], _BLOCK_ROWS):
        largest = np.maximum(largest, np.abs(dense_rows(rows[start : start + _BLOCK_ROWS])).max(axis=0))
    known = largest > SMALLEST
    if not known.any():
        return plain
    weight = np.maximum(np.abs(layers[0].weights).max(axis=1), SMALLEST).astype(np.float64)  # (I,)
    usual = np.median((largest * weight)[known])
    factor = np.where(known, 1 / np.maximum(largest, SMALLEST), weight / usual)  # else a usual factor
    factor = np.exp2(np.rint(np.log2(np.clip(factor, SMALLEST, 1 / SMALLEST))))  # multiplying by powers of two is exact
    even = [in_8_bits(layers[0], factor.astype(np.float32)), *plain[1:]]
    some = rows[:_BLOCK_ROWS]
    z, plain_z, even_z = (sums(candidate, some) for candidate in (layers, plain, even))
    return even if np.square(even_z - z).sum() < np.square(plain_z - z).sum() / 4 else plain


def in_8_bits(layer: Layer, factor: Floats | None = None) -> Layer:
    """Return a layer with weights of 8 bits, for inputs that are multiplied by `factor` (I,)."""
    exact = layer.weights.astype(np.float64)
    if factor is not None:
        exact /= factor[:, None]
    scale = (np.abs(exact).max(axis=0) / 127).astype(np.float32)  # (O,)
    scale[(scale < np.finfo(np.float32).tiny) | ~np.isfinite(scale)] = 0
    weights = np.where(scale > 0, np.rint(exact / np.where(scale > 0, scale, 1).astype(np.float64)), 0)
    weights = np.clip(weights, -127, 127)
    largest_sum = max(1, int(np.abs(weights).sum(axis=0).max()))
    limit = max(1, min(2**15 - 1, (2**31 - 1) // largest_sum))
    return Layer(weights.astype(np.int8), layer.biases, layer.activation, scale, limit, factor)


def dense_rows(rows: Any) -> Floats:
    """Return rows as an array of float32."""
    dense: Floats = rows if isinstance(rows, np.ndarray) else rows.toarray()
    return dense.astype(np.float32)


def sums(layers: Sequence[Layer], rows: Any) -> Floats:
    """Return the outputs (n, C) of the last layer."""
    blocks = []
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for start in range(0, rows.shape[0], _BLOCK_ROWS):
            h = dense_rows(rows[start : start + _BLOCK_ROWS])
            for layer in layers:
                h = layer.outputs(h)
            blocks.append(h)
    return np.concatenate(blocks)

"""`Chain`, which reads the layers of another program's network one after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.activations import ACTIVATIONS, LEAK, Floats, per_layer
from fastmlp.interchange.layers import Layers
from fastmlp.losses import LOSSES
from fastmlp.validation.settings import check_activation, check_output

__all__ = ["Chain"]

_NAMES = {
    "celu": "elu",
    "elu": "elu",
    "exp": "exp",
    "exponential": "exp",
    "gelu": "gelu",
    "identity": "identity",
    "leakyrelu": "leaky_relu",
    "logsoftmax": "softmax",
    "relu": "relu",
    "sigmoid": "logistic",
    "silu": "silu",
    "softmax": "softmax",
    "swish": "silu",
    "tanh": "tanh",
}
"""Functions of other programs, in small letters, under their names here."""

_EXACT_GELU = "exact gelu"
_SCALE_FREE = ("relu", "leaky_relu")  # dropout before them does what dropout after them does


class Chain:
    """Layers, activations and dropout in the order in which a network computes them.

    Methods raise ValueError for what fastmlp's networks do not have; `where` says in messages which part that is.

    Attributes
    ----------
    weights, biases : list of (I, O) arrays, list of (O,) arrays
        Of the layers read so far.
    functions : list of str
        What follows each of them: a name of `ACTIVATIONS`, "softmax" or "exp".
    """

    def __init__(self) -> None:
        self.weights: list[Floats] = []
        self.biases: list[Floats] = []
        self.functions: list[str] = []
        self._dropout = [0.0]  # of the inputs of each layer, and of the outputs
        self._scale = 1.0

    def dense(self, weights: npt.NDArray[Any], biases: npt.NDArray[Any] | None, where: str) -> None:
        """Add a layer with weights (I, O) and biases (O,); without biases they are 0."""
        if self.functions and self.functions[-1] not in (*ACTIVATIONS, _EXACT_GELU):
            raise ValueError(f"{self.functions[-1]} comes before {where}; in fastmlp it can only come last")
        if weights.ndim != 2:
            raise ValueError(f"{where} has weights of shape {weights.shape}, not of two dimensions")
        if self.weights and weights.shape[0] != self.weights[-1].shape[1]:
            given = self.weights[-1].shape[1]
            raise ValueError(f"{where} takes {weights.shape[0]} numbers, but the layer before it gives {given}")
        if biases is not None and biases.shape != weights.shape[1:]:
            raise ValueError(f"{where} has biases of shape {biases.shape}, not {weights.shape[1:]}")
        for name, array in (("weights", weights), ("biases", biases)):
            if array is not None and array.dtype.kind != "f":
                raise ValueError(f"{where} has {name} of {array.dtype}, not of floating-point numbers")
            if array is not None and not np.isfinite(array).all():
                raise ValueError(f"{where} has {name} that are not finite")
        self.weights.append(weights)
        self.biases.append(np.zeros(weights.shape[1], weights.dtype) if biases is None else biases)
        self.functions.append("identity")
        self._dropout.append(0.0)

    def function(
        self,
        name: str,
        where: str,
        *,
        slope: float = LEAK,
        alpha: float = 1.0,
        approximate: bool = True,
        axis: int | None = None,
    ) -> bool:
        """Add the function of this name, as the other program calls it; return whether it is known here.

        `slope` is that of a leaky ReLU, `alpha` that of an ELU, `approximate` that of a GELU, `axis` that of a softmax.
        """
        known = _NAMES.get(name.replace("_", "").lower())
        if known is None:
            return False
        if known == "leaky_relu" and not math.isclose(slope, LEAK, rel_tol=1e-6):
            raise ValueError(f"{where} is a leaky ReLU with the slope {slope:g}; in fastmlp it is {LEAK}")
        if known == "elu" and alpha != 1:
            raise ValueError(f"{where} is an ELU with alpha={alpha:g}; in fastmlp it is 1")
        if known == "gelu" and not approximate:
            known = _EXACT_GELU
        if known == "softmax" and axis not in (None, 1, -1):
            raise ValueError(f"{where} is a softmax over axis {axis}; in fastmlp it is over the outputs of a row")
        if known == "identity":
            return True
        if not self.weights:
            raise ValueError(f"{where} comes before the first layer; in fastmlp an activation follows a layer")
        if self.functions[-1] != "identity":
            raise ValueError(f"{where} follows {self.functions[-1]}; in fastmlp a layer has one activation")
        if self._dropout[-1] and known not in _SCALE_FREE:
            raise ValueError(f"{where} follows dropout; in fastmlp dropout comes after the activation")
        self.functions[-1] = known
        return True

    def dropout(self, rate: float, where: str) -> None:
        """Add dropout at this rate."""
        if rate and self._dropout[-1]:
            raise ValueError(f"{where} follows other dropout; in fastmlp there is one rate for the inputs of a layer")
        self._dropout[-1] = self._dropout[-1] or rate

    def scale(self, factor: float, where: str) -> None:
        """Multiply the inputs by a number."""
        if self.weights:
            raise ValueError(f"{where} multiplies by a number after a layer; in fastmlp only X is scaled")
        self._scale *= factor

    def network(
        self, activation: str | Sequence[str] | None, output: str | None, otherwise: str
    ) -> tuple[Layers, dict[str, Any]]:
        """Return the layers that were read, and the settings of `MLP` for them.

        Parameters
        ----------
        activation : str, sequence of str or None
            Says that the hidden layers have these; "gelu" takes the place of the exact GELU.
        output : str or None
            What the outputs mean. None is what the last function says.
        otherwise : str
            The output if the last layer has no function.
        """
        if not self.weights:
            raise ValueError("it has no layer with weights")
        if self._dropout[-1]:
            raise ValueError("there is dropout after the last layer; fastmlp has it before layers only")
        *hidden, last = self.functions
        if activation is not None:
            names = per_layer(check_activation(activation, len(hidden), tuple(ACTIVATIONS)), len(hidden))
            for i, (found, given) in enumerate(zip(hidden, names, strict=True)):
                if found != given and (found, given) != (_EXACT_GELU, "gelu"):
                    raise ValueError(f"activation is {given!r} for hidden layer {i}, but the network has {found} there")
            hidden = list(names)
        if _EXACT_GELU in hidden:
            raise ValueError(
                "the network has the exact GELU, but that of fastmlp is the approximation by tanh, which differs by up "
                "to 5e-4; pass activation='gelu' to take it instead"
            )
        output = None if output is None else check_output(output, tuple(LOSSES))
        if last not in LOSSES:
            raise ValueError(f"the last layer has the activation {last}; outputs in fastmlp are {', '.join(LOSSES)}")
        if last != "identity" and output not in (None, last):
            raise ValueError(f"output is {output!r}, but the network ends in {last}")
        output = last if last != "identity" else output or otherwise
        rates = self._dropout[1:-1]
        dtype = np.result_type(*self.weights, *self.biases, np.float32)
        weights, biases = (
            [array.astype(dtype, copy=False) for array in arrays] for arrays in (self.weights, self.biases)
        )
        layers = Layers(weights, biases, hidden, output)
        return layers, layers.settings() | {
            **({} if activation is None else {"activation": activation}),
            "dropout": rates if len(set(rates)) > 1 else rates[0] if rates else 0.0,
            "input_dropout": self._dropout[0],
            "input_scale": self._scale,
        }

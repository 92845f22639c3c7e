"""`Layers`: the network of another program, read but not yet converted."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastmlp.activations import Floats

__all__ = ["Layers"]


class Layers(NamedTuple):
    """Weights, biases and functions of the layers of a multilayer perceptron."""

    weights: list[Floats]
    """(I, O) of each layer."""
    biases: list[Floats]
    """(O,) of each layer."""
    activation: list[str]
    """Of each hidden layer, a name of `fastmlp.activations.ACTIVATIONS`."""
    output: str
    """A name of `fastmlp.losses.LOSSES`."""

    def settings(self) -> dict[str, Any]:
        """Return the arguments of `MLP` for a network of these layers."""
        different = set(self.activation)
        return {
            "layers": [len(self.weights[0]), *(len(b) for b in self.biases)],
            "activation": self.activation if len(different) > 1 else (*different, "relu")[0],
            "output": self.output,
            "dtype": self.weights[0].dtype.name,
        }

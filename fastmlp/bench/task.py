"""The training task of a comparison, and the interface of a peer that performs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy.typing as npt

from fastmlp.options import Activation, OptimizerName

__all__ = ["Array", "Arrays", "Peer", "Predict", "Task", "Train"]

Array: TypeAlias = npt.NDArray[Any]
Arrays: TypeAlias = Sequence[Array]  # one for each layer
Train: TypeAlias = Callable[[], tuple[Arrays, Arrays]]  # returns (weights, biases)
Predict: TypeAlias = Callable[[], Any]


@dataclass(frozen=True)
class Task:
    """The network to train, and how.

    Attributes
    ----------
    layers : tuple of int
    batch_size : int
    rate : float
        Learning rate on the mean loss of a batch.
    epochs : int
    activation : {"relu", "logistic"}
    shuffle : bool
        Whether each epoch has a new order of the rows.
    optimizer : {"sgd", "adam"}
        Plain SGD, or Adam, which the NumPy and JAX peers do not have.
    """

    layers: tuple[int, ...]
    batch_size: int
    rate: float = 0.1
    epochs: int = 5
    activation: Activation = "relu"
    shuffle: bool = True
    optimizer: OptimizerName = "sgd"


class Peer(Protocol):
    """One way to train a network. The constructor raises ImportError if its library is not installed.

    Only the functions that the methods return are timed, not the methods.
    """

    name: str
    version: str

    def prepare(self, X: Any, y: Array, task: Task, weights: Arrays, biases: Arrays) -> Train:
        """Prepare the data as the peer needs it; return a function that trains once, from these parameters."""

    def prepare_inference(self, X: Any, task: Task, weights: Arrays, biases: Arrays) -> Predict:
        """Return a function that computes the probabilities (n, C) of the rows."""

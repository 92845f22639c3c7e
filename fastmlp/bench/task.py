"""`Task`, the training that is compared, and `Peer`, a library that runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy.typing as npt

__all__ = ["Array", "Arrays", "Peer", "Predict", "Task", "Train"]

Array: TypeAlias = npt.NDArray[Any]
Arrays: TypeAlias = Sequence[Array]  # one for each layer
Train: TypeAlias = Callable[[], tuple[Arrays, Arrays]]  # returns (weights, biases)
Predict: TypeAlias = Callable[[], Any]


@dataclass(frozen=True)
class Task:
    """A network and how to train it.

    Attributes
    ----------
    layers : tuple of int
    batch_size : int
    rate : float
        Learning rate on the mean loss of a batch.
    epochs : int
    activation : {"relu", "logistic"}
    shuffle : bool
        A new order of the rows for each epoch.
    optimizer : {"sgd", "adam"}
        Plain SGD, or Adam, which NumPy and JAX have not.
    """

    layers: tuple[int, ...]
    batch_size: int
    rate: float = 0.1
    epochs: int = 5
    activation: str = "relu"
    shuffle: bool = True
    optimizer: str = "sgd"


class Peer(Protocol):
    """One way to train a network. The constructor raises ImportError if the library is not installed.

    Neither method is timed: what they return is, whole.
    """

    name: str
    version: str

    def prepare(self, X: Any, y: Array, task: Task, weights: Arrays, biases: Arrays) -> Train:
        """Convert the data for the peer, and return a function that trains once from these parameters."""

    def prepare_inference(self, X: Any, task: Task, weights: Arrays, biases: Arrays) -> Predict:
        """Return a function that returns the probabilities (n, C) of the rows."""

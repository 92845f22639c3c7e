"""What all are given to train in the comparison, and what a peer is that trains it."""

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
    """What to train: the network, and how.

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
    """One way to train a network; a class whose making raises ImportError where its library is not installed.

    Neither method is timed: what they return is, whole.
    """

    name: str
    version: str

    def prepare(self, X: Any, y: Array, task: Task, weights: Arrays, biases: Arrays) -> Train:
        """Put the data where the peer wants it; return what trains, once, from these parameters."""

    def prepare_inference(self, X: Any, task: Task, weights: Arrays, biases: Arrays) -> Predict:
        """Return what gives the probabilities (n, C) of the rows."""

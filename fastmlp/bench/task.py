"""The training task of a comparison, and the interface of a peer that performs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy.typing as npt

from fastmlp.options import Activation, OptimizerName
from fastmlp.random import batch_generator, permutations

__all__ = ["SEED", "Array", "Arrays", "Peer", "Predict", "Task", "Train"]

Array: TypeAlias = npt.NDArray[Any]
Arrays: TypeAlias = Sequence[Array]  # one for each layer
Train: TypeAlias = Callable[[], tuple[Arrays, Arrays]]  # returns (weights, biases)
Predict: TypeAlias = Callable[[], Any]

SEED = 0  # of fastmlp's network; the order of the rows comes from it


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
        Whether each epoch has a new order of the rows, the same for all peers.
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

    def orders(self, n_rows: int) -> Iterator[npt.NDArray[Any]]:
        """Draw the order (n_rows,) of the rows in each epoch: the order in which `fastmlp.MLP` takes them."""
        generator = batch_generator(SEED)
        for _ in range(self.epochs):
            yield permutations(generator, 1, n_rows, self.shuffle)[0]


class Peer(Protocol):
    """One way to train a network, on so many threads.

    The constructor takes the number of threads, and raises ImportError if the library is not installed. Only the
    functions that the methods return are timed, not the methods.
    """

    name: str
    version: str

    def __init__(self, n_threads: int | None = None) -> None: ...

    def prepare(self, X: Any, y: Array, task: Task, weights: Arrays, biases: Arrays) -> Train:
        """Prepare the data as the peer needs it; return a function that trains once, from these parameters."""

    def prepare_inference(self, X: Any, task: Task, weights: Arrays, biases: Arrays) -> Predict:
        """Return a function that computes the probabilities (n, C) of the rows."""

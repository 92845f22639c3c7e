"""The interface of an engine, which owns the parameters of a network and computes steps, gradients and predictions.

There are two, with the same interface: `fastmlp.engine.compiled` runs the kernels, `fastmlp.reference` is plain NumPy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from fastmlp.activations import ACTIVATIONS, Floats
from fastmlp.losses import Loss, Targets
from fastmlp.once import Sharing, each_time
from fastmlp.optimizers import Optimizer

__all__ = ["NO_CLIPPING", "Clipping", "Engine", "EpochTotals", "Settings", "StepPlan", "sampled", "total_weight"]


@dataclass(frozen=True)
class Settings:
    """The settings of a network on which its computation depends; all have been checked.

    Attributes
    ----------
    layers : tuple of int
    activations : tuple of str
        Of each hidden layer.
    loss : Loss
        What the outputs mean.
    dtype : {"float32", "float64"}
    first_layer : {"auto", "dense", "sparse"}
    input_scale, l2, input_noise : float
    dropout_rates : tuple of float
        Of the inputs of each layer.
    """

    layers: tuple[int, ...]
    activations: tuple[str, ...]
    loss: Loss
    dtype: str
    first_layer: str
    input_scale: float
    l2: float
    dropout_rates: tuple[float, ...]
    input_noise: float

    @property
    def is_random(self) -> bool:
        """Whether each row of X is perturbed in its own way, for which it is known by its place in X."""
        return any(self.dropout_rates) or self.input_noise > 0


class Clipping(NamedTuple):
    """Bounds of a step's gradient: of each number, applied first, and of the 2-norm of all of them."""

    norm: float | None = None
    value: float | None = None


NO_CLIPPING = Clipping()


@dataclass
class StepPlan:
    """How the gradients of the next steps change the parameters.

    Attributes
    ----------
    optimizer : Optimizer
    state : list of lists of arrays
        The optimizer's arrays of each parameter, weights first, then biases: what `Engine.new_state` returns.
    rates : (n_steps,) float64 array
        Learning rate of each step.
    coefficients : mapping of str to (n_steps,) float64 arrays
        What the optimizer's formula takes in each step, by name.
    row_weights : (n,) array of the network's dtype, or None
        Weight of each row's loss. The gradient of a batch is divided by the sum of its weights, or by its rows if there
        are none. A batch whose weights are all 0 counts as a step, but changes nothing and has no penalty.
    clipping : Clipping
    seed, epoch : int
        Dropout and noise are keyed by them. `epoch` counts the passes that the network has behind it, over any rows.
    l2 : (n_steps,) float64 array or None
        Penalty of each step, in place of the network's. Where the network's is 0, so are these.
    """

    optimizer: Optimizer
    state: list[list[Floats]]
    rates: npt.NDArray[np.float64]
    coefficients: dict[str, npt.NDArray[np.float64]]
    row_weights: Floats | None = None
    clipping: Clipping = NO_CLIPPING
    seed: int = 0
    epoch: int = 0
    l2: npt.NDArray[np.float64] | None = None


@dataclass
class EpochTotals:
    """Results of training for some epochs.

    Attributes
    ----------
    losses : (n_epochs,) float64 array
        Sum over the rows of each epoch, each loss times the weight of its row.
    correct : (n_epochs,) int64 array
        Rows of each epoch that were predicted right.
    penalties : (n_epochs,) float64 array
        Sum over the steps of each epoch of the l2 penalty before the step.
    steps : int
        Finished steps, of all these epochs.
    bad_loss : float or None
        The loss that was not finite and ended training.
    """

    losses: npt.NDArray[np.float64]
    correct: npt.NDArray[np.int64]
    penalties: npt.NDArray[np.float64]
    steps: int = 0
    bad_loss: float | None = None

    @classmethod
    def zeros(cls, n_epochs: int) -> Self:
        """Return the totals of epochs that are still to come."""
        return cls(np.zeros(n_epochs), np.zeros(n_epochs, np.int64), np.zeros(n_epochs))

    def mean_losses(self, weight: float, n_batches: int) -> npt.NDArray[np.float64]:
        """Return the loss of each epoch: its mean over rows of so much weight, plus the mean penalty of its steps."""
        return self.losses / weight + self.penalties / n_batches


def total_weight(n_rows: int, row_weights: Floats | None) -> float:
    """Return the sum of the weights of some rows, each 1 if there are none."""
    return float(n_rows if row_weights is None else row_weights.sum(dtype=np.float64))


def sampled(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return 128 rows from all over some, from which the number of zeros in all of them is estimated."""
    return rows[:: -(-len(rows) // 128)]


class Engine(ABC):
    """Parameters of a network, and everything that is computed with them.

    Its input has been checked. X is an array of the network's dtype or uint8, or a CSR matrix; targets are those that
    `Loss.check_y` returns.

    Attributes
    ----------
    settings : Settings
    n_threads : int or None
        May be changed between calls.
    weights, biases : list of (I, O) arrays, list of (O,) arrays
        Of each layer; views of the memory that the engine works on. All zero in a new engine.
    """

    weights: list[Floats]
    biases: list[Floats]

    checks_finite = False
    """Whether training and predictions refuse numbers that are not finite, so that nobody needs to check before."""

    def __init__(self, settings: Settings, n_threads: int | None) -> None:
        self.settings = settings
        self.n_threads = n_threads

    @property
    def parameters(self) -> list[Floats]:
        """All weights, then all biases."""
        return self.weights + self.biases

    def shares_memory(self, array: npt.NDArray[Any]) -> bool:
        """Return whether an array may overlap a parameter."""
        return any(np.may_share_memory(array, parameter) for parameter in self.parameters)

    def check_optimizer(self, optimizer: Optimizer) -> None:  # noqa: B027 - any will do for plain NumPy
        """Raise TypeError or ValueError for an optimizer that the engine cannot use."""

    def new_state(self, slots: int) -> list[list[Floats]]:
        """Return zeros for an optimizer's state: `slots` arrays in the shape of each parameter, weights first."""
        return [[np.zeros_like(parameter) for _ in range(slots)] for parameter in self.parameters]

    def prepare(
        self,
        X: Any,
        optimizer: Optimizer,
        clipping: Clipping,
        first_layer: str | None = None,
        once: Sharing = each_time,
    ) -> Any:
        """Return X as `train` takes it, and do what takes long the first time, such as compiling.

        `first_layer` takes the place of the setting.
        """
        return X

    def is_copy(self, prepared: Any) -> bool:
        """Return whether what `prepare` has returned does not need the memory of its X."""
        return False

    def prepare_inference(self, X: Any, once: Sharing = each_time) -> Any:
        """Return X in the form that is fastest to predict many times, and do what takes long the first time."""
        return X

    def epochs_per_call(self, rows: Any, n_rows: int, n_batches: int) -> int:
        """Return how many epochs, of `n_rows`, one call of `train` may take if nobody needs to look in between."""
        return 1

    @abstractmethod
    def train(
        self,
        totals: EpochTotals,
        rows: Any,
        y: Targets,
        order: npt.NDArray[np.int64],
        batch_size: int,
        plan: StepPlan,
        on_step: Callable[[int], bool] | None = None,
    ) -> None:
        """Train on what `prepare` has returned, epoch after epoch.

        `order` (n_epochs, n) has the places in X of the rows of each epoch, which need not be all rows. `totals` says
        how far training came, also if something is raised. Now and then ``on_step(finished steps)`` is asked whether
        to continue.
        """

    def hidden_activations(self, X: Any) -> list[Floats]:
        """Return the outputs (n, units) of each hidden layer, after its activation, without dropout."""
        dtype = np.dtype(self.settings.dtype)
        h = X if X.dtype == dtype else X * dtype.type(self.settings.input_scale)
        hidden: list[Floats] = []
        with np.errstate(over="ignore", under="ignore"):
            for w, b, name in zip(self.weights, self.biases, self.settings.activations, strict=False):
                h = ACTIVATIONS[name].value(h @ w + b)
                hidden.append(h)
        return hidden

    @abstractmethod
    def gradients(self, X: Any, y: Targets, row_weights: Floats | None) -> tuple[float, list[Floats], list[Floats]]:
        """Return the mean loss plus penalty, and the gradients of weights and biases, without dropout and noise."""

    @abstractmethod
    def losses(self, X: Any, y: Targets) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Return the loss of each row, and whether it is predicted right; X may come from `prepare_inference`."""

    @abstractmethod
    def predict_proba(self, X: Any) -> Floats:
        """Return probabilities; X may come from `prepare_inference`."""

    @abstractmethod
    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return predictions in the form in which users pass y; X may come from `prepare_inference`."""

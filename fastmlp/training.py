"""The course of a fit: epoch after epoch, and what a later fit needs to go on from there."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.callbacks import FitState, call_hooks
from fastmlp.engine.threads import CtrlC
from fastmlp.history import check_monitor
from fastmlp.optimizers import Optimizer, get_optimizer
from fastmlp.random import epoch_orders
from fastmlp.schedules import Course, Schedule
from fastmlp.validation.settings import check_learning_rate

if TYPE_CHECKING:
    from fastmlp.losses import Targets
    from fastmlp.network import Network

__all__ = ["Clipping", "Descent", "Fit", "Outcome", "Progress"]


@dataclass
class Outcome:
    """How training on some epochs went.

    Attributes
    ----------
    losses, hits : (n_epochs,) arrays
        Sums over the rows of each epoch, each loss times the weight of its row.
    penalties : (n_epochs,) array
        Sums over the steps of each epoch of the penalty `l2` before the step.
    steps : int
        Finished steps, of all these epochs.
    bad_loss : float or None
        The loss that was not finite and ended it.
    """

    losses: npt.NDArray[np.float64]
    hits: npt.NDArray[np.int64]
    penalties: npt.NDArray[np.float64]
    steps: int = 0
    bad_loss: float | None = None

    @classmethod
    def of(cls, n_epochs: int) -> Self:
        """Return the outcome of epochs that are still to come."""
        return cls(np.zeros(n_epochs), np.zeros(n_epochs, np.int64), np.zeros(n_epochs))

    def mean_losses(self, y: Targets, row_weights: Floats | None, n_batches: int) -> npt.NDArray[np.float64]:
        """Return the loss of each epoch: means over its rows, by their weights, and over its steps of the penalty."""
        total = len(y) if row_weights is None else row_weights.sum(dtype=np.float64)
        return self.losses / total + self.penalties / n_batches


class Clipping(NamedTuple):
    """Bounds of the gradient of a step: first of each of its numbers, then of the norm of all of them."""

    norm: float | None = None
    value: float | None = None


@dataclass
class Progress:
    """What training has come to.

    Attributes
    ----------
    optimizer : Optimizer
    memory : list of lists of arrays
        The optimizer's arrays of each parameter, weights first, then biases.
    steps : int
        That the memory has seen.
    epochs : int
        Finished ones of the course.
    schedule : str
        Kind of the schedule.
    schedule_state : dict
        What it remembered at the end of the last finished epoch.
    learning_rate_factor : float
        That of callbacks.
    """

    optimizer: Optimizer
    memory: list[list[Floats]]
    steps: int = 0
    epochs: int = 0
    schedule: str = "Constant"
    schedule_state: Mapping[str, Any] = field(default_factory=dict)
    learning_rate_factor: float = 1.0

    @classmethod
    def begin(cls, optimizer: Optimizer, memory: list[list[Floats]], schedule: str = "Constant") -> Self:
        """Return the progress of training that has not begun."""
        for slots in memory:
            optimizer.start(slots)
        return cls(optimizer, memory, schedule=schedule)

    def fits(self, optimizer: Optimizer) -> bool:
        """Return whether an optimizer can go on with the memory."""
        return type(optimizer) is type(self.optimizer) and optimizer.formula == self.optimizer.formula

    def go_on(self, optimizer: object, learning_rate: object, schedule: Schedule) -> Self:
        """Return the progress from which a fit with these arguments goes on, the same memory in it."""
        if optimizer is not None:
            following = get_optimizer(optimizer, learning_rate)
        elif learning_rate is not None:
            following = replace(self.optimizer, learning_rate=check_learning_rate(learning_rate))
        else:
            following = self.optimizer
        if not self.fits(following):
            raise ValueError(f"resume=True goes on with {self.optimizer!r}; it cannot with {following!r}")
        if type(schedule).__name__ != self.schedule:
            before, given = (kind.replace("_Function", "function") for kind in (self.schedule, type(schedule).__name__))
            raise ValueError(f"resume=True goes on with the schedule {before}, not {given}; pass it again")
        return replace(self, optimizer=following)


@dataclass
class Descent:
    """How the gradients of the steps to come change the parameters.

    Attributes
    ----------
    optimizer : Optimizer
    memory : list of lists of arrays
        The optimizer's arrays of each parameter, weights first, then biases.
    rates : (n_steps,) float64 array
        Learning rate of each of the steps.
    coefficients : dict of str to (n_steps,) float64 arrays
        What the optimizer's formula takes in each step, by name.
    row_weights : (n,) array of the network's dtype, or None
        Weight of each row's loss; a batch's gradient is divided by the sum of its weights, without them by its rows. A
        batch whose weights are all 0 counts as a step, but changes nothing and has no penalty.
    clipping : Clipping
    epoch : int
        Passes over any rows that the network has behind it; dropout and noise are keyed by it.
    l2 : (n_steps,) float64 array or None
        Penalty of each of the steps in place of the network's, which must not be 0 if one of these is not.
    """

    optimizer: Optimizer
    memory: list[list[Floats]]
    rates: npt.NDArray[np.float64]
    coefficients: dict[str, npt.NDArray[np.float64]]
    row_weights: Floats | None
    clipping: Clipping
    epoch: int
    l2: npt.NDArray[np.float64] | None = None


@dataclass
class Fit:
    """One fit to checked data.

    Attributes
    ----------
    net : Network
    hooks : sequence of callbacks
    progress : Progress
        Where it begins; kept up to date at the end of each epoch.
    schedule : Schedule
    X, y : rows and targets
    row_weights : (n,) array or None
    clipping : Clipping
    epochs, batch_size : int
    shuffle : bool
    validation : pair (X, y) or None
    metrics : mapping of names to functions of (y_true, y_pred)
    state : FitState
        What callbacks see.
    """

    net: Network
    hooks: Sequence[object]
    progress: Progress
    schedule: Schedule
    X: Any
    y: Targets
    row_weights: Floats | None
    clipping: Clipping
    epochs: int
    batch_size: int
    shuffle: bool
    validation: tuple[Any, Targets] | None
    metrics: Mapping[str, Callable[[Any, Any], float]]
    state: FitState = field(init=False)

    def __post_init__(self) -> None:
        self.batch_size = min(self.batch_size, len(self.y))
        self.state = FitState(
            self.epochs,
            math.ceil(len(self.y) / self.batch_size),
            epoch=self.progress.epochs,
            measures=self.net._measures(self.validation is not None, self.metrics),
            learning_rate_factor=self.progress.learning_rate_factor,
        )
        check_monitor(self.schedule.monitor, self.state.measures)

    def run(self) -> None:
        """Train epoch by epoch, until all are done, a callback says so, or Ctrl-C."""
        net = self.net
        with net._training():
            self._data = net._prepare(self.X, net.first_layer, self.progress.optimizer, self.clipping)
            if self.validation is not None:
                self.validation = net._prepare_inference(self.validation[0]), self.validation[1]
            self.schedule.start()
            if self.progress.schedule_state:
                self.schedule.load_state(self.progress.schedule_state)
            self._run()

    def _run(self) -> None:
        net, state, history = self.net, self.state, self.state.history
        ctrl_c, begun = CtrlC(), list[object]()

        def on_step(steps: int) -> bool:
            state.step = (steps - 1) % state.n_batches + 1 if steps else 0
            call_hooks(self.hooks, "on_step", net, state)
            return not ctrl_c.pressed

        try:
            self._begin(begun)
            while state.epoch < state.epochs and not state.stop and not history.interrupted:
                start = time.perf_counter()
                n_epochs = min(self._at_once(), state.epochs - state.epoch)
                orders = self._orders(n_epochs)
                outcome, descent = Outcome.of(n_epochs), self._descent(orders)
                with ctrl_c:
                    try:
                        net._train(outcome, self._data, self.y, orders, self.batch_size, descent, on_step)
                    finally:
                        self._record(outcome, descent.rates, time.perf_counter() - start)
                history.interrupted = ctrl_c.pressed
                if state.step == 0 and outcome.steps:
                    self._end_epoch()
        except KeyboardInterrupt:  # in a callback or in between
            history.interrupted = True
        finally:
            with ExitStack() as ends:  # which calls the last first, and each whatever the others raise
                for hook in reversed(begun):
                    ends.callback(call_hooks, [hook], "on_fit_end", net, state)

    def _begin(self, begun: list[object]) -> None:
        net = self.net
        before = net.history, net._progress
        net.history, net._progress = self.state.history, self.progress
        try:
            for hook in self.hooks:
                call_hooks([hook], "on_fit_begin", net, self.state)
                begun.append(hook)
        except Exception:  # a callback that does not fit changes nothing
            net.history, net._progress = before
            raise

    def _at_once(self) -> int:
        """Return how many epochs may go into one call of `_train`: one where somebody looks in between."""
        looked_at = self.hooks or self.validation is not None or self.schedule.monitor is not None
        return 1 if looked_at else self.net._epochs_at_once(self._data, self.state.n_batches)

    def _orders(self, n_epochs: int) -> npt.NDArray[np.int64]:
        """Return the orders (n_epochs, n) of the rows in the epochs to come; of a single batch it changes nothing."""
        return epoch_orders(self.net._generator, n_epochs, len(self.y), self.shuffle and self.state.n_batches > 1)

    def _descent(self, orders: npt.NDArray[np.int64]) -> Descent:
        """Return how the steps of these epochs descend."""
        n_batches, progress = self.state.n_batches, self.progress
        n_steps = len(orders) * n_batches
        course = Course(n_batches, self.state.epochs, len(self.y))
        factors = self.schedule.factors(self.state.epoch * n_batches, n_steps, course)
        steps = np.arange(progress.steps + 1, progress.steps + 1 + n_steps)
        rates = np.asarray(factors * progress.optimizer.learning_rate * self.state.learning_rate_factor, np.float64)
        coefficients = progress.optimizer.coefficients(steps, rates)
        return Descent(
            progress.optimizer, progress.memory, rates, coefficients, self.row_weights, self.clipping, self.net._passes
        )

    def _record(self, outcome: Outcome, rates: npt.NDArray[np.float64], seconds: float) -> None:
        """Enter finished epochs into the history; complain about a loss that is not finite."""
        net, state, head = self.net, self.state, self.net._head
        finished, state.step = divmod(outcome.steps, state.n_batches)
        state.history.steps += outcome.steps
        self.progress.steps += outcome.steps
        net._passes += finished + (state.step > 0)
        if finished:
            losses = outcome.mean_losses(self.y, self.row_weights, state.n_batches)
            measured = {
                "loss": losses[:finished].tolist(),
                "learning_rate": rates[state.n_batches - 1 :: state.n_batches][:finished].tolist(),
                "seconds": [seconds * state.n_batches / outcome.steps] * finished,
            }
            if head.classifies:
                measured["accuracy"] = (outcome.hits[:finished] / len(self.y)).tolist()
            if self.validation is not None:  # after every epoch
                values = net._mean_losses(*self.validation) | net._measured(*self.validation, self.metrics)
                measured |= {f"val_{name}": [value] for name, value in values.items()}
            state.history.extend(**measured)
            state.epoch += finished
        self.progress.epochs = state.epoch
        if outcome.bad_loss is not None:
            where = f"epoch {state.epoch + 1}, step {state.step + 1}"
            raise FloatingPointError(f"loss is {outcome.bad_loss} at {where}; lower learning_rate")

    def _end_epoch(self) -> None:
        self.schedule.on_epoch_end(self.state.history)
        self.progress.schedule_state = self.schedule.state()
        for hook in self.hooks:
            call_hooks([hook], "on_epoch_end", self.net, self.state)
            self.progress.learning_rate_factor = self.state.learning_rate_factor  # for the next one may keep the state

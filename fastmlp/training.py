"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.diagnosis import after_divergence, not_finite, what_went_wrong
from fastmlp.engine.base import NO_CLIPPING, Clipping, Engine, EpochTotals, StepPlan, sampled, total_weight
from fastmlp.history import History, check_monitor
from fastmlp.hooks import FitState, call_hooks
from fastmlp.interrupts import CtrlC, complete, finish
from fastmlp.losses import Targets
from fastmlp.metrics import Metric, measure
from fastmlp.once import Sharing, each_time
from fastmlp.optimizers import Optimizer
from fastmlp.random import RandomStreams, permutations
from fastmlp.schedules import Duration, Schedule
from fastmlp.schedules.base import plain_state
from fastmlp.training_state import TrainingState, Unfinished
from fastmlp.validation.settings import check_number

__all__ = ["Counts", "Trainer", "TrainingState", "Unfinished", "check_clipping", "train_batch"]


OnStep: TypeAlias = Callable[[int], bool]
"""Called with the number of steps taken, now and then; returns whether to go on."""


class Counts(NamedTuple):
    """What had been done when a call of the engine began."""

    recorded: int  # epochs in the history
    history_steps: int
    steps: int
    passes: int
    epoch: int


@dataclass(kw_only=True)
class Trainer:
    """Trains an engine on checked data, epoch by epoch.

    Attributes
    ----------
    engine : Engine
    net : object
        For callbacks.
    callbacks : sequence of objects
    schedule : Schedule
    state : TrainingState
        Where training starts; updated as it goes.
    random : RandomStreams
    X, y : rows and targets
    row_weights : (n,) array or None
    rows : (k,) int64 array or None
        Which of these rows to train on; the same may be there several times. None is all.
    held_out : (m,) int64 array or None
        Which of these rows to measure on, in place of `validation`.
    clipping : Clipping
    epochs, batch_size : int
        `epochs` counts those that `state` has behind it.
    shuffle : bool
    validation : (X, y), (X, y, weights) or None
    metrics : mapping of str to functions of (y_true, y_pred)
        Measured on the validation data.
    history : History
        Gets one entry for each finished epoch.
    fit : FitState
        What callbacks see.
    nothing_left : bool
        Whether `state` has all epochs behind it.
    ctrl_c : CtrlC
        Stops training after the current step.
    steps : int
        Steps taken so far, by this fit.
    refused : callable
        Called if an error other than a bad loss ends the fit before its first step, such as one of a callback or a
        schedule, before callbacks that have begun hear of the end.
    """

    engine: Engine
    net: object
    callbacks: Sequence[object]
    schedule: Schedule
    state: TrainingState
    random: RandomStreams
    X: Any
    y: Targets
    row_weights: Floats | None
    epochs: int
    batch_size: int
    shuffle: bool
    rows: npt.NDArray[np.int64] | None = None
    held_out: npt.NDArray[np.int64] | None = None
    clipping: Clipping = NO_CLIPPING
    validation: tuple[Any, ...] | None = None
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    history: History = field(default_factory=History)
    ctrl_c: CtrlC = field(default_factory=CtrlC)
    steps: int = field(default=0, init=False)
    fit: FitState = field(init=False)
    nothing_left: bool = field(init=False)
    refused: Callable[[], object] = field(default=lambda: None, init=False)
    _begun: Counts = field(init=False)
    _factor: float = field(init=False)

    def __post_init__(self) -> None:
        self.batch_size = min(self.batch_size, self.n_rows)
        measures = ["loss", "accuracy"] if self.engine.settings.loss.classifies else ["loss"]
        if self.validates:
            measures += [f"val_{name}" for name in [*measures, *self.metrics]]
        self.fit = FitState(
            self.epochs,
            math.ceil(self.n_rows / self.batch_size),
            epoch=self.state.epochs,
            history=self.history,
            measures=tuple(measures),
            learning_rate_factor=self.state.learning_rate_factor,
            batch_size=self.batch_size,
        )
        if self.schedule.monitor is not None:
            check_monitor(self.schedule.monitor, self.fit.measures)
        self.nothing_left = self.state.epochs >= self.epochs  # the fit is resumed after its last epoch
        self._given, self._before = self.X, (len(self.history.loss), self.history.steps)
        self._largest_rate = float(np.finfo(self.engine.settings.dtype).max)
        self._is_prepared = False

    @property
    def n_rows(self) -> int:
        """Rows of an epoch."""
        return len(self.y if self.rows is None else self.rows)

    @property
    def n_steps(self) -> int:
        """Steps of this fit, if nothing stops it."""
        return max(0, self.epochs - self.state.epochs) * self.fit.n_batches

    @property
    def cost(self) -> float:
        """About how many multiplications this fit takes."""
        return self.n_steps * self.batch_size * sum(parameter.size for parameter in self.engine.parameters)

    @property
    def validates(self) -> bool:
        """Whether there are validation data."""
        return self.validation is not None or self.held_out is not None

    def prepare(self, once: Sharing = each_time) -> None:
        """Do everything that may take long or fail before training begins, such as compiling.

        Rows that this network alone needs are not copied yet if it shares the others by `once`; some of them tell which
        kernels to compile.
        """
        if self._is_prepared:
            return
        if self.validation is not None:
            self._prepare_validation(self.validation, once)
        if once is each_time:
            self._copy_rows()
        elif self.held_out is not None:
            self.engine.prepare_inference(self._given[sampled(self.held_out)])
        if self._copies is not None:
            self.engine.prepare(self._given[sampled(self._copies)], self.state.optimizer, self.clipping)
        elif self.X is self._given:
            self._prepare_X(once)
        self.prepare_schedule()
        self._is_prepared = True

    @property
    def _copies(self) -> npt.NDArray[np.int64] | None:
        """The rows that training needs in an array of their own: what is drawn for a row depends on its place in X."""
        return self.rows if self.engine.settings.is_random else None

    def _prepare_X(self, once: Sharing) -> None:
        self.X = self.engine.prepare(self._given, self.state.optimizer, self.clipping, once=once)

    def _prepare_validation(self, data: tuple[Any, ...], once: Sharing) -> None:
        X, *others = data
        if not others:  # blocks
            return
        self.validation = self.engine.prepare_inference(X, once), *others

    def _copy_rows(self) -> None:
        """Copy the rows for validation, and those for training if they are needed in an array of their own."""
        if self.held_out is not None:
            self._prepare_validation((self._given[self.held_out], self.y[self.held_out], None), each_time)
            self.held_out = None
        rows = self._copies
        if rows is not None:
            self._given, self.y = self._given[rows], self.y[rows]
            if self.row_weights is not None:
                self.row_weights = self.row_weights[rows]
            self.rows = None
            self._prepare_X(each_time)

    def release(self) -> None:
        """Forget X and copies of its rows, once the fit has ended and nothing more is asked of it."""
        self.X = self._given = self.validation = None

    def prepare_schedule(self) -> None:
        """Start the schedule, from its state if the fit is resumed."""
        self.schedule.start()
        self._schedule_state()  # which may be wrong: better now than after an epoch
        if self.state.schedule_state:
            try:
                self.schedule.load_state(self.state.schedule_state)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                state = dict(self.state.schedule_state)
                raise ValueError(f"schedule {self.schedule!r} cannot resume from the state {state}: {error}") from error

    def run(self) -> None:
        """Train until all epochs are done, a callback says stop, or Ctrl-C.

        Raises
        ------
        FloatingPointError
            If a loss is not finite. That step is not taken.
        """
        fit, ctrl_c = self.fit, self.ctrl_c

        def on_step(steps: int) -> bool:
            self.steps = self._begun.history_steps - self._before[1] + steps
            fit._advance(step=(steps - 1) % fit.n_batches + 1 if steps else 0)
            call_hooks(self.callbacks, "on_step", self.net, fit)
            return not ctrl_c.pressed

        begun: list[object] = []
        drawn = self.random.generator.bit_generator.state

        def train() -> None:
            try:
                self._copy_rows()
                for callback in self.callbacks:
                    call_hooks([callback], "on_fit_begin", self.net, fit)
                    begun.append(callback)
                while fit.epoch < fit.epochs and not fit.stop and not self.history.interrupted:
                    self._train_epochs(min(self._epochs_per_call(), fit.epochs - fit.epoch), on_step)
            except KeyboardInterrupt:  # in a callback, or between two calls of the engine
                self.history.interrupted = True
            except Exception as error:
                if self.history.steps == self._before[1] and not isinstance(error, FloatingPointError):
                    self.random.generator.bit_generator.state = drawn
                    self.refused()
                raise

        finish(train, lambda: self._end(begun))

    def _end(self, begun: list[object]) -> None:
        """Call each `on_fit_end`, whatever the others raise."""
        if begun:
            try:
                call_hooks(begun[:1], "on_fit_end", self.net, self.fit)
            finally:
                del begun[:1]
                self._end(begun)

    def _train_epochs(self, n_epochs: int, on_step: OnStep) -> None:
        self._start = time.perf_counter()
        totals = EpochTotals.zeros(n_epochs)
        self._begun, self._factor = self._counts(), self.fit.learning_rate_factor
        last_rates, train = self._drawn(n_epochs)

        def train_and_validate() -> None:
            finish(lambda: train(totals, on_step), lambda: self._record(totals, last_rates))
            if self.validation is not None and self.fit.epoch > self._begun.epoch:  # then a call trains one epoch
                self._validate(*self.validation)

        self.ctrl_c.run(train_and_validate)
        self.history.interrupted = self.ctrl_c.pressed
        if totals.bad_loss is not None:
            where = f"epoch {self.fit.epoch + 1}, step {self.fit.step + 1}"
            first = self.history.steps == self._before[1]
            X, y, _, rows = self._some_rows()
            advice = after_divergence(self.engine, *((X, y) if rows is None else (X[rows], y[rows])), first)
            raise FloatingPointError(f"loss is {totals.bad_loss} at {where}; {advice}")
        if self.fit.step == 0 and totals.steps:
            self._end_epoch()

    def _counts(self) -> Counts:
        """Return what has been done so far."""
        return Counts(len(self.history.loss), self.history.steps, self.state.steps, self.random.epoch, self.fit.epoch)

    def _drawn(self, n_epochs: int) -> tuple[npt.NDArray[np.float64], Callable[[EpochTotals, OnStep], None]]:
        """Draw the order of the rows; return the last learning rate of each epoch, and what trains these epochs."""
        n_batches = self.fit.n_batches
        rates = self._rates(
            self.fit.epoch * n_batches, n_epochs * n_batches
        )  # which may fail, before anything is drawn
        order = self._permutations(n_epochs)
        plan = self._step_plan(order, rates)

        def train(totals: EpochTotals, on_step: OnStep) -> None:
            self.engine.train(totals, self.X, self.y, order, self.batch_size, plan, on_step)

        return rates[n_batches - 1 :: n_batches], train

    def _some_rows(self) -> tuple[Any, Targets, Floats | None, npt.NDArray[np.int64] | None]:
        """Return X, y and weights that were trained on, and which of these rows were; None is all."""
        return self._given, self.y, self.row_weights, self.rows

    def _epochs_per_call(self) -> int:
        """Return how many epochs to train in one call of the engine: 1 if anything happens between epochs."""
        if self.callbacks or self.validates or self.schedule.monitor is not None:
            return 1
        return self.engine.epochs_per_call(self.X, self.n_rows, self.fit.n_batches)

    def _permutations(self, n_epochs: int) -> npt.NDArray[np.int64]:
        """Return the rows (n_epochs, n) of the epochs to come, in their order; a single batch needs no shuffling."""
        shuffle = self.shuffle and self.fit.n_batches > 1
        order = permutations(self.random.generator, n_epochs, self.n_rows, shuffle)
        return order if self.rows is None else self.rows[order]

    @cached_property
    def _total_weight(self) -> float:
        """Sum of the weights of the rows of an epoch."""
        chosen = slice(None) if self.rows is None else self.rows
        return total_weight(self.n_rows, None if self.row_weights is None else self.row_weights[chosen])

    def _rates(self, first_step: int, n_steps: int) -> npt.NDArray[np.float64]:
        """Return the learning rate of each of some steps, of which the first has this number in the whole fit."""
        fit = self.fit
        duration = Duration(fit.n_batches, fit.epochs, self.n_rows)
        factors = self.schedule.factors(first_step, n_steps, duration)
        if np.shape(factors) != (n_steps,):
            shape = np.shape(factors)
            raise ValueError(f"schedule {self.schedule!r} gives factors of shape {shape}, not ({n_steps},)")
        rates = np.asarray(factors * self.state.optimizer.learning_rate * self._factor, np.float64)
        if not rates.max() <= self._largest_rate:
            raise ValueError(f"the learning rate is {rates.max():g} in epoch {fit.epoch + 1}, which is too large")
        return rates

    def _step_plan(self, order: npt.NDArray[np.int64], rates: npt.NDArray[np.float64]) -> StepPlan:
        """Return the plan for the steps to come, which have these learning rates."""
        state = self.state
        return StepPlan(
            state.optimizer,
            state.optimizer_state,
            rates,
            state.optimizer.coefficients(np.arange(state.steps + 1, state.steps + 1 + len(rates)), rates),
            self.row_weights,
            self.clipping,
            self.random.seed,
            self._begun.passes,
        )

    def _record(self, totals: EpochTotals, last_rates: npt.NDArray[np.float64]) -> None:
        """Count the steps taken since `_begun`, and add finished epochs to the history. This may be repeated."""
        fit, begun, seconds = self.fit, self._begun, time.perf_counter() - self._start
        finished, step = divmod(totals.steps, fit.n_batches)
        fit._advance(step=step)
        self.history.steps = begun.history_steps + totals.steps
        self.state.steps, self.state.batch_size = begun.steps + totals.steps, self.batch_size
        self.random.epoch = begun.passes + finished + (fit.step > 0)
        if finished:
            losses = totals.mean_losses(self._total_weight, fit.n_batches)
            measured = {
                "loss": losses[:finished].tolist(),
                "learning_rate": last_rates[:finished].tolist(),
                "seconds": [seconds * fit.n_batches / totals.steps] * finished,
            }
            if self.engine.settings.loss.classifies:
                measured["accuracy"] = (totals.correct[:finished] / self.n_rows).tolist()
            measured |= {name: [math.nan] * finished for name in fit.measures if name.startswith("val_")}
            self.history._put(begun.recorded, measured)
        self.state.epochs, self.state.unfinished = begun.epoch + finished, None
        fit._advance(epoch=self.state.epochs)

    def _validate(self, *data: Any) -> None:
        """Add what is measured on the validation data to the last epoch of the history."""
        values = measure(self.engine, *data, metrics=self.metrics)
        measured = {f"val_{name}": [value] for name, value in values.items()}
        complete(lambda: self.history._put(self._begun.recorded, measured))

    def what_went_wrong(self) -> str | None:
        """Return the words of a warning if the fit has learned nothing, else None."""
        n_losses, n_steps = self._before
        losses, steps = self.history.loss[n_losses:], self.history.steps - n_steps
        rate = self.state.optimizer.learning_rate
        return what_went_wrong(self.engine, *self._some_rows(), losses, steps, rate)

    def not_finite(self) -> str | None:
        """Return what is wrong if the last step has made the fit diverge, else None."""
        return not_finite(self.engine, *self._some_rows())

    def _schedule_state(self) -> dict[str, Any]:
        return plain_state(self.schedule.state(), f"state() of the schedule {type(self.schedule).__name__}")

    def _end_epoch(self) -> None:
        """Call the hooks of the schedule and the callbacks."""
        self.schedule.on_epoch_end(self.history)
        self.state.schedule_state = self._schedule_state()
        for callback in self.callbacks:
            call_hooks([callback], "on_epoch_end", self.net, self.fit)
            self.state.learning_rate_factor = self.fit.learning_rate_factor  # the next callback may save the state


def train_batch(
    engine: Engine,
    state: TrainingState | None,
    random: RandomStreams,
    optimizer: Optimizer,
    X: Any,
    y: Targets,
    row_weights: Floats | None,
    clipping: Clipping,
    adopt: Callable[[TrainingState], object],
) -> float:
    """Take one step on all rows, in their order; return the mean loss before it. `adopt` gets the new training state.

    Raises
    ------
    FloatingPointError
        If the loss is not finite. The step is not taken.
    """
    if state is None or not state.fits(optimizer):
        state = TrainingState.new(optimizer, engine)
    rates = np.array([optimizer.learning_rate])
    coefficients = optimizer.coefficients(np.array([state.steps + 1]), rates)
    plan = StepPlan(
        optimizer, state.optimizer_state, rates, coefficients, row_weights, clipping, random.seed, random.epoch
    )
    rows = engine.prepare(X, optimizer, clipping, first_layer="dense")
    totals, order = EpochTotals.zeros(1), np.arange(len(y))[None, :]
    after, passes = replace(state, optimizer=optimizer, steps=state.steps + 1), random.epoch

    def record() -> None:
        if totals.steps:
            random.epoch = passes + 1
            adopt(after)

    finish(lambda: engine.train(totals, rows, y, order, len(y), plan), record)
    if totals.bad_loss is not None:
        advice = after_divergence(engine, X, y, state.steps == 0)
        raise FloatingPointError(f"loss is {totals.bad_loss}; {advice}")
    return float(totals.mean_losses(total_weight(len(y), row_weights), 1)[0])


def check_clipping(clip_norm: object, clip_value: object) -> Clipping:
    """Return the bounds of the gradient, if they are positive numbers or None."""
    norm = None if clip_norm is None else check_number("clip_norm", clip_norm, zero=False)
    return Clipping(norm, None if clip_value is None else check_number("clip_value", clip_value, zero=False))


Progress = TrainingState  # its name in older pickles

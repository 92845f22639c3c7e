"""Engines and a trainer for rows that are spread over workers: local SGD, and exact SGD with large batches.

The client keeps the parameters and the optimizer's state. Everything else that `fit` does, such as validation,
callbacks and schedules, happens there as in every other fit; only `Engine.train` asks the workers.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.dask.partitions import stacked
from fastmlp.dask.shard import Reply, Rows, fill, flat
from fastmlp.dask.shards import Shards, Stopped
from fastmlp.diagnosis import what_went_wrong
from fastmlp.engine.base import Engine, EpochTotals, StepPlan
from fastmlp.interrupts import complete
from fastmlp.losses import Targets
from fastmlp.optimizers import at_step
from fastmlp.reference import clip
from fastmlp.training import Trainer

__all__ = ["LocalSGD", "Spread", "SpreadTrainer", "SynchronousSGD"]


class Spread:
    """All rows, as a trainer sees them in place of y: how many there are, and some of them.

    Attributes
    ----------
    n_rows : list of int
        Of each shard.
    X, y, weights : arrays
        Some rows, evenly spaced.
    """

    def __init__(self, shards: Sequence[Rows]) -> None:
        self.n_rows = [rows.n_rows for rows in shards]
        self.weight = sum(rows.weight for rows in shards)
        self.X, self.y = stacked([rows.X for rows in shards]), stacked([rows.y for rows in shards])
        self.weights = None if shards[0].weights is None else stacked([rows.weights for rows in shards])
        self.size, self.min, self.max = self.y.size, self.y.min, self.y.max  # for what is said after a divergence

    def __len__(self) -> int:
        return sum(self.n_rows)


def average(replies: Sequence[Reply]) -> npt.NDArray[np.float64]:
    """Return the mean of their vectors by their weights, in float64 and in their order; equal vectors stay as they are."""
    first, total = replies[0].vector.astype(np.float64), sum(reply.weight for reply in replies)
    mean = first.copy()
    for reply in replies[1:]:
        if reply.weight:
            mean += (reply.vector - first) * (reply.weight / total)
    return mean


class _OnWorkers(Engine):
    """The engine of a network, but for `train`.

    Attributes
    ----------
    shards : Shards
    """

    def __init__(self, engine: Engine, shards: Shards) -> None:
        super().__init__(engine.settings, engine.n_threads)
        self.weights, self.biases = engine.weights, engine.biases
        self._engine, self.shards = engine, shards

    def prepare_inference(self, X: Any) -> Any:
        """Return X in the form that is fastest to predict many times."""
        return self._engine.prepare_inference(X)

    def gradients(self, X: Any, y: Targets, row_weights: Floats | None) -> tuple[float, list[Floats], list[Floats]]:
        """Return those of rows that the client has."""
        return self._engine.gradients(X, y, row_weights)

    def losses(self, X: Any, y: Targets) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Return the loss of each row, and whether it is predicted right."""
        return self._engine.losses(X, y)

    def predict_proba(self, X: Any) -> Floats:
        """Return probabilities."""
        return self._engine.predict_proba(X)

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return predictions in the form in which users pass y."""
        return self._engine.predict(X)


class LocalSGD(_OnWorkers):
    """Each shard takes steps of its own; now and then parameters and the optimizer's state are averaged.

    Stich (2019), "Local SGD converges fast and communicates little", for plain SGD; Yu, Jin and Yang (2019) average the
    momentum, too.

    Attributes
    ----------
    every : int or None
        Steps between two averages; None is one epoch. The last one of an epoch is at its end.
    shuffle : bool
    """

    def __init__(self, engine: Engine, shards: Shards, every: int | None, shuffle: bool) -> None:
        super().__init__(engine, shards)
        self.every, self.shuffle = every, shuffle

    def train(
        self,
        totals: EpochTotals,
        rows: Any,
        y: Targets,
        order: Any,
        batch_size: int,
        plan: StepPlan,
        on_step: Callable[[int], bool] | None = None,
    ) -> None:
        """Train for one epoch; `order` is the generator from which the shards draw theirs."""
        own = self.parameters + [slot for slots in plan.state for slot in slots]
        n_steps, given, penalty = len(plan.rates), copy.deepcopy(order), 0.0

        def go_on() -> bool:
            return on_step is None or on_step(totals.steps)

        def adopt(end: int) -> None:
            fill(own, mean)
            order.bit_generator.state = replies[0].generator.bit_generator.state
            totals.losses[0], totals.correct[0], totals.penalties[0], totals.steps = losses, correct, penalty, end

        while totals.steps < n_steps:
            first, end = totals.steps, min(totals.steps + (self.every or n_steps), n_steps)
            coefficients = {name: numbers[first:end] for name, numbers in plan.coefficients.items()}
            part = replace(plan, state=[], row_weights=None, rates=plan.rates[first:end], coefficients=coefficients)
            args = flat(own), part, batch_size, given, self.shuffle, (first, end)
            try:
                replies: list[Reply] = self.shards.call("train", [args] * len(self.shards), go_on)
            except Stopped:
                return
            bad = [reply.totals.bad_loss for reply in replies if reply.totals.bad_loss is not None]
            if bad:
                totals.bad_loss = bad[0]
                return
            mean = average(replies)
            losses = totals.losses[0] + sum(reply.totals.losses[0] for reply in replies)
            correct = totals.correct[0] + sum(reply.totals.correct[0] for reply in replies)
            penalty = totals.penalties[0] + _mean_penalty(replies) * (end - first)
            complete(lambda: adopt(end))


def _mean_penalty(replies: Sequence[Reply]) -> float:
    """Return the mean penalty of a step."""
    steps = sum(reply.totals.steps for reply in replies)
    return float(sum(reply.totals.penalties[0] for reply in replies) / max(steps, 1))


class SynchronousSGD(_OnWorkers):
    """Each step follows the gradient of one batch, which is the mean of those that the shards compute of their rows.

    So it computes what one process would, up to the rounding of sums.

    Attributes
    ----------
    ends : (n_shards,) array of int
        Where the rows of each shard end among all rows.
    """

    def __init__(self, engine: Engine, shards: Shards, n_rows: Sequence[int]) -> None:
        super().__init__(engine, shards)
        self.ends = np.cumsum(n_rows)

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
        """Take one step for each batch of each epoch."""
        for epoch, permutation in enumerate(order):
            for start in range(0, len(permutation), batch_size):
                try:
                    replies = self._gradients(totals, permutation[start : start + batch_size], epoch, plan, on_step)
                except Stopped:
                    return
                if not self._step(totals, replies, epoch, plan) or (on_step and not on_step(totals.steps)):
                    return

    def _gradients(
        self,
        totals: EpochTotals,
        batch: npt.NDArray[np.int64],
        epoch: int,
        plan: StepPlan,
        on_step: Callable[[int], bool] | None,
    ) -> list[Reply]:
        vector = flat(self.parameters)
        asked = replace(plan, state=[], row_weights=None, rates=plan.rates[:1], coefficients={}, epoch=plan.epoch + epoch)
        owners = np.searchsorted(self.ends, batch, side="right")
        starts = [0, *self.ends[:-1].tolist()]
        args = [(vector, batch[owners == i] - start, asked) for i, start in enumerate(starts)]
        return self.shards.call("gradient", args, lambda: on_step is None or on_step(totals.steps))

    def _step(self, totals: EpochTotals, replies: Sequence[Reply], epoch: int, plan: StepPlan) -> bool:
        """Take one step unless its loss is not finite; return whether it was taken."""
        l2 = self.settings.l2 if plan.l2 is None else float(plan.l2[totals.steps])
        vector, n_weights = flat(self.parameters), sum(w.size for w in self.weights)
        weights = vector[:n_weights]
        loss, penalty = sum(float(reply.totals.losses[0]) for reply in replies), 0.0
        if l2:
            penalty = l2 / 2 * float(np.square(weights, dtype=np.float64).sum())
        weight = sum(reply.weight for reply in replies)
        if loss / (weight or 1.0) > np.finfo(self.settings.dtype).max:
            loss = math.inf  # training stops before gradients overflow
        if not math.isfinite(loss + penalty):
            totals.bad_loss = loss + penalty
            return False
        slots = [flat(list(slot)) for slot in zip(*plan.state, strict=True)]
        if weight:
            gradient = average(replies).astype(vector.dtype)
            if l2:
                gradient[:n_weights] += l2 * weights
            clip([gradient], plan.clipping)
            plan.optimizer.update(vector, gradient, slots, at_step(plan.coefficients, totals.steps))
        sums = (
            totals.losses[epoch] + loss,
            totals.correct[epoch] + sum(int(reply.totals.correct[0]) for reply in replies),
            totals.penalties[epoch] + (penalty if weight else 0.0),
            totals.steps + 1,
        )

        def adopt() -> None:
            fill(self.parameters, vector)
            for slot, numbers in zip(zip(*plan.state, strict=True), slots, strict=True):
                fill(list(slot), numbers)
            totals.losses[epoch], totals.correct[epoch], totals.penalties[epoch], totals.steps = sums

        complete(adopt)
        return True


@dataclass(kw_only=True)
class SpreadTrainer(Trainer):
    """Trains on rows that are spread over workers; `y` is a `Spread`, and `row_weights` have the same sum as all.

    Attributes
    ----------
    n_steps : int or None
        Steps of an epoch of local SGD, in which shards draw the order of their rows; None if the client draws.
    """

    n_steps: int | None = None

    def __post_init__(self) -> None:
        given = self.batch_size
        super().__post_init__()
        if self.n_steps is not None:
            self.batch_size = given
            vars(self.fit).update(n_batches=self.n_steps, batch_size=given)

    def _permutations(self, n_epochs: int) -> Any:
        return super()._permutations(n_epochs) if self.n_steps is None else self.random.generator

    def what_went_wrong(self) -> str | None:
        """Return the words of a warning if the fit has learned nothing, else None."""
        n_losses, n_steps = self._before
        losses, steps, some = self.history.loss[n_losses:], self.history.steps - n_steps, cast(Any, self.y)
        rate = self.state.optimizer.learning_rate
        return what_went_wrong(self.engine, some.X, some.y, some.weights, losses, steps, rate)

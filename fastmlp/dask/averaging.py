"""Training on rows that are spread over workers, and local SGD.

The client keeps the parameters and the optimizer's state. Everything else that `fit` does, such as validation,
callbacks and schedules, happens there as in every other fit; only `Engine.train` asks the workers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.dask.shard import Reply, Rows, all_arrays, fill, flat, some_steps
from fastmlp.dask.shards import Shards, Stopped
from fastmlp.engine.base import Engine, EpochTotals, StepPlan
from fastmlp.interrupts import complete
from fastmlp.losses import Targets
from fastmlp.once import Sharing, each_time
from fastmlp.training import Trainer

__all__ = ["LocalSGD", "OnShards", "Spread"]


def average(replies: Sequence[Reply]) -> npt.NDArray[np.float64]:
    """Return the mean of their vectors by their weights, in float64 and in their order. Equal vectors are the mean."""
    first, total = replies[0].vector.astype(np.float64), sum(reply.weight for reply in replies)
    mean, change = first.copy(), np.empty_like(first)
    for reply in replies[1:]:
        if reply.weight:
            np.subtract(reply.vector, first, out=change)
            change *= reply.weight / total
            mean += change
    return mean


class OnShards(Engine):
    """The engine of a network, but for `train`, which asks the shards of the rows.

    Attributes
    ----------
    shards : Shards
    n_rows : list of int
        Of each shard.
    """

    def __init__(self, engine: Engine, shards: Shards, rows: Sequence[Rows]) -> None:
        super().__init__(engine.settings, engine.n_threads)
        self.weights, self.biases = engine.weights, engine.biases
        self.shards, self.n_rows, self._engine = shards, [some.n_rows for some in rows], engine

    def _adopt(
        self,
        totals: EpochTotals,
        epoch: int,
        n_steps: int,
        replies: Sequence[Reply],
        penalty: float,
        plan: StepPlan,
        vector: npt.NDArray[Any],
    ) -> None:
        """Take over parameters, the optimizer's state, and what the shards have measured in some steps."""
        losses = totals.losses[epoch] + sum(float(reply.totals.losses[0]) for reply in replies)
        correct = totals.correct[epoch] + sum(int(reply.totals.correct[0]) for reply in replies)
        penalties, steps = totals.penalties[epoch] + penalty, totals.steps + n_steps

        def adopt() -> None:
            fill(all_arrays(self, plan.state), vector)
            totals.losses[epoch], totals.correct[epoch], totals.penalties[epoch] = losses, correct, penalties
            totals.steps = steps

        complete(adopt)

    def prepare_inference(self, X: Any, once: Sharing = each_time) -> Any:
        """Return X in the form that is fastest to predict many times."""
        return self._engine.prepare_inference(X, once)

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


class LocalSGD(OnShards):
    """Each shard takes steps of its own; now and then parameters and the optimizer's state are averaged.

    In each step a shard has a part of the batch, as large as its part of all rows, rounded up. So some shards may have
    fewer steps in an epoch.

    Stich (2019), "Local SGD converges fast and communicates little", for plain SGD; Yu, Jin and Yang (2019) average the
    momentum, too.

    Attributes
    ----------
    every : int or None
        Steps between two averages. The last one of an epoch is at its end; None is that alone.
    shuffle : bool
    """

    def __init__(self, engine: Engine, shards: Shards, rows: Sequence[Rows], every: int | None, shuffle: bool) -> None:
        super().__init__(engine, shards, rows)
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
        n_steps, after = len(plan.rates), None
        shuffle, n_rows = self.shuffle and n_steps > 1, [-(-batch_size * n // sum(self.n_rows)) for n in self.n_rows]
        going_on = True
        while totals.steps < n_steps and going_on:
            first, end = totals.steps, min(totals.steps + (self.every or n_steps), n_steps)
            part = replace(some_steps(plan, first, end), state=[], row_weights=None)
            vector = flat(all_arrays(self, plan.state))
            args = [(vector, part, n, order, shuffle, (first, end)) for n in n_rows]
            try:
                replies: list[Reply] = self.shards.call("train", args, lambda: not on_step or on_step(totals.steps))
            except Stopped:
                return
            for i, reply in enumerate(replies):
                totals.bad_loss = reply.totals.bad_loss
                if totals.bad_loss is not None and first + reply.totals.steps:
                    where = f"step {first + reply.totals.steps + 1} of the epoch, in shard {i}"
                    raise FloatingPointError(f"loss is {totals.bad_loss} at {where}; lower learning_rate")
                if totals.bad_loss is not None:
                    return
            penalty, taken = (sum(getattr(reply.totals, name) for reply in replies) for name in ("penalties", "steps"))
            mean_penalty = float(penalty[0]) / max(taken, 1)
            self._adopt(totals, 0, end - first, replies, mean_penalty * (end - first), plan, average(replies))
            after = replies[0].generator_state
            going_on = on_step is None or on_step(totals.steps)
        if after is not None:
            order.bit_generator.state = after


@dataclass(kw_only=True)
class Spread(Trainer):
    """Trains on rows that are spread over workers. X, y and `row_weights` are some of them.

    Attributes
    ----------
    shards : sequence of Rows
    """

    shards: Sequence[Rows]

    @property
    def n_rows(self) -> int:
        """Rows of an epoch."""
        return sum(rows.n_rows for rows in self.shards)

    @cached_property
    def _total_weight(self) -> float:
        return sum(rows.weight for rows in self.shards)

    def _permutations(self, n_epochs: int) -> Any:
        local = isinstance(self.engine, LocalSGD)  # then each shard draws the order of its rows
        return self.random.generator if local else super()._permutations(n_epochs)

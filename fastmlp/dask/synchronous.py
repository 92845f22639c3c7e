"""`SynchronousSGD`: exact SGD with large batches. The gradient of each step is a sum over all shards."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.dask.averaging import ATTEMPTS, OnShards
from fastmlp.dask.shard import SECONDS_PER_CALL, Reply, some_steps
from fastmlp.dask.shards import Stopped
from fastmlp.dask.vectors import all_arrays, descend, flat
from fastmlp.engine.base import EpochTotals, StepPlan
from fastmlp.losses import Targets

__all__ = ["SynchronousSGD"]


class SynchronousSGD(OnShards):
    """Each step follows the gradient of one batch, to which each shard contributes that of its rows.

    So it computes what one process would, up to the rounding of sums. If all workers have xgboost, they add up the
    gradients and take steps among themselves, and the client only sees where they are every half a second.
    Otherwise parameters and gradients go through the client in each step.
    """

    _n_steps = 1  # of the next call

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
        """Train for one epoch."""
        (permutation,), n_steps = order, len(plan.rates)
        if self.settings.l2 and plan.l2 is None:
            plan = replace(plan, l2=np.full(n_steps, self.settings.l2))

        def go_on() -> bool:
            return on_step is None or on_step(totals.steps)

        try:
            while totals.steps < n_steps and totals.bad_loss is None and go_on():
                joined, first = self._have_joined(go_on), totals.steps
                take, end = (
                    (self._by_shards, min(first + self._n_steps, n_steps)) if joined else (self._by_client, first + 1)
                )
                batches = [permutation[i * batch_size : (i + 1) * batch_size] for i in range(first, end)]
                take(totals, self._of_shards(batches), plan, some_steps(plan, first, end), go_on)
        except Stopped:
            pass

    def _of_shards(self, batches: Sequence[npt.NDArray[np.int64]]) -> list[list[npt.NDArray[np.int64]]]:
        """Return for each shard which of its rows are in each batch."""
        ends = np.cumsum(self.n_rows)
        owners = [np.searchsorted(ends, batch, side="right") for batch in batches]
        return [
            [batch[of_rows == i] - (ends[i] - n) for batch, of_rows in zip(batches, owners, strict=True)]
            for i, n in enumerate(self.n_rows)
        ]

    def _by_client(
        self, totals: EpochTotals, of_shards: Any, plan: StepPlan, part: StepPlan, go_on: Callable[[], bool]
    ) -> None:
        """Take one step: add up what the shards return."""
        vector, sent = flat(all_arrays(self, plan.state)), replace(part, state=[], row_weights=None)
        replies = self.shards.call("gradient", [(vector, batch, sent) for (batch,) in of_shards], go_on)
        summed = replies[0].vector.copy()
        for reply in replies[1:]:
            summed += reply.vector
        penalty = descend(vector, summed, sum(w.size for w in self.weights), part, 0)
        if penalty is None:
            totals.bad_loss = _bad_loss(replies)
        else:
            self._adopt(totals, _added(totals, 1, replies, penalty), plan, vector)

    def _by_shards(
        self, totals: EpochTotals, of_shards: Any, plan: StepPlan, part: StepPlan, go_on: Callable[[], bool]
    ) -> None:
        """Let the shards take some steps."""
        vector, sent = flat(all_arrays(self, plan.state)), replace(part, state=[], row_weights=None)
        start = time.perf_counter()
        replies = self.shards.call("descend", [(self._ring, vector, batches, sent) for batches in of_shards], go_on)
        if any(reply is None for reply in replies):
            self._ring = None
            return
        self._attempts_left, n_steps = ATTEMPTS, replies[0].totals.steps
        self._n_steps = max(1, min(2 * self._n_steps, int(n_steps * SECONDS_PER_CALL / (time.perf_counter() - start))))
        if n_steps:
            after = _added(totals, n_steps, replies, float(replies[0].totals.penalties[0]))
            self._adopt(totals, after, plan, replies[0].vector)
        if n_steps < len(part.rates):
            totals.bad_loss = _bad_loss(replies)


def _added(totals: EpochTotals, n_steps: int, replies: Sequence[Reply], penalty: float) -> EpochTotals:
    """Return the totals of an epoch after some more steps."""
    losses = totals.losses + sum(float(reply.totals.losses[0]) for reply in replies)
    correct = totals.correct + sum(int(reply.totals.correct[0]) for reply in replies)
    return EpochTotals(losses, correct, totals.penalties + penalty, totals.steps + n_steps)


def _bad_loss(replies: Sequence[Reply]) -> float:
    """Return a loss that is not finite; without one, the penalty is not."""
    return next((reply.totals.bad_loss for reply in replies if reply.totals.bad_loss is not None), math.inf)

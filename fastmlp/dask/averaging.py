"""Training on rows that are spread over workers, and local SGD.

The client keeps the parameters and the optimizer's state. Everything else that `fit` does, such as validation,
callbacks and schedules, happens there as in every other fit; only `Engine.train` asks the workers.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.dask.shard import Round, Rows, Trained, some_steps
from fastmlp.dask.shards import Shards, Stopped
from fastmlp.dask.vectors import all_arrays, average, fill, flat
from fastmlp.engine.base import Engine, EpochTotals, StepPlan
from fastmlp.interrupts import complete
from fastmlp.losses import Targets
from fastmlp.once import Sharing, each_time
from fastmlp.training import Trainer

__all__ = ["ATTEMPTS", "LocalSGD", "OnShards", "Spread"]

ATTEMPTS = 3  # of the shards to join a ring, until they have worked in it
_WORTH_JOINING = 4  # averages; the time for joining is that of about as many that go through the client
_PLAN_BYTES = 2**24  # of a call of `train`
_SECONDS_ALONE = 5.0  # a round of shards that average among themselves, which wait for each other 20 seconds
_N_ROUNDS = 8  # of the first call of the shards, if it takes no longer than others
_SECONDS_PER_MULTIPLICATION = 5e-10  # in training, at most: some 20 times as long as usual on one core


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
        self._ring: dict[str, Any] | None = None
        self._attempts_left = 0

    def join(self, n_steps: int, n_batches: int) -> None:
        """Let the shards join, if that is worth it, so that they can work without the client.

        Parameters
        ----------
        n_steps : int
            That will be taken.
        n_batches : int
            Steps of an epoch.
        """
        self._attempts_left = ATTEMPTS
        self._have_joined()

    def _have_joined(self, go_on: Callable[[], bool] = lambda: True) -> bool:
        """Return whether the shards are in a ring. They join one, also if a worker has been lost."""
        n = len(self.shards)
        if n > 1 and self._ring is None and self._attempts_left:
            self._attempts_left -= 1
            settings = self.shards.call("track", [(n,)] * n, go_on)
            if None in settings:  # a worker has no xgboost
                self._attempts_left = 0
            elif all(self.shards.call("join", [(settings[0],)] * n, go_on)):
                self._ring = settings[0]
        return self._ring is not None

    def _adopt(
        self, totals: EpochTotals, after: EpochTotals, plan: StepPlan, vector: npt.NDArray[Any], *, order: Any = None
    ) -> None:
        """Take over parameters, the optimizer's state, and what the shards have measured so far.

        `order` is a generator and the state that it is to have.
        """

        def adopt() -> None:
            fill(all_arrays(self, plan.state), vector)
            totals.losses[:], totals.correct[:], totals.penalties[:] = after.losses, after.correct, after.penalties
            totals.steps = after.steps
            if order is not None:
                order[0].bit_generator.state = order[1]

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
        self._is_alone = False  # whether the shards work without the client
        self._n_rounds = _N_ROUNDS // 2  # of the last call
        self._seconds = 0.0  # that a round takes
        self._mean: Floats | None = None  # what the shards have

    def join(self, n_steps: int, n_batches: int) -> None:
        """Let the shards join, if there will be several averages."""
        if n_steps >= _WORTH_JOINING * (self.every or n_batches):
            super().join(n_steps, n_batches)
        n_multiplications = sum(self.n_rows) * sum(parameter.size for parameter in self.parameters)
        part = min(1.0, (self.every or n_batches) / n_batches)  # of an epoch
        self._seconds = part * n_multiplications * _SECONDS_PER_MULTIPLICATION

    def epochs_per_call(self, rows: Any, n_rows: int, n_batches: int) -> int:
        """Return how many epochs one call may take; it looks around in between."""
        return max(1, _PLAN_BYTES // (160 * n_batches))

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
        """Train epoch after epoch; `order` is the generator from which the shards draw theirs."""
        n_steps, n_batches = len(plan.rates), len(plan.rates) // len(totals.losses)
        shuffle = self.shuffle and n_batches > 1
        after = None  # of the generator, once the order of an epoch has been drawn

        def go_on() -> bool:
            return on_step is None or on_step(totals.steps)

        try:
            while totals.steps < n_steps:
                n_rounds = self._n_rounds_of_call(go_on)
                rounds = _rounds(totals.steps, n_steps, n_batches, self.every or n_batches, n_rounds)
                trained = self._call(rounds, totals.steps, order, batch_size, shuffle, plan, go_on)
                if trained is None:  # a ring is broken
                    continue
                after = trained[0].generator_states[1]
                self._take(totals, rounds, trained, order, plan)
                if totals.bad_loss is not None or not go_on():
                    break
        except Stopped:
            pass
        if after is not None and totals.steps % n_batches:
            order.bit_generator.state = after

    def _n_rounds_of_call(self, go_on: Callable[[], bool]) -> int:
        """Return how many rounds the shards may train in a row.

        There are several if the shards need nobody to average. They must be short: none waits for the others for ever.
        The shards return before the last one if that takes them long.
        """
        self._is_alone = self._seconds < _SECONDS_ALONE and (len(self.shards) == 1 or self._have_joined(go_on))
        return 2 * self._n_rounds if self._is_alone else 1

    def _call(
        self,
        rounds: Sequence[Round],
        first: int,
        order: Any,
        batch_size: int,
        shuffle: bool,
        plan: StepPlan,
        go_on: Callable[[], bool],
    ) -> list[Trained] | None:
        """Let the shards train for some rounds; return None if they have lost what they need for that."""
        settings, vector = self._ring if self._is_alone else None, flat(all_arrays(self, plan.state))
        n_steps = sum(one.end - one.first for one in rounds)
        known = self._mean is not None and np.array_equal(vector.view(np.uint8), self._mean.view(np.uint8))
        part = replace(some_steps(plan, first, first + n_steps), state=[], row_weights=None)
        args = [
            (settings, None if known else vector, part, -(-batch_size * n // sum(self.n_rows)), order, shuffle, rounds)
            for n in self.n_rows
        ]
        self._mean, start = None, time.perf_counter()
        trained: list[Trained | None] = self.shards.call("train", args, go_on)
        if None in trained:
            self._ring = None
            return None
        done = cast(list[Trained], trained)
        self._n_rounds = len(done[0].totals)
        self._seconds = (time.perf_counter() - start) / self._n_rounds
        if settings is not None:
            self._attempts_left = ATTEMPTS
        return done

    def _take(
        self, totals: EpochTotals, rounds: Sequence[Round], trained: Sequence[Trained], order: Any, plan: StepPlan
    ) -> None:
        """Take over what the shards have come to after the last round in which no loss was bad."""
        done, bad, n_batches = copy.deepcopy(totals), None, len(plan.rates) // len(totals.losses)
        for one, *parts in zip(rounds, *(shard.totals for shard in trained), strict=False):
            bad = next((i for i, part in enumerate(parts) if part.bad_loss is not None), None)
            if bad is not None:
                break
            penalty, taken = (sum(getattr(part, name) for part in parts) for name in ("penalties", "steps"))
            done.losses[one.epoch] += sum(float(part.losses[0]) for part in parts)
            done.correct[one.epoch] += sum(int(part.correct[0]) for part in parts)
            done.penalties[one.epoch] += float(penalty[0]) / max(taken, 1) * (one.end - one.first)
            done.steps += one.end - one.first
        if done.steps > totals.steps:
            by_client = not self._is_alone
            vector = _mean(trained) if by_client else trained[0].vector
            before, after = trained[0].generator_states
            state = before if done.steps % n_batches or bad is not None else after
            self._adopt(totals, done, plan, vector, order=(order, state))
            self._mean = None if by_client else vector
        if bad is not None:
            self._mean, totals.bad_loss = None, parts[bad].bad_loss
            if one.first + parts[bad].steps:
                where = f"step {one.first + parts[bad].steps + 1} of the epoch, in shard {bad}"
                raise FloatingPointError(f"loss is {totals.bad_loss} at {where}; lower learning_rate")


def _rounds(first: int, n_steps: int, n_batches: int, every: int, n_rounds: int) -> list[Round]:
    """Return the next rounds, from the step `first` of `n_steps` on."""
    rounds: list[Round] = []
    while first < n_steps and len(rounds) < n_rounds:
        epoch, step = divmod(first, n_batches)
        rounds.append(Round(epoch, step, min(step + every, n_batches)))
        first += rounds[-1].end - step
    return rounds


def _mean(trained: Sequence[Trained]) -> Floats:
    mean = np.empty_like(trained[0].vector)
    average([one.vector for one in trained], [one.weight for one in trained], out=mean)
    return mean


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

    def prepare(self, once: Sharing = each_time) -> None:
        """Do everything that may take long or fail before training begins."""
        super().prepare(once)
        cast(OnShards, self.engine).join(self.n_steps, self.fit.n_batches)

    def _permutations(self, n_epochs: int) -> Any:
        local = isinstance(self.engine, LocalSGD)  # then each shard draws the order of its rows
        return self.random.generator if local else super()._permutations(n_epochs)

"""`Shard`, an actor: it holds some of the rows on a worker, and trains there. Everything here runs on a worker."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
from distributed import get_worker
from numpy.random import Generator

from fastmlp.activations import Floats
from fastmlp.dask.partitions import stacked
from fastmlp.dask.ring import Broken, Ring, Tracker, Vote
from fastmlp.dask.vectors import all_arrays, descend, fill, flat
from fastmlp.engine.base import Clipping, EpochTotals, StepPlan, total_weight
from fastmlp.engine.compiled import CompiledEngine
from fastmlp.fitting import check_data
from fastmlp.losses import Targets
from fastmlp.mlp import MLP
from fastmlp.names import Names
from fastmlp.optimizers import Optimizer
from fastmlp.random import permutations
from fastmlp.validation.rows import check_sample_weight

__all__ = ["SECONDS_PER_CALL", "Reply", "Round", "Rows", "Shard", "Trained", "Twin", "some_steps"]


SECONDS_PER_CALL = 0.5
"""About how long the shards work without the client. It costs the client some milliseconds to call them, and it only
has what they have come to when a call returns."""


class Twin(NamedTuple):
    """Settings and names of the client's network, of which a shard makes one of its own."""

    settings: dict[str, Any]
    names: Names


class Rows(NamedTuple):
    """What the client knows of the rows of a shard.

    Attributes
    ----------
    n_rows : int
    weight : float
        Sum of the weights of the rows.
    X, y, weights : arrays
        Some of them, evenly spaced; weights are None if all are 1.
    """

    n_rows: int
    weight: float
    X: Any
    y: Targets
    weights: Floats | None


@dataclass
class Reply:
    """What some steps that all shards take together have come to.

    Attributes
    ----------
    vector : (k,) array
        The gradient, or the parameters and the optimizer's state after all steps, see `vectors`.
    totals : EpochTotals
    """

    vector: Floats
    totals: EpochTotals


class Round(NamedTuple):
    """The steps from one average to the next, all of one epoch.

    Attributes
    ----------
    epoch : int
        Counted from that of the plan.
    first, end : int
        Steps of this epoch.
    """

    epoch: int
    first: int
    end: int


@dataclass
class Trained:
    """What some rounds have come to, for a shard.

    Attributes
    ----------
    totals : list of EpochTotals
        Of each round, unless the time for a call was over before. The last one may have ended early, since a loss was
        not finite.
    vector : (k,) array
        Parameters and the optimizer's state: the last mean if the shards average among themselves and this is the
        first one, or those of this shard, which the client is to average.
    weight : float
        Sum of the weights of the rows of the last round.
    generator_states : tuple of two states
        Of the generator, before and after the order of the rows has been drawn for the epoch of the last round. The
        first shard draws as the client would.
    """

    totals: list[EpochTotals]
    vector: Floats
    weight: float = 0.0
    generator_states: tuple[Any, Any] = (None, None)


def some_steps(plan: StepPlan, first: int, end: int) -> StepPlan:
    """Return the plan of some of the steps."""
    coefficients = {name: numbers[first:end] for name, numbers in plan.coefficients.items()}
    l2 = None if plan.l2 is None else plan.l2[first:end]
    return replace(plan, rates=plan.rates[first:end], coefficients=coefficients, l2=l2)


class Shard:
    """Some of the rows, and a network that is trained on them.

    Its coroutines are called by the client: they let the shards of one worker run at the same time.

    Parameters
    ----------
    twin : Twin
    index : int
        Number of the shard.
    n_threads : int
    every : int
        Each of so many rows is a sample for the client.
    numbers : list of int
        Of its partitions.
    X, y, weights : lists of blocks of rows
    """

    def __init__(
        self,
        twin: Twin,
        index: int,
        n_threads: int,
        every: int,
        numbers: Sequence[int],
        X: Sequence[Any],
        y: Sequence[Any],
        weights: Sequence[Any],
    ) -> None:
        self._twin, self._index, self._n_threads, self._every = twin, index, n_threads, every
        self._blocks: Any = list(zip(numbers, X, y, weights, strict=True))
        self._stopped = False
        self._ring: Ring | None = None
        self._tracker: Tracker | None = None
        self._host = urlsplit(get_worker().address).hostname or "127.0.0.1"
        self._thread = ThreadPoolExecutor(1)  # its own: a ring belongs to a thread
        self._drawn: tuple[Any, tuple[Any, Any]] = (None, (None, None))
        self._is_known = False  # whether the client knows what the network has: what the last call has returned

    async def do(self, method: str, *args: Any) -> Any:
        """Return what a method below returns, while others may run in other shards of the same worker."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, getattr(self, method), *args)

    async def stop(self) -> None:
        """End what goes on after its current step."""
        self._stopped = True
        self._thread.submit(self._leave)
        if self._tracker is not None:
            self._thread.submit(self._tracker.close)

    # --- preparation --------------------------------------------------------------------------------------------------

    def check(self) -> npt.NDArray[np.int64]:
        """Check the rows; return how many there are of each class."""
        net = MLP(**self._twin.settings, n_threads=self._n_threads)
        net._names = self._twin.names
        self._engine, loss = cast(CompiledEngine, net._engine), net._loss
        self._n_weights = sum(w.size for w in net.weights)
        X, y, weights = [], [], []
        for number, given, labels, given_weights in self._blocks:
            what = f"partition {number}: "
            X_, y_ = check_data(net, given, labels, what)
            X.append(X_)
            y.append(y_)
            try:
                w = check_sample_weight(given_weights, len(y_))
            except (TypeError, ValueError) as error:
                raise type(error)(f"{what}{error}") from error
            weights.append(np.ones(len(y_)) if w is None else w)
        if len({X_.dtype for X_ in X}) > 1:  # bytes, but not everywhere
            scale = np.dtype(net.dtype).type(net.input_scale)
            X = [X_ if X_.dtype == net.dtype else X_ * scale for X_ in X]
        self._X, self._y = stacked(X), stacked(y)
        self._weights = None if all(block[3] is None for block in self._blocks) else np.concatenate(weights)
        del self._blocks
        return np.bincount(loss.decode(self._y), minlength=loss.n_classes) if loss.n_classes else np.zeros(0, np.int64)

    def prepare(self, optimizer: Optimizer, clipping: Clipping, class_weight: Floats | None) -> Rows:
        """Pack the rows if that is worth it, and compile or load the kernels."""
        settings, weights = self._engine.settings, self._weights
        if class_weight is not None:
            weights = class_weight[settings.loss.decode(self._y)] * (1 if weights is None else weights)
        self._row_weights = w = None if weights is None else weights.astype(settings.dtype)
        self._rows = self._engine.prepare(self._X, optimizer, clipping)
        self._state = self._engine.new_state(optimizer.slots)
        some = slice(None, None, self._every)
        X, y, of_some = self._X[some], self._y[some], None if w is None else w[some]
        del self._X
        return Rows(len(self._y), total_weight(len(self._y), w), X, y, of_some)

    def _weight_of(self, rows: npt.NDArray[np.int64]) -> float:
        return total_weight(len(rows), None if self._row_weights is None else self._row_weights[rows])

    # --- training -----------------------------------------------------------------------------------------------------

    def train(
        self,
        settings: dict[str, Any] | None,
        vector: Floats | None,
        plan: StepPlan,
        batch_size: int,
        generator: Generator,
        shuffle: bool,
        rounds: Sequence[Round],
    ) -> Trained | None:
        """Train for some rounds, or fewer if they take long. After each the shards average what they have.

        Parameters
        ----------
        settings : dict or None
            Of the ring in which the shards average; None if the client does so after a single round, or if this is
            the only shard.
        vector : (k,) array or None
            Parameters and the optimizer's state to begin with; None if the shard has them, from its last mean.
        plan : StepPlan
            Of the steps of these rounds.
        batch_size : int
            Rows of a step in this shard.
        generator : Generator
            The client's at the beginning of the first of these epochs.
        shuffle : bool
        rounds : list of Round

        Returns
        -------
        Trained or None
            None if the ring is broken, or if the shard does not have what it is to begin with.
        """
        ring = None if settings is None else self._ring
        if not (settings is None or self._is_in(settings)) or not (self._is_known or vector is not None):
            return None
        if vector is not None:
            fill(all_arrays(self._engine, self._state), vector)
        self._is_known = False
        try:
            trained, self._is_known = self._train(ring, plan, batch_size, copy.deepcopy(generator), shuffle, rounds)
        except Broken:
            self._leave()
            return None
        if ring is not None and self._index:
            trained.vector = trained.vector[:0]
        return trained

    def _train(
        self,
        ring: Ring | None,
        plan: StepPlan,
        batch_size: int,
        generator: Generator,
        shuffle: bool,
        rounds: Sequence[Round],
    ) -> tuple[Trained, bool]:
        """Return what that has come to, and whether the network has the vector of it."""
        end, vote = time.perf_counter() + SECONDS_PER_CALL, Vote.GO_ON
        own, drawn_for, n_before = all_arrays(self._engine, self._state), None, 0
        vector, last = flat(own), flat(own)
        trained = Trained([], vector[:0])
        for one in rounds:
            if one.epoch != drawn_for:
                if drawn_for is not None:
                    after = trained.generator_states[1]
                    generator.bit_generator.state = after if ring is None else ring.broadcast(after)
                order, trained.generator_states = self._order(generator, shuffle)
                drawn_for = one.epoch
            n_steps = one.end - one.first
            part = replace(some_steps(plan, n_before, n_before + n_steps), epoch=plan.epoch + one.epoch)
            n_before += n_steps
            totals, weight = self._steps(part, batch_size, order[:, one.first * batch_size : one.end * batch_size])
            vector, last = flat(own, out=last), vector
            vote = Vote.GO_ON if time.perf_counter() < end else Vote.RETURN
            if totals.bad_loss is not None or self._stopped:
                vote = Vote.DROP
            if ring is not None:
                vote = ring.mean(vector, weight, vote)
                if vote != Vote.DROP:
                    fill(own, vector)
            trained.totals.append(totals)
            trained.weight = weight
            if vote != Vote.DROP:
                trained.vector = vector
            if vote != Vote.GO_ON:
                break
        return trained, vote != Vote.DROP

    def _steps(self, plan: StepPlan, batch_size: int, order: npt.NDArray[np.int64]) -> tuple[EpochTotals, float]:
        """Take these steps, or fewer if there are no more rows; return what they come to, and the rows' weight."""
        totals, n_steps = EpochTotals.zeros(1), -(-order.size // batch_size)
        if n_steps:
            plan = replace(some_steps(self._own(plan), 0, n_steps), state=self._state)
            self._engine.train(totals, self._rows, self._y, order, batch_size, plan, lambda _: not self._stopped)
        return totals, self._weight_of(order[0])

    def _own(self, plan: StepPlan) -> StepPlan:
        """Return a plan for the rows of this shard, which are not to be dropped like those of others."""
        return replace(plan, row_weights=self._row_weights, seed=(plan.seed + self._index) % 2**32)

    def _order(self, generator: Generator, shuffle: bool) -> tuple[npt.NDArray[np.int64], tuple[Any, Any]]:
        """Return the order (1, n) of the rows in the epoch that begins with this generator, and its states around that.

        The first shard draws what the client would draw, the others far away in the same sequence of numbers.
        """
        given = generator.bit_generator.state
        if self._drawn[1][0] != given:
            bits = copy.deepcopy(generator.bit_generator)
            generator = Generator(bits.jumped(self._index) if self._index else bits)  # type: ignore[attr-defined]
            order = permutations(generator, 1, len(self._y), shuffle)
            self._drawn = order, (given, generator.bit_generator.state)
        return self._drawn

    def gradient(self, vector: Floats, batch: npt.NDArray[np.int64], plan: StepPlan) -> Reply:
        """Return the gradient of the mean loss of some rows, times their weight, this weight, and 1 to stop, else 0.

        `vector` has the parameters. There is no penalty. The weight is nan if the loss is not finite.
        """
        totals, parameters = EpochTotals.zeros(1), self._engine.parameters
        n, weight = sum(parameter.size for parameter in parameters), self._weight_of(batch)
        fill(parameters, vector[:n])
        dw, db = self._engine.batch_gradients(totals, self._rows, self._y, batch, self._own(plan))
        scaled = np.empty(n + 2, vector.dtype)
        np.concatenate([array.ravel() for array in dw + db], out=scaled[:n])
        scaled[:n] *= scaled.dtype.type(weight)
        scaled[n:] = weight, self._stopped
        if not totals.losses[0] <= float(np.finfo(vector.dtype).max) * (weight or 1.0):
            scaled[n], totals.bad_loss = np.nan, float(totals.losses[0])
        return Reply(scaled, totals)

    # --- steps of all shards together, without the client -------------------------------------------------------------

    def track(self, n_shards: int) -> dict[str, Any] | None:
        """Let the first shard begin a ring; return what others need to join it, or None if xgboost does not work."""
        if find_spec("xgboost") is None:
            return None
        try:
            import_module("xgboost")  # which may take seconds, so all do it at the same time
            if self._index:
                return {}
            if self._tracker is not None:
                self._tracker.close()
            self._tracker = Tracker(n_shards, self._host)
        except Exception:  # such as a library that it needs, or an address that is not known here
            return None
        return self._tracker.settings

    def join(self, settings: dict[str, Any]) -> bool:
        """Join the other shards; return whether all have come."""
        self._leave()
        try:
            self._ring = Ring(settings, self._index)
        except (Broken, ImportError):
            return False
        return True

    def _is_in(self, settings: dict[str, Any] | None) -> bool:
        """Return whether the shard is in this ring; None is no ring."""
        return settings == (None if self._ring is None else self._ring.settings)

    def _leave(self) -> None:
        self._is_known = False
        if self._ring is not None:
            self._ring.close()
            self._ring = None

    def descend(
        self, settings: dict[str, Any], vector: Floats, batches: Sequence[npt.NDArray[np.int64]], plan: StepPlan
    ) -> Reply | None:
        """Take a step on each of some batches, of which this shard has these rows, with the others of its ring.

        All shards come to the same parameters; the first one returns them. None is returned if the ring is broken.
        """
        if self._ring is None or not self._is_in(settings):
            return None
        totals, vector = EpochTotals.zeros(1), vector.copy()
        try:
            for step, batch in enumerate(batches):
                own = self.gradient(vector, batch, plan)
                summed = self._ring.sum(own.vector)
                if summed[-1]:  # somebody is to stop, so all do
                    break
                penalty = descend(vector, summed, self._n_weights, plan, step)
                if penalty is None:
                    totals.bad_loss = own.totals.bad_loss
                    break
                totals.losses += own.totals.losses
                totals.correct += own.totals.correct
                totals.penalties += penalty
                totals.steps += 1
        except Broken:
            self._leave()
            return None
        return Reply(vector if self._index == 0 else vector[:0], totals)

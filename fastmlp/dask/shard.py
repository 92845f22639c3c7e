"""`Shard`, an actor: it holds some of the rows on a worker, and trains there. Everything here runs on a worker."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
from distributed import get_worker
from numpy.random import Generator

from fastmlp.activations import Floats
from fastmlp.dask.partitions import stacked
from fastmlp.dask.ring import Broken, Ring, Tracker
from fastmlp.engine.base import Clipping, Engine, EpochTotals, StepPlan, total_weight
from fastmlp.engine.compiled import CompiledEngine
from fastmlp.fitting import check_data
from fastmlp.losses import Targets
from fastmlp.mlp import MLP
from fastmlp.names import Names
from fastmlp.optimizers import Optimizer, at_step
from fastmlp.random import permutations
from fastmlp.reference import clip
from fastmlp.validation.rows import check_sample_weight

__all__ = ["Reply", "Rows", "Shard", "Twin", "all_arrays", "descend", "fill", "flat", "some_steps"]


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
    """What some steps have come to.

    Attributes
    ----------
    vector : (k,) array
        What is to be averaged, see `flat`: parameters and the optimizer's state, or the gradient.
    totals : EpochTotals
    weight : float
        Sum of the weights of the rows in these steps.
    generator_state : Any
        That of the generator, after the order of the rows has been drawn.
    """

    vector: Floats
    totals: EpochTotals
    weight: float
    generator_state: Any = None


def flat(arrays: Sequence[Floats]) -> Floats:
    """Return all numbers of some arrays in one, which travels in one piece; padding stays behind."""
    return np.concatenate([array.ravel() for array in arrays])


def fill(arrays: Sequence[Floats], vector: npt.NDArray[Any]) -> None:
    """Write what `flat` has returned, or a mean of such vectors, into the arrays."""
    for array, numbers in zip(arrays, np.split(vector, np.cumsum([array.size for array in arrays])[:-1]), strict=True):
        array[...] = numbers.reshape(array.shape)


def all_arrays(engine: Engine, state: Sequence[Sequence[Floats]]) -> list[Floats]:
    """Return the parameters, and the optimizer's state slot by slot."""
    return engine.parameters + [array for slot in zip(*state, strict=True) for array in slot]


def some_steps(plan: StepPlan, first: int, end: int) -> StepPlan:
    """Return the plan of some of the steps."""
    coefficients = {name: numbers[first:end] for name, numbers in plan.coefficients.items()}
    l2 = None if plan.l2 is None else plan.l2[first:end]
    return replace(plan, rates=plan.rates[first:end], coefficients=coefficients, l2=l2)


def descend(vector: Floats, summed: Floats, n_weights: int, plan: StepPlan, step: int) -> float | None:
    """Take a step in place, and return the penalty before it; None without a step if a loss is not finite.

    Parameters
    ----------
    vector : (k,) array
        Parameters, of which the first `n_weights` are weights, and the optimizer's state slot by slot.
    summed : (n_parameters + 2,) array
        Sum of what `Shard.gradient` has returned.
    n_weights : int
    plan : StepPlan
    step : int
        Of this plan.
    """
    parameters, *slots = np.split(vector, 1 + plan.optimizer.slots)
    weights, weight, l2 = parameters[:n_weights], summed[-2], 0.0 if plan.l2 is None else float(plan.l2[step])
    penalty = l2 / 2 * float(np.square(weights, dtype=np.float64).sum()) if l2 else 0.0
    if not np.isfinite(weight + penalty):
        return None
    if not weight:
        return 0.0
    gradient = summed[:-2] / weight
    if l2:
        gradient[:n_weights] += l2 * weights
    clip([gradient], plan.clipping)
    plan.optimizer.update(parameters, gradient, slots, at_step(plan.coefficients, step))
    return penalty


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
        self._drawn: tuple[Any, Any, Any] = (None, None, None)

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
        vector: Floats,
        plan: StepPlan,
        batch_size: int,
        generator: Generator,
        shuffle: bool,
        steps: tuple[int, int],
    ) -> Reply:
        """Take some steps of an epoch from the parameters and the optimizer's state in `vector`.

        `plan` is that of these steps. `generator` is the client's at the beginning of the epoch.
        """
        order, after = self._order(generator, shuffle)
        order = order[:, slice(*(step * batch_size for step in steps))]
        own, totals = all_arrays(self._engine, self._state), EpochTotals.zeros(1)
        fill(own, vector)
        n_steps = -(-order.size // batch_size)
        if n_steps:
            plan = replace(some_steps(self._own(plan), 0, n_steps), state=self._state)
            self._engine.train(totals, self._rows, self._y, order, batch_size, plan, lambda _: not self._stopped)
        return Reply(flat(own), totals, self._weight_of(order[0]), after)

    def _own(self, plan: StepPlan) -> StepPlan:
        """Return a plan for the rows of this shard, which are not to be dropped like those of others."""
        return replace(plan, row_weights=self._row_weights, seed=(plan.seed + self._index) % 2**32)

    def _order(self, generator: Generator, shuffle: bool) -> tuple[npt.NDArray[np.int64], Any]:
        """Return the order (1, n) of the rows in the epoch that begins with this generator, and its state after that.

        The first shard draws what the client would draw, the others far away in the same sequence of numbers.
        """
        given = generator.bit_generator.state
        if self._drawn[0] != given:
            bits = copy.deepcopy(generator.bit_generator)  # shards in the client's process get the same object
            generator = Generator(bits.jumped(self._index) if self._index else bits)  # type: ignore[attr-defined]
            order = permutations(generator, 1, len(self._y), shuffle)
            self._drawn = given, order, generator.bit_generator.state
        return self._drawn[1:]

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
        return Reply(scaled, totals, weight)

    # --- steps of all shards together, without the client -------------------------------------------------------------

    def track(self, n_shards: int) -> dict[str, Any] | None:
        """Let the first shard begin a ring; return what the others need to join it, or None without xgboost."""
        if find_spec("xgboost") is None:
            return None
        if self._index:
            return {}
        if self._tracker is not None:
            self._tracker.close()
        self._tracker = Tracker(n_shards, self._host)
        return self._tracker.settings

    def join(self, settings: dict[str, Any]) -> bool:
        """Join the other shards; return whether all have come."""
        self._leave()
        try:
            self._ring, self._ring_settings = Ring(settings, self._index), settings
        except (Broken, ImportError):
            return False
        return True

    def _leave(self) -> None:
        if self._ring is not None:
            self._ring.close()
            self._ring = None

    def descend(
        self, settings: dict[str, Any], vector: Floats, batches: Sequence[npt.NDArray[np.int64]], plan: StepPlan
    ) -> Reply | None:
        """Take a step on each of some batches, of which this shard has these rows, with the others of its ring.

        All shards come to the same parameters; the first one returns them. None is returned if the ring is broken.
        """
        if self._ring is None or self._ring_settings != settings:
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
        return Reply(vector if self._index == 0 else vector[:0], totals, 0.0)

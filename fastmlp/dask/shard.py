"""`Shard`, an actor: it holds some of the rows on a worker, and trains there. Everything here runs on a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from fastmlp.activations import Floats
from fastmlp.dask.partitions import stacked
from fastmlp.engine.base import Clipping, Engine, EpochTotals, StepPlan, total_weight
from fastmlp.engine.compiled import CompiledEngine
from fastmlp.fitting import check_data
from fastmlp.losses import Targets
from fastmlp.mlp import MLP
from fastmlp.names import Names
from fastmlp.optimizers import Optimizer
from fastmlp.random import permutations
from fastmlp.validation.rows import check_sample_weight

__all__ = ["Reply", "Rows", "Shard", "Twin", "all_arrays", "fill", "flat", "some_steps"]


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


class Shard:
    """Some of the rows, and a network that is trained on them.

    Its methods are coroutines, so the shards of one worker run at the same time, and `stop` is heard meanwhile.

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
        self._drawn: tuple[Any, Any, Any] = (None, None, None)

    async def stop(self) -> None:
        """End `train` after its current step."""
        self._stopped = True

    # --- preparation --------------------------------------------------------------------------------------------------

    async def check(self) -> npt.NDArray[np.int64]:
        """Check the rows; return how many there are of each class."""
        return await asyncio.to_thread(self._check)

    def _check(self) -> npt.NDArray[np.int64]:
        net = MLP(**self._twin.settings, n_threads=self._n_threads)
        net._names = self._twin.names
        self._engine, loss = cast(CompiledEngine, net._engine), net._loss
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

    async def prepare(self, optimizer: Optimizer, clipping: Clipping, class_weight: Floats | None) -> Rows:
        """Pack the rows if that is worth it, and compile or load the kernels."""
        return await asyncio.to_thread(self._prepare, optimizer, clipping, class_weight)

    def _prepare(self, optimizer: Optimizer, clipping: Clipping, class_weight: Floats | None) -> Rows:
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

    async def train(
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
        return await asyncio.to_thread(self._train, vector, plan, batch_size, generator, shuffle, steps)

    def _train(
        self,
        vector: Floats,
        plan: StepPlan,
        batch_size: int,
        generator: Generator,
        shuffle: bool,
        steps: tuple[int, int],
    ) -> Reply:
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
            if self._index:
                generator = Generator(generator.bit_generator.jumped(self._index))  # type: ignore[attr-defined]
            order = permutations(generator, 1, len(self._y), shuffle)
            self._drawn = given, order, generator.bit_generator.state
        return self._drawn[1:]

    async def gradient(self, vector: Floats, batch: npt.NDArray[np.int64], plan: StepPlan) -> Reply:
        """Return the gradient of the mean loss of some rows, without penalty, for the parameters in `vector`."""
        return await asyncio.to_thread(self._gradient, vector, batch, plan)

    def _gradient(self, vector: Floats, batch: npt.NDArray[np.int64], plan: StepPlan) -> Reply:
        fill(self._engine.parameters, vector)
        totals = EpochTotals.zeros(1)
        dw, db = self._engine.batch_gradients(totals, self._rows, self._y, batch, self._own(plan))
        return Reply(flat(dw + db), totals, self._weight_of(batch))

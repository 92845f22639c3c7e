"""`InBlocks`: training on rows that are read block by block."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.data.checked import CheckedBlocks, Piece, part_of, stacked, targets_of
from fastmlp.data.mixing import Mix, Mixes
from fastmlp.data.read_ahead import ReadAhead
from fastmlp.engine.base import EpochTotals
from fastmlp.hooks import call_hooks
from fastmlp.interrupts import complete, finish
from fastmlp.losses import Targets
from fastmlp.random import mix_seed
from fastmlp.training import Counts, Trainer, Unfinished

__all__ = ["InBlocks"]


class _Read(NamedTuple):
    """A mix that has been read: some rows, what `Engine.prepare` made of all, their targets, weights and order."""

    mix: Mix
    some: Piece
    prepared: Any
    y: Targets
    weights: Floats | None
    order: npt.NDArray[np.int64]


@dataclass(kw_only=True)
class InBlocks(Trainer):
    """Trains on blocks. X, y and `row_weights` are some of the first rows.

    Attributes
    ----------
    checked : CheckedBlocks
    """

    checked: CheckedBlocks

    def __post_init__(self) -> None:
        super().__post_init__()
        blocks = self.checked.blocks
        self._mixes = Mixes(
            blocks._source.lengths,
            self.batch_size,
            blocks._most_rows(self.batch_size),
            blocks._source.any_order,
            self.shuffle,
        )
        self._some = Piece(self.X, self.y, self.row_weights)
        at = self.state.unfinished
        if at is not None and (at.n_rows, at.batch_size) != (self.n_rows, self.batch_size):
            raise ValueError(
                f"resume=True continues an epoch of {at.n_rows} rows in batches of {at.batch_size}, but there are "
                f"{self.n_rows} rows in batches of {self.batch_size}"
            )
        if at is not None and at.order not in (0, self._mixes.checksum):
            raise ValueError(
                "resume=True continues an epoch in which rows had another order; give Blocks with the same rows "
                "and mix, and the same shuffle"
            )

    @property
    def n_rows(self) -> int:
        """Rows of an epoch."""
        return self.checked.blocks.n_rows

    @cached_property
    def _total_weight(self) -> float:
        return self.checked.weight

    def _epochs_per_call(self) -> int:
        return 1

    def _counts(self) -> Counts:
        """Return what had been done when the epoch began, of which a part may have been taken by an earlier fit."""
        counts, at = super()._counts(), self.state.unfinished
        if at is None or not at.steps:
            return counts
        return counts._replace(
            history_steps=counts.history_steps - at.steps, steps=counts.steps - at.steps, passes=counts.passes - 1
        )

    def _drawn(self, n_epochs: int) -> tuple[npt.NDArray[np.float64], Callable[..., None]]:
        """Draw the order of the blocks; return the last learning rate, and what trains the epoch."""
        n_batches = self.fit.n_batches
        last_rate = self._rates((self.fit.epoch + 1) * n_batches - 1, 1)
        at = self.state.unfinished
        if at is None:
            generator = copy.deepcopy(self.random.generator)
            key, order = int(generator.integers(2**63)), self._mixes.checksum
            at = Unfinished(key, n_rows=self.n_rows, batch_size=self.batch_size, order=order)

            def begin() -> None:
                self.state.unfinished, self.random.generator = at, generator

            complete(begin)
        self._at = at
        self._start = time.perf_counter() - at.seconds

        def train(totals: EpochTotals, on_step: Callable[[int], bool]) -> None:
            totals.losses[0], totals.correct[0], totals.penalties[0] = at.loss, at.correct, at.penalty
            totals.steps = at.steps
            ahead = ReadAhead(self._read(at.key, at.steps))

            def take_all() -> None:
                while totals.steps < n_batches:
                    read = ahead.next(lambda: on_step(totals.steps))
                    if read is None or not self._take(read, totals, on_step):
                        return
                    if totals.steps < n_batches:
                        self._record(totals, last_rate)
                        call_hooks(self.callbacks, "on_mix_end", self.net, self.fit)
                        if not on_step(totals.steps):
                            return

            finish(take_all, ahead.close)

        return last_rate, train

    def _take(self, read: _Read, totals: EpochTotals, on_step: Callable[[int], bool]) -> bool:
        """Take the steps of a mix that are left; return whether that was all."""
        self._some = read.some
        self.row_weights = read.weights
        first, size = totals.steps, self.batch_size
        order = read.order[first * size - read.mix.first :]
        n_steps = -(-len(order) // size)
        plan = self._step_plan(order[None], self._rates(self.fit.epoch * self.fit.n_batches + first, n_steps))
        plan = replace(plan, seed=mix_seed(plan.seed, read.mix.number))
        some = replace(totals, steps=0)  # the sums go on

        def train() -> None:
            self.engine.train(some, read.prepared, read.y, order[None], size, plan, lambda n: on_step(first + n))

        def settle() -> None:
            totals.steps, totals.bad_loss = first + some.steps, some.bad_loss

        finish(train, settle)
        return some.steps == n_steps

    def _some_rows(self) -> tuple[Any, Targets, Floats | None, npt.NDArray[np.int64] | None]:
        """Return some rows of the last mix."""
        return *self._some[:3], None

    def _record(self, totals: EpochTotals, rates: npt.NDArray[np.float64]) -> None:
        at = self._at
        super()._record(totals, rates)
        if self.fit.epoch == self._begun.epoch:
            self.state.unfinished = replace(
                at,
                steps=totals.steps,
                loss=float(totals.losses[0]),
                correct=int(totals.correct[0]),
                penalty=float(totals.penalties[0]),
                seconds=time.perf_counter() - self._start,
            )

    def _read(self, key: int, step: int) -> Iterator[_Read]:
        """Yield the mixes of an epoch from a step on. This runs in the thread that reads ahead."""
        order, mixes = self._mixes.blocks(key), list(self._mixes.after(step))
        if not mixes:
            return
        ends = np.cumsum(self._mixes.lengths[order])
        begin = int(np.searchsorted(ends, mixes[0].first, side="right"))
        place = int(ends[begin] - self._mixes.lengths[order[begin]])
        finite = not self.engine.checks_finite
        with closing(self.checked.read(order[begin:].tolist(), finite=finite)) as blocks:
            buffers, rest = _Buffers(self._mixes.rows_of_a_mix), None
            for mix in mixes:
                buffers.begin()
                while place < mix.end:
                    piece = next(blocks) if rest is None else rest
                    end = min(mix.end - place, len(piece.y))
                    buffers.add(part_of(piece, max(mix.first - place, 0), end))
                    if end < len(piece.y):  # the rest belongs to the next mix
                        rest = piece
                        break
                    place, rest = place + end, None
                X = buffers.rows()
                prepared = self._prepared(buffers.pieces, X)
                if not self.engine.is_copy(prepared):
                    buffers.turn()
                y, weights = targets_of(buffers.pieces)
                some = _sample(Piece(X, y, weights), self.checked.n_few)
                yield _Read(mix, some, prepared, y, weights, self._mixes.rows(key, mix))

    def _prepared(self, pieces: list[Piece], X: Any) -> Any:
        """Return the rows of a mix as the engine takes them. An error names the row among all rows."""
        try:
            return self.engine.prepare(X, self.state.optimizer, self.clipping)
        except ValueError:
            for piece in pieces:
                self.checked.check_finite(piece)
            raise


class _Buffers:
    """Memory for the rows of two mixes in turn, where they are arrays.

    Attributes
    ----------
    pieces : list of Piece
        Of the mix.
    """

    def __init__(self, n_rows: int) -> None:
        self._n_rows, self._turn, self.pieces = n_rows, 0, list[Piece]()
        self._buffers: list[npt.NDArray[Any] | None] = [None, None]

    def begin(self) -> None:
        """Begin a mix."""
        self.pieces, self._place = [], 0

    def turn(self) -> None:
        """Leave the rows where they are until the mix after the next."""
        self._turn = 1 - self._turn

    def add(self, piece: Piece) -> None:
        """Add rows to the mix; those of arrays are copied."""
        n = len(piece.y)
        if isinstance(piece.X, np.ndarray):
            buffer = self._buffers[self._turn]
            if buffer is None or buffer.dtype != piece.X.dtype:
                buffer = self._buffers[self._turn] = np.empty((self._n_rows, piece.X.shape[1]), piece.X.dtype)
            buffer[self._place : self._place + n] = piece.X
            piece = piece._replace(X=buffer[self._place : self._place + n])
        self.pieces.append(piece)
        self._place += n

    def rows(self) -> Any:
        """Return the rows of the mix."""
        buffer = self._buffers[self._turn]
        return stacked([piece.X for piece in self.pieces]) if buffer is None else buffer[: self._place]


def _sample(mix: Piece, n_rows: int) -> Piece:
    """Return a copy of so many rows of a mix, or fewer, from all over."""
    X, y, weights, _ = mix
    some = slice(None, None, -(-len(y) // n_rows))
    return Piece(X[some].copy(), y[some], None if weights is None else weights[some])

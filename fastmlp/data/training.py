"""`InBlocks`: training on rows that are read block by block."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.data.checked import CheckedBlocks, Piece
from fastmlp.data.mixing import Mix, Mixes
from fastmlp.data.read_ahead import ReadAhead
from fastmlp.engine.base import EpochTotals
from fastmlp.hooks import call_hooks
from fastmlp.interrupts import finish
from fastmlp.losses import Targets
from fastmlp.random import mix_seed
from fastmlp.training import Counts, Trainer, Unfinished

__all__ = ["InBlocks", "first_rows"]

_FEW_ROWS = 512
"""Rows that tell which kernels to compile, and later what may be wrong with a fit."""


class _Read(NamedTuple):
    """A mix that has been read: some of its rows, what `Engine.prepare` made of all, and the order that they come in."""

    mix: Mix
    some: Piece
    prepared: Any
    y: Targets
    weights: Floats | None
    order: npt.NDArray[np.int64]


def first_rows(checked: CheckedBlocks) -> Piece:
    """Return some of the first rows."""
    pieces: list[Piece] = []
    with closing(checked.read()) as blocks:
        for piece in blocks:
            pieces.append(piece)
            if sum(len(piece.y) for piece in pieces) >= _FEW_ROWS:
                break
    return _together(pieces)


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
        if self.state.unfinished is None:
            key = int(self.random.generator.integers(2**63))
            self.state.unfinished = Unfinished(key, n_rows=self.n_rows, batch_size=self.batch_size)
        self._at = at = self.state.unfinished
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
        return *self._some, None

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
        order, ends = self._mixes.blocks(key), None
        ends = np.cumsum(self._mixes.lengths[order])
        mixes = list(self._mixes.after(step))
        if not mixes:
            return
        begin = int(np.searchsorted(ends, mixes[0].first, side="right"))
        place = int(ends[begin] - self._mixes.lengths[order[begin]])
        with closing(self.checked.read(order[begin:].tolist())) as blocks:
            rest: Piece | None = None
            buffers = _Buffers(self._mixes.rows_of_a_mix)
            for mix in mixes:
                pieces: list[Piece] = []
                n_rows = 0
                while place < mix.end:
                    piece = next(blocks) if rest is None else rest
                    first, n = max(mix.first - place, 0), len(piece.y)
                    end = min(mix.end - place, n)
                    some = _some(piece, first, end)
                    n_rows = buffers.add(some, n_rows)
                    pieces.append(some._replace(X=None) if buffers.holds else some)
                    rest = piece if end < n else None
                    if rest is not None:
                        break
                    place += n
                whole = _together(pieces, buffers.rows(n_rows))
                prepared = self.engine.prepare(whole.X, self.state.optimizer, self.clipping)
                if not self.engine.is_copy(prepared):
                    buffers.turn()
                yield _Read(mix, _sample(whole), prepared, whole.y, whole.weights, self._mixes.rows(key, mix))


class _Buffers:
    """Memory for the rows of two mixes in turn, where they are an array."""

    def __init__(self, n_rows: int) -> None:
        self._n_rows, self._turn = n_rows, 0
        self._buffers: list[npt.NDArray[Any] | None] = [None, None]
        self.holds = False

    def turn(self) -> None:
        """Leave the rows of this mix where they are, until the mix after the next."""
        self._turn = 1 - self._turn

    def add(self, piece: Piece, place: int) -> int:
        """Copy the rows of a piece to a place, unless they are sparse; return the place after them."""
        X = piece.X
        self.holds = isinstance(X, np.ndarray)
        if self.holds:
            buffer = self._buffers[self._turn]
            if buffer is None:
                buffer = self._buffers[self._turn] = np.empty((self._n_rows, X.shape[1]), X.dtype)
            buffer[place : place + len(X)] = X
        return place + len(piece.y)

    def rows(self, n_rows: int) -> Any:
        """Return the rows of the mix, or None if they are sparse."""
        buffer = self._buffers[self._turn]
        return None if buffer is None else buffer[:n_rows]


def _some(piece: Piece, first: int, end: int) -> Piece:
    """Return some rows of a piece."""
    if first == 0 and end == len(piece.y):
        return piece
    weights = piece.weights
    return Piece(piece.X[first:end], piece.y[first:end], None if weights is None else weights[first:end])


def _sample(piece: Piece) -> Piece:
    """Return a copy of some rows from all over."""
    some = slice(None, None, -(-len(piece.y) // _FEW_ROWS))
    X, y, weights = piece
    return Piece(X[some].copy(), y[some], None if weights is None else weights[some])


def _together(pieces: list[Piece], X: Any = None) -> Piece:
    """Return the rows of pieces as one; X if they have been copied."""
    if X is None:
        X = _stacked([piece.X for piece in pieces])
    y = np.concatenate([piece.y for piece in pieces])
    weights = [piece.weights for piece in pieces if piece.weights is not None]
    return Piece(X, y, np.concatenate(weights) if weights else None)


def _stacked(parts: list[Any]) -> Any:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    from scipy import sparse

    return sparse.csr_array(sparse.vstack(parts, format="csr"))

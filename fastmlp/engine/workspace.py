"""The buffers and plans of a team of threads: what a network needs to train or predict besides parameters and data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.engine.layout import LINE, Layout, aligned_zeros, n_words
from fastmlp.kernels import csr, descent, rows, simd, sparse, tables, team, tile
from fastmlp.kernels.activations import CODES, stores_slope

__all__ = ["Workspace"]

MARKED = ("packed", "sparse", "sparse bytes", "dropped packed", "disturbed sparse bytes")
STAGED = (
    "sparse", "bytes", "sparse bytes", "dropped packed", "disturbed dense", "disturbed bytes", "disturbed sparse bytes",
    "disturbed csr",
)  # fmt: skip
CSR = ("csr", "dropped csr")
"""Kinds of rows (see `fastmlp.engine.rows`) whose pairs of numbers are marked; that are staged; of CSR."""

_FAR = 1024  # numbers beyond those lines that a processor fetches ahead


class Workspace:
    """The buffers that a team needs to train on batches, or one thread to predict, besides parameters and data.

    Parameters
    ----------
    layout : Layout
    activations : sequence of str
        Of the hidden layers.
    chunk : int
        Rows that go through the network together.
    n_threads : int
    accumulate : bool
        Whether batches are longer than a chunk, so that their gradient is summed up in a buffer.
    kind : str
        Of the rows, see `fastmlp.engine.rows`.
    n_links : int
        Most numbers in the CSR rows of a chunk.
    dropout : bool
        Whether units of hidden layers are dropped.
    slots : int or None
        Of the memory of an optimizer that changes weights block by block; None where tiles do it.
    whole : bool
        Whether such an optimizer needs the whole gradient of a step before it changes anything.
    """

    def __init__(
        self,
        layout: Layout,
        activations: Sequence[str],
        chunk: int,
        n_threads: int,
        accumulate: bool,
        kind: str = "dense",
        n_links: int = 0,
        dropout: bool = False,
        slots: int | None = None,
        whole: bool = False,
    ) -> None:
        n_layers = len(layout.shapes)
        self.chunk, self.kind = chunk, kind
        self._lanes = layout.lanes
        plan = np.zeros((n_layers, tables.FIELDS), np.int64)
        at = max(*layout.pitches, layout.lanes * tile.VECTORS)
        for layer, ((fan_in, fan_out), width, pitch) in enumerate(
            zip(layout.shapes, layout.widths, layout.pitches, strict=True)
        ):
            last = layer == n_layers - 1
            name = "identity" if last else activations[layer]
            function, sloped = CODES[name], stores_slope(name, dropout and not last)
            h, at = at, at + chunk * pitch
            d, at = (h, at) if last else (at, at + chunk * pitch)  # the last deltas are made in place
            t, at = (0, at) if layer == 0 else (at, at + width * layout.lanes * layout.pitches[layer - 1])
            plan[layer, tables.SLOPE], at = (at, at + chunk * pitch) if sloped else (0, at)
            plan[layer, : tables.BY_COLUMNS] = (
                fan_in, fan_out, width, pitch, layout.w[layer], layout.b[layer], h, d, t, function, pitch
            )  # fmt: skip
        staged = at  # where rows are brought, apart for each thread
        words = n_words(layout.layers[0])
        in_line = LINE // np.dtype(layout.dtype).itemsize
        lines = -(-layout.layers[0] // in_line)
        row_pitch = (lines | 1) * in_line  # odd lines: rows share no set of the cache
        if kind in STAGED:
            at += n_threads * chunk * row_pitch
        self.plans = [self._divide(plan, layout.lanes, rank, n_threads, kind) for rank in range(n_threads)]
        if kind in MARKED and chunk > sparse.GROUPS * rows.WORD:
            at = self._give_waiting(at)
        if kind not in CSR and not accumulate:
            at = self._give_own_weights(at, slots or 0)
        sums = 0
        if slots is not None:
            at = self._give_gradients(at, whole)
            sums = self._give_sums()
        self.work = aligned_zeros(at, layout.dtype)
        self.gradient = aligned_zeros(layout.size if accumulate else 0, layout.dtype)
        self.sums = aligned_zeros(2 * sums, np.float64)
        self._slots, self._size = slots or 0, layout.size
        row = np.arange(chunk)[:, None]
        notes = np.zeros((2 * n_layers + 2, chunk), np.int64)
        pitches = plan[:, tables.PITCH]
        notes[1:n_layers] = (plan[:-1, tables.H] + row * pitches[:-1]).T
        notes[n_layers : 2 * n_layers] = (plan[:, tables.D] + row * pitches).T
        self.notes = []
        for rank in range(n_threads):
            notes[0] = staged + (rank * chunk + row[:, 0]) * row_pitch
            self.notes.append(np.concatenate([notes.ravel(), np.zeros(team.CLOCKS, np.int64)]))
        marked = kind in MARKED
        self.marks = [np.zeros(chunk * words if marked else 0, np.uint64) for _ in range(n_threads)]
        n_taken = n_links + layout.lanes if kind == "dropped csr" else 0
        self.taken = [np.zeros(n_taken, layout.dtype) for _ in range(n_threads)]
        self.features = [np.zeros(n_taken, np.int32) for _ in range(n_threads)]
        if kind in CSR:
            n_links = 1 + layout.layers[0] + csr.LINK_FIELDS * n_links
            self.links: list[npt.NDArray[Any]] = [np.zeros(n_links, np.int32) for _ in range(n_threads)]
        else:
            n_turned = -(-chunk // rows.WORD) * rows.WORD * words if marked else 0
            self.links = [np.zeros(n_turned, np.uint64) for _ in range(n_threads)]
        self.row_loss = np.zeros(chunk, np.float64)
        self.row_hit = np.zeros(chunk, np.bool_)
        self.control = np.zeros(tables.CONTROLS, np.int64)
        self.meetings = np.zeros(LINE // 8, np.int64)

    @staticmethod
    def _divide(plan: npt.NDArray[np.int64], lanes: int, rank: int, n_threads: int, kind: str) -> npt.NDArray[np.int64]:
        """Return the plan of one thread: what it owns.

        Nobody gets less than two vectors of a layer's columns. The first weights of CSR rows are not divided by
        columns: they lie anywhere in memory, and each thread would have to find all of them.
        """
        plan = plan.copy()

        def share(n: int) -> tuple[int, int]:
            return n * rank // n_threads, n * (rank + 1) // n_threads

        by_columns = (plan[:, tables.WIDTH] >= 2 * n_threads) & (n_threads > 1)
        by_columns[0] &= kind not in CSR
        for layer, (row, columns) in enumerate(zip(plan, by_columns, strict=True)):
            squares = -(-row[tables.N_IN] // lanes)
            first, last = (0, squares) if columns else share(squares)
            row[tables.IN : tables.END_IN + 1] = first * lanes, min(last * lanes, row[tables.N_IN])
            row[tables.COLUMN : tables.END_COLUMN + 1] = share(row[tables.WIDTH]) if columns else (0, row[tables.WIDTH])
            row[tables.BY_COLUMNS] = columns
            row[tables.MEET] = columns or (n_threads > 1 and any(by_columns[layer + 1 : layer + 2]))
        by_rows = True  # whether there are deltas divided by rows, as the last layer's are, since the last meeting
        for layer in range(len(plan) - 1, 0, -1):
            by_columns_before = by_columns[layer] and layer < len(plan) - 1
            meet = by_columns[layer - 1] or by_columns_before
            plan[layer, tables.MEET_BACK] = meet
            by_rows = (by_rows and not meet) or not by_columns[layer - 1]
        plan[0, tables.MEET_BACK] = by_rows
        return plan

    @contextmanager
    def own_weights(
        self, params: npt.NDArray[Any], memory: npt.NDArray[Any] | None = None
    ) -> Iterator[Callable[[], None]]:
        """Copy its columns of the first weights to each thread's own place, with their memory, and back at the end.

        Yields a function that copies them back in the meantime, for others to read.
        """
        copies = []
        for plan in self.plans:
            w, pitch, own_pitch, n_in = plan[0, [tables.W, tables.PITCH, tables.OWN_PITCH, tables.N_IN]]
            if own_pitch:
                column, end = plan[0, [tables.COLUMN, tables.END_COLUMN]] * self._lanes
                shared = [params] if memory is None else [params, *memory.reshape(self._slots, self._size)]
                for k, flat in enumerate(shared):
                    start = plan[0, tables.OWN] + column + k * plan[0, tables.SLOT]
                    own = self.work[start : start + n_in * own_pitch].reshape(n_in, own_pitch)
                    copies.append((own, flat[w : w + n_in * pitch].reshape(n_in, pitch)[:, column:end]))

        def show() -> None:
            for own, theirs in copies:
                theirs[:] = own

        for own, theirs in copies:
            own[:] = theirs
        try:
            yield show
        finally:
            show()

    def _give_own_weights(self, at: int, slots: int) -> int:
        """Note places for each thread's own columns of the first weights, memory and deltas; return the end of them."""
        for plan in self.plans:
            first, column = plan[0], plan[0, tables.COLUMN] * self._lanes
            if first[tables.BY_COLUMNS]:
                pitch = first[tables.END_COLUMN] * self._lanes - column
                first[tables.OWN] = at - column
                first[tables.OWN_PITCH] = pitch
                first[tables.SLOT] = pitch * (first[tables.N_IN] + 1) + _FAR  # zeros follow the last of odd features
                at += first[tables.SLOT] * (1 + slots)
                if len(plan) > 1:
                    first[tables.D], first[tables.D_PITCH] = at - column, pitch
                    at += pitch * self.chunk + _FAR
        return int(at)

    def _give_gradients(self, at: int, whole: bool) -> int:
        """Note places for the gradients of what each thread owns, or for a block of them; return the end of them."""
        for plan in self.plans:
            at += _FAR
            for layer in plan:
                layer[tables.G] = at
                if whole:
                    first, last, column, end = layer[[tables.IN, tables.END_IN, tables.COLUMN, tables.END_COLUMN]]
                    pitch = (end - column) * self._lanes
                    layer[tables.G] -= first * pitch + column * self._lanes
                    layer[tables.G_PITCH] = pitch
                    at += (last - first + 1) * pitch  # the last row is that of the biases
            if not whole:
                at += descent.BLOCK_ROWS * descent.BLOCK_VECTORS * self._lanes
        return int(at)

    def _give_waiting(self, at: int) -> int:
        """Note places for the sums of some features that wait for more rows; return the end of them."""
        block = descent.BLOCK_ROWS * descent.BLOCK_VECTORS * simd.VECTOR_BYTES
        for plan in self.plans:
            at += _FAR
            plan[0, tables.WAITING] = at
            at += max(sparse.SUMS_BYTES, block) // simd.VECTOR_BYTES * self._lanes
        return at + _FAR

    def _give_sums(self) -> int:
        """Note places for the sums of squares; return how many there are, with what fills the last vector."""
        n_sums = 0
        for layer, (n_in, width) in enumerate(self.plans[0][:, [tables.N_IN, tables.WIDTH]]):
            for plan in self.plans:
                plan[layer, tables.SUMS] = n_sums
            n_sums += width * (-(-n_in // self._lanes) + 1)
        in_vector = LINE // 8
        return -(-int(n_sums) // in_vector) * in_vector

    def reset(self) -> None:
        """Make ready for a new call."""
        self.control[:] = 0
        self.meetings[:] = 0
        self.gradient[:] = 0

    @property
    def waited(self) -> float:
        """Part of the time of the last call that its threads spent in long waits."""
        return float(self.meetings[2] / max(1, self.meetings[3] * len(self.plans)))

    def stop(self) -> None:
        """Ask the team to stop before its next update."""
        self.control[tables.STOP] = 1

    def release(self) -> None:
        """Let every thread of the team pass every barrier."""
        self.meetings[1] = 1

"""The buffers of a team of threads, and the plan that says where everything is and who computes what."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastmlp.engine.layout import LINE, Layout, aligned_zeros
from fastmlp.kernels import simd, structs, team, tile
from fastmlp.kernels.activations import CODES, stores_slope
from fastmlp.kernels.formats import Rows as RowKernels
from fastmlp.kernels.formats.base import BLOCK_ROWS, BLOCK_VECTORS, dense_cycles
from fastmlp.random import keep_threshold

__all__ = ["Needs", "Workspace"]

_GAP = 1024  # numbers between what different threads write: processors fetch neighbouring cache lines, too


LINE_CYCLES, DISTANCE = 15, 1.25
"""About what a core waits for a cache line that another core has changed, while it fetches several. Cores may be far
from each other, in a virtual machine without notice, so rows are divided only if that is worth a quarter more."""

_TURNED_BYTES = 2**17  # outputs of a batch for which a second place does not crowd the second cache


def grid(width: int, n_threads: int, n_rows: int, cycles: Callable[[int], float]) -> tuple[int, int]:
    """Return into how many parts the columns of a layer are divided, and the rows of a batch and of the weights.

    There may be fewer parts than threads; the other threads have nothing to do.

    Parameters
    ----------
    width : int
        Vectors in a row of the weights.
    n_threads : int
    n_rows : int
        Of a batch.
    cycles : callable
        What a feature of a row takes in a tile of some vectors.

    Notes
    -----
    The fewer columns a thread has, the more its tiles cost for each of them. But if rows are divided, most weights that
    a thread reads have been changed by others.
    """

    def cost(n_columns: int) -> float:
        vectors, parts = -(-width // n_columns), n_threads // n_columns
        if parts == 1:
            return cycles(vectors) * n_rows
        return DISTANCE * (cycles(vectors) * n_rows + LINE_CYCLES * vectors * (parts - 1)) / parts

    n_columns = min(range(1, min(width, n_threads) + 1), key=cost)
    return n_columns, n_threads // n_columns


def divide_first(needs: Needs, layout: Layout, density: npt.NDArray[np.float64] | None) -> Needs:
    """Return needs that say how the first layer is divided, so that all threads have the same work.

    Parameters
    ----------
    needs : Needs
    layout : Layout
    density : (n_features,) array or None
        Which part of the rows has each feature; None if all have all.
    """
    products, mean = needs.rows.products, 1.0 if density is None else float(density.mean())
    first_grid = 1, needs.n_threads
    if products.by_columns:
        first_grid = grid(
            layout.widths[0], needs.n_threads, needs.chunk, lambda vectors: products.cycles(vectors, mean)
        )
    needs, parts = needs._replace(first_grid=first_grid), first_grid[1]
    if density is None or parts == 1:
        return needs
    # A feature costs as much as the rows of a batch that have it, and as another one because it is there.
    work = np.cumsum(np.add.reduceat(1 + needs.chunk * density, range(0, len(density), layout.lanes)))
    ends = np.searchsorted(work, work[-1] * np.arange(1, parts) / parts)
    return needs._replace(first_ends=(*ends.tolist(), len(work)))


def _share(n: int, part: int, parts: int) -> tuple[int, int]:
    return n * part // parts, n * (part + 1) // parts


class Needs(NamedTuple):
    """What a workspace is for.

    Attributes
    ----------
    rows : fastmlp.kernels.formats.Rows
        How the first layer reads its rows.
    staged : bool
        Whether rows are written to the workspace.
    chunk : int
        Rows that go through the network together.
    n_threads : int
    n_nonzeros : int
        Most numbers in the CSR rows of a chunk.
    dropout_rates : tuple of float
        Of the outputs of each hidden layer; empty if there is no dropout.
    accumulate : bool
        Whether plain SGD accumulates the gradient of several chunks.
    slots : int or None
        Of the state of an optimizer that updates block by block; None for plain SGD and predictions.
    whole_gradient : bool
        Whether such an optimizer needs the gradient of all blocks before it changes any.
    first_grid : tuple of int or None
        Into how many parts the columns and rows of the first weights are divided, see `divide_first`; None if that is
        to be found without knowing which features the rows have.
    first_ends : tuple of int
        Where each part of the first weights' rows ends, in squares of vectors; empty if the parts are equal.
    """

    rows: RowKernels
    staged: bool
    chunk: int
    n_threads: int
    dropout_rates: tuple[float, ...]
    n_nonzeros: int = 0
    accumulate: bool = False
    slots: int | None = None
    whole_gradient: bool = False
    first_grid: tuple[int, int] | None = None
    first_ends: tuple[int, ...] = ()


class Workspace:
    """What a team needs to train on batches, or one thread to predict, besides parameters and data.

    Parameters
    ----------
    layout : Layout
    activations : sequence of str
        Of the hidden layers.
    needs : Needs

    Attributes
    ----------
    layers : list of (L,) arrays of `structs.LAYER`
        The plan of each thread.
    settings : (1,) array of `structs.SETTINGS`
    work, gradient, sums, row_loss, row_correct, control, sync : arrays
        Shared by the threads, see `structs.Workspace`.
    private : list of tuples of arrays
        The other fields of `structs.Workspace`, of each thread.
    """

    def __init__(self, layout: Layout, activations: Sequence[str], needs: Needs) -> None:
        products, chunk, n_threads = needs.rows.products, needs.chunk, needs.n_threads
        self.needs, self._layout = needs, layout
        self._end = max(*layout.pitches, layout.lanes * tile.VECTORS)  # zeros, see `structs.Workspace`
        plan = self._plan(activations)
        in_line = LINE // np.dtype(layout.dtype).itemsize
        row_pitch = (-(-layout.layers[0] // in_line) | 1) * in_line  # odd: rows share no set of the cache
        rows_at = [self._reserve(chunk * row_pitch if needs.staged else 0) for _ in range(n_threads)]
        self._plans = [[layer.copy() for layer in plan] for _ in range(n_threads)]
        self._divide()
        buffers = products.buffers(chunk, layout.layers[0], needs.n_nonzeros)
        self._reserve_partial_sums(buffers.partial_sums)
        if products.by_columns and not needs.accumulate:
            self._reserve_private_weights()
        self._have_private_weights = [first for first, *_ in self._plans if first["private_pitch"]]
        n_sums = 0
        if needs.slots is not None:
            self._reserve_gradients()
            n_sums = self._reserve_squares()
        self.layers = [np.array([tuple(layer.values()) for layer in own], structs.LAYER) for own in self._plans]
        self.work = aligned_zeros(self._end, layout.dtype)
        self.gradient = aligned_zeros(layout.size if needs.accumulate else 0, layout.dtype)
        self.sums = aligned_zeros(2 * n_sums, np.float64)
        self.row_loss, self.row_correct = np.zeros(chunk), np.zeros(chunk, np.bool_)
        self.control = np.zeros(structs.CONTROLS, np.int64)
        self.sync = aligned_zeros(team.sync_size(n_threads), np.int64)
        self._patience = team.SPIN_CYCLES if n_threads <= (os.cpu_count() or 1) else 0
        self.settings = np.zeros(1, structs.SETTINGS)
        self.settings["chunk"] = chunk
        self._seed, self._epoch = self.settings["seed"], self.settings["epoch"]  # views
        n_kept = needs.n_nonzeros + layout.lanes if needs.rows.keeps else 0
        row = np.arange(chunk)
        inputs = [layer["out"] + row * layer["pitch"] for layer in plan[:-1]]
        deltas = np.concatenate([layer["delta"] + row * layer["pitch"] for layer in plan])
        self.private = []
        for staged in rows_at:
            self.private.append(
                (
                    np.concatenate([staged + row * row_pitch, *inputs]),
                    deltas,
                    np.zeros(chunk, np.int64),  # sources
                    np.zeros(chunk, np.int64),  # ends
                    np.zeros(buffers.masks, np.uint64),
                    np.zeros(team.CLOCKS, np.int64),
                    np.zeros(buffers.lists, buffers.lists_dtype),
                    np.zeros(n_kept, layout.dtype),
                    np.zeros(n_kept, np.int32),
                )
            )

    def _reserve(self, n: int) -> int:
        """Reserve `n` numbers of `work`; return where they start."""
        start = self._end
        self._end += int(n)
        return start

    def _plan(self, activations: Sequence[str]) -> list[dict[str, Any]]:
        """Return the plan of a thread that owns everything, the fields of `structs.LAYER` for each layer.

        Dicts are much faster to fill than an array of records, and a fit of few steps notices it.
        """
        layout, chunk = self._layout, self.needs.chunk
        plan: list[dict[str, Any]] = [dict.fromkeys(structs.LAYER.names or (), 0) for _ in layout.shapes]
        names = [*activations, "identity"]
        rates = [*(self.needs.dropout_rates or [0.0] * len(activations)), 0.0]
        for i, (layer, (n_in, n_out), width, pitch) in enumerate(
            zip(plan, layout.shapes, layout.widths, layout.pitches, strict=True)
        ):
            is_last = i == len(plan) - 1
            layer["n_in"], layer["n_out"], layer["width"], layer["pitch"] = n_in, n_out, width, pitch
            layer["w"], layer["b"], layer["activation"] = layout.w[i], layout.b[i], CODES[names[i]]
            layer["out"] = self._reserve(chunk * pitch)
            layer["delta"] = layer["out"] if is_last else self._reserve(chunk * pitch)  # the last ones in place
            layer["delta_pitch"] = pitch
            if i > 0:
                layer["w_t"] = self._reserve(width * layout.lanes * layout.pitches[i - 1])
            if stores_slope(names[i], rates[i] > 0):
                layer["slope"] = self._reserve(chunk * pitch)
            n_bytes = (self._end - layer["out"]) * np.dtype(layout.dtype).itemsize
            if i == 0 and not is_last and self.needs.n_threads > 1 and n_bytes <= _TURNED_BYTES:  # as much again
                layer["turn"] = self._end - layer["out"]
                self._reserve(layer["turn"])
            layer["drop_below"], layer["scale_kept"] = keep_threshold(rates[i]), 1 / (1 - rates[i])
        return plan

    def _divide(self) -> None:
        """Say which weights each thread owns, and where threads wait for each other."""
        n_threads, lanes = self.needs.n_threads, self._layout.lanes
        grids = [grid(n, n_threads, self.needs.chunk, lambda v: dense_cycles(v, 1.0)) for n in self._layout.widths]
        grids[0] = self.needs.first_grid or divide_first(self.needs, self._layout, None).first_grid or (1, n_threads)
        for rank, layers in enumerate(self._plans):
            for layer, (n_columns, n_rows) in zip(layers, grids, strict=True):
                (column, row), squares = divmod(rank, n_rows), -(-layer["n_in"] // lanes)
                layer["parts"] = n_rows
                if column >= n_columns:  # no columns are left for this thread
                    layer["column"] = layer["end_column"] = layer["width"]
                    continue
                layer["part"] = row
                layer["column"], layer["end_column"] = _share(layer["width"], column, n_columns)
                first, end = _share(squares, row, n_rows)
                if layer is layers[0] and self.needs.first_ends:
                    first, end = (0, *self.needs.first_ends)[row : row + 2]
                layer["row"], layer["end_row"] = first * lanes, min(end * lanes, layer["n_in"])
            self._place_barriers(layers, grids)

    def _place_barriers(self, layers: list[dict[str, Any]], grids: list[tuple[int, int]]) -> None:
        """Say where a thread waits for the others."""
        by_columns, last = [n_columns > 1 for n_columns, _ in grids], len(layers) - 1
        for i, layer in enumerate(layers):
            layer["barrier"] = any(by_columns[i : i + 2])
        # The transposed weights, which all write after the first layer, are complete after one more barrier.
        are_complete = self.needs.n_threads == 1 or any(layer["barrier"] for layer in layers[1:])
        # Of some deltas, all threads have computed rows since the last barrier, as they have of the last layer's.
        by_rows = True
        for i in range(last, 0, -1):
            waits = not are_complete or by_columns[i - 1] or (by_columns[i] and i < last)
            are_complete = True
            layers[i]["barrier_back"] = waits
            by_rows = (by_rows and not waits) or grids[i - 1][1] > 1
        layers[0]["barrier_back"] = by_rows
        if not by_columns[0] or grids[0][1] > 1:  # others change what the first layer reads
            layers[0]["turn"] = 0

    def _reserve_partial_sums(self, n_bytes: int) -> None:
        """Reserve a place for the partial sums of each thread, if any are needed."""
        if n_bytes:
            for layers in self._plans:
                self._reserve(_GAP)
                layers[0]["partial_sums"] = self._reserve(n_bytes // simd.VECTOR_BYTES * self._layout.lanes)
            self._reserve(_GAP)

    def _reserve_private_weights(self) -> None:
        """Reserve a place for each part of the first weights' columns, with the optimizer's state and deltas.

        Threads that divide the rows of a part share it.
        """
        places: dict[int, tuple[int, int]] = {}
        for layers in self._plans:
            first = layers[0]
            pitch = (first["end_column"] - first["column"]) * self._layout.lanes
            if 0 < pitch < first["width"] * self._layout.lanes:
                column = first["column"] * self._layout.lanes
                first["private_pitch"] = pitch
                first["slot_stride"] = pitch * (first["n_in"] + 1) + _GAP  # one row of zeros, for odd features
                if column not in places:
                    weights = self._reserve(first["slot_stride"] * (1 + (self.needs.slots or 0)))
                    places[column] = weights - column, self._reserve(pitch * self.needs.chunk + _GAP) - column
                first["private"], delta = places[column]
                if len(layers) > 1:
                    first["delta"], first["delta_pitch"] = delta, pitch

    def _reserve_gradients(self) -> None:
        """Reserve a place for the gradient of everything that each thread owns, or of one block."""
        lanes = self._layout.lanes
        for layers in self._plans:
            self._reserve(_GAP)
            if not self.needs.whole_gradient:
                block = self._reserve(BLOCK_ROWS * BLOCK_VECTORS * lanes)
                for layer in layers:
                    layer["gradient"] = block
                continue
            for layer in layers:
                pitch = (layer["end_column"] - layer["column"]) * lanes
                start = self._reserve((layer["end_row"] - layer["row"] + 1) * pitch)  # the last row is the biases'
                layer["gradient"], layer["gradient_pitch"] = (
                    start - layer["row"] * pitch - layer["column"] * lanes,
                    pitch,
                )

    def _reserve_squares(self) -> int:
        """Place the sums of squares; return how many there are, in whole cache lines."""
        n_sums = 0
        for i, layer in enumerate(self._plans[0]):
            for layers in self._plans:
                layers[i]["squares"] = n_sums
            n_sums += layer["width"] * (-(-layer["n_in"] // self._layout.lanes) + 1)
        in_line = LINE // 8
        return -(-int(n_sums) // in_line) * in_line

    def private_weights(self, params: npt.NDArray[Any], state: npt.NDArray[Any] | None = None) -> Callable[[], None]:
        """Copy the first weights and their optimizer state to each thread's own place.

        Returns a function that copies them back: at the end, and in the meantime for others to read.
        """
        copies = []
        for first in self._have_private_weights:
            w, pitch, n_in, own_pitch = (first[name] for name in ("w", "pitch", "n_in", "private_pitch"))
            column, end = (first[name] * self._layout.lanes for name in ("column", "end_column"))
            shared = [params] if state is None else [params, *state.reshape(-1, self._layout.size)]
            for k, flat in enumerate(shared):
                start = first["private"] + column + k * first["slot_stride"]
                own = self.work[start : start + n_in * own_pitch].reshape(n_in, own_pitch)
                copies.append((own, flat[w : w + n_in * pitch].reshape(n_in, pitch)[:, column:end]))

        def publish() -> None:
            for own, theirs in copies:
                theirs[:] = own

        for own, theirs in copies:
            own[:] = theirs
        return publish

    def draw_from(self, seed: int, epoch: int) -> None:
        """Say what dropout and noise are keyed by."""
        self._seed[0], self._epoch[0] = seed, epoch % 2**32

    def reset(self, first_step: int = 0) -> None:
        """Prepare for a call that begins with this step."""
        self.control[:] = 0
        self.control[structs.STEPS] = first_step
        self.sync[:] = 0
        self.sync[team.PATIENCE] = self._patience
        self.gradient[:] = 0

    def clocks(self, rank: int) -> npt.NDArray[Any]:
        """Return the clocks of a thread, see `team`; only the profiled build counts."""
        return self.private[rank][structs.Workspace._fields.index("clocks") - 1]

    def stop(self) -> None:
        """Ask the team to stop before its next update."""
        self.control[structs.STOP] = 1

    def pause(self) -> None:
        """Ask the team to end the call after a step."""
        self.control[structs.PAUSE] = 1

    def release(self) -> None:
        """Let every thread of the team pass every barrier."""
        self.sync[team.FAILED] = 1

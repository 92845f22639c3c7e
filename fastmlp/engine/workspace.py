"""The buffers of a team of threads, and the plan that says where everything is and who computes what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastmlp.engine.layout import LINE, Layout, aligned_zeros
from fastmlp.kernels import simd, structs, team, tile
from fastmlp.kernels.activations import CODES, stores_slope
from fastmlp.kernels.formats import Rows as RowKernels
from fastmlp.kernels.formats.base import BLOCK_ROWS, BLOCK_VECTORS
from fastmlp.random import keep_threshold

__all__ = ["Needs", "Workspace"]

_GAP = 1024  # numbers between what different threads write: processors fetch neighbouring cache lines, too


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
        n_sums = 0
        if needs.slots is not None:
            self._reserve_gradients()
            n_sums = self._reserve_squares()
        self.layers = [np.array([tuple(layer.values()) for layer in own], structs.LAYER) for own in self._plans]
        self.work = aligned_zeros(self._end, layout.dtype)
        self.gradient = aligned_zeros(layout.size if needs.accumulate else 0, layout.dtype)
        self.sums = aligned_zeros(2 * n_sums, np.float64)
        self.row_loss, self.row_correct = np.zeros(chunk), np.zeros(chunk, np.bool_)
        self.control, self.sync = np.zeros(structs.CONTROLS, np.int64), np.zeros(LINE // 8, np.int64)
        self.settings = np.zeros(1, structs.SETTINGS)
        self.settings["chunk"] = chunk
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
            layer["drop_below"], layer["scale_kept"] = keep_threshold(rates[i]), 1 / (1 - rates[i])
        return plan

    def _divide(self) -> None:
        """Say which weights each thread owns, and where threads wait for each other.

        A thread gets at least two vectors of columns of a layer, or the layer is divided by rows.
        """
        n_threads, lanes, n_layers = self.needs.n_threads, self._layout.lanes, len(self._layout.shapes)
        by_columns = [n_threads > 1 and width >= 2 * n_threads for width in self._layout.widths]
        by_columns[0] &= self.needs.rows.products.by_columns
        for rank, layers in enumerate(self._plans):

            def share(n: int, rank: int = rank) -> tuple[int, int]:
                return n * rank // n_threads, n * (rank + 1) // n_threads

            for i, layer in enumerate(layers):
                squares, width = -(-layer["n_in"] // lanes), layer["width"]
                first, end = (0, squares) if by_columns[i] else share(squares)
                layer["row"], layer["end_row"] = first * lanes, min(end * lanes, layer["n_in"])
                layer["column"], layer["end_column"] = share(width) if by_columns[i] else (0, width)
                layer["by_columns"] = by_columns[i]
                layer["barrier"] = by_columns[i] or (n_threads > 1 and any(by_columns[i + 1 : i + 2]))
            by_rows = True  # whether deltas since the last barrier are divided by rows, as the last layer's are
            for i in range(n_layers - 1, 0, -1):
                waits = by_columns[i - 1] or (by_columns[i] and i < n_layers - 1)
                layers[i]["barrier_back"] = waits
                by_rows = (by_rows and not waits) or not by_columns[i - 1]
            layers[0]["barrier_back"] = by_rows

    def _reserve_partial_sums(self, n_bytes: int) -> None:
        """Reserve a place for the partial sums of each thread, if any are needed."""
        if n_bytes:
            for layers in self._plans:
                self._reserve(_GAP)
                layers[0]["partial_sums"] = self._reserve(n_bytes // simd.VECTOR_BYTES * self._layout.lanes)
            self._reserve(_GAP)

    def _reserve_private_weights(self) -> None:
        """Reserve a place for each thread's own columns of the first weights, with the optimizer's state and deltas."""
        for layers in self._plans:
            first = layers[0]
            column = first["column"] * self._layout.lanes
            if first["by_columns"]:
                pitch = first["end_column"] * self._layout.lanes - column
                first["private_pitch"] = pitch
                first["slot_stride"] = pitch * (first["n_in"] + 1) + _GAP  # one row of zeros, for odd features
                first["private"] = self._reserve(first["slot_stride"] * (1 + (self.needs.slots or 0))) - column
                if len(layers) > 1:
                    first["delta"], first["delta_pitch"] = (
                        self._reserve(pitch * self.needs.chunk + _GAP) - column,
                        pitch,
                    )

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
        for first, *_ in self._plans:
            w, pitch, n_in, own_pitch = (first[name] for name in ("w", "pitch", "n_in", "private_pitch"))
            if own_pitch:
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

    def reset(self) -> None:
        """Prepare for a new call."""
        self.control[:] = 0
        self.sync[:] = 0
        self.gradient[:] = 0

    @property
    def waited(self) -> float:
        """Part of the time of the last call that its threads spent in long waits."""
        return float(self.sync[team.WAITED] / max(1, self.sync[team.CYCLES] * len(self.layers)))

    def clocks(self, rank: int) -> npt.NDArray[Any]:
        """Return the clocks of a thread, see `team`; only the profiled build counts."""
        return self.private[rank][structs.Workspace._fields.index("clocks") - 1]

    def stop(self) -> None:
        """Ask the team to stop before its next update."""
        self.control[structs.STOP] = 1

    def release(self) -> None:
        """Let every thread of the team pass every barrier."""
        self.sync[team.FAILED] = 1

"""Where everything lies: one flat buffer of parameters, and the workspace of a team of threads."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.kernels import activations, csr, epoch, rows, simd, tile

__all__ = ["MARKED", "STAGED", "Layout", "Workspace", "aligned_zeros", "as_kernel_input", "n_words"]

MARKED = ("marked", "packed", "marked bytes")
STAGED = ("packed", "bytes", "marked bytes")
"""Kinds of rows (see `fastmlp.rows`) whose nonzero numbers are marked, and that are brought into the workspace."""

_FAR = 1024  # numbers beyond those lines that a processor fetches ahead

_LINE = 64  # bytes in a cache line, and in the widest vector


def aligned_zeros(size: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return zeros (size,) that start at a cache line, so that no vector crosses one."""
    n_bytes = size * np.dtype(dtype).itemsize
    raw = np.zeros(n_bytes + _LINE, np.uint8)
    start = -raw.ctypes.data % _LINE
    return raw[start : start + n_bytes].view(dtype)


def as_kernel_input(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a flat view of a C-contiguous array, of the type that the kernels are compiled for.

    Numba compiles a function once more for arrays that cannot be written. Kernels never write to their input, so a
    read-only one is shown to them as a writable one.
    """
    if array.flags.writeable:
        return array.reshape(-1)
    return np.asarray(_Interface(array))


class _Interface:
    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array = array  # keeps the memory alive: NumPy holds on to the object that has the interface
        self.__array_interface__ = {
            "data": (array.ctypes.data, False),
            "shape": (array.size,),
            "typestr": array.dtype.str,
            "version": 3,
        }


def n_words(n_features: int) -> int:
    """Return how many words the marks of a row take."""
    return -(-n_features // rows.WORD)


class Layout:
    """The places of all weights and biases in one flat buffer.

    Weights (I, O) are stored row by row. Rows start at whole vectors and there are whole squares of vectors of them;
    what is added holds zeros, and stays so. A row whose length would be a multiple of 1 KB gets one more vector: rows
    at such a distance share a few sets of the cache and would push each other out.

    Attributes
    ----------
    layers : tuple of int
    dtype : str
    size : int
        Numbers in the buffer.
    """

    def __init__(self, layers: Sequence[int], dtype: str) -> None:
        self.layers = tuple(layers)
        self.dtype = dtype
        self.lanes = simd.lanes(dtype)
        self.shapes = list(itertools.pairwise(self.layers))
        self.widths = [-(-fan_out // self.lanes) for _, fan_out in self.shapes]
        self.pitches = [self._pitch(width) for width in self.widths]
        self.w: list[int] = []
        self.b: list[int] = []
        self.size = 0
        for (fan_in, _), pitch in zip(self.shapes, self.pitches, strict=True):
            self.w.append(self.size)
            self.b.append(self.size + self._whole(fan_in) * pitch)
            self.size = self.b[-1] + pitch

    def _whole(self, n: int) -> int:
        return -(-n // self.lanes) * self.lanes

    def _pitch(self, width: int) -> int:
        n_bytes = width * simd.VECTOR_BYTES
        return (width + (n_bytes % 1024 == 0)) * self.lanes

    def weights(self, flat: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Return views (I, O) of the weights in a flat buffer."""
        blocks = zip(self.shapes, self.pitches, self.w, strict=True)
        return [flat[w : w + i * pitch].reshape(i, pitch)[:, :o] for (i, o), pitch, w in blocks]

    def biases(self, flat: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Return views (O,) of the biases in a flat buffer."""
        return [flat[b : b + o] for (_, o), b in zip(self.shapes, self.b, strict=True)]


class Workspace:
    """The buffers that a team needs to train on batches, or one thread to predict, besides parameters and data.

    Parameters
    ----------
    layout : Layout
    activation : str
        Of the hidden layers.
    chunk : int
        Rows that go through the network together.
    n_threads : int
    accumulate : bool
        Whether batches are longer than a chunk, so that their gradient is summed up in a buffer.
    kind : str
        Of the rows, see `fastmlp.rows`.
    n_links : int
        Most numbers in the CSR rows of a chunk.
    """

    def __init__(
        self,
        layout: Layout,
        activation: str,
        chunk: int,
        n_threads: int,
        accumulate: bool,
        kind: str = "dense",
        n_links: int = 0,
    ) -> None:
        n_layers = len(layout.shapes)
        self.chunk = chunk
        plan = np.zeros((n_layers, epoch.FIELDS), np.int64)
        at = max(*layout.pitches, layout.lanes * tile.VECTORS)
        for layer, ((fan_in, fan_out), width, pitch) in enumerate(
            zip(layout.shapes, layout.widths, layout.pitches, strict=True)
        ):
            last = layer == n_layers - 1
            function = activations.IDENTITY if last else activations.CODES[activation]
            h, at = at, at + chunk * pitch
            d, at = (h, at) if last else (at, at + chunk * pitch)  # the last deltas are made in place
            t, at = (0, at) if layer == 0 else (at, at + width * layout.lanes * layout.pitches[layer - 1])
            plan[layer, : epoch.BY_COLUMNS] = (
                fan_in, fan_out, width, pitch, layout.w[layer], layout.b[layer], h, d, t, function, pitch
            )  # fmt: skip
        staged = at  # where rows are brought, apart for each thread
        words = n_words(layout.layers[0])
        lines = -(-words * rows.WORD * np.dtype(layout.dtype).itemsize // _LINE)
        row_pitch = (
            (lines | 1) * _LINE // np.dtype(layout.dtype).itemsize
        )  # odd, so that rows share no set of the cache
        if kind in STAGED:
            at += n_threads * chunk * row_pitch
        self.plans = [self._divide(plan, layout.lanes, rank, n_threads) for rank in range(n_threads)]
        if kind != "csr" and not accumulate:
            at = self._give_own_weights(layout.lanes, at)
        self.work = aligned_zeros(at, layout.dtype)
        self.gradient = aligned_zeros(layout.size if accumulate else 0, layout.dtype)
        row = np.arange(chunk)[:, None]
        notes = np.zeros((2 * n_layers + 2, chunk), np.int64)
        pitches = plan[:, epoch.PITCH]
        notes[1:n_layers] = (plan[:-1, epoch.H] + row * pitches[:-1]).T
        notes[n_layers : 2 * n_layers] = (plan[:, epoch.D] + row * pitches).T
        self.notes = []
        for rank in range(n_threads):
            notes[0] = staged + (rank * chunk + row[:, 0]) * row_pitch
            self.notes.append(notes.ravel().copy())
        marked = kind in MARKED
        self.marks = [np.zeros(chunk * words if marked else 0, np.uint64) for _ in range(n_threads)]
        if kind == "csr":
            n_links = 1 + layout.layers[0] + csr.LINK_FIELDS * n_links
            self.links: list[npt.NDArray[Any]] = [np.zeros(n_links, np.int32) for _ in range(n_threads)]
        else:
            n_turned = -(-chunk // rows.WORD) * rows.WORD * words if marked else 0
            self.links = [np.zeros(n_turned, np.uint64) for _ in range(n_threads)]
        self.row_loss = np.zeros(chunk, np.float64)
        self.row_hit = np.zeros(chunk, np.bool_)
        self.control = np.zeros(epoch.CONTROLS, np.int64)
        self.meetings = np.zeros(_LINE // 8, np.int64)

    @staticmethod
    def _divide(plan: npt.NDArray[np.int64], lanes: int, rank: int, n_threads: int) -> npt.NDArray[np.int64]:
        """Return the plan of one thread: what it owns. Nobody gets less than two vectors of a layer's columns."""
        plan = plan.copy()

        def share(n: int) -> tuple[int, int]:
            return n * rank // n_threads, n * (rank + 1) // n_threads

        by_columns = (plan[:, epoch.WIDTH] >= 2 * n_threads) & (n_threads > 1)
        for layer, (row, columns) in enumerate(zip(plan, by_columns, strict=True)):
            squares = -(-row[epoch.N_IN] // lanes)
            first, last = (0, squares) if columns else share(squares)
            row[epoch.IN : epoch.END_IN + 1] = first * lanes, min(last * lanes, row[epoch.N_IN])
            row[epoch.COLUMN : epoch.END_COLUMN + 1] = share(row[epoch.WIDTH]) if columns else (0, row[epoch.WIDTH])
            row[epoch.BY_COLUMNS] = columns
            row[epoch.MEET] = columns or (n_threads > 1 and any(by_columns[layer + 1 : layer + 2]))
        by_rows = True  # whether there are deltas divided by rows, as the last layer's are, since the last meeting
        for layer in range(len(plan) - 1, 0, -1):
            by_columns_before = by_columns[layer] and layer < len(plan) - 1
            meet = by_columns[layer - 1] or by_columns_before
            plan[layer, epoch.MEET_BACK] = meet
            by_rows = (by_rows and not meet) or not by_columns[layer - 1]
        plan[0, epoch.MEET_BACK] = by_rows
        return plan

    def _give_own_weights(self, lanes: int, at: int) -> int:
        """Note places for each thread's own columns of the first weights and deltas; return the end of them."""
        for plan in self.plans if len(self.plans) > 1 else []:
            first = plan[0]
            if first[epoch.BY_COLUMNS]:
                pitch = (first[epoch.END_COLUMN] - first[epoch.COLUMN]) * lanes
                first[epoch.OWN] = at - first[epoch.COLUMN] * lanes
                first[epoch.OWN_PITCH] = pitch
                at += pitch * first[epoch.N_IN] + _FAR
                if len(plan) > 1:
                    first[epoch.D], first[epoch.D_PITCH] = at - first[epoch.COLUMN] * lanes, pitch
                    at += pitch * self.chunk + _FAR
        return int(at)

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
        self.control[epoch.STOP] = 1

    def release(self) -> None:
        """Let every thread of the team pass every barrier."""
        self.meetings[1] = 1

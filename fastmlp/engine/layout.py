"""Where parameters are: in one flat, aligned buffer. Weights and biases are views of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.kernels import simd

__all__ = ["LINE", "Layout", "aligned_zeros", "as_kernel_input"]

LINE = 64
"""Bytes in a cache line, and in the widest vector."""

_FEW_LINES = 4


def aligned_zeros(size: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return zeros (size,) that start at a cache line, so that no vector crosses one."""
    n_bytes = size * np.dtype(dtype).itemsize
    raw = np.zeros(n_bytes + LINE, np.uint8)
    start = -raw.ctypes.data % LINE
    return raw[start : start + n_bytes].view(dtype)


def as_kernel_input(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a flat view of a C-contiguous array, of the type that kernels are compiled for.

    Numba compiles a function once more for read-only arrays. Kernels never write to their input, so a read-only array
    is passed as a writable one.
    """
    if array.flags.writeable:
        return array.reshape(-1)
    return np.asarray(_Interface(array))


class _Interface:
    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array = array  # keeps the memory alive: NumPy holds a reference to this object
        self.__array_interface__ = {
            "data": (array.ctypes.data, False),
            "shape": (array.size,),
            "typestr": array.dtype.str,
            "version": 3,
        }


class Layout:
    """Where the weights and biases of each layer are in one flat buffer.

    Weights (I, O) are stored row by row. Rows are padded with zeros to whole vectors, and their number to whole squares
    of vectors. Rows of four and more cache lines take an odd number of lines: at even distances they would share few
    sets of the cache and evict each other.

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
        n_lines = -(-width * simd.VECTOR_BYTES // LINE)
        if n_lines < _FEW_LINES:
            return width * self.lanes
        return (n_lines | 1) * LINE * self.lanes // simd.VECTOR_BYTES

    def weights(self, flat: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Return views (I, O) of the weights in a flat buffer."""
        blocks = zip(self.shapes, self.pitches, self.w, strict=True)
        return [flat[w : w + i * pitch].reshape(i, pitch)[:, :o] for (i, o), pitch, w in blocks]

    def biases(self, flat: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Return views (O,) of the biases in a flat buffer."""
        return [flat[b : b + o] for (_, o), b in zip(self.shapes, self.b, strict=True)]

    def padding(self, flat: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Return views of all numbers of a flat buffer that are neither weights nor biases."""
        views = []
        for (i, o), pitch, w, b in zip(self.shapes, self.pitches, self.w, self.b, strict=True):
            rows = flat[w:b].reshape(-1, pitch)
            views += [rows[:, o:], rows[i:, :o], flat[b + o : b + pitch]]
        return [view for view in views if view.size]

"""`.npy` files and memory maps, read through the file: a map of a file that gets shorter would kill the process."""

from __future__ import annotations

import math
import mmap
import os
import tokenize
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from fastmlp.data.sources.base import Block
from fastmlp.data.sources.files import File, read_into
from fastmlp.data.sources.reader import Reader

__all__ = ["Npy", "mapped"]

_LEAST_PIECE = 4096
"""Bytes of a column that are read at once of a file in Fortran order: a page."""


class Npy(Reader):
    """The rows of an array in a file.

    Parameters
    ----------
    file : File
    offset : int
        Where its first number is.
    shape : (n_rows, ...)
    dtype : dtype
    fortran : bool
        Whether the file holds column after column.
    """

    def __init__(self, file: File, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any], fortran: bool) -> None:
        self.name = file.name
        self._file, self._offset, self._fortran = file, offset, fortran
        self.n_rows, self.shape, self.dtype = shape[0], shape[1:], dtype
        self._row_bytes = math.prod(self.shape) * dtype.itemsize
        there, claimed = file.size - offset, self.n_rows * self._row_bytes
        if there < claimed:
            raise ValueError(
                f"{file.name} is truncated: it should hold {self.n_rows} rows, {claimed:,} bytes, but has {there:,}"
            )

    @classmethod
    def of_path(cls, path: str | os.PathLike[str]) -> Npy:
        """Open a file in NumPy's format.

        Raises
        ------
        OSError, ValueError
            If it cannot be read, is truncated or holds Python objects.
        """
        opened = File(path)
        with opened.opened() as file:
            try:
                shape, fortran, dtype = _header(file)
            except (ValueError, EOFError, SyntaxError, tokenize.TokenError) as error:
                raise ValueError(f"{opened.name} cannot be read: {error}") from error
            offset = file.tell()
        if dtype.hasobject:
            raise ValueError(f"{opened.name} holds Python objects, not numbers; they would have to be unpickled")
        if min(shape, default=0) < 0:
            raise ValueError(f"{opened.name} cannot be read: its shape is {shape}")
        if not shape:
            raise ValueError(f"{opened.name} holds a single number, not rows")
        return cls(opened, offset, shape, dtype, fortran and len(shape) > 1)

    @classmethod
    def of_memmap(cls, array: npt.NDArray[Any]) -> Npy | None:
        """Return the reader of the file that is mapped, or None if the array is not simply a piece of one."""
        whole = mapped(array)
        contiguous = array.flags.c_contiguous or array.flags.f_contiguous
        if whole is None or not contiguous or not array.size or isinstance(array, np.ma.MaskedArray):
            return None
        if whole.mode == "c":  # those have changes that are not in the file
            return None
        offset = whole.offset - whole.offset % mmap.ALLOCATIONGRANULARITY
        offset += array.ctypes.data - np.frombuffer(whole._mmap, np.uint8).ctypes.data
        return cls(File(whole.filename), offset, array.shape, array.dtype, not array.flags.c_contiguous)

    @property
    def row_bytes(self) -> int:
        """What a row takes in memory; of a file in Fortran order less, so that blocks have whole pages of a column."""
        row = max(1, self._row_bytes)
        return max(1, min(row, (1 << 19) * self.dtype.itemsize // _LEAST_PIECE)) if self._fortran else row

    def read(self, start: int, stop: int, *, X: bool = True) -> Block:
        """Return rows, in the order of the file."""
        out = np.empty((stop - start, *self.shape), self.dtype, order="F" if self._fortran else "C")
        with self._file.opened() as file:
            if not out.nbytes:
                pass
            elif self._fortran:
                for number, column in enumerate(out.reshape(len(out), -1, order="F").T):
                    at = (number * self.n_rows + start) * self.dtype.itemsize
                    read_into(file, self._offset + at, column, self.name)
            else:
                read_into(file, self._offset + start * self._row_bytes, out, self.name)
        return Block(out)

    def announce(self, start: int, stop: int) -> None:
        """Let the system read rows that are wanted soon; not the many pieces of columns."""
        if not self._fortran:
            self._file.announce(self._offset + start * self._row_bytes, (stop - start) * self._row_bytes)

    def nbytes(self, ends: npt.NDArray[np.int64]) -> int:
        """Return the memory of the largest block."""
        return int(np.diff(ends, prepend=0).max()) * self._row_bytes


def mapped(array: npt.NDArray[Any]) -> Any:
    """Return the memory map of a file of which an array is a view, or None."""
    whole: Any = array
    while isinstance(whole, np.ndarray) and not isinstance(whole, np.memmap):
        whole = whole.base
    return whole if isinstance(whole, np.memmap) and whole.filename is not None else None


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version not in ((2, 0), (3, 0)):
        raise ValueError(f"its format is version {version[0]}.{version[1]}, which is not known")
    # version 3 differs in the encoding of the names of fields, and arrays with fields are refused
    return np.lib.format.read_array_header_2_0(file)

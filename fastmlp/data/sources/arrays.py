"""Arrays in memory, dense and sparse, and tables of pandas and polars."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.data.sources.base import Block
from fastmlp.data.sources.files import File
from fastmlp.data.sources.reader import Reader
from fastmlp.data.sources.tables import Columns
from fastmlp.validation.frames import column_names, frame_as_array
from fastmlp.validation.sparse import as_csr, check_lines, csr_rows, is_sparse

__all__ = ["Frame", "InMemory"]


class InMemory(Reader):
    """An array or a CSR matrix in memory; blocks are views of it.

    If it maps a file, this must not change: to read behind its new end would kill the process.
    """

    def __init__(self, array: Any, name: str, file: File | None = None) -> None:
        if is_sparse(array):
            if array.format == "csr":
                check_lines(array.indptr, array.indices, array.data, array.shape[0], name)
            else:
                array = as_csr(array, name)
            self.is_sparse = True
        self.name = name
        self._array, self._file = array, file
        self.n_rows, self.shape, self.dtype = int(array.shape[0]), tuple(array.shape[1:]), np.dtype(array.dtype)
        self._entry_bytes = array.dtype.itemsize + array.indices.itemsize if self.is_sparse else 0

    @property
    def row_bytes(self) -> int:
        """What a row takes in memory."""
        if self.is_sparse:
            return 1 + int(self._array.nnz) * self._entry_bytes // max(1, self.n_rows)
        return super().row_bytes

    def read(self, start: int, stop: int, *, X: bool = True) -> Block:
        """Return rows."""
        if self._array.shape != (self.n_rows, *self.shape):
            raise ValueError(f"{self.name} has changed: its shape is {self._array.shape} now")
        if self._file is not None:
            self._file.check()
        return Block(csr_rows(self._array, start, stop, self.name) if self.is_sparse else self._array[start:stop])

    def holds(self, out: object) -> bool:
        """Return whether an array may share memory with this one."""
        shares = isinstance(out, np.ndarray) and not self.is_sparse and np.may_share_memory(self._array, out)
        return shares or super().holds(out)

    def nbytes(self, ends: npt.NDArray[np.int64]) -> int:
        """Return the memory of a block: nothing, but for the copy that a slice of a sparse matrix is."""
        if not self.is_sparse:
            return 0
        entries = np.diff(self._array.indptr[np.append(0, ends)]).max()
        return int(entries) * self._entry_bytes + int(np.diff(ends, prepend=0).max() + 1) * 8


class Frame(Reader):
    """A table of pandas or polars in memory, or one of its columns; X, y and the weights may be columns of it."""

    def __init__(
        self, frame: Any, name: str, features: Any = None, target: Any = None, sample_weight: Any = None
    ) -> None:
        self.name = name
        self.n_rows = len(frame)
        self._X, self._y, self._weights = frame, None, None
        if hasattr(frame, "columns"):
            chosen = Columns.chosen([str(column) for column in frame.columns], features, target, sample_weight, name)
            if len(chosen.features) < len(frame.columns):
                self._X = _columns(frame, list(chosen.features))
            if chosen.target:
                self._y = _columns(frame, list(chosen.target) if chosen.several else chosen.target[0])
            self.n_targets = max(1, len(chosen.target))
            if chosen.weight is not None:
                self._weights = _columns(frame, chosen.weight)
            self.shape, self.feature_names = (len(chosen.features),), column_names(self._X)
            self.dtype = frame_as_array(_slice(self._X, 0, 0), name).dtype
        else:
            self.shape, self.dtype = (), np.asarray(_slice(frame, 0, 0)).dtype
        self.has_y, self.has_weights = target is not None, sample_weight is not None

    def read(self, start: int, stop: int, *, X: bool = True) -> Block:
        """Return rows."""
        if len(self._X) != self.n_rows:
            raise ValueError(f"{self.name} has changed: it has {len(self._X)} rows now")
        return Block(
            *(None if part is None else _slice(part, start, stop) for part in (self._X, self._y, self._weights))
        )


def _columns(frame: Any, numbers: int | list[int]) -> Any:
    return frame.iloc[:, numbers] if hasattr(frame, "iloc") else frame[:, numbers]


def _slice(frame: Any, start: int, stop: int) -> Any:
    return frame.iloc[start:stop] if hasattr(frame, "iloc") else frame[start:stop]

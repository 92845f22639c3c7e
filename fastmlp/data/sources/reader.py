"""`Reader`: an array, a file or several files whose rows can be read from any one to any other."""

from __future__ import annotations

import itertools
import os
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.data.sources.base import Block
from fastmlp.data.sources.files import File

__all__ = ["NamedColumns", "Range", "Reader", "Several", "stacked"]

_AHEAD = 8
"""So many ranges before it is read, a range is announced: a disk that has several requests is faster."""

Range = tuple[int, int]
"""Rows from the first up to, but without, the second."""


class Reader(ABC):
    """Rows of one kind of data, which is X, y or the weights, or X together with the others.

    What it reads is the X of a `Block`, unless it has y and the weights too.

    Attributes
    ----------
    name : str
        For messages: a path, or a word such as "X".
    n_rows : int
    shape : tuple of int
        Of one row.
    dtype : dtype
    own : (k,) int64 array, int or None
        Rows of each of the parts that can only be read whole: row groups, chunks, pieces of text. An int if all but the
        last have the same number; None if there are no such parts.
    merges : bool
        Whether several own parts may become one block.
    any_order : bool
    row_bytes : int
        What a row takes in memory, about.
    has_y, has_weights, n_targets, is_sparse, feature_names
        As in `Source`.
    """

    name: str
    n_rows: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    own: npt.NDArray[np.int64] | int | None = None
    merges = True
    any_order = True
    has_y = False
    has_weights = False
    n_targets = 1
    is_sparse = False
    feature_names: tuple[str, ...] | None = None

    @property
    def row_bytes(self) -> int:
        """What a row takes in memory."""
        return max(1, int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize)

    @abstractmethod
    def read(self, start: int, stop: int, *, X: bool = True) -> Block:
        """Return the rows from `start` to `stop`. Without X, the others alone may be read."""

    def stream(self, ranges: Iterable[Range], *, X: bool = True) -> Iterator[Block]:
        """Yield the rows of each range."""
        announced: deque[Range] = deque()
        for each in itertools.chain(ranges, itertools.repeat(None, _AHEAD)):
            if each is not None:
                if X:
                    self.announce(*each)
                announced.append(each)
            if announced and (each is None or len(announced) > _AHEAD):
                yield self.read(*announced.popleft(), X=X)

    def announce(self, start: int, stop: int) -> None:  # noqa: B027
        """Let the system read rows that are wanted soon, where it can."""

    def nbytes(self, ends: npt.NDArray[np.int64]) -> int:
        """Return the memory it takes to read any one of the blocks that end before the rows `ends`."""
        return int(np.diff(ends, prepend=0).max()) * self.row_bytes + self.nbytes_of_parts(ends)

    def nbytes_of_parts(self, ends: npt.NDArray[np.int64]) -> int:
        """Return the memory that is needed besides."""
        return 0

    def holds(self, out: object) -> bool:
        """Return whether a path is that of the file that is read here; of arrays, whether they share memory."""
        file: File | None = getattr(self, "_file", None)
        return file is not None and isinstance(out, (str, os.PathLike)) and file.is_at(out)

    def place(self, row: int) -> str:
        """Return where a row is found, in a user's words."""
        return f"row {row} of {self.name}"


class NamedColumns:
    """An array (n, I) with the names of its columns: a table, as the checks of X see it."""

    def __init__(self, array: npt.NDArray[Any], columns: tuple[str, ...]) -> None:
        self.array = array
        self.columns = columns

    @property
    def dtypes(self) -> list[np.dtype[Any]]:
        """The dtype of each column."""
        return [self.array.dtype] * len(self.columns)

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        return self.array.shape

    def to_numpy(self, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
        """Return the array."""
        return self.array if dtype is None else self.array.astype(dtype, copy=False)

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: Any) -> NamedColumns:
        return NamedColumns(self.array[rows], self.columns)


def stacked(blocks: Sequence[Block]) -> Block:
    """Return several blocks as one."""
    if len(blocks) == 1:
        return blocks[0]
    return Block(*(_stacked(parts) for parts in zip(*blocks, strict=True)))


def _stacked(parts: Sequence[Any]) -> Any:
    if parts[0] is None:
        return None
    if isinstance(parts[0], NamedColumns):
        return NamedColumns(np.concatenate([part.array for part in parts]), parts[0].columns)
    if hasattr(parts[0], "tocsr"):
        from scipy import sparse

        return sparse.vstack(parts, format="csr")
    return np.concatenate(parts)


class Several(Reader):
    """Readers of the same kind, one after the other."""

    def __init__(self, parts: Sequence[Reader], name: str) -> None:
        for part in parts[1:]:
            _check_alike(parts[0], part)
        self.name, self.parts = name, parts
        self._parts = [part for part in parts if part.n_rows] or list(parts[:1])
        self._ends = list(itertools.accumulate(part.n_rows for part in self._parts))
        self.n_rows = self._ends[-1]
        first = self._parts[0]
        self.shape, self.dtype, self.is_sparse = first.shape, first.dtype, first.is_sparse
        self.has_y, self.has_weights, self.feature_names = first.has_y, first.has_weights, first.feature_names
        self.n_targets = first.n_targets
        if any(part.own is not None for part in self._parts):
            self.own = np.concatenate([_lengths_of(part) for part in self._parts])

    @property
    def row_bytes(self) -> int:
        """What a row takes in memory."""
        return max(part.row_bytes for part in self._parts)

    def read(self, start: int, stop: int, *, X: bool = True) -> Block:
        """Return rows, which may be of several parts."""
        return stacked([part.read(*some, X=X) for part, some in self._of_parts(start, stop)])

    def announce(self, start: int, stop: int) -> None:
        """Let the system read rows of these parts."""
        for part, some in self._of_parts(start, stop):
            part.announce(*some)

    def _of_parts(self, start: int, stop: int) -> Iterator[tuple[Reader, Range]]:
        """Yield the parts that have some of these rows, and which rows of theirs."""
        first = bisect_right(self._ends, start)
        for part, end in zip(self._parts[first:], self._ends[first:], strict=True):
            begin = end - part.n_rows
            yield part, (max(start, begin) - begin, min(stop, end) - begin)
            if end >= stop:
                return

    def nbytes(self, ends: npt.NDArray[np.int64]) -> int:
        """Return the memory of the largest block; one of several parts is held twice while it is put together."""
        most, begin = 0, 0
        for part, end in zip(self._parts, self._ends, strict=True):
            inside = ends[np.searchsorted(ends, begin, "right") : np.searchsorted(ends, end)]
            most = max(most, part.nbytes(np.append(inside, end) - begin))
            begin = end
        spans = np.setdiff1d(self._ends, ends)
        longest = int(np.diff(ends, prepend=0)[np.searchsorted(ends, spans)].max()) if len(spans) else 0
        return most + longest * self.row_bytes

    def holds(self, out: object) -> bool:
        """Return whether one of the parts does."""
        return any(part.holds(out) for part in self._parts)

    def place(self, row: int) -> str:
        """Return the place in a part."""
        which = bisect_right(self._ends, row)
        return self._parts[which].place(row - (self._ends[which] - self._parts[which].n_rows))


def _lengths_of(part: Reader) -> npt.NDArray[np.int64]:
    if isinstance(part.own, np.ndarray):
        return part.own
    length = part.own or part.n_rows
    return np.diff(np.append(np.arange(0, part.n_rows, length), part.n_rows)).astype(np.int64)


def _check_alike(first: Reader, other: Reader) -> None:
    if other.shape != first.shape:
        raise ValueError(
            f"{other.name} has rows of {_size(other.shape)}, but those of {first.name} have {_size(first.shape)}"
        )
    if other.dtype != first.dtype:
        raise ValueError(f"{other.name} holds {other.dtype}, but {first.name} holds {first.dtype}")
    if other.feature_names != first.feature_names:
        raise ValueError(f"{other.name} has other columns than {first.name}")
    if other.is_sparse != first.is_sparse:
        raise ValueError(f"{other.name} is {'sparse' if other.is_sparse else 'dense'}, but {first.name} is not")
    if (other.has_y, other.has_weights) != (first.has_y, first.has_weights):
        raise ValueError(f"{other.name} has labels or weights, and {first.name} has none, or the reverse")


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} columns" if len(shape) == 1 else f"the shape {shape}"

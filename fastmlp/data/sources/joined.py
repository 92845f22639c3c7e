"""`Joined`: X, y and the weights, each from where it is, cut into the same blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.data.sources.base import Block, Source
from fastmlp.data.sources.reader import Range, Reader
from fastmlp.validation.calls import warn

__all__ = ["Joined", "cut"]

_BLOCK_BYTES = 1 << 19
_MANY = 4  # times as much is read as is needed
_KINDS = {"O": "object", "U": "string", "S": "string", "T": "string", "c": "complex", "M": "date", "m": "time"}


class Joined(Source):
    """A source whose X comes from one reader, and y and the weights from the same one or from others.

    Raises
    ------
    TypeError, ValueError
        If X holds no numbers, or the others have not as many rows.
    """

    def __init__(self, X: Reader, y: Reader | None, sample_weight: Reader | None, rows: int | None) -> None:
        if X.dtype.kind not in "fiub":
            kind = _KINDS.get(X.dtype.kind, "structured")
            raise TypeError(f"{X.name} holds {kind} values (dtype {X.dtype}), not numbers")
        if not X.shape:
            raise ValueError(f"{X.name} must have two dimensions (rows, features), not one")
        if not X.n_rows or 0 in X.shape:
            raise ValueError(f"{X.name} is empty: its shape is {(X.n_rows, *X.shape)}")
        for other in (y, sample_weight):
            if other is not None and other.n_rows != X.n_rows:
                raise ValueError(f"{X.name} has {X.n_rows} rows, but {other.name} has {other.n_rows}")
        self._X, self._y, self._weights = X, y, sample_weight
        is_cut = isinstance(X.own, np.ndarray) and not X.merges
        self.lengths = np.asarray(X.own) if is_cut else cut(X.n_rows, X.own, rows, X.row_bytes)
        _warn_of_large_parts(X, rows)
        self._ends = np.cumsum(self.lengths)
        self.n_features = int(np.prod(X.shape))
        self.dtype = X.dtype
        self.is_sparse = X.is_sparse
        self.has_y = y is not None or X.has_y
        self.has_weights = sample_weight is not None or X.has_weights
        self.n_targets = X.n_targets if y is None else y.n_targets if y.has_y else math.prod(y.shape)
        self.any_order = X.any_order
        self.feature_names = X.feature_names
        self.nbytes = sum(one.nbytes(self._ends) for one in (X, y, sample_weight) if one is not None)

    def read(self, blocks: Sequence[int]) -> Iterator[Block]:
        """Yield these blocks."""
        if not self.any_order and np.any(np.diff(blocks) <= 0):
            raise ValueError(f"the blocks of {self._X.name} come in their own order only")
        return self._read(blocks, X=True)

    def targets(self, blocks: Sequence[int] | None = None) -> Iterator[Block]:
        """Yield all or these blocks, without X where that saves reading it."""
        return self._read(range(len(self.lengths)) if blocks is None else blocks, X=False)

    def holds(self, out: object) -> bool:
        """Return whether a path or an array is that of X, y or the weights."""
        return any(one.holds(out) for one in (self._X, self._y, self._weights) if one is not None)

    def place(self, row: int, part: str = "X") -> str:
        """Return where a row of X, y or the weights is found."""
        others = {"y": self._y, "sample_weight": self._weights}
        return (others.get(part) or self._X).place(row)

    def _range(self, block: int) -> Range:
        end = int(self._ends[block])
        return end - int(self.lengths[block]), end

    def _read(self, blocks: Sequence[int], *, X: bool) -> Iterator[Block]:
        needed = X or (self.has_y and self._y is None) or (self.has_weights and self._weights is None)
        stream: Any = self._X.stream(map(self._range, blocks), X=X) if needed else None
        try:
            for number in blocks:
                try:
                    block = self._block(number, next(stream) if stream is not None else Block(None))
                except Exception as error:
                    start, stop = self._range(number)
                    error.add_note(f"in block {number}: rows {start} to {stop - 1} of {self._X.name}")
                    raise
                yield block
        finally:
            if hasattr(stream, "close"):
                stream.close()

    def _block(self, number: int, read: Block) -> Block:
        start, stop = self._range(number)
        array, y, weights = read
        if getattr(array, "ndim", 2) > 2:
            array = array.reshape(len(array), -1)
        if self._y is not None:
            y = _values(self._y, start, stop)
        if self._weights is not None:
            weights = _values(self._weights, start, stop)
        for name, part in (("X", array), ("y", y), ("sample_weight", weights)):
            if part is not None and _n_rows(part) != stop - start:
                raise ValueError(f"{name} has {_n_rows(part)} rows here, but had {stop - start} before")
        return Block(array, y, weights)


def _warn_of_large_parts(X: Reader, rows: int | None) -> None:
    part = 0 if X.own is None else int(np.max(X.own))
    if rows is not None and part > _MANY * rows and part * X.row_bytes > _MANY * _BLOCK_BYTES:
        warn(
            f"{X.name} has parts (row groups, chunks or record batches) of {part} rows, and each block of {rows} rows "
            "has to read a whole one; leave out rows, or write the file in smaller parts"
        )


def _values(reader: Reader, start: int, stop: int) -> Any:
    """Return rows of y or the weights; of a table, these are its targets."""
    block = reader.read(start, stop, X=not reader.has_y)
    return block.y if reader.has_y else block.X


def _n_rows(part: Any) -> int:
    return int(part.shape[0]) if hasattr(part, "shape") else len(part)


def cut(
    n_rows: int, own: npt.NDArray[np.int64] | int | None, rows: int | None, row_bytes: int
) -> npt.NDArray[np.int64]:
    """Return the rows of each block: about half a megabyte, or `rows`.

    Neighbouring own parts of a reader make one block, as long as it is not too large. Larger parts are divided only if
    `rows` asks for it, and no block has some rows of one part and some of another, which would be read twice.
    """
    most = rows or max(1, _BLOCK_BYTES // row_bytes)
    if own is None or isinstance(own, int):
        length = most if own is None else max(most // own * own, own if rows is None else 0) or most
        if own is None or most >= own or rows is None:
            return np.diff(np.append(np.arange(0, n_rows, length), n_rows)).astype(np.int64)
        own = np.diff(np.append(np.arange(0, n_rows, own), n_rows)).astype(np.int64)
    lengths, current = [], 0
    for length in own.tolist():
        if current and current + length > most:
            lengths.append(current)
            current = 0
        if rows is not None and length > most:
            n_parts = -(-length // most)
            lengths += [length * (i + 1) // n_parts - length * i // n_parts for i in range(n_parts)]
        else:
            current += length
    if current:
        lengths.append(current)
    return np.array(lengths, np.int64)

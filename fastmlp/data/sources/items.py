"""Blocks that an object of the user's yields: lists, sequences, classes that can be iterated over, functions."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.data.sources.base import Block
from fastmlp.data.sources.reader import Range, Reader
from fastmlp.validation.frames import column_names, frame_as_array, is_frame
from fastmlp.validation.sparse import as_csr, is_sparse

__all__ = ["Items", "is_item"]

_SAMPLES = 8
_AGAIN = "the rows must be the same in every epoch; draw random numbers from a fixed seed"


class Items(Reader):
    """Blocks X, (X, y) or (X, y, sample_weight) from an object that can be read again and again.

    Their lengths are found by reading all of them once. A checksum of a few rows of each tells whether they are the
    same the next time.

    Parameters
    ----------
    data : sequence, iterable or function
        Sequences (``len(data)``, ``data[i]``) can be read in any order. A function returns an iterable.

    Raises
    ------
    TypeError, ValueError
        If it can be read only once, or its blocks are not alike.
    """

    own: npt.NDArray[np.int64]
    merges = False

    def __init__(self, data: Any, name: str = "X") -> None:
        if isinstance(data, Iterator):
            raise TypeError(
                f"{name} is {_article(type(data).__name__)}, which can be read only once, but each epoch reads it "
                "anew; pass a list, an object with __iter__, or the function that makes it: "
                "Blocks(make_blocks), not Blocks(make_blocks())"
            )
        self.name, self._data = name, data
        self.any_order = _is_sequence(data)
        self._numbers, self._checksums, lengths = [], [], []
        first: Block | None = None
        self._most = 0
        for number, item in enumerate(self._iterate()):
            block = self._block(item, number)
            if first is None:
                first = block
                self._describe(block)
            self._check_alike(block, number)
            if n_rows := _n_rows(block.X):
                self._numbers.append(number)
                self._checksums.append(_checksum(block))
                lengths.append(n_rows)
                self._most = max(self._most, sum(_nbytes(part) for part in block))
        if not lengths:
            raise ValueError(f"{name} yields no rows")
        self.own = np.array(lengths, np.int64)
        self._starts = np.cumsum(self.own) - self.own
        self.n_rows = int(self.own.sum())
        if not self.any_order:
            next(self.stream([(0, lengths[0])]))  # whether it can be read again

    # --- what it is ---------------------------------------------------------------------------------------------------

    def _describe(self, block: Block) -> None:
        X = block.X
        self.is_sparse = hasattr(X, "tocsr")
        self.shape = tuple(X.shape[1:])
        self.feature_names = column_names(X)
        self.dtype = frame_as_array(X[:0], self.name).dtype if is_frame(X) else np.dtype(X.dtype)
        self.has_y, self.has_weights = block.y is not None, block.sample_weight is not None
        self.n_targets = math.prod(getattr(block.y, "shape", ())[1:])

    def _check_alike(self, block: Block, number: int) -> None:
        X, where = block.X, f"block {number} of {self.name}"
        if tuple(X.shape[1:]) != self.shape:
            raise ValueError(f"{where} has rows of shape {tuple(X.shape[1:])}, but the first block {self.shape}")
        if (block.y is not None, block.sample_weight is not None) != (self.has_y, self.has_weights):
            raise ValueError(f"{where} does not have the same parts as the first: X, (X, y) or (X, y, sample_weight)")
        if hasattr(X, "tocsr") != self.is_sparse or column_names(X) != self.feature_names:
            raise ValueError(f"{where} is of another kind than the first, or has other columns")
        if not is_frame(X) and X.dtype != self.dtype:
            raise ValueError(f"{where} holds {X.dtype}, but the first block {self.dtype}")

    def _block(self, item: Any, number: int) -> Block:
        """Return an item as a block."""
        parts = tuple(item) if is_item(item) else (item,)
        if not 1 <= len(parts) <= 3:
            raise ValueError(f"block {number} of {self.name} must be X, (X, y) or (X, y, sample_weight)")
        if isinstance(item, (Mapping, str, bytes)):
            raise TypeError(f"block {number} of {self.name} is {_article(type(item).__name__)}, not rows or (X, y)")
        X, *others = (part if part is None or _is_ready(part) else np.asarray(part) for part in parts)
        if X is None or X.ndim < 2 if hasattr(X, "ndim") else not is_frame(X):
            shape = "" if X is None else f", but its shape is {X.shape}"
            raise ValueError(f"X of block {number} of {self.name} must have two dimensions (rows, features){shape}")
        for word, part in zip(("y", "sample_weight"), others, strict=False):
            if part is not None and _n_rows(part) != _n_rows(X):
                raise ValueError(
                    f"block {number} of {self.name} has {_n_rows(X)} rows in X, but {_n_rows(part)} in {word}"
                )
        return Block(as_csr(X, f"X of block {number} of {self.name}", copy=True) if is_sparse(X) else X, *others)

    # --- reading ------------------------------------------------------------------------------------------------------

    def _iterate(self) -> Iterator[Any]:
        if self.any_order:
            return (self._data[i] for i in range(len(self._data)))
        made = self._data() if _is_function(self._data) else self._data
        if not isinstance(made, Iterable):
            raise TypeError(f"{self.name} must return blocks, but it has returned {_article(type(made).__name__)}")
        return iter(made)

    def read(self, start: int, stop: int, *, X: bool = True) -> Block:
        """Return a block."""
        return next(self.stream([(start, stop)]))

    def stream(self, ranges: Iterable[Range], *, X: bool = True) -> Iterator[Block]:
        """Yield blocks."""
        wanted = (int(np.searchsorted(self._starts, start)) for start, _ in ranges)
        if self.any_order:
            for which in wanted:
                number = self._numbers[which]
                if number >= len(self._data):
                    raise ValueError(f"{self.name} has changed: it has {len(self._data)} blocks now")
                yield self._same(which, self._data[number])
            return
        items = self._iterate()
        try:
            at = 0
            for which in wanted:
                for at in range(at, self._numbers[which] + 1):  # noqa: B020
                    try:
                        item = next(items)
                    except StopIteration:
                        raise ValueError(
                            f"{self.name} has ended after {at} blocks, but had {self._numbers[-1] + 1} before: "
                            + ("it can be read only once" if not at else _AGAIN)
                        ) from None
                at += 1
                yield self._same(which, item)
        finally:
            close: Callable[[], object] = getattr(items, "close", lambda: None)
            close()

    def _same(self, which: int, item: Any) -> Block:
        """Return an item as a block, if it is what it was."""
        number = self._numbers[which]
        block = self._block(item, number)
        if _n_rows(block.X) != self.own[which]:
            raise ValueError(
                f"block {number} of {self.name} has {_n_rows(block.X)} rows, but had {self.own[which]} before; {_AGAIN}"
            )
        self._check_alike(block, number)
        if _checksum(block) != self._checksums[which]:
            raise ValueError(f"block {number} of {self.name} has other rows than before; {_AGAIN}")
        return block

    def nbytes(self, ends: npt.NDArray[np.int64]) -> int:
        """Return the memory of the largest block."""
        return self._most


def is_item(item: object) -> bool:
    """Return whether an item is a tuple of X, y and weights, or a list of them, as some loaders make it."""
    return isinstance(item, tuple) or (isinstance(item, list) and all(hasattr(part, "shape") for part in item))


def _is_sequence(data: Any) -> bool:
    return hasattr(data, "__len__") and hasattr(data, "__getitem__") and not isinstance(data, Mapping)


def _is_function(data: Any) -> bool:
    return callable(data) and not hasattr(data, "__iter__")


def _is_ready(part: Any) -> bool:
    return isinstance(part, np.ndarray) or hasattr(part, "tocsr") or is_frame(part) or hasattr(part, "iloc")


def _n_rows(part: Any) -> int:
    return int(part.shape[0]) if hasattr(part, "shape") else len(part)


def _nbytes(part: Any) -> int:
    if part is None:
        return 0
    if hasattr(part, "tocsr"):
        return int(part.data.nbytes + part.indices.nbytes + part.indptr.nbytes)
    if hasattr(part, "memory_usage"):
        usage: Any = part.memory_usage(deep=True)
        return int(usage if np.ndim(usage) == 0 else usage.sum())
    return int(part.nbytes) if hasattr(part, "nbytes") else int(part.estimated_size())


def _checksum(block: Block) -> int:
    """Return a checksum of a few rows."""
    n_rows = _n_rows(block.X)
    rows = np.unique(np.linspace(0, n_rows - 1, min(n_rows, _SAMPLES)).astype(int))
    checksum = 0
    for part in block:
        if part is None:
            continue
        some = part.iloc[rows] if hasattr(part, "iloc") else part[rows.tolist()]
        for array in (some.data, some.indices) if hasattr(some, "tocsr") else (np.asarray(some),):
            numbers = array.dtype.kind in "fiubcU"
            checksum = zlib.crc32(array.tobytes() if numbers else repr(array.tolist()).encode(), checksum)
    return checksum


def _article(word: str) -> str:
    return f"{'an' if word[:1].lower() in 'aeiou' else 'a'} {word}"

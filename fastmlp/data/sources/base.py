"""`Source`: rows that are read block by block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Block", "Source"]


class Block(NamedTuple):
    """Some rows as their source has them: not yet checked, converted or scaled.

    Attributes
    ----------
    X : (n, I) array, CSR matrix, or table whose columns have names
    y : (n,) or (n, C) array, or None
    sample_weight : (n,) array or None
    """

    X: Any
    y: Any = None
    sample_weight: Any = None


class Source(ABC):
    """Rows in blocks. Each block is small enough to be read whole.

    Attributes
    ----------
    lengths : (n_blocks,) int64 array
        Rows of each block; none is 0.
    n_features : int
    dtype : dtype
        Of the numbers of X.
    is_sparse : bool
        Whether the blocks are CSR matrices.
    has_y, has_weights : bool
    n_targets : int
        Numbers of y in each row.
    any_order : bool
        Whether blocks can be read in any order. If not, they come in their own order, from the first.
    nbytes : int
        Memory that it takes to read any one block, with what is returned. What is in memory anyway does not count.
    feature_names : tuple of str or None
        Of the columns of X, if they have names. Then X of each block is a table.
    """

    lengths: npt.NDArray[np.int64]
    n_features: int
    dtype: np.dtype[Any]
    is_sparse: bool = False
    has_y: bool = False
    has_weights: bool = False
    n_targets: int = 1
    any_order: bool = True
    nbytes: int
    feature_names: tuple[str, ...] | None = None

    @property
    def n_rows(self) -> int:
        """Rows of all blocks."""
        return int(self.lengths.sum())

    @abstractmethod
    def read(self, blocks: Sequence[int]) -> Iterator[Block]:
        """Yield these blocks, in this order; ascending numbers if they do not come in any order.

        May be closed early. May run in another thread than the one that made the source, but only in one at a time.

        Raises
        ------
        ValueError
            If a file is not what it was when it was opened, or a block is not as long as before.
        OSError
            If a file cannot be read.
        Exception
            Whatever a reader of the user's own raises. A note names the block and its rows.
        """

    def targets(self, blocks: Sequence[int] | None = None) -> Iterator[Block]:
        """Yield all or these blocks, without X (None) where that saves reading it."""
        return self.read(range(len(self.lengths)) if blocks is None else blocks)

    def holds(self, out: object) -> bool:
        """Return whether a path or an array is one of those that are read here, or shares their memory."""
        return False

    def place(self, row: int, part: str = "X") -> str:
        """Return where a row of X, y or sample_weight is found, in a user's words: "row 3 of b.npy"."""
        return f"row {row}"

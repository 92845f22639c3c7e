"""`Blocks`: data in blocks of rows, which need not fit in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fastmlp.data.sources import open_source
from fastmlp.data.sources.base import Block, Source
from fastmlp.validation.calls import advised_constructor
from fastmlp.validation.settings import check_int, check_number

__all__ = ["Blocks", "check_alone", "refuse_blocks"]

_MIX_BYTES = 1 << 25
"""Numbers of X that are shuffled together, unless the user says how many blocks."""


_MIX_ROWS = 1 << 20
"""The same in rows, of a few numbers each: order, targets and weights take more memory than X."""


@advised_constructor
class Blocks:
    """Data in blocks of rows, for training on more rows than fit in memory.

    `MLP.fit`, `evaluate`, `score`, `predict` and `predict_proba`, and the estimators, take Blocks in place of X and y.
    Each epoch reads the blocks in a new random order. The rows of several blocks are shuffled together, while a second
    thread reads the next blocks.

    Parameters
    ----------
    X : path, list of paths, array, table, or iterable
        The rows: .npy, Parquet, Arrow, HDF5, CSV or SVMlight files, memory maps, zarr or Dask arrays, or any object
        that yields X, ``(X, y)`` or ``(X, y, sample_weight)`` each time it is iterated over. The guide on training out
        of core describes them.
    y : like X, or None, default=None
        The targets, unless they are in X. Not needed for predictions.
    sample_weight : like X, str or None, default=None
        Weight of each row's loss; for tables, the name of a column.
    features : list of str or None, default=None
        Columns of a table to train on. None is all columns except `target` and `sample_weight`.
    target : str, list of str or None, default=None
        Column or columns of a table with the targets.
    rows : int or None, default=None
        Rows per block. None makes blocks of about 512 KB, or takes those of the source.
    mix : int or None, default=None
        Number of blocks that are shuffled together. More blocks shuffle better and take more memory. None is about
        32 MB.

    Attributes
    ----------
    n_rows, n_features, n_blocks : int
        Numbers of rows, features and blocks.
    shape : tuple of int
        ``(n_rows, n_features)``.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong, files do not fit together, or one is truncated.
    OSError
        If a file cannot be read.
    ModuleNotFoundError
        If a package is missing; ``pip install "fastmlp[data]"`` installs it.

    Notes
    -----
    The order depends on the network's seed and on the blocks alone: a fit gives the same bits for any number of
    threads, and from any disk. Blocks that an iterable yields without `__getitem__` come in its own order; then only
    rows are shuffled.
    """

    def __init__(
        self,
        X: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        features: Sequence[str] | None = None,
        target: str | Sequence[str] | None = None,
        rows: int | None = None,
        mix: int | None = None,
    ) -> None:
        self.mix = None if mix is None else check_int("mix", mix, 1)
        rows = None if rows is None else check_int("rows", rows, 1)
        self._source = open_source(X, y, sample_weight=sample_weight, features=features, target=target, rows=rows)

    @classmethod
    def _of(cls, source: Source, mix: int | None) -> Self:
        blocks = cls.__new__(cls)
        blocks.mix, blocks._source = mix, source
        return blocks

    @property
    def n_rows(self) -> int:
        """Rows of all blocks."""
        return int(self._source.lengths.sum())

    @property
    def n_features(self) -> int:
        """Columns of X."""
        return self._source.n_features

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return len(self._source.lengths)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        return self.n_rows, self.n_features

    def memory(self, batch_size: int = 64, dtype: npt.DTypeLike = np.float32) -> int:
        """Return the maximum memory that a fit needs for these data. It does not depend on the number of rows.

        It holds the blocks that are shuffled together, the next ones, and a block that is being read. Blocks of CSR
        matrices count as if each had as many nonzeros as the fullest.

        Parameters
        ----------
        batch_size : int, default=64
            Rows per step.
        dtype : {"float32", "float64"}, default=np.float32
            Data type of the network.

        Returns
        -------
        int
            Memory in bytes, without the network.
        """
        source, n_rows = self._source, self._most_rows(check_int("batch_size", batch_size, 1))
        numbers = 1 if source.is_sparse or source.dtype == np.uint8 else np.dtype(dtype).itemsize // 4
        of_a_row = self._row_bytes() * numbers + 32  # y, its weight, and its place
        copies = 2 if source.is_sparse or source.dtype == np.uint8 else 3  # others may be packed, one after the other
        of_more_targets = 3 * (source.n_targets - 1) * np.dtype(dtype).itemsize
        return int(n_rows * (copies * of_a_row + of_more_targets) + 2 * source.nbytes)

    def split(self, fraction: float, seed: int | None = 0) -> tuple[Self, Self]:
        """Divide the blocks at random into two parts, for example for training and validation.

        Parameters
        ----------
        fraction : float
            Fraction of the blocks for the second part. Each part has at least one block.
        seed : int or None, default=0
            Seed of the choice. With None each choice is different.

        Returns
        -------
        (Blocks, Blocks)
            The two parts. Blocks keep their order.

        Raises
        ------
        ValueError
            If there is only one block, or the blocks can be read in one order only.
        """
        fraction = check_number("fraction", fraction, below=1, zero=False)
        n_blocks = self.n_blocks
        if n_blocks < 2:
            raise ValueError(
                "there is only one block, which cannot be divided; make blocks of fewer rows: Blocks(rows=...)"
            )
        if not self._source.any_order:
            raise ValueError("these blocks come in one order only; give validation_data")
        n_second = min(max(1, round(fraction * n_blocks)), n_blocks - 1)
        order = np.random.default_rng(seed).permutation(n_blocks)
        first, second = np.sort(order[n_second:]), np.sort(order[:n_second])
        return tuple(self._of(_Some(self._source, some), self.mix) for some in (first, second))  # type: ignore[return-value]

    def __iter__(self) -> Iterator[Block]:
        """Yield the blocks in their own order, as (X, y, sample_weight); what is missing is None."""
        return self._source.read(range(self.n_blocks))

    def __array__(self, *_: object, **__: object) -> npt.NDArray[Any]:
        """Refuse to be made an array, where something takes rows in memory only."""
        refuse_blocks(self)
        raise AssertionError

    def _most_rows(self, batch_size: int) -> int:
        """Return how many rows a mix has at most."""
        if self.mix is not None:
            mean = self.n_rows / self.n_blocks
            n_rows = round(self.mix * mean)
        else:
            n_rows = min(_MIX_BYTES // self._row_bytes(), _MIX_ROWS)
        return min(max(n_rows // batch_size, 1) * batch_size, self.n_rows)

    def _row_bytes(self) -> int:
        """Return how many bytes a row takes in memory."""
        source = self._source
        if source.is_sparse:
            return max(1, source.nbytes // int(source.lengths.max()))
        return source.n_features * (1 if source.dtype == np.uint8 else 4)

    def __repr__(self) -> str:
        return f"Blocks({self.n_rows:,} rows of {self.n_features:,} features in {self.n_blocks:,} blocks)"


@dataclass
class _Some(Source):
    """Some blocks of a source."""

    source: Source
    chosen: Any = field(repr=False)

    def __post_init__(self) -> None:
        source = self.source
        self.lengths, self.n_features, self.dtype = source.lengths[self.chosen], source.n_features, source.dtype
        self.is_sparse, self.has_y, self.has_weights = source.is_sparse, source.has_y, source.has_weights
        self.nbytes, self.feature_names, self.n_targets = source.nbytes, source.feature_names, source.n_targets

    def read(self, blocks: Sequence[int]) -> Iterator[Block]:
        """Yield these blocks."""
        return self.source.read(self._numbers(blocks))

    def targets(self, blocks: Sequence[int] | None = None) -> Iterator[Block]:
        """Yield blocks without X where that saves reading it."""
        return self.source.targets(self._numbers(range(len(self.lengths)) if blocks is None else blocks))

    def holds(self, out: object) -> bool:
        """Return whether a path or an array is one of those that the source reads."""
        return self.source.holds(out)

    def place(self, row: int, part: str = "X") -> str:
        """Return where a row is found in the source."""
        block = int(np.searchsorted(np.cumsum(self.lengths), row, "right"))
        before = int(self.lengths[:block].sum())
        return self.source.place(row - before + int(self.source.lengths[: self.chosen[block]].sum()), part)

    def _numbers(self, blocks: Sequence[int]) -> list[int]:
        return [int(self.chosen[block]) for block in blocks]


def refuse_blocks(X: object, what: str = "") -> None:
    """Refuse Blocks where rows must be in memory; `what` comes before the name of X."""
    if isinstance(X, Blocks):
        raise TypeError(
            f"{what}X is Blocks, which only fit, evaluate, score, predict and predict_proba of a network take, and "
            "fit, score, predict and predict_proba of an estimator"
        )


def check_alone(**given: object) -> None:
    """Refuse what belongs into Blocks and was given beside them."""
    for name, value in given.items():
        if value is not None:
            raise TypeError(
                f"X is Blocks, which hold {name}, too: Blocks(X, y, sample_weight=...); do not give {name} again"
            )

"""`Mixes`: the order in which an epoch takes the rows of blocks.

The blocks of an epoch come one after another in random order. This row of rows is cut into mixes, each of whole batches
and about as long as so many blocks. The rows of a mix are shuffled. All is keyed by a number, so an epoch can begin at
any of its mixes, and nothing depends on how fast blocks are read.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Mix", "Mixes"]


class Mix(NamedTuple):
    """Some rows in a row of the epoch, which are shuffled together.

    Attributes
    ----------
    number : int
    first, end : int
        Rows of the epoch before it, and with it.
    """

    number: int
    first: int
    end: int


@dataclass(frozen=True)
class Mixes:
    """The mixes of an epoch.

    Attributes
    ----------
    lengths : (n_blocks,) int64 array
        Rows of each block.
    batch_size : int
    most_rows : int
        Of a mix, unless a batch has more.
    any_order : bool
        Whether blocks can come in any order.
    shuffle : bool
        Whether anything is shuffled.
    """

    lengths: npt.NDArray[np.int64]
    batch_size: int
    most_rows: int
    any_order: bool
    shuffle: bool

    @property
    def checksum(self) -> int:
        """A number that is another one if rows would come in another order for the same key; never 0."""
        settings = repr((self.batch_size, self.rows_of_a_mix, self.any_order, self.shuffle))
        return 1 + zlib.crc32(settings.encode(), zlib.crc32(np.ascontiguousarray(self.lengths, "<i8").tobytes()))

    @property
    def n_rows(self) -> int:
        """Rows of an epoch."""
        return int(self.lengths.sum())

    @property
    def n_batches(self) -> int:
        """Batches of an epoch."""
        return math.ceil(self.n_rows / self.batch_size)

    @property
    def rows_of_a_mix(self) -> int:
        """Rows of the longest mix; all have the same number of batches, or one less."""
        return min(self.n_rows, math.ceil(self.n_batches / self._n_mixes) * self.batch_size)

    @property
    def _n_mixes(self) -> int:
        return math.ceil(self.n_batches / max(1, self.most_rows // self.batch_size))

    def after(self, step: int) -> Iterator[Mix]:
        """Yield the mixes of the batches from number `step` on; the first may have begun before it."""
        n_mixes = self._n_mixes
        ends = [self.n_batches * mix // n_mixes for mix in range(n_mixes + 1)]
        for mix in range(n_mixes):
            if ends[mix + 1] > step:
                yield Mix(mix, ends[mix] * self.batch_size, min(ends[mix + 1] * self.batch_size, self.n_rows))

    def blocks(self, key: int) -> npt.NDArray[np.int64]:
        """Return the order of the blocks (n_blocks,) in an epoch."""
        if self.shuffle and self.any_order:
            return np.random.default_rng([key, 0]).permutation(len(self.lengths))
        return np.arange(len(self.lengths))

    def rows(self, key: int, mix: Mix) -> npt.NDArray[np.int64]:
        """Return the order of the rows (n,) of a mix."""
        n_rows = mix.end - mix.first
        if self.shuffle and self.n_batches > 1:
            return np.random.default_rng([key, 1 + mix.number]).permutation(n_rows)
        return np.arange(n_rows)

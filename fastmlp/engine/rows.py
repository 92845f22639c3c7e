"""The rows of X as the kernels read them: in place, or packed once if that makes training faster.

The formats are those of `fastmlp.kernels.formats`. Rows of numbers with many zeros have the format "packed". If they
have not been packed, predictions pack them batch by batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from weakref import finalize

import numpy as np
import numpy.typing as npt

from fastmlp.engine.base import sampled
from fastmlp.engine.free_memory import free_memory
from fastmlp.engine.layout import as_kernel_input
from fastmlp.engine.threads import run_brief_team, run_team
from fastmlp.kernels.formats.base import WIDTHS
from fastmlp.kernels.formats.packed import PAIR, WORD_BYTES, pack_rows
from fastmlp.kernels.formats.packed import buffers as packed_buffers
from fastmlp.kernels.simd import VECTOR_BYTES
from fastmlp.once import Sharing, each_time
from fastmlp.validation.inputs import check_finite

__all__ = ["Rows", "rows_in_place", "rows_to_train"]

_FEW_ROWS = 6
_BRIEF = 2**20  # numbers that are packed in less than a millisecond, for which nobody needs to hear Ctrl-C
_MOST_COUNTED = 2**16  # nonzeros from all over a CSR matrix, from which those of each feature are estimated

_MOST_KEPT = 2**28  # bytes
_MOST_TIMES = 2  # of the memory that is needed, which may be used again
_ALWAYS_FITS = 2**26  # bytes of X for whose packed copy nobody looks up how much memory is free
_kept: list[npt.NDArray[np.uint64]] = []  # memory of packed rows that nobody uses any more, at most one

_NO_INDPTR, _NO_INDICES = np.zeros(0, np.int64), np.zeros(0, np.uint64)


@dataclass
class Rows:
    """A checked X as the kernels of its format take it.

    Attributes
    ----------
    format : str
        A key of `fastmlp.kernels.formats.FORMATS`.
    n_rows, n_features : int
    x : (k,) array
        The numbers, or bytes.
    indptr : (n_rows + 1,) int64 array
        Where each CSR row starts in `x`, or each packed row in `indices`; empty for other rows.
    indices : (k,) uint64 or int32 array
        `x` of packed rows, seen as words; the features of the numbers of CSR rows.
    """

    format: str
    n_rows: int
    n_features: int
    x: npt.NDArray[Any]
    indptr: npt.NDArray[np.int64]
    indices: npt.NDArray[Any]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features, as those of X."""
        return self.n_rows, self.n_features

    @property
    def is_packed(self) -> bool:
        """Whether the rows have been packed."""
        return self.format == "packed" and len(self.indptr) > 0

    def most_nonzeros(self, n_rows: int, chosen: npt.NDArray[np.int64] | None = None) -> int:
        """Return how many numbers any `n_rows` of the CSR rows have at most; 0 for other formats.

        `chosen` says from which rows; a row may be there several times. None is all rows, each once.
        """
        if self.format != "csr":
            return 0
        counts = np.diff(self.indptr)
        if chosen is not None:
            counts = counts[chosen]
        return int(counts.sum() if n_rows >= len(counts) else np.partition(counts, -n_rows)[-n_rows:].sum())

    @cached_property
    def density(self) -> npt.NDArray[np.float64] | None:
        """Which part of the rows has each feature (n_features,), estimated; None if all rows have all features."""
        if self.format == "csr":
            stride = max(1, -(-len(self.indices) // _MOST_COUNTED))  # there may be no nonzeros
            counts = np.bincount(self.indices[::stride], minlength=self.n_features)
            return np.asarray(counts * (stride / self.n_rows), np.float64)
        if self.format == "packed bytes":  # each batch is packed as it is loaded
            nonzero = sampled(self.x.reshape(self.shape)) != 0
            pairs = np.logical_or.reduceat(nonzero, range(0, self.n_features, PAIR), axis=1)
        elif self.is_packed:
            n_words = -(-self.n_features // (PAIR * 8 * WORD_BYTES))
            starts = sampled(self.indptr[: self.n_rows])
            masks = self.indices[starts[:, None] + np.arange(n_words)]
            pairs = np.unpackbits(masks.astype("<u8").view(np.uint8), axis=1, bitorder="little")
        else:
            return None
        return np.repeat(pairs.mean(axis=0), PAIR)[: self.n_features]


def rows_in_place(X: Any, first_layer: str, width: int) -> Rows:
    """Return the rows of a checked X as they are, if a thread's first weights have `width` vectors in a row."""
    n_rows, n_features = X.shape
    if not isinstance(X, np.ndarray):
        indices = as_kernel_input(np.ascontiguousarray(X.indices, np.int32))
        indptr = as_kernel_input(np.ascontiguousarray(X.indptr, np.int64))
        return Rows("csr", n_rows, n_features, as_kernel_input(X.data), indptr, indices)
    packs = first_layer == "sparse" or (first_layer == "auto" and _worth_packing(X, width))
    name = ("packed" if packs else "dense") if X.dtype != np.uint8 else "packed bytes" if packs else "bytes"
    return Rows(name, n_rows, n_features, as_kernel_input(X), _NO_INDPTR, _NO_INDICES)


def rows_to_train(X: Any, first_layer: str, width: int, n_threads: int, once: Sharing = each_time) -> Rows:
    """Return the rows of a checked X, packed if many epochs will gain by it. `once` makes rows of each format.

    Raises
    ------
    ValueError
        If X, an array of numbers, has one that is not finite.
    """
    rows = rows_in_place(X, first_layer, -(-width // n_threads))
    return once(lambda: _checked(rows, X, n_threads), X, "rows", rows.format)


def _checked(rows: Rows, X: Any, n_threads: int) -> Rows:
    """Pack rows whose format says so; refuse numbers that are not finite."""
    if rows.format == "packed":
        packed = _packed(rows, n_threads) if _fits(rows) else None
        if packed is not None:
            return packed
        rows = replace(rows, format="dense")
    if rows.format == "dense":
        check_finite(X, X, "X")
    return rows


def _worth_packing(X: npt.NDArray[Any], width: int) -> bool:
    """Estimate from some rows whether packing is faster, if a thread's weights have `width` vectors in a row.

    Few rows are always packed: a dense tile of so few has too few sums to keep a core busy. Otherwise, forward and
    update together take about a cycle for each vector of a feature and 0.2 more for dense rows. Packed rows take, for
    each pair of features that are not both zero, 1.6 cycles for each vector of a tile and 6.2 more, but at least 3.1 a
    vector. Packing must gain 5 %, which pays for the copy.
    """
    if len(X) < _FEW_ROWS:
        return True
    sample = sampled(X)
    nonzero = np.zeros((len(sample), -(-sample.shape[1] // PAIR) * PAIR), np.bool_)
    np.not_equal(sample, 0, out=nonzero[:, : sample.shape[1]])
    n_pairs = np.count_nonzero(nonzero.view(np.uint16))  # two at once
    dense, packed = sample.size * (width + 0.2), 0.0
    while width:
        tile = max(one for one in WIDTHS if one <= width)
        packed += n_pairs * max(1.6 * tile + 6.2, 3.1 * tile)
        width -= tile
    return packed < 0.95 * dense


def _fits(rows: Rows) -> bool:
    """Return whether a packed copy fits in memory; without one, rows are trained on as if they were dense."""
    if rows.n_rows * rows.n_features * rows.x.itemsize < _ALWAYS_FITS:
        return True
    x = rows.x.reshape(rows.n_rows, rows.n_features)
    part = np.count_nonzero(sampled(x)) / sampled(x).size
    return bool(2 * part * x.nbytes < free_memory())  # of a pair that is not zero, both numbers are kept


def _packed(rows: Rows, n_threads: int) -> Rows | None:
    """Return a packed copy of all rows; None if there are numbers that are not finite."""
    n_rows, n_features, x = rows.n_rows, rows.n_features, rows.x
    vector = VECTOR_BYTES // WORD_BYTES  # words: whole vectors are read and written, also behind the last row
    mask = packed_buffers(1, n_features, 0).masks
    most = mask + -(-n_features // PAIR) * PAIR * x.itemsize // WORD_BYTES  # words that a row can take
    first_rows = [n_rows * rank // n_threads for rank in range(n_threads + 1)]
    try:
        words = _memory(n_rows * most + n_threads * vector)
    except MemoryError:
        return None
    indptr = np.zeros(n_rows + 1, np.int64)
    bad_rows = [np.full(1, -1) for _ in range(n_threads)]

    def pack_share(rank: int) -> None:
        first, end = first_rows[rank : rank + 2]
        start = indptr[first] = first * most + rank * vector
        pack_rows(words.view(x.dtype), words, indptr[1:], bad_rows[rank], x, n_features, start, first, end)

    run = run_brief_team if n_threads == 1 and x.size < _BRIEF else run_team
    run(n_threads, pack_share)
    if any(row[0] >= 0 for row in bad_rows):
        return None
    indptr[first_rows[:-1]] = [first * most + rank * vector for rank, first in enumerate(first_rows[:-1])]
    packed = Rows("packed", n_rows, n_features, words.view(x.dtype), indptr, words)
    if words.nbytes <= _MOST_KEPT:
        finalize(packed, _keep, words).atexit = False
    return packed


def _memory(n_words: int) -> npt.NDArray[np.uint64]:
    """Return uninitialized memory for some words.

    That of earlier rows is used again if it is large enough. Fresh memory takes as long to get as to write to, and on
    virtual machines several times as long. Few rows, for validation, leave it to the many that are trained on.
    """
    try:
        words = _kept.pop()
    except IndexError:
        return np.empty(n_words, np.uint64)
    if n_words <= words.size <= _MOST_TIMES * n_words:
        return words
    if words.size > n_words:
        _keep(words)
    return np.empty(n_words, np.uint64)


def _keep(words: npt.NDArray[np.uint64]) -> None:
    """Keep this memory, or what is kept already if that is larger."""
    _kept[:] = [max([*_kept, words], key=len)]

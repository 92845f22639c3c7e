"""The rows of X as the kernels read them: in place, or made small once where that is faster.

There are these kinds, each with kernels of its own in `fastmlp.kernels.first_layer`: "dense" numbers, read in place;
"sparse" ones, read in place too, whose zeros are looked for batch by batch; "packed" ones, copied once without their
zeros; "bytes" and "sparse bytes", which are scaled as they are read; and "csr".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import finalize

import numpy as np
import numpy.typing as npt

from fastmlp.engine.layout import as_kernel_input, n_words
from fastmlp.engine.threads import run_together
from fastmlp.kernels.rows import PAIR, WORD_BYTES, pack_rows
from fastmlp.kernels.simd import VECTOR_BYTES
from fastmlp.kernels.sparse import WIDTHS
from fastmlp.validation.inputs import check_finite

__all__ = ["Rows", "rows_in_place", "rows_to_train"]

_LOOKED_AT = 128  # rows from all over X, from which its zeros are guessed
_FEW_ROWS = 6

_MOST_KEPT = 2**28  # bytes
_kept: list[npt.NDArray[np.uint64]] = []  # memory of packed rows that nobody has any more, at most one

_NO_STARTS, _NO_INDEX = np.zeros(0, np.int64), np.zeros(0, np.uint64)


@dataclass
class Rows:
    """A checked X as the kernels of its kind take it.

    Attributes
    ----------
    kind : str
    n_rows, n_features : int
    x : (k,) array
        The numbers, or bytes.
    starts : (n_rows + 1,) int64 array
        Where each CSR row starts in `x`, or each packed row in `index`.
    index : (k,) uint64 or int32 array
        `x` of packed rows seen as words, for each row begins with a bit for each pair of features that is not zero; the
        features of the numbers of CSR rows.
    """

    kind: str
    n_rows: int
    n_features: int
    x: npt.NDArray[Any]
    starts: npt.NDArray[np.int64]
    index: npt.NDArray[Any]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features, as those of X."""
        return self.n_rows, self.n_features

    def most_numbers(self, n_rows: int) -> int:
        """Return how many numbers any `n_rows` of the CSR rows have, at most; 0 for other kinds."""
        if self.kind != "csr":
            return 0
        counts = np.diff(self.starts)
        return int(counts.sum() if n_rows >= len(counts) else np.partition(counts, -n_rows)[-n_rows:].sum())


def rows_in_place(X: Any, first_layer: str, width: int) -> Rows:
    """Return the rows of a checked X as they are, where a thread's first weights have `width` vectors in a row."""
    n_rows, n_features = X.shape
    if not isinstance(X, np.ndarray):
        index = as_kernel_input(np.ascontiguousarray(X.indices, np.int32))
        starts = np.ascontiguousarray(X.indptr, np.int64)
        return Rows("csr", n_rows, n_features, as_kernel_input(X.data), as_kernel_input(starts), index)
    few = first_layer == "sparse" or (first_layer == "auto" and _worth_leaving_out(X, width))
    kind = ("sparse " if few else "") + "bytes" if X.dtype == np.uint8 else "sparse" if few else "dense"
    return Rows(kind, n_rows, n_features, as_kernel_input(X), _NO_STARTS, _NO_INDEX)


def rows_to_train(X: Any, first_layer: str, width: int, n_threads: int) -> Rows:
    """Return the rows of a checked X, made small where many epochs will gain by it.

    Raises
    ------
    ValueError
        If X, an array of numbers, has one that is not finite.
    """
    rows = rows_in_place(X, first_layer, -(-width // n_threads))
    if rows.kind == "sparse":
        packed = _packed(rows, n_threads)
        if packed is not None:
            return packed
    if rows.kind in ("dense", "sparse"):
        check_finite(X, X, "X")
    return rows


def _worth_leaving_out(X: npt.NDArray[Any], width: int) -> bool:
    """Guess from some rows whether leaving out zeros is faster, where a thread's weights have `width` vectors in a row.

    Of a few rows it always is: a dense tile of so few has too few sums to keep a core busy. Otherwise the dense
    products, there and back, take about a cycle a vector of each feature and 0.2 more; the others, for each pair of
    numbers that are not both zero, 1.6 cycles a vector of each tile and 6.2 more, but never less than 3.1 a vector.
    A few percent are not worth a copy.
    """
    if len(X) < _FEW_ROWS:
        return True
    some = X[:: -(-len(X) // _LOOKED_AT)]
    nonzero = np.zeros((len(some), -(-some.shape[1] // PAIR) * PAIR), np.bool_)
    np.not_equal(some, 0, out=nonzero[:, : some.shape[1]])
    n_pairs = np.count_nonzero(nonzero.view(np.uint16))  # two at once
    dense, few = some.size * (width + 0.2), 0.0
    while width:
        tile = max(one for one in WIDTHS if one <= width)
        few += n_pairs * max(1.6 * tile + 6.2, 3.1 * tile)
        width -= tile
    return few < 0.95 * dense


def _packed(rows: Rows, n_threads: int) -> Rows | None:
    """Copy all rows without their pairs of zeros; return None if there are numbers that are not finite."""
    n_rows, n_features, x = rows.n_rows, rows.n_features, rows.x
    vector = VECTOR_BYTES // WORD_BYTES  # words: whole vectors are read and written, also behind the last row
    most = n_words(n_features) + -(-n_features // PAIR) * PAIR * x.itemsize // WORD_BYTES  # words that a row can take
    first_rows = [n_rows * rank // n_threads for rank in range(n_threads + 1)]
    words = _room(n_rows * most + n_threads * vector)
    starts = np.zeros(n_rows + 1, np.int64)
    bad_rows = [np.full(1, -1) for _ in range(n_threads)]

    def share(rank: int) -> None:
        first, last = first_rows[rank : rank + 2]
        start = starts[first] = first * most + rank * vector
        pack_rows(words.view(x.dtype), words, starts[1:], bad_rows[rank], x, n_features, start, first, last)

    run_together(n_threads, share)
    if any(row[0] >= 0 for row in bad_rows):
        return None
    starts[first_rows[:-1]] = [first * most + rank * vector for rank, first in enumerate(first_rows[:-1])]
    packed = Rows("packed", n_rows, n_features, words.view(x.dtype), starts, words)
    if words.nbytes <= _MOST_KEPT:
        finalize(packed, _keep, words).atexit = False
    return packed


def _room(n_words: int) -> npt.NDArray[np.uint64]:
    """Return memory for some words, with anything in it; what is never written to takes none.

    That of earlier rows is used again, if it is enough: to get fresh memory takes as long as to write to it, and on
    virtual machines several times as long.
    """
    try:
        words = _kept.pop()
    except IndexError:
        return np.empty(n_words, np.uint64)
    return words if words.size >= n_words else np.empty(n_words, np.uint64)


def _keep(words: npt.NDArray[np.uint64]) -> None:
    _kept[:] = [words]

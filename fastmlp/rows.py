"""The rows of X as the kernels read them: in place, and where zeros are many, with marks of what is not zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.kernels import sparse
from fastmlp.layout import n_words
from fastmlp.threads import run_together

__all__ = ["NO_MARKS", "Rows", "mark_rows", "worth_marking"]

NO_MARKS = np.zeros(0, np.uint64)

_LOOKED_AT = 128  # rows from all over X that are looked at to guess its zeros
_DENSE_FROM = (
    0.6  # part of the features that one or the other of two rows has, from which the dense products are faster
)


@dataclass
class Rows:
    """A checked X, flat, as a kernel takes it.

    Attributes
    ----------
    x : (n_rows * n_features,) array
    n_rows, n_features : int
    marks : (n_rows * words,) uint64 array
        A bit for each number that is not zero, or `NO_MARKS`.
    """

    x: npt.NDArray[Any]
    n_rows: int
    n_features: int
    marks: npt.NDArray[np.uint64]


def worth_marking(X: npt.NDArray[Any]) -> bool:
    """Guess from some rows whether leaving out zeros is faster than the dense products.

    The sparse forward pass takes rows in pairs, so what counts are the features that one or the other has.
    """
    some = X[:: max(1, len(X) // _LOOKED_AT)] != 0
    half = len(some) // 2
    pairs = some[:half] | some[half : 2 * half] if half else some
    return float(pairs.mean()) < _DENSE_FROM


def mark_rows(rows: Rows, n_threads: int) -> npt.NDArray[np.uint64]:
    """Return the marks of all rows."""
    words = n_words(rows.n_features)
    marks = np.empty(rows.n_rows * words, np.uint64)

    def call(rank: int) -> None:
        first, last = (rows.n_rows * r // n_threads for r in (rank, rank + 1))
        sparse.mark_rows(marks, rows.x, rows.n_features, words, first, last)

    if n_threads == 1:
        call(0)
    else:
        sparse.mark_rows(marks, rows.x, rows.n_features, words, 0, 0)  # compiles once
        run_together(n_threads, call)
    return marks

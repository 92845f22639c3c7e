"""The number of floating-point operations in an epoch of plain training."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["count_nonzero", "epoch_flops"]


def epoch_flops(layers: Sequence[int], n_rows: int, n_nonzero: int | None = None) -> int:
    """Count the FLOP of an epoch, two for each multiply-add: forward and dW of each layer, dX of all but the first.

    Parameters
    ----------
    layers : sequence of int
        Sizes, from the inputs to the outputs.
    n_rows : int
    n_nonzero : int or None
        Nonzeros of X, if multiplications by zero are skipped; None counts all numbers.
    """
    n_first = n_rows * layers[0] if n_nonzero is None else n_nonzero
    first, *others = [2 * fan_in * fan_out for fan_in, fan_out in itertools.pairwise(layers)]
    return 2 * n_first * (first // layers[0]) + 3 * n_rows * sum(others)


def count_nonzero(X: Any) -> int:
    """Count the nonzeros of an array or sparse matrix."""
    return int(X.count_nonzero() if hasattr(X, "count_nonzero") else np.count_nonzero(X))

"""A memory map that is larger than memory."""

from __future__ import annotations

import numpy as np

from fastmlp.engine.free_memory import free_memory
from fastmlp.validation.calls import warn

__all__ = ["warn_of_large_map"]


def warn_of_large_map(X: object) -> None:
    """Warn if X is a memory map that does not fit: a shuffled fit reads it page by page, in minutes per gigabyte."""
    if not isinstance(X, np.ndarray):
        return
    base: object = X
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    if isinstance(base, np.memmap) and X.nbytes > (free := free_memory()):
        warn(
            f"X is a memory map of {X.nbytes / 1e9:.2g} GB, but only {free / 1e9:.2g} GB of memory are free, so this "
            "fit will be slow, or fail; fit(fastmlp.data.Blocks(X, y)) reads it in blocks",
            UserWarning,
        )

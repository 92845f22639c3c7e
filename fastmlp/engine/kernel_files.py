"""The compiled kernels on disk and the processor that they are for, as other packages may use them."""

from __future__ import annotations

from collections.abc import Callable

from fastmlp.kernels.cache import (
    NotOnDisk,
    Ready,
    folder,
    only_load,
    preferred_folder,
    processor,
    ready,
    unsafe_folders,
)
from fastmlp.kernels.lock import release_all
from fastmlp.kernels.simd import FMA, VECTOR_BYTES

__all__ = [
    "FMA", "VECTOR_BYTES", "Ready", "are_compiled", "folder", "preferred_folder", "processor", "ready", "release_all",
    "unsafe_folders",
]  # fmt: skip


def are_compiled(call: Callable[[], object]) -> bool:
    """Return whether all kernels that a call needs are on disk. The call ends at the first that is not."""
    only_load.set()
    try:
        call()
    except NotOnDisk:
        return False
    finally:
        only_load.clear()
    return True

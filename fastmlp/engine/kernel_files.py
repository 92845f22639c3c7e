"""What other packages may know of the compiled kernels on disk."""

from __future__ import annotations

from fastmlp.kernels.cache import Ready, folder, processor, ready
from fastmlp.kernels.lock import release_all

__all__ = ["Ready", "folder", "processor", "ready", "release_all"]

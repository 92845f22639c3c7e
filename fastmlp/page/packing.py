"""Numbers as text: compressed by zlib, in base64. ``web/network.js`` reads them."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["packed", "packed_floats", "plain", "rounded"]


def packed(array: npt.NDArray[Any]) -> str:
    """Return the bytes of an array as text."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes())).decode()


def rounded(numbers: npt.NDArray[np.float32], n_bits: int) -> npt.NDArray[np.float32]:
    """Return float32 numbers rounded to those with only so many bits, at most 32, from the top."""
    if n_bits == 32:
        return numbers
    low = np.uint32(2 ** (32 - n_bits) - 1)
    bits = np.ascontiguousarray(numbers).view(np.uint32)
    return ((bits + (low // 2 + 1)) & ~low).view(np.float32)


def packed_floats(numbers: npt.NDArray[np.float32]) -> str:
    """Return float32 numbers as text, all lowest bytes first, which compress better apart from the others."""
    of_each = np.ascontiguousarray(numbers, "<f4").reshape(-1).view(np.uint8).reshape(-1, 4)
    return packed(of_each.T)


def plain(numbers: Any, digits: int = 6) -> Any:
    """Return numbers as lists for JSON, rounded to some digits; what is not finite becomes None."""
    array = np.asarray(numbers, np.float64)
    if array.ndim:
        return [plain(each, digits) for each in array]
    return float(f"{float(array):.{digits}g}") if np.isfinite(array) else None

"""Numbers as text: compressed by zlib, in base64. ``web/network.js`` reads them."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["packed", "packed_floats", "plain", "rounded"]

_LOW_BYTE = np.uint32(0xFF)


def packed(array: npt.NDArray[Any]) -> str:
    """Return the bytes of an array as text."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes())).decode()


def rounded(numbers: npt.NDArray[np.float32], n_bytes: int) -> npt.NDArray[np.float32]:
    """Return float32 numbers rounded to those with only so many bytes, 3 or 4, from the top."""
    if n_bytes == 4:
        return numbers
    bits = np.ascontiguousarray(numbers).view(np.uint32)
    return ((bits + (_LOW_BYTE // 2 + 1)) & ~_LOW_BYTE).view(np.float32)


def packed_floats(numbers: npt.NDArray[np.float32], n_bytes: int = 4) -> str:
    """Return float32 numbers as text, all lowest bytes first, which compress better apart from the others."""
    of_each = np.ascontiguousarray(numbers, "<f4").reshape(-1).view(np.uint8).reshape(-1, 4)
    return packed(of_each[:, 4 - n_bytes :].T)


def plain(numbers: Any, digits: int = 6) -> Any:
    """Return numbers as lists for JSON, rounded to some digits; what is not finite becomes None."""
    array = np.asarray(numbers, np.float64)
    if array.ndim:
        return [plain(each, digits) for each in array]
    return float(f"{float(array):.{digits}g}") if np.isfinite(array) else None

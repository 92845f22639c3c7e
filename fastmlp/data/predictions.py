"""Predictions block by block, in memory or in a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.data.blocks import Blocks
from fastmlp.data.checked import located
from fastmlp.storage import StrPath, written_whole

__all__ = ["collected", "each_block"]


def each_block(
    blocks: Blocks, predict: Callable[[Any], npt.NDArray[Any]], out: StrPath | npt.NDArray[Any] | None
) -> Iterator[npt.NDArray[Any]]:
    """Yield what `predict` returns for the rows of each block. Its errors name the row among all rows.

    Raises
    ------
    ValueError
        If `out`, to which the predictions are written, has the rows.
    """
    if blocks._source.holds(out):
        raise ValueError("out has the rows of X, which predictions would overwrite; give another file or array")
    first_row = 0
    for block in blocks:
        yield located(blocks._source, first_row, partial(predict, block.X))
        first_row += block.X.shape[0]


def collected(
    parts: Iterable[npt.NDArray[Any]], n_rows: int, out: StrPath | npt.NDArray[Any] | None
) -> npt.NDArray[Any]:
    """Return predictions that come in parts as one array.

    Parameters
    ----------
    parts : iterable of arrays
    n_rows : int
        Of all parts.
    out : path, array or None
        A .npy file, which is written as a whole or not at all and returned as a memory map; an array of the same shape
        to write to; or None for a new array.

    Raises
    ------
    TypeError, ValueError
        If `out` is something else, or does not fit.
    OSError
        If the file cannot be written.
    """
    if isinstance(out, (str, os.PathLike)):
        return _in_file(parts, n_rows, out)
    if out is not None and not isinstance(out, np.ndarray):
        raise TypeError(f"out must be the path of a .npy file, or an array, not {type(out).__name__}")
    place = 0
    for part in parts:
        shape = (n_rows, *part.shape[1:])
        if out is None:
            out = np.empty(shape, part.dtype)
        if out.shape != shape or not np.can_cast(part.dtype, out.dtype, "same_kind"):
            raise ValueError(
                f"out must be an array of shape {shape} for {part.dtype}, not of {out.shape} and {out.dtype}"
            )
        out[place : place + len(part)] = part
        place += len(part)
    assert out is not None
    return out


def _in_file(parts: Iterable[npt.NDArray[Any]], n_rows: int, path: StrPath) -> npt.NDArray[Any]:
    if os.path.splitext(path)[1] != ".npy":
        raise ValueError(f"out must be the path of a .npy file, not {os.fspath(path)!r}")
    with written_whole(path) as file:
        for place, part in enumerate(parts):
            if place == 0:
                header = {"descr": part.dtype.str, "fortran_order": False, "shape": (n_rows, *part.shape[1:])}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(part.tobytes())  # `tofile` says nothing if the last bytes do not fit on the disk
    loaded: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    return loaded

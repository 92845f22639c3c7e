"""X, y and sample weights as partitions: Dask arrays, dataframes, delayed blocks, futures, or data of this process."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from dask.base import is_dask_collection
from dask.delayed import Delayed
from distributed import Client, Future

from fastmlp.data.blocks import refuse_blocks
from fastmlp.names import strings
from fastmlp.validation.frames import is_frame

__all__ = [
    "Description",
    "Partition",
    "describe",
    "divide",
    "gathered",
    "in_groups",
    "is_divided",
    "stacked",
]


class Partition(NamedTuple):
    """Some rows: X, y and the sample weights or None, each a `Delayed`, a `Future` or data of this process."""

    X: Any
    y: Any
    weights: Any


def on_cluster(client: Client, partitions: Sequence[Partition], send: Callable[[Any], Any]) -> list[Partition]:
    """Return the same rows as futures. `send` brings a block of this process to a worker, and returns its future."""

    def future(block: Any) -> Any:
        return block if block is None or isinstance(block, Future) else send(block)

    # All at once, since the blocks of a collection share one graph, which may hold the rows; each call would send it.
    computed = iter(client.compute([block for one in partitions for block in one], traverse=False))
    return [Partition(*(future(next(computed)) for _ in one)) for one in partitions]


class Description(NamedTuple):
    """What is to be known of a partition before its rows are checked.

    Attributes
    ----------
    n_rows : int
    X : (1, I) array or table
        The first row, if there is one.
    y : (k,) or (1, C) array or table
        One of each class, or the first row.
    """

    n_rows: int
    X: Any
    y: Any


def describe(number: int, X: Any, y: Any, weights: Any, has_classes: bool) -> Description:
    """Return what is to be known of a partition, in the process that has it.

    Raises
    ------
    ValueError
        If X, y and the weights do not have the same number of rows.
    """
    n_rows, others = _n_rows(X), {"y": y, "sample_weight": weights}
    for name, data in others.items():
        if data is not None and _n_rows(data) != n_rows:
            raise ValueError(f"partition {number}: X has {n_rows} rows, but {name} has {_n_rows(data)}")
    labels = None if is_frame(y) else strings(y, f"partition {number}: y") if has_classes else None
    if labels is None and has_classes and not is_frame(y) and np.ndim(y) == 1:
        labels = np.asarray(y)
    return Description(n_rows, _rows_of(X)[:1], _rows_of(y)[:1] if labels is None else np.unique(labels))


def _rows_of(data: Any) -> Any:
    """Return what may be indexed by rows."""
    return data.iloc if hasattr(data, "iloc") else data.tocsr() if hasattr(data, "tocsr") else data


def _n_rows(data: Any) -> int:
    return int(data.shape[0]) if hasattr(data, "shape") else len(data)


# --- how collections are divided --------------------------------------------------------------------------------------


@dataclass
class _Blocks:
    """One of X, y and the weights in blocks of rows; `lengths` are None if they are not known yet."""

    name: str
    blocks: list[Any]
    lengths: tuple[int, ...] | None
    array: Any = None  # a Dask array, which can be divided anew


def is_divided(data: Any, least_ndim: int = 2) -> bool:
    """Return whether `data` has blocks of rows: a Dask collection, a future, or a list of them or of such arrays."""
    if is_dask_collection(data) or isinstance(data, Future):
        return True
    if not isinstance(data, (list, tuple)) or not data:
        return False
    return all(_is_elsewhere(one) or is_frame(one) or getattr(one, "ndim", 0) >= least_ndim for one in data)


def _is_elsewhere(data: Any) -> bool:
    return isinstance(data, (Delayed, Future))  # a `Delayed` has any attribute that one asks for


def divide(X: Any, y: Any, sample_weight: Any, n_parts: int) -> list[Partition]:
    """Return the partitions of the rows: those of the Dask collections, or `n_parts` equal ones of data in memory.

    Raises
    ------
    TypeError, ValueError
        If X, y and the weights are not divided alike, and cannot be.
    """
    refuse_blocks(X)
    given, least_ndim = {"X": X, "y": y, "sample_weight": sample_weight}, 1 if is_divided(X) else 2
    blocks = {
        name: _blocks(name, data) for name, data in given.items() if is_divided(data, 2 if name == "X" else least_ndim)
    }
    lengths = next((one.lengths for one in blocks.values() if one.lengths is not None), None)
    if not blocks:
        n_rows = _n_rows(_in_memory(X))
        ends = [n_rows * i // n_parts for i in range(n_parts + 1)]
        lengths = tuple(end - start for start, end in itertools.pairwise(ends) if end > start)
    for name, data in given.items():
        if name not in blocks and data is not None:
            blocks[name] = _slices(name, data, lengths)
    first = blocks["X"]
    for other in (blocks[name] for name in ("y", "sample_weight") if name in blocks):
        if other.array is not None and None not in (first.lengths, other.lengths) and other.lengths != first.lengths:
            if sum(other.lengths or ()) == sum(first.lengths or ()):
                blocks[other.name] = _blocks(other.name, other.array.rechunk({0: first.lengths}))
                continue
            raise ValueError(f"X has {sum(first.lengths or ())} rows, but {other.name} has {sum(other.lengths or ())}")
        if len(other.blocks) != len(first.blocks):
            raise ValueError(
                f"X has {len(first.blocks)} partitions, but {other.name} has {len(other.blocks)}; "
                "repartition or rechunk one of them"
            )
    none = [None] * len(first.blocks)
    weights = blocks["sample_weight"].blocks if "sample_weight" in blocks else none
    return [Partition(*parts) for parts in zip(first.blocks, blocks["y"].blocks, weights, strict=True)]


def _blocks(name: str, data: Any) -> _Blocks:
    if _is_elsewhere(data):
        return _Blocks(name, [data], None)
    if isinstance(data, (list, tuple)):
        known = not any(map(_is_elsewhere, data))
        return _Blocks(name, list(data), tuple(map(_n_rows, data)) if known else None)
    if not hasattr(data, "to_delayed"):
        raise TypeError(f"{name} must be a Dask array or dataframe, or blocks of rows, not {type(data).__name__}")
    if not hasattr(data, "chunks"):
        return _Blocks(name, list(data.to_delayed()), None)
    if name == "X" and data.ndim != 2:
        raise ValueError(f"X must have two dimensions (rows, features), but its shape is {data.shape}")
    if data.ndim == 2 and len(data.chunks[1]) > 1:
        data = data.rechunk({1: -1})  # a network needs whole rows
    lengths = data.chunks[0]
    known = not any(math.isnan(length) for length in lengths)
    return _Blocks(name, data.to_delayed().ravel().tolist(), lengths if known else None, data)


def _in_memory(data: Any) -> Any:
    return data.tocsr() if hasattr(data, "tocsr") else data if hasattr(data, "shape") else np.asarray(data)


def _slices(name: str, data: Any, lengths: Sequence[int] | None) -> _Blocks:
    """Return the rows of data in memory in blocks of these lengths."""
    if lengths is None:
        raise ValueError(
            f"{name} is in memory, but the other partitions have unknown lengths; make it a Dask collection too, or "
            "call compute_chunk_sizes() of the others"
        )
    data, ends = _in_memory(data), list(itertools.accumulate(lengths, initial=0))
    if _n_rows(data) != ends[-1]:
        what = "X" if name != "X" else "y"
        raise ValueError(f"{what} has {ends[-1]} rows, but {name} has {_n_rows(data)}")
    return _Blocks(name, [_rows_of(data)[start:end] for start, end in itertools.pairwise(ends)], tuple(lengths))


def in_groups(n_rows: Sequence[int], n_groups: int) -> list[list[int]]:
    """Return which partitions belong together: neighbours, in at most `n_groups` groups of about as many rows.

    Partitions without rows belong to no group.
    """
    counts = np.asarray(n_rows, np.float64)
    middles = np.cumsum(counts) - counts / 2
    group_of = np.minimum(middles * (n_groups / max(counts.sum(), 1)), n_groups - 1).astype(int)
    groups = [[int(i) for i in np.flatnonzero((group_of == group) & (counts > 0))] for group in range(n_groups)]
    return [group for group in groups if group]


def gathered(client: Client, data: Any) -> Any:
    """Return what a Dask collection, a future or a list of them holds, in this process; other data as it is."""
    if not is_divided(data):
        return data
    if isinstance(data, (list, tuple)):
        blocks: list[Any] = client.gather(client.compute(list(data), traverse=False))
        return stacked(blocks)
    return client.gather(data if isinstance(data, Future) else client.compute(data))


def stacked(blocks: Sequence[Any]) -> Any:
    """Return blocks of rows as one."""
    if len(blocks) == 1:
        return blocks[0]
    if hasattr(blocks[0], "tocsr"):
        from scipy import sparse

        return sparse.vstack(blocks, format="csr")
    if hasattr(blocks[0], "iloc"):
        import pandas as pd

        return pd.concat(blocks)
    whole: npt.NDArray[Any] = np.concatenate(blocks)
    return whole

"""The rows that ``fastmlp predict`` reads."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from fastmlp import datasets
from fastmlp.cli.data import DATA_SETS, is_table, load
from fastmlp.cli.table_data import features_of_network
from fastmlp.cli.tables import read_table
from fastmlp.storage import load_npz

__all__ = ["read_rows"]


def read_rows(data: str, net: Any, target: str | None = None) -> Any:
    """Return the rows of a data set, a folder or a file as the network takes them, without the column `target`."""
    try:
        if is_table(data):
            return features_of_network(read_table(data), net, target)
        if data in DATA_SETS or not os.path.isfile(data):
            return _as_rows(load(data)[2], net, data)
        return _as_rows(_read_file(data), net, data)
    except OSError as error:
        raise ValueError(f"cannot read --data {data!r}: {error.strerror or error}") from error


def _read_file(path: str) -> Any:
    suffix = os.path.splitext(path.lower())[1]
    if suffix == ".npz":
        return _read_npz(path)
    return _read_npy(path) if suffix == ".npy" else datasets.read_idx(path, dimensions=3)


def _as_rows(array: Any, net: Any, data: str) -> Any:
    """Return an array as rows (n, inputs): images are flattened, and a single row or image is one of them."""
    n_inputs = net.layers[0]
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{data} holds {array.dtype} values, not numbers")
    rows = array[:, None] if array.ndim == 1 and n_inputs == 1 else array
    if rows.size == n_inputs:
        rows = rows.reshape(1, -1)
    elif rows.ndim > 2:
        rows = rows.reshape(len(rows), -1)
    if rows.size == 0 or rows.ndim != 2 or rows.shape[1] != n_inputs:
        raise ValueError(f"{data} has the shape {array.shape}, but the network has {n_inputs} inputs")
    if rows.dtype == np.uint8 and net.input_scale == 1:
        rows = np.divide(rows, np.float32(255), dtype=np.float32)
    return rows


def _read_npz(path: str) -> Any:
    arrays = load_npz(path)
    known = [name for name in ("X", "x", "X_test", "x_test") if name in arrays]
    found = known or list(arrays) * (len(arrays) == 1)
    if not found:
        raise ValueError(f"{path} has no X and no X_test; it holds {', '.join(arrays) or 'nothing'}")
    return arrays[found[0]]


def _read_npy(path: str) -> Any:
    try:
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False))  # mapped, it cannot claim more than it has
    except (ValueError, EOFError, SyntaxError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error

"""The rows that ``fastmlp predict`` reads."""

from __future__ import annotations

import csv
import gzip
import itertools
import os
import warnings
import zlib
from typing import Any

import numpy as np

from fastmlp import datasets
from fastmlp.cli.data import DATA_SETS, load
from fastmlp.data.sources.csv import is_number
from fastmlp.storage import load_npz

__all__ = ["read_rows"]


def read_rows(data: str, net: Any) -> Any:
    """Return the rows of a data set, a folder or a file as the network takes them."""
    if data in DATA_SETS or not os.path.isfile(data):
        return _as_rows(load(data)[2], net, data)
    try:
        return _as_rows(_read_file(data, net.feature_names), net, data)
    except OSError as error:
        raise ValueError(f"cannot read --data {data!r}: {error.strerror or error}") from error


def _read_file(path: str, known: list[str] | None) -> Any:
    suffix = os.path.splitext(path.lower().removesuffix(".gz"))[1]
    if suffix in _SEPARATORS:
        return _read_table(path, known, _SEPARATORS[suffix])
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


_SEPARATORS = {".csv": ",;\t", ".tsv": "\t", ".txt": "\t,; "}
"""Suffixes of tables, and what may stand between their columns."""


def _read_table(path: str, known: list[str] | None, separators: str) -> Any:
    """Return the numbers (n, columns) of a text file; of one with a line of names, the columns that are known."""
    opened = gzip.open if path.endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        try:
            first = file.readline()
            separator = max(separators, key=first.count)
            names = [name.strip() for name in next(csv.reader([first], delimiter=separator), [])]
            has_names = not any(map(is_number, names))
            columns = None
            if known is not None and has_names:
                lost = [name for name in known if name not in names]
                if lost:
                    raise ValueError(f"it has no columns {', '.join(map(repr, lost[:5]))}{', ...' * (len(lost) > 5)}")
                columns = [names.index(name) for name in known]
            lines = file if has_names else itertools.chain([first], file)
            separator_ = None if separator == " " else separator
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of a file without rows
                return np.loadtxt(lines, delimiter=separator_, quotechar='"', comments=None, usecols=columns, ndmin=2)
        except (ValueError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} cannot be read: {error}") from error

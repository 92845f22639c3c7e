"""The data of the command line: a data set by name, a file, or a folder."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Any

from fastmlp.cli.values import closest

__all__ = ["DATA_SETS", "PARQUET", "STDIN", "TEXT", "count_classes", "is_table", "load", "suffix_of"]

DATA_SETS = ("mnist", "digits", "xor")
TEXT = {".csv": ",;\t", ".tsv": "\t", ".txt": "\t,; "}
"""Suffixes of tables in text files, and what may stand between their columns."""
STDIN = "-"
"""The name of standard input, which has a table."""
PARQUET = (".parquet", ".pq")
"""Suffixes of other tables."""

_MOST_CLASSES = 1000  # allowed even if there are fewer rows; more is probably not a column of labels


def load(data: str) -> tuple[Any, Any, Any, Any]:
    """Return X_train, y_train, X_test and y_test of a data set, by name, in a file, or in a folder of idx files."""
    from fastmlp import datasets

    if data in DATA_SETS:
        loaded: tuple[Any, Any, Any, Any] = getattr(datasets, f"load_{data}")()
        return loaded
    if is_table(data):
        if data != STDIN and not os.path.exists(data):
            raise ValueError(f"cannot read --data {data!r}: No such file or directory")
        raise ValueError(f"--data {data!r} is a table, which only fastmlp train, predict and report read")
    folder, name = os.path.split(data.rstrip("/"))
    try:
        if os.path.isdir(data):  # files without a prefix come first; there may be others
            plain = any(entry.startswith("train-images") for entry in os.listdir(data))
            return datasets.load_idx(data, split="" if plain else None)
        if name and os.path.isdir(folder) and not os.path.exists(data) and not data.endswith(".npz"):
            with contextlib.suppress(FileNotFoundError):  # there are no idx files
                return datasets.load_idx(folder, split=name)
        return datasets.load_npz(data)
    except OSError as error:
        why = error.strerror or str(error)
        known = f" (nor is it {', '.join(DATA_SETS[:-1])} or {DATA_SETS[-1]}{closest(data, DATA_SETS)})"
        raise ValueError(f"cannot read --data {data!r}: {why}{'' if os.path.exists(data) else known}") from error


def is_table(data: str) -> bool:
    """Return whether the name of a file is that of a table, of standard input, or of a pipe, which has one too."""
    if data == STDIN or suffix_of(data) in (*TEXT, *PARQUET):
        return True
    with contextlib.suppress(OSError, ValueError):
        return stat.S_ISFIFO(os.stat(data).st_mode)
    return False


def suffix_of(path: str) -> str:
    """Return the suffix of a file, in small letters and without .gz."""
    return os.path.splitext(path.lower().removesuffix(".gz"))[1]


def count_classes(labels: Any) -> int:
    """Return the number of outputs for `labels` (n,)."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= max(_MOST_CLASSES, len(labels)):
        wrong = low if low < 0 else high
        raise ValueError(f"y_train has label {wrong} (in {len(labels):,} rows); classes are numbered 0, 1, 2, ...")
    if high == 0:
        raise ValueError("y_train has only class 0; classes must be two or more")
    return high + 1

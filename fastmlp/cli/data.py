"""The data of the command line: a data set by name, or a file."""

from __future__ import annotations

from typing import Any

__all__ = ["DATA_SETS", "count_classes", "load"]

DATA_SETS = ("mnist", "digits", "xor")

_MOST_CLASSES = 1000  # allowed even if there are fewer rows; more is probably not a column of labels


def load(data: str) -> tuple[Any, Any, Any, Any]:
    """Return X_train, y_train, X_test and y_test of a data set, given by name or as a file."""
    from fastmlp import datasets

    if data in DATA_SETS:
        loaded: tuple[Any, Any, Any, Any] = getattr(datasets, f"load_{data}")()
        return loaded
    try:
        return datasets.load_npz(data)
    except OSError as error:
        raise ValueError(f"cannot read --data {data!r}: {error.strerror} (nor is it mnist, digits or xor)") from error


def count_classes(labels: Any) -> int:
    """Return the number of outputs for `labels` (n,)."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= max(_MOST_CLASSES, len(labels)):
        wrong = low if low < 0 else high
        raise ValueError(f"y_train has label {wrong} (in {len(labels):,} rows); classes are numbered 0, 1, 2, ...")
    return high + 1

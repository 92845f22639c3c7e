"""Where a network is wrong: the pairs of classes that it confuses, and its worst rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Confusion", "Mistake", "confusions", "worst"]


class Confusion(NamedTuple):
    """Rows of one class that a network takes for another."""

    true: Any
    predicted: Any
    n_rows: int


class Mistake(NamedTuple):
    """A row that a network predicts wrong.

    `probability` is that of what was predicted, for several labels the smallest of them; `true` and `predicted` are
    arrays then.
    """

    row: int
    true: Any
    predicted: Any
    probability: float


def confusions(y_true: npt.NDArray[Any], y_pred: npt.NDArray[Any], n: int) -> list[Confusion]:
    """Return the `n` most frequent confusions of the classes (n_rows,), the most frequent first."""
    wrong = y_true != y_pred
    true, pred = np.unique(y_true[wrong], return_inverse=True), np.unique(y_pred[wrong], return_inverse=True)
    pairs, counts = np.unique(np.stack([true[1], pred[1]]), axis=1, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:n]
    named = [(true[0][pairs[0, i]], pred[0][pairs[1, i]], counts[i]) for i in order]
    return [Confusion(t.item(), p.item(), int(count)) for t, p, count in named]


def worst(
    y_true: npt.NDArray[Any], y_pred: npt.NDArray[Any], p: npt.NDArray[Any], losses: npt.NDArray[Any], n: int
) -> list[Mistake]:
    """Return the `n` rows predicted wrong whose losses are largest, the largest first.

    Parameters
    ----------
    y_true, y_pred : (n_rows,) or (n_rows, C) arrays
        Classes or labels.
    p : (n_rows,) or (n_rows, C) array
        Probability of each prediction.
    losses : (n_rows,) array
    """
    wrong = np.flatnonzero((y_true != y_pred).reshape(len(y_true), -1).any(axis=1))
    rows = wrong[np.argsort(-losses[wrong], kind="stable")[:n]]
    return [Mistake(int(row), _item(y_true[row]), _item(y_pred[row]), float(p[row].min())) for row in rows]


def _item(value: Any) -> Any:
    return value.item() if np.ndim(value) == 0 else value

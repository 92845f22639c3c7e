"""Which test rows the page shows, and these rows: as images, or as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.page.images import Image
from fastmlp.page.packing import packed, packed_floats, plain
from fastmlp.plots.images import take_rows
from fastmlp.plots.subject import Predictions

__all__ = ["choose_rows", "rows_in_page"]

_WRONG = 24  # wrong guesses, the most confident first
_OF_A_CELL, _MOST = 48, 2000  # further rows: of each pair of classes, and of all
_FEWEST = 24
_COLUMNS = 12  # of a table of rows


def choose_rows(predictions: Predictions) -> dict[str, Any]:
    """Return the rows to show, the most important first: their numbers, what is true and guessed, how confident."""
    true, predicted = predictions.true, predictions.predicted
    n = len(predicted)
    if predictions.task == "numbers":
        away = np.square(np.subtract(predicted, true, dtype=np.float64).reshape(n, -1)).sum(axis=1)
        worst = np.argsort(-away, kind="stable")[:_WRONG]
        others = np.setdiff1d(np.linspace(0, n - 1, _FEWEST).astype(np.int64), worst)
        rows = np.concatenate([worst, others])
        outcomes = {"true": plain(true[rows]), "guess": plain(predicted[rows])}
        return {"row": rows.tolist(), **outcomes, "wrong": [i < len(worst) for i in range(len(rows))], "p": None}
    p, wrong = predictions.probabilities, ~predictions.right
    if p is None:
        confidence = np.zeros(n)
    elif predictions.task == "classes":
        confidence = p[np.arange(n), predicted]
    else:
        confidence = np.where(predicted == 1, p, 1 - p).min(axis=1)
    by_confidence = np.argsort(-confidence, kind="stable")
    first = by_confidence[wrong[by_confidence]][:_WRONG]
    cells = np.unique(np.column_stack([true, predicted]), axis=0, return_inverse=True)[1].reshape(-1)
    rank = _rank_within(cells, by_confidence)
    ordered = np.lexsort([-confidence, ~wrong, rank])
    ordered = ordered[(rank[ordered] < _OF_A_CELL) & ~np.isin(ordered, first)]
    rows = np.concatenate([first, ordered])[:_MOST]
    if predictions.task == "classes":
        outcomes = {"true": true[rows].tolist(), "guess": predicted[rows].tolist()}
    else:
        outcomes = {
            name: [np.flatnonzero(row).tolist() for row in array[rows]]
            for name, array in (("true", true), ("guess", predicted))
        }
    shown = None if p is None else plain(confidence[rows])
    return {"row": rows.tolist(), **outcomes, "wrong": wrong[rows].tolist(), "p": shown}


def _rank_within(cells: npt.NDArray[np.int64], order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the place of each row among those of its cell, in this order."""
    grouped = order[np.argsort(cells[order], kind="stable")]
    starts = np.r_[True, cells[grouped][1:] != cells[grouped][:-1]]
    position = np.arange(len(grouped))
    rank = np.empty(len(grouped), np.int64)
    rank[grouped] = position - np.maximum.accumulate(np.where(starts, position, 0))
    return rank


def rows_in_page(shown: dict[str, Any], X: Any, image: Image | None, most_bytes: int) -> dict[str, Any]:
    """Return as many of the rows as fit: ``shown``, shorter, with their pixels or values as text."""
    n = len(shown["row"])
    while n:
        kept = {name: value[:n] if isinstance(value, list) and name != "columns" else value for name, value in shown.items()}
        rows = take_rows(X, np.array(kept["row"]))
        if image is not None:
            content = {"pixels": packed(image.levels(rows))}
        else:
            content = {"values": packed_floats(np.asarray(rows, np.float32)), "columns": shown["columns"][:_COLUMNS]}
        if len(next(iter(content.values()))) <= most_bytes:
            return kept | content
        n = n // 2 if n > _FEWEST else 0
    return {"columns": []}

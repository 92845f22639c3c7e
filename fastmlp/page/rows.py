"""The test rows that the page shows, as images or as numbers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.page.images import Image
from fastmlp.page.packing import packed, packed_floats, plain
from fastmlp.plots.images import evenly, take_rows
from fastmlp.plots.subject import Predictions

__all__ = ["MOST_FEATURES", "choose_rows", "numbers_in", "rows_in_page", "sample_of"]

MOST_FEATURES = 5000  # of a form, its medians and its rows
_WRONG = 24  # wrong guesses, the most confident first
_OF_A_CELL, _MOST = 48, 2000  # further rows: of each pair of classes, and of all
_FEWEST = 24
_COLUMNS, _CHARACTERS = 12, 200  # of a table of rows, and of each of its cells
_SAMPLE = 2000  # rows


def choose_rows(predictions: Predictions) -> dict[str, Any]:
    """Return the rows to show, the most important first: their numbers, what is true and guessed, how confident."""
    true, predicted = predictions.true, predictions.predicted
    n = len(predicted)
    if predictions.task == "numbers":
        away = np.square(np.subtract(predicted, true, dtype=np.float64).reshape(n, -1)).sum(axis=1)
        worst = np.argsort(-np.nan_to_num(away, nan=np.inf), kind="stable")[:_WRONG]
        others = np.setdiff1d(evenly(n, _FEWEST), worst)
        rows = np.concatenate([worst, others])
        outcomes = {"true": plain(true[rows]), "guess": plain(predicted[rows])}
        return {"row": rows.tolist(), **outcomes, "wrong": np.isin(rows, worst).tolist(), "p": None}
    wrong, is_known = ~predictions.right, predictions.probabilities is not None
    confidence = predictions.confidence if is_known else np.zeros(n)
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
    p = plain(confidence[rows]) if is_known else None
    return {"row": rows.tolist(), **outcomes, "wrong": wrong[rows].tolist(), "p": p}


def _rank_within(cells: npt.NDArray[np.int64], order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the place of each row among those of its cell, in this order."""
    grouped = order[np.argsort(cells[order], kind="stable")]
    starts = np.r_[True, cells[grouped][1:] != cells[grouped][:-1]]
    position = np.arange(len(grouped))
    rank = np.empty(len(grouped), np.int64)
    rank[grouped] = position - np.maximum.accumulate(np.where(starts, position, 0))
    return rank


def rows_in_page(shown: dict[str, Any], X: Any, image: Image | None, most_bytes: int) -> dict[str, Any]:
    """Return as many of the rows as fit: ``shown``, shorter, with their pixels, values or text; or without these."""
    columns = shown["columns"][:_COLUMNS]
    for with_values in (True, False):
        n = len(shown["row"])
        while n:
            kept = {name: value[:n] if isinstance(value, list) else value for name, value in shown.items()}
            kept["columns"] = columns if with_values else []
            if with_values:
                kept |= _values(take_rows(X, np.array(kept["row"])), image, len(columns))
            if len(json.dumps(kept)) <= most_bytes:
                return kept
            n //= 2
    return {name: [] for name in shown}


def _values(rows: npt.NDArray[Any], image: Image | None, n_columns: int) -> dict[str, Any]:
    """Return what rows hold: pixels, numbers, or the text of the first columns."""
    numbers = _as_numbers(rows)
    if image is None and numbers is not None and numbers.shape[1] > MOST_FEATURES:
        rows = numbers[:, :n_columns].round(5)  # there is no form that needs the others
        numbers = None
    if numbers is None:
        texts = rows.reshape(len(rows), -1)[:, :n_columns].tolist()
        return {"cells": [[str(value)[:_CHARACTERS] for value in row] for row in texts]}
    if image is None:
        return {"values": packed_floats(numbers.astype(np.float32))}
    return {"pixels": packed(image.levels(numbers))}


def sample_of(n_rows: int) -> npt.NDArray[np.int64]:
    """Return the rows of which statistics are made."""
    return evenly(n_rows, _SAMPLE)


def numbers_in(X: Any, n_rows: int) -> Floats | None:
    """Return a sample of the rows of X, (k, I), or None if it does not hold numbers."""
    return _as_numbers(take_rows(X, sample_of(n_rows)))


def _as_numbers(rows: npt.NDArray[Any]) -> Floats | None:
    try:
        numbers = np.asarray(rows, np.float64)
    except (TypeError, ValueError):  # words, or what is missing in a table
        return None
    return numbers if numbers.ndim == 2 else None

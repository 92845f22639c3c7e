"""The training and validation rows of a search: validation data, a fraction of the rows, or folds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastmlp.mlp import MLP
from fastmlp.random import regularization_seed
from fastmlp.validation.frames import frame_as_array, is_frame, is_series, series_as_array
from fastmlp.validation.inputs import as_numbers
from fastmlp.validation.rows import validation_rows
from fastmlp.validation.settings import check_int, is_iterable
from fastmlp.validation.sparse import as_csr, is_sparse

__all__ = ["Split", "as_arrays", "check_given", "splits"]

_FRACTION = 0.2


class Split(NamedTuple):
    """The rows to train on, None for all, and the data to measure, if any."""

    rows: npt.NDArray[np.intp] | None
    validation: tuple[Any, ...] | None


def as_arrays(X: Any, y: Any, what: str = "") -> tuple[Any, npt.NDArray[Any]]:
    """Return rows and targets as arrays, or CSR rows, of which `X[rows]` takes some. Arrays are not copied."""
    X = as_csr(X, f"{what}X") if is_sparse(X) else as_numbers(X, f"{what}X", "convert it first")
    if is_frame(y):
        return X, frame_as_array(y, f"{what}y")
    return X, series_as_array(y, f"{what}y") if is_series(y) else np.asarray(y)


def check_given(validation_data: object, validation_fraction: object, folds: object) -> None:
    """Refuse more than one of these."""
    given = {"validation_data": validation_data, "validation_fraction": validation_fraction, "folds": folds}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise ValueError(f"give one of {', '.join(given)}, not {' and '.join(names)}")
    if validation_data is not None and (
        not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3)
    ):
        raise TypeError("validation_data must be a pair (X, y), or (X, y, sample_weight)")


def splits(
    net: MLP,
    X: Any,
    y: npt.NDArray[Any],
    validation_data: tuple[Any, ...] | None,
    validation_fraction: float | None,
    folds: Any,
    seed: int,
) -> list[Split]:
    """Return the only split, or one for each fold. `net` knows the names of the classes; data have been checked."""
    if validation_data is not None:
        X_val, y_val, *weights = validation_data
        return [Split(None, (*as_arrays(X_val, y_val, "validation "), *weights))]
    targets = net._loss.check_y(net._names.encoded(y, "y"), X.shape[0], net.dtype)
    if folds is None:  # the rows that a fit of a network with this seed would hold out
        fraction = _FRACTION if validation_fraction is None else validation_fraction
        mask = validation_rows(targets, net._loss, fraction, regularization_seed(seed))
        pairs = [(np.flatnonzero(~mask), np.flatnonzero(mask))]
    else:
        labels = net._loss.decode(targets) if net._loss.n_classes else None
        pairs = [_checked(i, pair, X.shape[0]) for i, pair in enumerate(_pairs(folds, X, labels, y, seed))]
        if not pairs:
            raise ValueError("folds has no folds")
    return [Split(rows, (X[held_out], y[held_out])) for rows, held_out in pairs]


def _pairs(folds: Any, X: Any, labels: npt.NDArray[Any] | None, y: npt.NDArray[Any], seed: int) -> Iterable[Any]:
    """Return the rows for training and for validation of each fold."""
    if hasattr(folds, "split") and not isinstance(folds, str):
        return list(folds.split(X, y if labels is None else labels))
    if is_iterable(folds) and not isinstance(folds, str):
        return list(folds)
    if isinstance(folds, (str, float)):
        raise TypeError(f"folds must be a number, a splitter of scikit-learn or a list of pairs of rows, not {folds!r}")
    n = check_int("folds", folds, 2)
    from sklearn.model_selection import KFold, StratifiedKFold

    if n > X.shape[0]:
        raise ValueError(f"folds is {n}, but there are only {X.shape[0]} rows")
    kind = KFold if labels is None else StratifiedKFold
    return list(kind(n, shuffle=True, random_state=regularization_seed(seed)).split(np.zeros(X.shape[0]), labels))


def _checked(i: int, pair: Any, n_rows: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the two lists of rows of a fold as indices."""
    try:
        training, held_out = (np.asarray(rows) for rows in pair)
    except (TypeError, ValueError):
        raise TypeError(f"fold {i} must be a pair of rows for training and for validation, not {pair!r}") from None
    return _indices(f"training rows of fold {i}", training, n_rows), _indices(
        f"validation rows of fold {i}", held_out, n_rows
    )


def _indices(what: str, rows: npt.NDArray[Any], n_rows: int) -> npt.NDArray[np.intp]:
    if rows.dtype == bool and rows.shape == (n_rows,):
        rows = np.flatnonzero(rows)
    if rows.ndim != 1 or len(rows) == 0 or rows.dtype.kind not in "iu":
        raise ValueError(f"the {what} must be a list of row numbers, not {rows!r}")
    if rows.min() < 0 or rows.max() >= n_rows:
        raise ValueError(f"the {what} must be from 0 to {n_rows - 1}, but are {rows.min()} to {rows.max()}")
    return rows.astype(np.intp)

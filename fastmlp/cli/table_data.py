"""Tables as data for a network: numeric features, categories as one-hot columns, and the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastmlp.cli.tables import Table
from fastmlp.data.sources.csv import is_number
from fastmlp.data.sources.reader import NamedColumns

__all__ = ["Scaling", "TableData", "features_of_network", "split_rows", "table_data", "target_of_network"]

Task = Literal["classification", "regression"]

_MOST_CATEGORIES = 100  # of a column of texts; more are names or sentences
_LARGEST_MEAN = 1e4  # in standard deviations: float32 has 7 digits, so it holds these to a thousandth
_MOST_CLASSES = 30  # of integers; more are quantities
_SPLIT_SEED, _TEST_FRACTION = 42, 0.2  # as in `fastmlp.datasets`


@dataclass(frozen=True)
class TableData:
    """Training and test rows.

    Attributes
    ----------
    X_train, X_test : NamedColumns (n, I), or arrays of a table without names
    y_train, y_test : (n,) array
        Classes as they are in the table, or numbers.
    target : str
        The name of its column.
    classes : (C,) array or None
        None of a regression.
    """

    X_train: Any
    y_train: npt.NDArray[Any]
    X_test: Any
    y_test: npt.NDArray[Any]
    target: str
    classes: npt.NDArray[Any] | None


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation of each feature, and of the target of a regression, in the training rows."""

    mean: npt.NDArray[np.float64]
    deviation: npt.NDArray[np.float64]
    target_mean: float = 0.0
    target_deviation: float = 1.0

    @classmethod
    def of(cls, data: TableData) -> Scaling:
        """Return that of the training rows. A constant column counts as 0.

        Raises
        ------
        ValueError
            If a column varies too little for float32, in which the network takes it.
        """
        X = _array(data.X_train)
        mean, deviation = X.mean(axis=0), X.std(axis=0)
        deviation[X.min(axis=0) == X.max(axis=0)] = np.inf
        if (wrong := np.flatnonzero(deviation * _LARGEST_MEAN < np.abs(mean))).size:
            i, names = wrong[0], getattr(data.X_train, "columns", range(len(mean)))
            raise ValueError(
                f"column {names[i]!r} varies by {deviation[i]:.2g} around {mean[i]:.9g}, too little "
                "for the float32 numbers of a network; subtract the mean from it, or leave it out with --ignore"
            )
        if data.classes is not None:
            return cls(mean, deviation)
        return cls(mean, deviation, float(data.y_train.mean()), float(data.y_train.std()) or 1.0)

    def features(self, X: Any) -> Any:
        """Return features with mean 0 and deviation 1, as float32."""
        scaled = ((_array(X) - self.mean) / self.deviation).astype(np.float32)
        return NamedColumns(scaled, X.columns) if isinstance(X, NamedColumns) else scaled

    def target(self, y: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return the target of a regression, scaled."""
        scaled: npt.NDArray[np.float64] = (y - self.target_mean) / self.target_deviation
        return scaled

    def fold_into(self, net: Any) -> None:
        """Change the first and the last layer such that the network takes features, and gives targets, as they are."""
        first = net.weights[0].astype(np.float64) / self.deviation[:, None]
        net.biases[0] = net.biases[0] - self.mean @ first
        net.weights[0] = first
        net.weights[-1] = net.weights[-1] * self.target_deviation
        net.biases[-1] = net.biases[-1] * self.target_deviation + self.target_mean


def table_data(table: Table, target: str | None, ignored: Sequence[str], task: Task | None) -> TableData:
    """Return what a table holds, divided into training and test rows.

    Parameters
    ----------
    table : Table
    target : str or None
        Name or number of a column; None is the last one.
    ignored : sequence of str
        Names or numbers of columns that are left out.
    task : {"classification", "regression"} or None
        None: texts, bools and integers of few values are classes.

    Raises
    ------
    ValueError
        If columns are missing, or hold what cannot be trained on.
    """
    name = table.name_of("-1" if target is None else target)
    left_out = {table.name_of(column) for column in ignored}
    if name in left_out:
        raise ValueError(f"column {name!r} of {table.path} is the target, and cannot be ignored")
    used = [column for column in (*table.columns, *table.others) if column not in left_out and column != name]
    if not used:
        raise ValueError(f"{table.path} has no columns beside the target")
    y = table.column(name)
    labels = _labels(table, name, y, task)
    named = _features(table, _feature_names(table, used))
    X: Any = named if table.has_names else named.array
    train, test = split_rows(table, len(y), labels)
    if labels is None:
        y = y.astype(np.float64)
        return TableData(X[train], y[train], X[test], y[test], name, None)
    return TableData(X[train], labels[train], X[test], labels[test], name, np.unique(labels))


def split_rows(table: Table, n_rows: int, labels: npt.NDArray[Any] | None) -> tuple[Any, Any]:
    """Return the rows for training and for the test: always the same, and of each class as many as its part."""
    from sklearn.model_selection import train_test_split

    if n_rows < 2:
        raise ValueError(f"{table.path} has one row; some are needed for training, and some for the test")
    codes = None
    if labels is not None:
        classes, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
        if counts.min() < 2:
            alone = classes[counts.argmin()]
            raise ValueError(f"{table.path} has a single row of class {alone!s}; each class needs two rows or more")
        if min(n_rows - int(np.ceil(_TEST_FRACTION * n_rows)), int(np.ceil(_TEST_FRACTION * n_rows))) < len(classes):
            codes = None  # too few rows for each class to be in both parts
    rows = np.arange(n_rows)
    train, test = train_test_split(rows, test_size=_TEST_FRACTION, random_state=_SPLIT_SEED, stratify=codes)
    if labels is not None and len(np.unique(labels[train])) < len(classes):
        raise ValueError(f"{table.path} has {n_rows} rows of {len(classes)} classes, which are too few to divide")
    return train, test


def features_of_network(table: Table, net: Any, target: str | None = None) -> Any:
    """Return the features that a network was trained on.

    Raises
    ------
    ValueError
        If a column is missing, or has texts that training did not have.
    """
    if net.feature_names is not None and table.has_names:
        return _features(table, net.feature_names)
    left_out = None if target is None else table.name_of(target)
    names = [name for name in (*table.columns, *table.others) if name != left_out]
    n_inputs = net.layers[0]
    if len(names) != n_inputs:
        hint = ""
        if len(names) == n_inputs + 1 and target is None:
            hint = "; if one of them is the target, say which: --target COLUMN"
        raise ValueError(f"{table.path} has {len(names)} columns, but the network has {n_inputs} inputs{hint}")
    return _features(table, names).array


def target_of_network(table: Table, net: Any, target: str | None) -> npt.NDArray[Any]:
    """Return the classes or numbers of the target."""
    name = table.name_of("-1" if target is None else target)
    y = table.column(name)
    if net.output in ("softmax", "logistic"):
        labels = _labels(table, name, y, "classification")
        return y if labels is None else labels
    return y.astype(np.float64)


def _labels(table: Table, name: str, y: npt.NDArray[Any], task: Task | None) -> npt.NDArray[Any] | None:
    """Return the target as classes, or None if it is a number."""
    is_text = y.dtype == object
    if task == "regression":
        if is_text:
            raise ValueError(f"{table.path} has {y[0]!r} in its target {name!r}, but regression needs numbers")
        return None
    if task is None:
        n_values = len(np.unique(y))
        is_few = y.dtype.kind == "i" and n_values <= min(_MOST_CLASSES, len(y) // 2)
        if not (is_text or y.dtype == bool or is_few):
            return None
    if y.dtype.kind == "f":
        if (wrong := np.flatnonzero(y != np.rint(y))).size:
            row = wrong[0]
            raise ValueError(f"{table.path} has {y[row]!s} in its target {name!r}, row {row}, but classes are integers")
        y = y.astype(np.int64)
    labels = y.astype(str) if is_text else y
    if len(np.unique(labels)) < 2:
        raise ValueError(f"{table.path} has only {labels[0]!s} in its target {name!r}; classes must be two or more")
    return labels


def _feature_names(table: Table, used: Sequence[str]) -> list[str]:
    """Return the names of the features: those of columns, and COLUMN=CATEGORY for each category of texts."""
    names: list[str] = []
    for name in used:
        if name == "":
            raise ValueError(
                f"column {[*table.columns].index('')} of {table.path} has no name (is it the index of a table of "
                f"pandas?); leave it out: --ignore {[*table.columns].index('')}"
            )
        values = table.column(name)
        if values.dtype != object:
            names.append(name)
            continue
        categories = sorted(set(values.tolist()))
        if len(categories) > _MOST_CATEGORIES:
            raise ValueError(
                f"{table.path} has {len(categories):,} different texts in column {name!r}, more than "
                f"{_MOST_CATEGORIES} categories; leave it out with --ignore, or encode it in a pipeline of "
                "scikit-learn (docs/tables.md)"
            )
        if not table.has_names or "=" in name:
            why = "has no line of names" if not table.has_names else f"has a column {name!r} with = in its name"
            raise ValueError(f"{table.path} {why}; categories need a name by which they are found again: rename it")
        names += [f"{name}={category}" for category in categories]
    if twice := [name for name in names if names.count(name) > 1] if len(set(names)) < len(names) else []:
        raise ValueError(f"{table.path} has several columns or categories named {twice[0]!r}")
    return names


def _features(table: Table, names: Sequence[str]) -> NamedColumns:
    """Return features by their names."""
    lost = [name for name in names if name not in table.columns and name.partition("=")[0] not in table.columns]
    if lost:
        shown = ", ".join(map(repr, lost[:5])) + ", ..." * (len(lost) > 5)
        raise ValueError(f"{table.path} has no columns {shown}")
    X = np.empty((table.n_rows, len(names)), np.float64)
    known: dict[str, list[str]] = {}
    for i, name in enumerate(names):
        column, equals, category = name.partition("=")
        if name in table.columns or not equals:
            values = table.column(name)
            if values.dtype == object:
                row = next(row for row, text in enumerate(values) if not is_number(text))
                raise ValueError(f"{table.path} has {values[row]!r} in column {name!r}, row {row}, but not a number")
            X[:, i] = values
        else:
            known.setdefault(column, []).append(category)
            X[:, i] = table.column(column).astype(str) == category
    for column, categories in known.items():
        values = table.column(column).astype(str)
        if (new := np.flatnonzero(~np.isin(values, categories))).size:
            shown = ", ".join(map(repr, categories[:10])) + ", ..." * (len(categories) > 10)
            row = new[0]
            raise ValueError(
                f"{table.path} has {values[row]!s} in column {column!r}, row {row}, which training did not have; "
                f"it had {shown}"
            )
    if (wrong := np.argwhere(~np.isfinite(X))).size:
        row, number = wrong[0]
        raise ValueError(f"{table.path} has {X[row, number]} in column {names[number]!r}, row {row}")
    return NamedColumns(X, tuple(names))


def _array(X: Any) -> npt.NDArray[np.float64]:
    array: npt.NDArray[np.float64] = X.array if isinstance(X, NamedColumns) else X
    return array

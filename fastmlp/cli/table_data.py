"""Tables as data for a network: numeric features, categories as one-hot columns, and the target."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastmlp.cli.tables import Table
from fastmlp.data.sources.csv import is_number
from fastmlp.data.sources.reader import NamedColumns

__all__ = ["Scaling", "TableData", "features_of_network", "split_rows", "table_data", "target_of_network"]

Task = Literal["classification", "regression"]

_MOST_CATEGORIES, _FEW = 100, 10  # of a column of texts; more are names or sentences, and so are half as many as rows
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_SMALLEST, _LARGEST = 1e-30, 1e30  # numbers that leave room for factors in float32
_LARGEST_CLASS = 2**53  # up to which integers are exact as float64
_LARGEST_MEAN = 1e4  # in standard deviations: float32 has 7 digits, so it holds these to a thousandth
_MOST_CLASSES = 30  # of integers; more are quantities
_FEWEST_NUMBERS = 6  # of which two are for the test: R2 needs two
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
        mean, deviation = _moments(X, getattr(data.X_train, "columns", range(X.shape[1])))
        if data.classes is not None:
            return cls(mean, deviation)
        target_mean, target_deviation = _moments(data.y_train[:, None], [data.target])
        if not np.isfinite(target_deviation[0]):
            target_deviation[0] = 1.0
        return cls(mean, deviation, float(target_mean[0]), float(target_deviation[0]))

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
        hint = "; say which column is: --target COLUMN" if target is None else ""
        raise ValueError(f"column {name!r} of {table.path} is the target, and cannot be ignored{hint}")
    used = [column for column in (*table.columns, *table.others) if column not in left_out and column != name]
    if not used:
        n_columns = len(table.columns) + len(table.others)
        hint = "; columns are separated by commas, semicolons or tabs" if n_columns == 1 else ""
        raise ValueError(f"{table.path} has no columns beside the target{hint}")
    y = table.column(name, is_target=True)
    labels = _labels(table, name, y, task)
    named = _features(table, _feature_names(table, used))
    X: Any = named if table.has_names else named.array
    train, test = split_rows(table, len(y), labels)
    if labels is None:
        y = y.astype(np.float64)
        if (wrong := np.flatnonzero(~np.isfinite(y))).size:
            raise ValueError(f"{table.path} has {y[wrong[0]]} in its target {name!r}, row {wrong[0]}")
        if y.min() == y.max():
            raise ValueError(f"{table.path} has only {y[0]:g} in its target {name!r}; there is nothing to learn")
        return TableData(X[train], y[train], X[test], y[test], name, None)
    return TableData(X[train], labels[train], X[test], labels[test], name, np.unique(labels))


def split_rows(table: Table, n_rows: int, labels: npt.NDArray[Any] | None) -> tuple[Any, Any]:
    """Return the rows for training and for the test: always the same, and of each class as many as its part."""
    from sklearn.model_selection import train_test_split

    if n_rows < 2:
        raise ValueError(f"{table.path} has one row; some are needed for training, and some for the test")
    if labels is None and n_rows < _FEWEST_NUMBERS:
        raise ValueError(f"{table.path} has {n_rows} rows; a regression needs {_FEWEST_NUMBERS} or more")
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
    left_out = None if target is None else table.name_of(target)
    if net.feature_names is not None and table.has_names:
        return _features(table, net.feature_names)
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
    y = table.column(name, is_target=True)
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
        if (wrong := np.flatnonzero((y != np.rint(y)) | (np.abs(y) > _LARGEST_CLASS))).size:
            row = wrong[0]
            raise ValueError(f"{table.path} has {y[row]!s} in its target {name!r}, row {row}, but classes are integers")
        y = y.astype(np.int64)
    labels = y.astype(str) if is_text else y
    if is_text:
        different = set(y.tolist())
        _refuse_decimal_commas(table, name, different)
        if len(different) > max(_FEW, len(y) // 2):
            raise ValueError(
                f"{table.path} has {len(different):,} different texts in its target {name!r}, in {len(y):,} rows"
                f"{_stray_text(y, different)}; classes need several rows each"
            )
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
        _refuse_decimal_commas(table, name, categories)
        if len(categories) > (most := min(_MOST_CATEGORIES, max(_FEW, len(values) // 2))):
            raise ValueError(
                f"{table.path} has {len(categories):,} different texts in column {name!r}, more than "
                f"{most} categories{_stray_text(values, categories)}; leave it out with --ignore, or encode it in a "
                "pipeline of scikit-learn (docs/tables.md)"
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
                row = next((row for row, text in enumerate(values) if not is_number(text)), 0)
                raise ValueError(
                    f"{table.path} has the text {values[row]!r} in column {name!r}, row {row}, and not a number"
                )
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


def _moments(X: npt.NDArray[np.float64], names: Sequence[Any]) -> tuple[Any, Any]:
    """Return mean and standard deviation of each column; the latter is infinite if the column is constant.

    Raises
    ------
    ValueError
        If float32 cannot hold the numbers or their differences.
    """
    largest, is_constant = np.abs(X).max(axis=0), X.min(axis=0) == X.max(axis=0)
    if (wrong := np.flatnonzero(largest > _LARGEST)).size:
        i = wrong[0]
        raise ValueError(
            f"column {names[i]!r} has numbers of up to {largest[i]:.2g}, too large for the float32 numbers of a "
            "network; take them in a larger unit, or leave the column out with --ignore"
        )
    mean, deviation = X.mean(axis=0), X.std(axis=0)
    if (wrong := np.flatnonzero(~is_constant & (deviation < _SMALLEST) & (largest < 1))).size:
        i = wrong[0]
        raise ValueError(
            f"column {names[i]!r} varies by no more than {np.ptp(X[:, i]):.2g}, too little for the float32 numbers of "
            "a network; take it in a smaller unit, or leave it out with --ignore"
        )
    deviation[is_constant] = np.inf
    if (wrong := np.flatnonzero(deviation * _LARGEST_MEAN < np.abs(mean))).size:
        i = wrong[0]
        raise ValueError(
            f"column {names[i]!r} varies by {deviation[i]:.2g} around {mean[i]:.9g}, too little "
            "for the float32 numbers of a network; subtract the mean from it, or leave it out with --ignore"
        )
    return mean, deviation


def _refuse_decimal_commas(table: Table, name: str, texts: Collection[str]) -> None:
    """Refuse a column of numbers with commas, which would become categories."""
    with_comma = [text for text in texts if _DECIMAL_COMMA.fullmatch(text)]
    if with_comma and all(_DECIMAL_COMMA.fullmatch(text) or is_number(text) for text in texts):
        raise ValueError(
            f"{table.path} has numbers with a comma in column {name!r}, such as {with_comma[0]!r}; write them with a "
            "decimal point"
        )


def _stray_text(values: npt.NDArray[Any], texts: Collection[str]) -> str:
    """Return a hint at the first text in a column that has mostly numbers, else nothing."""
    if 2 * sum(map(is_number, texts)) < len(texts):
        return ""
    row = next((row for row, text in enumerate(values) if not is_number(text)), 0)
    return f" (it has numbers, but {values[row]!r} in row {row})"


def _array(X: Any) -> npt.NDArray[np.float64]:
    array: npt.NDArray[np.float64] = X.array if isinstance(X, NamedColumns) else X
    return array

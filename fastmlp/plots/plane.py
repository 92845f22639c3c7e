"""`Plane`: two features of X that vary while the others are fixed."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fastmlp.validation.frames import is_frame
from fastmlp.validation.settings import check_index, is_list

__all__ = ["Plane"]

_CHUNK = 4_000_000  # numbers of rows that are predicted at a time, so that memory stays small


@dataclass(frozen=True, eq=False)
class Plane:
    """Two features that vary.

    Attributes
    ----------
    names : (str, str)
    columns : two (n,) float64 arrays
        The features in X.
    chosen : (int, int)
    base : list
        A value for each feature.
    """

    names: tuple[str, str]
    columns: tuple[npt.NDArray[Any], npt.NDArray[Any]]
    chosen: tuple[int, int]
    base: list[Any]
    X: Any

    @classmethod
    def of(cls, X: Any, features: Any, fixed: Any) -> Self:
        """Return the plane of two features of X.

        Raises
        ------
        TypeError, ValueError
            If X has more features and none are chosen, they are no numbers, or there are no such features.
        """
        if hasattr(X, "tocsr"):
            raise TypeError("X is sparse; make it dense first: X.toarray()")
        X = X if is_frame(X) else np.asarray(X)
        if len(np.shape(X)) != 2 or 0 in np.shape(X):
            raise ValueError(f"X must have two dimensions (rows, features), but its shape is {np.shape(X)}")
        n_features = X.shape[1]
        known = [str(name) for name in X.columns] if is_frame(X) else None
        if features is None:
            if n_features != 2:
                raise ValueError(f"X has {n_features} features; choose two of them, e.g. features=(0, 1)")
            features = (0, 1)
        if not is_list(features) or len(features) != 2:
            raise TypeError(f"features must be two integers or names of columns, not {features!r}")
        first, second = (_index(feature, n_features, known) for feature in features)
        if first == second:
            raise ValueError(f"features must be two different ones, not {features!r}")
        given = {_index(feature, n_features, known): value for feature, value in _items(fixed)}
        both = {first, second} & given.keys()
        if both:
            raise ValueError(f"fixed has feature {min(both)}, which is to vary")
        names = known or [f"feature {i}" for i in range(n_features)]
        for i, value in given.items():
            if _column(X, i).dtype.kind in "fiu" and not _is_finite(value):
                raise ValueError(f"fixed must give a number to {names[i]!r}, not {value!r}")
        base = [given[i] if i in given else _usual(_column(X, i)) for i in range(n_features)]
        columns = [_numbers(_column(X, i), names[i]) for i in (first, second)]
        return cls((names[first], names[second]), (columns[0], columns[1]), (first, second), base, X)

    def grid(self, k: int, eps: float | None) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the features at the points of a grid, two (k, k) arrays; it extends `eps` beyond the rows of X."""
        lines = []
        for column in self.columns:
            low, high = float(column.min()), float(column.max())
            beyond = eps if eps is not None else 0.08 * (high - low) or 1.0
            lines.append(np.linspace(low - beyond, high + beyond, k))
        xx0, xx1 = np.meshgrid(*lines)
        return xx0, xx1

    def rows(self, x0: npt.NDArray[Any], x1: npt.NDArray[Any]) -> Iterator[Any]:
        """Yield rows in the form of X with these values (m,) of the two features, some at a time."""
        n = max(1, _CHUNK // len(self.base))
        for start in range(0, len(x0), n):
            values = dict(zip(self.chosen, (x0[start : start + n], x1[start : start + n]), strict=True))
            m = len(values[self.chosen[0]])
            if is_frame(self.X):
                columns = {
                    name: values[i] if i in values else [self.base[i]] * m for i, name in enumerate(self.X.columns)
                }
                yield type(self.X)(columns)
            else:
                dtype = self.X.dtype if self.X.dtype.kind == "f" else np.float64
                rows = np.repeat(np.array(self.base, dtype)[None], m, axis=0)
                for i, column in values.items():
                    rows[:, i] = column
                yield rows


def _index(feature: object, n_features: int, known: Sequence[str] | None) -> int:
    if isinstance(feature, str):
        if known is None or feature not in known:
            has = "no names of columns" if known is None else f"the columns {', '.join(map(repr, known[:10]))}"
            raise ValueError(f"there is no feature {feature!r}; X has {has}")
        return known.index(feature)
    return check_index("a feature", feature, n_features, "features")


def _is_finite(value: object) -> bool:
    return isinstance(value, numbers.Real) and math.isfinite(value)


def _items(fixed: Any) -> Any:
    if fixed is None:
        return []
    if not isinstance(fixed, Mapping):
        raise TypeError(f"fixed must map features to values, e.g. {{2: 0.5}}, not {fixed!r}")
    return fixed.items()


def _column(X: Any, i: int) -> npt.NDArray[Any]:
    if not is_frame(X):
        return np.asarray(X[:, i])
    return np.asarray(X.iloc[:, i] if hasattr(X, "iloc") else X[X.columns[i]])


def _usual(column: npt.NDArray[Any]) -> Any:
    """Return the median of numbers, and the most frequent one of anything else."""
    if column.dtype.kind in "fiu":
        return float(np.median(column))
    values, counts = np.unique(column if column.dtype.kind == "b" else column.astype(str), return_counts=True)
    return values[counts.argmax()].item()


def _numbers(column: npt.NDArray[Any], name: str) -> npt.NDArray[np.float64]:
    if column.dtype.kind not in "fiub":
        raise TypeError(f"feature {name!r} is not numeric, so it cannot be plotted; choose another")
    return column.astype(np.float64)

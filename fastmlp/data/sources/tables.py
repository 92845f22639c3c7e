"""Columns of Arrow as arrays, and which of them are features, targets and weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.data.sources.base import Block
from fastmlp.data.sources.reader import NamedColumns, Reader

__all__ = ["ALL", "Columns", "Piece", "Table", "TableReader", "list_width"]

ALL = object()
"""As the target of a table: all of its columns."""

_INDEX = re.compile(r"__index_level_\d+__")
"""What pandas calls the index of a table in a file."""


@dataclass(frozen=True)
class Columns:
    """Which columns of a table, by their numbers, are what.

    Attributes
    ----------
    features : tuple of int
    target : tuple of int
        Empty if there is none.
    several : bool
        Whether the target is a list of columns, (n, C), even if of one.
    weight : int or None
    """

    features: tuple[int, ...]
    target: tuple[int, ...]
    several: bool
    weight: int | None

    @classmethod
    def chosen(cls, names: Sequence[str], features: Any, target: Any, weight: Any, where: str) -> Columns:
        """Find columns by their names or numbers. Without `features`, these are all that are nothing else.

        Raises
        ------
        TypeError, ValueError
            If there is no such column, or one is meant twice.
        """

        def number(column: Any) -> int:
            if isinstance(column, (int, np.integer)) and not isinstance(column, bool):
                if not -len(names) <= column < len(names):
                    raise ValueError(f"{where} has {len(names)} columns, so none with the number {column}")
                return int(column) % len(names)
            if not isinstance(column, str):
                raise TypeError(f"columns are chosen by their names, not by {column!r}")
            found = [i for i, name in enumerate(names) if name == column]
            if len(found) == 1:
                return found[0]
            if found:
                raise ValueError(f"{where} has {len(found)} columns named {column!r}")
            shown = ", ".join(map(repr, names[:10])) + ", ..." * (len(names) > 10)
            raise ValueError(f"{where} has no column {column!r}; its columns are {shown}")

        if target is ALL:
            target = [i for i, name in enumerate(names) if not _INDEX.fullmatch(name)]
            target = target[0] if len(target) == 1 else target
            return cls((), tuple(np.atleast_1d(target).tolist()), isinstance(target, list), None)
        several = target is not None and not isinstance(target, (str, int, np.integer))
        targets = () if target is None else tuple(map(number, target if several else [target]))
        of_weight = None if weight is None else number(weight)
        others = {*targets, *(() if of_weight is None else (of_weight,))}
        if features is None:
            wanted = [i for i, name in enumerate(names) if i not in others and not _INDEX.fullmatch(name)]
        else:
            one = isinstance(features, (str, int, np.integer))
            wanted = [number(column) for column in ([features] if one else features)]
        used = [*targets, *(() if of_weight is None else (of_weight,)), *wanted]
        if twice := [i for i in used if used.count(i) > 1] if len(set(used)) < len(used) else []:
            raise ValueError(f"column {names[twice[0]]!r} of {where} is named twice among features, target and weight")
        if not wanted:
            raise ValueError(f"{where} has no columns that could be features")
        return cls(tuple(wanted), targets, several, of_weight)

    @property
    def others(self) -> tuple[int, ...]:
        """Those of the targets and weights."""
        return (*self.target, *(() if self.weight is None else (self.weight,)))


Place = Callable[[int], str]
"""Returns the words for a row of a block."""

Piece = tuple[int, Any]
"""The number of a column, and some of its values as an array of Arrow."""


class TableReader(Reader):
    """Rows of a table of Arrow, of which X, y and the weights are columns.

    A subclass reads columns by their numbers in `_columns`; this class makes arrays of them.
    """

    def _describe(self, schema: Any, columns: Columns, widths: Callable[[int], int]) -> None:
        """Set shape, dtype and names; `widths` tells how long the lists in a column are."""
        self._schema, self._chosen = schema, columns
        kinds = [_kind(schema.field(i), self.name) for i in columns.features]
        self._widths = [widths(i) if is_list else 1 for i, (_, is_list) in zip(columns.features, kinds, strict=True)]
        self.shape = (sum(self._widths),)
        self.dtype = np.result_type(*(dtype for dtype, _ in kinds)) if kinds else np.dtype(np.float64)
        if kinds and not any(is_list for _, is_list in kinds):
            self.feature_names = tuple(schema.field(i).name for i in columns.features)
        self.has_y, self.has_weights = bool(columns.target), columns.weight is not None
        self.n_targets = max(1, len(columns.target))

    def _columns(self, start: int, stop: int, numbers: Sequence[int]) -> Iterator[Piece]:
        """Yield the values of columns between two rows, in pieces; those of each column in their order."""
        raise NotImplementedError

    def read(self, start: int, stop: int, *, X: bool = True) -> Block:
        """Return rows."""
        chosen, n_rows = self._chosen, stop - start
        matrix = np.empty((n_rows, *self.shape), self.dtype) if X else None
        ends = np.cumsum(self._widths).tolist()
        places = {i: slice(end - width, end) for i, end, width in zip(chosen.features, ends, self._widths, strict=True)}
        others: dict[int, list[npt.NDArray[Any]]] = {number: [] for number in chosen.others}
        read = dict.fromkeys((*places, *others) if X else others, 0)
        for number, column in self._columns(start, stop, tuple(read)):
            first = read[number]
            read[number] = last = first + len(column)
            if last > n_rows:
                break
            array = self._array(number, column, start + first)
            if number in others:
                others[number].append(array)
            elif matrix is not None:
                self._write(matrix[first:last, places[number]], array, number)
        if wrong := [count for count in read.values() if count != n_rows]:
            raise ValueError(f"{self.name} has {wrong[0]} rows here, but had {n_rows} before")
        arrays = [np.concatenate(parts) if len(parts) > 1 else parts[0] for parts in others.values()]
        y = arrays[: len(chosen.target)]
        return Block(
            NamedColumns(matrix, self.feature_names) if matrix is not None and self.feature_names else matrix,
            (np.stack(y, axis=1) if chosen.several else y[0]) if y else None,
            None if chosen.weight is None else arrays[-1],
        )

    def _write(self, out: npt.NDArray[Any], array: npt.NDArray[Any], number: int) -> None:
        """Write a column, or lists, to where it belongs."""
        width = array.shape[1] if array.ndim > 1 else 1
        if width != out.shape[1]:
            name = self._schema.field(number).name
            raise ValueError(f"column {name!r} of {self.name} has lists of {width}, but of {out.shape[1]} before")
        out[...] = array.reshape(out.shape)

    def _array(self, number: int, column: Any, first_row: int) -> npt.NDArray[Any]:
        return _as_array(column, self._schema.field(number).name, lambda row: self.place(first_row + row))


class Table(TableReader):
    """A table or record batch of Arrow in memory."""

    def __init__(self, table: Any, name: str, features: Any, target: Any, sample_weight: Any) -> None:
        self.name = name
        self.n_rows = table.num_rows
        self._table = table
        columns = Columns.chosen(table.schema.names, features, target, sample_weight, name)
        self._describe(table.schema, columns, lambda i: list_width(table.column(i)))

    def _columns(self, start: int, stop: int, numbers: Sequence[int]) -> Iterator[Piece]:
        if self._table.num_rows != self.n_rows:
            raise ValueError(f"{self.name} has changed: it has {self._table.num_rows} rows now")
        for number in numbers:
            yield number, self._table.column(number).slice(start, stop - start)


def _kind(field: Any, where: str) -> tuple[np.dtype[Any], bool]:
    """Return the dtype of a column of features, and whether it holds a list in each row.

    Raises
    ------
    TypeError
        If these are no numbers.
    """
    import pyarrow as pa

    kind = _plain(field.type)
    is_list = _is_list(kind)
    kind = _plain(kind.value_type) if is_list else kind
    if pa.types.is_decimal(kind):
        kind = pa.float64()
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise TypeError(
            f"{where} has a column that is not numbers: {field.name!r} ({field.type}); "
            "name those to train on: features=[...]"
        )
    return np.dtype(kind.to_pandas_dtype()), is_list


def _plain(kind: Any) -> Any:
    """Return the type that is behind an extension or a dictionary."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def list_width(column: Any) -> int:
    """Return how long the lists of a column are, by its first row."""
    kind = _plain(column.type)
    if hasattr(kind, "list_size"):
        return int(kind.list_size)
    first = column[0].as_py() if len(column) else None
    return len(first) if first is not None else 0


def _as_array(column: Any, name: str, place: Place) -> npt.NDArray[Any]:
    """Return a column as an array (n,), or (n, k) of lists.

    Raises
    ------
    ValueError
        If a value is missing, or lists are of different lengths.
    """
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        chunks = column.chunks
        column = pa.concat_arrays(chunks) if len(chunks) > 1 else chunks[0] if chunks else pa.array([], column.type)
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise ValueError(f"column {name!r} has a missing value in {place(row)}; fill it or drop the row")
    if _is_list(column.type):
        if not pa.types.is_fixed_size_list(column.type):
            lengths = column.value_lengths().to_numpy()
            if wrong := np.flatnonzero(lengths != lengths[:1]).tolist():
                row = wrong[0]
                raise ValueError(f"column {name!r} has {lengths[row]} numbers in {place(row)}, but {lengths[0]} before")
        values = column.flatten()
        width = len(values) // max(1, len(column))
        return _as_array(values, name, lambda i: place(i // width)).reshape(len(column), -1)
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    array: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return array

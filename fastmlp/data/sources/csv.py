"""CSV files, parsed by pyarrow a piece at a time."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastmlp.data.sources.files import read_bytes
from fastmlp.data.sources.tables import Columns, Piece, TableReader
from fastmlp.data.sources.text import Text

__all__ = ["Csv", "is_header", "is_number"]

_SAMPLES = 16
_SEPARATORS = ",;\t"
_BOM = b"\xef\xbb\xbf"
_SHOWN = 5


class Csv(TableReader, Text):
    """A CSV file.

    Features are float64, as pandas and NumPy read them. The kind of the targets is what fits pieces from the beginning
    to the end of the file: integers, numbers or strings.
    """

    def __init__(self, path: str | os.PathLike[str], features: Any, target: Any, sample_weight: Any) -> None:
        super().__init__(path)
        self._separator, names, offset = self._header()
        self._index(offset, 1 + self._lines_of_header)
        self._all_names = names
        self._names = [str(i) for i in range(len(names))]  # columns are read by numbers: names may be there twice
        if features is None and "" in names:
            raise ValueError(
                f"column {names.index('')} of {self.name} has no name (is it the index of a table of pandas?); "
                "name the columns to train on: features=[...]"
            )
        columns = Columns.chosen(names, features, target, sample_weight, self.name)
        self._types: dict[str, Any] = {}
        self._types = self._infer(columns, names)
        import pyarrow as pa

        schema = pa.schema([(name, self._types.get(str(i), pa.null())) for i, name in enumerate(names)])
        self._describe(schema, columns, lambda i: 1)
        if not self._has_names:
            self.feature_names = None

    # --- the index ----------------------------------------------------------------------------------------------------

    def _header(self) -> tuple[str, list[str], int]:
        """Return the separator, the names of the columns, and where the rows begin."""
        with self._file.opened() as file:
            text = read_bytes(file, 0, min(self._file.size, 1 << 22), self.name)
        skipped = len(_BOM) * text.startswith(_BOM)
        text = text[skipped:]
        records: list[bytes] = []
        used, at = [], 0
        while len(records) < 2 and at < len(text):
            line = 1 + text.count(b"\n", 0, at)
            _, size = self._count(text[at : at + _first_record(text[at:])], True, line)
            size = size or len(text) - at
            record = text[at : at + size]
            at += size
            if record.strip():
                records.append(record)
                used.append(at)
        if not records:
            raise ValueError(f"{self.name} has no rows")
        try:
            lines = [record.decode() for record in records]
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.name} is not encoded in UTF-8: {error}") from error
        separator = max(_SEPARATORS, key=lines[0].count)
        try:
            first, *second = (
                [cell.strip() for cell in next(csv.reader([line], delimiter=separator))] for line in lines
            )
        except csv.Error as error:
            raise ValueError(f"{self.name}, in the first lines: {error}; quotes must enclose whole values") from error
        self._has_names = is_header(first, second[0] if second else [])
        self._lines_of_header = text.count(b"\n", 0, used[0]) if self._has_names else 0
        if self._has_names and not second:
            raise ValueError(f"{self.name} has no rows")
        names = first if self._has_names else [str(i) for i in range(len(first))]
        return separator, names, skipped + (used[0] if self._has_names else 0)

    def _count(self, text: bytes, is_last: bool, line: int) -> tuple[int, int]:
        """Count lines that are not empty; those between quotes belong together."""
        array = np.frombuffer(text, np.uint8)
        ends = np.flatnonzero(array == 10)
        if b'"' in text:
            quotes = np.flatnonzero(array == 34)
            ends = ends[np.searchsorted(quotes, ends) % 2 == 0]
            if is_last and len(quotes) % 2:
                line += text.count(b"\n", 0, int(ends[-1]) + 1 if len(ends) else 0)
                raise ValueError(f"{self.name} has a quote that is not closed, in line {line} or after")
        lengths = np.diff(ends, prepend=-1) - 1
        empty = (lengths == 0) | ((lengths == 1) & (array[ends - 1] == 13))
        n_rows = len(ends) - np.count_nonzero(empty)
        used = int(ends[-1]) + 1 if len(ends) else 0
        if is_last and used < len(text):
            n_rows += bool(text[used:].strip(b"\r\n"))
            used = len(text)
        return int(n_rows), used

    # --- columns ------------------------------------------------------------------------------------------------------

    def _infer(self, columns: Columns, names: Sequence[str]) -> dict[str, Any]:
        """Return the types of the columns that are needed."""
        import pyarrow as pa

        numbers = [*columns.features, *columns.others]
        pieces = np.unique(np.linspace(0, len(self.own) - 1, min(_SAMPLES, len(self.own))).astype(int)).tolist()
        seen: dict[int, list[Any]] = {number: [] for number in numbers}
        for piece in pieces:
            table = self._parsed(piece, lambda text: self._table(text, numbers), len)
            for number in numbers:
                seen[number].append(table.column(str(number)).type)
        kinds = {number: _common(seen[number]) for number in numbers}
        words = [number for number in columns.features if kinds[number] == pa.string()]
        if words:
            shown = ", ".join(repr(names[number]) for number in words[:_SHOWN]) + ", ..." * (len(words) > _SHOWN)
            raise TypeError(
                f"{self.name} has columns that are not numbers: {shown}; name those to train on: features=[...]"
            )
        return {
            str(number): pa.float64() if number not in columns.target and kind != pa.bool_() else kind
            for number, kind in kinds.items()
        }

    def _table(self, text: bytes, numbers: Sequence[int]) -> Any:
        """Return columns of a piece as a table of Arrow; their names are their numbers."""
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        try:
            return arrow_csv.read_csv(
                pa.BufferReader(text),
                arrow_csv.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=self._names),
                arrow_csv.ParseOptions(delimiter=self._separator, newlines_in_values=b'"' in text),
                arrow_csv.ConvertOptions(
                    include_columns=[str(number) for number in numbers], column_types=self._types,
                    true_values=["true", "True", "TRUE"], false_values=["false", "False", "FALSE"],
                ),
            )  # fmt: skip
        except pa.ArrowInvalid as error:
            raise ValueError(self._words(str(error))) from error

    def _words(self, error: str) -> str:
        """Return an error of pyarrow with the name of the column, and without the row, which counts from a piece."""
        error = re.sub(r"Row #\d+: ", "", error)
        return re.sub(r"In CSV column #(\d+): ", lambda found: f"column {self._all_names[int(found[1])]!r}: ", error)

    def _columns(self, start: int, stop: int, numbers: Sequence[int]) -> Iterator[Piece]:
        for piece, first, last in self._pieces(start, stop):
            table = self._parsed(piece, lambda text: self._table(text, numbers), len)
            for number in numbers:
                yield number, table.column(str(number)).slice(first, last - first)


def _first_record(text: bytes) -> int:
    """Return the number of bytes up to the first end of a line that is not between quotes."""
    at = 0
    while (at := text.find(b"\n", at) + 1) and text.count(b'"', 0, at) % 2:
        pass
    return at or len(text)


def is_header(first: Sequence[str], second: Sequence[str]) -> bool:
    """Return whether the first line has names: no numbers, 0, 1, 2, ..., or words where the second has numbers."""
    numbers = [is_number(cell) for cell in first]
    if not any(numbers) or (first == [str(i) for i in range(len(first))] and len(first) > 1):
        return True
    return any(not number and is_number(cell) for number, cell in zip(numbers, second, strict=False))


def is_number(text: str) -> bool:
    """Return whether a cell is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _common(types: Sequence[Any]) -> Any:
    """Return the type that fits all that have been seen of a column."""
    import pyarrow as pa

    kinds = {kind for kind in types if kind != pa.null()}
    if not kinds:
        return pa.float64()
    if len(kinds) == 1:
        kind = kinds.pop()
        return kind if kind in (pa.int64(), pa.float64(), pa.bool_()) else pa.string()
    return pa.float64() if kinds <= {pa.int64(), pa.float64()} else pa.string()

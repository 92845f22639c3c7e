"""Tables in files, CSV and Parquet, as columns of numbers and strings."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import os
import re
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from fastmlp.cli.data import PARQUET, STDIN, TEXT, suffix_of
from fastmlp.data.sources.csv import is_header

__all__ = ["MISSING", "Table", "read_table"]

_CHUNK = 4096  # rows whose cells are text at the same time
_FIRST_CHUNK = 256  # rows that say whether the others can be read as numbers alone
_TRUE, _FALSE = {"true", "True", "TRUE"}, {"false", "False", "FALSE"}
_GZIP = b"\x1f\x8b"  # how compressed files begin
_MISTAKES = {  # what csv says, and why
    "unexpected end of data": "a quote is not closed",
    "field larger than field limit (131072)": "a value has more than 131,072 characters; is a quote not closed?",
}
_INDEX = re.compile(r"__index_level_\d+__")  # what pandas calls the index of a table in a file

MISSING = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null", "None", "<NA>", "?")
"""What stands for a missing number."""


class _NotNumbersError(Exception):
    pass


Column = npt.NDArray[Any]  # (n,) of int64, float64, bool, or object: texts


@dataclass(frozen=True)
class Table:
    """Columns of a file.

    Attributes
    ----------
    path : str
    columns : dict of arrays (n,)
        int64, float64 (NaN where a value is missing), bool, or texts as objects ("" where one is missing).
    has_names : bool
        If not, columns are called "0", "1", ...
    others : dict of str
        Columns of another kind, such as dates, with the names of their types.
    """

    path: str
    columns: dict[str, Column]
    has_names: bool
    others: dict[str, str]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values()), ()))

    def name_of(self, column: str) -> str:
        """Return the name of a column that is given by its name or number.

        Raises
        ------
        ValueError
            If there is none.
        """
        names = [*self.columns, *self.others]
        if column in names:
            return column
        with suppress(ValueError):
            if -len(names) <= int(column) < len(names):
                return names[int(column)]
        shown = ", ".join(map(repr, names[:10])) + ", ..." * (len(names) > 10)
        raise ValueError(f"{self.path} has no column {column!r}; its columns are {shown}")

    def column(self, name: str, *, is_target: bool = False) -> Column:
        """Return a column without missing values.

        Raises
        ------
        ValueError
            If values are missing, or are no numbers and no texts.
        """
        if name in self.others:
            raise ValueError(
                f"{self.path} has {self.others[name]} in column {name!r}; make numbers of them, or leave it out with "
                "--ignore"
            )
        values = self.columns[name]
        missing = is_missing(values)
        if missing.any():
            row, n = int(np.argmax(missing)), int(np.count_nonzero(missing))
            found = f"{n:,} missing value{'s' * (n > 1)}"
            if is_target:
                raise ValueError(
                    f"{self.path} has {found} in its target {name!r}, the first in row {row}; drop the rows, or say "
                    "which column is the target: --target COLUMN"
                )
            raise ValueError(
                f"{self.path} has {found} in column {name!r}, the first in row {row}; fill them, drop the "
                "rows, or leave the column out with --ignore; a pipeline of scikit-learn can fill them "
                "(docs/tables.md)"
            )
        return values


def is_missing(values: Column) -> npt.NDArray[np.bool_]:
    """Return for each value of a column whether it is missing."""
    missing: npt.NDArray[np.bool_] = values == "" if values.dtype == object else np.isnan(values)
    return missing


def read_table(path: str) -> Table:
    """Read a table from a file, a pipe, or "-", which is standard input.

    Raises
    ------
    ValueError
        If it cannot be read, or has no rows.
    OSError
        If there is no such file.
    """
    table = _read_parquet(path) if suffix_of(path) in PARQUET else _read_text(path)
    if not table.n_rows:
        raise ValueError(f"{table.path} has no rows")
    return table


# --- text -------------------------------------------------------------------------------------------------------------


def _read_text(path: str) -> Table:
    """Read a text file, again if a column that begins with numbers has something else later."""
    opened, separators = _opener(path), TEXT.get(suffix_of(path), TEXT[".csv"])
    shown = "standard input" if path == STDIN else path
    try:
        try:
            names, has_names, kinds, chunks = _parse(opened, separators, set())
        except _NotNumbersError:
            names, has_names, kinds, chunks = _parse(opened, separators, set(), fast=False)
        texts = {i for i, kind in enumerate(kinds) if kind == "text"}
        if any(chunk[i].dtype != object for chunk in chunks for i in texts):
            names, has_names, kinds, chunks = _parse(opened, separators, texts, fast=False)
    except UnicodeDecodeError as error:
        found = f"byte 0x{error.object[error.start]:02x}"
        raise ValueError(f"{shown} is not encoded in UTF-8 ({found}); save it as CSV in UTF-8") from error
    except (ValueError, EOFError, zlib.error) as error:
        raise ValueError(f"{shown} cannot be read: {error}") from error
    columns = [
        (name, np.concatenate([chunk[i] for chunk in chunks]) if chunks else np.zeros(0))
        for i, name in enumerate(names)
    ]
    while columns and not (has_names and columns[-1][0]) and is_missing(columns[-1][1]).all():
        columns.pop()  # a separator at the end of each line
    if [name for name, _ in columns].count("") > 1:
        raise ValueError(f"{shown} has several columns without a name")
    return Table(shown, dict(columns), has_names, {})


def _opener(path: str) -> Callable[[], IO[str]]:
    """Return what opens a text, compressed or not, at its beginning. What can be read only once is kept in memory."""
    whole = None
    if path == STDIN:
        if sys.stdin is None:
            raise ValueError("standard input is closed")
        whole = sys.stdin.buffer.read()
    elif not os.path.isfile(path):
        with open(path, "rb") as file:
            whole = file.read()
    if whole is None:
        with open(path, "rb") as file:
            start = file.read(len(_GZIP))
    else:
        start = whole[: len(_GZIP)]

    def opened() -> IO[str]:
        source: Any = path if whole is None else io.BytesIO(whole)
        if start == _GZIP:
            return gzip.open(source, "rt", encoding="utf-8-sig", newline="")
        if whole is None:
            return open(path, encoding="utf-8-sig", newline="")
        return io.TextIOWrapper(source, encoding="utf-8-sig", newline="")

    return opened


def _parse(
    opened: Callable[[], IO[str]], separators: str, texts: set[int], *, fast: bool = True
) -> tuple[list[str], bool, list[str], list[list[Column]]]:
    """Return names, whether the file has them, the kind of each column, and the columns of some rows at a time."""
    with opened() as file:
        n_empty, line = next(((i, line) for i, line in enumerate(file) if line.strip()), (0, ""))
        if "\0" in line:
            raise ValueError("it is not UTF-8 text (it has zero bytes); save it as CSV in UTF-8")
        separator = max(separators, key=line.count)
        lines = itertools.chain([line], file)
        rows = _rows(lines, separator, n_empty)
        head = list(itertools.islice(rows, 2))
        if not head:
            return [], False, [], []
        first = [cell.strip() for cell in head[0]]
        has_names = is_header(first, head[1] if len(head) > 1 else [])
        names = first if has_names else [str(i) for i in range(len(first))]
        seen: set[str] = set()
        for name in filter(None, names):
            if name in seen:
                raise ValueError(f"it has several columns named {name!r}")
            seen.add(name)
        kinds: list[set[str]] = [set() for _ in names]
        chunks: list[list[Column]] = []
        rows = itertools.chain(head[has_names:], rows)
        first_size = min(_CHUNK, _FIRST_CHUNK)
        while some := list(itertools.islice(rows, _CHUNK if chunks else first_size)):
            columns = zip(*some, strict=True)
            chunk = [_as_text(cells) if i in texts else _as_column(cells) for i, cells in enumerate(columns)]
            for kind, column in zip(kinds, chunk, strict=True):
                kind.add("text" if column.dtype == object else "bool" if column.dtype == bool else "number")
            chunks.append(chunk)
            if fast and len(some) == first_size and len(chunks) == 1 and all(kind == {"number"} for kind in kinds):
                chunks.append(_numbers(lines, [column.dtype for column in chunk], separator))
    return names, has_names, [kind.pop() if len(kind) == 1 else "text" for kind in kinds], chunks


def _numbers(lines: Iterator[str], dtypes: Sequence[np.dtype[Any]], separator: str) -> list[Column]:
    """Return the columns of the remaining lines, ten times as fast, if all are like the first ones.

    Raises
    ------
    _NotNumbersError
        If they are not.
    """
    kinds = [(str(i), dtype) for i, dtype in enumerate(dtypes)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # of a number with a fraction among integers
            warnings.simplefilter("ignore", UserWarning)  # of no more rows
            delimiter = None if separator == " " else separator
            table = np.loadtxt(lines, kinds, delimiter=delimiter, quotechar='"', comments=None, ndmin=1)
    except (ValueError, OverflowError, DeprecationWarning) as error:
        raise _NotNumbersError from error
    return [table[name] for name, _ in kinds]


def _rows(lines: Iterator[str], separator: str, n_before: int) -> Iterator[list[str]]:
    """Yield the cells of each line that has any; all have as many as the first. `n_before` lines have been read."""
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
    rows: Iterator[list[str]] = map(str.split, lines) if separator == " " else reader
    width, n_rows = None, 0
    try:
        for n_rows, row in enumerate(rows, 1):
            if not any(cell and not cell.isspace() for cell in row):
                continue
            width = len(row) if width is None else width
            if len(row) != width:
                line = n_before + (n_rows if separator == " " else reader.line_num)
                columns = f"{width} column{'s' * (width != 1)}"
                raise ValueError(f"the first line has {columns}, but line {line} has {len(row)}")
            yield row
    except csv.Error as error:
        why = _MISTAKES.get(str(error), str(error))
        raise ValueError(f"line {n_before + reader.line_num}: {why}") from error


def _as_column(cells: Sequence[str]) -> Column:
    """Return cells as numbers, as bools, or as they are."""
    if "_" in "".join(cells):  # Python reads 1_0 as 10
        return _as_text(cells)
    texts = np.array(cells)
    for dtype in (np.int64, np.float64):
        with suppress(ValueError, OverflowError):
            return texts.astype(dtype)
    found = {cell.strip() for cell in cells}
    if found <= _TRUE | _FALSE:
        return np.array([cell.strip() in _TRUE for cell in cells])
    if found & set(MISSING):
        with suppress(ValueError):
            return np.array(["nan" if cell.strip() in MISSING else cell for cell in cells]).astype(np.float64)
    return _as_text(cells)


def _as_text(cells: Sequence[str]) -> Column:
    texts = [sys.intern(cell.strip()) for cell in cells]
    if wrong := [text for text in set(texts) if "\0" in text]:
        raise ValueError(f"it has zero bytes, in {wrong[0][:20]!r}")
    return np.array(texts, object)


# --- Parquet ----------------------------------------------------------------------------------------------------------


def _read_parquet(path: str) -> Table:
    """Read a Parquet file."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError('Parquet files need pyarrow: pip install "fastmlp[data]"') from error
    with open(path, "rb") as file:
        try:
            table = pq.read_table(file)
        except pa.ArrowException as error:
            raise ValueError(f"{path} cannot be read: {error}") from error
    columns: dict[str, Column] = {}
    others: dict[str, str] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if _INDEX.fullmatch(name):
            continue
        if name in columns or name in others:
            raise ValueError(f"{path} has several columns named {name!r}")
        kind = column.type
        if pa.types.is_dictionary(kind):
            column, kind = column.cast(kind.value_type), kind.value_type
        if pa.types.is_decimal(kind):
            column, kind = column.cast(pa.float64()), pa.float64()
        if pa.types.is_null(kind):
            columns[name] = np.full(len(column), np.nan)
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            columns[name] = np.array([(value or "").strip() for value in column.to_pylist()], object)
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
            has_gaps = column.null_count > 0
            array = np.array([np.nan if value is None else value for value in column.to_pylist()]) if has_gaps else None
            array = column.to_numpy() if array is None else array.astype(np.float64)
            if array.dtype != bool:  # as of texts, integers beyond int64 become numbers with a fraction
                fits = array.dtype.kind in "iu" and not (array > np.iinfo(np.int64).max).any()
                array = array.astype(np.int64 if fits else np.float64)
            columns[name] = array
        else:
            others[name] = str(kind)
    return Table(path, columns, True, others)

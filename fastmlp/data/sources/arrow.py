"""Parquet files, Arrow files and datasets of Arrow, through pyarrow."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.data.sources.files import File
from fastmlp.data.sources.tables import Columns, TableReader, list_width

__all__ = ["ArrowFile", "Dataset", "Parquet"]

_BATCH_ROWS = 4096
_BUFFER_BYTES = 1 << 16


class _Parts(TableReader):
    """A table in parts that are decoded from their first row on: row groups, record batches, fragments."""

    own: npt.NDArray[np.int64]

    def _set_parts(self, lengths: Sequence[int]) -> None:
        self.own = np.array(lengths, np.int64)
        self._ends = np.cumsum(self.own)
        self.n_rows = int(self.own.sum())
        self._cursor: _Cursor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_cursor": None}

    def _batches(self, start: int, stop: int, numbers: Sequence[int]) -> Iterator[Sequence[Any]]:
        self._check()
        part = bisect_right(self._ends, start)
        while start < stop:
            end = int(self._ends[part])
            begin = end - int(self.own[part])
            last = min(stop, end)
            yield from self._of_part(part, start - begin, last - begin, tuple(numbers))
            start, part = last, part + 1
        self._check()

    def _of_part(self, part: int, start: int, stop: int, numbers: tuple[int, ...]) -> Iterator[Sequence[Any]]:
        """Yield rows of a part. If they follow those of the last call, they need not be searched for."""
        cursor, self._cursor = self._cursor, None
        if cursor is None or not cursor.reaches(part, start, numbers):
            cursor = _Cursor(part, numbers, self._decode(part, numbers))
        yield from cursor.rows(start, stop)
        if stop < self.own[part]:
            self._cursor = cursor

    def _check(self) -> None:
        """Raise a ValueError if a file has changed."""
        raise NotImplementedError

    def _decode(self, part: int, numbers: tuple[int, ...]) -> Iterator[Any]:
        """Yield the record batches of a part, with these columns."""
        raise NotImplementedError


class _Cursor:
    """How far a part has been decoded."""

    def __init__(self, part: int, numbers: tuple[int, ...], batches: Iterator[Any]) -> None:
        self._of, self._batches = (part, numbers), batches
        self._position, self._batch = 0, None  # the first row of the batch at hand

    def reaches(self, part: int, start: int, numbers: tuple[int, ...]) -> bool:
        return self._of == (part, numbers) and self._position <= start

    def rows(self, start: int, stop: int) -> Iterator[Sequence[Any]]:
        while start < stop:
            if self._batch is None:
                self._batch = next(self._batches, None)
                if self._batch is None:
                    return
            end = self._position + self._batch[0]
            if end > start:
                last = min(stop, end)
                yield [column.slice(start - self._position, last - start) for column in self._batch[1]]
                start = last
            if end <= start:
                self._position, self._batch = end, None


class Parquet(_Parts):
    """A Parquet file; its parts are the row groups.

    A group is decoded a few thousand rows at a time, so that it need not fit in memory.
    """

    def __init__(self, path: str | os.PathLike[str], features: Any, target: Any, sample_weight: Any) -> None:
        import pyarrow as pa

        self._file = File(path)
        self.name = self._file.name
        self._opened: Any = None
        try:
            file = self._open()
            metadata, schema = file.metadata, file.schema_arrow
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{self.name} cannot be read: {error}") from error
        self._set_parts([metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)])
        self._group_bytes = max((metadata.row_group(i).total_byte_size for i in range(len(self.own))), default=0)
        columns = Columns.chosen(schema.names, features, target, sample_weight, self.name)
        self._describe(schema, columns, lambda i: _first_width(self, schema, i))

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_opened": None}

    def _open(self) -> Any:
        if self._opened is None:
            import pyarrow.parquet as pq

            self._opened = pq.ParquetFile(self._file.path, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        return self._opened

    def _check(self) -> None:
        self._file.check()

    def _decode(self, part: int, numbers: tuple[int, ...]) -> Iterator[Any]:
        names = [self._schema.names[i] for i in numbers]
        n_rows = max(1, min(_BATCH_ROWS, (1 << 20) // self.row_bytes)) if self.shape else 1
        for batch in self._open().iter_batches(n_rows, row_groups=[part], columns=names, use_threads=False):
            yield batch.num_rows, [batch.column(name) for name in names]

    def nbytes_of_parts(self, ends: npt.NDArray[np.int64]) -> int:
        """Return the memory of the buffers and the dictionaries of a row group."""
        n_columns = len(self._chosen.features) + len(self._chosen.others)
        return min(self._group_bytes, n_columns * (_BUFFER_BYTES + (2 << 20))) + (2 << 20)


class ArrowFile(_Parts):
    """A file of Arrow's own format (IPC, Feather); its parts are the record batches."""

    def __init__(self, path: str | os.PathLike[str], features: Any, target: Any, sample_weight: Any) -> None:
        import pyarrow as pa

        self._file = File(path)
        self.name = self._file.name
        with self._file.opened() as file:
            magic = file.read(6)
        if magic != b"ARROW1":
            raise ValueError(
                f"{self.name} is not an Arrow file that can be read in any order; a stream must be written as a file "
                "(pyarrow.ipc.new_file), and Feather files with version 2"
            )
        try:
            with self._reader(None) as reader:
                schema, n_batches = reader.schema, reader.num_record_batches
            with self._reader([0]) as reader:
                lengths = [reader.get_batch(i).num_rows for i in range(n_batches)]
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{self.name} cannot be read: {error}") from error
        self._batch_numbers = [i for i, length in enumerate(lengths) if length]
        self._set_parts([length for length in lengths if length])
        columns = Columns.chosen(schema.names, features, target, sample_weight, self.name)
        self._describe(schema, columns, lambda i: _first_width(self, schema, i))

    def _reader(self, numbers: Sequence[int] | None) -> Any:
        import pyarrow as pa

        options = pa.ipc.IpcReadOptions(included_fields=None if numbers is None else sorted(numbers), use_threads=False)
        return pa.ipc.open_file(pa.OSFile(self._file.path), options=options)

    def _check(self) -> None:
        self._file.check()

    def _decode(self, part: int, numbers: tuple[int, ...]) -> Iterator[Any]:
        with self._reader(numbers) as reader:
            batch = reader.get_batch(self._batch_numbers[part])
        place = {number: i for i, number in enumerate(sorted(numbers))}
        yield batch.num_rows, [batch.column(place[number]) for number in numbers]

    def nbytes_of_parts(self, ends: npt.NDArray[np.int64]) -> int:
        """Return the memory of a record batch."""
        return int(self.own.max(initial=0)) * self.row_bytes


class Dataset(_Parts):
    """A dataset of pyarrow; its parts are the row groups of its Parquet files, or whole files of other formats."""

    def __init__(self, dataset: Any, name: str, features: Any, target: Any, sample_weight: Any) -> None:
        import pyarrow.dataset as ds
        from pyarrow.fs import LocalFileSystem

        if getattr(dataset, "_scan_options", None):
            raise ValueError(f"{name} is a dataset with a filter, which blocks do not know; write the rows it selects")
        self.name = name
        counted: list[tuple[Any, int]] = []
        for fragment in dataset.get_fragments():
            if isinstance(fragment, ds.ParquetFileFragment):
                counted += [(part, part.row_groups[0].num_rows) for part in fragment.split_by_row_group()]
            else:
                counted.append((fragment, fragment.count_rows()))
        self._fragments = [fragment for fragment, count in counted if count]
        is_local = isinstance(getattr(dataset, "filesystem", None), LocalFileSystem)
        self._files = [File(path) for path in dataset.files] if is_local else []
        self._set_parts([count for _, count in counted if count])
        columns = Columns.chosen(dataset.schema.names, features, target, sample_weight, name)
        self._describe(dataset.schema, columns, lambda i: _first_width(self, dataset.schema, i))

    def _check(self) -> None:
        for file in self._files:
            file.check()

    def _decode(self, part: int, numbers: tuple[int, ...]) -> Iterator[Any]:
        names = [self._schema.names[i] for i in numbers]
        batches = self._fragments[part].to_batches(
            schema=self._schema, columns=names, batch_size=_BATCH_ROWS, use_threads=False, batch_readahead=0
        )
        for batch in batches:
            if batch.num_rows:
                yield batch.num_rows, [batch.column(name) for name in names]

    def nbytes_of_parts(self, ends: npt.NDArray[np.int64]) -> int:
        """Return the memory of a part, which pyarrow may decode as a whole."""
        return int(self.own.max(initial=0)) * self.row_bytes


def _first_width(reader: _Parts, schema: Any, number: int) -> int:
    """Return how long the lists in a column are, by the first row."""
    reader._schema, reader.shape = schema, ()
    kind = schema.field(number).type
    if hasattr(kind, "list_size"):
        return int(kind.list_size)
    return next((list_width(columns[0]) for columns in reader._batches(0, 1, (number,))), 0) if reader.n_rows else 0

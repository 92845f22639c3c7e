"""Parquet files, Arrow files and datasets of Arrow, through pyarrow."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.data.sources.files import File, Latest
from fastmlp.data.sources.tables import Columns, Piece, TableReader, list_width

__all__ = ["ArrowFile", "Dataset", "Parquet"]

_SET_BYTES = 1 << 22
"""Of columns that are decoded at once. Parquet would need megabytes for each of its columns."""


class _Parts(TableReader):
    """A table in parts that are decoded whole, some columns at a time: row groups, record batches, fragments."""

    own: npt.NDArray[np.int64]

    def _set_parts(self, lengths: Sequence[int], schema: Any, names: tuple[Any, Any, Any]) -> None:
        self.own = np.array(lengths, np.int64)
        self._ends = np.cumsum(self.own)
        self.n_rows = int(self.own.sum())
        self._column_bytes, self._schema = 8, schema
        columns = Columns.chosen(schema.names, *names, self.name)
        self._describe(schema, columns, self._list_width)
        self._column_bytes = max(8, self.row_bytes // max(1, len(columns.features)))

    def _list_width(self, number: int) -> int:
        """Return how long the lists in a column are, by the first row."""
        kind = self._schema.field(number).type
        if hasattr(kind, "list_size"):
            return int(kind.list_size)
        return next((list_width(column) for _, column in self._columns(0, 1, (number,))), 0) if self.n_rows else 0

    def _columns(self, start: int, stop: int, numbers: Sequence[int]) -> Iterator[Piece]:
        part = bisect_right(self._ends, start)
        while start < stop:
            end = int(self._ends[part])
            begin, last = end - int(self.own[part]), min(stop, end)
            self._check(part)
            size = max(1, _SET_BYTES // ((end - begin) * self._column_bytes))
            for i in range(0, len(numbers), size):
                some = numbers[i : i + size]
                for number, column in zip(some, self._decode(part, some), strict=True):
                    if len(column) != end - begin:
                        raise ValueError(f"{self.name} has changed: {len(column)} rows are where {end - begin} were")
                    yield number, column.slice(start - begin, last - start)
            self._check(part)
            start, part = last, part + 1

    def _check(self, part: int) -> None:
        """Raise a ValueError if the file of a part has changed."""
        raise NotImplementedError

    def _decode(self, part: int, numbers: Sequence[int]) -> Sequence[Any]:
        """Return columns of a part, in this order."""
        raise NotImplementedError

    def nbytes_of_parts(self, ends: npt.NDArray[np.int64]) -> int:
        """Return the memory of the columns that are decoded at once, with their packed bytes and dictionaries."""
        longest = int(self.own.max(initial=0))
        return 6 * max(min(_SET_BYTES, longest * self.row_bytes), longest * self._column_bytes)


class Parquet(_Parts):
    """A Parquet file; its parts are the row groups."""

    def __init__(self, path: str | os.PathLike[str], features: Any, target: Any, sample_weight: Any) -> None:
        import pyarrow as pa

        self._file = File(path)
        self.name = self._file.name
        self.latest = Latest()
        try:
            with self._open() as file:
                metadata, schema = file.metadata, file.schema_arrow
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{self.name} cannot be read: {error}") from error
        lengths = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self._set_parts(lengths, schema, (features, target, sample_weight))

    def _open(self) -> Any:
        import pyarrow.parquet as pq

        return pq.ParquetFile(self._file.path, pre_buffer=False)

    def _check(self, part: int) -> None:
        self._file.check()

    def _decode(self, part: int, numbers: Sequence[int]) -> Sequence[Any]:
        names = [self._schema.names[i] for i in numbers]
        table = self.latest.get(self, self._open).read_row_group(part, columns=names, use_threads=False)
        return [table.column(name) for name in names]


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
        self._set_parts([length for length in lengths if length], schema, (features, target, sample_weight))

    def _reader(self, numbers: Sequence[int] | None) -> Any:
        import pyarrow as pa

        options = pa.ipc.IpcReadOptions(included_fields=None if numbers is None else sorted(numbers), use_threads=False)
        return pa.ipc.open_file(pa.OSFile(self._file.path), options=options)

    def _check(self, part: int) -> None:
        self._file.check()

    def _decode(self, part: int, numbers: Sequence[int]) -> Sequence[Any]:
        with self._reader(numbers) as reader:
            batch = reader.get_batch(self._batch_numbers[part])
        place = {number: i for i, number in enumerate(sorted(numbers))}
        return [batch.column(place[number]) for number in numbers]


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
        files = {path: File(path) for path in (dataset.files if is_local else [])}
        self._files = [files.get(getattr(fragment, "path", "")) for fragment in self._fragments]
        lengths = [count for _, count in counted if count]
        self._set_parts(lengths, dataset.schema, (features, target, sample_weight))

    def _check(self, part: int) -> None:
        if file := self._files[part]:
            file.check()

    def _decode(self, part: int, numbers: Sequence[int]) -> Sequence[Any]:
        names = [self._schema.names[i] for i in numbers]
        table = self._fragments[part].to_table(schema=self._schema, columns=names, use_threads=False)
        return [table.column(name) for name in names]

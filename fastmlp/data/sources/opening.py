"""`open_source`: finds out what X, y and the weights are, and how they are read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastmlp.data.sources.arrays import Frame, InMemory
from fastmlp.data.sources.base import Source
from fastmlp.data.sources.chunked import Dask, Hdf5, Zarr
from fastmlp.data.sources.files import File, has_known_ending, kind_of_file, optional
from fastmlp.data.sources.items import Items, is_item
from fastmlp.data.sources.joined import Joined
from fastmlp.data.sources.npy import Npy, mapped
from fastmlp.data.sources.reader import Reader, Several
from fastmlp.data.sources.svmlight import Svmlight
from fastmlp.data.sources.tables import ALL, Table
from fastmlp.validation.frames import is_frame, is_series
from fastmlp.validation.settings import check_int

__all__ = ["open_source"]

_TABLES = ("parquet", "arrow", "csv", "folder")
_ARRAYS = ("hdf5", "zarr")


class _Columns(NamedTuple):
    """Which columns of a table are meant, or which arrays of a file."""

    features: Any = None
    target: Any = None
    sample_weight: Any = None


def open_source(
    X: Any,
    y: Any = None,
    *,
    sample_weight: Any = None,
    features: Any = None,
    target: Any = None,
    rows: int | None = None,
) -> Source:
    """Return the source of the rows of X, y and the sample weights, whatever they are.

    Parameters
    ----------
    X : path, list of paths, array, table, sequence, iterable or function
        `.npy`, Parquet, Arrow, CSV, SVMlight and HDF5 files, zarr folders, folders of Parquet files; arrays in memory,
        sparse matrices, memory maps, and arrays of h5py, zarr and Dask; tables of pandas, polars and Arrow; datasets of
        Arrow; anything that yields X, (X, y) or (X, y, sample_weight) again and again.
    y : path, list of paths, array or None
        As many rows as X has. None if X has the targets, or there are none.
    sample_weight : path, list of paths, array, str or None
        A number for each row, or the name of its column in X.
    features, target : str, int, list of them, or None
        Columns of a table, by name or number; None is all others, and no target. Of an HDF5 file or a zarr group, the
        names of the arrays that are X and y. Of SVMlight files, `features` is their number, if X lacks the last ones.
    rows : int or None
        The most rows of a block. None is about 512 KB of rows, or what the data has of its own: row groups, chunks and
        record batches are then read whole.

    Raises
    ------
    TypeError, ValueError
        If something cannot be read in blocks, or does not fit the others.
    OSError
        If a file is missing or cannot be read.
    ImportError
        If a package is missing that reads such files.
    """
    rows = None if rows is None else check_int("rows", rows, 1, "a number of rows or None")
    if y is not None and target is not None:
        raise ValueError("give y or target, not both: target is a column of X")
    for word, data in (("X", X), ("y", y), ("sample_weight", sample_weight)):
        _refuse_lazy(data, word)
    kind = _kind(X)
    weight_column = sample_weight if isinstance(sample_weight, str) and not os.path.exists(sample_weight) else None
    columns = _Columns(features, target, weight_column)
    if kind not in (*_TABLES, *_ARRAYS, "table"):
        needs_none = columns._replace(features=None) if kind == "svmlight" else columns
        for word, column in zip(columns._fields, needs_none, strict=True):
            if column is not None:
                missing = f"there is no file {column!r}, and " if word == "sample_weight" else ""
                raise ValueError(f"{word}={column!r}: {missing}X has no columns with names")
    of_X, of_y, of_weights = _reader(X, "X", columns), None, None
    if rows is not None and isinstance(of_X, Items):
        raise ValueError("rows is for files and arrays, but X yields blocks, which stay as they are")
    if kind in _ARRAYS:
        of_y = None if target is None else _reader(X, "target", _Columns(target))
        of_weights = None if weight_column is None else _reader(X, "sample_weight", _Columns(weight_column))
    if y is not None:
        of_y = _labels(y, "y")
    if sample_weight is not None and weight_column is None:
        of_weights = _labels(sample_weight, "sample_weight")
    for other in (of_y, of_weights):
        _check_pairs(of_X, other)
    return Joined(of_X, of_y, of_weights, rows)


def _check_pairs(X: Reader, other: Reader | None) -> None:
    """Refuse files that belong together but are not as long. Of another number of files, only the sum counts."""
    if isinstance(X, Several) and isinstance(other, Several) and len(X.parts) == len(other.parts):
        for one, two in zip(X.parts, other.parts, strict=True):
            if one.n_rows != two.n_rows:
                raise ValueError(f"{one.name} has {one.n_rows} rows, but {two.name} has {two.n_rows}")


def _refuse_lazy(data: object, word: str) -> None:
    """Refuse tables that are not computed yet: to ask them for rows or names would compute them."""
    kind = type(data).__name__
    is_dask = (_comes_from(data, "dask") or _comes_from(data, "dask_expr")) and kind in ("DataFrame", "Series")
    if is_dask or (_comes_from(data, "polars") and kind == "LazyFrame"):
        way = ".to_dask_array(lengths=True)" if is_dask else ".collect()"
        raise TypeError(f"{word} is a {kind} that is not computed yet; use {word}{way}")


def _is_path(data: object) -> bool:
    return isinstance(data, (str, os.PathLike))


def _is_list_of(data: object, is_one: Callable[[Any], bool]) -> bool:
    return isinstance(data, (list, tuple)) and len(data) > 0 and all(map(is_one, data))


def _comes_from(data: object, package: str) -> bool:
    """Return whether the class of an object is one of a package, without importing it."""
    return any(base.__module__.partition(".")[0] == package for base in type(data).__mro__)


def _is_array(data: object) -> bool:
    return hasattr(data, "shape") and hasattr(data, "dtype") and not is_series(data)


def _is_arrow(data: object) -> bool:
    return _comes_from(data, "pyarrow") and hasattr(data, "schema")


def _kind(X: Any) -> str:
    """Return the kind of X: that of its file, "table", or "" of anything else."""
    if _is_path(X):
        return kind_of_file(X)
    if _is_list_of(X, _is_path):
        return kind_of_file(X[0])
    return "table" if is_frame(X) or _is_arrow(X) or _is_list_of(X, _is_arrow) else ""


def _reader(data: Any, word: str, columns: _Columns) -> Reader:
    """Return how X is read; `word` is what messages call it."""
    if _is_path(data):
        return _of_paths([data], word, columns)
    if _is_list_of(data, _is_path):
        return _of_paths(data, word, columns)
    if _is_list_of(data, _is_arrow) or _is_arrow(data):
        return _of_arrow(data, word, columns)
    if is_frame(data):
        return Frame(data, word, *columns)
    if _is_list_of(data, lambda one: _is_array(one) and not is_frame(one)):
        if word == "X" and any(getattr(one, "ndim", 2) < 2 for one in data):
            raise ValueError("X is a list with arrays of one dimension; X and y are two arguments: Blocks(X, y)")
        return Several([_of_array(one, f"{word}[{i}]") for i, one in enumerate(data)], word)
    if _is_array(data):
        return _of_array(data, word)
    if isinstance(data, (Mapping, bytes, set, frozenset)) or not (
        isinstance(data, Iterable) or hasattr(data, "__getitem__") or callable(data)
    ):
        raise TypeError(f"{word} must be files, arrays, a table or blocks of rows, not {type(data).__name__}")
    if isinstance(data, (list, tuple)) and not _is_list_of(data, lambda one: is_item(one) or is_frame(one)):
        if not data:
            raise ValueError(f"{word} is an empty list")
        raise TypeError(
            f"{word} is a list of {type(data[0]).__name__}; give paths, arrays or pairs (X, y), or make it one array: "
            f"numpy.array({word})"
        )
    return Items(data, word)


def _labels(data: Any, word: str) -> Reader:
    """Return how y or the weights are read, which may be in memory in any form."""
    columns = _Columns((), ALL)
    if _is_path(data) or _is_list_of(data, _looks_like_path) or _is_list_of(data, _is_arrow) or _is_arrow(data):
        is_table = (not _is_path(data) and _is_arrow(data)) or _kind(data) in (*_TABLES, "table")
        return _reader(data, word, columns if is_table else _Columns())
    if is_frame(data):
        return _reader(data, word, _Columns())
    if is_series(data):
        return Frame(data, word)
    if _is_list_of(data, lambda one: _is_array(one) and one.ndim > 0) or _is_array(data):
        return _reader(data, word, _Columns())
    if isinstance(data, Iterator) or callable(data):
        raise TypeError(f"{word} must be files or an array; to read it in blocks, let X yield pairs (X, y)")
    array = np.asarray(data)
    if not array.ndim:
        raise TypeError(f"{word} must be files or an array, not {type(data).__name__}")
    return InMemory(array, word)


def _looks_like_path(data: Any) -> bool:
    """Return whether a string of a list is a path, and not the name of a class."""
    return isinstance(data, os.PathLike) or (isinstance(data, str) and (has_known_ending(data) or os.path.exists(data)))


def _of_array(array: Any, word: str) -> Reader:
    for package, reader in (("h5py", Hdf5), ("zarr", Zarr), ("dask", Dask)):
        if _comes_from(array, package):
            return reader(array, word)
    if not (isinstance(array, np.ndarray) or hasattr(array, "tocsr")):
        array = np.asarray(array)
    if not array.ndim:
        raise ValueError(f"{word} is a single number, not rows")
    whole = mapped(array) if isinstance(array, np.ndarray) else None
    if whole is None:
        return InMemory(array, word)
    return Npy.of_memmap(array) or InMemory(array, word, File(whole.filename))


def _of_arrow(data: Any, word: str, columns: _Columns) -> Reader:
    import pyarrow as pa

    if isinstance(data, (list, tuple)):
        tables = [pa.Table.from_batches([one]) if isinstance(one, pa.RecordBatch) else one for one in data]
        data = pa.concat_tables(tables)
    if hasattr(data, "get_fragments"):
        from fastmlp.data.sources.arrow import Dataset

        return Dataset(data, word, *columns)
    if not hasattr(data, "num_rows"):
        raise TypeError(f"{word} is a {type(data).__name__}, which can be read only once; use .read_all(), or a file")
    return Table(data, word, *columns)


# --- files ------------------------------------------------------------------------------------------------------------


def _of_paths(paths: Sequence[Any], word: str, columns: _Columns) -> Reader:
    kinds = [kind_of_file(path) for path in paths]
    if "folder" in kinds:
        if len(paths) > 1:
            raise ValueError(f"{os.fspath(paths[kinds.index('folder')])} is a folder; give one folder, or files")
        return _of_paths(_parquet_files(os.fspath(paths[0])), word, columns)
    if len(set(kinds)) > 1:
        raise ValueError(f"{word} has files of several kinds: {', '.join(sorted(set(kinds)))}")
    readers: list[Reader] = []
    for path in paths:
        readers.append(_of_path(path, kinds[0], word, columns))
        names = readers[0].feature_names
        if names is not None and columns.features is None and columns.target is not ALL:
            others = set(_names(readers[-1]))
            if others != set(names):
                column = min(others ^ set(names))
                raise ValueError(
                    f"{readers[-1].name} has other columns than {readers[0].name}: only one of them has {column!r}"
                )
            if _names(readers[-1]) != names:  # the same ones in another order
                readers[-1] = _of_path(path, kinds[0], word, columns._replace(features=list(names)))
    for reader in readers:
        if hasattr(reader, "latest"):  # thousands of files cannot be open at the same time
            reader.latest = readers[0].latest  # type: ignore[attr-defined]
    if kinds[0] == "svmlight":
        _same_columns([reader for reader in readers if isinstance(reader, Svmlight)], columns.features)
    return readers[0] if len(readers) == 1 else Several(readers, f"{word} of {len(readers)} files")


def _names(reader: Reader) -> tuple[str, ...]:
    return reader.feature_names or ()


def _of_path(path: Any, kind: str, word: str, columns: _Columns) -> Reader:
    if kind == "npy":
        return Npy.of_path(path)
    if kind == "svmlight":
        return Svmlight(path)
    if kind in _ARRAYS:
        reader = Hdf5 if kind == "hdf5" else Zarr
        return reader.of_path(path, columns.features, "X" if word == "X" and columns.features is None else word)
    optional("pyarrow", os.fspath(path))
    from fastmlp.data.sources import arrow, csv

    tables: dict[str, Any] = {"parquet": arrow.Parquet, "arrow": arrow.ArrowFile, "csv": csv.Csv}
    table: Reader = tables[kind](path, *columns)
    return table


def _parquet_files(folder: str) -> list[str]:
    """Return the Parquet files in a folder and in those below, in the order of their names."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        if divided := [name for name in folders if "=" in name]:
            raise ValueError(
                f"{folder} is divided by the values of columns ({divided[0]}); pass "
                f"pyarrow.dataset.dataset({folder!r}, partitioning='hive')"
            )
        files = (name for name in sorted(names) if name.endswith((".parquet", ".pq")) and name[0] not in "._")
        found += [os.path.join(parent, name) for name in files]
    if not found:
        raise ValueError(f"the folder {folder} has no Parquet files")
    return found


def _same_columns(files: Sequence[Svmlight], n_features: object) -> None:
    """Let SVMlight files number their features alike."""
    zero_based = any(file.least == 0 for file in files)
    found = max(file.most for file in files) + zero_based
    wanted = found if n_features is None else check_int("features", n_features, 1, "the number of features")
    if wanted < found:
        raise ValueError(f"features={wanted}, but {files[0].name} has the feature {found - zero_based}")
    for file in files:
        file.set_columns(zero_based, wanted)

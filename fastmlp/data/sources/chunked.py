"""Arrays of HDF5, zarr and Dask, whose slices are read when they are asked for."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.data.sources.base import Block
from fastmlp.data.sources.files import File, Latest, optional
from fastmlp.data.sources.reader import Reader
from fastmlp.validation.sparse import as_csr

__all__ = ["Dask", "Hdf5", "Zarr"]


class _Chunked(Reader):
    """An array of a package whose slices are read when they are asked for, in whole chunks."""

    def __init__(self, array: Any, name: str) -> None:
        if not array.shape:
            raise ValueError(f"{name} holds a single number, not rows")
        self.name = name
        self._array = array
        self.n_rows, self.shape, self.dtype = int(array.shape[0]), tuple(array.shape[1:]), np.dtype(array.dtype)

    def read(self, start: int, stop: int, *, X: bool = True) -> Block:
        """Return rows."""
        array = self._opened()
        if tuple(array.shape) != (self.n_rows, *self.shape) or array.dtype != self.dtype:
            raise ValueError(f"{self.name} has changed: it is {array.dtype} {tuple(array.shape)} now")
        return Block(self._slice(array, start, stop))

    def nbytes_of_parts(self, ends: npt.NDArray[np.int64]) -> int:
        """Return the memory of the chunks of a block, which are held beside it."""
        if self.own is None:
            return 0
        own = self.own if isinstance(self.own, int) else int(self.own.max(initial=0))
        longest = int(np.diff(ends, prepend=0).max())
        return min(self.n_rows, longest + (own if longest % own else 0)) * self.row_bytes

    def _opened(self) -> Any:
        return self._array

    def _slice(self, array: Any, start: int, stop: int) -> Any:
        return np.asarray(array[start:stop])


class _Stored(_Chunked):
    """A `_Chunked` that may be given by the path of its file and its name in there. It is opened where it is read."""

    def __init__(self, array: Any, name: str, where: tuple[str, str] | None = None, file: File | None = None) -> None:
        super().__init__(array, name)
        self._where, self._file, self.latest = where, file, Latest()
        if where is not None:
            self._array = None  # opened again where it is read

    def read(self, start: int, stop: int, *, X: bool = True) -> Block:
        """Return rows."""
        if self._file is not None:
            self._file.check()
        block = super().read(start, stop, X=X)
        if self._file is not None:
            self._file.check()
        return block

    def _opened(self) -> Any:
        where = self._where
        return self._array if where is None else self.latest.get(self, lambda: self._open(*where))

    @staticmethod
    def _open(path: str, dataset: str) -> Any:
        raise NotImplementedError


def _chosen(arrays: list[str], dataset: str | None, path: str, word: str) -> str:
    """Return which of the arrays in a file is meant."""
    if dataset is None and len(arrays) == 1:
        return arrays[0]
    has = f"{path} has {', '.join(map(repr, arrays)) or 'no arrays'}"
    if dataset is None:
        raise ValueError(f"{has}; say which is X and which is y: features='...', target='...'")
    if dataset.strip("/") not in arrays:
        raise ValueError(f"{has}, but no {dataset!r}, which is the {word}")
    return dataset.strip("/")


class Hdf5(_Stored):
    """A dataset of an HDF5 file."""

    def __init__(self, array: Any, name: str, where: tuple[str, str] | None = None, file: File | None = None) -> None:
        if file is None and array.file.mode == "r":  # one that is open for writing may change when it is flushed
            file = File(array.file.filename) if os.path.isfile(array.file.filename) else None
        super().__init__(array, name, where, file)
        if array.chunks is not None:
            self.own = int(array.chunks[0])

    @classmethod
    def of_path(cls, path: str | os.PathLike[str], dataset: str | None, word: str) -> Hdf5:
        """Open a dataset of a file; `word` is what it is for."""
        optional("h5py", os.fspath(path))
        import h5py

        file = File(path)
        names: list[str] = []
        try:
            with h5py.File(file.path, "r") as opened:
                opened.visititems(lambda name, one: names.append(name) if isinstance(one, h5py.Dataset) else None)
                where = file.path, _chosen(names, dataset, file.name, word)
                reader = cls(opened[where[1]], f"{file.name}, {where[1]}", where, file)
        except OSError as error:
            raise ValueError(f"{file.name} cannot be read: {error}") from error
        return reader

    @staticmethod
    def _open(path: str, dataset: str) -> Any:
        import h5py

        return h5py.File(path, "r")[dataset]

    def _opened(self) -> Any:
        array: Any = super()._opened()
        if not array:
            raise ValueError(f"{self.name} cannot be read any more: its file has been closed")
        return array

    def _slice(self, array: Any, start: int, stop: int) -> Any:
        import h5py

        return array.asstr()[start:stop] if h5py.check_string_dtype(array.dtype) else array[start:stop]


class Zarr(_Stored):
    """An array of zarr."""

    def __init__(self, array: Any, name: str, where: tuple[str, str] | None = None, file: File | None = None) -> None:
        super().__init__(array, name, where, file)
        self.own = int((getattr(array, "shards", None) or array.chunks)[0])

    @classmethod
    def of_path(cls, path: str | os.PathLike[str], dataset: str | None, word: str) -> Zarr:
        """Open an array, or one of a group."""
        optional("zarr", os.fspath(path))
        import zarr

        name = os.fspath(path)
        try:
            opened: Any = zarr.open(os.path.abspath(name), mode="r")
        except Exception as error:  # zarr and its codecs raise many kinds
            raise ValueError(f"{name} cannot be read: {error}") from error
        where = os.path.abspath(name), ""
        if isinstance(opened, zarr.Group):
            where = where[0], _chosen([key for key, _ in opened.arrays()], dataset, name, word)
            opened, name = opened[where[1]], f"{name}, {where[1]}"
        markers = (os.path.join(*where, marker) for marker in ("zarr.json", ".zarray"))
        return cls(opened, name, where, next((File(marker) for marker in markers if os.path.isfile(marker)), None))

    @staticmethod
    def _open(path: str, dataset: str) -> Any:
        import zarr

        opened: Any = zarr.open(path, mode="r")
        return opened[dataset] if dataset else opened


class Dask(_Chunked):
    """A Dask array. Each block is computed in the thread that reads it, unless the user has chosen a scheduler."""

    def __init__(self, array: Any, name: str) -> None:
        if any(np.isnan(size) for size in array.shape):
            raise ValueError(f"the lengths of the chunks of {name} are not known; call {name}.compute_chunk_sizes()")
        super().__init__(array, name)
        self.own = np.array([length for length in array.chunks[0] if length], np.int64)
        self.is_sparse = hasattr(array._meta, "tocsr")

    def _slice(self, array: Any, start: int, stop: int) -> Any:
        from dask.base import get_scheduler

        computed = array[start:stop].compute(scheduler=get_scheduler() or "synchronous")
        return as_csr(computed, self.name) if self.is_sparse else np.asarray(computed)

"""Files, which are opened anew for each block and checked for changes."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["File", "Latest", "has_known_ending", "kind_of_file", "optional", "read_bytes", "read_into"]

T = TypeVar("T")

_KINDS = {
    "npy": ("npy",),
    "parquet": ("parquet", "pq"),
    "arrow": ("arrow", "feather", "ipc"),
    "csv": ("csv", "tsv"),
    "svmlight": ("svm", "svmlight", "libsvm"),
    "hdf5": ("h5", "hdf5", "hdf"),
    "zarr": ("zarr",),
}
_KIND_OF_ENDING = {ending: kind for kind, endings in _KINDS.items() for ending in endings}
_MAGIC = {b"\x93NUMPY": "npy", b"PAR1": "parquet", b"ARROW1": "arrow", b"\x89HDF": "hdf5"}
_PACKED = {"gz", "bz2", "xz", "zst", "zip", "npz", "tar", "lz4"}


class File:
    """A plain file that must not change.

    Every read opens it, so thousands of files need no more descriptors than one, and no descriptor is left when a
    reader is closed early.

    Attributes
    ----------
    name : str
        As the user has written it.
    path : str
        The same, independent of the current folder.
    size : int
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.name = os.fspath(path)
        self.path = os.path.abspath(self.name)
        status = os.stat(self.name)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{self.name} is {'a folder' if stat.S_ISDIR(status.st_mode) else 'not a plain file'}")
        self._status = _identity(status)
        self.size = status.st_size
        if not self.size:
            raise ValueError(f"{self.name} is empty")

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Yield the file, without a buffer; it is the same before and after.

        Raises
        ------
        ValueError
            If the file has changed.
        """
        with open(self.path, "rb", buffering=0, opener=_open) as file:
            self._check(os.fstat(file.fileno()))
            yield file
            self._check(os.fstat(file.fileno()))

    def announce(self, offset: int, size: int) -> None:
        """Let the system read some bytes into its cache, without waiting for them. Only Linux and the like can."""
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError, ValueError), self.opened() as file:  # what is wrong with it is said when it is read
                os.posix_fadvise(file.fileno(), offset, size, os.POSIX_FADV_WILLNEED)

    def is_at(self, path: str | os.PathLike[str]) -> bool:
        """Return whether a path leads to this file."""
        return os.path.exists(path) and os.path.exists(self.path) and os.path.samefile(path, self.path)

    def check(self) -> None:
        """Raise a ValueError if the file has changed; for packages that open it themselves."""
        self._check(os.stat(self.path))

    def _check(self, status: os.stat_result) -> None:
        if _identity(status) == self._status:
            return
        was, size = self.size, status.st_size
        how = f"it had {was:,} bytes, and has {size:,} now" if size != was else "it was written to, or replaced"
        raise ValueError(f"{self.name} has changed since it was opened: {how}")


def _open(path: str, flags: int) -> int:
    """Open a file; a pipe that has taken its place is not waited for."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class Latest:
    """What a thread has opened last, of several files that take turns: only one of them is open in each thread."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def get(self, owner: object, opener: Callable[[], T]) -> T:
        """Return what the owner has opened; it is opened now if another was the last."""
        latest = self._of_thread
        if getattr(latest, "owner", None) is not owner:
            latest.owner = latest.opened = None
            latest.opened = opener()
            latest.owner = owner
        opened: T = latest.opened
        return opened

    def __reduce__(self) -> tuple[type[Latest], tuple[()]]:
        return Latest, ()


def read_into(file: IO[bytes], offset: int, out: npt.NDArray[Any], name: str) -> None:
    """Fill a contiguous array with the bytes of a file from `offset` on."""
    flat: Any = out.reshape(-1, order="A").view(np.uint8)
    view = memoryview(flat)
    file.seek(offset)
    while len(view):
        count = file.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise ValueError(f"{name} is truncated: {len(view):,} bytes are missing")
        view = view[count:]


def read_bytes(file: IO[bytes], offset: int, size: int, name: str) -> bytes:
    """Return bytes of a file."""
    out = np.empty(size, np.uint8)
    read_into(file, offset, out, name)
    return out.tobytes()


def has_known_ending(path: str) -> bool:
    """Return whether a name ends as those of the files that can be read."""
    return _ending(path) in _KIND_OF_ENDING


def _ending(path: str) -> str:
    return os.path.splitext(path.rstrip("/\\"))[1].lower().removeprefix(".")


def kind_of_file(path: str | os.PathLike[str]) -> str:
    """Return the format of a file by its ending, or by its first bytes if the ending is unknown.

    Raises
    ------
    OSError
        If there is no such file.
    ValueError
        If the format is unknown.
    """
    name = os.fspath(path)
    ending = _ending(name)
    if ending in _KIND_OF_ENDING:
        os.stat(name)
        return _KIND_OF_ENDING[ending]
    if os.path.isdir(name):
        is_zarr = any(os.path.exists(os.path.join(name, marker)) for marker in (".zarray", ".zgroup", "zarr.json"))
        return "zarr" if is_zarr else "folder"
    if not os.path.isfile(name) and os.path.exists(name):  # a pipe would be waited for
        raise ValueError(f"{name} is not a plain file")
    with open(name, "rb") as file:
        first = file.read(8)
    for magic, kind in _MAGIC.items():
        if first.startswith(magic):
            return kind
    if ending in _PACKED:
        raise ValueError(f"{name} is compressed ({ending}) and cannot be read in any order; decompress it first")
    known = ", ".join(f".{one}" for one in _KIND_OF_ENDING)
    raise ValueError(f"{name} is of an unknown format: its name must end in {known}")


def optional(package: str, what: str) -> None:
    """Import an optional package.

    Raises
    ------
    ImportError
        If it is missing. It says what to install.
    """
    try:
        __import__(package)
    except ImportError as error:
        raise ImportError(f"{what} needs {package}, which is not installed: pip install 'fastmlp[data]'") from error

"""Reads and writes .npz files, and files of any form as a whole or not at all.

The comment of the archive is a checksum over all arrays and their names. The checksums of the zip format cover each
array, but not which arrays there are: one wrong bit in its directory can hide some. Files without the comment, such as
NumPy writes, are read as well.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

__all__ = ["check_writable", "load_npz", "save_npz", "written_whole"]

_COMMENT = b"fastmlp sha256 "


def save_npz(path: str | os.PathLike[str], **arrays: npt.ArrayLike) -> None:
    """Write `arrays` to exactly `path`, without adding a suffix. An older file is replaced once everything is written.

    A symbolic link is followed.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    TypeError
        If an array holds Python objects, which `load_npz` would refuse.
    """
    written = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in written.items():
        if array.dtype.hasobject:
            raise TypeError(f"cannot save {name}: it holds Python objects, not numbers")
    with written_whole(path) as file:
        np.savez(file, **written)  # type: ignore[arg-type]
        with zipfile.ZipFile(file, "a") as archive:
            archive.comment = _checksum(written)


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Yield an empty file whose content takes the place of `path` at the end, unless something is raised.

    Raises
    ------
    OSError
        Also of a full disk; it names `path`.
    """
    target = _target(path)
    with _temporary_beside(target) as temporary:
        with open(temporary, "x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # the data must be on disk before the rename
        os.replace(temporary, target)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Refuse a path that `save_npz` could not write to, before training begins."""
    with _temporary_beside(_target(path)) as temporary:
        temporary.touch(exist_ok=False)
        temporary.unlink()


def _target(path: str | os.PathLike[str]) -> Path:
    """Return the file that `path` names, with links followed, if it looks writable."""
    target = Path(os.path.realpath(path) if os.path.islink(path) else path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot save {target}: there is no folder {target.parent}")
    if target.is_dir() or not os.path.basename(path):
        raise IsADirectoryError(f"cannot save {target}: it is a folder")
    if target.exists() and not target.is_file():
        raise OSError(f"cannot save {target}: it is not a plain file")
    return target


@contextmanager
def _temporary_beside(target: Path) -> Iterator[Path]:
    """Yield a temporary name beside `target`. On error the file is removed, and the error names `target`."""
    # in the same folder: a rename works only within one file system
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
    except BaseException as error:
        with suppress(OSError):  # it may not exist
            temporary.unlink()
        if isinstance(error, OSError) and error.strerror:
            raise OSError(error.errno, error.strerror, os.fspath(target)) from error
        raise


def load_npz(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[Any]]:
    """Read all arrays of a .npz file. Pickled objects are never loaded.

    Raises
    ------
    ValueError
        If the file is damaged or not a .npz file.
    """
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError(f"{os.fspath(path)} is not a whole .npz file")
        file.seek(0)
        try:
            with zipfile.ZipFile(file) as zipped:
                comment = zipped.comment
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                arrays = dict(archive)
        except Exception as error:  # zipfile, zlib, tokenize and NumPy raise many kinds
            why = "it holds Python objects, not numbers" if "allow_pickle" in str(error) else str(error)
            raise ValueError(f"{os.fspath(path)} cannot be read: {why}") from error
    if comment.startswith(_COMMENT) and comment != _checksum(arrays):
        raise ValueError(f"{os.fspath(path)} is damaged: its checksum is that of another content")
    return arrays


def _checksum(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Return the comment of an archive that holds these arrays."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {arrays[name].shape} ".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return _COMMENT + digest.hexdigest().encode()

"""Reads and writes .npz files, and files of any form as a whole or not at all.

The comment of a .npz file is a checksum over all bytes before it. The checksums of the zip format cover each array, but
not which arrays there are: one wrong bit in its directory can hide some. Files without the comment, such as NumPy
writes, are read as well, and those of earlier versions, whose checksum is over the arrays.
"""

from __future__ import annotations

import hashlib
import math
import os
import secrets
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["StrPath", "check_writable", "checksum", "load_npz", "save_npz", "written_whole"]

StrPath: TypeAlias = str | os.PathLike[str]

_COMMENT, _OLD_COMMENT = b"fastmlp file sha256 ", b"fastmlp sha256 "
_DIGITS = 64  # of the checksum
_BLOCK = 1 << 20
_NPY = b"\x93NUMPY"  # how arrays begin


def save_npz(path: StrPath, **arrays: npt.ArrayLike) -> None:
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
            archive.comment = _COMMENT + b"0" * _DIGITS
        digest = _file_checksum(file)
        file.seek(-_DIGITS, os.SEEK_END)
        file.write(digest)


@contextmanager
def written_whole(path: StrPath) -> Iterator[IO[bytes]]:
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


def check_writable(path: StrPath) -> None:
    """Refuse a path that `written_whole` could not write to, before anything that takes long."""
    with _temporary_beside(_target(path)) as temporary:
        temporary.touch(exist_ok=False)
        temporary.unlink()


def _target(path: StrPath) -> Path:
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


def load_npz(path: StrPath, *, expansion: float = math.inf) -> dict[str, npt.NDArray[Any]]:
    """Read all arrays of a .npz file. Pickled objects are never loaded.

    Raises
    ------
    ValueError
        If the file is damaged or not a .npz file, or if its arrays have more than `expansion` times its bytes.
    """
    source = os.fspath(path)
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError(f"{source} is not a whole .npz file")
        try:
            with zipfile.ZipFile(file) as archive:
                comment = archive.comment
                file.seek(-len(comment) - 2, os.SEEK_END)  # zipfile lets a comment be shorter than the file says
                if int.from_bytes(file.read(2), "little") != len(comment):
                    raise ValueError("its end is missing")
                whole = not _has_checksum(comment) or comment == _COMMENT + _file_checksum(file)
                if whole:
                    _check_sizes(archive, expansion * os.fstat(file.fileno()).st_size)
            file.seek(0)
            with np.load(file, allow_pickle=False) as loaded:
                arrays = dict(loaded) if whole else {}
        except Exception as error:  # zipfile, zlib, tokenize and NumPy raise many kinds
            why = "it holds Python objects, not numbers" if "allow_pickle" in str(error) else str(error)
            raise ValueError(f"{source} cannot be read: {why}") from error
    if not whole or (comment.startswith(_OLD_COMMENT) and comment != _OLD_COMMENT + checksum(arrays).encode()):
        raise ValueError(f"{source} is damaged: its checksum is that of another content")
    return arrays


def _has_checksum(comment: bytes) -> bool:
    """Return whether the comment is a checksum of the whole file, perhaps with a wrong bit."""
    return comment.startswith(_COMMENT) or len(comment) == len(_COMMENT) + _DIGITS


def _file_checksum(file: IO[bytes]) -> bytes:
    """Return the SHA-256 of a file but for its last bytes, which are the digits of the checksum."""
    digest, left = hashlib.sha256(), file.seek(0, os.SEEK_END) - _DIGITS
    file.seek(0)
    while block := file.read(min(left, _BLOCK)):
        digest.update(block)
        left -= len(block)
    return digest.hexdigest().encode()


def _check_sizes(archive: zipfile.ZipFile, most: float) -> None:
    """Refuse arrays that claim more bytes than they have or may have; NumPy would allocate their memory first."""
    total = sum(entry.file_size for entry in archive.infolist())
    if total > most:
        raise ValueError(f"it expands to {total:,} bytes, more than any network would")
    for entry in archive.infolist():
        if entry.compress_type == zipfile.ZIP_STORED and entry.file_size != entry.compress_size:
            raise ValueError(f"{entry.filename} claims {entry.file_size:,} bytes, but has {entry.compress_size:,}")
        with archive.open(entry) as file:
            if file.read(len(_NPY)) != _NPY:
                continue
            file.seek(0)
            version = np.lib.format.read_magic(file)
            first = version == (1, 0)
            read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            claimed, there = math.prod(shape) * dtype.itemsize, entry.file_size - file.tell()
        if claimed != there and not dtype.hasobject:
            raise ValueError(f"{entry.filename} claims {claimed:,} bytes, but has {max(there, 0):,}")


def checksum(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Return the SHA-256 of arrays with their names, dtypes and shapes, in hexadecimal digits."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {arrays[name].shape} ".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()

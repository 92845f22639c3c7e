"""The cache of compiled kernels on disk, and the wait for other processes that fill it."""

import hashlib
import os
import pickle
import secrets
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite
import numba
from llvmlite import binding
from numba.core import compiler, serialize
from numba.core.environment import Environment

from .lock import release_own, take
from .notices import COMPILING, WAITING, notices, say_once
from .simd import BMI2, REGISTERS, VECTOR_BYTES

_NO_MATTER = ("NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS")  # settings that change no code


class Ready(NamedTuple):
    """A kernel that this process has compiled or loaded."""

    kernel: str
    dtype: str
    path: Path | None  # where its code is; None if no folder could be written
    is_new: bool


ready: list[Ready] = []
"""All kernels of this process, in their order."""

only_load = threading.Event()
"""While it is set, a kernel that is not on disk raises NotOnDisk, and is not compiled."""


class NotOnDisk(Exception):
    """A kernel would have to be compiled."""


class KernelCache:
    """Compiled kernels on disk, one file for each kernel and signature.

    Numba's own cache checks only the file that defines a function. It would run stale code after a change to a helper
    elsewhere. Two processes that fill it at once can also mix up its numbered files. Here, the name of a file is
    the hash of everything that its code depends on. A file appears by a rename, when it is complete, and is read only
    if its checksum, which covers the name, is right. If no folder can be written, each process compiles its kernels.
    Else one of those that need a kernel compiles it, and the others wait and load it, see `lock`.

    To load a kernel is to run what the file says. So files and folders count only if nobody but this user and root can
    have written them.
    """

    cache_path = None

    def __init__(self, function, build):
        self._function, self._build = function, build

    def compile_once(self, dispatcher):
        """Let a dispatcher wait while another process compiles the same.

        Numba's lock, which lets one thread compile at a time, is not held meanwhile: other threads may compile others.
        """
        compile = dispatcher.compile

        def compile_once(signature):
            name = self._file_name(signature, dispatcher.targetctx.codegen())
            if _read(name):
                return compile(signature)
            if only_load.is_set():
                raise NotOnDisk(name)
            try:
                try:
                    _take_lock(name)
                    with notices.during(COMPILING):
                        return compile(signature)
                finally:
                    release_own()
            finally:  # again, if a signal handler has raised meanwhile
                release_own()

        dispatcher.compile = compile_once

    def load_overload(self, signature, target_context):
        """Return the compiled kernel, or None.

        Numba's own cache refreshes the context first, which takes 0.1 s. The compiler does so too, and needs it.
        """
        found = _read(self._file_name(signature, target_context.codegen()))
        if not found:
            return None
        path, payload = found
        loaded = compiler.CompileResult._rebuild(target_context, *pickle.loads(payload))
        self._note(signature, path, is_new=False)
        return loaded

    def save_overload(self, signature, compiled):
        """Write a compiled kernel to the first folder that can be written, by this user alone."""
        payload = serialize.dumps(tuple(map(_stripped, compiled._reduce())))
        name, path = self._file_name(signature, compiled.codegen), None
        for folder in _own_folders():
            with suppress(OSError):
                _write_whole(folder / name, _checksum(name, payload) + payload)
                path = folder / name
                break
        self._note(signature, path, is_new=True)

    def _note(self, signature, path, *, is_new):
        dtype = next((str(kind.dtype) for kind in signature if hasattr(kind, "dtype")), "")
        ready.append(Ready(self._function.__name__, dtype, path, is_new))

    def _file_name(self, signature, codegen):
        parts = (
            _sources(),
            sorted((k, v) for k, v in os.environ.items() if k.startswith("NUMBA_") and k not in _NO_MATTER),
            signature,
            codegen.magic_tuple(),
            (VECTOR_BYTES, REGISTERS, BMI2),  # NUMBA_CPU_NAME does not change these
            self._build,
            numba.__version__,
            llvmlite.__version__,
            sys.version,
        )
        return f"{self._function.__name__}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}.kernel"


@cache
def _sources() -> str:
    """Return a hash of all kernel sources."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _folders() -> list[Path]:
    """Return the folders where compiled kernels may be, the preferred one first."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return [Path(chosen)]
    here = Path(__file__).parent / "__pycache__"
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return [Path(home) / "fastmlp", here] if os.path.isabs(home) else [here]


def _own_folders() -> Iterator[Path]:
    """Yield the folders to which kernels may be written; they are made if need be."""
    for each in _folders():
        with suppress(OSError):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _is_trusted_folder(each):
                yield each


def _read(name: str) -> tuple[Path, bytes] | None:
    """Return the file of a compiled kernel, and what it holds, if it is whole and can be trusted."""
    for folder in _folders():
        try:
            data = _read_trusted(folder / name) if _is_trusted_folder(folder) else b""
        except OSError:
            continue
        digest, payload = data[:32], data[32:]
        if _checksum(name, payload) == digest:
            return folder / name, payload
    return None


def _take_lock(name: str) -> None:
    """Wait until a kernel is there, or this process is the one to compile it; do not wait if no folder takes a lock."""
    for folder in _own_folders():
        with suppress(OSError):
            take(folder / f"{name}.lock", lambda: _read(name) is not None, notices.during(WAITING))
            return


def _stripped(part):
    """Return a part of a compiled kernel without what only costs time and space when it is loaded.

    Text is what `inspect_types` prints, half of all bytes. An environment names the module of a function that was
    inlined, which loading would import; NumPy's in Numba import SciPy, which takes 0.3 s. Only code for Python objects
    looks at the globals of an environment.
    """
    if isinstance(part, str):
        return ""
    if isinstance(part, tuple) and all(isinstance(each, Environment) for each in part):
        return tuple(map(_stripped, part))
    if not isinstance(part, Environment):
        return part
    stripped = Environment({"__name__": __name__})
    stripped.env_name, stripped.consts[:] = part.env_name, part.consts
    return stripped


def folder() -> Path | None:
    """Return the folder to which kernels are written, which is made if need be; None if there is none."""
    return next((each for each in _own_folders() if os.access(each, os.W_OK)), None)


def preferred_folder() -> Path:
    """Return the folder to which kernels are written if that is possible."""
    return _folders()[0]


def unsafe_folders() -> list[Path]:
    """Return the folders that hold no kernels because others can write there."""
    return [each for each in _folders() if each.is_dir() and not _is_trusted(each.stat())]


def processor() -> str:
    """Return LLVM's name of the processor for which kernels are compiled."""
    return os.environ.get("NUMBA_CPU_NAME") or binding.get_host_cpu_name()


def _checksum(name: str, payload: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\0" + payload).digest()


def _is_trusted(status: os.stat_result) -> bool:
    """Return whether only this user or root can have written a file or a folder. Windows does not say."""
    if not hasattr(os, "geteuid"):
        return True
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _is_trusted_folder(folder: Path) -> bool:
    """Return whether a folder may hold kernels; if others can write to the preferred one, say so once."""
    trusted = _is_trusted(folder.stat())
    if not trusted and folder == _folders()[0]:
        say_once(f"compiled kernels are not kept in {folder}, because other users can write there (chmod go-w)")
    return trusted


def _read_trusted(path: Path) -> bytes:
    """Return what a plain file holds, or nothing if others can have written it."""
    no_wait = getattr(os, "O_NONBLOCK", 0)  # the name may be that of a pipe
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | no_wait), "rb") as file:
        status = os.fstat(file.fileno())
        return file.read() if stat.S_ISREG(status.st_mode) and _is_trusted(status) else b""


def _write_whole(path: Path, data: Any) -> None:
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise

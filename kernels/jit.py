"""The decorators of all kernels, with every compiler option, and the cache of compiled kernels on disk."""

import hashlib
import math
import os
import pickle
import secrets
import stat
import sys
import threading
import time
from _thread import start_new_thread
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import compiler, serialize, types

CHECKED = os.environ.get("FASTMLP_CHECKED", "") not in ("", "0")
"""Whether every load and store is tested against the bounds of its array (the checked build)."""

PROFILED = os.environ.get("FASTMLP_PROFILED", "") not in ("", "0")
"""Whether each thread counts the cycles of each phase of a step (the profiled build)."""


def kernel(function, *, inline="never"):
    """Compile a function that other kernels call."""
    # The linker identifies a kernel by its name, its types, and a number that counts what the process has compiled. Two
    # kernels that different processes have cached could agree in all three, and the first would run in place of both.
    function.__qualname__ += f"_{secrets.token_hex(8)}"
    dispatcher = numba.njit(
        function,
        nogil=True,  # a kernel runs for whole epochs, while other Python threads continue
        error_model="numpy",  # a division by zero gives inf, without a test and a branch
        boundscheck=CHECKED,
        fastmath=False,  # sums keep their order and NaN stays NaN; fused multiply-adds are explicit
        inline=inline,
        _nrt=False,  # arrays belong to the caller: no atomic reference counts in every loop
        no_cfunc_wrapper=True,  # no C code calls a kernel: compiling takes half a second less
    )
    # Compile a kernel once for integers, not once more for each constant that a caller passes.
    template = dispatcher.get_call_template
    dispatcher.get_call_template = lambda args, kws: template(
        tuple(map(types.unliteral, args)), {name: types.unliteral(kind) for name, kind in kws.items()}
    )
    return dispatcher


def part(function):
    """Compile a function as a part of each kernel that calls it.

    That saves compile time if there are few callers. A function of its own is compiled, and then compiled again with
    each kernel that calls it.
    """
    return kernel(function, inline="always")


def entry(function):
    """Compile a kernel that Python calls. Its machine code, with everything that it calls, is cached on disk."""
    dispatcher = kernel(function)
    dispatcher._cache = KernelCache(function)
    return dispatcher


_NO_MATTER = ("NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS")  # settings that change no code


class KernelCache:
    """Compiled kernels on disk, one file for each kernel and signature.

    Numba's own cache checks only the file that defines a function. It would run stale code after a change to a helper
    elsewhere. Two processes that fill it at once can also mix up its numbered files. Here, the name of a file is
    the hash of everything that its code depends on. A file appears by a rename, when it is complete, and is read only
    if its checksum, which covers the name, is right. If no folder can be written, each process compiles its kernels.

    To load a kernel is to run what the file says. So files and folders count only if nobody but this user and root can
    have written them.
    """

    cache_path = None

    def __init__(self, function):
        self._function = function

    def load_overload(self, signature, target_context):
        """Return the compiled kernel, or None."""
        target_context.refresh()
        name = self._file_name(signature, target_context.codegen())
        for folder in _folders():
            try:
                data = _read_trusted(folder / name) if _is_trusted_folder(folder) else b""
            except OSError:
                continue
            digest, payload = data[:32], data[32:]
            if _checksum(name, payload) == digest:
                return compiler.CompileResult._rebuild(target_context, *pickle.loads(payload))
        _compiling.begin()
        return None

    def save_overload(self, signature, compiled):
        """Write a compiled kernel to the first folder that can be written, by this user alone."""
        _compiling.end()
        payload = serialize.dumps(compiled._reduce())
        name = self._file_name(signature, compiled.codegen)
        for folder in _folders():
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                if not _is_trusted_folder(folder):
                    continue
                _write_whole(folder / name, _checksum(name, payload) + payload)
            except OSError:
                continue
            return

    def _file_name(self, signature, codegen):
        parts = (
            _sources(),
            sorted((k, v) for k, v in os.environ.items() if k.startswith("NUMBA_") and k not in _NO_MATTER),
            signature,
            codegen.magic_tuple(),
            CHECKED,
            PROFILED,
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
        _say_once(f"compiled kernels are not kept in {folder}, because other users can write there (chmod go-w)")
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


# --- what users are told ----------------------------------------------------------------------------------------------


def _say(message: str) -> None:
    """Print a line to stderr, beside a progress bar if there is one, unless FASTMLP_QUIET is set."""
    if os.environ.get("FASTMLP_QUIET", "") not in ("", "0") or sys.stderr is None:
        return
    line, bars = f"fastmlp: {message}", sys.modules.get("tqdm")
    try:
        if bars is not None:
            bars.tqdm.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError):  # closed
        pass


@cache
def _say_once(message: str) -> None:
    _say(message)


class _Compiling:
    """Says that kernels are being compiled, if it takes long: once for those that follow one another."""

    patience, gap = 0.3, 3.0
    """Seconds that a kernel may take without a word, and seconds after the last one until the next needs a new line."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._last = -math.inf
        self._said = False

    def begin(self) -> None:
        """Note that a kernel is not in the cache, and will be compiled now. Numba compiles one at a time."""
        self._ended = threading.Event()
        if time.monotonic() > self._last + self.gap:
            self._said = False
        if not self._said:
            start_new_thread(self._say_if_long, (self._ended,))

    def end(self) -> None:
        """Note that it has been compiled."""
        self._ended.set()
        self._last = time.monotonic()

    def _say_if_long(self, ended: threading.Event) -> None:
        if not ended.wait(self.patience):
            self._said = True
            _say("compiling kernels for this machine (once, about 8 s) ...")


_compiling = _Compiling()

"""The one decorator of all kernels, and the cache that keeps them compiled between processes."""

import hashlib
import os
import pickle
import secrets
import sys
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import compiler, serialize, types

CHECKED = os.environ.get("FASTMLP_CHECKED", "") not in ("", "0")
"""Whether every vector load and store is tested against the bounds of its array (the checked build)."""

PROFILED = os.environ.get("FASTMLP_PROFILED", "") not in ("", "0")
"""Whether each thread counts the cycles of each phase of a step (the profiled build)."""


def kernel(function, *, inline="never"):
    """Compile a function that other kernels call."""
    # The linker knows a kernel by this name, its types, and a number that counts what its process has compiled. Two
    # that processes have kept under the same name would be taken for one: whoever loads both would run the first twice.
    function.__qualname__ += f"_{secrets.token_hex(8)}"
    dispatcher = numba.njit(
        function,
        nogil=True,  # a kernel runs for a whole epoch: other Python threads go on meanwhile
        error_model="numpy",  # a division by zero gives inf, it does not cost a test and a branch
        boundscheck=CHECKED,
        fastmath=False,  # a sum keeps its order, a NaN stays one; fused multiply-adds are written as such
        inline=inline,
        _nrt=False,  # arrays are the caller's: no counting of references, an atomic addition each, in every loop
        no_cfunc_wrapper=True,  # no C code calls a kernel: half a second of compilation less
    )
    # A kernel is compiled once for integers, not once more for each constant that a caller writes.
    template = dispatcher.get_call_template
    dispatcher.get_call_template = lambda args, kws: template(
        tuple(map(types.unliteral, args)), {name: types.unliteral(kind) for name, kind in kws.items()}
    )
    return dispatcher


def part(function):
    """Compile a function as a part of each kernel that calls it.

    Numba takes a function of its own through the whole compiler, then once more with each kernel that calls it.
    """
    return kernel(function, inline="always")


def entry(function):
    """Compile a kernel that Python calls: its machine code, with all that it calls, is kept on disk."""
    dispatcher = kernel(function)
    dispatcher._cache = KernelCache(function)
    return dispatcher


_NO_MATTER = ("NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS")  # settings of Numba that change no code


class KernelCache:
    """Compiled kernels on disk, one file for a kernel, a signature and everything that its code depends on.

    Numba's own cache looks only at the file in which a function stands, and would run stale code after a change to a
    helper in another file; two processes that fill it at once can also mix up its numbered files. Here the name of a
    file is the hash of all that it depends on, so it can only hold the right code; it appears whole (by a rename) and
    is read only when its own checksum holds. Where no folder can be written, kernels are compiled in each process.
    """

    cache_path = None

    def __init__(self, function):
        self._function = function

    def load_overload(self, signature, target_context):
        """Give the compiled kernel, or None."""
        target_context.refresh()
        name = self._file_name(signature, target_context.codegen())
        for folder in _folders():
            try:
                data = (folder / name).read_bytes()
            except OSError:
                continue
            digest, payload = data[:32], data[32:]
            if hashlib.sha256(payload).digest() == digest:
                return compiler.CompileResult._rebuild(target_context, *pickle.loads(payload))
        return None

    def save_overload(self, signature, compiled):
        """Keep a compiled kernel in the first folder that takes it."""
        payload = serialize.dumps(compiled._reduce())
        name = self._file_name(signature, compiled.codegen)
        for folder in _folders():
            try:
                _write_whole(folder / name, hashlib.sha256(payload).digest() + payload)
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
    """Give a hash of all kernel sources."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _folders() -> list[Path]:
    """List where compiled kernels may be kept, the preferred place first."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return [Path(chosen)]
    here = Path(__file__).parent / "__pycache__"
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return [Path(home) / "fastmlp", here] if os.path.isabs(home) else [here]


def _write_whole(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise

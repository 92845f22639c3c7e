"""The decorators of all kernels, with every compiler option, and the cache of compiled kernels on disk."""

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

from .subnormals import FlushingCompiler

CHECKED = os.environ.get("FASTMLP_CHECKED", "") not in ("", "0")
"""Whether every load and store is tested against the bounds of its array (the checked build)."""

PROFILED = os.environ.get("FASTMLP_PROFILED", "") not in ("", "0")
"""Whether each thread counts the cycles of each phase of a step (the profiled build)."""


def kernel(function, *, inline="never", pipeline_class=compiler.Compiler):
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
        pipeline_class=pipeline_class,
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
    """Compile a kernel that Python calls. Its machine code, with everything that it calls, is cached on disk.

    While it runs, subnormal numbers count as zero, see `subnormals`.
    """
    dispatcher = kernel(function, pipeline_class=FlushingCompiler)
    dispatcher._cache = KernelCache(function)
    return dispatcher


_NO_MATTER = ("NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS")  # settings that change no code


class KernelCache:
    """Compiled kernels on disk, one file for each kernel and signature.

    Numba's own cache checks only the file that defines a function. It would run stale code after a change to a helper
    elsewhere. Two processes that fill it at once can also mix up its numbered files. Here, the name of a file is
    the hash of everything that its code depends on. A file appears by a rename, when it is complete, and is read only
    if its checksum is right. If no folder can be written, each process compiles its kernels.
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
                data = (folder / name).read_bytes()
            except OSError:
                continue
            digest, payload = data[:32], data[32:]
            if hashlib.sha256(payload).digest() == digest:
                return compiler.CompileResult._rebuild(target_context, *pickle.loads(payload))
        return None

    def save_overload(self, signature, compiled):
        """Write a compiled kernel to the first folder that can be written."""
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

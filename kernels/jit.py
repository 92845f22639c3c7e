"""The decorators of all kernels, with every compiler option."""

import os
import secrets

import numba
from numba.core import compiler, types
from numba.core.compiler_lock import global_compiler_lock

from .cache import KernelCache
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

    Of several processes that need it, one compiles it, and the others load it. While it runs, subnormal numbers count
    as zero, see `subnormals`.
    """
    dispatcher = kernel(function, pipeline_class=FlushingCompiler)
    dispatcher._cache = KernelCache(function, (CHECKED, PROFILED))
    dispatcher._cache.compile_once(dispatcher)
    return dispatcher


if hasattr(os, "register_at_fork"):
    # Forking waits until no thread compiles: the child would not have that thread, and wait for its lock for ever.
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )

"""A description of this machine, and its measured limits."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fastmlp.bench.load import load_average
from fastmlp.engine.cores import available_threads
from fastmlp.engine.host import processor_model
from fastmlp.engine.layout import aligned_zeros
from fastmlp.engine.threads import run_team
from fastmlp.kernels import roofline
from fastmlp.kernels.simd import VECTOR_BYTES, lanes
from fastmlp.kernels.tile import TALLEST, VECTORS

__all__ = ["describe", "facts", "fma_peak", "read_bandwidth"]

_TERMS = 1_000_000  # of each sum that is timed
_MEGABYTES = 256  # more than any cache holds


def fma_peak(dtype: str = "float32", n_threads: int = 1, repeats: int = 5) -> float:
    """Return the FLOP/s of multiply-adds in registers, the best of some runs.

    Parameters
    ----------
    dtype : {"float32", "float64"}
    n_threads : int
        Threads that compute at the same time.
    repeats : int
    """
    width = VECTORS * lanes(np.dtype(dtype))
    outs = [aligned_zeros(TALLEST * VECTORS * VECTOR_BYTES, dtype) for _ in range(n_threads)]
    a, b = aligned_zeros(_TERMS, dtype), aligned_zeros(width, dtype)
    a[:], b[:] = 1 / _TERMS, 1.0
    starts = np.zeros(TALLEST, np.int64)
    seconds = _best(n_threads, repeats, lambda rank: roofline.multiply_add(outs[rank], a, starts, b, _TERMS))
    for out in outs:
        if not abs(out[0] - 2.0) < 0.1:  # 1 plus a million times 1e-6
            raise ArithmeticError(f"the multiply-adds came to {out[0]}, not to 2")
    return 2.0 * n_threads * _TERMS * TALLEST * width / seconds


def read_bandwidth(n_threads: int = 1, repeats: int = 5) -> float:
    """Return the bytes per second that threads read from memory, the best of some runs."""
    step = roofline.UNROLLED * lanes(np.dtype("float32")) * n_threads
    n = _MEGABYTES * 2**20 // 4 // step * step
    x = aligned_zeros(n, "float32")
    x[:] = 1 / 64
    outs = [aligned_zeros(VECTOR_BYTES, "float32") for _ in range(n_threads)]

    def read(rank: int) -> None:
        outs[rank][:] = 0
        roofline.read_all(outs[rank], x, n * rank // n_threads, n * (rank + 1) // n_threads)

    seconds = _best(n_threads, repeats, read)
    total = sum(float(out.sum(dtype=np.float64)) for out in outs)
    if not math.isclose(total, n / 64, rel_tol=1e-3):
        raise ArithmeticError(f"the numbers read came to {total}, not to {n / 64}")
    return x.nbytes / seconds


def _best(n_threads: int, repeats: int, call: Callable[[int], Any]) -> float:
    """Return the shortest time in which all threads finish their call, after one call that compiles."""
    call(0)
    best = math.inf
    for _ in range(repeats):
        start = time.perf_counter()
        if n_threads == 1:
            call(0)
        else:
            run_team(n_threads, call)
        best = min(best, time.perf_counter() - start)
    return best


def facts() -> dict[str, Any]:
    """Return facts about this machine: processor, cores, memory, system."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return {
        "processor": processor_model(),
        "cores": os.cpu_count(),
        "own_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "threads": available_threads(),
        "vector_bits": 8 * VECTOR_BYTES,
        "memory_bytes": memory,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load": load_average(),
    }


def describe() -> str:
    """Return one line that describes this machine."""
    known = facts()
    return "{processor}, {cores} cores, {vector_bits}-bit vectors, {system}, Python {python}".format(**known)

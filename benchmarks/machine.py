"""The limits of this machine: the rate of multiply-adds that one core can reach, measured."""

import os
import platform
import time
from pathlib import Path

import numpy as np

from fastmlp.kernels.jit import entry
from fastmlp.kernels.simd import VECTOR_BYTES, lanes
from fastmlp.kernels.tile import TALLEST, VECTORS, tile_product
from fastmlp.layout import aligned_zeros

_ROWS = TALLEST
_tile = tile_product(rows_named=True, finish=lambda total, _, scale: scale * total)


@entry
def _multiply_add(out, a, starts, b, n):
    """Compute one tile whose sum has `n` terms, all of them in the first lines of `a` and `b`."""
    pitch = VECTORS * VECTOR_BYTES  # apart enough for either dtype
    _tile(_ROWS, VECTORS, out, 0, pitch, a, 0, starts, 0, b, 0, 0, n, b, 0, 1.0, b, starts, 0, 1)


def fma_peak(dtype="float32", repeats=5):
    """Return the FLOP/s of one core that does nothing but multiply-adds in registers, the best of some runs."""
    n = 1_000_000
    width = VECTORS * lanes(dtype)
    out = aligned_zeros(_ROWS * VECTORS * VECTOR_BYTES, dtype)
    a, b = aligned_zeros(n, dtype), aligned_zeros(width, dtype)
    a[:], b[:] = 1e-6, 1.0
    starts = np.zeros(_ROWS, np.int64)
    best = np.inf
    for _ in range(repeats + 1):
        start = time.perf_counter()
        _multiply_add(out, a, starts, b, n)
        best = min(best, time.perf_counter() - start)
    assert abs(out[0] - 2.0) < 0.1, out[0]  # 1 to begin with, and a million times 1e-6: the work was done
    return 2.0 * n * _ROWS * width / best


def describe():
    """Return a line about the machine."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, {8 * VECTOR_BYTES}-bit vectors, Python {platform.python_version()}"


if __name__ == "__main__":
    print(describe())
    for dtype in ("float32", "float64"):
        print(f"FMA peak of one core, {dtype}: {fma_peak(dtype) / 1e9:.0f} GFLOP/s")

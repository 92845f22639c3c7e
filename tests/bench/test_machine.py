"""The measured limits of the machine: the timed work is really done."""

import re

import numpy as np
import pytest

from fastmlp.bench import machine
from fastmlp.kernels import roofline
from fastmlp.kernels.jit import kernel
from fastmlp.kernels.simd import VECTOR_BYTES
from fastmlp.kernels.tile import TALLEST, VECTORS

FLOATS = {"float32": "ps", "float64": "pd"}


@pytest.mark.parametrize("dtype", FLOATS)
def test_peak_is_a_loop_of_nothing_but_multiply_adds(dtype, monkeypatch):
    """One loop has all multiply-adds of a tile, each with its own register, and little else."""
    fresh = kernel(roofline.multiply_add.py_func)  # a kernel from the cache has no assembly to inspect
    monkeypatch.setattr(machine.roofline, "multiply_add", fresh)
    machine.fma_peak(dtype, repeats=1)
    (assembly,) = fresh.inspect_asm().values()
    if "vfmadd" not in assembly:
        pytest.skip("not a processor with x86's multiply-adds")
    loops = _loops(assembly)
    wanted = TALLEST * VECTORS
    best = max(loops, key=lambda body: sum("vfmadd" in line for line in body))
    added = [line for line in best if re.search(rf"vfmadd\w*{FLOATS[dtype]}\b", line)]
    assert len(added) % wanted == 0, best
    assert len(added) >= wanted
    register = "zmm" if VECTOR_BYTES == 64 else "ymm"
    assert all(register in line for line in added)
    sums = {line.rsplit("%", 1)[1] for line in added}  # the last operand is the sum
    assert len(sums) == wanted, "multiply-adds share a register and wait for each other"
    assert not [line for line in best if re.search(r"\bv(mul|div|sqrt)p|\bcall", line)]


def _loops(assembly):
    """Return the innermost loops: lines from a label to a jump back to it, with no label in between."""
    loops, label, body = [], None, []
    for line in (line.strip() for line in assembly.splitlines()):
        if match := re.match(r"(\.L\w+):", line):
            label, body = match[1], []
        elif label and re.match(rf"j\w+\s+{re.escape(label)}$", line):
            loops.append(body)
            body = []
        elif line and not line.startswith("."):
            body.append(line)
    return loops


@pytest.mark.parametrize("n_threads", [1, 2])
def test_limits_are_plausible(n_threads):
    assert 1e8 < machine.fma_peak(n_threads=n_threads, repeats=1) < 1e13
    assert 1e8 < machine.read_bandwidth(n_threads=n_threads, repeats=1) < 1e13


def test_missing_work_is_detected(monkeypatch):
    monkeypatch.setattr(machine.roofline, "multiply_add", lambda *_: None)
    monkeypatch.setattr(machine.roofline, "read_all", lambda *_: None)
    with pytest.raises(ArithmeticError, match="the multiply-adds came to 0"):
        machine.fma_peak()
    with pytest.raises(ArithmeticError, match="the numbers read came to 0"):
        machine.read_bandwidth()


def test_read_all_reads_all():
    x = np.zeros(roofline.UNROLLED * VECTOR_BYTES, np.float32)  # 4 * 4 vectors
    x[:] = np.arange(len(x))
    out = np.zeros(VECTOR_BYTES // 4, np.float32)
    roofline.read_all(out, x, 0, len(x))
    assert out.sum() == x.sum()


def test_facts_are_plain():
    known = machine.facts()
    assert known["cores"] >= known["threads"] >= 1
    assert known["memory_bytes"] > 1e8
    assert known["processor"] in machine.describe()

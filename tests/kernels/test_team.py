"""The barrier: nobody leaves before all are there, also where threads are more than cores."""

import platform
import threading
import time

import numpy as np
import pytest

from fastmlp.kernels.jit import kernel
from fastmlp.kernels.simd import peek
from fastmlp.kernels.team import meet

LINE = 8  # int64 numbers in a cache line


@kernel
def march(meetings, size, steps, missing, rank, n):
    """Take `n` steps, meeting twice a step; count the comrades who are not where they should be."""
    for i in range(n):
        steps[rank * LINE] = i + 1
        meet(meetings, size)
        for other in range(size):
            if peek(steps, other * LINE) != i + 1:
                missing[rank * LINE] += 1
        meet(meetings, size)


def run_march(size, n, late=0.0):
    meetings, steps, missing = (
        np.zeros(LINE, np.int64),
        np.zeros(size * LINE, np.int64),
        np.zeros(size * LINE, np.int64),
    )
    march(np.zeros(LINE, np.int64), 1, steps, missing, 0, 0)  # compiles
    threads = [
        threading.Thread(target=march, args=(meetings, size, steps, missing, rank, n), daemon=True)
        for rank in range(size)
    ]
    for thread in threads:
        thread.start()
        time.sleep(late)
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread waits for ever"
    return meetings, steps[::LINE], missing[::LINE]


@pytest.mark.parametrize(("size", "n"), [(2, 10_000), (3, 2_000), (4, 5_000)])
def test_nobody_leaves_before_all_are_there(size, n):
    meetings, steps, missing = run_march(size, n)
    assert not missing.any()
    assert np.all(steps == n)
    assert meetings[0] == 2 * n * size
    assert meetings[1] == 0
    assert not meetings[3:].any()


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="no clock that a program may read")
def test_long_waits_are_counted():
    meetings, _, _ = run_march(2, 1, late=0.05)
    assert meetings[2] > 10_000_000  # cycles


def test_nobody_waits_for_one_that_has_failed():
    meetings = np.zeros(LINE, np.int64)
    meetings[1] = 1
    march(meetings, 2, np.zeros(2 * LINE, np.int64), np.zeros(2 * LINE, np.int64), 0, 100)  # and comes back


def test_a_late_comer_is_waited_for():
    _, steps, missing = run_march(3, 5, late=0.05)
    assert not missing.any()
    assert np.all(steps == 5)


def test_one_thread_meets_nobody():
    meetings, steps, missing = run_march(1, 100)
    assert meetings[0] == 0
    assert steps[0] == 100
    assert not missing.any()

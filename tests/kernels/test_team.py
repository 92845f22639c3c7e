"""The barrier: no thread leaves it before all are there, also with more threads than cores."""

import threading
import time

import numpy as np
import pytest

from fastmlp.kernels.jit import kernel
from fastmlp.kernels.team import ARRIVED, FAILED, barrier
from fastmlp.kernels.vector_ops import peek

LINE = 8  # int64 numbers in a cache line


@kernel
def march(sync, size, steps, missing, rank, n):
    """Take `n` steps with two barriers each; count the other threads that are not at the same step."""
    for i in range(n):
        steps[rank * LINE] = i + 1
        barrier(sync, size)
        for other in range(size):
            if peek(steps, other * LINE) != i + 1:
                missing[rank * LINE] += 1
        barrier(sync, size)


def run_march(size, n, late=0.0):
    sync, steps, missing = (np.zeros(n * LINE, np.int64) for n in (1, size, size))
    march(np.zeros(LINE, np.int64), 1, steps, missing, 0, 0)  # compiles
    threads = [
        threading.Thread(target=march, args=(sync, size, steps, missing, rank, n), daemon=True) for rank in range(size)
    ]
    for thread in threads:
        thread.start()
        time.sleep(late)
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread waits forever"
    return sync, steps[::LINE], missing[::LINE]


@pytest.mark.parametrize(("size", "n"), [(2, 10_000), (3, 2_000), (4, 5_000)])
def test_no_thread_leaves_before_all_are_there(size, n):
    sync, steps, missing = run_march(size, n)
    assert not missing.any()
    assert np.all(steps == n)
    assert sync[ARRIVED] == 2 * n * size
    assert sync[FAILED] == 0


def test_no_thread_waits_for_one_that_has_failed():
    sync = np.zeros(LINE, np.int64)
    sync[FAILED] = 1
    march(sync, 2, np.zeros(2 * LINE, np.int64), np.zeros(2 * LINE, np.int64), 0, 100)  # returns


def test_threads_wait_for_a_late_one():
    _, steps, missing = run_march(3, 5, late=0.05)
    assert not missing.any()
    assert np.all(steps == 5)


def test_one_thread_waits_for_nobody():
    sync, steps, missing = run_march(1, 100)
    assert sync[ARRIVED] == 0
    assert steps[0] == 100
    assert not missing.any()

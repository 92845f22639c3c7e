"""The barrier: no thread leaves it before all are there, also with more threads than cores."""

import threading
import time

import numpy as np
import pytest

from fastmlp.engine.layout import aligned_zeros
from fastmlp.kernels.jit import kernel
from fastmlp.kernels.structs import Team
from fastmlp.kernels.team import FAILED, LINE, PATIENCE, SPIN_CYCLES, barrier, sync_size
from fastmlp.kernels.vector_ops import peek


@kernel
def march(sync, size, steps, missing, rank, n):
    """Take `n` steps with two barriers each; count the other threads that are not at the same step."""
    team = Team(sync, sync, rank, size)
    for i in range(n):
        steps[rank * LINE] = i + 1
        barrier(team)
        for other in range(size):
            if peek(steps, other * LINE) != i + 1:
                missing[rank * LINE] += 1
        barrier(team)


def run_march(size, n, late=0.0, patience=0):
    sync = aligned_zeros(sync_size(size), np.int64)
    sync[PATIENCE] = patience
    steps, missing = (np.zeros(size * LINE, np.int64) for _ in range(2))
    march(np.zeros(sync_size(1), np.int64), 1, steps, missing, 0, 0)  # compiles
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


@pytest.mark.parametrize("patience", [0, SPIN_CYCLES])
@pytest.mark.parametrize(("size", "n"), [(2, 10_000), (3, 2_000), (4, 2_000), (7, 200), (16, 100)])
def test_no_thread_leaves_before_all_are_there(size, n, patience):
    sync, steps, missing = run_march(size, n, patience=patience)
    assert not missing.any()
    assert np.all(steps == n)
    assert sync[FAILED] == 0


def test_no_thread_waits_for_one_that_has_failed():
    sync = np.zeros(sync_size(2), np.int64)
    sync[FAILED] = 1
    march(sync, 2, np.zeros(2 * LINE, np.int64), np.zeros(2 * LINE, np.int64), 0, 100)  # returns


def test_threads_wait_for_a_late_one():
    _, steps, missing = run_march(3, 5, late=0.05)
    assert not missing.any()
    assert np.all(steps == 5)


def test_one_thread_waits_for_nobody():
    sync, steps, missing = run_march(1, 100)
    assert not sync.any()
    assert steps[0] == 100
    assert not missing.any()

"""How many threads to use, and the threads that run a kernel together while the caller waits."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

__all__ = ["available_threads", "run_together"]

_POLL_SECONDS = 0.05


def available_threads() -> int:
    """Return how many cores this process may use: affinity, container limit and OMP_NUM_THREADS allowing."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [n_cores, _container_cores()]
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if asked.isdigit() and int(asked) > 0:
        limits.append(int(asked))
    return min(limit for limit in limits if limit)


def _container_cores() -> int:
    """Return the whole cores that the control group grants, at least 1; 0 where it sets no limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return 0
    return 0 if quota == "max" else max(1, int(quota) // int(period))


def _nothing() -> None:
    pass


def run_together(
    size: int,
    call: Callable[[int], None],
    on_wait: Callable[[], None] = _nothing,
    ask_to_stop: Callable[[], None] = _nothing,
) -> bool:
    """Run ``call(rank)`` in `size` threads while this one waits, open to Ctrl-C, and runs `on_wait` now and then.

    Whatever is raised meanwhile asks the calls to stop, and waits until they have.

    Returns
    -------
    interrupted : bool
        Whether Ctrl-C came.
    """
    with ThreadPoolExecutor(size, thread_name_prefix="fastmlp") as pool:
        calls = [pool.submit(call, rank) for rank in range(size)]
        try:
            while wait(calls, _POLL_SECONDS).not_done:
                on_wait()
        except KeyboardInterrupt:
            ask_to_stop()
            wait(calls)
            return True
        except BaseException:
            ask_to_stop()
            raise
        for finished in calls:
            finished.result()
    return False

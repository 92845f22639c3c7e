"""How many threads to use, and the threads that run a kernel together while the caller waits."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Self

__all__ = ["CtrlC", "available_threads", "run_apart", "run_together"]

_POLL_SECONDS = 0.02


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


class CtrlC:
    """While it is entered, Ctrl-C is only noted: what runs then is never left half done.

    Elsewhere than in the main thread, and where the program handles the signal in its own way, nothing is changed.

    Attributes
    ----------
    pressed : bool
    """

    def __init__(self) -> None:
        self.pressed = False
        self._ours = False

    def _note(self, *_: object) -> None:
        self.pressed = True

    def __enter__(self) -> Self:
        main = threading.current_thread() is threading.main_thread()
        self._ours = main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._ours:
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def run_apart(call: Callable[[], object]) -> None:
    """Run `call` in a thread; Ctrl-C leaves it to itself and raises KeyboardInterrupt here at once.

    The compiler would take a KeyboardInterrupt in the midst of its work, and may lose it.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="fastmlp")
    with CtrlC() as ctrl_c:
        running = pool.submit(call)
        pool.shutdown(wait=False)
        while wait([running], _POLL_SECONDS).not_done:
            if ctrl_c.pressed:
                raise KeyboardInterrupt
    running.result()


def run_together(
    size: int,
    call: Callable[[int], None],
    go_on: Callable[[], bool] = lambda: True,
    stop: Callable[[], None] = lambda: None,
    release: Callable[[], None] = lambda: None,
) -> None:
    """Run ``call(rank)`` in `size` threads, and wait for them.

    Parameters
    ----------
    size : int
    call : callable
        Must let go of the interpreter's lock.
    go_on : callable
        Called now and then; when it says False, or something is raised, the calls are asked to stop.
    stop : callable
        Asks the calls to stop.
    release : callable
        Frees calls that wait for one that has failed.
    """
    gate, cancelled = threading.Event(), False

    def enter(rank: int) -> None:
        gate.wait()  # a call may wait for the others from its start on: none starts unless all threads are there
        if not cancelled:
            call(rank)

    with ThreadPoolExecutor(size, thread_name_prefix="fastmlp") as pool:
        try:
            calls = [pool.submit(enter, rank) for rank in range(size)]
        except BaseException:
            cancelled = True
            raise
        finally:
            gate.set()
        try:
            while True:
                done, running = wait(calls, _POLL_SECONDS, return_when=FIRST_EXCEPTION)
                if not running:
                    break
                for finished in done:
                    finished.result()
                if not go_on():
                    stop()
        except BaseException:
            stop()
            if any(finished.done() and finished.exception() for finished in calls):
                release()
            raise
        for finished in calls:
            finished.result()

"""How many threads to use, and the threads that run a kernel together while the caller waits."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Self

__all__ = ["CtrlC", "available_threads", "run_apart", "run_together"]

_POLL_SECONDS = 0.02


def available_threads() -> int:
    """Return how many threads fit here: cores that this process may use, by affinity, container and OMP_NUM_THREADS.

    A worker of joblib gets one, unless OMP_NUM_THREADS says otherwise, as joblib sets it where cores are left.
    """
    limits = [len(_cores()) or os.cpu_count() or 1, _container_cores()]
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if asked.isdigit() and int(asked) > 0:
        limits.append(int(asked))
    elif _is_joblib_worker():
        limits.append(1)
    return min(limit for limit in limits if limit)


def _cores() -> list[int]:
    """Return the cores that this thread may use; none where the system does not say which."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _is_joblib_worker() -> bool:
    parallel = sys.modules.get("joblib.parallel")
    return parallel is not None and bool(parallel.get_active_backend()[0].nesting_level)


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


def _start(call: Callable[[], object], ended: SimpleQueue[BaseException | None], daemon: bool | None = None) -> Thread:
    """Run `call` in a thread, which puts what was raised, or None, into `ended` as it ends.

    It is a thread of its own and none of a pool: pools start no work any more once the main thread has ended.
    """

    def run() -> None:
        try:
            call()
        except BaseException as error:
            ended.put(error)
        else:
            ended.put(None)

    thread = Thread(target=run, name="fastmlp", daemon=daemon)
    thread.start()
    return thread


def run_apart(call: Callable[[], object]) -> None:
    """Run `call` in a thread; Ctrl-C leaves it to itself and raises KeyboardInterrupt here at once.

    The compiler would take a KeyboardInterrupt in the midst of its work, and may lose it. The process does not exit
    before its end.
    """
    ended: SimpleQueue[BaseException | None] = SimpleQueue()
    with CtrlC() as ctrl_c:
        _start(call, ended, daemon=False)
        while True:
            with suppress(Empty):
                error = ended.get(timeout=_POLL_SECONDS)
                break
            if ctrl_c.pressed:
                raise KeyboardInterrupt
    if error is not None:
        raise error
    if ctrl_c.pressed:
        raise KeyboardInterrupt


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
    gate, cancelled, cores = Event(), False, _cores()
    ended: SimpleQueue[BaseException | None] = SimpleQueue()

    def enter(rank: int) -> None:
        gate.wait()  # a call may wait for the others from its start on: none starts unless all threads are there
        if cancelled:
            return
        try:
            if size == len(cores) > 1:
                _spread(rank, cores)
            call(rank)
        except BaseException:
            stop()
            release()
            raise

    threads: list[Thread] = []
    try:
        try:
            threads.extend(_start(partial(enter, rank), ended) for rank in range(size))
        except BaseException:
            cancelled = True
            raise
        finally:
            gate.set()
        running = size
        while running:
            try:
                error = ended.get(timeout=_POLL_SECONDS)
            except Empty:
                if not go_on():
                    stop()
                continue
            running -= 1
            if error is not None:
                raise error
    except BaseException:
        stop()
        raise
    finally:
        _join(threads, stop)


def _spread(rank: int, cores: list[int]) -> None:
    """Move this thread of a team that takes all cores to one of its own, from which it may go on.

    Threads that were woken together often share a core at first. Left to itself, Linux can take 10 ms to see it.
    """
    with suppress(OSError):  # where it is not allowed
        os.sched_setaffinity(0, cores[rank : rank + 1])
        os.sched_setaffinity(0, cores)


def _join(threads: list[Thread], stop: Callable[[], None]) -> None:
    """Wait for all threads, whatever a handler of signals raises meanwhile; raise it then."""
    raised: BaseException | None = None
    while any(thread.is_alive() for thread in threads):
        try:
            for thread in threads:
                thread.join()
        except BaseException as error:
            raised = error
            stop()
    if raised is not None:
        raise raised

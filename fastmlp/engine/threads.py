"""How many threads to use, and the threads that run a kernel as a team while the caller listens for Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable
from contextlib import suppress
from itertools import repeat
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Self

__all__ = ["CtrlC", "available_threads", "run_brief_team", "run_in_thread", "run_team"]

_POLL_SECONDS = 0.02


def available_threads() -> int:
    """Return how many cores this process may use, by CPU affinity, container limits and OMP_NUM_THREADS.

    A joblib worker gets one, unless joblib has set OMP_NUM_THREADS because there are cores left.
    """
    limits = [len(_cores()) or os.cpu_count() or 1, _container_cores()]
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if asked.isdigit() and int(asked) > 0:
        limits.append(int(asked))
    elif _is_joblib_worker():
        limits.append(1)
    return min(limit for limit in limits if limit)


def _cores() -> list[int]:
    """Return the cores that this thread may use; none if the system does not say which."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _is_joblib_worker() -> bool:
    parallel = sys.modules.get("joblib.parallel")
    return parallel is not None and bool(parallel.get_active_backend()[0].nesting_level)


def _container_cores() -> int:
    """Return the whole cores that the control group grants, at least 1; 0 if it sets no limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return 0
    return 0 if quota == "max" else max(1, int(quota) // int(period))


class CtrlC:
    """While this context is active, Ctrl-C sets `pressed` and raises nothing, so that no work is left half done.

    It does nothing outside the main thread, or if the program has its own handler for SIGINT.

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


def run_in_thread(call: Callable[[], object]) -> None:
    """Run `call` in a thread of its own. Ctrl-C raises KeyboardInterrupt here at once, and lets the call finish.

    The compiler must not get a KeyboardInterrupt, which it may lose. The process does not exit before the call ends.
    """
    ended: SimpleQueue[BaseException | None] = SimpleQueue()

    def run() -> None:
        ended.put(_error_of(call))

    with CtrlC() as ctrl_c:
        Thread(target=run, name="fastmlp", daemon=False).start()
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


def run_team(
    size: int,
    call: Callable[[int], None],
    go_on: Callable[[], bool] = lambda: True,
    stop: Callable[[], None] = lambda: None,
    release: Callable[[], None] = lambda: None,
) -> None:
    """Run ``call(rank)`` in `size` threads, and wait for them.

    The threads belong to no pool, because pools start no work once the main thread has ended.

    Parameters
    ----------
    size : int
    call : callable
        Must release the GIL.
    go_on : callable
        Called now and then. If it returns False, or something is raised, the calls are asked to stop.
    stop : callable
        Asks the calls to stop.
    release : callable
        Frees calls that wait at a barrier for one that has failed.
    """
    gate, cancelled, cores = Event(), False, _cores()
    ended: SimpleQueue[BaseException | None] = SimpleQueue()

    def run(rank: int) -> None:
        gate.wait()  # a call waits for the others at a barrier, so none may start before all threads exist
        error = None
        if not cancelled:
            if size == len(cores) > 1:
                _spread(rank, cores)
            error = _error_of(call, rank)
            if error is not None:
                stop()
                release()
        ended.put(error)

    threads: list[Thread] = []
    try:
        try:
            for rank in range(size):
                threads.append(Thread(target=run, args=(rank,), name="fastmlp"))
                threads[-1].start()
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


def _error_of(call: Callable[..., object], *args: object) -> BaseException | None:
    """Run a call; return what it raises."""
    try:
        call(*args)
    except BaseException as error:
        return error
    return None


def _spread(rank: int, cores: list[int]) -> None:
    """Move this thread of a team that uses all cores to one of its own; the system may move it again.

    Threads that wake up together often share a core at first, and Linux can take 10 ms to notice.
    """
    with suppress(OSError):  # not allowed everywhere
        os.sched_setaffinity(0, cores[rank : rank + 1])
        os.sched_setaffinity(0, cores)


def _join(threads: list[Thread], stop: Callable[[], None]) -> None:
    """Wait for all threads that have started. Whatever a signal handler raises meanwhile is raised at the end."""
    raised: BaseException | None = None
    while any(thread.is_alive() for thread in threads):
        try:
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
        except BaseException as error:
            raised = error
            stop()
    if raised is not None:
        raise raised


def run_brief_team(
    size: int,
    call: Callable[[int], None],
    stop: Callable[[], None] = lambda: None,
    release: Callable[[], None] = lambda: None,
) -> None:
    """Run ``call(rank)`` in this thread, as rank 0, and in ``size - 1`` others, and wait for them.

    It starts a thread in a third of the time of `run_team`, but Ctrl-C is heard only after the call of this thread. If
    something is raised, `stop` and `release` are called as by `run_team`.
    """
    if size == 1:
        call(0)
        return
    ranks = range(1, size)
    locks, ended, errors = [allocate_lock() for _ in ranks], [False] * len(ranks), []

    def fail(error: BaseException) -> None:
        errors.append(error)
        stop()
        release()

    def help_with(rank: int) -> None:
        error = _error_of(call, rank)
        if error is not None:
            fail(error)
        ended[rank - 1] = True
        locks[rank - 1].release()

    for lock in locks:
        lock.acquire()
    started: list[int] = []
    try:
        # No handler of a signal runs between the start of a thread and its entry in the list: there is no bytecode.
        started.extend(map(start_new_thread, repeat(help_with), [(rank,) for rank in ranks]))
        call(0)
    except BaseException as error:
        fail(error)
    while not all(ended[: len(started)]):
        try:
            for i in range(len(started)):
                if not ended[i]:
                    locks[i].acquire()
        except BaseException as error:
            fail(error)
    if errors:
        raise errors[0]

"""The threads that run a kernel as a team, while the caller listens for Ctrl-C."""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
from _thread import LockType, allocate_lock, start_new_thread
from collections.abc import Callable
from contextlib import suppress
from threading import Thread

from fastmlp.engine.cores import affinity, still_at_work
from fastmlp.interrupts import CtrlC, finish

__all__ = ["run_brief_team", "run_in_thread", "run_team"]

_POLL_SECONDS = 0.02

_LIBC = ctypes.PyDLL(None) if sys.platform == "linux" else None  # keeps the GIL


def run_in_thread(call: Callable[[], object]) -> None:
    """Run `call` in a thread of its own. Ctrl-C raises KeyboardInterrupt here at once, and lets the call finish.

    The compiler must not get a KeyboardInterrupt, which it may lose. The process does not exit before the call ends.
    """
    errors: list[BaseException] = []
    ended, over, ctrl_c = _locked(), False, CtrlC()

    def end() -> None:
        nonlocal over
        over = True
        ended.release()

    def run() -> None:
        _try(errors, call)
        end()

    def begin() -> None:
        if not _try(errors, Thread(target=run, name="fastmlp", daemon=False).start):
            end()

    def wait() -> None:
        start_new_thread(begin, ())  # a handler that raises inside of `Thread.start` would leave its locks held
        while not over:
            if not ended.acquire(timeout=_POLL_SECONDS) and ctrl_c.pressed:
                raise KeyboardInterrupt

    ctrl_c.run(wait)
    if errors:
        raise errors.pop()
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

    The thread of rank 0 starts the others. So the caller's part is one call that a signal handler cannot interrupt, and
    no exception leaves a team that is partly there. The threads belong to no pool, because pools start no work once the
    main thread has ended.

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
    gate, ended, cores = _locked(), _locked(), affinity()
    begun: dict[str, str] = {}  # "by" the team or, if that has not begun when the caller must leave, by the caller
    errors: list[BaseException] = []
    n_threads, count, over = 1, itertools.count(1), False

    def lead() -> None:
        nonlocal n_threads
        if begun.setdefault("by", "team") != "team":
            return
        started = []
        try:
            for rank in range(1, size):
                started.append(start_new_thread(follow, (rank,)))
                n_threads += 1
            _move_away(started, cores)
        except BaseException as error:
            errors.append(error)
        gate.release()
        run(0)

    def follow(rank: int) -> None:
        with gate:  # a call waits for the others at a barrier, so none may start before all threads exist
            pass
        _allow(cores)
        run(rank)

    def run(rank: int) -> None:
        nonlocal over
        if n_threads == size and not _try(errors, call, rank):
            stop()
            release()
        if next(count) == n_threads:
            over = True
            ended.release()

    def wait() -> None:
        start_new_thread(lead, ())
        while not over:
            # a lock keeps its deadline; up to Python 3.11, a SimpleQueue may wait for ever after a signal
            if not ended.acquire(timeout=_POLL_SECONDS):
                still_at_work()
                if not go_on():
                    stop()

    def leave() -> None:
        raised: BaseException | None = None
        while not over and begun.setdefault("by", "caller") == "team":
            try:
                stop()
                ended.acquire(timeout=_POLL_SECONDS)
            except BaseException as error:
                raised = error
        if raised is not None:
            raise raised

    finish(wait, leave)
    _raise_first(errors)


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
    ranks, done, cores = range(1, size), False, affinity()
    gates, locks, ended = [_locked() for _ in ranks], [_locked() for _ in ranks], [False for _ in ranks]
    errors: list[BaseException] = []
    started: list[int] = []

    def help_with(rank: int) -> None:
        gates[rank - 1].acquire()  # no thread may end before it has been moved
        _allow(cores)
        if not _try(errors, call, rank):
            stop()
            release()
        ended[rank - 1] = True
        locks[rank - 1].release()

    def open_gates() -> None:
        """Let the threads begin. May be repeated: nobody else releases a gate, and its thread passes only once."""
        for gate in gates:
            if gate.locked():
                gate.release()

    def work() -> None:
        nonlocal done
        # No handler of a signal runs between the start of a thread and its entry in the list: there is no bytecode.
        started.extend(map(start_new_thread, itertools.repeat(help_with), [(rank,) for rank in ranks]))
        _move_away(started, cores)
        open_gates()
        call(0)
        done = True

    def leave() -> None:
        raised: BaseException | None = None
        while not all(ended[: len(started)]):
            try:
                if not done:
                    stop()
                    release()
                    open_gates()
                for i in range(len(started)):
                    if not ended[i]:
                        locks[i].acquire(timeout=_POLL_SECONDS)
            except BaseException as error:
                raised = error
        if raised is not None:
            raise raised

    finish(work, leave)
    _raise_first(errors)


def _raise_first(errors: list[BaseException]) -> None:
    """Raise the first error, if there is one. The list forgets all of them, so that no frame keeps them alive."""
    if errors:
        try:
            raise errors[0]
        finally:
            errors.clear()


def _locked() -> LockType:
    lock = allocate_lock()
    lock.acquire()
    return lock


def _try(errors: list[BaseException], call: Callable[..., object], *args: object) -> bool:
    """Run a call. If it raises an error, add that to a list, and return False.

    No frame may keep the error in a variable: frame and error would keep each other alive, and with them X.
    """
    try:
        call(*args)
    except BaseException as error:
        errors.append(error)
        return False
    return True


def _allow(cores: list[int]) -> None:
    """Let this thread run on some cores; on any if none are named."""
    if cores:
        with suppress(OSError):  # not allowed everywhere
            os.sched_setaffinity(0, cores)


def _move_away(threads: list[int], cores: list[int]) -> None:
    """Let new threads run on other cores than this one, each on its own if all cores are needed.

    They wake up as this thread releases the GIL, often on its core, and Linux can take 10 ms to notice. No thread may
    have ended yet, because libc looks into its memory. As soon as a thread runs, it may be allowed all cores again.
    """
    if _LIBC is None or len(cores) < 2 or not hasattr(_LIBC, "pthread_setaffinity_np"):  # Android has no such function
        return
    here = _LIBC.sched_getcpu()
    bits = [1 << core for core in cores if core != here]
    masks = bits if len(threads) == len(bits) else [sum(bits)] * len(threads)
    n_bytes = max(cores) // 64 * 8 + 8
    for thread, mask in zip(threads, masks, strict=True):
        _LIBC.pthread_setaffinity_np(ctypes.c_ulong(thread), ctypes.c_size_t(n_bytes), mask.to_bytes(n_bytes, "little"))

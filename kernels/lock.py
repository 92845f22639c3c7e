"""A lock file: of the processes that share a folder, one at a time compiles a kernel, and the others wait for it.

It relies only on what network file systems guarantee: that a file is created by one process alone (``O_EXCL``), and
that a file which is opened shows its latest state. Locks of the system, such as ``flock``, are not among that.

The owner refreshes the time of its file once a second. Those who wait compare no clocks: they count how often they have
looked without seeing a change, so it does no harm if a machine or a container sleeps. If the owner is dead, one of them
can create a second file, ``NAME.lock1``. It owns the lock if the first file is still that of the dead owner. If it dies
too, there is ``NAME.lock2``, and so on. The last owner removes all of them.
"""

import atexit
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

POLL, BEAT, DEAD, LONGEST = 0.05, 1.0, 12.0, 300.0
"""Seconds between two looks at a lock, between two signs of life of its owner, without one until the owner counts as
dead, and of waiting in all. Then a process stops waiting, and compiles for itself."""

OLD = 3600.0
"""Seconds after which nobody can still need a lock, or a file that was being written."""


class Seen(NamedTuple):
    """The state of a lock file, which changes each time its owner refreshes it."""

    owner: bytes
    time_ns: int


class Lock:
    """A lock file of this process."""

    def __init__(self, path: Path) -> None:
        """Create the file; raises FileExistsError if there is one, and OSError if none can be written."""
        self._path, self._dead = path, list[tuple[Path, Seen]]()
        self.thread = threading.get_ident()
        self._owner = f"{place()} {os.getpid()} {secrets.token_hex(8)}\n".encode()
        self._released = threading.Event()
        _held.add(self)
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except BaseException:
            _held.discard(self)
            raise
        try:
            try:
                os.write(descriptor, self._owner)
            finally:
                os.close(descriptor)
            with suppress(RuntimeError):  # no thread can be started: others may take the owner for dead
                threading.Thread(target=self._live, name="fastmlp lock", daemon=True).start()
        except BaseException:
            _remove(path)
            self.release()
            raise

    def follows(self, dead: list[tuple[Path, Seen]]) -> bool:
        """Return whether this is the lock now: those before it are still there, and have not changed."""
        self._dead = dead
        return all(look(path) == seen for path, seen in dead)

    def release(self) -> None:
        """Remove the file, and those of dead owners before it. May be repeated."""
        self._released.set()
        if self in _held:
            # The first one goes first: whoever creates the next file now sees that it follows nothing.
            for path, seen in self._dead:
                if _look(path) == seen:
                    _remove(path)
            mine = _look(self._path)
            if mine is not None and mine.owner == self._owner:
                _remove(self._path)
            _held.discard(self)

    def sweep(self) -> None:
        """Remove what killed processes have left in the folder long ago, by the clock that sets the times of files."""
        now = self._path.stat().st_mtime
        for path in self._path.parent.glob("*.kernel.*"):
            with suppress(OSError):
                if now - path.stat().st_mtime > OLD:
                    path.unlink()

    def _live(self) -> None:
        while not self._released.wait(BEAT):
            with suppress(OSError):
                os.utime(self._path)


_held: set[Lock] = set()


@atexit.register
def release_all() -> None:
    """Release all locks of this process, which is about to end while it compiles."""
    for lock in list(_held):
        lock.release()


def release_own() -> None:
    """Release the locks of this thread. They need no names, so a signal handler may raise at any line before."""
    for lock in list(_held):
        if lock.thread == threading.get_ident():
            lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_held.clear)  # the locks are those of the parent


def take(path: Path, is_done: Callable[[], bool], waiting: AbstractContextManager[object]) -> bool:
    """Take the lock for this thread, unless it is not needed: `is_done`, or the others have taken too long.

    Parameters
    ----------
    path : Path
    is_done : callable
        Whether another process has done what the lock is for.
    waiting : context manager
        Entered while this process waits for another one, if it does.

    Returns
    -------
    bool
        Whether this thread has the lock, until `release_own`.

    Raises
    ------
    OSError
        If the folder takes no lock.
    """
    dead: list[tuple[Path, Seen]] = []
    seen, n_same, waits = None, 0, False
    with ExitStack() as stack:
        for _ in range(int(LONGEST / POLL)):
            if is_done():
                return False
            last = path.with_name(f"{path.name}{len(dead) or ''}")
            lock = _create(last)
            if lock is not None:
                if lock.follows(dead) and not is_done():
                    lock.sweep()
                    return True
                lock.release()
                dead = []
            elif (now := look(last)) is not None:
                if not waits:
                    stack.enter_context(waiting)
                    waits = True
                n_same = n_same + 1 if now == seen else 0
                seen = now
                if n_same * POLL > DEAD or _is_gone(now.owner):
                    dead.append((last, now))
                    seen = None
                else:
                    time.sleep(POLL)
    return False


def _create(path: Path) -> Lock | None:
    """Create a lock unless there is one."""
    with suppress(FileExistsError):
        return Lock(path)
    return None


def look(path: Path) -> Seen | None:
    """Return the state of a lock file, or None if there is none."""
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)  # the name may be that of a pipe
    try:
        with open(os.open(path, flags), "rb") as file:  # a file that is opened has its latest state, on NFS too
            return Seen(file.read(1000), os.fstat(file.fileno()).st_mtime_ns)
    except FileNotFoundError:
        return None


def _look(path: Path) -> Seen | None:
    with suppress(OSError):
        return look(path)
    return None


def _remove(path: Path) -> None:
    for _ in range(20):  # Windows removes no file that another process has open at the moment
        try:
            path.unlink(missing_ok=True)
            return
        except OSError:
            time.sleep(0.01)


def _is_gone(owner: bytes) -> bool:
    """Return whether the owner was a process of this system that has ended."""
    host, _, rest = owner.decode(errors="replace").partition(" ")
    number = rest.partition(" ")[0]
    if os.name == "nt" or host != place() or not number.isdecimal():  # on Windows, signal 0 is Ctrl-C
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass
    return False


@cache
def place() -> str:
    """Return a name of where process numbers mean the same: the host, since it was started, and the container."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return "/".join(parts).replace(" ", "_")

"""The calls that the processes of a user are running, in a small file that all of them map into memory.

Each process writes how many calls it has at work, and when, to a slot of its own. There are no locks. A slot belongs to
the process whose random number it holds; a process that finds another number in its slot takes another slot. One that
has not written for a second does not count: it has ended, was killed or is stopped. So nobody needs to tidy up, and
processes of different containers may share the file.
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from mmap import mmap

import numpy as np

__all__ = ["Processes"]

N_SLOTS = 1024
OWNER, PLACE, CALLS, THREADS, WHEN, WIDTH = range(6)
"""The words of a slot; the last one is their number."""
LEASE = 1_000_000_000
"""Nanoseconds for which a slot counts after it was written; that happens 50 times a second while a team is at work."""

_N_BYTES = 8 * WIDTH * N_SLOTS


class Processes:
    """The slots of all processes of this user.

    Parameters
    ----------
    path : str, optional
        The file; by default one in shared memory, or else in the temporary folder.
    """

    def __init__(self, path: str | None = None) -> None:
        self._path = path
        self._file: tuple[int, int] | None = None  # device and inode
        self._words = memoryview(b"")
        self._maps: list[mmap] = []  # never closed: who becomes a daemon may have reused the numbers of their files
        self._looked = -LEASE
        self.after_fork()

    def after_fork(self) -> None:
        """Be another process, with a slot of its own."""
        self._owner = int.from_bytes(os.urandom(7), "little") + 1
        self._slot = 0

    def tell(self, place: int, n_calls: int, n_threads: int) -> None:
        """Say how many calls this process has at work on the cores of a place, and how many threads they use at most.

        If the slots cannot be used, nothing happens.
        """
        now = time.monotonic_ns()
        words = self._mapped(now)
        if not words:
            return
        at = WIDTH * self._slot
        if words[at + OWNER] != self._owner:
            if not n_calls:
                return
            at = WIDTH * self._take(words, now)
            words[at + OWNER] = self._owner
        words[at + PLACE] = place
        words[at + CALLS] = n_calls
        words[at + THREADS] = n_threads
        words[at + WHEN] = now

    def others(self, place: int) -> list[tuple[int, int]]:
        """Return calls and threads of each other process that is at work in a place."""
        now = time.monotonic_ns()
        words = self._mapped(now)
        if not words:
            return []
        calls = self._calls.copy()  # `nonzero` counts before it looks, and raises where a slot changes in between
        return [  # a call may end, and its slot change, after `nonzero` has found it
            (n_calls, n_threads)
            for slot in calls.nonzero()[0].tolist()
            for owner, where, n_calls, n_threads, when in [words[WIDTH * slot : WIDTH * (slot + 1)]]
            if owner != self._owner and where == place and 0 < n_calls <= n_threads and abs(now - when) < LEASE
        ]

    def _take(self, words: memoryview, now: int) -> int:
        """Return a slot that nobody uses; if two processes take the same, the one that comes later keeps it."""
        free = np.flatnonzero(np.abs(np.asarray(words)[WHEN::WIDTH] - now) >= LEASE)
        self._slot = int(free[self._owner % len(free)]) if len(free) else self._owner % N_SLOTS
        return self._slot

    def _mapped(self, now: int) -> memoryview:
        """Return the words of all slots, or nothing. Looks once a second whether the file has been replaced."""
        if not 0 <= now - self._looked < LEASE:
            self._looked = now
            try:
                self._map()
            except (OSError, ValueError):
                self._file, self._words = None, memoryview(b"")
        return self._words

    def _map(self) -> None:
        if self._path is None:
            self._path = _default_path()
        with suppress(FileNotFoundError):
            status = os.lstat(self._path)
            if (status.st_dev, status.st_ino) == self._file:
                return
        with open(self._path, "r+b", buffering=0, opener=_open) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_nlink != 1:
                raise OSError("not a file of this user alone")
            if status.st_mode & 0o077:
                raise OSError("others may write")
            # Memory without space behind it would kill the process as it is written, so the file has no holes.
            if status.st_size != _N_BYTES and file.write(bytes(_N_BYTES)) != _N_BYTES:
                raise OSError("no space")
            self._maps.append(mmap(file.fileno(), _N_BYTES))
        words = memoryview(self._maps[-1]).cast("q")
        self._calls = np.asarray(words)[CALLS::WIDTH]
        self._file, self._words = (status.st_dev, status.st_ino), words


def _open(path: str, flags: int) -> int:
    """Make the file if there is none, for this user alone; follow no link."""
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)


def _default_path() -> str:
    if not hasattr(os, "geteuid"):
        raise OSError("this system does not say whose a file is")
    folder = "/dev/shm"
    if not os.access(folder, os.W_OK | os.X_OK):
        import tempfile

        folder = tempfile.gettempdir()
    return os.path.join(folder, f"fastmlp-cores-1-{os.geteuid()}")

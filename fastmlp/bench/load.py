"""The load that other programs put on the machine during a measurement."""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["Others", "load_average", "others_are_in_the_way"]

_SLACK = 0.25  # cores that a desktop or a server uses when nothing runs


class Others:
    """A clock of the processor time that other programs use.

    Linux counts the busy time of each core; what this process and its children have used is subtracted. Time that a
    hypervisor gives to other machines counts as theirs. On other systems nobody knows: a load average would also count
    what is measured.
    """

    def __init__(self) -> None:
        self._start = self._now()

    def cores(self) -> float | None:
        """Return how many cores other programs have used on average since the last call; None if nobody knows."""
        before, self._start = self._start, self._now()
        (wall, own, busy), (wall_before, own_before, busy_before) = self._start, before
        if busy is None or busy_before is None or wall == wall_before:
            return None
        return max(0.0, busy - busy_before - (own - own_before)) / (wall - wall_before)

    @staticmethod
    def _now() -> tuple[float, float, float | None]:
        """Return the time, and the processor time of this program and of all, on the cores that it may use."""
        busy = _busy_seconds()
        return time.perf_counter(), 0.0 if busy is None else _own_seconds(), busy


def _own_seconds() -> float:
    """Return the processor time of this process and of all below it, also those that have ended."""
    parents, ticks = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = (
                path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            )  # the name before may have spaces
        except OSError:  # it has just ended
            continue
        pid = int(path.parent.name)
        parents[pid], ticks[pid] = int(fields[1]), sum(map(int, fields[11:15]))
    ours, below = set(), {os.getpid()}
    while below:
        ours |= below
        below = {pid for pid, parent in parents.items() if parent in below} - ours
    return sum(ticks.get(pid, 0) for pid in ours) / os.sysconf("SC_CLK_TCK")


def _busy_seconds() -> float | None:
    try:
        lines = Path("/proc/stat").read_text().splitlines()
        ours = {f"cpu{core}" for core in os.sched_getaffinity(0)}
        ticks, n_cores = 0, 0
        for name, *numbers in (line.split() for line in lines if line.startswith("cpu")):
            if name in ours:
                user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, numbers[:8])
                ticks, n_cores = ticks + user + nice + system + irq + softirq + steal, n_cores + 1
        return None if not n_cores else ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):
        return None


def load_average() -> float | None:
    """Return the load average of the last minute, where the system has one."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None


def others_are_in_the_way(others: float | None, threads: int, cores: int) -> bool:
    """Return whether other programs used cores that a team of threads needs."""
    return others is not None and others > max(0, cores - threads) + _SLACK

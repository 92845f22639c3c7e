"""The number of threads that each call may use, so that calls at the same time do not oversubscribe the cores.

Calls at work share the cores in a tree: the machine, or the quota of a container, gives to groups of calls and to other
processes, and each group to its calls. What some cannot use goes to the others (max-min fairness). A team asks again 20
times a second, so cores follow the calls that come and go. No bit of a result depends on this.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterable
from typing import TypeAlias, TypeVar

from fastmlp.engine.containers import container_quota
from fastmlp.engine.processes import Processes
from fastmlp.interrupts import finish

__all__ = ["UNLIMITED", "Group", "affinity", "at_work", "available_threads", "fair_share", "share", "still_at_work"]

UNLIMITED = 1 << 20
"""Threads of a call, or cores of a group, that is limited only by what there is."""

T = TypeVar("T")
Demand: TypeAlias = tuple[int, int]
"""Calls at work, and how many threads they may use together."""


class Group:
    """Calls that share some cores, such as those of one `fit_many`.

    Its number of cores is what the user has asked for, whatever OMP_NUM_THREADS says. It is a limit and no claim: calls
    outside of the group count as much as those inside, and no call gets more cores than there are.

    Parameters
    ----------
    n_cores : int
        For all of them.

    Notes
    -----
    A group that is made inside `run` of another one shares the cores of that.
    """

    def __init__(self, n_cores: int) -> None:
        inside = _innermost()
        self.n_cores = n_cores
        self._outer: Group | _Machine = _machine if inside is _plain else inside
        self._parts: dict[object, Demand] = {}  # of calls, and of groups inside
        self._mark = object()

    def run(self, work: Callable[[], T]) -> T:
        """Call `work`; the calls that this thread makes meanwhile belong to the group."""
        before = getattr(_thread, "group", None)

        def enter_and_work() -> T:
            _thread.group = self
            return work()

        def leave() -> None:
            _thread.group = before

        return finish(enter_and_work, leave)

    def limit(self) -> int:
        """Return how many threads a call of the group may use if no other is at work."""
        return min(self.n_cores, self._outer.limit())

    def share(self) -> tuple[float, float]:
        """Return how many cores all calls of the group may use now, and how many each of them."""
        most, each = self._outer.share()
        demands = list(self._parts.values())
        n_calls = sum(n_calls for n_calls, _ in demands)
        n_cores = min(self.n_cores, most, each * max(1, n_calls))
        return n_cores, min(n_cores, fair_share(n_cores, demands))

    def count(self, part: object, demand: Demand) -> None:
        """Set what a call or a group inside has at work. May be repeated.

        Several threads may do so at once, without a lock, which a signal handler could leave locked, or wait for in
        vain: whoever passes on a total does it again if there has been a change meanwhile.
        """
        _set(self._parts, part, demand)
        self._mark, mark = object(), None
        while mark is not self._mark:
            mark = self._mark
            n_calls, n_threads = _total(self._parts)
            if n_threads > n_calls:
                n_threads = max(n_calls, min(n_threads, self.n_cores))
            self._outer.count(self, (n_calls, n_threads))


class _Plain(Group):
    """The calls of this process outside of all groups, which share what OMP_NUM_THREADS says."""

    def __init__(self, outer: _Machine) -> None:
        self._outer, self._parts, self._mark = outer, {}, object()

    @property
    def n_cores(self) -> int:  # type: ignore[override]
        asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
        return (int(asked) if asked.isdecimal() else 0) or UNLIMITED


class _Machine:
    """The cores that this process may use: by affinity, or the quota of its container."""

    def __init__(self) -> None:
        self.processes = Processes()
        self.parts: dict[object, Demand] = {}  # of groups in this process
        self._mark = object()
        self._place: int | None = None  # which cores these are, once somebody has looked

    def limit(self) -> int:
        """Return how many there are. Processes share them if their affinities are equal, or have the same quota."""
        cores, quota = affinity(), container_quota()
        n_cores, place = len(cores) or os.cpu_count() or 1, hash(tuple(cores))
        if quota.n_cores < n_cores:
            n_cores, place = quota.n_cores, hash(quota.group)
        if place != self._place:
            self._place = place
            self.tell()
        return n_cores

    def share(self) -> tuple[float, float]:
        """Return how many cores there are, and how many each call of this process may use now."""
        n_cores = self.limit()
        others = self.processes.others(self._place or 0)
        return n_cores, min(n_cores, fair_share(n_cores, [*self.parts.values(), *others]))

    def count(self, part: object, demand: Demand) -> None:
        """Set what a group has at work, and let other processes know."""
        _set(self.parts, part, demand)
        self._mark, mark = object(), None
        while mark is not self._mark:
            mark = self._mark
            self.tell()

    def tell(self) -> None:
        """Let other processes know what this one has at work."""
        if self._place is None:
            self.limit()
        else:
            self.processes.tell(self._place, *_total(self.parts))


def fair_share(n_cores: float, demands: Iterable[Demand]) -> float:
    """Return how many cores each call gets if those that can use less leave the rest to the others.

    Infinity if there is enough for all of them.
    """
    demands = sorted(demands, key=lambda demand: demand[1] / demand[0])
    n_left = sum(n_calls for n_calls, _ in demands)
    for n_calls, n_threads in demands:
        if n_threads * n_left >= n_calls * n_cores:
            return n_cores / n_left
        n_cores -= n_threads
        n_left -= n_calls
    return math.inf


def _total(parts: dict[object, Demand]) -> Demand:
    n_calls = n_threads = 0
    for calls, threads in list(parts.values()):
        n_calls += calls
        n_threads += threads
    return n_calls, n_threads


def _set(parts: dict[object, Demand], part: object, demand: Demand) -> None:
    if demand[0]:
        parts[part] = demand
    else:
        parts.pop(part, None)


_machine = _Machine()
_plain = _Plain(_machine)
_thread = threading.local()


def _innermost() -> Group:
    """Return the group of this thread."""
    return getattr(_thread, "group", None) or _plain


def at_work(work: Callable[[], T], n_threads: int = UNLIMITED) -> T:
    """Call `work`, which is counted meanwhile as one more call that shares the cores.

    Parameters
    ----------
    work : callable
    n_threads : int
        How many threads it can use at most.
    """
    group, call = _innermost(), object()

    def count_and_work() -> T:
        group.count(call, (1, n_threads))
        return work()

    return finish(count_and_work, lambda: group.count(call, (0, 0)))


def share() -> int:
    """Return how many threads a call of this thread may use now, at least 1."""
    return max(1, int(_innermost().share()[1] + 1e-9))


def available_threads() -> int:
    """Return how many threads a call of this thread may use if no other is at work.

    By CPU affinity, container limits and OMP_NUM_THREADS, or the group of this thread.
    """
    return max(1, _innermost().limit())


def still_at_work() -> None:
    """Tell other processes that the calls of this one are still running; called while a team is at work."""
    _machine.tell()


def affinity() -> list[int]:
    """Return the cores that this thread may use; none if the system does not say which."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _after_fork() -> None:
    """Forget the calls and groups of the parent."""
    global _thread
    _thread = threading.local()
    _plain._parts.clear()
    _machine.parts.clear()
    _machine.processes.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

"""The number of threads where the user does not set it: measured while the work is done.

No bit of a result depends on the number of threads, so a fit may take its steps in segments, each with another team.
The first segments are short trials of some sizes. Then the fastest size continues, and is measured on. It is left for
another that looks faster, and its neighbours are tried again from time to time: when other programs take cores, a
smaller team wins, and when the cores are free again, the larger one does. Each trial that does not win doubles the time
to the next of that size.

What was measured belongs to a `Record`, which all networks of the process share if their steps cost the same. Its
trials may cost only a part of the time that has been spent or is certain to be spent, so short fits try nothing.
Calls that run at the same time share the cores.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Hashable
from threading import Lock
from typing import NamedTuple

from fastmlp.engine.cores import UNLIMITED, share

__all__ = ["ALONE", "Record", "Segment", "TeamSize", "forget"]

START_SECONDS = 60e-6
"""To start one thread of a team."""
TRIAL_SECONDS = 4e-3
"""Length of a trial, if the size tried is as fast as the best one."""
LATE = 4.0
"""A trial that takes so much longer is ended."""
TRIAL_COST = 0.08
"""Part of the time that trials may cost."""
NEAR = 1.25
"""Sizes are tried one after the other, away from the best, until one takes so much longer than the best."""
WORTH_IT = 0.95
"""A team is changed if another one takes less than this part of its time."""
WINDOW_SECONDS = 0.05
"""A team that continues is measured again after so long."""
FIRST_WAIT, LONGEST_WAIT = 0.25, 16.0
"""Seconds until a neighbour of the best size is tried again, the first time and at most."""
CALM = 0.9
"""Each window in which a size remains the best shortens its next wait by this factor."""

_lock = Lock()
_records: dict[Hashable, Record] = {}


class Segment(NamedTuple):
    """Some steps for a team of some size."""

    size: int
    n_steps: int
    is_trial: bool


class Record:
    """Measurements of one kind of step.

    Parameters
    ----------
    available : int
        Threads at most.
    start_seconds : float
        To start one thread, if that is not part of what is measured.

    Attributes
    ----------
    sizes : list of int
        1, 2, 4 and so on, and all threads.
    seconds : dict of int to float
        Of a step, for each size that has been tried.
    guess : float or None
        Seconds of a step of the first segment. It says how long a trial must be, and is no measurement of its size:
        data and workspace were not in the caches yet.
    """

    def __init__(self, available: int, start_seconds: float = START_SECONDS) -> None:
        self.sizes = [1 << i for i in range(available.bit_length()) if 1 << i < available] + [available]
        self.seconds: dict[int, float] = {}
        self.guess: float | None = None
        self._start_seconds = start_seconds
        self._due: dict[int, float] = {}
        self._wait = dict.fromkeys(self.sizes, FIRST_WAIT)
        self._worked = self._lost = 0.0  # seconds: all of them, and what trials have cost

    def start(self, size: int) -> float:
        """Return the seconds that it takes to start a team."""
        return self._start_seconds * size if size > 1 else 0.0

    def each(self, size: int) -> float:
        """Return the seconds of a step, if any size has been tried. A smaller team has at most more work a thread."""
        if size in self.seconds:
            return self.seconds[size]
        return min(
            (seconds * tried / size for tried, seconds in self.seconds.items() if tried > size), default=math.inf
        )

    def best(self, n_steps: int) -> int:
        """Return the size that takes so many steps in the shortest time, as far as is known."""
        return min(self.sizes, key=lambda size: self.start(size) + n_steps * self.each(size))

    def trial(self, best: int, n_left: int, trial_steps: int | None, now: float) -> Segment | None:
        """Return a trial of a size, if there is one that may be better than `best` and whose cost is no matter."""
        size, each = self._candidate(best, now), self.each(best)
        n_steps = trial_steps or math.ceil(TRIAL_SECONDS / each)
        if size is None or n_steps > n_left:
            return None
        cost = n_steps * each + self.start(size) + self.start(best)  # if it takes twice as long as the best
        if self._lost + cost > TRIAL_COST * (self._worked + n_left * each):
            return None
        return Segment(size, n_steps, is_trial=True)

    def _candidate(self, best: int, now: float) -> int | None:
        at = self.sizes.index(best)
        for sizes in (self.sizes[:at][::-1], self.sizes[at + 1 :]):
            for i, size in enumerate(sizes):
                if size not in self.seconds or (i == 0 and now >= self._due.get(size, now)):
                    return size
                if self.seconds[size] > NEAR * self.each(best):
                    break
        return None

    def note(self, segment: Segment, n_steps: int, seconds: float, now: float) -> None:
        """Learn how long the team of a segment took for some steps."""
        size, _, is_trial = segment
        self._worked += seconds
        each, before = seconds / max(1, n_steps), self.best(1 << 62) if self.seconds else size
        if is_trial or size not in self.seconds:
            if self.seconds:
                self._lost += max(0.0, seconds - n_steps * self.each(before)) + self.start(size) + self.start(before)
            self.seconds[size] = each
        else:
            self.seconds[size] += (each - self.seconds[size]) / 2
        best = self.best(1 << 62)
        losers = [size] if is_trial and size != best else []
        for loser in losers + [before] * (before != best):
            self._due[loser] = now + self._wait[loser]
            self._wait[loser] = min(2 * self._wait[loser], LONGEST_WAIT)
        if size == best and not is_trial:
            self._wait[size] = max(CALM * self._wait[size], FIRST_WAIT)

    def add(self, seconds: float) -> None:
        """Count work that was too short to be measured."""
        self._worked += seconds


class TeamSize:
    """The sizes of the teams of one call.

    Parameters
    ----------
    key : hashable
        Names a kind of step, with everything that its time depends on.
    size : int
        What to begin with, if nothing has been measured.
    seconds : float
        About how long a step takes.
    trial_steps : int, optional
        Length of each trial; by default some milliseconds.
    start_seconds : float
        To start one thread, if that is not part of what is measured.
    is_fixed : bool
        Whether there is one team, of `size`, and nothing is measured.
    share : callable
        Says how many threads the call may use now.
    clock : callable
    """

    def __init__(
        self,
        key: Hashable,
        size: int,
        seconds: float,
        trial_steps: int | None = None,
        start_seconds: float = START_SECONDS,
        is_fixed: bool = False,
        share: Callable[[], int] = share,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._key, self._size, self._guess = key, size, seconds
        self._trial_steps, self._start_seconds, self._clock = trial_steps, start_seconds, clock
        self._is_fixed, self._share = is_fixed, share
        self.most = size if is_fixed else UNLIMITED
        self._segment, self._n_left = Segment(1, 0, is_trial=False), 0
        self._entered: list[float | None] = []  # when each thread began
        self._noted = 0, 0.0  # steps of this segment that have been noted, and when

    def next(self, n_left: int) -> Segment:
        """Return the next segment of a call that has `n_left` steps left."""
        if self._is_fixed:
            return Segment(self._size, n_left, is_trial=False)
        self._available = available = self._share()
        with _lock:
            key = self._key, self._start_seconds, available
            if key not in _records:
                _records[key] = Record(available, self._start_seconds)
            self._record = record = _records[key]
            size, n_steps, is_trial = max(one for one in record.sizes if one <= self._size), n_left, False
            guess = record.guess or self._guess
            if record.seconds:
                size = record.best(n_left)
                trial = record.trial(size, n_left, self._trial_steps, self._clock())
                if trial is not None:
                    size, n_steps, is_trial = trial
            elif n_left * guess * TRIAL_COST > TRIAL_SECONDS and len(record.sizes) > 1:
                n_steps, is_trial = min(n_left, math.ceil(TRIAL_SECONDS / guess)), True
        self._segment, self._n_left = Segment(size, n_steps, is_trial), n_left
        self._entered, self._noted = [None] * size, (0, 0.0)
        return self._segment

    def enter(self, rank: int) -> None:
        """Note that a thread of the team begins. The last one counts: the others wait for it at the first barrier."""
        if self._entered:
            self._entered[rank] = self._clock()

    def begin(self) -> None:
        """Note that all threads begin now, or that their start is part of the work."""
        for rank in range(len(self._entered)):
            self.enter(rank)

    def is_to_end(self, n_done: int) -> bool:
        """Learn from the `n_done` steps of the segment so far; return whether the others are for another team."""
        began = self._began()
        if began is None:
            return False
        now, (n_noted, since), segment = self._clock(), self._noted, self._segment
        since = max(since, began)
        with _lock:
            record = self._record
            if segment.is_trial:
                expected = segment.n_steps * min(record.seconds.values(), default=self._guess)
                return now - began > LATE * max(expected, TRIAL_SECONDS)
            if now - since < WINDOW_SECONDS or n_done == n_noted:
                return False
            record.note(segment, n_done - n_noted, now - since, now)
            self._noted = n_done, now
            if self._available != self._share():
                return True
            n_left = self._n_left - n_done
            best = record.best(n_left)
            if best != segment.size and record.each(best) < WORTH_IT * record.each(segment.size):
                return True
            return record.trial(segment.size, n_left, self._trial_steps, now) is not None

    def end(self, n_done: int) -> None:
        """Learn from a segment that has ended after `n_done` steps."""
        began = self._began()
        if began is None:
            return
        now, (n_noted, since), segment = self._clock(), self._noted, self._segment
        seconds, n_steps = now - max(since, began), n_done - n_noted
        with _lock:
            if self._record.guess is None and n_steps:
                self._record.guess = seconds / n_steps
                self._record.add(seconds)
            elif segment.is_trial or (n_steps and (seconds > TRIAL_SECONDS / 2 or self._trial_steps is not None)):
                self._record.note(segment, n_steps, seconds, now)
            else:
                self._record.add(seconds)

    def late(self) -> float:
        """Return after how many seconds this segment takes unusually long; infinity if its size has not been tried."""
        size, n_steps, _ = self._segment
        return LATE * n_steps * (self._record.seconds if self._entered else {}).get(size, math.inf)

    def lost(self) -> bool:
        """Return whether another size is faster than that of the last segment."""
        seconds = self._record.seconds if self._entered else {}
        return bool(seconds) and self._segment.size != min(seconds, key=seconds.__getitem__)

    def _began(self) -> float | None:
        """Return when the last thread began; None if not all have."""
        began = 0.0
        for at in self._entered:
            if at is None:
                return None
            began = max(began, at)
        return began or None


ALONE = TeamSize(None, 1, 0.0, is_fixed=True)
"""One thread, for work that is not worth more."""


def forget() -> None:
    """Forget everything that has been measured."""
    _records.clear()


def _after_fork() -> None:
    """Forget a lock that another thread of the parent may hold."""
    global _lock
    _lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

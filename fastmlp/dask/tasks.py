"""The tasks of the workers for `fit_many`, each of which trains some of the networks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from multiprocessing.pool import ExceptionWithTraceback  # type: ignore[attr-defined]
from typing import Any, NamedTuple

import numpy as np
from dask.sizeof import sizeof
from distributed import Worker, get_worker
from distributed.protocol.pickle import dumps, loads

from fastmlp.engine.cores import Group
from fastmlp.fitting import check_data
from fastmlp.many.fit import Fits, checked, naming, prepared
from fastmlp.network import Network
from fastmlp.once import Once

__all__ = ["Job", "Place", "Shared", "Size", "pickled_sizes", "sizes", "stop", "train"]

_REPORT_SECONDS = 0.5  # between two messages about the progress of a task

_stopped: set[str] = set()  # calls whose networks stop after the current step
_groups: dict[str, Group] = {}  # of the tasks of each worker in this process


class Place(NamedTuple):
    """Stands for an argument that networks share: its place in `Shared`."""

    number: int


class Job(NamedTuple):
    """The fit of one network."""

    number: int
    net: Network
    arguments: dict[str, Any]


class Size(NamedTuple):
    """How long a fit takes: its `Trainer.cost` and number of steps."""

    cost: float
    n_steps: int


class Shared:
    """X, y and the other arguments that networks share. A worker has it once, and with it what was made of X.

    Parameters
    ----------
    X, y, *others
    """

    def __init__(self, *values: Any) -> None:
        self.values = tuple(map(_aligned, values))
        self.once, self.lock = Once(), threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Shared, self.values

    def __sizeof__(self) -> int:
        """Return the bytes that Dask expects to send."""
        return sum(map(sizeof, self.values))

    def arguments(self, job: Job) -> dict[str, Any]:
        """Return the arguments of a fit, with those that are shared."""
        return {name: self._found(value) for name, value in job.arguments.items()}

    def _found(self, value: Any) -> Any:
        if isinstance(value, Place):
            return self.values[value.number]
        return tuple(map(self._found, value)) if type(value) is tuple else value

    def prepared(self, jobs: Sequence[Job]) -> Fits:
        """Return the fits of some networks, ready to begin. Those of other tasks wait, since they need the same X."""
        X, y = self.values[:2]
        with self.lock:
            return Fits(prepared({job.number: (job.net, self.arguments(job)) for job in jobs}, X, y, self.once))


def _aligned(value: Any) -> Any:
    """Return an array as it is, or copied if it was received at an odd address: then nobody else needs to copy it."""
    return np.require(value, requirements="A") if type(value) is np.ndarray else value


def sizes(jobs: Iterable[Job], shared: Shared) -> list[Size]:
    """Check all arguments, and return how long each fit takes.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong.
    """
    X, y = shared.values[:2]
    found, once = [], Once()
    for job in jobs:
        with naming(job.number):
            fitting = checked(job.net, X, y, shared.arguments(job), once)
            fitting.trainer.prepare_schedule()
            check_data(job.net, X, y, names=fitting.names, once=once)  # which also looks for nan
        found.append(Size(fitting.trainer.cost, fitting.trainer.n_steps))
    return found


def pickled_sizes(jobs: Sequence[bytes], shared: Shared) -> list[Size]:
    """Do what `sizes` does, on a worker."""
    return sizes(map(loads, jobs), shared)


def stop(call: str) -> None:
    """Let all networks of a call stop after the current step, in this process."""
    _stopped.add(call)


def train(task: int, jobs: Sequence[bytes], shared: Shared, call: str, reports: bool) -> bytes | None:
    """Train some networks.

    Parameters
    ----------
    task : int
        Its number.
    jobs : list of bytes
        Pickled jobs.
    shared : Shared
    call : str
        Names the call of `fit_many`, and the topic of its messages.
    reports : bool
        Whether to send messages ``[task, ended fits, steps]``.

    Returns
    -------
    bytes or None
        A pickled dict of the networks by number, and `Outcome`. None if the call has been stopped before.
    """
    if call in _stopped:
        return None
    worker, listed = get_worker(), [loads(job) for job in jobs]
    fits = shared.prepared(listed)
    reported = time.monotonic()

    def look() -> None:
        nonlocal reported
        if call in _stopped:
            fits.stop()
        if reports and time.monotonic() > reported + _REPORT_SECONDS:
            reported = time.monotonic()
            worker.log_event(call, [task, *fits.progress()])

    fits.run(1, _group(worker), look)
    outcome = fits.outcome()
    outcome.errors = {i: _sendable(error) for i, error in outcome.errors.items()}
    begun = {job.number: job.net for job in listed if job.number not in outcome.waiting}
    pickled: bytes = dumps((begun, outcome))
    return pickled


def _group(worker: Worker) -> Group:
    """Return the group of the calls of a worker: as many cores as it has threads."""
    if worker.address not in _groups:
        _groups[worker.address] = Group(worker.state.nthreads)
    return _groups[worker.address]


def _sendable(error: BaseException) -> Any:
    """Return an error with its traceback as text, or what it says if it cannot be pickled."""
    with suppress(Exception):
        wrapped = ExceptionWithTraceback(error, error.__traceback__)
        loads(dumps(wrapped))
        return wrapped
    said = RuntimeError(f"{type(error).__name__}: {error}")
    for note in getattr(error, "__notes__", []):
        said.add_note(note)
    return ExceptionWithTraceback(said, error.__traceback__)

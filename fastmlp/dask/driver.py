"""`Driver`: the thread at the client that lets the workers of a cluster train many networks."""

from __future__ import annotations

import itertools
import time
import uuid
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import dask
from distributed import Client, Future, KilledWorker
from distributed.protocol.pickle import loads

from fastmlp.dask.sharing import on_cluster
from fastmlp.dask.tasks import Size, pickled_sizes, stop, train
from fastmlp.history import History
from fastmlp.many.outcome import Outcome
from fastmlp.network import Network

__all__ = ["Driver", "in_tasks"]

_POLL_SECONDS = 0.05
_ASK_SECONDS = 0.5  # between two questions to the scheduler
_PATIENCE = 20.0  # seconds without any worker, or without an answer of the scheduler
_ALLOWED_LOSSES = 3  # of all workers that have X, as in distributed.scheduler.allowed-failures
_ROOTISH = 2  # Dask gives tasks to any worker if there are more than so many for each thread
_PARTS = 4  # a task is about this part of what is left for a thread of a worker


class _GivenUp(Exception):
    """Nobody waits any more."""


class _Lost(Exception):
    """Workers were lost, and with them what only the client can send again."""


class Driver:
    """Lets the workers train networks, in a thread of its own that begins at once.

    It changes no network: whoever waits takes them from `trained`. If a worker is lost, Dask runs its tasks again on
    others, with the networks as they were sent, so bits do not depend on it.

    Parameters
    ----------
    client : Client
    jobs : list of bytes
        Pickled jobs.
    values : list
        The arguments of `Shared`.
    found : list of Size
        Of each fit, if the arguments have been checked. If it is empty, a worker checks them.
    reports : bool
        Whether workers report their progress.

    Attributes
    ----------
    trained : deque of (int, Network)
        Networks that have come back, with their numbers.
    outcome : Outcome
        Of the fits that have ended.
    sizes : list of Size
        Of each fit, once that is known; empty before.
    is_stopping : bool
        Whether `stop` has been called.
    """

    def __init__(
        self, client: Client, jobs: Sequence[bytes], values: Sequence[Any], found: list[Size], reports: bool
    ) -> None:
        self.trained: deque[tuple[int, Network]] = deque()
        self.outcome = Outcome({i: History() for i in range(len(jobs))})
        self.sizes, self.is_stopping = found, False
        self._client, self._jobs, self._values, self._reports = client, jobs, values, reports
        self._name = f"fastmlp-fit_many-{uuid.uuid4().hex}"
        self._running: dict[int, list[int]] = {}  # tasks: the numbers of their networks
        self._new_task = itertools.count()
        self._suspects: list[int] = []  # networks of tasks whose workers died again and again
        self._progress: dict[int, Sequence[int]] = {}  # of each task: fits that have ended, steps
        self._given_up, self._is_over, self._answered = False, False, time.monotonic()
        self._workers: dict[str, int] = {}  # as the scheduler said when it was last asked
        self._turn = itertools.count()  # of the workers that get X
        self._futures: Sequence[Future[Any]] = ()  # of tasks that somebody waits for
        self._shared: Sequence[Future[Any]] = ()  # what networks share
        self._errors: list[BaseException] = []
        self._over = allocate_lock()
        self._over.acquire()
        for work in (self._run, self._ask):
            Thread(target=work, name="fastmlp", daemon=True).start()

    def wait(self) -> bool:
        """Wait for a moment; return whether all is over."""
        return self._over.acquire(timeout=_POLL_SECONDS)

    def raise_error(self) -> None:
        """Raise what has ended all, if anything has."""
        if self._errors:
            raise self._errors.pop()

    def stop(self) -> None:
        """Let all networks stop after the current step."""
        self.is_stopping = True

    def give_up(self) -> None:
        """Forget all that is not over. This may be repeated."""
        self._given_up = True

    def progress(self) -> tuple[int, int]:
        """Return how many fits have ended, and how many steps have been taken, as far as is known."""
        known = list(self._progress.values())
        return sum(n_ended for n_ended, _ in known), sum(n_steps for _, n_steps in known)

    # --- in threads of their own --------------------------------------------------------------------------------------

    def _ask(self) -> None:
        """Ask the scheduler for workers, again and again; it may never answer."""
        while not self._is_over:
            with suppress(Exception):
                self._workers = self._client.nthreads()
                if self._workers:
                    self._answered = time.monotonic()
            time.sleep(_ASK_SECONDS)

    def _run(self) -> None:
        try:
            if self._reports:
                self._client.subscribe_topic(self._name, self._note)
            self._train_all()
        except BaseException as error:
            if self._client.status == "running" or isinstance(error, ConnectionError):
                self._errors.append(error)
            else:
                self._errors.append(self._lost_connection())
            _in_background(self._client.cancel, [*self._futures, *self._shared])  # frames of the error may keep them
            self._tell_to_stop()
        self._futures = self._shared = ()
        self._is_over = True
        self._over.release()
        if self._reports and self._client.status == "running":
            self._client.unsubscribe_topic(self._name)

    def _note(self, event: tuple[float, Sequence[int]]) -> None:
        task, *progress = event[1]
        if task in self._running:
            self._progress[task] = progress

    def _lost_connection(self) -> BaseException:
        return ConnectionError(f"the connection to the scheduler is lost: the client is {self._client.status}")

    def _watch(self) -> None:
        """Raise an error if there is nothing to wait for."""
        if self._given_up:
            raise _GivenUp
        if self._client.status != "running":
            raise self._lost_connection()
        if time.monotonic() > self._answered + _PATIENCE:
            raise TimeoutError(
                f"for {_PATIENCE:g} seconds there has been no worker, or the scheduler has not answered; "
                "client.wait_for_workers waits for workers that are yet to come"
            )

    def _call(self, work: Callable[..., Any], *args: Any, needs: Iterable[str] = ()) -> Any:
        """Return what `work` returns, which talks to the cluster and may wait for ever.

        It is abandoned when a worker is lost that it needs.
        """
        done: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

        def run() -> None:
            try:
                done.put((work(*args), None))
            except BaseException as error:
                done.put((None, error))

        Thread(target=run, name="fastmlp", daemon=True).start()
        while True:
            with suppress(Empty):
                result, error = done.get(timeout=_POLL_SECONDS)
                break
            self._watch()
            if any(address not in self._workers for address in needs):
                raise _Lost
        if isinstance(error, OSError | CancelledError):
            self._watch()
            raise _Lost from error
        if error is not None:
            raise error
        return result

    def _ended(self, futures: Sequence[Future[Any]]) -> Iterator[Future[Any]]:
        """Yield futures as they end."""
        self._futures, ended = futures, SimpleQueue[Any]()
        for future in futures:
            future.add_done_callback(ended.put)
        n_left, told = len(futures), 0.0
        while n_left:
            with suppress(Empty):
                yield ended.get(timeout=_POLL_SECONDS)
                n_left -= 1
            self._watch()
            if self.is_stopping and time.monotonic() > told + _ASK_SECONDS:
                self._tell_to_stop()  # again and again, since there may be new workers
                told = time.monotonic()

    def _result(self, future: Future[Any]) -> Any:
        """Return the result of a future that has ended, or raise its error."""
        if future.status == "error":
            raise self._call(future.exception)
        if future.status != "finished":
            raise _Lost
        return self._call(future.result)

    def _tell_to_stop(self) -> None:
        _in_background(lambda: self._client.run(stop, self._name, on_error="ignore"))

    # --- training -----------------------------------------------------------------------------------------------------

    def _train_all(self) -> None:
        tasks: list[list[int]] = []
        for _ in range(_ALLOWED_LOSSES + 1):
            with suppress(_Lost):
                shared = self._send()
                if not self.sizes:
                    self.sizes = self._checked(shared)
                workers: dict[str, int] = self._call(self._client.nthreads)
                n_threads = max(1, sum(workers.values()))
                tasks = tasks or in_tasks([size.cost for size in self.sizes], n_threads)
                if len(tasks) <= _ROOTISH * n_threads:
                    with suppress(_Lost):
                        self._call(self._spread, shared, min(len(tasks), len(workers)), needs=workers)
                tasks = self._train(tasks, shared)
                while self._suspects and not tasks:
                    tasks = self._train([[self._suspects.pop()]], shared, alone=True)
                if not tasks:
                    return
        raise RuntimeError(
            f"all workers that had X were lost, {_ALLOWED_LOSSES + 1} times in a row; their logs may say why, "
            "such as too little memory"
        )

    def _send(self) -> Future[Any]:
        """Send what networks share to some worker."""
        while not (workers := self._call(self._client.nthreads)):
            self._watch()
            time.sleep(_POLL_SECONDS)
        self._workers, address = workers, list(workers)[next(self._turn) % len(workers)]
        shared: Future[Any] = self._call(on_cluster, self._client, self._values, address, needs=[address])
        self._shared = (shared,)
        for future in self._ended([shared]):
            if future.status == "error":
                self._result(future)
            if future.status != "finished":
                raise _Lost
        return shared

    def _checked(self, shared: Future[Any]) -> list[Size]:
        """Let a worker check all arguments."""
        with _large_tasks():
            future = self._client.submit(pickled_sizes, self._jobs, shared, pure=False)
        (ended,) = self._ended([future])
        found: list[Size] = self._result(ended)
        return found

    def _spread(self, shared: Future[Any], n_workers: int) -> None:
        """Send what is shared to other workers, since Dask would give few tasks to those alone that have it."""
        with suppress(Exception):  # a worker that has not got it fetches it
            self._client.replicate([shared], n=n_workers)

    def _train(self, tasks: Sequence[list[int]], shared: Future[Any], alone: bool = False) -> list[list[int]]:
        """Train these networks, `alone` if one has been a suspect; return which are to be trained again."""
        if self.is_stopping:
            self.outcome.waiting.update(itertools.chain.from_iterable(tasks))
            return []
        again: list[list[int]] = []
        names = [next(self._new_task) for _ in tasks]
        self._running = dict(zip(names, tasks, strict=True))
        jobs = [[self._jobs[i] for i in numbers] for numbers in tasks]
        keys: dict[Any, int] = {(self._name, name): name for name in names}
        with _large_tasks():
            futures = self._client.map(
                train, names, jobs, shared=shared, call=self._name, reports=self._reports, key=list(keys), pure=False
            )
        for future in self._ended(futures):
            name = keys[future.key]
            numbers = self._running.pop(name)
            try:
                result = self._result(future)
            except _Lost:
                self._progress.pop(name, None)
                again.append(numbers)
            except KilledWorker as error:
                self._progress.pop(name, None)
                if alone:
                    error.add_note(f"in the fit of nets[{numbers[0]}]")
                    self.outcome.errors[numbers[0]] = error
                else:  # any task on these workers may have been the cause
                    self._suspects += numbers
            else:
                self._progress[name] = len(numbers), sum(self.sizes[i].n_steps for i in numbers)
                self._keep(numbers, result)
        return again

    def _keep(self, numbers: Sequence[int], result: bytes | None) -> None:
        """Keep what a task has returned."""
        if result is None:
            self.outcome.waiting.update(numbers)
            return
        nets, outcome = loads(result)
        self.outcome.add(outcome)
        self.trained.extend(nets.items())


def in_tasks(costs: Sequence[float], n_threads: int) -> list[list[int]]:
    """Return the numbers of the fits of each task, the longest fits first.

    The first tasks are large, so that many small fits need few. The last ones are single fits, so that all threads end
    at about the same time.
    """
    left, tasks, task, taken = sum(costs), list[list[int]](), list[int](), 0.0
    for i in sorted(range(len(costs)), key=lambda i: -costs[i]):
        task.append(i)
        taken += costs[i]
        if taken >= left / (_PARTS * n_threads):
            tasks.append(task)
            left, task, taken = left - taken, [], 0.0
    return tasks + [task] * bool(task)


def _large_tasks() -> AbstractContextManager[Any]:
    """Let tasks have large arguments: the scheduler keeps the networks, for the case that workers are lost."""
    config: AbstractContextManager[Any] = dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"})
    return config


def _in_background(call: Callable[..., Any], *args: Any) -> None:
    """Call a function of Dask, which may wait for ever; nobody waits for it."""

    def run() -> None:
        with suppress(Exception):
            call(*args)

    Thread(target=run, name="fastmlp", daemon=True).start()

"""`Shards`: the actors that hold the rows on the workers, seen from the client. They survive the loss of workers."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from _thread import LockType, allocate_lock
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, cast

from distributed import Actor, CancelledError, Client

from fastmlp.dask.partitions import Description, Partition, describe, on_cluster
from fastmlp.dask.shard import Shard, Twin

__all__ = ["Shards", "Stopped"]

_LOST = "the scheduler is lost"
_POLL_SECONDS = 0.05
_SECONDS_TO_REACH = 2.0
_QUESTIONS = 5  # to the scheduler, until an answer
_PATIENCE = 25.0  # seconds without any worker, or without an answer from a worker that is there
_SAMPLED = 2000  # rows that the client gets to see, for what is said of a fit that has learned nothing
_ALLOWED_LOSSES = 3  # of one shard, as in distributed.scheduler.allowed-failures


class _WorkerLost(Exception):
    """A worker is lost that was about to get rows."""


class Stopped(Exception):
    """Raised by `call` when it is asked to stop."""


class Shards:
    """The shards of all rows.

    Bits never depend on which worker has a shard: its replies follow from what it is asked alone. So when a worker is
    lost, its shards are made again on others, and are asked again.

    Parameters
    ----------
    client : Client
    partitions : list of Partition
    """

    def __init__(self, client: Client, partitions: Sequence[Partition]) -> None:
        self._client, self._partitions = client, partitions
        self._groups: Sequence[Sequence[int]] = ()
        self._ready: list[Partition] | None = None
        self._futures: dict[int, Any] = {}
        self._actors: dict[int, Any] = {}
        self._workers: dict[int, str] = {}
        self._losses: dict[int, int] = {}
        self._turn = itertools.count()  # of the workers that get rows
        self._reachable: dict[str, bool] = {}  # workers, by their addresses
        self._prepared: list[tuple[str, tuple[Any, ...]]] = []  # calls that a new shard needs before others

    def __len__(self) -> int:
        return len(self._groups)

    def describe(self, has_classes: bool) -> list[Description]:
        """Compute the partitions, and describe each."""
        for _ in range(1 + _ALLOWED_LOSSES):
            try:
                self._ready = on_cluster(self._client, self._partitions, self._send)
            except _WorkerLost:
                continue
            asked = [(i, *one, has_classes) for i, one in enumerate(self._ready)]
            futures = [self._client.submit(describe, *arguments, pure=False) for arguments in asked]
            self._wait(futures)
            if all(future.status in ("finished", "error") for future in futures):  # others are lost with a worker
                with suppress(CancelledError):
                    described: list[Description] = self._client.gather(futures)
                    self._n_rows = [one.n_rows for one in described]
                    return described
        raise RuntimeError(f"partitions were lost {1 + _ALLOWED_LOSSES} times: workers have died, or data are lost")

    def make(self, twin: Twin, groups: Sequence[Sequence[int]]) -> None:
        """Let each group of partitions be a shard."""
        self._twin, self._groups = twin, groups
        self._every = -(-sum(self._n_rows) // _SAMPLED)

    def prepare(self, method: str, *args: Any) -> list[Any]:
        """Call a method of all shards; those that will take the place of lost ones are called then."""
        replies = self.call(method, [args] * len(self))
        self._prepared.append((method, args))
        return replies

    def forget_data(self) -> None:
        """Let the workers forget the partitions, of which the shards have made what they need."""
        self._ready = None

    def call(self, method: str, args: Sequence[tuple[Any, ...]], go_on: Callable[[], bool] = lambda: True) -> list[Any]:
        """Call a method of each shard with arguments of its own, and return the replies in order.

        Raises
        ------
        Stopped
            If `go_on`, which is called now and then, returns False.
        ConnectionError
            If the scheduler is lost.
        TimeoutError
            If all workers are.
        RuntimeError
            If a shard has been lost several times.
        """
        replies: dict[int, Any] = {}
        while left := [i for i in range(len(self)) if i not in replies]:
            missing = [i for i in left if i not in self._actors]
            if missing:
                self._create(missing, go_on)
                for earlier, same in self._prepared:
                    self._ask(earlier, {i: same for i in missing if i in self._actors}, go_on)
            replies |= self._ask(method, {i: args[i] for i in left if i in self._actors}, go_on)
        return [replies[i] for i in range(len(self))]

    def close(self) -> None:
        """End all calls, and let the workers forget the shards. This may be repeated."""
        end = time.monotonic() + 1
        if self._client.status == "running":
            with suppress(Stopped, OSError, RuntimeError):
                self._ask("stop", dict.fromkeys(self._actors, ()), lambda: time.monotonic() < end)
            with suppress(OSError):
                self._client.cancel(list(self._futures.values()))  # frames of an error may still refer to them
        self._actors.clear()
        self._futures.clear()

    # --- one attempt --------------------------------------------------------------------------------------------------

    def _ask(self, method: str, args: dict[int, tuple[Any, ...]], go_on: Callable[[], bool]) -> dict[int, Any]:
        """Return the replies of those shards that are not lost meanwhile; the others are forgotten."""
        outcomes: dict[int, Any] = {}
        over, loop = _locked(), cast(Any, self._client.loop)

        asked = {i: self._actors[i] for i in args if self._is_there(i)}

        async def ask(i: int, actor: Any) -> None:
            try:
                outcomes[i] = await (actor.stop() if method == "stop" else actor.do(method, *args[i]))
            except Exception as error:
                outcomes[i] = _Failed(error)

        async def ask_all() -> None:
            await asyncio.gather(*(ask(i, actor) for i, actor in asked.items()))
            over.release()

        loop.add_callback(ask_all)
        while asked and not over.acquire(timeout=_POLL_SECONDS):
            if not go_on():
                raise Stopped
            self._check_connection()
            if all(i in outcomes or not self._is_there(i) for i in asked):
                break
        replies = {}
        for i in args:
            reply = outcomes.get(i)
            if isinstance(reply, _Failed) and self._is_there(i) and not isinstance(reply.error, OSError):
                raise reply.error
            if i in outcomes and not isinstance(reply, _Failed):
                replies[i] = reply
            else:
                self._forget(i, reply.error if isinstance(reply, _Failed) else None)
        return replies

    def _is_there(self, i: int) -> bool:
        return i in self._futures and self._futures[i].status == "finished"

    def _forget(self, i: int, error: Exception | None) -> None:
        self._check_connection()
        self._ready = None  # some may have been on the lost worker alone
        self._actors.pop(i, None)
        self._futures.pop(i, None)
        self._losses[i] = losses = self._losses.get(i, 0) + 1
        if losses > _ALLOWED_LOSSES:
            raise RuntimeError(
                f"shard {i} of {len(self)} was lost {losses} times: its workers have died, perhaps for lack of memory, "
                "or its data are lost and cannot be computed again"
            ) from error

    def _check_connection(self) -> None:
        if self._client.status != "running":
            raise ConnectionError(f"{_LOST}: the client is {self._client.status}")

    def _in_loop(self, call: Callable[[], Any], look: Callable[[], object]) -> Any:
        """Return what a coroutine returns. It may wait too long, so `look` is called now and then, and may raise."""
        outcome: list[Any] = []
        over, loop = _locked(), cast(Any, self._client.loop)

        async def run() -> None:
            try:
                outcome.append(await call())
            except Exception as error:
                outcome.append(_Failed(error))
            over.release()

        loop.add_callback(run)
        while not over.acquire(timeout=_POLL_SECONDS):
            look()
        if isinstance(outcome[0], _Failed):
            raise outcome[0].error
        return outcome[0]

    def _asked(self, question: Callable[[], Any]) -> Any:
        """Return the scheduler's answer. It has none for a moment if it was about to ask a worker that has died."""
        for attempt in range(_QUESTIONS):
            self._check_connection()
            try:
                return self._in_loop(question, self._check_connection)
            except ConnectionError:
                raise
            except OSError as error:
                if attempt == _QUESTIONS - 1:
                    raise ConnectionError(f"{_LOST}: {error}") from error
                time.sleep(2**attempt * _POLL_SECONDS)
        raise AssertionError

    # --- new shards ---------------------------------------------------------------------------------------------------

    def _create(self, shards: Sequence[int], go_on: Callable[[], bool]) -> None:
        """Make these shards on the workers that have the fewest for their threads."""
        threads = self._threads(go_on)
        load = {address: sum(self._workers[i] == address for i in self._actors) for address in threads}
        for i in shards:
            address = self._workers[i] = min(load, key=lambda one: (load[one] + 1) / threads[one])
            load[address] += 1
        for i in shards:
            address, group = self._workers[i], self._groups[i]
            ready = self._ready or self._partitions
            try:
                send = partial(self._send, address=address, go_on=go_on)
                rows = on_cluster(self._client, [ready[number] for number in group], send)
            except _WorkerLost:
                self._forget(i, None)
                continue
            self._futures[i] = self._client.submit(
                Shard,
                self._twin,
                i,
                max(1, threads[address] // load[address]),
                self._every,
                group,
                *([getattr(one, name) for one in rows] for name in Partition._fields),
                actor=True,
                workers=[address],
                allow_other_workers=True,
                pure=False,
                key=f"fastmlp-shard-{i}-{uuid.uuid4().hex}",
            )
        created = [i for i in shards if i in self._futures]
        self._wait([self._futures[i] for i in created], go_on)
        for i in created:
            self._bind(i)

    def _send(self, block: Any, address: str | None = None, go_on: Callable[[], bool] = lambda: True) -> Any:
        """Bring a block of this process to a worker, by default to each in turn, and return its future.

        `Client.scatter` can wait for minutes for a worker that has died, or return a future of data that nobody has.

        Raises
        ------
        _WorkerLost
            If the worker is lost meanwhile.
        """
        if address is None:
            address = list(workers := self._threads(go_on))[next(self._turn) % len(workers)]

        def look() -> None:
            if address not in self._threads(go_on):
                raise _WorkerLost

        try:
            sent = self._in_loop(lambda: self._client.scatter([block], workers=[address], hash=False), look)
        except (OSError, KeyError) as error:  # as the scheduler finds out
            self._check_connection()
            raise _WorkerLost from error
        if not any(self._asked(lambda: self._client.who_has(sent)).values()):
            raise _WorkerLost
        return sent[0]

    def _bind(self, i: int) -> None:
        """Get hold of a new shard, or forget it if it is lost already."""
        future = self._futures[i]
        if future.status == "finished":
            places = self._asked(lambda: self._client.who_has([future]))
            for address in places.get(future.key, ()):
                self._workers[i] = address
                kind: Any = _DirectActor if self._is_reachable(address) else Actor
                with self._client.as_current():  # an actor belongs to the client that is current
                    self._actors[i] = kind(Shard, address, future.key)
                return
        elif future.status == "error" and not _is_loss(error := future.exception()):
            raise error
        self._forget(i, None)

    def _is_reachable(self, address: str) -> bool:
        """Return whether the client may and can talk to a worker itself, rather than through the scheduler."""

        async def ask() -> None:
            await asyncio.wait_for(self._client.rpc(address).identity(), _SECONDS_TO_REACH)

        if address not in self._reachable:
            self._reachable[address] = self._client.direct_to_workers is not False
            if self._client.direct_to_workers is None:
                try:
                    self._client.sync(ask)
                except (TimeoutError, OSError):
                    self._reachable[address] = False
        return self._reachable[address]

    def _wait(self, futures: Sequence[Any], go_on: Callable[[], bool] = lambda: True) -> None:
        """Wait until nothing is pending; what a lost worker was about to compute is computed by another."""
        pause = _POLL_SECONDS / 16
        while any(future.status == "pending" for future in futures):
            self._threads(go_on)
            time.sleep(pause)
            pause = min(2 * pause, _POLL_SECONDS)

    def _threads(self, go_on: Callable[[], bool]) -> dict[str, int]:
        """Return how many threads each worker has; wait for workers if there are none."""
        end = time.monotonic() + _PATIENCE
        while True:
            self._check_connection()
            if not go_on():
                raise Stopped
            threads: dict[str, int] = self._asked(self._client.nthreads)
            if threads:
                return threads
            if time.monotonic() > end:
                raise TimeoutError(f"the cluster has had no worker for {_PATIENCE:g} seconds")
            time.sleep(_POLL_SECONDS)


class _DirectActor(Actor):
    """An actor that the client talks to without the scheduler, which saves a third of the time."""

    @property
    def _worker_rpc(self) -> Any:
        return super()._worker_rpc if self._client is None else self._client.rpc(self._address)


class _Failed:
    """An error in place of a reply."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _is_loss(error: BaseException | None) -> bool:
    """Return whether an error says that a worker was lost with its actor, which has no class of its own."""
    return isinstance(error, RuntimeError) and "Actor was lost" in str(error)


def _locked() -> LockType:
    lock = allocate_lock()
    lock.acquire()
    return lock

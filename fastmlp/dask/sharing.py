"""Which arguments of many fits are sent to each worker once, and how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dask.base import is_dask_collection
from dask.sizeof import sizeof
from distributed import Client, Future
from distributed.comm.addressing import get_address_host

from fastmlp.dask.tasks import Place, Shared

__all__ = ["is_remote", "on_cluster", "shared_values"]

_SMALL = 10_000  # bytes that may be sent with each network


def is_remote(value: Any) -> bool:
    """Return whether the cluster has this, or can compute it."""
    return isinstance(value, Future) or bool(is_dask_collection(value))


def shared_values(X: Any, y: Any, arguments: Sequence[Mapping[str, Any]]) -> tuple[list[Any], list[dict[str, Any]]]:
    """Return what networks share, and the arguments of each fit with a `Place` for what is shared.

    These are X, y, what the cluster has, and large objects that are arguments of several fits.
    """
    values, places = [X, y], {id(X): Place(0), id(y): Place(1)}
    counts: Counter[int] = Counter()

    def count(value: Any) -> Any:
        counts[id(value)] += 1
        return value

    def move(value: Any) -> Any:
        if id(value) not in places:
            if not is_remote(value) and (counts[id(value)] == 1 or sizeof(value) <= _SMALL):
                return value
            places[id(value)] = Place(len(values))
            values.append(value)
        return places[id(value)]

    for own in arguments:
        _each(own, count)
    return values, [_each(own, move) for own in arguments]


def _each(arguments: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """Return the arguments of a fit, each changed; validation data are changed one by one."""
    changed = {}
    for name, value in arguments.items():
        parts = name == "validation_data" and isinstance(value, (tuple, list))
        changed[name] = tuple(map(change, value)) if parts else change(value)
    return changed


def on_cluster(client: Client, values: Sequence[Any], address: str) -> Future[Any]:
    """Return the future of a `Shared` of these values. Those of this process go to the worker with this address.

    Raises
    ------
    RuntimeError
        If one of them is a future that is lost.
    OSError
        If the worker is lost. Before that, `Client.scatter` may wait for it for minutes.
    """
    scheduler: Any = client.scheduler
    here = get_address_host(scheduler.address) in ("127.0.0.1", "::1")  # so are all workers, which can be reached then

    def sent(value: Any) -> Any:
        if isinstance(value, Future):
            if value.cancelled():
                raise RuntimeError(f"the data of {value.key} are lost, with a worker or because they were cancelled")
            return value
        if is_dask_collection(value):
            return client.compute(value)
        try:
            (future,) = client.scatter([value], workers=[address], hash=False, direct=here or None)
        except KeyError as error:  # as the scheduler finds out
            raise OSError(f"the worker {address} is lost") from error
        if not any(client.who_has([future]).values()):
            raise OSError(f"the worker {address} is lost with what it was sent")
        return future

    return client.submit(Shared, *map(sent, values), pure=False)

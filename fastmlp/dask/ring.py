"""`Ring`: sums and means over all shards, by the all-reduce of xgboost, without the client. It runs on the workers.

The package is `xgboost` or `xgboost-cpu`. A group of shards belongs to the thread that has joined it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.dask.vectors import average

__all__ = ["Broken", "Ring", "Tracker"]

_SECONDS = 20
"""What a ring waits for a shard, when it begins and in a step. A worker that dies breaks it at once."""

_RETRIES = 1
"""Of a connection. Each takes seconds, in vain where the first shard has died, to which all say goodbye."""

_SECONDS_TO_LEAVE = 1

_GATHERED_BYTES = 2**22  # at once, from all shards


class Broken(Exception):
    """The other shards are not there, or no longer."""


class Tracker:
    """Brings the shards together.

    Parameters
    ----------
    n_shards : int
    host : str
        Of this worker, as the others know it.

    Attributes
    ----------
    settings : dict
        What the shards need to join.
    """

    def __init__(self, n_shards: int, host: str) -> None:
        from xgboost.tracker import RabitTracker

        self._tracker = RabitTracker(n_shards, host, sortby="task", timeout=_SECONDS)
        self._tracker.start()
        self.settings: dict[str, Any] = self._tracker.worker_args()

    def close(self) -> None:
        """End it, when all have left."""
        with suppress(Exception):  # some have died
            self._tracker.wait_for(_SECONDS_TO_LEAVE)
        with suppress(Exception):
            self._tracker.free()


class Ring:
    """The place of a shard among the others; ranks are the numbers of the shards.

    Parameters
    ----------
    settings : dict
        Of the tracker.
    index : int
        Number of the shard.

    Attributes
    ----------
    settings : dict

    Raises
    ------
    Broken
        If not all shards have come.
    """

    def __init__(self, settings: dict[str, Any], index: int) -> None:
        from xgboost import collective, core

        self._collective, self._error = collective, core.XGBoostError
        try:
            collective.init(**settings, dmlc_task_id=f"{index:09d}", dmlc_timeout=_SECONDS, dmlc_retry=_RETRIES)
        except self._error as error:
            raise Broken from error
        self.settings, self._index, self._n_shards = settings, index, collective.get_world_size()

    def sum(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the sum over all shards, the same bits for each.

        Raises
        ------
        Broken
            If another shard is lost.
        """
        return self._reduced(array, self._collective.Op.SUM)

    def mean(self, vector: Floats, weight: float, goes_on: bool) -> Floats | None:
        """Return the mean of the vectors of all shards, as `average` does, or None if a shard does not go on.

        Raises
        ------
        Broken
            If another shard is lost.
        """
        own, means, header = np.array([weight, goes_on]), list[npt.NDArray[np.float64]](), np.zeros((0, 2))
        for gathered in self._gathered(np.concatenate([own.view(np.uint32), vector.view(np.uint32)])):
            words = gathered
            if not means:
                header, words = words[:, :4].copy().view(np.float64), words[:, 4:]
                if not header[:, 1].all():
                    return None
            means.append(average(list(words.view(vector.dtype)), header[:, 0].tolist()))
        return np.concatenate(means).astype(vector.dtype)

    def _gathered(self, words: npt.NDArray[np.uint32]) -> Iterator[npt.NDArray[np.uint32]]:
        """Yield the words of all shards, (n_shards, k), in pieces. Each adds its own to zeros, which changes no bit."""
        size = max(8, _GATHERED_BYTES // (4 * self._n_shards) // 2 * 2)  # even: no piece ends within a number
        for start in range(0, len(words), size):
            piece = words[start : start + size]
            slots = np.zeros((self._n_shards, len(piece)), np.uint32)
            slots[self._index] = piece
            yield self._reduced(slots, self._collective.Op.BITWISE_OR).reshape(slots.shape)

    def broadcast(self, value: Any) -> Any:
        """Return the value of the first shard."""
        try:
            return self._collective.broadcast(value, 0)
        except self._error as error:
            raise Broken from error

    def _reduced(self, array: npt.NDArray[Any], op: Any) -> npt.NDArray[Any]:
        try:
            total: npt.NDArray[Any] = self._collective.allreduce(array, op)
        except self._error as error:
            raise Broken from error
        return total

    def close(self) -> None:
        """Leave the others."""
        with suppress(Exception):
            self._collective.finalize()

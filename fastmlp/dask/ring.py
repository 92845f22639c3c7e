"""`Ring`: sums and means over all shards, by the all-reduce of xgboost, without the client. It runs on the workers.

The package is `xgboost` or `xgboost-cpu`. A group of shards belongs to the thread that has joined it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.dask.vectors import average

__all__ = ["Broken", "Ring", "Tracker", "Vote"]

_SECONDS = 20
"""What a ring waits for a shard, when it begins and in a step. A worker that dies breaks it at once."""

_RETRIES = 1
"""Of a connection. Each takes seconds, in vain where the first shard has died, to which all say goodbye."""

_SECONDS_TO_LEAVE = 1

_GATHERED_BYTES = 2**22  # at once, from all shards


class Broken(Exception):
    """The other shards are not there, or no longer."""


class Vote(IntEnum):
    """What a shard wants to do with a mean. The lowest of all votes counts."""

    DROP = 0  # what it has is not to be averaged: a loss is bad, or somebody has stopped it
    RETURN = 1  # the mean is to be the last one of this call
    GO_ON = 2


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
        self._kept = np.zeros((0, 0), np.uint32)

    def sum(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the sum over all shards, the same bits for each.

        Raises
        ------
        Broken
            If another shard is lost.
        """
        return self._reduced(array, self._collective.Op.SUM)

    def mean(self, vector: Floats, weight: float, vote: Vote) -> Vote:
        """Make a vector the mean of those of all shards, see `average`, unless one drops it; return the lowest vote.

        Raises
        ------
        Broken
            If another shard is lost.
        """
        words, header = vector.view(np.uint32), np.array([weight, vote]).view(np.uint32)
        n = len(header)
        own, slots = self._memory(n, len(words))
        size = len(own) - n
        for start in range(0, len(words), size):
            piece = words[start : start + size]
            own[:n], own[n : n + len(piece)] = header, piece
            vectors = self._gathered(own, slots)
            weights, votes = np.array([one[:n] for one in vectors]).view(np.float64).T.tolist()
            vote = Vote(min(votes))
            if vote == Vote.DROP:
                break
            numbers = [one[n : n + len(piece)].view(vector.dtype) for one in vectors]
            average(numbers, weights, out=piece.view(vector.dtype))
        return vote

    def _memory(self, n_header: int, n_words: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
        """Return arrays for words of this shard, and for what all shards combine.

        They are kept: new memory would cost more time than the all-reduce. All pieces of a vector have the same size,
        which is even, so that none ends within a number.
        """
        n_pieces = -(-4 * self._n_shards * n_words // _GATHERED_BYTES)
        shape = self._n_shards, n_header + -(-n_words // n_pieces // 2) * 2
        if self._kept.shape != shape:
            self._kept = np.zeros(shape, np.uint32)
        return self._kept[0], self._kept[1:]

    def _gathered(self, own: npt.NDArray[np.uint32], slots: npt.NDArray[np.uint32]) -> Sequence[npt.NDArray[np.uint32]]:
        """Return the words of each shard; `own` changes.

        Each slot is for one of the others than the first shard. It becomes its words XOR those of the first one.
        """
        slots[self._index - 1 if self._index else slice(None)] = own
        total = self._reduced(slots, self._collective.Op.BITWISE_XOR).reshape(slots.shape)
        if self._index:
            own ^= total[self._index - 1]
        total ^= own
        return [own, *total]

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

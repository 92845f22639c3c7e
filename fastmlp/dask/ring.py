"""`Ring`: sums of arrays over all shards, by the all-reduce of xgboost, without the client. It runs on the workers.

The package is `xgboost` or `xgboost-cpu`. A group of shards belongs to the thread that has joined it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy.typing as npt

__all__ = ["Broken", "Ring", "Tracker"]

_SECONDS = 20
"""What a ring waits for a shard, when it begins and in a step. A worker that dies breaks it at once."""


_SECONDS_TO_LEAVE = 1


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

    Raises
    ------
    Broken
        If not all shards have come.
    """

    def __init__(self, settings: dict[str, Any], index: int) -> None:
        from xgboost import collective, core

        self._collective, self._error = collective, core.XGBoostError
        try:
            collective.init(**settings, dmlc_task_id=f"{index:09d}", dmlc_timeout=_SECONDS)
        except self._error as error:
            raise Broken from error

    def sum(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the sum over all shards, the same bits for each.

        Raises
        ------
        Broken
            If another shard is lost.
        """
        try:
            total: npt.NDArray[Any] = self._collective.allreduce(array, self._collective.Op.SUM)
            return total
        except self._error as error:
            raise Broken from error

    def close(self) -> None:
        """Leave the others."""
        with suppress(Exception):
            self._collective.finalize()

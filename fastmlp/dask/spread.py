"""`SpreadRows`: the rows of a fit, from the collections that a user passes to the shards that train on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from distributed import Client

from fastmlp.activations import Floats
from fastmlp.dask.averaging import LocalSGD, OnShards
from fastmlp.dask.clients import check_is_open
from fastmlp.dask.partitions import divide, in_groups, stacked
from fastmlp.dask.shard import Rows, Twin
from fastmlp.dask.shards import Shards
from fastmlp.dask.synchronous import SynchronousSGD
from fastmlp.engine.base import NO_CLIPPING, Clipping
from fastmlp.names import Names
from fastmlp.network import Network
from fastmlp.optimizers import SGD, Optimizer
from fastmlp.validation.settings import check_int

__all__ = ["SpreadRows"]


class SpreadRows:
    """The rows of a fit.

    Attributes
    ----------
    n_rows : int
        Known when `look` has returned.

    Parameters
    ----------
    client : Client
    X, y, sample_weight, average_every, n_shards
        As for `fastmlp.dask.fit`.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong.
    """

    def __init__(
        self, client: Client, X: Any, y: Any, sample_weight: Any, average_every: Any, n_shards: int | None
    ) -> None:
        if not isinstance(client, Client) or client.asynchronous:
            raise TypeError(f"client must be a synchronous distributed.Client, not {client!r}")
        check_is_open(client)
        if average_every not in ("epoch", "step"):
            average_every = check_int('average_every, unless it is "epoch" or "step",', average_every, 1)
        if n_shards is None:
            n_shards = sum(client.nthreads().values()) or 1
        self._average_every, self._n_shards = average_every, check_int("n_shards", n_shards, 1)
        self._shards = Shards(client, divide(X, y, sample_weight, self._n_shards))

    def look(self, has_classes: bool) -> tuple[Any, Any]:
        """Return a row of X (1, I), and of y one label of each class, or one row.

        Raises
        ------
        ValueError
            If there are no rows.
        """
        described = self._shards.describe(has_classes)
        self._groups = in_groups([one.n_rows for one in described], self._n_shards)
        self.n_rows = sum(one.n_rows for one in described)
        if not self._groups:
            raise ValueError("X is empty: no partition has rows")
        full = [one for one in described if one.n_rows]
        y = full[0].y
        if has_classes and isinstance(y, np.ndarray) and y.ndim == 1:
            y = np.unique(np.concatenate([one.y for one in full]))
        return full[0].X, y

    def prepare(
        self,
        net: Network,
        names: Names,
        optimizer: Optimizer,
        clipping: Clipping,
        class_weight: Callable[[npt.NDArray[np.int64]], Floats | None],
    ) -> None:
        """Bring the rows to the workers, check them, and prepare training.

        Parameters
        ----------
        net : MLP
        names : Names
        optimizer : Optimizer
        clipping : Clipping
        class_weight : function
            Returns the weights of the classes, of which there are so many rows.
        """
        settings = net._settings()
        if self._average_every == "step":  # shards compute gradients; the client adds the penalty, and clips
            settings, optimizer, clipping = settings | {"l2": 0.0}, SGD(), NO_CLIPPING
        self._shards.make(Twin(settings, names), self._groups)
        of_classes = class_weight(sum(self._shards.prepare("check")))
        self._rows: list[Rows] = self._shards.prepare("prepare", optimizer, clipping, of_classes)
        self._shards.forget_data()
        total = sum(some.weight for some in self._rows)
        if not 0 < total < np.inf:
            advice = "make them smaller" if total else "some must be more than 0"
            raise ValueError(f"the weights of all rows add up to {total}; {advice}")

    def for_trainer(self, net: Network, shuffle: bool) -> dict[str, Any]:
        """Return arguments of a trainer that is a `Spread`."""
        rows, every = self._rows, self._average_every
        engine: OnShards
        if every == "step":
            engine = SynchronousSGD(net._engine, self._shards, rows)
        else:
            engine = LocalSGD(net._engine, self._shards, rows, None if every == "epoch" else every, shuffle)
        X, y = stacked([some.X for some in rows]), stacked([some.y for some in rows])
        weights = None if rows[0].weights is None else stacked([some.weights for some in rows])
        return {"engine": engine, "X": X, "y": y, "row_weights": weights, "shards": rows}

    def close(self) -> None:
        """Let the workers forget the rows. This may be repeated."""
        self._shards.close()

"""`fit`: one network, trained on rows that are spread over the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from distributed import Client

from fastmlp.activations import Floats
from fastmlp.callbacks import gather_callbacks
from fastmlp.dask.averaging import Spread
from fastmlp.dask.partitions import gathered
from fastmlp.dask.spread import SpreadRows
from fastmlp.engine.compiled import CompiledEngine
from fastmlp.fitting import Fitting, beginning, check_arrays
from fastmlp.history import History
from fastmlp.interrupts import finish
from fastmlp.losses import Targets
from fastmlp.metrics import Metric, check_metrics
from fastmlp.names import Names
from fastmlp.network import Network
from fastmlp.optimizers import Optimizer
from fastmlp.options import OptimizerName, ScheduleName
from fastmlp.schedules import Schedule, get_schedule
from fastmlp.training import check_clipping
from fastmlp.validation.calls import advised, warn
from fastmlp.validation.rows import balanced, check_class_weight
from fastmlp.validation.settings import check_bool, check_int

__all__ = ["fit"]


@advised
def fit(
    client: Client,
    net: Network,
    X: Any,
    y: Any,
    *,
    epochs: int = 10,
    batch_size: int = 64,
    average_every: Literal["epoch", "step"] | int = "epoch",
    n_shards: int | None = None,
    learning_rate: float | None = None,
    optimizer: OptimizerName | Optimizer | None = None,
    schedule: ScheduleName | Schedule | Callable[[int], float] | None = None,
    sample_weight: Any = None,
    class_weight: Literal["balanced"] | Mapping[Any, float] | npt.ArrayLike | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    validation_data: tuple[Any, ...] | None = None,
    metrics: Iterable[str | Metric] = (),
    shuffle: bool = True,
    progress: bool = False,
    callbacks: Iterable[object] = (),
    resume: bool = False,
) -> History:
    """Train a network on rows that stay on the workers of a cluster.

    Neighbouring partitions of X form `n_shards` shards. A worker holds each shard and trains on it. The client keeps
    the parameters, evaluates validation data, calls callbacks and decides when to stop, as `MLP.fit` does. If the
    workers have xgboost, they average parameters among themselves, for up to half a second without the client.

    Parameters
    ----------
    client : distributed.Client
        Client of the cluster.
    net : MLP
        Network to train in place.
    X : (n, I) Dask array or dataframe, list of delayed blocks, futures or arrays, or array_like
        Blocks are what `MLP.fit` takes as X: arrays, tables or sparse matrices. An X in memory is divided equally, and
        is sent to the workers once.
    y : (n,) or (n, C) of the same kinds
        Divided like X. Classes are learned from all partitions.
    epochs : int, default=10
        Number of passes over the rows.
    batch_size : int, default=64
        Rows per step, over all shards together, so that an epoch has as many steps as with `MLP.fit`. Steps with fewer
        than about 30 rows per shard are slow; larger batches need a larger `learning_rate`.
    average_every : "epoch", int or "step", default="epoch"
        How the shards work together.

        - "epoch" or a number of steps, local SGD: each shard trains like a process of its own. After so many steps, and
          at the end of each epoch, parameters and the optimizer's state become the means of those of the shards,
          weighted by their rows. Little is sent, but a parameter sees the other shards' rows late.
        - "step", exact SGD: the gradient of each step is the mean over one batch from all shards. It is what
          `MLP.fit` computes, with the same batches, up to the rounding of sums. Each step sends all parameters and
          all gradients, so batches must be large.
    n_shards : int or None, default=None
        Number of shards, at most one for each partition with rows. None is the number of threads of all workers.
    learning_rate, optimizer, schedule, class_weight, clip_norm, clip_value, metrics, shuffle, progress, callbacks, \
resume : optional
        As for `MLP.fit`.
    sample_weight : (n,) of the kinds of y, or None, default=None
        Weight of each row's loss.
    validation_data : (X, y), (X, y, sample_weight) or None, default=None
        Arrays, or Dask collections, which are fetched by the client. They are evaluated there after each epoch.

    Returns
    -------
    History
        As of `MLP.fit`. Losses of local SGD are measured before each step, by the parameters of the row's shard.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong. The network is unchanged.
    FloatingPointError
        If a loss is nan or infinite.
    ConnectionError
        If the scheduler is lost.
    TimeoutError
        If the cluster has no workers for 25 seconds.
    RuntimeError
        If a shard was lost several times with its worker, or the network is already being trained.

    Notes
    -----
    The result depends on the partitions and on `n_shards`, but not on which workers hold them. If a worker is lost, its
    shards are computed again on other workers, and training resumes from the last average, bit-identically. Data that
    only the lost worker had, such as scattered futures, cannot be recovered.

    After Ctrl-C, and after errors during training, the network has the last averaged parameters that the client
    received.

    Without callbacks and validation data, `history.seconds` are means over many epochs.
    """
    if not isinstance(net, Network) or not isinstance(net._engine, CompiledEngine):
        raise TypeError(f"net must be a network, e.g. MLP([784, 128, 10]), not {net!r}")
    epochs, batch_size = check_int("epochs", epochs, 1), check_int("batch_size", batch_size, 1)
    shuffle, resume = check_bool("shuffle", shuffle), check_bool("resume", resume)
    clipping, schedule = check_clipping(clip_norm, clip_value), get_schedule(schedule)
    callbacks = gather_callbacks(callbacks, check_bool("progress", progress))
    state, history = beginning(net, optimizer, learning_rate, schedule, resume)
    spread = SpreadRows(client, X, y, sample_weight, average_every, n_shards)

    def train() -> Fitting:
        names = net._names.learned(*spread.look(net._loss.n_classes > 0), net._loss)
        validation = _validation(client, net, validation_data, names)
        chosen = check_metrics(metrics, net._loss, validation[2] if validation else None, names.classes)
        if chosen and validation is None:
            raise ValueError("metrics need validation data; give validation_data")
        spread.prepare(net, names, state.optimizer, clipping, partial(_class_weight, class_weight, names, net))
        trainer = Spread(
            **spread.for_trainer(net, shuffle),
            net=net,
            callbacks=callbacks,
            schedule=schedule,
            state=state,
            random=net._random,
            clipping=clipping,
            epochs=epochs,
            batch_size=batch_size,
            shuffle=shuffle,
            validation=validation,
            metrics=chosen,
            history=history,
        )
        fitting = Fitting(net, trainer, names)
        fitting.run()
        return fitting

    for message, category in finish(train, spread.close).warnings():
        warn(message, category)
    return history


def _validation(client: Client, net: Network, data: Any, names: Names) -> tuple[Any, Targets, Floats | None] | None:
    if data is None:
        return None
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        raise TypeError("validation_data must be a pair (X, y), or (X, y, sample_weight)")
    X, y, *others = (gathered(client, one) for one in data)
    return check_arrays(net, X, y, *others, what="validation ", names=names)


def _class_weight(class_weight: Any, names: Names, net: Network, counts: npt.NDArray[np.int64]) -> Floats | None:
    """Return the weight of each class, of which there are so many rows, or None."""
    if isinstance(class_weight, str) and class_weight == "balanced" and net._loss.n_classes:
        return balanced(counts)
    return check_class_weight(names.class_weight(class_weight), np.zeros(0, np.int64), net._loss.n_classes)

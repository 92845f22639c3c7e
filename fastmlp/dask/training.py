"""`fit`: one network, trained on rows that are spread over the workers of a Dask cluster."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from distributed import Client

from fastmlp.activations import Floats
from fastmlp.callbacks import gather_callbacks
from fastmlp.dask.averaging import LocalSGD, Spread, SpreadTrainer, SynchronousSGD
from fastmlp.dask.partitions import Description, describe, divide, gathered, in_groups
from fastmlp.dask.shard import Rows, Twin
from fastmlp.dask.shards import Shards
from fastmlp.diagnosis import ConvergenceWarning
from fastmlp.engine.base import NO_CLIPPING, Clipping
from fastmlp.engine.compiled import CompiledEngine
from fastmlp.history import History
from fastmlp.interrupts import finish
from fastmlp.metrics import Metric, check_metrics
from fastmlp.names import Names
from fastmlp.network import Network
from fastmlp.optimizers import SGD, Optimizer, get_optimizer
from fastmlp.options import OptimizerName, ScheduleName
from fastmlp.schedules import Schedule, get_schedule
from fastmlp.training import TrainingState, check_clipping
from fastmlp.validation.calls import advised, warn
from fastmlp.validation.rows import check_class_weight
from fastmlp.validation.settings import check_bool, check_int

__all__ = ["fit"]

_SAMPLED = 2000  # rows that the client gets to see, for what is said of a fit that has learned nothing


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

    The partitions of X, neighbours together, make `n_shards` shards. Each is held by one worker, and trained on by its
    threads. The client keeps the parameters. It validates, calls callbacks and decides when to stop, as `MLP.fit` does.

    Parameters
    ----------
    client : distributed.Client
    net : MLP
        Trained in place.
    X : (n, I) Dask array or dataframe, list of delayed blocks, futures or arrays, or array_like
        Blocks are what `MLP.fit` takes as X: arrays, tables or sparse matrices. An X in memory is divided equally, and
        is sent to the workers once.
    y : (n,) or (n, C) of the same kinds
        Divided like X. Classes are learned from all partitions.
    epochs : int
        Passes over the rows.
    batch_size : int
        Rows per step. With ``average_every="step"`` these are rows of all shards together. Otherwise each shard takes
        steps of its own, each on so many of its rows.
    average_every : "epoch", int or "step"
        How the shards work together.

        - "epoch" or a number of steps, local SGD: each shard trains like a process of its own. After so many steps, and
          at the end of each epoch, parameters and the optimizer's state become the means of those of the shards,
          weighted by their rows. Little is sent, but a parameter sees the other shards' rows late.
        - "step", exact SGD: the gradient of each step is the mean over one batch from all shards. It is what
          `MLP.fit` computes, with the same batches, up to the rounding of sums. Each step sends all parameters and
          all gradients, so batches must be large.
    n_shards : int or None
        None is the number of threads of all workers. There is at most one for each partition with rows.
    learning_rate, optimizer, schedule, class_weight, clip_norm, clip_value, metrics, shuffle, progress, callbacks, resume
        As for `MLP.fit`. A schedule and `FitState` count the steps of the largest shard.
    sample_weight : (n,) of the kinds of y, or None
        Weight of each row's loss.
    validation_data : (X, y), (X, y, sample_weight) or None
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
        If one shard was lost several times with its worker, or the network is being trained already. After this error
        and the three before, the network has the last averaged parameters.

    Notes
    -----
    The result depends on the partitions and on `n_shards`, but not on the workers that have them. If a worker is lost,
    its shards are made again on the others, and all go on from the last average to the same bits. Data that only the
    lost worker had, such as scattered futures, cannot be made again.

    After Ctrl-C the network has the last averaged parameters.
    """
    _check_client(client)
    if not isinstance(net, Network) or not isinstance(net._engine, CompiledEngine):
        raise TypeError(f"net must be a network, e.g. MLP([784, 128, 10]), not {net!r}")
    epochs, batch_size = check_int("epochs", epochs, 1), check_int("batch_size", batch_size, 1)
    every = average_every if average_every in ("step", "epoch") else check_int("average_every", average_every, 1)
    shuffle, resume = check_bool("shuffle", shuffle), check_bool("resume", resume)
    clipping, schedule = check_clipping(clip_norm, clip_value), get_schedule(schedule)
    callbacks = gather_callbacks(callbacks, check_bool("progress", progress))
    n_shards = sum(client.nthreads().values()) if n_shards is None else check_int("n_shards", n_shards, 1)
    state, history = _beginning(net, optimizer, learning_rate, schedule, resume)
    cluster = _Cluster(client, net, every == "step")

    def train() -> None:
        names = cluster.divide(X, y, sample_weight, max(1, n_shards))
        validation = None
        if validation_data is not None:
            if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
                raise TypeError("validation_data must be a pair (X, y), or (X, y, sample_weight)")
            X_val, y_val, *others = (gathered(client, data) for data in validation_data)
            validation = net._check_evaluation(X_val, y_val, *others, what="validation ", names=names)
        chosen = check_metrics(metrics, net._loss, validation[2] if validation else None, names.classes)
        if chosen and validation is None:
            raise ValueError("metrics need validation data; give validation_data")
        rows = cluster.prepare(state.optimizer, clipping, class_weight)
        engine, n_steps = cluster.engine(rows, every, shuffle), None
        if every != "step":
            n_steps = -(-max(rows.n_rows) // batch_size)
        trainer = SpreadTrainer(
            engine=engine,
            net=net,
            callbacks=callbacks,
            schedule=schedule,
            state=state,
            random=net._random,
            X=rows.X,
            y=rows,
            row_weights=None if rows.weights is None else np.array([rows.weight]),
            clipping=clipping,
            epochs=epochs,
            batch_size=batch_size,
            shuffle=shuffle,
            validation=validation,
            metrics=chosen,
            history=history,
            n_steps=n_steps,
        )
        net._run(trainer, names)
        trainer.warn()

    finish(train, cluster.close)
    return history

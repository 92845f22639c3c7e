"""`fit_many`: many networks, spread over the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from distributed import Client, get_worker, worker_client
from distributed.protocol.pickle import dumps

from fastmlp.checkpoint import Saved
from fastmlp.dask.clients import check_is_open, current_client
from fastmlp.dask.driver import Driver
from fastmlp.dask.sharing import is_remote, shared_values
from fastmlp.dask.tasks import Job, Shared, sizes
from fastmlp.history import History
from fastmlp.interrupts import CtrlC, finish
from fastmlp.many.fit import check_arguments, check_nets, check_outside
from fastmlp.many.outcome import Outcome
from fastmlp.many.progress import BarOfMany
from fastmlp.network import Network
from fastmlp.validation.calls import advised
from fastmlp.validation.settings import check_bool

__all__ = ["fit_many"]

T = TypeVar("T")


@advised
def fit_many(
    client: Client | None,
    nets: Iterable[Network],
    X: Any,
    y: Any,
    *,
    progress: bool = False,
    fits: Iterable[Mapping[str, Any]] | None = None,
    return_exceptions: bool = False,
    **fit: Any,
) -> list[History]:
    """Train many networks on the workers of a Dask cluster, with the same results as `fastmlp.fit_many`.

    Networks are sent to the workers in tasks of about equal cost, the longest fits first. A worker with k threads
    trains k networks at the same time, and the last ones with several threads each. X and y are sent to each worker
    once.

    Parameters
    ----------
    client : Client or None
        A synchronous `distributed.Client`. None is the current client, or inside a task that of its worker.
    nets : iterable of MLP
        Networks to train in place. They may differ in everything but their number of inputs.
    X, y : array_like, future, or Dask collection
        Rows and targets for all networks, as for `MLP.fit`. Dask arrays and dataframes are concatenated on the cluster
        and must fit into the memory of each worker.
    progress : bool, default=False
        Whether to show one progress bar for all networks.
    fits : iterable of dict, or None, default=None
        Arguments of `MLP.fit` for each network, as for `fastmlp.fit_many`.
    return_exceptions : bool, default=False
        Whether to return errors in place of histories instead of raising them.
    **fit
        Arguments of `MLP.fit` for all networks. `validation_data` and `sample_weight` may also be futures or Dask
        collections. Data that several networks share is sent to each worker once.

    Returns
    -------
    list of History
        Measurements of each network, in the order of `nets`. After Ctrl-C all workers stop after the current step, and
        the steps taken so far are kept. A second Ctrl-C raises KeyboardInterrupt at once; networks that have not been
        returned by then are unchanged.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong. No network is changed, unless the cause is a number in Dask data that is not finite:
        then networks that were returned before are trained.
    ExceptionGroup
        If some networks have failed, for example because they diverged, a callback raised, or their workers died
        repeatedly. The others are trained.
    ConnectionError
        If the scheduler is lost. Here and in the two cases below, networks that were returned before are trained.
    TimeoutError
        If there has been no worker, or no answer from the scheduler, for 20 seconds.
    RuntimeError
        If all workers that had X were lost several times, or futures that were given were lost; if a network is already
        being trained; or if a callback calls this function.

    Notes
    -----
    Callbacks are pickled and called on the workers. Their state is not returned, and files that they write are on the
    worker. If a worker is lost, other workers train its networks again from the beginning, bit-identically, and their
    callbacks are called again.

    Examples
    --------
    >>> from distributed import Client
    >>> from fastmlp import MLP, datasets
    >>> import fastmlp.dask
    >>> client = Client(n_workers=2, threads_per_worker=1)
    >>> X_train, y_train, X_test, y_test = datasets.load_digits()
    >>> nets = [MLP([64, 32, 10], seed=seed) for seed in range(8)]
    >>> histories = fastmlp.dask.fit_many(client, nets, X_train, y_train, epochs=20)
    """
    check_outside()
    progress = check_bool("progress", progress)
    return_exceptions = check_bool("return_exceptions", return_exceptions)
    chosen = check_nets(nets)
    arguments = check_arguments(fit, fits, len(chosen))
    with _synchronous(client) as cluster:
        if not chosen:
            return []
        values, moved = shared_values(X, y, arguments)
        jobs = [Job(i, net, own) for i, (net, own) in enumerate(zip(chosen, moved, strict=True))]
        outcome = _alone(chosen, lambda: _train(cluster, jobs, values, progress))
    return outcome.report(return_exceptions)


@contextmanager
def _synchronous(client: Client | None) -> Iterator[Client]:
    """Give the client that is meant; a task that waits for others gives its place on the worker to them."""
    if client is not None and not isinstance(client, Client):
        raise TypeError(f"client must be a distributed.Client or None, not {client!r}")
    try:
        get_worker()
    except ValueError:
        found = client or current_client()
        if found.asynchronous:
            raise TypeError("client is asynchronous, but fit_many waits; use Client(..., asynchronous=False)") from None
        check_is_open(found)
        yield found
    else:
        with worker_client() as own:
            yield client or own


def _alone(nets: Sequence[Network], work: Callable[[], T]) -> T:
    """Call `work` while no other call trains these networks, and return what it returns."""
    call = object()

    def begin_and_work() -> T:
        for i, net in enumerate(nets):
            if net._trained_by.setdefault("call", call) is not call:
                raise RuntimeError(f"nets[{i}] is being trained already")
        return work()

    def leave() -> None:
        for net in nets:
            if net._trained_by.get("call") is call:
                net._trained_by.clear()

    return finish(begin_and_work, leave)


def _train(client: Client, jobs: Sequence[Job], values: Sequence[Any], progress: bool) -> Outcome:
    """Train all networks, by a thread that talks to the cluster while this one listens for Ctrl-C."""
    pickled = [_pickled(job) for job in jobs]
    found = [] if any(map(is_remote, values)) else sizes(jobs, Shared(*values))
    driver, ctrl_c = Driver(client, pickled, values, found, reports=progress), CtrlC()
    bars: list[BarOfMany] = []

    def wait() -> None:
        over = False
        while not over:
            over = driver.wait()
            while driver.trained:
                number, net = driver.trained[0]
                _put_back(jobs[number].net, net)
                driver.outcome.histories[number] = jobs[number].net.history
                driver.trained.popleft()
            if progress and driver.sizes:
                bars[:] = bars or [BarOfMany(len(jobs), sum(size.n_steps for size in driver.sizes))]
                bars[0].show(*driver.progress())
            if ctrl_c.pressed:
                ctrl_c.pressed = False
                if driver.is_stopping:
                    raise KeyboardInterrupt
                driver.stop()
        driver.raise_error()

    def leave() -> None:
        driver.give_up()
        for bar in bars:
            bar.close(*driver.progress())

    finish(lambda: ctrl_c.run(wait), leave)
    return driver.outcome


def _pickled(job: Job) -> bytes:
    try:
        pickled: bytes = dumps(job)
    except Exception as error:
        error.add_note(f"nets[{job.number}], or an argument of its fit, cannot be pickled for the workers")
        raise
    return pickled


def _put_back(net: Network, trained: Network) -> None:
    """Put what a fit has changed into the network that was sent."""
    net._restore(
        Saved(
            {},
            trained.weights,
            trained.biases,
            trained.history,
            trained._names,
            trained._random,
            trained._training_state,
        )
    )

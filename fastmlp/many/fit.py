"""`fit_many` trains many networks at the same time."""

from __future__ import annotations

import copy
import inspect
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from fastmlp.engine.cores import Group, available_threads
from fastmlp.engine.threads import run_team
from fastmlp.fitting import Fitting
from fastmlp.history import History
from fastmlp.hooks import check_callbacks
from fastmlp.interrupts import CtrlC, finish
from fastmlp.many.outcome import Outcome
from fastmlp.many.progress import Progress
from fastmlp.network import Network
from fastmlp.once import Once, Sharing
from fastmlp.schedules import Schedule
from fastmlp.tracking import Tracker
from fastmlp.training import Trainer
from fastmlp.validation.calls import advised, unknown_argument
from fastmlp.validation.settings import check_bool, check_int, is_iterable

__all__ = [
    "Fits", "check_arguments", "check_fits", "check_n_jobs", "check_nets", "check_outside", "checked", "fit_many",
    "naming", "own_callback", "prepared", "run_many", "train_many",
]  # fmt: skip

_FIT = {
    name: parameter.default
    for name, parameter in inspect.signature(Network.fit).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
}
"""The arguments of `Network.fit` and their defaults."""

_inside = threading.local()


@advised
def fit_many(
    nets: Iterable[Network],
    X: Any,
    y: Any,
    *,
    n_jobs: int | None = None,
    progress: bool = False,
    fits: Iterable[Mapping[str, Any]] | None = None,
    return_exceptions: bool = False,
    **fit: Any,
) -> list[History]:
    """Train many networks at the same time, with the same results as one after another.

    As long as there are more networks than cores, each core trains one network, the longest fits first. The last
    networks are trained by several cores each. All networks share X: it is checked and packed once, and not copied.

    Parameters
    ----------
    nets : iterable of MLP
        Networks to train in place. They may differ in everything but their number of inputs.
    X, y : array_like
        Rows and targets for all networks, as for `MLP.fit`.
    n_jobs : int or None, default=None
        Number of cores to use. None and -1 use all that are available to this process. A network with its own
        `n_threads` uses that many in any case.
    progress : bool, default=False
        Whether to show one progress bar for all networks.
    fits : iterable of dict, or None, default=None
        Arguments of `MLP.fit` for each network; they replace those of `**fit`. A dict may also have ``"rows"``, the
        rows of X to train on: indices, which may repeat, or a mask, as in ``X[rows]``. Folds and bootstraps thus need
        no copies, except with dropout or noise while their network trains. `sample_weight` has a weight for each row of
        X, not of ``X[rows]``.
    return_exceptions : bool, default=False
        Whether to return errors in place of histories instead of raising them.
    **fit
        Arguments of `MLP.fit` for all networks. Each network gets its own copy of the schedule and of fastmlp's
        callbacks. Other callbacks are called from several threads. Callbacks that write files, such as `Checkpoint` and
        trackers, must be given in `fits`.

    Returns
    -------
    list of History
        Measurements of each network, in the order of `nets`.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong. No network is changed.
    ExceptionGroup
        If some networks have failed, for example because they diverged or a callback raised. The others are trained. A
        note on each error names its network.
    RuntimeError
        If `fit_many` is called by a callback of a network that it trains.

    Warns
    -----
    UserWarning
        If Ctrl-C stops training. The networks keep the steps taken so far; ``history.interrupted`` is True for those
        that are not trained to the end.

    Examples
    --------
    >>> from fastmlp import MLP, datasets, fit_many
    >>> X_train, y_train, X_test, y_test = datasets.load_digits()
    >>> nets = [MLP([64, 32, 10], seed=seed) for seed in range(8)]
    >>> histories = fit_many(nets, X_train, y_train, epochs=20)
    >>> rates = [{"learning_rate": rate} for rate in (0.01, 0.03, 0.1, 0.3)]
    >>> histories = fit_many(nets[:4], X_train, y_train, fits=rates)
    """
    shown = Progress() if check_bool("progress", progress) else None
    return train_many(nets, X, y, n_jobs=n_jobs, progress=shown, fits=fits, return_exceptions=return_exceptions, **fit)


def train_many(
    nets: Iterable[Network],
    X: Any,
    y: Any,
    *,
    n_jobs: int | None,
    progress: Progress | None,
    fits: Iterable[Mapping[str, Any]] | None,
    return_exceptions: bool,
    **fit: Any,
) -> list[History]:
    """Do what `fit_many` does; `progress` may show other fits, too."""
    check_outside()
    return_exceptions = check_bool("return_exceptions", return_exceptions)
    n_cores, chosen = check_n_jobs(n_jobs), check_nets(nets)
    arguments, once = check_arguments(fit, fits, len(chosen)), Once()
    X = _apart(X, chosen, once)
    for own in arguments:
        if isinstance(data := own.get("validation_data"), (tuple, list)) and data:
            own["validation_data"] = _apart(data[0], chosen, once), *data[1:]
    fittings = prepared(dict(enumerate(zip(chosen, arguments, strict=True))), X, y, once)
    return run_many(fittings.values(), n_cores, progress=progress, return_exceptions=return_exceptions)


def check_outside() -> None:
    """Refuse a call by a callback of a network that `fit_many` trains."""
    if getattr(_inside, "fit_many", False):
        raise RuntimeError("fit_many is training already; a callback of one of its networks cannot call it")


def _apart(X: Any, nets: Iterable[Network], once: Once) -> Any:
    """Return X, or a copy if it is a view of parameters: another network would train on them while they change."""

    def apart() -> Any:
        numbers = X.data if hasattr(X, "tocsr") else X
        shared = isinstance(numbers, np.ndarray) and any(net._engine.shares_memory(numbers) for net in nets)
        return X.copy() if shared else X

    return once(apart, X, "apart")


def check_n_jobs(n_jobs: object) -> int:
    """Return how many cores to use."""
    available = available_threads()
    if n_jobs is None or n_jobs == -1:
        return available
    return check_int("n_jobs", n_jobs, 1)


def check_nets(nets: Iterable[Network]) -> list[Network]:
    """Return the networks, if they are different networks."""
    if isinstance(nets, Network) or not is_iterable(nets):
        raise TypeError(f"nets must be a list of networks, not {type(nets).__name__}")
    chosen = list(nets)
    places: dict[int, int] = {}
    for i, net in enumerate(chosen):
        if not isinstance(net, Network):
            raise TypeError(f"nets[{i}] must be an MLP, not {net!r}")
        if places.setdefault(id(net), i) != i:
            raise ValueError(f"nets[{places[id(net)]}] and nets[{i}] are the same network; use copy.deepcopy")
    return chosen


def check_fits(fits: Iterable[Mapping[str, Any]] | None, n_nets: int) -> list[Mapping[str, Any]]:
    """Return the dict of each network, if there is one for each; their entries are not checked yet."""
    if fits is None:
        return [{} for _ in range(n_nets)]
    if isinstance(fits, Mapping) or not is_iterable(fits):
        raise TypeError(f"fits must be a list of dicts, one for each network, not {type(fits).__name__}")
    each = list(fits)
    if len(each) != n_nets:
        raise ValueError(f"fits has {len(each)} dicts for {n_nets} networks")
    for i, own in enumerate(each):
        if not isinstance(own, Mapping):
            raise TypeError(f"fits[{i}] must be a dict of arguments of fit, not {own!r}")
    return each


def check_arguments(
    fit: Mapping[str, Any], fits: Iterable[Mapping[str, Any]] | None, n_nets: int
) -> list[dict[str, Any]]:
    """Return the arguments of each fit."""
    each, lists = check_fits(fits, n_nets), Once()
    if "rows" in fit:
        raise TypeError("rows belong into fits, one dict for each network: fits=[{'rows': ...}, ...]")
    _check_names(fit, _FIT, "fit_many")
    for i, own in enumerate(each):
        with naming(i):
            _check_names(own, ["rows", *(name for name in _FIT if name != "progress")], f"fits[{i}]")
    arguments = [dict(fit) | dict(own) for own in each]
    for own in arguments:
        for name in ("callbacks", "metrics"):
            if isinstance(given := own.get(name), Iterator):  # the first network would leave nothing for the others
                own[name] = lists(partial(list, given), given)
        if isinstance(own.get("schedule"), Schedule):
            own["schedule"] = copy.deepcopy(own["schedule"])
        if "callbacks" in own:
            own["callbacks"] = check_callbacks(own["callbacks"])
    gathered = [own["callbacks"] for own in arguments if "callbacks" in own]
    counts = Counter(id(callback) for callbacks in gathered for callback in callbacks)
    for callbacks in gathered:
        callbacks[:] = [own_callback(callback) if counts[id(callback)] > 1 else callback for callback in callbacks]
    return arguments


def own_callback(callback: object, advice: str = "give each its own: fits=[{'callbacks': [...]}, ...]") -> object:
    """Return what one of several networks with the same callback calls: a copy of one of fastmlp's, or a kind of it.

    `advice` is what to do about one that writes.
    """
    if not any(kind.__module__.startswith("fastmlp.") for kind in type(callback).__mro__):
        return callback
    if hasattr(callback, "path") or isinstance(callback, Tracker):
        raise ValueError(
            f"{type(callback).__name__} writes, and networks that train at the same time would write to the same "
            f"place; {advice}"
        )
    return copy.deepcopy(callback)


def _check_names(given: Iterable[str], names: Iterable[str], call: str) -> None:
    """Refuse arguments that have other names."""
    allowed = list(names)
    for argument in given:
        if not isinstance(argument, str):
            raise TypeError(f"{call} has {argument!r} in place of the name of an argument")
        if argument not in allowed:
            raise TypeError(unknown_argument(argument, allowed, call))


def checked(net: Network, X: Any, y: Any, arguments: Mapping[str, Any], once: Sharing) -> Fitting:
    """Return the fit of a network with these arguments, which is yet to be prepared."""
    return Fitting.of(net, X, y, once=once, **{**_FIT, **arguments})


def prepared(
    fits: Mapping[int, tuple[Network, Mapping[str, Any]]], X: Any, y: Any, once: Sharing
) -> dict[int, Fitting]:
    """Return the fits of networks with their arguments, ready to begin.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong.
    """
    fittings = {}
    for number, (net, arguments) in fits.items():
        with naming(number):
            fittings[number] = checked(net, X, y, arguments, once)
            fittings[number].trainer.prepare(once)
    return fittings


@contextmanager
def naming(number: int) -> Iterator[None]:
    """Note in errors which of `nets` they come from."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in the fit of nets[{number}]")
        raise


def run_many(
    fittings: Iterable[Fitting],
    n_cores: int,
    *,
    progress: Progress | None = None,
    return_exceptions: bool = False,
    place: str = "nets",
) -> list[Any]:
    """Run fits that have been prepared, on some cores; return the history of each, or its error.

    `place` is where the networks are, for messages.

    Raises
    ------
    ExceptionGroup
        If fits have failed, and `return_exceptions` is False.
    """
    fits = Fits(dict(enumerate(fittings)), place)
    bar = None if progress is None else progress.bar(fits.n_fits, fits.n_steps)

    def look() -> None:
        if bar is not None:
            bar.show(*fits.progress())

    def close() -> None:
        if bar is not None:
            bar.close(*fits.progress())

    finish(lambda: fits.run(n_cores, Group(n_cores), look), close)
    return fits.outcome().report(return_exceptions)


class Fits:
    """Fits that threads take one after another, the longest first.

    Parameters
    ----------
    fittings : dict of int to Fitting
        By the numbers of their networks.
    place : str
        Where the networks are, for messages.

    Attributes
    ----------
    n_fits, n_steps : int
        How many there are, and the steps of all.
    """

    def __init__(self, fittings: Mapping[int, Fitting], place: str = "nets") -> None:
        self._waiting = deque(sorted(fittings.items(), key=lambda fit: -fit[1].trainer.cost))
        self._running: dict[int, Trainer] = {}
        self._ended: list[int] = []
        self._steps = {i: fitting.trainer.n_steps for i, fitting in fittings.items()}
        self._done = Outcome({i: fitting.history for i, fitting in fittings.items()}, place=place)
        self._ctrl_c = CtrlC()
        self.n_fits, self.n_steps = len(fittings), sum(self._steps.values())

    def run(self, n_threads: int, group: Group, look: Callable[[], None]) -> None:
        """Run all, in at most so many threads, whose calls belong to the group. `look` is called now and then."""

        def work(rank: int) -> None:
            _inside.fit_many = True
            group.run(self._take_all)

        def go_on() -> bool:
            look()
            return True

        if self.n_fits:
            size = min(n_threads, self.n_fits)
            self._ctrl_c.run(lambda: run_team(size, work, go_on, self.stop))

    def stop(self) -> None:
        """Stop all after the current step."""
        self._ctrl_c.pressed = True

    def _take_all(self) -> None:
        """Run fits until none is left or all are stopped."""
        while not self._ctrl_c.pressed:
            try:
                i, fitting = self._waiting.popleft()
            except IndexError:
                return
            self._take(i, fitting)

    def _take(self, i: int, fitting: Fitting) -> None:
        trainer = self._running[i] = fitting.trainer
        trainer.ctrl_c = self._ctrl_c
        try:
            fitting.run()
            if not fitting.history.interrupted:
                for warning in fitting.warnings():
                    self._done.warnings.setdefault(warning, []).append(i)
        except BaseException as error:
            error.add_note(f"in the fit of {self._done.place}[{i}]")
            self._done.errors[i] = error
        trainer.release()
        del self._running[i]
        self._ended.append(i)

    def progress(self) -> tuple[int, int]:
        """Return how many fits have ended, and how many steps have been taken; those that have ended count whole."""
        ended, running = list(self._ended), list(self._running.values())
        return len(ended), sum(self._steps[i] for i in ended) + sum(trainer.steps for trainer in running)

    def outcome(self) -> Outcome:
        """Return what has become of all, after `run`."""
        self._done.waiting = {i for i, _ in self._waiting}
        return self._done

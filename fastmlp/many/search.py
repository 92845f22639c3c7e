"""`search` looks for the best settings of a network and its fit."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import numpy.typing as npt

from fastmlp.fitting import Fitting
from fastmlp.history import direction
from fastmlp.many.halving import rungs
from fastmlp.many.progress import Progress
from fastmlp.many.results import SearchResult, Trial
from fastmlp.many.space import FIT, Settings, as_parts, check_names, draw, for_network
from fastmlp.many.splits import as_arrays, check_given, splits
from fastmlp.many.trials import Candidate, Search, monitors_validation
from fastmlp.metrics import Metric, check_metrics
from fastmlp.mlp import MLP
from fastmlp.once import Once
from fastmlp.options import Mode
from fastmlp.random import regularization_seed
from fastmlp.validation.calls import advised
from fastmlp.validation.settings import check_bool, check_seed, is_iterable

__all__ = ["search"]

T = TypeVar("T")


@advised
def search(
    space: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    X: Any,
    y: npt.ArrayLike,
    *,
    strategy: Literal["random", "grid"] = "random",
    n_trials: int | None = None,
    epochs: int = 27,
    factor: int | None = 3,
    min_epochs: int = 1,
    validation_data: tuple[Any, ...] | None = None,
    validation_fraction: float | None = None,
    folds: Any = None,
    metric: str | Metric | None = None,
    mode: Mode = "auto",
    seed: int | None = 0,
    n_jobs: int | None = None,
    progress: bool = False,
    refit: bool = True,
    **settings: Any,
) -> SearchResult:
    """Look for the best settings of a network and its fit: random or grid search with successive halving.

    Trials train side by side, by `fit_many`, first for a few epochs. The better third trains on, for three times as
    long, and so forth, until the best have all epochs. No epoch is trained twice, and a trial has the bits that one
    long fit with its settings would have. The same seed gives the same table, but for the seconds, with any `n_jobs`.

    Parameters
    ----------
    space : dict, or list of dicts
        For each setting a list of values, or a distribution of SciPy such as ``scipy.stats.loguniform(1e-4, 1)``: any
        object with a method ``rvs(random_state=...)``. Settings are the arguments of `MLP` and of `MLP.fit`. Of several
        dicts each trial draws one first. Optimizers, schedules and callbacks are copied for each trial.
    X, y
        As for `MLP.fit`. Folds share the rows of X.
    strategy : {"random", "grid"}
        Whether to draw trials, or to try all combinations of lists. Without distributions no combination is drawn
        twice, so there may be fewer trials than `n_trials`.
    n_trials : int or None
        Number of random trials; None is 27.
    epochs : int
        Of the trials that are trained to the end. Schedules know it from the start.
    factor : int or None
        One of `factor` trials, rounded up, stays for the next rung, and is trained up to `factor` times as many epochs.
        None trains all trials to the end.
    min_epochs : int
        The first rung has at least so many epochs.
    validation_data : (X, y), (X, y, sample_weight) or None
    validation_fraction : float or None
        Fraction of the rows of each class to hold out: the same rows in all trials. Without any of these three it is
        0.2.
    folds : int, splitter or list of pairs
        Number of folds, shuffled, and stratified if y holds classes; or a splitter of scikit-learn; or pairs of index
        arrays, the rows for training and for validation. A trial has one network for each fold; its score is the mean.
    metric : str, callable or None
        Measured on the validation data: "accuracy", "loss" or one of `fastmlp.metrics`, with or without ``"val_"``
        before it. None is the accuracy, or the loss for regression.
    mode : {"auto", "min", "max"}
        Whether small or large values are good; "auto" decides by the name.
    seed : int or None
        Seeds what is drawn from the space, the rows held out, and the networks, unless the space has seeds. None is
        random.
    n_jobs : int or None
        As for `fit_many`.
    progress : bool
        Whether to show progress bars, and a line after each rung.
    refit : bool
        Whether the best network is trained anew on all rows, for as many epochs as the best trial, in the same
        schedule, but without callbacks that monitor validation data. With `validation_data` it has been trained on all
        rows of X already, and stays as it is.
    **settings
        Further arguments of `MLP` and `MLP.fit`, the same for all trials. `sample_weight` is for training alone.

    Returns
    -------
    SearchResult
        With `best_net`, `best_settings`, `best_score`, `trials`, `table` and `to_pandas`. Without refit, `best_net` is
        the network of the best trial, and None if there are folds. Trials that diverge, or whose callbacks raise, are
        last in the table, with their error. Ctrl-C ends the search with a warning and returns what is there.

    Raises
    ------
    TypeError, ValueError
        If an argument or a setting is wrong. Nothing has been trained.
    Exception
        The error of the first trial, if all trials fail.

    Examples
    --------
    >>> import fastmlp
    >>> from scipy.stats import loguniform
    >>> X_train, y_train, X_test, y_test = fastmlp.datasets.load_digits()
    >>> space = {"layers": [[64, 32, 10], [64, 128, 10]], "learning_rate": loguniform(0.01, 1)}
    >>> result = fastmlp.search(space, X_train, y_train, n_trials=9, epochs=27)
    >>> result.best_settings
    {'layers': [64, 128, 10], 'learning_rate': 0.6508036946141599}
    >>> result.best_net.score(X_test, y_test)
    0.975
    """
    check_given(validation_data, validation_fraction, folds)
    refit, progress, seed = check_bool("refit", refit), check_bool("progress", progress), check_seed(seed)
    if seed is None:
        seed = regularization_seed(None)
    fixed = {name: _as_list(value) if name in ("callbacks", "metrics") else value for name, value in settings.items()}
    parts = as_parts(space)
    check_names(parts, fixed, list(inspect.signature(search).parameters)[3:-1])
    drawn = draw(parts, strategy, n_trials, regularization_seed(seed))
    plan = rungs(len(drawn), epochs, factor, min_epochs)
    whole = [for_network({"seed": seed} | fixed | chosen) for chosen in drawn]
    nets = _each(drawn, lambda i: MLP(**whole[i][0]))
    name, metrics = _metric(metric, fixed.get("metrics", ()), nets[0])
    fits = [fit | {"epochs": epochs, "metrics": metrics} for _, fit in whole]
    anew = refit and validation_data is None
    _check_fits(drawn, nets, fits, X, y, validation_data, anew)
    arrays = as_arrays(X, y)
    given = splits(nets[0], *arrays, validation_data, validation_fraction, folds, seed)
    trials = [Trial(i, chosen) for i, chosen in enumerate(drawn)]
    candidates = _each(drawn, lambda i: Candidate(trials[i], *(whole[i][0], fits[i]), nets[i], given))
    nets.clear()  # or those of dropped trials would stay in memory
    shown = Progress() if progress else None
    return Search(candidates, *arrays, given, plan, name, direction(name, mode), n_jobs, shown).run(anew)


def _as_list(value: Any) -> Any:
    return list(value) if is_iterable(value) and not isinstance(value, str) else value


def _each(drawn: Sequence[Settings], make: Callable[[int], T]) -> list[T]:
    """Return what is made of each trial; an error says of which."""
    made = []
    for i, settings in enumerate(drawn):
        try:
            made.append(make(i))
        except Exception as error:
            error.add_note(f"in trial {i} of the search, with {settings}")
            raise
    return made


def _check_fits(
    drawn: Sequence[Settings],
    nets: Sequence[MLP],
    fits: Sequence[Settings],
    X: Any,
    y: Any,
    validation_data: Any,
    anew: bool,
) -> None:
    """Check all that the fits are given, and tell the networks the names of columns and classes.

    `anew` says whether it must be possible to fit without validation data, too.
    """
    once, validates = Once(), {"validation_data": (X, y) if validation_data is None else validation_data}

    def check(i: int) -> None:
        fitting = Fitting.of(nets[i], X, y, once=once, **FIT | fits[i] | validates)
        nets[i]._names = fitting.names
        if anew and monitors_validation(schedule := fitting.trainer.schedule):
            what = f"the schedule {schedule!r} monitors {schedule.monitor}"
            raise ValueError(f"{what}, but refit=True trains on all rows without validation data; use refit=False")

    _each(drawn, check)


def _metric(metric: Any, others: Sequence[Any], net: MLP) -> tuple[str, list[Any]]:
    """Return the name of the metric in a history, and all metrics that are to be measured."""
    if metric is None:
        metric = "accuracy" if net._loss.classifies else "loss"
    metric = metric.removeprefix("val_") if isinstance(metric, str) else metric
    if metric == "loss" or (metric == "accuracy" and net._loss.classifies):
        return f"val_{metric}", list(others)
    ((name, _),) = check_metrics([metric], net._loss, None, net._names.classes).items()
    measured = name in check_metrics(others, net._loss, None, net._names.classes)
    return f"val_{name}", [*others, *([] if measured else [metric])]

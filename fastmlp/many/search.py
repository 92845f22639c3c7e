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
    """Search for the best settings of a network and its fit: random or grid search with successive halving.

    All trials train at the same time, with `fit_many`, for a few epochs. The best third continues for three times as
    long, and so on, until the best trials have all epochs [1]_. No epoch is trained twice: a trial is bit-identical to
    one long fit with its settings. The same seed gives the same results with any `n_jobs`, except for the seconds.

    Parameters
    ----------
    space : dict, or list of dicts
        For each setting, a list of values or a SciPy distribution, such as ``scipy.stats.loguniform(1e-4, 1)``: any
        object with a method ``rvs(random_state=...)``. Settings are arguments of `MLP` and `MLP.fit`. From a list of
        dicts, each trial first draws one. Each trial gets its own copies of optimizers, schedules and callbacks.
    X, y : array_like
        Rows and targets, as for `MLP.fit`.
    strategy : {"random", "grid"}, default="random"
        Whether to draw trials at random, or to try all combinations of the lists. Without distributions no combination
        is drawn twice, so there may be fewer trials than `n_trials`.
    n_trials : int or None, default=None
        Number of random trials. None is 27.
    epochs : int, default=27
        Number of epochs of the trials that are trained to the end. Schedules are planned for this number.
    factor : int or None, default=3
        One in `factor` trials, rounded up, continues to the next rung, which has up to `factor` times as many epochs.
        None trains all trials to the end.
    min_epochs : int, default=1
        Minimum number of epochs of the first rung.
    validation_data : (X, y), (X, y, sample_weight) or None, default=None
        Data to score the trials on.
    validation_fraction : float or None, default=None
        Fraction of the rows of each class to hold out: the same rows in all trials. It is 0.2 if neither
        `validation_data` nor `validation_fraction` nor `folds` is given.
    folds : int, splitter, list of pairs, or None, default=None
        Number of folds, which are shuffled, and stratified if y holds classes; or a scikit-learn splitter; or pairs of
        index arrays, the rows for training and for validation. A trial trains one network for each fold, and its score
        is their mean.
    metric : str, callable or None, default=None
        Score of a trial on its validation data: "accuracy", "loss" or one of `fastmlp.metrics`, with or without the
        prefix ``"val_"``. None is the accuracy, or the loss for regression.
    mode : {"auto", "min", "max"}, default="auto"
        Whether small or large values are good; "auto" decides by the name.
    seed : int or None, default=0
        Seed of the draws from the space, of the choice of validation rows and of the networks, unless the space has
        seeds. With None each search is different.
    n_jobs : int or None, default=None
        Number of cores to use, as for `fit_many`.
    progress : bool, default=False
        Whether to show progress bars, and a line after each rung.
    refit : bool, default=True
        Whether to train the best network again on all rows, for as many epochs as the best trial and with the same
        schedule, but without callbacks that monitor validation data. With `validation_data` it was trained on all rows
        of X already, and is not trained again.
    **settings
        Further arguments of `MLP` and `MLP.fit`, the same for all trials. `sample_weight` is used for training only.

    Returns
    -------
    SearchResult
        Object with the attributes `best_net`, `best_settings`, `best_score`, `trials` and `table`, and the method
        `to_pandas`. With ``refit=False``, `best_net` is the network of the best trial, or None if there are folds.
        Trials that diverged, or whose callbacks raised, are last in the table, with their error.

    Raises
    ------
    TypeError, ValueError
        If an argument or a setting is wrong. Nothing has been trained.
    Exception
        The error of the first trial, if all trials fail.

    Warns
    -----
    UserWarning
        If Ctrl-C ends the search. The result has what was measured so far.

    References
    ----------
    .. [1] K. Jamieson and A. Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization",
       AISTATS 2016.

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

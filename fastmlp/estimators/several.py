"""`fit_several` trains the networks of an estimator with ``n_networks`` of more than one.

Each has an estimator of its own in `estimators_`, with one network. All have the same rows, targets and validation
data, which are checked and converted once. `FittedMLP` averages what they predict.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from fastmlp.bars import shows_bars
from fastmlp.estimators.tasks import Tasks
from fastmlp.history import History
from fastmlp.hooks import check_callbacks
from fastmlp.interrupts import finish
from fastmlp.losses import LOSSES
from fastmlp.many.fit import check_n_jobs, own_callback, run_many
from fastmlp.many.progress import BarOfMany, Progress
from fastmlp.once import Once

__all__ = ["fit_several"]

_SHARED = ("classes_", "_label_binarizer", "n_features_in_", "n_outputs_", "out_activation_")
"""What an estimator learns from the data, and its networks' estimators with it."""

_ADVICE = "use n_networks=1, or fastmlp.Ensemble, whose fit takes fits=[{'callbacks': [...]}, ...]"


def fit_several(
    estimator: Any,
    X: Any,
    y: Any,
    sample_weight: Any,
    validation: tuple[Any, Any, Any] | None,
    sizes: list[int],
    incremental: bool,
) -> None:
    """Train all networks, at the same time, and set `estimators_`. The arguments are those of ``estimator._fit``.

    If the first step of none has been taken when something is raised, the estimator stays as it was.
    """
    n = estimator.n_networks
    continues = (estimator.warm_start or incremental) and "estimators_" in vars(estimator)
    has_bar = estimator.verbose == 1 and shows_bars() and not incremental
    tasks = Tasks.of(estimator, n, sequential=False)
    histories = [History() for _ in range(n)]
    touched = [estimator, *(estimator.estimators_ if continues else [])]
    before = [vars(each).copy() for each in touched]
    try:
        with ExitStack() as stack:
            data = estimator._check_training_data(X, y, sample_weight, validation, incremental)
            estimator._random_state = check_random_state(estimator.random_state)
            if data[-1] is None and estimator.early_stopping and estimator._stochastic:
                data = _split(estimator, *data[:-1])
            members, once, fits, follow = _members(estimator, continues, not has_bar), Once(), [], []
            for i, member in enumerate(members):
                member_tasks = None
                if tasks is not None:
                    follow.append(stack.enter_context(tasks.network(i, member)))
                    member_tasks = member._tasks(incremental)
                    follow += [member_tasks] if member_tasks is not None else []
                fits.append(member._prepare(*data, sizes, incremental, histories[i], member_tasks, once))
            estimator._forget()
            estimator.estimators_ = members
            if tasks is not None:
                for task in (tasks, *follow):
                    task.begin(X, y, sample_weight)
            _train(estimator, fits, once, Progress() if has_bar else None)
            _keep_begun(estimator, histories, continues)
            for member in estimator.estimators_:
                member._check_learned()
            for task in reversed(follow):
                task.end()
    except BaseException:
        if any(history.steps for history in histories):
            _keep_begun(estimator, histories, continues)
        else:
            for each, attributes in zip(touched, before, strict=True):
                each.__dict__ = attributes
        raise
    if tasks is not None:
        tasks.end()


def _keep_begun(estimator: Any, histories: Sequence[History], continues: bool) -> None:
    """Drop networks that have learned nothing before Ctrl-C or an error: they would spoil the mean."""
    members = estimator.estimators_
    if not continues and len(members) == len(histories):
        begun = [member for member, history in zip(members, histories, strict=True) if history.steps]
        estimator.estimators_ = members = begun or members  # 'lbfgs' takes no steps
    estimator.n_iter_ = max(member.n_iter_ for member in members)


def _train(estimator: Any, fits: Sequence[Any], once: Once, progress: Progress | None) -> None:
    """Train all networks at the same time, or by 'lbfgs' one after another; raise the first error."""
    if not estimator._stochastic:
        _train_in_turn(fits, None if progress is None else progress.bar(len(fits), len(fits)))
        return
    for fit in fits:
        fit.trainer.prepare(once)
    n_cores = check_n_jobs(estimator.n_threads)
    for result in run_many(fits, n_cores, progress=progress, return_exceptions=True, place="estimators_"):
        if isinstance(result, BaseException):
            raise result


def _train_in_turn(fits: Sequence[Any], bar: BarOfMany | None) -> None:
    n_ended = 0

    def train() -> None:
        nonlocal n_ended
        for fit in fits:
            fit()
            n_ended += 1
            if bar is not None:
                bar.show(n_ended, n_ended)

    def close() -> None:
        if bar is not None:
            bar.close(n_ended, n_ended)

    finish(train, close)


def _members(estimator: Any, continues: bool, prints: bool) -> list[Any]:
    """Return the networks' estimators, of an earlier fit or new ones, with the parameters of this one."""
    n, parameters = estimator.n_networks, estimator.get_params(deep=False)
    random_state, callbacks = parameters.pop("random_state"), parameters.pop("callbacks")
    prints = prints and bool(estimator.verbose)
    parameters |= {"n_networks": 1, "n_threads": None, "verbose": 2 if prints else False}  # no bars beside each other
    if continues:
        members = list(estimator.estimators_)
        for member in members:
            member.set_params(**parameters)
    else:
        seeds = [int(estimator._random_state.randint(np.iinfo(np.int32).max)) for _ in range(n)]
        # As in one network, a number starts the same stream in each call; another random state is drawn from further.
        fixed = isinstance(random_state, Integral)
        states = [seed if fixed else np.random.RandomState(seed) for seed in seeds]
        members = [type(estimator)(**parameters, random_state=state) for state in states]
        for member in members:
            vars(member).update({name: vars(estimator)[name] for name in _SHARED if name in vars(estimator)})
    callbacks = check_callbacks(callbacks or ())
    for i, member in enumerate(members):
        member.callbacks = [own_callback(callback, _ADVICE) for callback in callbacks] or None
        vars(member)["_label"] = f"Network {i + 1}: "
    return members


def _split(estimator: Any, X: Any, y: Any, targets: Any, weights: Any) -> tuple[Any, ...]:
    """Return X, y, targets and weights for training, and validation data: the same rows for all networks."""
    dtype = estimator._dtype_of(X)
    LOSSES[estimator._output()](estimator.n_outputs_).check_y(targets, len(targets), dtype)  # names rows as users do
    X, targets, weights, *validation = estimator._split(X, y, targets, weights)
    return X, y, targets, weights, tuple(validation)

"""`fit_several` trains the networks of an estimator with ``n_networks`` of more than one.

Each has an estimator of its own in `estimators_`, with one network. All have the same rows, targets and validation
data, which are checked and converted once. `FittedMLP` averages what they predict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from fastmlp.estimators.fitted import OF_ONE_NETWORK
from fastmlp.estimators.tasks import Tasks
from fastmlp.history import History
from fastmlp.losses import LOSSES
from fastmlp.many.ensemble import callbacks_for_each

__all__ = ["fit_several"]

_SHARED = ("classes_", "_label_binarizer", "n_features_in_", "n_outputs_", "out_activation_")
"""What an estimator learns from the data, and its networks' estimators with it."""


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
    tasks = Tasks.of(estimator, n, sequential=False)
    histories = [History() for _ in range(n)]
    touched = [estimator, *(estimator.estimators_ if continues else [])]
    before = [vars(each).copy() for each in touched]
    try:
        with ExitStack() as stack:
            data = estimator._check_training_data(X, y, sample_weight, incremental)
            estimator._random_state = check_random_state(estimator.random_state)
            if validation is not None:
                validation = *estimator._check_X_y(*validation[:2], reset=False), validation[2]
            elif estimator.early_stopping and estimator._stochastic:
                *data, validation = _split(estimator, *data)
            members = _members(estimator, continues)
            check_data, trains, follow = _once(members[0]._check_data), [], []
            for i, member in enumerate(members):
                member_tasks = None
                if tasks is not None:
                    follow.append(stack.enter_context(tasks.network(i, member)))
                    member_tasks = member._tasks(incremental)
                    follow += [member_tasks] if member_tasks is not None else []
                trains.append(
                    member._prepare(*data, validation, sizes, incremental, histories[i], member_tasks, check_data)
                )
            _forget(estimator)
            estimator.estimators_ = members
            if tasks is not None:
                for task in (tasks, *follow):
                    task.begin(X, y, sample_weight)
            run_all(trains, histories)
            if not continues and any(history.interrupted for history in histories):
                begun = [member for member, history in zip(members, histories, strict=True) if history.steps]
                estimator.estimators_ = begun or members  # a network that has learned nothing would spoil the mean
            estimator.n_iter_ = max(member.n_iter_ for member in estimator.estimators_)
            for member in estimator.estimators_:
                member._check_learned()
            for task in reversed(follow):
                task.end()
    except BaseException:
        if not any(history.steps for history in histories):
            for each, attributes in zip(touched, before, strict=True):
                each.__dict__ = attributes
        raise
    if tasks is not None:
        tasks.end()


def run_all(trains: Sequence[Callable[[], None]], histories: Sequence[History]) -> None:
    """Call functions that train one network each, until one has been interrupted."""
    for train, history in zip(trains, histories, strict=True):
        train()
        if history.interrupted:
            return


def _members(estimator: Any, continues: bool) -> list[Any]:
    """Return the networks' estimators, of an earlier fit or new ones, with the parameters of this one."""
    n, parameters = estimator.n_networks, estimator.get_params(deep=False)
    random_state, callbacks = parameters.pop("random_state"), parameters.pop("callbacks")
    parameters |= {"n_networks": 1, "verbose": 2 if estimator.verbose else False}  # no bars beside each other
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
    copies = [None] * n if callbacks is None else callbacks_for_each(callbacks, n)
    for i, member in enumerate(members):
        member.callbacks = copies[i]
        vars(member)["_label"] = f"Network {i + 1}: "
        vars(member).update({name: vars(estimator)[name] for name in _SHARED if name in vars(estimator)})
    return members


def _split(estimator: Any, X: Any, y: Any, targets: Any, weights: Any) -> tuple[Any, ...]:
    """Return X, y, targets and weights for training, and validation data: the same rows for all networks."""
    dtype = estimator._dtype_of(X)
    LOSSES[estimator._output()](estimator.n_outputs_).check_y(targets, len(targets), dtype)  # names rows as users do
    X, targets, weights, *validation = estimator._split(X, y, targets, weights)
    return X, y, targets, weights, tuple(validation)


def _once(check_data: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that checks and converts rows and targets for the first network, for all to share them."""
    done: dict[tuple[str, str], Any] = {}

    def checked(net: Any, X: Any, targets: Any, what: str = "") -> Any:
        kind = what, net.output
        if kind not in done:
            done[kind] = check_data(net, X, targets, what)
        return done[kind]

    return checked


def _forget(estimator: Any) -> None:
    """Forget what an earlier fit of one network has learned."""
    for name in (*OF_ONE_NETWORK, "n_layers_", "_link", "_loaded", "_training", "_optimizer_state"):
        vars(estimator).pop(name, None)

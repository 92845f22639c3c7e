"""Helpful errors for calls with arguments that a function does not have; warnings that name the user's line."""

from __future__ import annotations

import difflib
import inspect
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar, cast

__all__ = ["advised", "advised_constructor", "advised_methods", "unknown_argument", "warn"]

_SAME = {
    "n_trials": "n_iter n_candidates",  # before epochs
    "validation_fraction": "validation_split test_size val_split",  # before validation_data
    "X": "x features input inputs data",
    "alpha": "rho",
    "batch_size": "batch minibatch_size",
    "betas": "beta_1 beta_2 beta1 beta2",
    "callbacks": "callback",
    "class_weight": "weights weight",
    "clip_norm": "clipnorm max_norm max_grad_norm gradient_clip gradient_clip_val",
    "clip_value": "clipvalue",
    "dtype": "precision",
    "epochs": "max_iter max_epochs n_epochs num_epochs nb_epoch n_iter iterations",
    "eps": "epsilon",
    "every": "step_size save_freq freq period",
    "folds": "cv n_folds n_splits",
    "gamma": "factor",
    "high": "max_lr",
    "init": "initializer kernel_initializer weight_init",
    "input_noise": "noise",
    "l2": "alpha weight_decay l2_reg reg regularization lambda_",
    "layers": "hidden_layer_sizes hidden_sizes sizes units",
    "learning_rate": "lr eta learning_rate_init init_learning_rate step_size rate alpha",
    "low": "min_lr",
    "metric": "scoring monitor objective",
    "metrics": "metric scoring",
    "minimum": "min_lr eta_min",
    "momentum": "beta",
    "n": "n_networks n_estimators n_members",
    "n_samples": "n n_rows size limit",
    "n_threads": "n_jobs num_threads threads workers num_workers",
    "optimizer": "solver optim",
    "output": "loss criterion loss_function out_activation output_activation",
    "path": "filename filepath file fname",
    "patience": "n_iter_no_change",
    "progress": "verbose verbosity disp",
    "restore_best": "restore_best_weights",
    "resume": "warm_start initial_epoch",
    "sample_weight": "weights weight sample_weights",
    "schedule": "scheduler lr_scheduler lr_schedule learning_rate_schedule",
    "seed": "random_state random_seed rng",
    "validation_data": "val_data eval_set X_val y_val X_test y_test validation_fraction validation_split",
    "weight_decay": "alpha decay l2 wd",
    "y": "Y label labels target targets",
}
"""Arguments, and what Keras, PyTorch, scikit-learn and others call them."""

_EARLY_STOPPING = ("early_stopping", "early_stopping_rounds", "n_iter_no_change", "patience")
"""Arguments of others whose place here is a callback."""

_places: dict[str, list[str]] = {}  # the names of the calls that have an argument of this name

_Call = TypeVar("_Call", bound=Callable[..., Any])
_Class = TypeVar("_Class", bound=type)


def advised(function: _Call) -> _Call:
    """Decorate a function so that wrong arguments get helpful errors.

    Calls that fit are passed on, and what is raised inside stays as it is.
    """
    return cast(_Call, _advised(function, function.__name__))


def advised_constructor(kind: _Class) -> _Class:
    """Decorate a class, so that its constructor is `advised`."""
    kind.__init__ = _advised(kind.__init__, kind.__name__)  # type: ignore[misc]
    return kind


def advised_methods(kind: _Class) -> _Class:
    """Decorate a class, so that its public methods are `advised`."""
    for name, member in list(vars(kind).items()):
        function = member.__func__ if isinstance(member, classmethod) else member
        if inspect.isfunction(function) and not name.startswith("_"):
            better = _advised(function, name)
            setattr(kind, name, classmethod(better) if isinstance(member, classmethod) else better)
    return kind


def _advised(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    parameters = [p.name for p in inspect.signature(function).parameters.values() if p.name not in ("self", "cls")]
    for parameter in parameters:
        _places.setdefault(parameter, []).append(name)
    if parameters == ["X"]:  # a frame more would slow the prediction of one row, and there is nothing to suggest
        function.__qualname__ = name
        return function

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            if error.__traceback__ is None or error.__traceback__.tb_next is not None:  # raised inside
                raise
            problem = str(error)
        raise TypeError(_advice(function, name, args, kwargs) or problem)

    return call


def _advice(function: Callable[..., Any], name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> str:
    """Return what is wrong with the arguments of a call, and what may have been meant."""
    parameters = list(inspect.signature(function).parameters.values())
    if parameters and parameters[0].name in ("self", "cls"):
        name = type(args[0]).__name__ if function.__name__ == "__init__" else name
        parameters, args = parameters[1:], args[1:]
    passes_on = any(p.kind is p.VAR_KEYWORD for p in parameters)  # what another call takes
    parameters = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    names = [parameter.name for parameter in parameters]
    unknown = [argument for argument in kwargs if argument not in names and not (passes_on and argument in _places)]
    if unknown:
        return " ".join(unknown_argument(argument, names, name) for argument in unknown)
    positional = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    if len(args) > len(positional):
        if positional == ["layers"] and all(isinstance(arg, int) for arg in args):
            return f"{name} takes its layers as one list: {name}({list(args)})"
        if len(positional) == len(names):
            return f"{name} takes {', '.join(names) or 'no arguments'}, but got {len(args)} arguments"
        shown = f"{name}({', '.join([*positional, names[len(positional)]])}=...)"
        if not positional:
            return f"{name} takes its arguments by name: {shown}"
        return f"{name} takes {_listed(positional)} by position; name the others: {shown}"
    twice = [argument for argument in positional[: len(args)] if argument in kwargs]
    if twice:
        return f"{name} got {twice[0]} twice, by position and by name"
    missing = [p.name for p in parameters[len(args) :] if p.default is p.empty and p.name not in kwargs]
    return f"{name} needs {_listed(missing)}" if missing else ""


def unknown_argument(argument: str, names: Sequence[str], call: str) -> str:
    """Return the error for an argument that is none of the `names` which a call takes."""
    return f"unknown argument {argument!r}; {_meant(argument, names, call)}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _meant(unknown: str, names: Sequence[str], call: str) -> str:
    """Return a hint: the argument that another library calls so, that another call has, or that is spelt like it."""
    if unknown in _EARLY_STOPPING and "callbacks" in names:
        return "did you mean callbacks=[fastmlp.callbacks.EarlyStopping(patience=10)]?"
    same = [own for own, others in _SAME.items() if unknown in others.split()]
    here = [own for own in same if own in names]
    if not here and unknown not in _places:
        here = difflib.get_close_matches(unknown, names, n=1, cutoff=0.7)
    if here:
        return f"did you mean {here[0]!r}?"
    elsewhere = (unknown, *same) if call in ("MLP", "fit", "fit_many", "train_batch") else ()
    for argument in sorted(elsewhere, key=lambda name: not {"fit", "MLP"} & set(_places.get(name, ()))):
        if argument in _places:
            places = [place for place in ("fit", "MLP") if place in _places[argument]] or _places[argument]
            found = f"an argument of {places[0]}"
            return f"it is {found}" if argument == unknown else f"did you mean {argument!r}, {found}?"
    return f"{call} takes {', '.join(names) or 'no arguments'}"


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line that called the package, however many of its frames, or of scikit-learn's, lie between."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("fastmlp", "sklearn"):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)

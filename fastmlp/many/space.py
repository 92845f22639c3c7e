"""The space of a search: settings are drawn from it, told apart, checked, and copied for each network."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fastmlp.hooks import check_callbacks
from fastmlp.mlp import MLP
from fastmlp.network import Network
from fastmlp.validation.calls import unknown_argument
from fastmlp.validation.settings import check_choice, check_int, is_list

__all__ = ["FIT", "Settings", "as_parts", "check_names", "draw", "for_network", "own_copies"]

Settings = dict[str, Any]

_DEFAULT_TRIALS = 27
_MOST_POINTS = 2**62  # as scikit-learn counts them in an int64
_COPIED = {"callbacks", "optimizer", "schedule"}  # they may have a state


def _parameters(call: Any) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(call).parameters.items()
    return {name: p for name, p in parameters if p.kind is not p.VAR_KEYWORD and name not in ("self", "X", "y")}


_NETWORK = _parameters(MLP)
FIT = {name: parameter.default for name, parameter in _parameters(Network.fit).items()}
"""The arguments of `MLP.fit` and their defaults."""

_OF_SEARCH = ("epochs", "progress", "validation_data", "validation_fraction")
_FIXED = ("metrics", "n_threads", "sample_weight")
_SETTINGS = [name for name in (*_NETWORK, *FIT) if name not in (*_OF_SEARCH, "resume")]


def check_names(space: Iterable[Mapping[str, Any]], fixed: Mapping[str, Any], arguments: Iterable[str]) -> None:
    """Refuse names that are no settings, cannot be searched, or are both in the space and fixed.

    `arguments` are the other ones of `search`, for suggestions.
    """
    in_space = {name for part in space for name in part}
    names = list(dict.fromkeys([*_SETTINGS, *arguments]))
    for name in sorted({*map(str, in_space), *fixed}):
        if name in _OF_SEARCH:
            raise ValueError(f"{name} is an argument of search, so it cannot be in the space")
        if name == "resume":
            raise ValueError("resume is for a single fit; a search trains new networks")
        if name not in _SETTINGS:
            raise TypeError(unknown_argument(name, names, "search"))
        if name in _FIXED and name in in_space:
            raise ValueError(f"{name} is the same for all trials; pass {name}=... to search")
        if name in in_space and name in fixed:
            raise ValueError(f"{name} is both in the space and an argument; leave one of them out")
    if "layers" not in fixed and not all("layers" in part for part in space):
        raise ValueError("a search needs layers, in the space or as an argument, e.g. layers=[784, 128, 10]")


def as_parts(space: Any) -> list[dict[str, Any]]:
    """Return the space as a list of dicts, whose values are lists or distributions."""
    parts = [space] if isinstance(space, Mapping) else list(space) if is_list(space) else []
    if not parts or not all(isinstance(part, Mapping) for part in parts):
        what = "a dict such as {'learning_rate': [0.1, 0.01]}, or a list of them"
        raise TypeError(f"space must be {what}, not {type(space).__name__}")
    return [{name: _values(name, values) for name, values in part.items()} for part in parts]


class _Distribution:
    """A distribution of the space; an error of it gets a note that names the setting."""

    def __init__(self, name: str, given: Any) -> None:
        self.name, self.given = name, given

    def rvs(self, random_state: Any) -> Any:
        try:
            return self.given.rvs(random_state=random_state)
        except Exception as error:
            error.add_note(f"while {self.name!r} was drawn from {self.given!r}")
            raise


def _values(name: str, values: Any) -> Any:
    if callable(getattr(values, "rvs", None)):
        return _Distribution(name, values)
    if not is_list(values):
        advice = "a list, or a distribution such as scipy.stats.loguniform(1e-4, 1)"
        raise TypeError(f"space[{name!r}] must be {advice}, not {values!r}; pass what is fixed as {name}=...")
    if len(values) == 0:
        raise ValueError(f"space[{name!r}] is empty")
    return list(values)


def draw(parts: list[dict[str, Any]], strategy: str, n_trials: int | None, random_state: int) -> list[Settings]:
    """Return the settings of each trial."""
    from sklearn.model_selection import ParameterGrid, ParameterSampler

    chosen = check_choice("strategy", strategy, ("random", "grid"))
    n_trials = None if n_trials is None else check_int("n_trials", n_trials, 1)
    distributions = [name for part in parts for name, values in part.items() if isinstance(values, _Distribution)]
    if chosen == "grid":
        if distributions:
            raise ValueError(f"strategy='grid' needs lists, but {distributions[0]!r} is a distribution; use 'random'")
        if n_trials is not None:
            raise ValueError("strategy='grid' tries the whole grid; leave n_trials out, or use strategy='random'")
        drawn = ParameterGrid(parts)
    else:
        n = n_trials or _DEFAULT_TRIALS
        if not distributions:  # then each point of the grid is drawn at most once
            n_points = sum(math.prod(map(len, part.values())) for part in parts)
            if n_points > _MOST_POINTS:
                raise ValueError(f"the space has {n_points:.0e} points; make some of the lists distributions")
            n = min(n, n_points)
        drawn = ParameterSampler(parts, n, random_state=random_state)
    order = dict.fromkeys(name for part in parts for name in part)
    return [{name: _plain(settings[name]) for name in order if name in settings} for settings in drawn]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def for_network(settings: Settings) -> tuple[Settings, Settings]:
    """Return the settings of the network, and the arguments of its fit."""
    network = {name: value for name, value in settings.items() if name in _NETWORK}
    return network, {name: value for name, value in settings.items() if name not in _NETWORK}


def own_copies(fit: Settings) -> Settings:
    """Return the arguments of a fit with copies of those that may have a state.

    Raises
    ------
    TypeError
        If one cannot be copied, or `callbacks` are wrong.
    """
    own = dict(fit)
    if "callbacks" in fit:
        own["callbacks"] = check_callbacks(fit["callbacks"])
    for name in own.keys() & _COPIED:
        try:
            own[name] = copy.deepcopy(own[name])
        except Exception as error:
            raise TypeError(f"{name} must be copied for each trial, but copy.deepcopy fails: {error}") from error
    return own

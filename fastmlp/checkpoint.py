"""What of a network lasts, as a plain dict that a file can hold: settings and parameters, and what training remembers.

Values are arrays, numbers and strings; what has a structure of its own is JSON, whose numbers keep every bit. Both
networks read and write the same.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from fastmlp import optimizers
from fastmlp.activations import Floats
from fastmlp.history import History
from fastmlp.optimizers import Optimizer
from fastmlp.random import batch_generator
from fastmlp.training import Progress
from fastmlp.validation.settings import check_choice, check_number

if TYPE_CHECKING:
    from fastmlp.model import Model

    Net = TypeVar("Net", bound=Model)

__all__ = ["DEFAULTS", "MAIN", "into_network", "make_network", "of_network", "of_parameters"]

MAIN = ("layers", "activation", "init", "seed", "dtype")
"""Settings that every file has."""

DEFAULTS: dict[str, Any] = {
    "output": "softmax",
    "first_layer": "auto",
    "input_scale": 1.0,
    "label_smoothing": 0.0,
    "l2": 0.0,
    "dropout": 0.0,
    "input_dropout": 0.0,
    "input_noise": 0.0,
}
"""Other settings, and what they are where nobody has said."""

_FORMAT = "fastmlp 2"
_READABLE = ("fastmlp 1", _FORMAT)
_FREE = ("init", "seed", "first_layer")  # settings on which nothing depends that comes later

State = Mapping[str, Any]


def of_parameters(net: Model) -> dict[str, Any]:
    """Return settings and parameters."""
    settings = {name: np.array(value) if isinstance(value, tuple) else value for name, value in net._settings().items()}
    seed = "" if net.seed is None else str(net.seed)  # as text: a seed may be of any size
    weights = {f"weights_{i}": w.copy() for i, w in enumerate(net._weights)}
    biases = {f"biases_{i}": b.copy() for i, b in enumerate(net._biases)}
    return {"format": _FORMAT, **settings, "seed": seed, **weights, **biases}


def of_network(net: Model) -> dict[str, Any]:
    """Return settings, parameters and what training remembers."""
    remembered: dict[str, Any] = {
        "generator": json.dumps(net._generator.bit_generator.state),
        "regularization_seed": net._regularization_seed,
        "passes": net._passes,
        "history": json.dumps(asdict(net.history)),
    }
    progress = net._progress
    if progress is not None:
        remembered |= {
            "optimizer": type(progress.optimizer).__name__,
            "optimizer_settings": json.dumps(asdict(progress.optimizer)),
            "schedule": progress.schedule,
            "schedule_state": json.dumps(dict(progress.schedule_state), default=_plain),
            "learning_rate_factor": progress.learning_rate_factor,
            "steps": progress.steps,
            "epochs": progress.epochs,
        }
        for p, slots in enumerate(progress.memory):
            remembered |= {f"memory_{p}_{s}": slot.copy() for s, slot in enumerate(slots)}
    return of_parameters(net) | remembered


def make_network(kind: type[Net], state: State, source: str) -> Net:
    """Return a new network from what one of these has returned; `source` stands in messages."""
    settings, weights, biases = _parameters(state, source)
    try:
        net = kind(**settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source} is damaged: {error}") from error
    remembered = _remembered(net, state, source)
    net._fill(weights, biases)
    vars(net).update(remembered)
    return net


def into_network(net: Model, state: State, source: str) -> None:
    """Make `net` what one of these has returned; if it does not fit, nothing changes."""
    settings, weights, biases = _parameters(state, source)
    for name, own in net._settings().items():
        given = settings.get(name, DEFAULTS.get(name))
        given = tuple(given) if isinstance(given, list) else given
        if name not in _FREE and given != own:
            raise ValueError(f"{source} is of a network with {name}={given!r}, but this one has {own!r}")
    remembered = _remembered(net, state, source)
    net._fill(weights, biases)
    vars(net).update(remembered)


def _plain(value: Any) -> Any:
    """Return numbers, strings and lists of them, from arrays as files hold them or from themselves."""
    return np.asarray(value).tolist()


def _parameters(state: State, source: str) -> tuple[dict[str, Any], list[Floats], list[Floats]]:
    """Return settings (not yet checked), weights and biases, which fit layers and dtype.

    Raises
    ------
    ValueError
        If they do not, or something is missing.
    """
    if str(state.get("format")) not in _READABLE:
        raise ValueError(f"{source} holds no network saved by fastmlp")
    try:
        settings = {name: _plain(state[name]) for name in MAIN}
        sizes, seed = np.asarray(state["layers"]), str(state["seed"])
        weights = [np.asarray(state[f"weights_{i}"]) for i in range(sizes.size - 1)]
        biases = [np.asarray(state[f"biases_{i}"]) for i in range(sizes.size - 1)]
    except KeyError as error:
        raise ValueError(f"{source} is incomplete: it has no {error}") from error
    settings |= {name: _plain(state[name]) for name in DEFAULTS if name in state}
    if sizes.ndim != 1 or sizes.dtype.kind not in "iu":
        raise ValueError(f"{source} is damaged: its layers are {sizes.tolist()}")
    if seed and not (seed.isascii() and seed.isdecimal()):
        raise ValueError(f"{source} is damaged: its seed is {seed!r}")
    shapes = [(w.shape, b.shape) for w, b in zip(weights, biases, strict=True)]
    if shapes != [((i, o), (o,)) for i, o in itertools.pairwise(settings["layers"])]:
        raise ValueError(f"{source} has parameters that do not fit its layers {settings['layers']}")
    try:
        _check_finite("parameters", (*weights, *biases), settings["dtype"])
    except ValueError as error:
        raise ValueError(f"{source} is damaged: {error}") from error
    return settings | {"seed": int(seed) if seed else None}, weights, biases


def _check_finite(what: str, arrays: Sequence[npt.NDArray[Any]], dtype: str) -> None:
    for array in arrays:
        if array.dtype.name != dtype or not np.isfinite(array).all():
            raise ValueError(f"its {what} are not all finite numbers of {dtype}")


def _remembered(net: Model, state: State, source: str) -> dict[str, Any]:
    """Return the attributes of `net` that training remembers, as they would be new where `state` has none of them."""
    if "generator" not in state:
        return {"history": History(), "_progress": None}
    try:
        generator = batch_generator(0)
        generator.bit_generator.state = json.loads(str(state["generator"]))
        return {
            "_generator": generator,
            "_regularization_seed": _count(state, "regularization_seed"),
            "_passes": _count(state, "passes"),
            "history": History(**json.loads(str(state["history"]))),
            "_progress": _progress(net, state) if "optimizer" in state else None,
        }
    except KeyError as error:
        raise ValueError(f"{source} is incomplete: it has no {error}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source} is damaged: {error}") from error


def _count(state: State, name: str) -> int:
    value = _plain(state[name])
    if type(value) is not int or value < 0:
        raise TypeError(f"its {name} is {value!r}")
    return value


def _progress(net: Model, state: State) -> Progress:
    name = check_choice("its optimizer", str(state["optimizer"]), optimizers.__all__)
    optimizer = getattr(optimizers, name)(**json.loads(str(state["optimizer_settings"])))
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"its optimizer is {name}")
    slots = range(optimizer.slots)
    memory = [[np.asarray(state[f"memory_{p}_{s}"]) for s in slots] for p in range(2 * len(net._weights))]
    for parameter, given in zip(net._weights + net._biases, memory, strict=True):
        if any(slot.shape != parameter.shape for slot in given):
            raise ValueError("its optimizer's memory does not fit its layers")
        _check_finite("optimizer's numbers", given, net.dtype)
    return Progress(
        optimizer,
        net._remembered(memory),
        _count(state, "steps"),
        _count(state, "epochs"),
        str(state["schedule"]),
        json.loads(str(state["schedule_state"])),
        check_number("its learning_rate_factor", _plain(state["learning_rate_factor"])),
    )

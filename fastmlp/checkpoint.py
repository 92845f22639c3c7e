"""A network as a plain dict that a file can hold: settings, parameters and training state.

Values are arrays, numbers and strings. Nested structures are JSON, whose numbers keep every bit. `fastmlp.MLP` and
`fastmlp.reference.MLP` read and write the same format.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp import optimizers
from fastmlp.activations import Floats
from fastmlp.history import History
from fastmlp.losses import LOSSES
from fastmlp.names import Names
from fastmlp.optimizers import Optimizer
from fastmlp.random import RandomStreams, batch_generator, regularization_seed
from fastmlp.schedules import check_state
from fastmlp.schedules.base import plain_state
from fastmlp.training_state import TrainingState, Unfinished
from fastmlp.validation.settings import check_bool, check_choice, check_int, check_number

__all__ = [
    "DEFAULTS", "ENSEMBLE", "MAIN", "Saved", "check_same_settings", "check_savable", "parameters_dict", "read",
    "training_dict", "upgraded",
]  # fmt: skip

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
"""The other settings, with the values that they have if a file or pickle lacks them."""

ENSEMBLE = "fastmlp ensemble 1"
"""The format of a file with several networks, see `fastmlp.Ensemble.save`."""

_FORMAT = "fastmlp 2"
_READABLE = ("fastmlp 1", _FORMAT)
_MOST = 2**53
"""Counts in a state are smaller: steps of which a float64 knows each one."""
_MAY_DIFFER = ("init", "seed", "first_layer")  # settings that do not affect a trained network

State = Mapping[str, Any]


@dataclass
class Saved:
    """What `read` has found.

    Attributes
    ----------
    settings : dict
        Not checked yet.
    weights, biases : lists of arrays
        They fit the layers and the dtype.
    history : History
    names : Names
        They fit the layers.
    random : RandomStreams or None
    training_state : TrainingState or None
        Its arrays fit the layers and the dtype.
    """

    settings: dict[str, Any]
    weights: list[Floats]
    biases: list[Floats]
    history: History
    names: Names = field(default_factory=Names)
    random: RandomStreams | None = None
    training_state: TrainingState | None = None


# --- writing ----------------------------------------------------------------------------------------------------------


def parameters_dict(settings: State, weights: Sequence[Floats], biases: Sequence[Floats]) -> dict[str, Any]:
    """Return settings and copies of the parameters."""
    written = {name: np.array(value) if isinstance(value, tuple) else value for name, value in settings.items()}
    seed = "" if settings["seed"] is None else str(settings["seed"])  # as text: it may be larger than any integer type
    parameters = {f"weights_{i}": w.copy() for i, w in enumerate(weights)}
    parameters |= {f"biases_{i}": b.copy() for i, b in enumerate(biases)}
    return {"format": _FORMAT, **written, "seed": seed, **parameters}


def training_dict(history: History, random: RandomStreams, state: TrainingState | None) -> dict[str, Any]:
    """Return everything that training needs to resume, beside settings and parameters.

    Raises
    ------
    TypeError
        If the optimizer is not one of `fastmlp.optimizers`: no file can hold another class.
    """
    written: dict[str, Any] = {
        "generator": json.dumps(random.generator.bit_generator.state),
        "regularization_seed": random.seed,
        "passes": random.epoch,
        "history": json.dumps(asdict(history), default=_plain),
    }
    if state is not None:
        name = type(state.optimizer).__name__
        if getattr(optimizers, name, None) is not type(state.optimizer):
            raise TypeError(
                f"training with the optimizer {name}, which is not one of fastmlp.optimizers, cannot be saved; "
                "net.save(path) saves the parameters alone"
            )
        written |= {
            "optimizer": name,
            "optimizer_settings": json.dumps(asdict(state.optimizer)),
            "schedule": state.schedule,
            "schedule_state": json.dumps(dict(state.schedule_state), default=_plain),
            "learning_rate_factor": state.learning_rate_factor,
            "steps": state.steps,
            "epochs": state.epochs,
            "batch_size": state.batch_size,
        }
        if state.unfinished is not None:
            written["unfinished"] = json.dumps(asdict(state.unfinished))
        for p, slots in enumerate(state.optimizer_state):
            written |= {f"memory_{p}_{s}": slot.copy() for s, slot in enumerate(slots)}
    return written


def _plain(value: Any) -> Any:
    """Return numbers, strings and lists as Python's own, also from the arrays of a file."""
    return np.asarray(value).tolist()


# --- reading ----------------------------------------------------------------------------------------------------------


def read(state: State, source: str) -> Saved:
    """Read what the functions above have written; `source` names it in messages.

    Raises
    ------
    ValueError
        If something is missing or does not fit the layers and the dtype.
    """
    if str(state.get("format")) == ENSEMBLE:
        raise ValueError(f"{source} holds an ensemble of networks; read it with fastmlp.Ensemble.load")
    if str(state.get("format")) not in _READABLE:
        raise ValueError(f"{source} holds no network saved by fastmlp")
    try:
        return _read(state)
    except KeyError as error:
        raise ValueError(f"{source} is incomplete: it has no {error}") from error
    except _WRONG as error:
        raise ValueError(f"{source} is damaged: {error}") from error


def check_savable(state: State) -> None:
    """Refuse a state from which `read` could not make the network again.

    Raises
    ------
    ValueError
        For example if training has made parameters infinite.
    """
    try:
        _read(state)
    except _WRONG as error:
        raise ValueError(f"the network cannot be saved: {error}") from error


_WRONG = (TypeError, ValueError, OverflowError, AttributeError, RecursionError)  # what a wrong value may raise below


def _read(state: State) -> Saved:
    saved = _parameters(state)
    if "generator" in state:
        _read_training(state, saved)
    return saved


def check_same_settings(saved: Saved, settings: State, source: str) -> None:
    """Refuse what belongs to a network with other settings."""
    for name, own in settings.items():
        given = saved.settings.get(name, DEFAULTS.get(name))
        given = tuple(given) if isinstance(given, list) else given
        if name not in _MAY_DIFFER and given != own:
            raise ValueError(f"{source} is of a network with {name}={given!r}, but this one has {own!r}")


def _parameters(state: State) -> Saved:
    settings = {name: _plain(state[name]) for name in MAIN}
    sizes, seed = np.asarray(state["layers"]), str(state["seed"])
    weights = [np.asarray(state[f"weights_{i}"]) for i in range(sizes.size - 1)]
    biases = [np.asarray(state[f"biases_{i}"]) for i in range(sizes.size - 1)]
    settings |= {name: _plain(state[name]) for name in DEFAULTS if name in state}
    for name, value in settings.items():
        if not isinstance(value, (str, int, float, list)) and value is not None:
            raise TypeError(f"its {name} is {value!r}")
    if sizes.ndim != 1 or sizes.dtype.kind not in "iu":
        raise ValueError(f"its layers are {sizes.tolist()}")
    if seed and not (seed.isascii() and seed.isdecimal()):
        raise ValueError(f"its seed is {seed!r}")
    shapes = [(w.shape, b.shape) for w, b in zip(weights, biases, strict=True)]
    if shapes != [((i, o), (o,)) for i, o in itertools.pairwise(settings["layers"])]:
        raise ValueError(f"its parameters do not fit its layers {settings['layers']}")
    _check_finite("parameters", (*weights, *biases), settings["dtype"])
    output = check_choice("its output", settings.get("output", DEFAULTS["output"]), list(LOSSES))
    names = Names.from_dict(state, settings["layers"][0], LOSSES[output](settings["layers"][-1]))
    return Saved(settings | {"seed": int(seed) if seed else None}, weights, biases, History(), names)


def _check_finite(what: str, arrays: Sequence[npt.NDArray[Any]], dtype: str) -> None:
    for array in arrays:
        if array.dtype.name != dtype or not np.isfinite(array).all():
            raise ValueError(f"its {what} are not all finite numbers of {dtype}")


def _read_training(state: State, saved: Saved) -> None:
    generator, written = batch_generator(0), json.loads(_text(state, "generator"))
    generator.bit_generator.state = written
    if generator.bit_generator.state != written:
        raise ValueError("its random generator has an unknown state")
    seed = _count(state, "regularization_seed", 2**32)
    saved.random = RandomStreams(generator, seed, _count(state, "passes"))
    saved.history = _history(json.loads(_text(state, "history")))
    if "optimizer" in state:
        saved.training_state = _training_state(state, saved)


def _history(written: Any) -> History:
    history = History(**written)
    if not isinstance(history.metrics, dict):
        raise TypeError(f"the metrics of its history are {history.metrics!r}")
    check_bool("interrupted in its history", history.interrupted)
    check_int("steps in its history", history.steps, 0)
    lists = {name: value for name, value in vars(history).items() if name not in ("metrics", "interrupted", "steps")}
    for name, values in (lists | history.metrics).items():
        if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
            raise TypeError(f"{name} in its history is not a list of numbers")
    return history


def _training_state(state: State, saved: Saved) -> TrainingState:
    name = check_choice("its optimizer", _text(state, "optimizer"), optimizers.__all__)
    optimizer = getattr(optimizers, name)(**json.loads(_text(state, "optimizer_settings")))
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"its optimizer is {name}")
    optimizer_state: list[list[Floats]] = []
    for p, parameter in enumerate(saved.weights + saved.biases):
        slots = [np.asarray(state[f"memory_{p}_{s}"]) for s in range(optimizer.slots)]
        if any(slot.shape != parameter.shape for slot in slots):
            raise ValueError("its optimizer's state does not fit its layers")
        _check_finite("optimizer's numbers", slots, saved.settings["dtype"])
        squares = optimizer.squares
        if squares is not None and slots[squares].size and slots[squares].min() < 0:
            raise ValueError("its optimizer's means of squares are negative")
        optimizer_state.append(slots)
    schedule, schedule_state = _text(state, "schedule"), plain_state(json.loads(_text(state, "schedule_state")))
    check_state(schedule, schedule_state)
    return TrainingState(
        optimizer,
        optimizer_state,
        _count(state, "steps"),
        _count(state, "epochs"),
        schedule,
        schedule_state,
        check_number("its learning_rate_factor", _plain(state["learning_rate_factor"])),
        _unfinished(json.loads(_text(state, "unfinished"))) if "unfinished" in state else None,
        _count(state, "batch_size") if "batch_size" in state else 0,  # older files lack it
    )


def _unfinished(written: dict[str, Any]) -> Unfinished:
    unfinished = Unfinished(**written)
    for name, value in vars(unfinished).items():
        if name in ("loss", "penalty", "seconds"):
            check_number(f"{name} of its unfinished epoch", value)
        else:
            check_int(f"{name} of its unfinished epoch", value, 0)
    return unfinished


def _text(state: State, name: str) -> str:
    value = _plain(state[name])
    if not isinstance(value, str) or "\0" in value:
        raise TypeError(f"its {name} is {value!r}")
    return value


def _count(state: State, name: str, most: int = _MOST) -> int:
    value = _plain(state[name])
    if type(value) is not int or not 0 <= value < most:
        raise TypeError(f"its {name} is {value!r}")
    return value


# --- older pickles ----------------------------------------------------------------------------------------------------


def upgraded(state: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a pickled network under their present names.

    Older pickles lack some settings, and have the fields of `RandomStreams` as attributes of the network.
    """
    state = {"_training_state": None, "_names": Names(), **DEFAULTS, **state}
    if "_random" not in state:
        generator, seed = state.pop("_generator"), state.pop("_regularization_seed", None)
        seed = regularization_seed(state["seed"]) if seed is None else seed
        state["_random"] = RandomStreams(generator, seed, state.pop("_passes", 0))
        state["_training_state"] = state.pop("_progress", None)
    return state

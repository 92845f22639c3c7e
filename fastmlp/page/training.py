"""How a network was trained: its layers and settings, learning curves, machine and versions, and how to repeat it."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastmlp.history import History
from fastmlp.many.ensemble import Ensemble
from fastmlp.network import Network
from fastmlp.page.packing import plain
from fastmlp.plots.images import evenly
from fastmlp.plots.subject import Subject

__all__ = ["curves_of", "title_of", "trained"]

_MOST_EPOCHS, _MOST_NUMBERS = 1000, 60_000  # in a chart, and in all; of longer fits, evenly spaced epochs
_MOST_MEMBERS = 20  # with a line of their own
_PACKAGES = ("numpy", "numba", "scikit-learn")
_USUAL = (("input scale", 1.0), ("first layer", "auto"))  # settings that say nothing
_NOT_IN_CHARTS = ("seconds",)
_FORGOTTEN = "A network does not remember its rows, their weights, clipping and callbacks."


def title_of(subject: Subject) -> str:
    """Return the sizes of the layers, and how many networks there are."""
    nets = subject.networks
    if not nets:
        return type(subject.inner).__name__
    sizes = "–".join(map(str, nets[0].layers))
    return sizes if len(nets) == 1 else f"{len(nets)} × {sizes}"


def trained(subject: Subject, histories: Sequence[History], command: str | None) -> dict[str, Any]:
    """Return layers, the command that repeats the training, and facts."""
    forgets = command is None and isinstance(subject.model, (Network, Ensemble))
    return {
        "layers": _layers(subject),
        "command": _program(subject, histories) if command is None else command,
        "command_note": _FORGOTTEN if forgets else None,
        "facts": [[name, str(value)] for name, value in (*_settings(subject, histories), *_machine())],
    }


def _layers(subject: Subject) -> list[dict[str, Any]]:
    if not subject.networks:
        return []
    net = subject.networks[0]
    functions = [*net.activations, net.output]
    return [
        {
            "name": f"hidden {i}" if i < len(functions) else "output",
            "inputs": net.layers[i - 1],
            "outputs": net.layers[i],
            "activation": function,
            "parameters": (net.layers[i - 1] + 1) * net.layers[i],
        }
        for i, function in enumerate(functions, 1)
    ]


# --- to repeat it -----------------------------------------------------------------------------------------------------


def _program(subject: Subject, histories: Sequence[History]) -> str:
    """Return the program that makes such a model, as far as the model remembers it."""
    model = subject.model
    if not isinstance(model, (Network, Ensemble)):
        text = model.__repr__(N_CHAR_MAX=100_000)
        return f"{_imports(model, text)}\n\nmodel = {text}\nmodel.fit(X_train, y_train)"
    state = subject.networks[0]._training_state
    imports = ["Ensemble", "MLP"] if isinstance(model, Ensemble) else ["MLP"]
    arguments = []
    if n_epochs := max((len(history.loss) for history in histories), default=0):
        arguments.append(f"epochs={n_epochs}")
    if state is not None:
        if state.batch_size:
            arguments.append(f"batch_size={state.batch_size}")
        imports.append("optimizers")
        arguments.append(f"optimizer=optimizers.{_shown(state.optimizer)}")
        if state.schedule != "Constant":
            imports.append("schedules")
            arguments.append(f"schedule=schedules.{state.schedule}(...)")
    fit = ", ".join(["X_train", "y_train", *arguments])
    return f"from fastmlp import {', '.join(imports)}\n\nnet = {model!r}\nnet.fit({fit})"


def _imports(model: Any, text: str) -> str:
    """Return the lines that import an estimator and those inside of it."""
    kinds = {type(each) for each in (model, *model.get_params().values())}
    named = {(kind.__module__, kind.__name__) for kind in kinds if f"{kind.__name__}(" in text}
    places = {("fastmlp" if module.startswith("fastmlp.") else module.split("._")[0], name) for module, name in named}
    return "\n".join(f"from {module} import {name}" for module, name in sorted(places))


def _shown(optimizer: Any) -> str:
    """Return an optimizer as code, without settings that have their defaults."""
    fields = dataclasses.fields(optimizer) if dataclasses.is_dataclass(optimizer) else ()
    given = [
        f"{field.name}={getattr(optimizer, field.name)!r}"
        for field in fields
        if field.name == "learning_rate" or getattr(optimizer, field.name) != field.default
    ]
    return f"{type(optimizer).__name__}({', '.join(given)})" if fields else repr(optimizer)


def _settings(subject: Subject, histories: Sequence[History]) -> list[tuple[str, Any]]:
    """Return what is not said by the table of layers."""
    if not subject.networks:
        return []
    net = subject.networks[0]
    settings = net._settings() if subject.inner is net or isinstance(subject.inner, Ensemble) else {}
    left_out = ("layers", "activation", "output", "seed")
    facts = [(name.replace("_", " "), value) for name, value in settings.items() if name not in left_out]
    facts = [(name, value) for name, value in facts if value and (name, value) not in _USUAL]
    if isinstance(subject.inner, (Network, Ensemble)):
        facts.insert(0, ("seed", subject.inner.seed))
    elif hasattr(subject.inner, "random_state"):
        facts += [("random state", subject.inner.random_state), ("solver", subject.inner.solver)]
        facts += [("dtype", net.dtype)]
    if net._training_state is not None and settings:
        state = net._training_state
        facts += [("optimizer", _shown(state.optimizer)), ("schedule", state.schedule)]
        facts += [("batch size", state.batch_size)] if state.batch_size else []
    epochs = sorted({len(history.loss) for history in histories} - {0})
    if epochs:
        facts.append(("epochs", "–".join(dict.fromkeys(f"{n:,}" for n in (epochs[0], epochs[-1])))))
    steps = sum(history.steps for history in histories)
    return [*facts, *([("steps", f"{steps:,}")] if steps else [])]


def _machine() -> list[tuple[str, Any]]:
    """Return the machine and the versions with which the page is written."""
    from fastmlp import __version__  # which imports this package
    from fastmlp.bench.machine import facts  # which needs the kernels

    known = facts()
    now = datetime.datetime.now(datetime.UTC)
    found = [
        ("page written", f"{now:%Y-%m-%d %H:%M} UTC"),
        ("machine", f"{known['processor']}, {os.cpu_count()} cores"),
        ("system", known["system"]),
        ("Python", platform.python_version()),
        ("fastmlp", __version__),
    ]
    return found + [(name, importlib.metadata.version(name)) for name in _PACKAGES]


# --- learning curves --------------------------------------------------------------------------------------------------


def curves_of(histories: Sequence[History]) -> dict[str, Any]:
    """Return a panel for each measurement, with lines of training and validation; of several fits, their mean."""
    measured = [history.to_dict() for history in histories if history.loss]
    n = max((len(each["loss"]) for each in measured), default=0)
    names = [name for name in dict.fromkeys(name for each in measured for name in each) if name not in _NOT_IN_CHARTS]
    most = _MOST_NUMBERS // max(1, len(names) * (2 + len(measured) * (len(measured) <= _MOST_MEMBERS)))
    n_shown = min(n, _MOST_EPOCHS, max(most, 2))
    shown = evenly(n, n_shown)
    lists = {name: [_padded(each[name], n)[shown] for each in measured if name in each] for name in names}
    means = {name: _mean(values) for name, values in lists.items()}
    panels = []
    for base in dict.fromkeys(name.removeprefix("val_") for name in names):
        if base == "learning_rate" and len({*means[base][np.isfinite(means[base])].tolist()}) < 2:
            continue
        lines = []
        for name, kind in ((base, "training"), (f"val_{base}", "validation")):
            if name not in means:
                continue
            members = lists[name] if 1 < len(lists[name]) <= _MOST_MEMBERS else []
            lines += [{"name": kind, "kind": f"{kind} member", "quiet": True, "values": plain(v)} for v in members]
            lines.append({"name": kind, "kind": kind, "values": plain(means[name])})
        panels.append({"title": base.replace("_", " "), "lines": lines})
    lines_too = "; thin lines are the networks" if len(measured) <= _MOST_MEMBERS else ""
    note = f"The mean of {len(measured)} networks{lines_too}." if len(measured) > 1 else None
    return {
        "epochs": (shown + 1).tolist(),
        "panels": panels,
        "table": {name: plain(values) for name, values in means.items()},
        "note": note,
    }


def _padded(values: list[float], n: int) -> Any:
    padded = np.full(n, np.nan)
    padded[: len(values)] = values
    return padded


def _mean(values: list[Any]) -> Any:
    """Return the mean of those that are there."""
    stacked = np.array(values)
    there = np.isfinite(stacked)
    total = np.where(there, stacked, 0).sum(axis=0)
    return np.where(there.any(axis=0), total / np.maximum(there.sum(axis=0), 1), np.nan)

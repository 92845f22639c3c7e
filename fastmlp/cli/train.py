"""``fastmlp train``."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import fastmlp
from fastmlp.cli.data import DATA_SETS, count_classes, load
from fastmlp.cli.output import INTERRUPTED, in_options, say, tell
from fastmlp.cli.plots import check_plots, write_plots
from fastmlp.cli.report import check_page, write_page

if TYPE_CHECKING:  # slow to import
    from fastmlp.callbacks import EarlyStopping
    from fastmlp.optimizers import Optimizer
    from fastmlp.presets import Preset

__all__ = ["train"]

_N_SAMPLES = 5
_FRACTION = 0.1  # that --patience holds out, as scikit-learn does


def train(arguments: argparse.Namespace) -> int:
    """Load, train, save and report; return the exit status."""
    preset, class_weight = _chosen(arguments), _joined(arguments.class_weight)
    if arguments.save is not None:
        _check_save(arguments.save, arguments.data)
    if arguments.report is not None:
        check_page(arguments.report, "--report", arguments.data, arguments.save)
    if arguments.plot is not None:
        check_plots(arguments.plot)
    x_train, y_train, x_test, y_test = load(arguments.data)
    n_classes = count_classes(y_train)
    _check_class_weight(class_weight, y_train, n_classes)
    settings = {"activation": preset.activation, "init": arguments.init, **preset.settings}
    layers = [x_train.shape[1], *preset.hidden, n_classes]
    net = fastmlp.MLP(layers, seed=arguments.seed, n_threads=arguments.threads, **settings)
    fraction = arguments.validation_fraction
    if fraction is None and arguments.patience is not None:
        fraction = _FRACTION
    held_out = {"validation_data": (x_test, y_test)} if fraction is None else {"validation_fraction": fraction}
    say(_summary(net, preset, class_weight, fraction, len(x_train), len(x_test)))
    callbacks, stopping = _callbacks("test accuracy" if fraction is None else "validation accuracy", arguments.patience)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", UserWarning)
        history = net.fit(
            x_train, y_train, class_weight=class_weight, callbacks=callbacks, **held_out, **preset.training
        )
    if history.interrupted and history.steps == 0:
        tell("fastmlp train: interrupted before the first step; nothing is saved")
        return INTERRUPTED
    if history.interrupted:
        done = f"{len(history.loss)} of {preset.epochs} epochs"
        tell(f"fastmlp train: interrupted after {done}; the results are those so far")
    for each in warned:
        if not str(each.message).startswith("Ctrl-C"):  # which has been told
            tell(f"fastmlp train: {in_options(str(each.message))}")
    try:
        if arguments.save is not None:  # before the report, which may fail in a broken pipe
            net.save(arguments.save)
            tell(f"saved {arguments.save}")
        if arguments.report is not None:
            write_page(net, x_test, y_test, arguments.report, arguments.command_line)
    finally:
        _report(net, x_test, y_test, stopping, len(history.loss))
    if arguments.plot is not None:
        write_plots(arguments.plot, arguments.plot_format, net, x_test, y_test)
    return INTERRUPTED if history.interrupted else 0


def _chosen(arguments: argparse.Namespace) -> Preset:
    """Return the preset with what was given in its place; the default is plain SGD."""
    from fastmlp.optimizers import OPTIMIZERS
    from fastmlp.presets import PRESETS, Preset
    from fastmlp.schedules import Constant, get_schedule

    if arguments.preset is None:
        preset = Preset((128,), 10, 64, OPTIMIZERS["sgd"], Constant(), {})
    else:
        preset = PRESETS[arguments.preset]
    optimizer = OPTIMIZERS[arguments.optimizer] if arguments.optimizer else preset.optimizer
    if arguments.learning_rate is not None:
        optimizer = replace(optimizer, learning_rate=arguments.learning_rate)
    given: dict[str, Any] = {
        "hidden": None if arguments.layers is None else tuple(arguments.layers),
        "epochs": arguments.epochs,
        "batch_size": arguments.batch_size,
        "optimizer": optimizer,
        "schedule": None if arguments.schedule is None else get_schedule(arguments.schedule),
        "activation": arguments.activation,
    }
    rates = arguments.dropout
    of_network = {
        "dropout": rates[0] if rates is not None and len(rates) == 1 else rates,
        "l2": arguments.l2,
    }
    given["settings"] = {**preset.settings, **{name: value for name, value in of_network.items() if value is not None}}
    return replace(preset, **{name: value for name, value in given.items() if value is not None})


def _joined(weights: list[Any] | None) -> Any:
    """Return the class weights as `fit` takes them."""
    if weights is None or weights == ["balanced"]:
        return None if weights is None else "balanced"
    kinds = {type(weight) for weight in weights}
    if kinds == {float}:
        return weights
    if kinds == {tuple}:
        return dict(weights)
    raise ValueError("--class-weight takes balanced, or numbers, or CLASS=NUMBER, but no mixture of them")


def _check_class_weight(weights: Any, labels: Any, n_classes: int) -> None:
    """Refuse weights that do not fit the classes, before anything is printed."""
    from fastmlp.validation.rows import check_class_weight

    if isinstance(weights, list) and len(weights) != n_classes:
        raise ValueError(f"--class-weight has {len(weights)} numbers, but there are {n_classes} classes")
    of_classes = check_class_weight(weights, labels, n_classes)
    if of_classes is not None and not of_classes[labels].any():
        raise ValueError("--class-weight is 0 for every training row; some must be more than 0")


def _check_save(path: str, data: str) -> None:
    """Refuse a path to which the network cannot be saved, before training begins."""
    from fastmlp.interchange.safetensors import check_target

    check_target(path)
    if data in DATA_SETS or not (os.path.exists(path) and os.path.exists(data)):
        return
    in_folder = os.path.isdir(data) and "-ubyte" in path and os.path.samefile(os.path.dirname(path) or ".", data)
    if in_folder or os.path.samefile(path, data):
        raise ValueError(f"--save {path!r} would overwrite the data")


def _summary(net: Any, preset: Preset, class_weight: Any, fraction: float | None, n_train: int, n_test: int) -> str:
    """Describe in one line what will be trained."""
    from fastmlp.engine.cores import available_threads

    n_threads = net.n_threads or available_threads()
    up_to = "up to " if net.n_threads is None and n_threads > 1 else ""  # the network uses fewer for small steps
    rows = f"{n_train:,} training and {n_test:,} test rows"
    if fraction is not None:
        rows = f"{n_train:,} training rows, {fraction:g} of them for validation, {n_test:,} test rows"
    parts = [
        f"{'-'.join(map(str, net.layers))} {net.activation}",
        *[f"{name.replace('_', ' ')} {_plain(getattr(net, name))}" for name in _SETTINGS if getattr(net, name)],
        rows,
        f"batch {preset.batch_size}",
        _described(preset.optimizer),
        *([f"schedule {_name(preset.schedule)}"] if _name(preset.schedule) != "Constant" else []),
        *([] if class_weight is None else [f"class weights {_plain(class_weight)}"]),
        f"seed {net.seed}",
        f"{up_to}{n_threads} thread{'' if n_threads == 1 else 's'}",
    ]
    return ", ".join(parts)


_SETTINGS = ("dropout", "input_dropout", "label_smoothing", "l2")


def _name(thing: object) -> str:
    return type(thing).__name__


def _described(optimizer: Optimizer) -> str:
    momentum, nesterov = getattr(optimizer, "momentum", 0), getattr(optimizer, "nesterov", False)
    how = f" with {'Nesterov ' * nesterov}momentum {momentum:g}" if momentum else ""
    return f"{_name(optimizer)} {optimizer.learning_rate:g}{how}"


def _plain(value: Any) -> str:
    """Return a setting without brackets."""
    if isinstance(value, dict):
        return " ".join(f"{label}={weight:g}" for label, weight in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(f"{each:g}" for each in value)
    return value if isinstance(value, str) else f"{value:g}"


def _callbacks(what: str, patience: int | None) -> tuple[list[object], EarlyStopping | None]:
    """Return the table, with a progress bar if both outputs are terminals, and early stopping if asked for."""
    from fastmlp.callbacks import EarlyStopping, ProgressBar, Table

    columns = {"loss": "loss", "accuracy": "train accuracy", "val_accuracy": what, "seconds": "seconds"}
    stopping = None if patience is None else EarlyStopping(patience=patience)
    others = [] if stopping is None else [stopping]
    if not all(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr)):
        return [Table(columns=columns, write=say), *others], stopping
    from tqdm import tqdm

    return [ProgressBar(), Table(columns=columns, write=tqdm.write), *others], stopping


def _report(net: Any, x_test: Any, y_test: Any, stopping: EarlyStopping | None, n_epochs: int) -> None:
    """Print predictions of a few evenly spaced test rows, and the accuracy on all of them."""
    if stopping is not None and stopping.best_epoch:
        why = f"stopped after epoch {n_epochs}: " if stopping.stopped else ""
        say(f"\n{why}the validation loss was best in epoch {stopping.best_epoch}, whose parameters are kept")
    n_samples = min(_N_SAMPLES, len(x_test))
    rows = [i * len(x_test) // n_samples for i in range(n_samples)]
    say("\ntest row  label  predicted  confidence")
    for row, label, probabilities in zip(rows, y_test[rows], net.predict_proba(x_test[rows]), strict=True):
        predicted = int(probabilities.argmax())
        mark = "" if predicted == label else "  wrong"
        say(f"{row:8}{label:7}{predicted:11}{probabilities[predicted]:12.4f}{mark}")
    say(f"\ntest accuracy {net.score(x_test, y_test):.4f}")

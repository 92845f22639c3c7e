"""``fastmlp train``."""

from __future__ import annotations

import argparse
import sys
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import fastmlp
from fastmlp.cli.data import DATA_SETS
from fastmlp.cli.files import refuse_overwriting, refuse_same_output
from fastmlp.cli.output import INTERRUPTED, in_options, say, tell
from fastmlp.cli.plots import check_plots, write_plots
from fastmlp.cli.report import check_page, write_page
from fastmlp.cli.train_data import TrainData, load_data

if TYPE_CHECKING:  # slow to import
    from fastmlp.callbacks import EarlyStopping
    from fastmlp.optimizers import Optimizer
    from fastmlp.presets import Preset

__all__ = ["train"]

_N_SAMPLES = 5
_FRACTION = 0.1  # that --patience holds out, as scikit-learn does


def train(arguments: argparse.Namespace) -> int:
    """Load, train, save and report; return the exit status."""
    class_weight = _joined(arguments.class_weight)
    refuse_same_output({"--save": arguments.save, "--report": arguments.report, "--plot": arguments.plot})
    if arguments.save is not None:
        _check_save(arguments.save, arguments.data)
    if arguments.plot is not None:
        check_plots(arguments.plot)
    if arguments.report is not None:
        check_page(arguments.report, "--report", arguments.data)
    data = load_data(arguments)
    preset = _chosen(arguments, data)
    class_weight = _checked_class_weight(class_weight, data)
    settings = {"activation": preset.activation, "init": arguments.init, **preset.settings}
    if data.is_regression:
        settings = {name: value for name, value in settings.items() if name != "label_smoothing"}
        settings["output"] = "identity"
    layers = [data.X_train.shape[1], *preset.hidden, data.n_outputs]
    net = fastmlp.MLP(layers, seed=arguments.seed, n_threads=arguments.threads, **settings)
    data.name_classes(net)
    fraction = arguments.validation_fraction
    if fraction is None and arguments.patience is not None:
        fraction = _FRACTION
    X, y, X_val, y_val = data.scaled()
    held_out: dict[str, Any] = {"validation_fraction": fraction}
    if fraction is None:
        held_out = {"validation_data": (X_val, y_val)}
    if data.is_regression:
        held_out["metrics"] = ["r2"]
    say(_summary(net, preset, class_weight, fraction, data))
    every = 1 if data.target is None or arguments.epochs is not None else preset.epochs // 10
    rows = "test" if fraction is None else "validation"
    callbacks, stopping = _callbacks(_columns(rows, data.is_regression), arguments.patience, every)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", UserWarning)
        history = net.fit(X, y, class_weight=class_weight, callbacks=callbacks, **held_out, **preset.training)
    if data.scaling is not None:
        data.scaling.fold_into(net)
    x_test, y_test = data.X_test, data.y_test
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


def _chosen(arguments: argparse.Namespace, data: TrainData) -> Preset:
    """Return the preset with what was given in its place; the default is plain SGD, and Adam for tables."""
    from fastmlp.optimizers import OPTIMIZERS
    from fastmlp.presets import PRESETS, Preset
    from fastmlp.schedules import Constant, get_schedule

    if arguments.preset is None:
        preset = Preset((128,), 10, 64, OPTIMIZERS["sgd"], Constant(), {})
        if data.target is not None:
            preset = replace(preset, optimizer=OPTIMIZERS["adam"], epochs=_epochs_of_table(len(data.y_train)))
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


def _epochs_of_table(n_rows: int) -> int:
    """Return 10, and up to 100 for few rows, whose epochs have few steps."""
    return min(100, max(10, 100_000 // n_rows))


def _joined(weights: list[Any] | None) -> Any:
    """Return the class weights as `fit` takes them."""
    if weights is None or weights == ["balanced"]:
        return None if weights is None else "balanced"
    kinds = {type(weight) for weight in weights}
    if kinds == {float}:
        return weights
    if kinds == {tuple}:
        return dict(weights)
    raise ValueError("--class-weight takes balanced, or numbers, or CLASS=NUMBER, but not a mixture of them")


def _checked_class_weight(weights: Any, data: TrainData) -> Any:
    """Return weights that fit the classes, before anything is printed."""
    from fastmlp.names import Names
    from fastmlp.validation.rows import check_class_weight

    if weights is None:
        return None
    if data.is_regression:
        raise ValueError("--class-weight is for classes, but the target has numbers")
    if isinstance(weights, dict) and data.classes is not None and data.classes.dtype.kind == "U":
        weights = {str(label): weight for label, weight in weights.items()}
    labels, n_classes = data.codes(), data.n_outputs
    if isinstance(weights, list) and len(weights) != n_classes:
        raise ValueError(f"--class-weight has {len(weights)} numbers, but there are {n_classes} classes")
    of_classes = check_class_weight(Names(None, data.classes).class_weight(weights), labels, n_classes)
    if of_classes is not None and not of_classes[labels].any():
        raise ValueError("--class-weight is 0 for every training row; some must be more than 0")
    return weights


def _check_save(path: str, data: str) -> None:
    """Refuse a path to which the network cannot be saved, before training begins."""
    from fastmlp.interchange.safetensors import check_target

    check_target(path)
    if data not in DATA_SETS:
        refuse_overwriting(path, data, option="--save")


def _summary(net: Any, preset: Preset, class_weight: Any, fraction: float | None, data: TrainData) -> str:
    """Describe in one line what will be trained."""
    from fastmlp.engine.cores import available_threads

    n_train, n_test = len(data.X_train), len(data.X_test)
    n_threads = net.n_threads or available_threads()
    up_to = "up to " if net.n_threads is None and n_threads > 1 else ""  # the network uses fewer for small steps
    rows = f"{n_train:,} training and {n_test:,} test rows"
    if fraction is not None:
        rows = f"{n_train:,} training rows, {fraction:g} of them for validation, {n_test:,} test rows"
    parts = [
        f"{'-'.join(map(str, net.layers))} {net.activation}",
        *[f"{name.replace('_', ' ')} {_plain(getattr(net, name))}" for name in _SETTINGS if getattr(net, name)],
        *([] if data.target is None else [_target(data)]),
        rows,
        f"batch {preset.batch_size}",
        _described(preset.optimizer),
        *([f"schedule {_name(preset.schedule)}"] if _name(preset.schedule) != "Constant" else []),
        *([] if class_weight is None else [f"class weights {_plain(class_weight)}"]),
        f"seed {net.seed}",
        f"{up_to}{n_threads} thread{'' if n_threads == 1 else 's'}",
    ]
    return ", ".join(parts)


def _target(data: TrainData) -> str:
    what = "a number" if data.is_regression else f"{data.n_outputs} classes"
    return f"target {data.target!r} ({what})"


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


def _columns(rows: str, is_regression: bool) -> dict[str, str]:
    """Return the headings of the table; `rows` says which are held out."""
    measured = {"val_loss": f"{rows} loss", "val_r2": f"{rows} R2"}
    if not is_regression:
        measured = {"accuracy": "train accuracy", "val_accuracy": f"{rows} accuracy"}
    return {"loss": "loss", **measured, "seconds": "seconds"}


def _callbacks(columns: dict[str, str], patience: int | None, every: int) -> tuple[list[object], EarlyStopping | None]:
    """Return the table, with a progress bar if both outputs are terminals, and early stopping if asked for."""
    from fastmlp.callbacks import EarlyStopping, ProgressBar, Table

    stopping = None if patience is None else EarlyStopping(patience=patience)
    others = [] if stopping is None else [stopping]
    if not all(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr)):
        return [Table(every, columns, write=say), *others], stopping
    from tqdm import tqdm

    return [ProgressBar(), Table(every, columns, write=tqdm.write), *others], stopping


def _report(net: Any, x_test: Any, y_test: Any, stopping: EarlyStopping | None, n_epochs: int) -> None:
    """Print predictions of a few evenly spaced test rows, and the accuracy on all of them."""
    if stopping is not None and stopping.best_epoch:
        why = f"stopped after epoch {n_epochs}: " if stopping.stopped else ""
        say(f"\n{why}the validation loss was best in epoch {stopping.best_epoch}, whose parameters are kept")
    n_samples = min(_N_SAMPLES, len(x_test))
    rows = [i * len(x_test) // n_samples for i in range(n_samples)]
    if net.output == "identity":
        _report_numbers(net, x_test, y_test, rows)
        return
    labels, predicted = y_test[rows], net.predict(x_test[rows])
    width = max(7, *(len(str(label)) + 2 for label in (*labels, *predicted)))
    say(f"\ntest row{'label':>{width}}{'predicted':>{max(width, 11)}}  confidence")
    for row, label, guess, sure in zip(rows, labels, predicted, net.predict_proba(x_test[rows]).max(1), strict=True):
        mark = "" if guess == label else "  wrong"
        say(f"{row:8}{label!s:>{width}}{guess!s:>{max(width, 11)}}{sure:12.4f}{mark}")
    say(f"\ntest accuracy {net.score(x_test, y_test):.4f}")


def _report_numbers(net: Any, x_test: Any, y_test: Any, rows: list[int]) -> None:
    """Print predictions of some test rows, and how good all are."""
    from fastmlp.metrics import r2

    predicted = net.predict(x_test).astype(float)  # the squares of large float32 numbers are infinite
    say("\ntest row      target   predicted")
    for row in rows:
        say(f"{row:8}{y_test[row]:12.5g}{predicted[row]:12.5g}")
    error = float(((predicted - y_test) ** 2).mean() ** 0.5)
    say(f"\ntest R2 {float(r2(y_test, predicted)):.4f}, root mean squared error {error:.5g}")

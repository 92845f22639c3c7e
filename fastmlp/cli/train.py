"""``fastmlp train``."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import fastmlp
from fastmlp.cli.data import DATA_SETS, count_classes, load
from fastmlp.cli.output import INTERRUPTED, say

if TYPE_CHECKING:  # slow to import
    from fastmlp.callbacks import FitState
    from fastmlp.cli.presets import Preset

__all__ = ["EpochTable", "preset_of", "train"]

_N_SAMPLES = 5
_FEW_STEPS = 100  # after so few the loss may still be high


class EpochTable:
    """A callback that prints a line for each epoch. The fit must have validation data.

    Parameters
    ----------
    write
        Prints a line; ``tqdm.write`` if there is a progress bar.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def on_fit_begin(self, net: object, fit: FitState) -> None:
        """Print the heading."""
        self._write("epoch      loss  train accuracy  test accuracy  seconds")

    def on_epoch_end(self, net: object, fit: FitState) -> None:
        """Print the line of the finished epoch."""
        done = fit.history
        self._write(
            f"{fit.epoch:5}  {done.loss[-1]:8.4f}  {done.accuracy[-1]:14.4f}  {done.val_accuracy[-1]:13.4f}"
            f"  {done.seconds[-1]:7.3f}"
        )


def preset_of(arguments: argparse.Namespace) -> Preset:
    """Return the requested preset; the default is plain SGD."""
    from fastmlp.cli.presets import PRESETS, Preset
    from fastmlp.optimizers import SGD
    from fastmlp.schedules import Constant

    if arguments.preset is None:
        rate = arguments.learning_rate
        return Preset((), arguments.epochs, arguments.batch_size, SGD(learning_rate=rate), Constant(), {})
    return PRESETS[arguments.preset]


def train(arguments: argparse.Namespace) -> int:
    """Load, train, save and report; return the exit status."""
    preset = preset_of(arguments)
    if arguments.save is not None:
        _check_save(arguments.save, arguments.data)
    x_train, y_train, x_test, y_test = load(arguments.data)
    net = fastmlp.MLP(
        [x_train.shape[1], *arguments.layers, count_classes(y_train)],
        activation=arguments.activation,
        init=arguments.init,
        seed=arguments.seed,
        n_threads=arguments.threads,
        **preset.settings,
    )
    say(_summary(net, arguments, len(x_train), len(x_test)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about Ctrl-C, which is reported below
        history = net.fit(
            x_train,
            y_train,
            epochs=arguments.epochs,
            batch_size=arguments.batch_size,
            optimizer=replace(preset.optimizer, learning_rate=arguments.learning_rate),
            schedule=preset.schedule,
            validation_data=(x_test, y_test),
            callbacks=_callbacks(),
        )
    if history.interrupted and history.steps == 0:
        print("fastmlp train: interrupted before the first step; nothing is saved", file=sys.stderr)
        return INTERRUPTED
    if history.interrupted:
        done = f"{len(history.loss)} of {arguments.epochs} epochs"
        print(f"fastmlp train: interrupted after {done}; the results are those so far", file=sys.stderr)
    if history.loss and history.steps > _FEW_STEPS and history.loss[-1] > (guess := _loss_of_a_guess(y_train)):
        hint = "lower --learning-rate, or if the loss still falls, train for more --epochs"
        print(f"fastmlp train: the loss is worse than that of a guess, {guess:.4f}; {hint}", file=sys.stderr)
    try:
        if arguments.save is not None:  # before the report, which may fail in a broken pipe
            net.save(arguments.save)
            print(f"saved {arguments.save}", file=sys.stderr)
    finally:
        _report(net, x_test, y_test)
    return INTERRUPTED if history.interrupted else 0


def _check_save(path: str, data: str) -> None:
    """Refuse a path to which the network cannot be saved, before training begins."""
    from fastmlp.storage import check_writable

    check_writable(path)
    if data not in DATA_SETS and os.path.exists(path) and os.path.exists(data) and os.path.samefile(path, data):
        raise ValueError(f"--save {path!r} would overwrite the data")


def _loss_of_a_guess(labels: Any) -> float:
    """Return the mean loss of a guess that knows the frequencies of the classes but not the rows."""
    import numpy as np

    _, counts = np.unique(labels, return_counts=True)
    return -float((counts / len(labels)) @ np.log(counts / len(labels)))


def _summary(net: Any, arguments: argparse.Namespace, n_train: int, n_test: int) -> str:
    """Describe in one line what will be trained."""
    from fastmlp.engine.threads import available_threads

    n_threads = net.n_threads or available_threads()
    up_to = "up to " if net.n_threads is None and n_threads > 1 else ""  # the network uses fewer for small steps
    parts = [
        f"{'-'.join(map(str, net.layers))} {net.activation}",
        f"{n_train:,} training and {n_test:,} test rows",
        f"batch {arguments.batch_size}",
        f"{type(preset_of(arguments).optimizer).__name__} {arguments.learning_rate:g}",
        f"seed {arguments.seed}",
        f"{up_to}{n_threads} thread{'' if n_threads == 1 else 's'}",
    ]
    return ", ".join(parts)


def _callbacks() -> list[object]:
    """Return the table, and a progress bar if both outputs are terminals."""
    if not all(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr)):
        return [EpochTable(say)]
    from tqdm import tqdm

    from fastmlp.callbacks import ProgressBar

    return [ProgressBar(), EpochTable(tqdm.write)]


def _report(net: Any, x_test: Any, y_test: Any) -> None:
    """Print predictions of a few evenly spaced test rows, and the accuracy on all of them."""
    n_samples = min(_N_SAMPLES, len(x_test))
    rows = [i * len(x_test) // n_samples for i in range(n_samples)]
    say("\ntest row  label  predicted  confidence")
    for row, label, probabilities in zip(rows, y_test[rows], net.predict_proba(x_test[rows]), strict=True):
        predicted = int(probabilities.argmax())
        mark = "" if predicted == label else "  wrong"
        say(f"{row:8}{label:7}{predicted:11}{probabilities[predicted]:12.4f}{mark}")
    say(f"\ntest accuracy {net.score(x_test, y_test):.4f}")

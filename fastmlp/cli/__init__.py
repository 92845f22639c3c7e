"""The command line, ``fastmlp train`` and ``fastmlp bench``: what it does, what it prints, and its exit statuses.

Whatever is slow to import is imported inside the command, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import fastmlp
from fastmlp.cli.arguments import PEERS, parsers

if TYPE_CHECKING:
    from fastmlp.callbacks import FitState
    from fastmlp.cli.presets import Preset

__all__ = ["EpochTable", "main"]

_DATA_SETS = ("mnist", "digits", "xor")
_N_SAMPLES = 5
_FEW_STEPS = 100  # after which a loss may still be high
_MOST_CLASSES = 1000  # that fewer rows than classes may ask for; more is a column of something else

_FAILED, _INTERRUPTED, _BROKEN_PIPE = 1, 130, 141  # the last two as shells count signals

# Names of the library in its messages -> what the user of the command line knows.
_WORDS = (
    (r"\blearning_rate\b", "--learning-rate"),
    (r"\bvalidation ([Xy])\b", r"\1_test"),
    (r"^([Xy])\b", r"\1_train"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    argv
        Arguments without the program's name; None takes those of the process.

    Returns
    -------
    int
        0 done, 1 the loss is no finite number any more, 2 wrong use, 130 ended by Ctrl-C, 141 nobody reads the output.
    """
    try:
        status = _run(argv)
    except BrokenPipeError:
        status = _BROKEN_PIPE
    except KeyboardInterrupt:
        print("fastmlp: interrupted", file=sys.stderr)
        status = _INTERRUPTED
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        # Nobody can be told; and Python, which tries once more at its exit, must not complain either.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = status or _BROKEN_PIPE
    return status


def _run(argv: Sequence[str] | None) -> int:
    """Parse the arguments and run the command; say every error in one line."""
    parser, commands = parsers()
    try:
        arguments, unknown = parser.parse_known_args(argv)
        if arguments.command is None:
            parser.error("say what to do: fastmlp train, fastmlp bench, or fastmlp --help")
        command = commands[arguments.command]
        if unknown:
            command.error(f"unrecognized arguments: {' '.join(unknown)}")
        if getattr(arguments, "preset", None) is not None:  # its numbers take the place of the defaults
            preset = _preset(arguments)
            command.set_defaults(
                layers=list(preset.hidden),
                activation=preset.activation,
                epochs=preset.epochs,
                batch_size=preset.batch_size,
                learning_rate=preset.optimizer.learning_rate,
            )
            arguments = parser.parse_args(argv)
        try:
            return {"train": _train, "bench": _bench}[arguments.command](arguments)
        except FloatingPointError as error:
            command.exit(_FAILED, f"{command.prog}: error: {_in_users_words(error)}\n")
        except BrokenPipeError:
            raise
        except (ValueError, TypeError, OSError, OverflowError, MemoryError, RuntimeError, ImportError) as error:
            command.error(_in_users_words(error))
    except SystemExit as end:  # of argparse: an error, --help or --version
        return int(end.code or 0)


def _in_users_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}".removesuffix(": ")
    message = str(error)
    for pattern, words in _WORDS:
        message = re.sub(pattern, words, message)
    return message


# --- train ------------------------------------------------------------------------------------------------------------


class EpochTable:
    """A callback that prints a table, a line an epoch; the fit must have validation data.

    Parameters
    ----------
    write
        Prints one line; ``tqdm.write`` beside a progress bar.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def on_fit_begin(self, net: object, fit: FitState) -> None:
        """Print the heading."""
        self._write("epoch      loss  train accuracy  test accuracy  seconds")

    def on_epoch_end(self, net: object, fit: FitState) -> None:
        """Print the line of the epoch just finished."""
        done = fit.history
        self._write(
            f"{fit.epoch:5}  {done.loss[-1]:8.4f}  {done.accuracy[-1]:14.4f}  {done.val_accuracy[-1]:13.4f}"
            f"  {done.seconds[-1]:7.3f}"
        )


def _preset(arguments: argparse.Namespace) -> Preset:
    """Return the preset that is asked for, by default plain SGD."""
    from fastmlp.cli.presets import PRESETS, Preset
    from fastmlp.optimizers import SGD
    from fastmlp.schedules import Constant

    if arguments.preset is None:
        rate = arguments.learning_rate
        return Preset((), arguments.epochs, arguments.batch_size, SGD(learning_rate=rate), Constant(), {})
    return PRESETS[arguments.preset]


def _train(arguments: argparse.Namespace) -> int:
    """Load, train, save and report; return the exit status."""
    preset = _preset(arguments)
    if arguments.save is not None:
        _check_target(arguments.save, arguments.data)
    x_train, y_train, x_test, y_test = _load(arguments.data)
    net = fastmlp.MLP(
        [x_train.shape[1], *arguments.layers, _count_classes(y_train)],
        activation=arguments.activation,
        init=arguments.init,
        seed=arguments.seed,
        n_threads=arguments.threads,
        **preset.settings,
    )
    _say(_plan(net, arguments, len(x_train), len(x_test)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Ctrl-C, which is said below
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
        return _INTERRUPTED
    if history.interrupted:
        done = f"{len(history.loss)} of {arguments.epochs} epochs"
        print(f"fastmlp train: interrupted after {done}; the results are those so far", file=sys.stderr)
    if history.loss and history.steps > _FEW_STEPS and history.loss[-1] > (guess := _loss_of_a_guess(y_train)):
        hint = "lower --learning-rate, or if the loss still falls, train for more --epochs"
        print(f"fastmlp train: the loss is worse than that of a guess, {guess:.4f}; {hint}", file=sys.stderr)
    try:
        if arguments.save is not None:  # before the report: its reader may be gone
            net.save(arguments.save)
            print(f"saved {arguments.save}", file=sys.stderr)
    finally:
        _report(net, x_test, y_test)
    return _INTERRUPTED if history.interrupted else 0


# Each line leaves at once, also into a pipe.
_say = functools.partial(print, flush=True)


def _check_target(path: str, data: str) -> None:
    """Refuse a path that the network could not be saved in: better now than after the training."""
    import tempfile

    target = os.path.realpath(path) if os.path.islink(path) else path
    folder = os.path.dirname(target) or os.curdir
    if os.path.isdir(path) or not os.path.basename(path):
        raise ValueError(f"--save {path!r} is a folder, not a file")
    if not os.path.isdir(folder):
        raise ValueError(f"cannot write --save {path!r}: there is no folder {folder!r}")
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"--save {path!r} is not a plain file")
    if data not in _DATA_SETS and os.path.exists(path) and os.path.exists(data) and os.path.samefile(path, data):
        raise ValueError(f"--save {path!r} would overwrite the data")
    try:
        # Saving writes a new file of such a name there and renames it.
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{os.path.basename(target)}.", suffix=".tmp"):
            pass
    except OSError as error:
        raise ValueError(f"cannot write --save {path!r}: {error.strerror}") from error


def _load(data: str) -> tuple[Any, Any, Any, Any]:
    """Return X_train, y_train, X_test and y_test of a data set, by its name or its file's."""
    from fastmlp import datasets

    if data in _DATA_SETS:
        loaded: tuple[Any, Any, Any, Any] = getattr(datasets, f"load_{data}")()
        return loaded
    try:
        return datasets.load_npz(data)
    except OSError as error:
        raise ValueError(f"cannot read --data {data!r}: {error.strerror} (nor is it mnist, digits or xor)") from error


def _count_classes(labels: Any) -> int:
    """Return the number of outputs that `labels` (n,) ask for."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= max(_MOST_CLASSES, len(labels)):
        wrong = low if low < 0 else high
        raise ValueError(f"y_train has label {wrong} (in {len(labels):,} rows); classes are numbered 0, 1, 2, ...")
    return high + 1


def _loss_of_a_guess(labels: Any) -> float:
    """Return the mean loss of who knows how frequent each class is and does not look at the rows."""
    import numpy as np

    _, counts = np.unique(labels, return_counts=True)
    return -float((counts / len(labels)) @ np.log(counts / len(labels)))


def _plan(net: Any, arguments: argparse.Namespace, n_train: int, n_test: int) -> str:
    """Say in a line what is going to be trained."""
    from fastmlp.engine.threads import available_threads

    n_threads = net.n_threads or available_threads()
    up_to = "up to " if net.n_threads is None and n_threads > 1 else ""  # the network takes fewer for small steps
    parts = [
        f"{'-'.join(map(str, net.layers))} {net.activation}",
        f"{n_train:,} training and {n_test:,} test rows",
        f"batch {arguments.batch_size}",
        f"{type(_preset(arguments).optimizer).__name__} {arguments.learning_rate:g}",
        f"seed {arguments.seed}",
        f"{up_to}{n_threads} thread{'' if n_threads == 1 else 's'}",
    ]
    return ", ".join(parts)


def _callbacks() -> list[object]:
    """Return the table, and a progress bar where both outputs are terminals: files get no carriage returns."""
    if not all(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr)):
        return [EpochTable(_say)]
    from tqdm import tqdm

    from fastmlp.callbacks import ProgressBar

    return [ProgressBar(), EpochTable(tqdm.write)]


def _report(net: Any, x_test: Any, y_test: Any) -> None:
    """Print predictions of some test rows, evenly spread, and the accuracy on all of them."""
    n_samples = min(_N_SAMPLES, len(x_test))
    rows = [i * len(x_test) // n_samples for i in range(n_samples)]
    _say("\ntest row  label  predicted  confidence")
    for row, label, probabilities in zip(rows, y_test[rows], net.predict_proba(x_test[rows]), strict=True):
        predicted = int(probabilities.argmax())
        mark = "" if predicted == label else "  wrong"
        _say(f"{row:8}{label:7}{predicted:11}{probabilities[predicted]:12.4f}{mark}")
    _say(f"\ntest accuracy {net.score(x_test, y_test):.4f}")


# --- bench ------------------------------------------------------------------------------------------------------------


def _bench(arguments: argparse.Namespace) -> int:
    """Measure and report; return the exit status."""
    x_train, y_train, *_ = _load(arguments.data)
    from fastmlp.bench import command, peers

    task = peers.Task(
        (x_train.shape[1], *arguments.layers, _count_classes(y_train)),
        arguments.batch_size,
        rate=arguments.learning_rate,
        epochs=arguments.epochs,
        activation=arguments.activation,
    )
    same = command.run(
        x_train,
        y_train,
        task,
        data=arguments.data,
        runs=arguments.runs,
        n_threads=arguments.threads,
        peers=tuple(getattr(peers, PEERS[name]) for name in arguments.peers),
        json_file=arguments.json,
        chart_file=arguments.chart,
        write=_say,
        say=_tell_progress,
    )
    return 0 if same else _FAILED


def _tell_progress(line: str) -> None:
    """Show what goes on in the last line of a terminal."""
    if sys.stderr is not None and sys.stderr.isatty():
        print(f"\r{line:<40}\r", end="", file=sys.stderr, flush=True)

"""The command line, ``fastmlp train`` and ``fastmlp bench``: its arguments, what it prints, and its exit statuses.

Whatever is slow to import is imported inside the command, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import fastmlp

if TYPE_CHECKING:
    from fastmlp.callbacks import FitState
    from fastmlp.presets import Preset

__all__ = ["EpochTable", "main"]

_DATA_SETS = ("mnist", "digits", "xor")
_PEERS = {  # names on the command line -> classes of fastmlp.bench.peers
    "numpy": "NumPy",
    "numpy64": "NotebookNumPy",
    "pytorch": "PyTorch",
    "pytorch-compiled": "CompiledPyTorch",
    "jax": "JAX",
    "sklearn": "ScikitLearn",
}
_PRESETS = ("fast", "accurate")
_N_SAMPLES = 5
_FEW_STEPS = 100  # after which a loss may still be high
_MOST_CLASSES = 1000  # that fewer rows than classes may ask for; more is a column of something else

_MOST_UNITS, _MOST_THREADS = 1_000_000, 1024  # more is a slip, and would take all memory

_FAILED, _WRONG_USE, _INTERRUPTED, _BROKEN_PIPE = 1, 2, 130, 141  # the last two as shells count signals

# Names of the library in its messages -> what the user of the command line knows.
_WORDS = (
    (r"\blearning_rate\b", "--learning-rate"),
    (r"\bvalidation ([Xy])\b", r"\1_test"),
    (r"^([Xy])\b", r"\1_train"),
)

_DESCRIPTION = """\
Train multilayer perceptrons, exactly and fast, on the CPU.

commands:
  train       train a network and report its accuracy on test rows
  bench       measure this machine, and how long others take for the same epoch
"""

_EXAMPLES = """\
examples:
  fastmlp train                                 MNIST, 784-128-10, 10 epochs
  fastmlp train --data digits --layers 64 32    small images, two hidden layers
  fastmlp bench --chart bench.svg               MNIST beside NumPy, PyTorch, JAX, ...
  fastmlp train --help                          all options
"""

_TRAIN_DESCRIPTION = """\
Train a network on the cross-entropy of a softmax, by plain SGD or as a preset
says, and report on test rows, which it does not learn from.

Prints a line an epoch (loss and train accuracy are means over the epoch while
it trains, test accuracy is measured after it, seconds are those of training
alone), then five sample predictions of test rows, and last the test accuracy.
"""

_TRAIN_DETAILS = """\
examples:
  fastmlp train
  fastmlp train --preset fast
  fastmlp train --layers 256 128 --epochs 20 --batch-size 128 --save net.npz
  fastmlp train --data digits --activation logistic --init xavier
  fastmlp train --data xor --layers 8 --epochs 500
  fastmlp train --data mine.npz --threads 1

FILE.npz of --data is a NumPy archive, as numpy.savez("mine.npz",
X_train=X_train, ...) writes it, of
  X_train, X_test   numbers (rows, inputs), or images (rows, height, width):
                    floating point, best scaled to 0..1, is taken as it is,
                    uint8 is divided by 255
  y_train, y_test   class labels (rows,): the integers 0, 1, 2, ...
The network gets an input for each column of X_train, and an output for each
class in y_train.

FILE.npz of --save holds the trained network. Use it in Python:
  net = fastmlp.MLP.load("net.npz")
  net.predict(X)

Ctrl-C ends the training early: what is trained so far is reported, and saved
if --save says so.

exit status: 0 done, 1 the loss is no finite number any more, 2 wrong use,
130 ended by Ctrl-C
"""


_BENCH_DESCRIPTION = """\
Measure on this machine, now, in one run: the rates of multiply-adds and of
reading memory, then how long an epoch of one network takes with fastmlp and
with NumPy in float32 and float64, PyTorch eager and compiled, JAX and
scikit-learn, as far as they are installed.

All train in turns, A B C A B C, from the same first weights. Before times are
taken each trains an epoch in the same order of the rows, and must come to the
loss of fastmlp, to 2 %; after each turn to its accuracy, to 3 %. One that does
not gets an error in place of a time.
"""

_BENCH_DETAILS = """\
examples:
  fastmlp bench
  fastmlp bench --layers 256 128 --batch-size 128 --json bench.json
  fastmlp bench --data mine.npz --peers numpy pytorch --chart bench.png

The table says for each: the best and the median epoch, each turn's time being
that of its epochs divided by their number; how far turns lie apart, as a share
of the median; the median and the range of how many times as long it took as
fastmlp in the same turn; and how near its best is to the least time that the
machine's multiply-adds allow, with the zeros of the rows and without them.

peers of --peers: {peers}
FILE.npz of --data is one that `fastmlp train` takes; its test rows are unused.
A quiet machine measures best: the load is in the file that --json writes.

exit status: 0 done, 1 a peer has not done the same work, 2 wrong use,
130 ended by Ctrl-C
"""


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
    parser, commands = _parsers()
    try:
        arguments, unknown = parser.parse_known_args(argv)
        if arguments.command is None:
            parser.error("say what to do: fastmlp train, fastmlp bench, or fastmlp --help")
        command, act = commands[arguments.command]
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
            return act(arguments)
        except FloatingPointError as error:
            command.exit(_FAILED, f"{command.prog}: error: {_in_users_words(error)}\n")
        except BrokenPipeError:
            raise
        except (ValueError, TypeError, OSError, OverflowError, MemoryError, RuntimeError, ImportError) as error:
            command.error(_in_users_words(error))
    except SystemExit as end:  # of argparse: an error, --help or --version
        return int(end.code or 0)


# --- arguments --------------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings)
        self.color = False  # Python 3.14 would colour the help

    def error(self, message: str) -> NoReturn:
        self.exit(_WRONG_USE, f"{self.prog}: error: {' '.join(message.split())}\n")


def _parsers() -> tuple[_Parser, dict[str, tuple[_Parser, Callable[[argparse.Namespace], int]]]]:
    """Return the parser of ``fastmlp``, and for each command its parser and what it does."""
    parser = _Parser(
        prog="fastmlp", usage="fastmlp [--help] [--version] train|bench ...", description=_DESCRIPTION, epilog=_EXAMPLES
    )
    parser.add_argument("--version", action="version", version=f"fastmlp {fastmlp.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", help=argparse.SUPPRESS)
    train = commands.add_parser("train", prog="fastmlp train", description=_TRAIN_DESCRIPTION, epilog=_TRAIN_DETAILS)
    _add_train_options(train)
    details = _BENCH_DETAILS.format(peers=", ".join(_PEERS))
    bench = commands.add_parser("bench", prog="fastmlp bench", description=_BENCH_DESCRIPTION, epilog=details)
    _add_bench_options(bench)
    return parser, {"train": (train, _train), "bench": (bench, _bench)}


def _add_work_options(command: _Parser, epochs: int, of_epochs: str) -> None:
    """Add what says which network learns what, in which steps."""
    count = _whole_number(1)
    add = command.add_argument
    add("--data", default="mnist", metavar="mnist|digits|xor|FILE.npz", help="what to learn (default: %(default)s)")
    add(
        "--layers",
        default=[128],
        nargs="+",
        type=_whole_number(1, _MOST_UNITS),
        metavar="N",
        help="sizes of the hidden layers (default: 128)",
    )
    add("--activation", default="relu", choices=("relu", "logistic"), help="of hidden layers (default: %(default)s)")
    add("--epochs", default=epochs, type=count, metavar="N", help=f"{of_epochs} (default: %(default)s)")
    add("--batch-size", default=64, type=count, metavar="N", help="rows a step (default: %(default)s)")
    add(
        "--learning-rate",
        default=0.1,
        type=_positive_number,
        metavar="RATE",
        help="of the steps (default: %(default)s)",
    )
    add(
        "--threads",
        type=_whole_number(1, _MOST_THREADS),
        metavar="N",
        help="threads to compute with; their number does not change the result (default: one a core, and a single "
        "one where steps are small)",
    )


def _add_train_options(train: _Parser) -> None:
    _add_work_options(train, 10, "passes over the training rows")
    add = train.add_argument
    add(
        "--preset",
        choices=_PRESETS,
        help="network and training by name: fast reaches 98 %% of MNIST's test images in a second, accurate 98.6 %% "
        "in a minute; other options change what they name",
    )
    add(
        "--init",
        default="he",
        choices=("he", "xavier", "normal"),
        help="first weights, normal with standard deviation sqrt(2 / inputs), sqrt(2 / (inputs + outputs)) or 0.01 "
        "(default: %(default)s)",
    )
    add(
        "--seed",
        default=0,
        type=_whole_number(0),
        metavar="N",
        help="fixes the first weights and the order of the rows (default: %(default)s)",
    )
    add("--save", metavar="FILE.npz", help="write the trained network to this file")


def _add_bench_options(bench: _Parser) -> None:
    _add_work_options(bench, 2, "passes over the rows in one turn")
    add = bench.add_argument
    add("--runs", default=5, type=_whole_number(1), metavar="N", help="turns (default: %(default)s)")
    add(
        "--peers",
        default=list(_PEERS),
        nargs="*",
        choices=list(_PEERS),
        metavar="NAME",
        help="who trains beside fastmlp (default: all)",
    )
    add("--json", metavar="FILE", help="write all that was measured to this file")
    add("--chart", metavar="FILE.png|FILE.svg", help="draw the times into this file; needs matplotlib")


def _whole_number(least: int, most: float = math.inf) -> Callable[[str], int]:
    def parse(text: str) -> int:
        with contextlib.suppress(ValueError):
            if least <= (number := int(text)) <= most:
                return number
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a whole number {f'of {least} or more' if most == math.inf else f'from {least} to {most}'}"
        )

    return parse


def _positive_number(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (number := float(text)) < math.inf:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")


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
        loss, accuracy, val_accuracy, seconds = (
            values[-1]
            for values in (fit.history.loss, fit.history.accuracy, fit.history.val_accuracy, fit.history.seconds)
        )
        self._write(f"{fit.epoch:5}  {loss:8.4f}  {accuracy:14.4f}  {val_accuracy:13.4f}  {seconds:7.3f}")


def _preset(arguments: argparse.Namespace) -> Preset:
    """Return the preset that is asked for, by default plain SGD."""
    from fastmlp.optimizers import SGD
    from fastmlp.presets import PRESETS, Preset
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
    from fastmlp.threads import available_threads

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
        peers=tuple(getattr(peers, _PEERS[name]) for name in arguments.peers),
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

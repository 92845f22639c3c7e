"""The arguments of the command line and their help."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import fastmlp

__all__ = ["PEERS", "parsers"]

PEERS = {  # name on the command line -> class of fastmlp.bench.peers
    "numpy": "NumPy",
    "numpy64": "NotebookNumPy",
    "pytorch": "PyTorch",
    "pytorch-compiled": "CompiledPyTorch",
    "jax": "JAX",
    "sklearn": "ScikitLearn",
}
_PRESETS = ("fast", "accurate")
_PEER_ACTIVATIONS = ("relu", "logistic")  # that all peers have
_MOST_UNITS, _MOST_THREADS = 1_000_000, 1024  # more is probably a typo, and would use up all memory

_WRONG_USAGE = 2  # the exit status

_DESCRIPTION = """\
Train multilayer perceptrons, exactly and fast, on the CPU.

commands:
  train       train a network and report its accuracy on test rows
  bench       time an epoch of fastmlp and of other libraries on this machine
"""

_EXAMPLES = """\
examples:
  fastmlp train                                 MNIST, 784-128-10, 10 epochs
  fastmlp train --data digits --layers 64 32    small images, two hidden layers
  fastmlp bench --chart bench.svg               MNIST beside NumPy, PyTorch, JAX, ...
  fastmlp train --help                          all options
"""

_TRAIN_DESCRIPTION = """\
Train a softmax classifier with plain SGD, or with the settings of a preset,
and evaluate it on the test rows.

Prints one line per epoch, then five sample predictions, then the test
accuracy. Loss and train accuracy are means over the epoch while it trains;
test accuracy is measured after the epoch; seconds are training time only.
"""

_TRAIN_DETAILS = """\
examples:
  fastmlp train
  fastmlp train --preset fast
  fastmlp train --layers 256 128 --epochs 20 --batch-size 128 --save net.npz
  fastmlp train --data digits --activation logistic --init xavier
  fastmlp train --data xor --layers 8 --epochs 500
  fastmlp train --data mine.npz --threads 1

--data FILE.npz is a NumPy archive, as numpy.savez("mine.npz",
X_train=X_train, ...) writes it, of
  X_train, X_test   numbers (rows, inputs), or images (rows, height, width);
                    uint8 is divided by 255, floating point is used as it is
                    and should be scaled to 0..1
  y_train, y_test   class labels (rows,): the integers 0, 1, 2, ...
The network has one input per column of X_train and one output per class in
y_train.

--save FILE.npz writes the trained network. Use it in Python:
  net = fastmlp.MLP.load("net.npz")
  net.predict(X)

Ctrl-C stops training early; the network so far is evaluated, and saved with
--save.

exit status: 0 done, 1 the loss became NaN or infinite, 2 wrong usage,
130 stopped by Ctrl-C
"""

_BENCH_DESCRIPTION = """\
Measure this machine's peak rates of multiply-adds and memory reads, then the
time of an epoch with fastmlp and with NumPy in float32 and float64, PyTorch
eager and compiled, JAX and scikit-learn, if they are installed.

All train in turns, A B C A B C, from the same first weights. First each trains
an untimed epoch with the rows in the same order and must reach the loss of
fastmlp within 2 %; after each turn it must reach its accuracy within 3 %. One
that does not is listed with an error in place of a time.
"""

_BENCH_DETAILS = """\
examples:
  fastmlp bench
  fastmlp bench --layers 256 128 --batch-size 128 --json bench.json
  fastmlp bench --data mine.npz --peers numpy pytorch --chart bench.png

The table has a row for each: the best and the median time of an epoch (mean
over the epochs of a turn); the spread of the turns, relative to the median; its
time relative to fastmlp's in the same turn, median and range; and its best time
relative to the machine's peak, counting the zeros of the rows or not.

peers of --peers: {peers}
--data FILE.npz is a file as for `fastmlp train`; its test rows are not used.
Close other programs first. --json records the load of the machine.

exit status: 0 done, 1 a peer has not done the same work, 2 wrong usage,
130 stopped by Ctrl-C
"""


class _Parser(argparse.ArgumentParser):
    """A parser that reports errors in one line, without the usage."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings)
        self.color = False  # Python 3.14 would colour the help

    def error(self, message: str) -> NoReturn:
        self.exit(_WRONG_USAGE, f"{self.prog}: error: {' '.join(message.split())}\n")


def parsers() -> tuple[_Parser, dict[str, _Parser]]:
    """Return the parser of ``fastmlp`` and those of the commands."""
    parser = _Parser(
        prog="fastmlp", usage="fastmlp [--help] [--version] train|bench ...", description=_DESCRIPTION, epilog=_EXAMPLES
    )
    parser.add_argument("--version", action="version", version=f"fastmlp {fastmlp.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", help=argparse.SUPPRESS)
    train = commands.add_parser("train", prog="fastmlp train", description=_TRAIN_DESCRIPTION, epilog=_TRAIN_DETAILS)
    _add_train_options(train)
    details = _BENCH_DETAILS.format(peers=", ".join(PEERS))
    bench = commands.add_parser("bench", prog="fastmlp bench", description=_BENCH_DESCRIPTION, epilog=details)
    _add_bench_options(bench)
    return parser, {"train": train, "bench": bench}


def _add_work_options(command: _Parser, epochs: int, of_epochs: str, activations: Sequence[str] | None = None) -> None:
    """Add the options for data, network and training."""
    count = _whole_number(1)
    add = command.add_argument
    add("--data", default="mnist", metavar="mnist|digits|xor|FILE.npz", help="data set (default: %(default)s)")
    add(
        "--layers",
        default=[128],
        nargs="+",
        type=_whole_number(1, _MOST_UNITS),
        metavar="N",
        help="sizes of the hidden layers (default: 128)",
    )
    add(
        "--activation",
        default="relu",
        type=str if activations else _activation,
        choices=activations,
        metavar="NAME",
        help=f"of hidden layers: {', '.join(activations or ('relu', 'gelu', 'tanh', '...'))} (default: %(default)s)",
    )
    add("--epochs", default=epochs, type=count, metavar="N", help=f"{of_epochs} (default: %(default)s)")
    add("--batch-size", default=64, type=count, metavar="N", help="rows per step (default: %(default)s)")
    rate_help = "of the optimizer (default: %(default)s)"
    add("--learning-rate", default=0.1, type=_positive_number, metavar="RATE", help=rate_help)
    add(
        "--threads",
        type=_whole_number(1, _MOST_THREADS),
        metavar="N",
        help="number of threads; does not change the result (default: one per core, or one if steps are small)",
    )


def _add_train_options(train: _Parser) -> None:
    _add_work_options(train, 10, "passes over the training rows")
    add = train.add_argument
    add(
        "--preset",
        choices=_PRESETS,
        help="named settings: on MNIST fast reaches 98 %% in a second, accurate 98.8 %% in a minute; other options "
        "override them",
    )
    add(
        "--init",
        default="he",
        choices=("he", "xavier", "normal"),
        help="standard deviation of the normal first weights: sqrt(2 / inputs), sqrt(2 / (inputs + outputs)) or 0.01 "
        "(default: %(default)s)",
    )
    add(
        "--seed",
        default=0,
        type=_whole_number(0),
        metavar="N",
        help="of first weights and order of the rows (default: %(default)s)",
    )
    add("--save", metavar="FILE.npz", help="write the trained network to this file")


def _add_bench_options(bench: _Parser) -> None:
    _add_work_options(bench, 2, "passes over the rows in one turn", _PEER_ACTIVATIONS)
    add = bench.add_argument
    add("--runs", default=5, type=_whole_number(1), metavar="N", help="turns (default: %(default)s)")
    add(
        "--peers",
        default=list(PEERS),
        nargs="*",
        choices=list(PEERS),
        metavar="NAME",
        help="libraries to compare with (default: all)",
    )
    add("--json", metavar="FILE", help="write all measurements to this file")
    add("--chart", metavar="FILE.png|FILE.svg", help="plot the times into this file; needs matplotlib")


def _whole_number(least: int, most: float = math.inf) -> Callable[[str], int]:
    def parse(text: str) -> int:
        with contextlib.suppress(ValueError):
            if least <= (number := int(text)) <= most:
                return number
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a whole number {f'of {least} or more' if most == math.inf else f'from {least} to {most}'}"
        )

    return parse


def _activation(text: str) -> str:
    from fastmlp.activations import ACTIVATIONS  # imports NumPy, which is slow; --help needs none of it

    if text in ACTIVATIONS:
        return text
    raise argparse.ArgumentTypeError(f"invalid choice: {text!r} (choose from {', '.join(ACTIVATIONS)})")


def _positive_number(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (number := float(text)) < math.inf:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")

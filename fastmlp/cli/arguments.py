"""The arguments of the command line and their help."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import fastmlp
from fastmlp.cli import compile_arguments, network_arguments

__all__ = ["ACTIVATIONS", "INITS", "OPTIMIZERS", "PEERS", "PRESETS", "SCHEDULES", "closest", "not_one_of", "parsers"]

PEERS = {  # name on the command line -> class of fastmlp.bench.peers
    "numpy": "NumPy",
    "numpy64": "NotebookNumPy",
    "pytorch": "PyTorch",
    "pytorch-compiled": "CompiledPyTorch",
    "jax": "JAX",
    "sklearn": "ScikitLearn",
}
# Names that the library has, so that --help imports nothing; a test compares them.
ACTIVATIONS = ("relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "logistic", "identity")
INITS = ("he", "xavier", "normal")
OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "adagrad")
PRESETS = ("fast", "accurate")
SCHEDULES = ("constant", "cosine", "one_cycle", "warmup", "inverse_scaling", "adaptive", "reduce_on_plateau")
_PEER_ACTIVATIONS = ("relu", "logistic")  # that all peers have

_ALSO_CALLED = {  # what other libraries call it
    "glorot": "xavier", "invscaling": "inverse_scaling", "kaiming": "he", "onecycle": "one_cycle",
    "plateau": "reduce_on_plateau", "sigmoid": "logistic", "swish": "silu", "lrelu": "leaky_relu", "torch": "pytorch",
    "scikit-learn": "sklearn", "--lr": "--learning-rate", "--solver": "--optimizer", "--scheduler": "--schedule",
    "--lr-schedule": "--schedule", "--hidden-layer-sizes": "--layers", "--hidden": "--layers", "--alpha": "--l2",
    "--weight-decay": "--l2", "--random-state": "--seed", "--n-threads": "--threads", "--n-jobs": "--threads",
    "--jobs": "--threads", "--validation-split": "--validation-fraction", "--max-iter": "--epochs",
    "--n-iter-no-change": "--patience", "--early-stopping": "--patience", "--output": "--save", "--dataset": "--data",
    "--format": "--to", "--form": "--to", "--out": "--output", "--save": "--output", "pytorch": "torch",
}  # fmt: skip
_NEED_SETTINGS = {
    "step": "Step(every=10)",
    "multi_step": "MultiStep([10, 20])",
    "exponential": "Exponential(gamma=0.9)",
}
_MOST_UNITS, _MOST_THREADS = 1_000_000, 1024  # more is probably a typo, and would use up all memory

_WRONG_USAGE = 2  # the exit status

_DESCRIPTION = """\
Train multilayer perceptrons, exactly and fast, on the CPU.

commands:
  train       train a network and report its accuracy on test rows
  predict     predict the rows of a file with a saved network
  report      write a page about a saved network, which runs in it
  export      write a saved network for ONNX, PyTorch, Keras, C or safetensors
  compile     compile kernels ahead of time
  bench       time an epoch of fastmlp and of other libraries on this machine
"""

_EXAMPLES = """\
examples:
  fastmlp train                                 MNIST, 784-128-10, 10 epochs
  fastmlp train --data digits --layers 64 32    small images, two hidden layers
  fastmlp predict net.npz --data rows.csv       labels and probabilities
  fastmlp report net.npz -o report.html         a page to see what it has learned
  fastmlp export net.npz -o net.onnx            for ONNX Runtime
  fastmlp compile --optimizer adam              before the first fit
  fastmlp bench --chart bench.svg               MNIST beside NumPy, PyTorch, JAX, ...
  fastmlp train --help                          all options
"""

_TRAIN_DESCRIPTION = """\
Train a softmax classifier, with plain SGD unless you say otherwise, and
evaluate it on the test rows.

Prints one line per epoch, then five sample predictions, then the test
accuracy. Loss and train accuracy are means over the epoch while it trains;
test accuracy is measured after the epoch; seconds are training time only.
"""

_TRAIN_DETAILS = """\
examples:
  fastmlp train
  fastmlp train --preset fast
  fastmlp train --layers 256 128 --epochs 20 --batch-size 128 --save net.npz
  fastmlp train --optimizer adam --schedule cosine --dropout 0.2
  fastmlp train --epochs 100 --validation-fraction 0.1 --patience 5
  fastmlp train --data digits --activation logistic --init xavier
  fastmlp train --data xor --layers 8 --epochs 500
  fastmlp train --data mine.npz --class-weight balanced
  fastmlp train --plot pictures --plot-format svg

--data FILE.npz is a NumPy archive, as numpy.savez("mine.npz",
X_train=X_train, ...) writes it, of
  X_train, X_test   numbers (rows, inputs), or images (rows, height, width);
                    uint8 is divided by 255, floating point is used as it is
                    and should be scaled to 0..1
  y_train, y_test   class labels (rows,): the integers 0, 1, 2, ...; or
                    one-hot rows (rows, classes)
The network has one input per column of X_train and one output per class in
y_train.

--data FOLDER holds idx files, gzipped or not, as MNIST, Fashion-MNIST, KMNIST
and EMNIST are published: train-images-idx3-ubyte, train-labels-idx1-ubyte,
t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte. If it holds several data sets,
say which: --data FOLDER/letters.

--validation-fraction holds out training rows. The table then shows their
accuracy, and the test rows are used only at the end. --patience stops when
the loss on these rows has not improved for so many epochs, and restores the
best parameters.

--save FILE writes the trained network, to a .safetensors file if FILE ends so,
else to a .npz file. `fastmlp predict` and `fastmlp export` use it, or Python:
  net = fastmlp.MLP.load("net.npz")
  net.predict(X)

--report FILE.html writes one page about the network, which runs in it: open it
in a browser and draw a digit.

--plot FOLDER writes pictures, and makes the folder if there is none: learning
curves, the confusion matrix, the calibration and the weights; of images also
samples and wrong guesses; of two inputs the decision boundary. All but the
learning curves are about the test rows. It needs matplotlib.

Ctrl-C stops training early; the network so far is evaluated, and saved with
--save.

exit status: 0 done, 1 the loss became NaN or infinite, 2 wrong usage,
130 stopped by Ctrl-C
"""

_BENCH_DESCRIPTION = """\
Measure this machine's peak rates of multiply-adds and memory reads, then the
time of an epoch with fastmlp and with NumPy in float32 and float64, PyTorch
eager and compiled, JAX and scikit-learn, if they are installed.

All train in turns, A B C A B C, from the same first weights and with the rows
in the same order, so all must come to the loss of fastmlp, within 2 %: after
an untimed first epoch, and after each turn. One that does not is listed with
an error in place of a time.
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

Close other programs first. If they were busy meanwhile, or if turns differ by
more than half, a warning says not to quote the ratios. --json keeps all
measurements, with the load of the machine.

--data is as for `fastmlp train`; test rows are not used.
Ctrl-C ends it early; the turns that have finished are reported.

exit status: 0 done, 1 a peer has not done the same work, 2 wrong usage,
130 stopped by Ctrl-C
"""


class _Parser(argparse.ArgumentParser):
    """A parser that reports errors in one line, without the usage, and suggests what may have been meant."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings)
        self.color = False  # Python 3.14 would colour the help

    def error(self, message: str) -> NoReturn:
        self.exit(_WRONG_USAGE, f"{self.prog}: error: {' '.join(message.split()).removeprefix('argument ')}\n")

    def unrecognized(self, arguments: Sequence[str]) -> NoReturn:
        """Report arguments that the command does not take."""
        first = next((argument for argument in arguments if argument[2:] and argument.startswith("--")), "")
        close = closest(first.partition("=")[0], list(self._option_string_actions))
        self.error(f"unrecognized arguments: {' '.join(arguments)}{close}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, not_one_of(value, list(action.choices)))


def not_one_of(value: str, names: Sequence[str]) -> str:
    """Return the words of an error about a name that is none of these."""
    return f"must be one of {', '.join(names)}, not {value!r}{closest(value, names)}"


def closest(value: str, names: Sequence[str]) -> str:
    """Return a hint at the name that may have been meant, or nothing."""
    import difflib  # only errors need it

    meant = _ALSO_CALLED.get(value.lower(), "")
    close = [meant] if meant in names else difflib.get_close_matches(value.lower(), names, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def parsers() -> tuple[_Parser, dict[str, _Parser]]:
    """Return the parser of ``fastmlp`` and those of the commands."""
    parser = _Parser(
        prog="fastmlp",
        usage="fastmlp [--help] [--version] train|predict|report|export|compile|bench ...",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"fastmlp {fastmlp.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", help=argparse.SUPPRESS)
    texts = {
        "train": ("[OPTION ...]", _TRAIN_DESCRIPTION, _TRAIN_DETAILS),
        "predict": network_arguments.PREDICT,
        "report": network_arguments.REPORT,
        "export": network_arguments.EXPORT,
        "compile": compile_arguments.COMPILE,
        "bench": ("[OPTION ...]", _BENCH_DESCRIPTION, _BENCH_DETAILS),
    }
    of_commands = {
        name: commands.add_parser(
            name, prog=f"fastmlp {name}", usage=f"fastmlp {name} {usage}", description=text, epilog=details
        )
        for name, (usage, text, details) in texts.items()
    }
    _add_train_options(of_commands["train"])
    network_arguments.add_predict(of_commands["predict"])
    _add_threads(of_commands["predict"], "number of threads; does not change the result (default: one per core)")
    network_arguments.add_report(of_commands["report"])
    _add_data_options(of_commands["report"])
    network_arguments.add_export(of_commands["export"])
    compile_arguments.add_compile(of_commands["compile"], ACTIVATIONS, _whole_number(1, _MOST_THREADS))
    _add_bench_options(of_commands["bench"])
    return parser, of_commands


def _add_data_options(group: Any) -> None:
    group.add_argument(
        "--data",
        default="mnist",
        metavar="mnist|digits|xor|FILE.npz|FOLDER",
        help="data set (default: %(default)s)",
    )


def _add_layers(group: Any) -> None:
    group.add_argument("--layers", nargs="+", type=_size, metavar="N", help="sizes of the hidden layers (default: 128)")


def _add_threads(group: Any, help: str) -> None:
    group.add_argument("--threads", type=_whole_number(1, _MOST_THREADS), metavar="N", help=help)


def _add_train_options(train: _Parser) -> None:
    """Add the options of training. Those of a preset have no default here: None means that they were not given."""
    data = train.add_argument_group("data and network")
    _add_data_options(data)
    _add_layers(data)
    add = data.add_argument
    add(
        "--activation",
        choices=ACTIVATIONS,
        metavar="NAME",
        help=f"of the hidden layers: {', '.join(ACTIVATIONS)} (default: relu)",
    )
    add(
        "--init",
        default="he",
        choices=INITS,
        metavar="NAME",
        help="standard deviation of the normal first weights: he, sqrt(2 / inputs); xavier, sqrt(2 / (inputs + "
        "outputs)); normal, 0.01 (default: %(default)s)",
    )
    add(
        "--dropout",
        nargs="+",
        type=_fraction(zero=True),
        metavar="RATE",
        help="fraction of the hidden units to drop in each step, one rate or one for each hidden layer (default: 0)",
    )
    add("--l2", type=_number(zero=True), metavar="X", help="add X / 2 * sum(W**2) to the loss (default: 0)")
    training = train.add_argument_group("training")
    add = training.add_argument
    add(
        "--preset",
        choices=PRESETS,
        metavar="NAME",
        help="named settings: on MNIST fast reaches 98 %% in a second, accurate 98.8 %% in a minute; other options "
        "override them",
    )
    add(
        "--optimizer",
        choices=OPTIMIZERS,
        metavar="NAME",
        help=f"{', '.join(OPTIMIZERS)} (default: sgd)",
    )
    add(
        "--learning-rate",
        type=_number(zero=False),
        metavar="RATE",
        help="of the optimizer (default: 0.1 for sgd, momentum and nesterov, 0.01 for rmsprop and adagrad, 0.001 for "
        "adam and adamw)",
    )
    add(
        "--schedule",
        type=_schedule,
        metavar="NAME",
        help=f"how the learning rate changes: {', '.join(SCHEDULES)} (default: constant)",
    )
    add("--epochs", type=_whole_number(1), metavar="N", help="passes over the training rows (default: 10)")
    add("--batch-size", type=_whole_number(1), metavar="N", help="rows per step (default: 64)")
    add(
        "--class-weight",
        nargs="+",
        type=_class_weight,
        metavar="WEIGHT",
        help="weights of the classes in the loss: balanced, which gives all classes the same total; or one number for "
        "each class; or CLASS=NUMBER for some (default: 1 each)",
    )
    add(
        "--validation-fraction",
        type=_fraction(zero=False),
        metavar="X",
        help="hold out this fraction of the training rows of each class (default: 0.1 with --patience, else none)",
    )
    add(
        "--patience",
        type=_whole_number(1),
        metavar="N",
        help="stop after N epochs without a better loss on the rows held out (default: train for all epochs)",
    )
    add(
        "--seed",
        default=0,
        type=_whole_number(0),
        metavar="N",
        help="of everything random: first weights, order of the rows, dropout (default: %(default)s)",
    )
    _add_threads(
        training, "number of threads; does not change the result (default: one per core, or one if steps are small)"
    )
    result = train.add_argument_group("result")
    add = result.add_argument
    add("--save", metavar="FILE", help="write the trained network to this .npz or .safetensors file")
    add("--plot", metavar="FOLDER", help="write pictures of what the network has learned into this folder")
    add(
        "--plot-format",
        choices=("png", "svg"),
        default="png",
        metavar="png|svg",
        help="their form (default: %(default)s)",
    )
    add("--report", metavar="FILE", help="write a page about the trained network to this .html file")


def _add_bench_options(bench: _Parser) -> None:
    work = bench.add_argument_group("work")
    _add_data_options(work)
    _add_layers(work)
    add = work.add_argument
    add(
        "--activation",
        default="relu",
        choices=_PEER_ACTIVATIONS,
        metavar="NAME",
        help=f"of the hidden layers: {' or '.join(_PEER_ACTIVATIONS)} (default: %(default)s)",
    )
    add("--epochs", default=2, type=_whole_number(1), metavar="N", help="passes over the rows in one turn (default: 2)")
    add("--batch-size", default=64, type=_whole_number(1), metavar="N", help="rows per step (default: %(default)s)")
    add("--learning-rate", default=0.1, type=_number(zero=False), metavar="RATE", help="of SGD (default: %(default)s)")
    measure = bench.add_argument_group("measurement")
    add = measure.add_argument
    add("--runs", default=5, type=_whole_number(1), metavar="N", help="turns (default: %(default)s)")
    add(
        "--peers",
        default=list(PEERS),
        nargs="*",
        choices=list(PEERS),
        metavar="NAME",
        help=f"libraries to compare with: {', '.join(PEERS)} (default: all that are installed)",
    )
    _add_threads(measure, "number of threads of fastmlp and of all others (default: one per core)")
    results = bench.add_argument_group("results")
    results.add_argument("--json", metavar="FILE", help="write all measurements to this file")
    chart_help = "plot the times into this file; needs matplotlib"
    results.add_argument("--chart", metavar="FILE.png|FILE.svg", help=chart_help)


def _whole_number(least: int, most: float = math.inf) -> Callable[[str], int]:
    def parse(text: str) -> int:
        with contextlib.suppress(ValueError):
            if least <= (number := int(text)) <= most:
                return number
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a whole number {f'of {least} or more' if most == math.inf else f'from {least} to {most}'}"
        )

    return parse


def _size(text: str) -> int:
    try:
        return _whole_number(1, _MOST_UNITS)(text)
    except argparse.ArgumentTypeError as error:
        several = "".join(c if c.isdecimal() else " " for c in text).split()[1:]
        hint = "; give the sizes of the hidden layers with spaces between, as in --layers 128 64" if several else ""
        raise argparse.ArgumentTypeError(f"{error}{hint}") from None


def _number(*, zero: bool) -> Callable[[str], float]:
    def parse(text: str) -> float:
        with contextlib.suppress(ValueError):
            if 0 < (number := float(text)) < math.inf or (zero and number == 0):
                return number
        raise argparse.ArgumentTypeError(f"{text!r} is not a {'number of 0 or more' if zero else 'positive number'}")

    return parse


def _fraction(*, zero: bool) -> Callable[[str], float]:
    def parse(text: str) -> float:
        with contextlib.suppress(ValueError):
            if 0 < (number := float(text)) < 1 or (zero and number == 0):
                return number
        what = "a number of 0 or more, and below 1" if zero else "a number between 0 and 1"
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")

    return parse


def _schedule(text: str) -> str:
    if text in SCHEDULES:
        return text
    if text in _NEED_SETTINGS:
        raise argparse.ArgumentTypeError(f"{text!r} needs settings; in Python: fit(schedule={_NEED_SETTINGS[text]})")
    raise argparse.ArgumentTypeError(not_one_of(text, SCHEDULES))


def _class_weight(text: str) -> str | float | tuple[int, float]:
    """Parse balanced, NUMBER or CLASS=NUMBER."""
    if text == "balanced":
        return text
    label, equals, weight = text.rpartition("=")
    with contextlib.suppress(argparse.ArgumentTypeError):
        number = _number(zero=True)(weight)
        return (_whole_number(0)(label), number) if equals else number
    raise argparse.ArgumentTypeError(
        f"{text!r} is not balanced, a number of 0 or more, or CLASS=NUMBER, such as 3=0.5{closest(text, ['balanced'])}"
    )

"""The parser of the command line and its help."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from fastmlp.cli import compile_arguments, machine_arguments, network_arguments, train_arguments
from fastmlp.cli.output import say
from fastmlp.cli.shared_arguments import add_data_options, add_threads
from fastmlp.cli.values import ACTIVATIONS, MOST_THREADS, closest, not_one_of, whole_number

__all__ = ["parsers"]

_WRONG_USAGE = 2  # the exit status

_DESCRIPTION = """\
examples:
  fastmlp train                                 MNIST, 784-128-10, 10 epochs
  fastmlp train --data digits --layers 64 32    small images, two hidden layers
  fastmlp train --data table.csv --target price --save net.npz
  fastmlp predict net.npz --data rows.csv       labels and probabilities, or numbers
  fastmlp report net.npz -o report.html         a page to see what it has learned
  fastmlp export net.npz -o net.onnx            for ONNX Runtime
  fastmlp compile --optimizer adam              before the first fit
  fastmlp bench --chart bench.svg               MNIST beside NumPy, PyTorch, JAX, ...
  fastmlp doctor                                what makes it slow on this machine
  fastmlp train --help                          all options

Train multilayer perceptrons, exactly and fast, on the CPU.

commands:
  train       train a network and report how well it predicts test rows
  predict     predict the rows of a file with a saved network
  report      write a page about a saved network, which runs in it
  export      write a saved network for ONNX, PyTorch, Keras, C or safetensors
  compile     compile kernels ahead of time
  bench       time an epoch of fastmlp and of other libraries on this machine
  doctor      look for what makes fastmlp slow or wrong here, and say what to do
"""


class _Parser(argparse.ArgumentParser):
    """A parser that reports errors in one line, without the usage, and suggests what may have been meant."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings)
        self.color = False  # Python 3.14 would colour the help

    def print_help(self, file: object = None) -> None:
        """Print the help. `argparse` would not tell if it cannot be written."""
        say(self.format_help().rstrip("\n"))

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


class _Version(argparse.Action):
    """Prints the versions, which are looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        from fastmlp.cli.version import version_text

        say(version_text())
        parser.exit()


def parsers() -> tuple[_Parser, dict[str, _Parser]]:
    """Return the parser of ``fastmlp`` and those of the commands."""
    parser = _Parser(
        prog="fastmlp",
        usage="fastmlp [--help] [--version] train|predict|report|export|compile|bench|doctor ...",
        description=_DESCRIPTION,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show version, processor and libraries, and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", help=argparse.SUPPRESS)
    texts = {
        "train": train_arguments.TRAIN,
        "predict": network_arguments.PREDICT,
        "report": network_arguments.REPORT,
        "export": network_arguments.EXPORT,
        "compile": compile_arguments.COMPILE,
        "bench": machine_arguments.BENCH,
        "doctor": machine_arguments.DOCTOR,
    }
    of_commands = {
        name: commands.add_parser(
            name, prog=f"fastmlp {name}", usage=f"fastmlp {name} {usage}", description=text, epilog=details
        )
        for name, (usage, text, details) in texts.items()
    }
    train_arguments.add_train(of_commands["train"])
    network_arguments.add_predict(of_commands["predict"])
    add_threads(of_commands["predict"], "number of threads; does not change the result (default: one per core)")
    network_arguments.add_report(of_commands["report"])
    add_data_options(of_commands["report"])
    network_arguments.add_export(of_commands["export"])
    compile_arguments.add_compile(of_commands["compile"], ACTIVATIONS, whole_number(1, MOST_THREADS))
    machine_arguments.add_bench(of_commands["bench"])
    machine_arguments.add_doctor(of_commands["doctor"])
    return parser, of_commands

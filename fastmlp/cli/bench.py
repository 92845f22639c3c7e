"""``fastmlp bench``."""

from __future__ import annotations

import argparse
import shutil
import sys

from fastmlp.cli.data import DATA_SETS, count_classes, load
from fastmlp.cli.files import refuse_overwriting, refuse_same_output
from fastmlp.cli.machine_arguments import PEERS
from fastmlp.cli.output import FAILED, INTERRUPTED, say, tell

__all__ = ["bench"]


def bench(arguments: argparse.Namespace) -> int:
    """Measure and report; return the exit status."""
    outputs = {"--json": arguments.json, "--chart": arguments.chart}
    for option, path in outputs.items():
        if path is not None and arguments.data not in DATA_SETS:
            refuse_overwriting(path, arguments.data, option=option)
    refuse_same_output(outputs)
    x_train, y_train, *_ = load(arguments.data)
    from fastmlp.bench import command, peers

    task = peers.Task(
        (x_train.shape[1], *(arguments.layers or [128]), count_classes(y_train)),
        arguments.batch_size,
        rate=arguments.learning_rate,
        epochs=arguments.epochs,
        activation=arguments.activation,
    )
    last_line = _LastLine()
    try:
        measured = command.run(
            x_train,
            y_train,
            task,
            data=arguments.data,
            runs=arguments.runs,
            n_threads=arguments.threads,
            peers=tuple(getattr(peers, PEERS[name]) for name in dict.fromkeys(arguments.peers)),
            json_file=arguments.json,
            chart_file=arguments.chart,
            write=last_line.above,
            say=last_line.show,
        )
    finally:
        last_line.clear()
    if measured["interrupted"]:
        done = f"{len(measured['results'][0]['seconds'])} of {arguments.runs} turns"
        tell(f"fastmlp bench: interrupted after {done}; the results are those so far")
        return INTERRUPTED
    return FAILED if measured["errors"] else 0


class _LastLine:
    """The last line of a terminal, which shows what is being done. There is none elsewhere."""

    def __init__(self) -> None:
        self._there = sys.stderr is not None and sys.stderr.isatty()
        self._shown = 0

    def show(self, line: str) -> None:
        """Replace the line."""
        if self._there:
            self.clear()
            line = line[: max(0, shutil.get_terminal_size().columns - 1)]  # a longer one would not be replaced
            print(line, end="\r", file=sys.stderr, flush=True)
            self._shown = len(line)

    def clear(self) -> None:
        """Remove the line."""
        if self._shown:
            print(" " * self._shown, end="\r", file=sys.stderr, flush=True)
            self._shown = 0

    def above(self, line: str) -> None:
        """Print a line of the report."""
        self.clear()
        say(line)

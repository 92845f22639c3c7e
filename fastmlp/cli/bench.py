"""``fastmlp bench``."""

from __future__ import annotations

import argparse
import sys

from fastmlp.cli.arguments import PEERS
from fastmlp.cli.data import count_classes, load
from fastmlp.cli.output import FAILED, say

__all__ = ["bench"]


def bench(arguments: argparse.Namespace) -> int:
    """Measure and report; return the exit status."""
    x_train, y_train, *_ = load(arguments.data)
    from fastmlp.bench import command, peers

    task = peers.Task(
        (x_train.shape[1], *arguments.layers, count_classes(y_train)),
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
        write=say,
        say=_show_progress,
    )
    return 0 if same else FAILED


def _show_progress(line: str) -> None:
    """Show the progress in the last line of a terminal."""
    if sys.stderr is not None and sys.stderr.isatty():
        print(f"\r{line:<40}\r", end="", file=sys.stderr, flush=True)

"""``fastmlp bench``: measure the limits of the machine, then train one network with fastmlp and all installed peers."""

from __future__ import annotations

import json
import shutil
import statistics
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp.bench import machine, report
from fastmlp.bench.flops import count_nonzero, epoch_flops
from fastmlp.bench.load import Others, load_average
from fastmlp.bench.peers import PEERS, FastMLP, Task, available, bound_blas, unbound
from fastmlp.bench.turns import Turns, take_turns
from fastmlp.engine.cores import available_threads
from fastmlp.storage import check_writable

__all__ = ["measure", "run"]


def measure(
    X: Any,
    y: Any,
    task: Task,
    *,
    data: str,
    runs: int = 5,
    n_threads: int | None = None,
    peers: tuple[type, ...] = PEERS,
    say: Callable[[str], object] = lambda line: None,
    write: Callable[[str], object] = lambda line: None,
) -> report.Report:
    """Measure the limits of the machine, then train with fastmlp and each peer in turns.

    Parameters
    ----------
    X, y : arrays (n, I) and (n,)
    task : Task
    data : str
        Name of the data set, for the report.
    runs : int
        Timed turns. Ctrl-C ends them early; those that have finished are reported.
    n_threads : int or None
        Threads of fastmlp and of each peer; None means all cores, fewer if fastmlp chooses so.
    peers : tuple of classes
        Those that are not installed are skipped.
    say : callable
        Receives progress messages.
    write : callable
        Receives lines of the report that are known before the end: the heading, and the times of each turn.

    Returns
    -------
    dict
        Plain data, from which the table and the chart are made.
    """
    threads = n_threads or available_threads()
    X, y = np.ascontiguousarray(X, np.float32), np.ascontiguousarray(y, np.int64)
    n_nonzero = count_nonzero(X)
    say("limits of the machine")
    facts = machine.facts()  # first, so that the load is that of other programs
    others = Others()
    limits = {
        "fma_one_core": machine.fma_peak(),
        "read": machine.read_bandwidth(threads),
        "read_one_core": machine.read_bandwidth(),
    }
    before = others.cores()
    before = facts["load"] if before is None else before  # nothing was measured in most of its minute
    say("other libraries")
    installed, missing = available(peers, threads)
    with bound_blas(threads):  # of all libraries, which are loaded by now
        ours = FastMLP(n_threads, name="fastmlp")
        done: report.Report = {
            "machine": facts,
            "versions": {peer.name: peer.version for peer in (ours, *installed)},
            "work": {
                "data": data,
                "rows": len(X),
                "layers": list(task.layers),
                "activation": task.activation,
                "batch_size": task.batch_size,
                "epochs": task.epochs,
                "rate": task.rate,
                "nonzero": n_nonzero / X.size,
                "flop": epoch_flops(task.layers, len(X)),
                "threads": threads,
                "unbound": [name for name in unbound(threads) if name in {peer.name for peer in installed}],
                "runs": runs,
            },
        }
        for line in report.heading(done):
            write(line)

        def finished(turn: int, turns: Turns) -> None:
            write(report.turn_line(turn, runs, turns) if turn else report.loss_line(turns))

        turns = take_turns([ours, *installed], X, y, task, runs, n_threads=threads, say=say, finished=finished)
    limits["fma"] = max(turns.peak, machine.fma_peak(n_threads=threads))
    for name in ("fma", "read"):  # one core does at least what each did beside the others
        limits[f"{name}_one_core"] = max(limits[f"{name}_one_core"], limits[name] / threads)
    limits["dense"] = epoch_flops(task.layers, len(X)) / limits["fma"]
    limits["nonzero"] = epoch_flops(task.layers, len(X), n_nonzero) / limits["fma"]
    return done | {
        "limits": limits,
        "others": {
            "before": before,
            "during": statistics.fmean(turns.others) if turns.others else None,
            "of_turns": turns.others,
            "load_average_after": load_average(),
        },
        "results": report.results(turns, limits),
        "errors": turns.errors,
        "not_compared": {name: why for name, why in turns.not_compared.items() if name in turns.seconds},
        "missing": missing,
        "interrupted": turns.interrupted,
    }


def run(
    X: Any,
    y: Any,
    task: Task,
    *,
    json_file: str | None = None,
    chart_file: str | None = None,
    write: Callable[[str], object] = print,
    **settings: Any,
) -> report.Report:
    """Measure, print the table, and write the files asked for; return the measurements.

    `settings` are those of `measure`.
    """
    for path in (json_file, chart_file):
        if path is not None:
            check_writable(path)
    if chart_file is not None:
        _check_chart(chart_file)
    width = shutil.get_terminal_size((100, 24)).columns

    def wrapped(line: str) -> None:
        for part in textwrap.wrap(
            line, max(width, 20), subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        ):
            write(part)

    measured = measure(X, y, task, write=wrapped, **settings)
    write("")
    lines = report.table(measured, width)
    for line in lines[: (n_table := 4 + len(measured["results"]))]:
        write(line)
    for line in [*lines[n_table:], *report.warnings(measured)]:
        wrapped(line)
    if json_file is not None:
        Path(json_file).write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    if chart_file is not None:
        report.chart(measured, chart_file)
    return measured


def _check_chart(path: str) -> None:
    """Raise an error before anything runs if the chart cannot be drawn."""
    if Path(path).suffix not in (".png", ".svg"):
        raise ValueError(f"--chart {path!r} does not end in .png or .svg")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError('--chart needs matplotlib: pip install "fastmlp[plot]"') from error

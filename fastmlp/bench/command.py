"""``fastmlp bench``: measure the limits of the machine, then train one network with fastmlp and all installed peers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp.bench import machine, report
from fastmlp.bench.flops import count_nonzero, epoch_flops
from fastmlp.bench.peers import PEERS, FastMLP, Task, available
from fastmlp.bench.turns import take_turns
from fastmlp.engine.threads import available_threads

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
) -> report.Report:
    """Measure the limits of the machine, then train with fastmlp and each peer in turns.

    Parameters
    ----------
    X, y : arrays (n, I) and (n,)
    task : Task
    data : str
        Name of the data set, for the report.
    runs : int
        Timed turns.
    n_threads : int or None
        Threads of fastmlp; None means all cores. Peers choose their own number.
    peers : tuple of classes
        Those that are not installed are skipped.
    say : callable
        Receives progress messages.

    Returns
    -------
    dict
        Plain data, from which the table and the chart are made.
    """
    threads = n_threads or available_threads()
    X, y = np.ascontiguousarray(X, np.float32), np.ascontiguousarray(y, np.int64)
    say("limits of the machine")
    facts = machine.facts()  # first, so that the load is that of other programs
    limits = {
        "fma_one_core": machine.fma_peak(),
        "read": machine.read_bandwidth(threads),
        "read_one_core": machine.read_bandwidth(),
    }
    installed, missing = available(peers)
    ours = FastMLP(n_threads, name="fastmlp")
    turns = take_turns([ours, *installed], X, y, task, runs, n_threads=threads, say=say)
    limits["fma"] = max(turns.peak, machine.fma_peak(n_threads=threads))
    n_nonzero = count_nonzero(X)
    limits["dense"] = epoch_flops(task.layers, len(X)) / limits["fma"]
    limits["nonzero"] = epoch_flops(task.layers, len(X), n_nonzero) / limits["fma"]
    return {
        "machine": facts,
        "versions": {peer.name: peer.version for peer in (ours, *installed)},
        "limits": limits,
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
            "runs": runs,
        },
        "results": report.results(turns, limits),
        "errors": turns.errors,
        "missing": missing,
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
) -> bool:
    """Measure, print the table, and write the files asked for; return whether every peer did the same work.

    `settings` are those of `measure`.
    """
    if chart_file is not None:
        _check_chart(chart_file)
    measured = measure(X, y, task, **settings)
    for line in [*report.machine_lines(measured), "", *report.table(measured)]:
        write(line)
    if json_file is not None:
        Path(json_file).write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    if chart_file is not None:
        report.chart(measured, chart_file)
    return not measured["errors"]


def _check_chart(path: str) -> None:
    """Raise an error before anything runs if the chart cannot be drawn."""
    if Path(path).suffix not in (".png", ".svg"):
        raise ValueError(f"--chart {path!r} does not end in .png or .svg")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError('--chart needs matplotlib: pip install "fastmlp[plot]"') from error

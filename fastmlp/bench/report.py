"""The results of ``fastmlp bench`` as plain data, as a table, and as a chart."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

from fastmlp.bench.turns import Turns

__all__ = ["chart", "machine_lines", "results", "table"]

Report: TypeAlias = dict[str, Any]  # what `fastmlp.bench.command.measure` returns and --json writes

_OURS, _OTHERS, _DENSE, _NONZERO = "#1b6ca8", "#b8c0c8", "#444444", "#c44536"


def results(turns: Turns, limits: dict[str, float]) -> list[dict[str, Any]]:
    """Return a row for each peer: its times, their ratios to those of fastmlp, and its shares of the limits.

    Parameters
    ----------
    turns : Turns
    limits : dict
        Lower bounds of the seconds of an epoch, ``dense`` and ``nonzero``.
    """
    rows = []
    for name in turns.seconds:
        ratios = sorted(turns.ratios(name))
        rows.append(
            {
                "name": name,
                "seconds": turns.seconds[name],
                "best": turns.best(name),
                "median": turns.median(name),
                "spread": turns.spread(name),
                "ratio_of_bests": turns.best(name) / turns.best("fastmlp"),
                "ratio": ratios[len(ratios) // 2] if len(ratios) % 2 else sum(ratios[len(ratios) // 2 - 1 :][:2]) / 2,
                "ratio_range": [ratios[0], ratios[-1]],
                "share_of_dense_limit": limits["dense"] / turns.best(name),
                "share_of_nonzero_limit": limits["nonzero"] / turns.best(name),
            }
        )
    return rows


def machine_lines(report: Report) -> list[str]:
    """Return lines about the machine, the versions, the limits, and the training task."""
    machine, limits, work = report["machine"], report["limits"], report["work"]
    threads = f"{work['threads']} thread{'s' * (work['threads'] > 1)}"
    return [
        "{processor}, {cores} cores, {vector_bits}-bit vectors, {system}, Python {python}".format(**machine),
        ", ".join(f"{name} {version}" for name, version in report["versions"].items()),
        f"limits: {limits['fma'] / 1e9:.0f} GFLOP/s in float32 multiply-adds ({limits['fma_one_core'] / 1e9:.0f} on "
        f"one core), {limits['read'] / 1e9:.1f} GB/s read from memory ({limits['read_one_core'] / 1e9:.1f})",
        f"{'-'.join(map(str, work['layers']))} {work['activation']}, {work['data']}: {work['rows']:,} rows, "
        f"{work['nonzero']:.0%} of their numbers not zero, batch {work['batch_size']}, SGD {work['rate']:g}, {threads}",
    ]


def table(report: Report) -> list[str]:
    """Return the lines of the table: the peers, the fastest first, and then the limits of an epoch."""
    rows = sorted(report["results"], key=lambda row: float(row["best"]))
    width = max(len(row["name"]) for row in [*rows, {"name": "nonzero limit"}])
    lines = [
        f"{'':{width}}        epoch, ms                times fastmlp       share of limit",
        f"{'':{width}}     best   median  spread   median         range    dense nonzero",
    ]
    for row in rows:
        best, median = _milliseconds(row["best"]), _milliseconds(row["median"])
        low, high = row["ratio_range"]
        span = f"{low:.2f}..{high:.2f}"
        lines.append(
            f"{row['name']:{width}} {best:>8} {median:>8} {row['spread']:7.0%} "
            f"{row['ratio']:8.2f} {span:>13}  {row['share_of_dense_limit']:7.1%} {row['share_of_nonzero_limit']:7.1%}"
        )
    lines += [f"{f'{name} limit':{width}} {_milliseconds(report['limits'][name]):>8}" for name in ("dense", "nonzero")]
    lines += [f"{name}: ERROR, not timed: {error}" for name, error in report["errors"].items()]
    lines += [f"{name}: skipped, {reason}" for name, reason in report["missing"].items()]
    return lines


def _milliseconds(seconds: float) -> str:
    """Return a time in milliseconds, with three digits or more."""
    return f"{1e3 * seconds:.{1 if seconds >= 0.01 else 2 if seconds >= 0.001 else 3}f}"


def chart(report: Report, path: str | Path) -> None:
    """Draw a bar for the median epoch of each peer, a line from its best to its worst, and the limits.

    Parameters
    ----------
    report : dict
    path : str or Path
        Ends in .png or .svg.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = sorted(report["results"], key=lambda row: -float(row["median"]))
    names, medians = [row["name"] for row in rows], [1e3 * row["median"] for row in rows]
    figure = Figure(figsize=(9, 2.2 + 0.42 * len(rows)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.barh(names, medians, color=[_OURS if name == "fastmlp" else _OTHERS for name in names], height=0.65)
    for at, row in enumerate(rows):
        best, worst = 1e3 * min(row["seconds"]), 1e3 * max(row["seconds"])
        axes.plot([best, worst], [at, at], color="black", linewidth=1.2, solid_capstyle="butt")
        times = "" if row["name"] == "fastmlp" else f"  ({row['ratio']:.1f} x)"
        axes.annotate(
            f"{_milliseconds(row['median'])} ms{times}",
            (worst, at),
            (6, 0),
            textcoords="offset points",
            va="center",
            size=9,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    for name, colour, style in (("dense", _DENSE, "--"), ("nonzero", _NONZERO, ":")):
        limit = 1e3 * report["limits"][name]
        axes.axvline(
            limit, color=colour, linestyle=style, linewidth=1.2, label=f"{name} limit, {_milliseconds(limit / 1e3)} ms"
        )
    axes.legend(frameon=False, fontsize=8, loc="upper right")  # next to the fastest, which has the shortest bar
    machine, *_, work = machine_lines(report)
    axes.set_title(f"Epoch of {work}", fontsize=9, loc="left")
    turns = f"median of {len(rows[0]['seconds'])} turns; the line goes from the best to the worst"
    axes.set_xlabel(f"milliseconds, {turns}\n{machine}", fontsize=8)
    axes.set_xlim(0, 1.22 * max(1e3 * max(row["seconds"]) for row in rows))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)

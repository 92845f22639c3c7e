"""The results of ``fastmlp bench`` as plain data, as lines of text, and as a chart."""

from __future__ import annotations

import math
import statistics
import textwrap
from pathlib import Path
from typing import Any, TypeAlias

from fastmlp.bench.load import others_are_in_the_way
from fastmlp.bench.turns import Turns

__all__ = [
    "chart",
    "heading",
    "loss_line",
    "reasons_not_to_quote",
    "results",
    "table",
    "turn_line",
    "unit_of",
    "warnings",
]

Report: TypeAlias = dict[str, Any]  # what `fastmlp.bench.command.measure` returns and --json writes

_OURS, _OTHERS, _DENSE, _NONZERO, _WARNING = "#1b6ca8", "#b8c0c8", "#444444", "#c44536", "#b00020"
MOST_SPREAD = 0.5  # between the slowest and the fastest turn; with more, ratios say nothing
_REACH = 1.2  # of the longest bar: whiskers are cut off there


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
        ratios = turns.ratios(name)
        rows.append(
            {
                "name": name,
                "seconds": turns.seconds[name],
                "best": turns.best(name),
                "median": turns.median(name),
                "spread": turns.spread(name),
                "loss": turns.losses.get(name),
                "ratio_of_bests": turns.best(name) / turns.best("fastmlp"),
                "ratio": statistics.median(ratios),
                "ratio_range": [min(ratios), max(ratios)],
                "share_of_dense_limit": limits["dense"] / turns.best(name),
                "share_of_nonzero_limit": limits["nonzero"] / turns.best(name),
            }
        )
    return rows


# --- lines ------------------------------------------------------------------------------------------------------------


def heading(report: Report) -> list[str]:
    """Return what is known before the turns: the machine, the versions, and the training task."""
    work = report["work"]
    return [_machine(report), ", ".join(f"{name} {version}" for name, version in report["versions"].items()), _of(work)]


def _machine(report: Report) -> str:
    return "{processor}, {cores} cores, {vector_bits}-bit vectors, {system}, Python {python}".format(
        **report["machine"]
    )


def _of(work: dict[str, Any]) -> str:
    """Describe the training task."""
    threads = f"{work['threads']} thread{'s' * (work['threads'] > 1)} each"
    if work["unbound"]:
        threads += f", but {' and '.join(work['unbound'])} as many as they like"
    return (
        f"{'-'.join(map(str, work['layers']))} {work['activation']}, {work['data']}: {work['rows']:,} rows, "
        f"{work['nonzero']:.0%} nonzeros, batch {work['batch_size']}, SGD {work['rate']:g}, "
        f"{'up to ' * (work['threads'] > 1)}{threads}"
    )


def loss_line(turns: Turns) -> str:
    """Return the losses after the first epoch, which is not timed."""
    return "loss after 1 epoch: " + ", ".join(f"{name} {loss:.4f}" for name, loss in turns.losses.items())


def turn_line(turn: int, runs: int, turns: Turns) -> str:
    """Return the times of one turn, in the order in which it was taken."""
    times = {name: seconds[-1] for name, seconds in turns.seconds.items()}
    scale, unit = unit_of(min(seconds[0] for seconds in turns.seconds.values()))  # the same in all turns
    return f"turn {turn} of {runs}, {unit}: " + ", ".join(f"{name} {_digits(scale * t)}" for name, t in times.items())


def warnings(report: Report) -> list[str]:
    """Return why the ratios must not be quoted, a line for each reason."""
    used = [value for value in (report["others"]["before"], report["others"]["during"]) if value is not None]
    spreads = {row["name"]: row["spread"] for row in report["results"]}
    return reasons_not_to_quote(
        max(used, default=None), report["work"]["threads"], report["machine"]["own_cores"], spreads
    )


def reasons_not_to_quote(used: float | None, threads: int, cores: int, spreads: dict[str, float]) -> list[str]:
    """Return warnings about measurements.

    Parameters
    ----------
    used : float or None
        Cores that other programs used; None if nobody knows.
    threads, cores : int
        Threads that were measured, and cores that there are.
    spreads : dict of str to float
        Between the slowest and the fastest turn, relative to the median, for each peer.
    """
    lines = []
    if others_are_in_the_way(used, threads, cores):
        lines.append(f"the machine was busy: other programs used {used:.1f} of {cores} cores; do not quote the ratios")
    wide = [name for name, spread in spreads.items() if spread > MOST_SPREAD]
    if "fastmlp" in wide:
        lines.append(f"the turns of fastmlp differ by more than {MOST_SPREAD:.0%}; do not quote the ratios")
    elif wide:
        which = f"the turns of {', '.join(wide)} differ by more than {MOST_SPREAD:.0%}"
        lines.append(f"{which}; do not quote {'their ratios' if len(wide) > 1 else 'its ratio'}")
    if len(spreads) == 1:  # there are no ratios
        lines = [f"{line.partition(';')[0]}; do not quote the times" for line in lines]
    return [f"WARNING: {line}" for line in lines]


def table(report: Report, width: int = 100) -> list[str]:
    """Return the lines of the table: the peers, the fastest first, then the limits of an epoch, and remarks.

    Columns that do not fit into the width are left out, the last ones first.
    """
    rows = sorted(report["results"], key=lambda row: float(row["best"]))
    limits = report["limits"]
    scale, unit = unit_of(rows[0]["best"])
    names = [*(row["name"] for row in rows), "dense limit", "nonzero limit"]
    one_turn = len(rows[0]["seconds"]) == 1
    groups: list[tuple[str, dict[str, list[str]]]] = [
        (
            f"epoch, {unit}",
            {
                "best": [_digits(scale * each) for each in [*(row["best"] for row in rows), *_epochs(limits)]],
                "median": [_digits(scale * row["median"]) for row in rows],
                "spread": ["-" if one_turn else f"{row['spread']:.0%}" for row in rows],
            },
        ),
        (
            "times fastmlp",
            {
                "median": [_ratio(row["ratio"]) for row in rows],
                "range": ["..".join(map(_ratio, row["ratio_range"])) for row in rows],
            },
        ),
        (
            "share of limit",
            {
                "dense": [_share(row["share_of_dense_limit"]) for row in rows],
                "nonzero": [_share(row["share_of_nonzero_limit"]) for row in rows],
            },
        ),
    ]
    if len(rows) == 1:
        del groups[1]
    while len((lines := _columns(names, groups))[0]) > width and len(groups) > 1:
        groups.pop()
    lines = [line.rstrip() for line in lines]
    lines.append(
        f"limits: {limits['fma'] / 1e9:.0f} GFLOP/s in float32 multiply-adds ({limits['fma_one_core'] / 1e9:.0f} on "
        f"one core), {limits['read'] / 1e9:.1f} GB/s read from memory ({limits['read_one_core'] / 1e9:.1f})"
    )
    lines += [f"{name}: ERROR, not timed: {error}" for name, error in report["errors"].items()]
    lines += [f"{name}: loss not compared, {why}" for name, why in report["not_compared"].items()]
    lines += [f"{name}: skipped, {reason}" for name, reason in report["missing"].items()]
    return lines


def _epochs(limits: dict[str, float]) -> list[float]:
    return [limits["dense"], limits["nonzero"]]


def _columns(names: list[str], groups: list[tuple[str, dict[str, list[str]]]]) -> list[str]:
    """Return lines of the same length: two of headings, then one for each name."""
    blocks = [[" " * max(map(len, names))] * 2 + [name.ljust(max(map(len, names))) for name in names]]
    for title, columns in groups:
        parts = []
        for head, cells in columns.items():
            cells = [head, *cells, *[""] * (len(names) - len(cells))]
            parts.append([cell.rjust(max(map(len, cells))) for cell in cells])
        lines = ["  ".join(cells) for cells in zip(*parts, strict=True)]
        size = max(len(title), len(lines[0]))
        blocks.append([line.rjust(size) for line in [title, *lines]])
    return ["   ".join(cells) for cells in zip(*blocks, strict=True)]


def unit_of(seconds: float) -> tuple[float, str]:
    """Return the unit in which the fastest time is written, and its number in a second."""
    return (1.0, "s") if seconds >= 10 else (1e3, "ms") if seconds >= 1e-3 else (1e6, "µs")


def _digits(number: float, most: int = 9) -> str:
    """Return a number of 0 or more with three digits that count."""
    decimals = 2 - math.floor(math.log10(number)) if number > 0 else 0
    return f"{number:,.{min(max(decimals, 0), most)}f}"


def _ratio(ratio: float) -> str:
    return _digits(ratio, 2)


def _share(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "<0.1%"


# --- the chart --------------------------------------------------------------------------------------------------------


def chart(report: Report, path: str | Path) -> None:
    """Draw a bar for the median epoch of each peer, a line from its best to its worst, and the limits.

    The axis ends beyond the longest bar. A line that is longer, because of one bad turn, ends there in an arrow.

    Parameters
    ----------
    report : dict
    path : str or Path
        Ends in .png or .svg.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = sorted(report["results"], key=lambda row: -float(row["median"]))
    scale, unit = unit_of(min(row["median"] for row in rows))
    above = textwrap.wrap(f"Epoch of {_of(report['work'])}", 115)
    warned = [line for warning in warnings(report) for line in textwrap.wrap(warning, 110)]
    figure = Figure(figsize=(9, 2.2 + 0.42 * len(rows) + 0.17 * (len(above) + len(warned))), dpi=150)
    figure.set_layout_engine("constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    medians = [scale * row["median"] for row in rows]
    end = _REACH * max([*medians, scale * report["limits"]["dense"]])
    colours = [_OURS if row["name"] == "fastmlp" else _OTHERS for row in rows]
    axes.barh([row["name"] for row in rows], medians, color=colours, height=0.65)
    for at, row in enumerate(rows):
        best, worst = scale * min(row["seconds"]), scale * max(row["seconds"])
        axes.plot([best, min(worst, end)], [at, at], color="black", linewidth=1.2, solid_capstyle="butt")
        label = f"{_digits(scale * row['median'])} {unit}"
        if row["name"] != "fastmlp":
            label += f"  ({_ratio(row['ratio'])} x)"
        if worst > end:
            axes.plot([end], [at], color="black", marker=">", markersize=5, linestyle="none")
            label += f", worst {_digits(worst)} {unit}"
        axes.annotate(
            label,
            (min(worst, end), at),
            (6, 0),
            textcoords="offset points",
            va="center",
            size=9,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            zorder=4,
        )
    for name, colour, style in (("dense", _DENSE, "--"), ("nonzero", _NONZERO, ":")):
        limit = scale * report["limits"][name]
        label = f"{name} limit, {_digits(limit)} {unit}"
        axes.axvline(limit, color=colour, linestyle=style, linewidth=1.2, label=label)
    axes.set_xlim(0, 1.4 * end)  # with room for the labels
    figure.legend(frameon=False, fontsize=8, loc="outside lower right", ncols=2)
    axes.set_title("\n".join(above), fontsize=9, loc="left")
    if warned:
        figure.suptitle("\n".join(warned), color=_WARNING, fontsize=9, fontweight="bold", x=0.01, ha="left")
    n_turns = len(rows[0]["seconds"])
    turns = f"median of {n_turns} turns; the line goes from the best to the worst" if n_turns > 1 else "one turn"
    axes.set_xlabel(f"{unit}, {turns}\n{_machine(report)}", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)

"""The tables that `summary` prints, and that notebooks show, of networks, ensembles and histories."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, TypeAlias

import numpy as np

__all__ = ["as_html", "of_ensemble", "of_history", "of_network", "write_text"]

_MOST_ROWS = 10  # of a table in a notebook, so that the output of any network stays below 10 KB
_MOST_NAMES, _MOST_CHARACTERS = 8, 24
_WIDTH, _HEIGHT, _POINTS = 120, 20, 32  # of a curve


@dataclass(frozen=True)
class Curve:
    """Numbers that a notebook shows as a small curve, and text not at all; `low` and `high` are its ends."""

    values: Sequence[float]
    low: float
    high: float


Cell: TypeAlias = str | int | float | Curve


@dataclass(frozen=True)
class Table:
    """A table with a line above and lines below. A column of nothing but text is aligned left, others right.

    Attributes
    ----------
    title : str
    columns : sequence of str
    rows : list of sequences of str, int, float or Curve
        One cell for each column.
    notes : list of str
    """

    title: str
    columns: Sequence[str] = ()
    rows: list[Sequence[Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def left(self) -> list[bool]:
        """Whether each column is aligned left."""
        return [all(isinstance(cell, str | Curve) for cell in column) for column in zip(*self.rows, strict=True)]


# --- what the tables hold ---------------------------------------------------------------------------------------------


def of_network(net: Any) -> list[Table]:
    """Return the layers of a network, and what its last fit has measured."""
    layers = _layers(net, type(net).__name__, _count(net.n_parameters, net), {"init": net.init, "seed": net.seed})
    return [layers, *([of_history(net.history)] if net.history.loss else [])]


def of_ensemble(ensemble: Any) -> list[Table]:
    """Return the layers of each member, and what the last fit of all has measured."""
    n, first = len(ensemble), ensemble._named
    total = f"{n} members, {_count(n * first.n_parameters, first)}"
    settings = {"init": first.init, "seed": ensemble.seed, "bootstrap": ensemble.bootstrap}
    layers = _layers(first, f"{type(ensemble).__name__} of {n} x MLP", total, settings)
    histories = ensemble.histories
    last = [history._last() for history in histories]
    names = [name for name in ("loss", "accuracy", "val_loss", "val_accuracy") if any(name in each for each in last)]
    if not names:
        return [layers]
    members, span = Table("Members", ["member", "epochs", "curve", *names]), _span([h.loss for h in histories])
    for i, (history, each) in enumerate(zip(histories, last, strict=True)):
        measured = [each.get(name, math.nan) for name in names]
        members.rows.append([i, len(history.loss), Curve(list(history.loss), *span), *measured])
    return [layers, members]


def of_history(history: Any) -> Table:
    """Return what a fit has measured: each as a curve, the last number and the best one."""
    measured = history.to_dict()
    n, seconds = len(history.loss), math.fsum(measured.pop("seconds", ()))
    title = f"History of {n} epoch{'s' * (n != 1)}, {seconds:.3g} s{', interrupted' * history.interrupted}"
    table = Table(title, ["", "curve", "last", "best", "in epoch"])
    rates = measured.pop("learning_rate", [])
    for name, values in measured.items():
        pair = {name, name.removeprefix("val_"), f"val_{name}"}
        best = history.best_epoch(name)
        curve = Curve(values, *_span([measured[other] for other in pair if other in measured]))
        table.rows.append([_short(name), curve, values[-1], values[best - 1] if best else math.nan, best])
    if len(set(rates)) > 1:
        table.rows.append(["learning_rate", Curve(rates, *_span([rates])), f"{rates[-1]:.3g}", "", ""])
    return table


def _layers(net: Any, title: str, total: str, settings: Mapping[str, object]) -> Table:
    """Return the layers of a network, with its names, the settings, and others that differ from their defaults."""
    sizes, dropped = net.layers, any(net.dropout_rates)
    functions = ["", *net.activations, net.output]
    names = ["inputs", *(f"hidden {i}" for i in range(1, len(sizes) - 1)), "output"]
    table = Table(
        f"{title} {'-'.join(map(str, sizes)) if len(sizes) <= _MOST_ROWS else f'of {len(sizes) - 1} layers'}",
        ["layer", "units", "activation", *["dropout"] * dropped, "parameters"],
    )
    for i, (name, size, function) in enumerate(zip(names, sizes, functions, strict=True)):
        rate = net.dropout_rates[i] if i < len(net.dropout_rates) else 0
        n_parameters: Cell = (sizes[i - 1] + 1) * size if i else ""
        table.rows.append([name, size, function, *[f"{rate:g}" if rate else ""] * dropped, n_parameters])
    others = {name: getattr(net, name) for name in ("label_smoothing", "l2", "input_noise") if getattr(net, name)}
    table.notes[:] = total, ", ".join(f"{name} {value}" for name, value in {**settings, **others}.items())
    for names_, what in ((net.feature_names, "features"), (net.classes, "classes")):
        if names_ is not None:
            listed = ", ".join(_short(str(name)) for name in names_[:_MOST_NAMES])
            table.notes.append(f"{len(names_)} {what}: {listed}{', ...' * (len(names_) > _MOST_NAMES)}")
    return table


def _count(n: int, net: Any) -> str:
    """Return a number of parameters, and their memory."""
    size = float(n * np.dtype(net.dtype).itemsize)
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1024 or unit == "GB":
            break
        size /= 1024
    return f"{n:,} parameters, {size:.4g} {unit} in {net.dtype}"


def _short(name: str) -> str:
    """Return a name in one line of few characters."""
    line = " ".join(name.split())
    return line if len(line) <= _MOST_CHARACTERS else f"{line[: _MOST_CHARACTERS - 3]}..."


def _span(lists: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Return the smallest and the largest finite number."""
    finite = [value for values in lists for value in values if math.isfinite(value)]
    return min(finite, default=0.0), max(finite, default=0.0)


# --- as text ----------------------------------------------------------------------------------------------------------


def write_text(tables: Sequence[Table], write: Callable[[str], object] | None = None) -> None:
    """Write tables line by line; None prints them."""
    for table in tables:
        for line in _lines(table):
            (write or print)(line)


def _lines(table: Table) -> Iterator[str]:
    yield table.title
    shown = [i for i in range(len(table.columns)) if not any(isinstance(row[i], Curve) for row in table.rows)]
    rows = [[table.columns[i] for i in shown], *([_text(row[i]) for i in shown] for row in table.rows)]
    widths, all_left = [max(map(len, column)) for column in zip(*rows, strict=True)], table.left
    for row in rows if table.rows else []:
        cells = zip(row, widths, [all_left[i] for i in shown], strict=True)
        yield "  ".join(cell.ljust(width) if left else cell.rjust(width) for cell, width, left in cells).rstrip()
    yield from table.notes


def _text(cell: Cell) -> str:
    if isinstance(cell, float):
        return f"{cell:.4f}" if abs(cell) < 1e5 else f"{cell:.4g}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


# --- as HTML ----------------------------------------------------------------------------------------------------------


def as_html(tables: Sequence[Table]) -> str:
    """Return tables as HTML below 10 KB, without colours of its own: it is readable in light and dark notebooks."""
    return "".join(f'<div style="margin:.5em 0">{"".join(_parts(table))}</div>' for table in tables)


def _parts(table: Table) -> Iterator[str]:
    yield f"<b>{_escaped(table.title)}</b>"
    if table.rows:
        left = table.left
        yield '<table style="border-spacing:.8em 0"><thead><tr>'
        yield from map(_cell, repeat("th"), table.columns, left)
        yield "</tr></thead><tbody>"
        for row in _some(table.rows):
            yield "<tr>"
            yield from map(_cell, repeat("td"), row, left)
            yield "</tr>"
        yield "</tbody></table>"
    yield from (f"<div>{_escaped(note)}</div>" for note in table.notes)


def _some(rows: list[Sequence[Cell]]) -> Iterator[Sequence[Cell]]:
    """Give all rows, or the first and last ones of many."""
    if len(rows) <= _MOST_ROWS:
        yield from rows
        return
    half = _MOST_ROWS // 2
    yield from rows[:half]
    yield [f"... {len(rows) - 2 * half:,} more", *[""] * (len(rows[0]) - 1)]
    yield from rows[-half:]


def _cell(tag: str, cell: Cell, left: bool) -> str:
    content = _svg(cell) if isinstance(cell, Curve) else _escaped(_text(cell))
    aligned = 'style="text-align:left"' if left else 'align="right"'  # which is the style of a notebook already
    return f"<{tag} {aligned}>{content}</{tag}>"


def _escaped(text: str) -> str:
    """Return text as HTML; names of users may be written from right to left."""
    return f"<bdi>{html.escape(text)}</bdi>" if not text.isascii() else html.escape(text)


def _svg(curve: Curve) -> str:
    """Return a curve, thinned out by means, with gaps where numbers are not finite."""
    values = np.array(curve.values, dtype=np.float64)
    values[~np.isfinite(values)] = math.nan
    span = curve.high / 2 - curve.low / 2  # halves, since the whole may be infinite
    shares = (curve.high / 2 - values / 2) / span if span > 0 else np.where(np.isnan(values), values, 0.5)
    if len(shares) > _POINTS:
        shares = np.array([part.mean() for part in np.array_split(shares, _POINTS)])
    path, pen = [], "M"
    for i, share in enumerate(shares):
        if math.isnan(share):
            pen = "M"
            continue
        x = 2 + (_WIDTH - 4) * (i / max(1, len(shares) - 1))
        y = 2 + (_HEIGHT - 4) * share
        path.append(f"{pen}{x:.0f} {y:.1f}" + "h0" * (pen == "M"))  # a line of no length is a dot
        pen = "L"
    drawn = f'fill="none" stroke="currentColor" stroke-width="1.5" stroke-linecap="round" d="{"".join(path)}"'
    return f'<svg width="{_WIDTH}" height="{_HEIGHT}" aria-hidden="true"><path {drawn}/></svg>'

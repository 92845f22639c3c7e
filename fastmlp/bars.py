"""The bar that shows progress: a line of a terminal, or one output of a notebook, which is updated in place."""

from __future__ import annotations

import html
import math
import sys
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

__all__ = ["Bar", "Output", "in_notebook", "new_bar", "shows_bars"]

_LAYOUTS = (
    "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]",  # tqdm's own
    "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]",
    "{l_bar}{bar}| [{elapsed}<{remaining}{postfix}]",
    "{desc}{percentage:.0f}%{postfix}",
)
"""Layouts of the bar of a terminal, from the widest on. A bar that is asked for its width has 10 columns, of which it
needs one: the others are left for numbers that grow."""

_MOST_WORDS = 2  # measurements in the line of a terminal: only so many fit into 80 columns

_BETWEEN = 0.2  # seconds between two messages to a notebook, which a browser may read over a slow network


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook, such as Jupyter, Colab or VS Code."""
    ipython = sys.modules.get("IPython")  # a kernel has imported it
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def shows_bars() -> bool:
    """Return whether this is a notebook, or stderr is a terminal: where a bar can move."""
    return in_notebook() or (sys.stderr is not None and sys.stderr.isatty())


def new_bar(total: int, unit: str = "step", output: Output | None = None) -> Bar | None:
    """Return a bar that is yet to be shown, or None where no bar can move.

    Parameters
    ----------
    total : int
        Of steps, or whatever `unit` is.
    unit : str
    output : Output or None
        The output of the notebook in which to show it; None is one of its own.
    """
    if in_notebook():
        return _NotebookBar(total, unit, output or Output())
    return _TerminalBar(total, unit) if shows_bars() else None


class Bar(ABC):
    """What a terminal and a notebook show of something that goes on."""

    @abstractmethod
    def show(self, n: int, label: str, words: Sequence[str] = (), *, now: bool = False) -> None:
        """Show that `n` steps are done, soon or `now`.

        Parameters
        ----------
        n : int
        label : str
            What goes on, such as "epoch 3/10".
        words : sequence of str
            What has been measured, the most important first.
        now : bool
        """

    @abstractmethod
    def close(self) -> None:
        """Show the last state, which stays."""


class _TerminalBar(Bar):
    """A line on stderr, by tqdm."""

    def __init__(self, total: int, unit: str) -> None:
        from tqdm import tqdm

        self._layout = _LAYOUTS[0]
        self._bar: Any = tqdm(total=total, unit=unit, dynamic_ncols=True, delay=1e-9)  # shown once a layout is chosen
        if (self._bar.ncols or 0) < 0 or (self._bar.nrows or 0) < 0:  # the terminal does not know its size
            self._bar.dynamic_ncols = self._bar.ncols = self._bar.nrows = None

    def show(self, n: int, label: str, words: Sequence[str] = (), *, now: bool = False) -> None:
        bar, words = self._bar, words[:_MOST_WORDS]
        bar.set_description(label, refresh=False)
        state = bar.format_dict | {"n": n, "ncols": None}
        width = bar.ncols or math.inf
        first = _LAYOUTS.index(self._layout)  # once narrow, the layout stays so
        choices = [(layout, len(words)) for layout in _LAYOUTS[first:]] + [(_LAYOUTS[-1], k) for k in (1, 0)]
        for self._layout, k in choices:
            postfix = ", ".join(words[:k])
            if len(bar.format_meter(**state | {"bar_format": self._layout, "postfix": postfix})) <= width:
                break
        bar.bar_format = self._layout
        bar.set_postfix_str(postfix, refresh=False)
        bar.update(n - bar.n)
        if now:
            bar.refresh()

    def close(self) -> None:
        self._bar.close()


class Output:
    """One output of a cell of a notebook: finished lines, and below them something that changes."""

    def __init__(self) -> None:
        self._name, self._begun = f"fastmlp-{uuid.uuid4().hex}", False
        self._lines: list[str] = []

    def line(self, text: str) -> None:
        """Add a finished line, in place of what has changed so far."""
        self._lines.append(text)
        self.show("", "")

    def show(self, text: str, as_html: str) -> None:
        """Show what changes, for frontends with and without HTML."""
        from IPython.display import display

        plain = [*self._lines, text]
        rich = [f"<div>{html.escape(line)}</div>" for line in self._lines] + [as_html]
        data = {"text/plain": "\n".join(filter(None, plain)), "text/html": "".join(rich)}
        update, self._begun = self._begun, True
        display(data, raw=True, display_id=self._name, update=update)


class _NotebookBar(Bar):
    """A bar in one output of a notebook, without widgets, so that a stored notebook shows the last state."""

    def __init__(self, total: int, unit: str, output: Output) -> None:
        self._total, self._unit, self._output = total, unit, output
        self._start, self._shown = time.perf_counter(), -math.inf
        self._state: tuple[int, str, Sequence[str]] = 0, "", ()

    def show(self, n: int, label: str, words: Sequence[str] = (), *, now: bool = False) -> None:
        self._state = n, label, words
        if now or time.perf_counter() - self._shown > _BETWEEN:
            self._draw()

    def close(self) -> None:
        self._draw()

    def _draw(self) -> None:
        from tqdm import tqdm

        self._shown = time.perf_counter()
        n, label, words = self._state
        numbers = {"n": n, "total": self._total, "elapsed": self._shown - self._start, "unit": self._unit}
        postfix = ", ".join(words)
        text = tqdm.format_meter(**numbers, prefix=label, postfix=postfix)
        count = tqdm.format_meter(**numbers, bar_format=_LAYOUTS[0].partition("| ")[2].replace("{postfix}", ""))
        bar = f'<progress value="{n}" max="{self._total}" aria-label="{html.escape(label)}"></progress>'
        shown = " &nbsp; ".join(html.escape(part) for part in (label, count, postfix) if part)
        self._output.show(text, f'<div style="font-variant-numeric: tabular-nums">{bar} &nbsp; {shown}</div>')

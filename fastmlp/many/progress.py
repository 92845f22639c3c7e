"""The progress of many fits: one bar in a terminal or notebook, elsewhere some lines."""

from __future__ import annotations

import sys
import time

from fastmlp.bars import Output, in_notebook, new_bar

__all__ = ["BarOfMany", "Progress"]

_LINES = 20  # at most about so many, where there is no terminal


class Progress:
    """Shows what goes on in many fits, one batch of them after another: in a notebook, in one output."""

    def __init__(self) -> None:
        self._output = Output() if in_notebook() else None

    def bar(self, n_fits: int, n_steps: int) -> BarOfMany:
        """Return the bar of a batch of fits, as `BarOfMany` describes it."""
        return BarOfMany(n_fits, n_steps, self._output)

    def line(self, text: str) -> None:
        """Show a line that stays."""
        if self._output is not None:
            self._output.line(text)
        elif sys.stderr is not None:
            print(text, file=sys.stderr)


class BarOfMany:
    """A bar of the steps of many fits.

    Parameters
    ----------
    n_fits, n_steps : int
        How many fits, and the steps of all.
    output : Output or None
        Of a notebook; None is a new one.
    """

    def __init__(self, n_fits: int, n_steps: int, output: Output | None = None) -> None:
        self._n_fits, self._n_steps, self._reported, self._start = n_fits, 0, 0, time.perf_counter()
        self._bar = new_bar(n_steps, output=output)
        if self._bar is not None:
            self._bar.show(0, self._words(0), now=True)

    def _words(self, n_ended: int) -> str:
        return f"{n_ended}/{self._n_fits} networks"

    def show(self, n_ended: int, n_steps: int) -> None:
        """Show how many fits have ended, and how many steps have been taken."""
        self._n_steps = max(self._n_steps, n_steps)
        if self._bar is not None:
            self._bar.show(self._n_steps, self._words(n_ended))
        elif n_ended >= self._reported + max(1, self._n_fits // _LINES):
            self._report(n_ended)

    def _report(self, n_ended: int) -> None:
        self._reported = n_ended
        if sys.stderr is not None:
            print(f"{self._words(n_ended)}, {time.perf_counter() - self._start:.1f} s", file=sys.stderr)

    def close(self, n_ended: int, n_steps: int) -> None:
        """Show the end. This may be repeated."""
        if self._bar is not None:
            self.show(n_ended, n_steps)
            self._bar.close()
        elif n_ended > self._reported:
            self._report(n_ended)

"""The progress of many fits: one bar in a terminal or notebook, elsewhere some lines."""

from __future__ import annotations

import sys
import time
from typing import Any

from fastmlp.progress import shows_bars

__all__ = ["BarOfMany"]

_LINES = 20  # at most about so many, where there is no terminal


class BarOfMany:
    """A bar (tqdm, on stderr) of the steps of many fits.

    Parameters
    ----------
    n_fits, n_steps : int
        How many fits, and the steps of all.
    """

    def __init__(self, n_fits: int, n_steps: int) -> None:
        self._n_fits, self._reported, self._start = n_fits, 0, time.perf_counter()
        self._bar: Any = None
        if shows_bars():
            from tqdm import tqdm

            self._bar = tqdm(total=n_steps, unit="step", dynamic_ncols=True, desc=self._words(0))

    def _words(self, n_ended: int) -> str:
        return f"{n_ended}/{self._n_fits} networks"

    def show(self, n_ended: int, n_steps: int) -> None:
        """Show how many fits have ended, and how many steps have been taken."""
        if self._bar is not None:
            self._bar.set_description(self._words(n_ended), refresh=False)
            self._bar.update(max(0, n_steps - self._bar.n))
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
            self._bar.refresh()
            self._bar.close()
        elif n_ended > self._reported:
            self._report(n_ended)

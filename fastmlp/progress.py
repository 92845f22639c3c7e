"""Callbacks that show the progress of a fit: a bar, and a table."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from fastmlp.hooks import FitState
from fastmlp.validation.calls import advised_constructor
from fastmlp.validation.settings import check_int

__all__ = ["ProgressBar", "Table", "shows_bars"]

_BARS = (
    "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]",  # tqdm's own
    "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]",
    "{l_bar}{bar}| [{elapsed}<{remaining}{postfix}]",
    "{desc}{percentage:.0f}%{postfix}",
)
"""Layouts of the progress bar, from the widest on. A bar that is asked for its width has 10 columns, of which it needs
one: the others are left for numbers that grow."""

_BETWEEN = 0.05  # seconds; a fit may have thousands of epochs in each, and to lay out a line takes some 0.1 ms

_NUMBER = 8  # least width of a column of a table

_LINES = 20  # about this many lines report a long fit if there is no terminal


def shows_bars() -> bool:
    """Return whether stderr is a terminal or a notebook, where a bar can move."""
    return sys.stderr is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules)


@advised_constructor
class ProgressBar:
    """A bar (tqdm, on stderr) in a terminal or notebook; elsewhere plain lines, one per epoch, but at most about 20."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._reported, self._layout, self._moved = 0, _BARS[0], 0.0

    def on_fit_begin(self, net: object, fit: FitState) -> None:
        """Show the empty bar."""
        self._reported, self._layout = fit.epoch, _BARS[0]
        if shows_bars():
            from tqdm import tqdm

            total = fit.epochs * fit.n_batches
            settings = {"unit": "step", "dynamic_ncols": True, "delay": 1e-9}  # shown once a layout is chosen
            self._bar = tqdm(total=total, **settings)
            if (self._bar.ncols or 0) < 0 or (self._bar.nrows or 0) < 0:  # the terminal does not know its size
                self._bar.dynamic_ncols = self._bar.ncols = self._bar.nrows = None
            self._move(fit)
            self._bar.refresh()

    def on_step(self, net: object, fit: FitState) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._move(fit)

    def on_epoch_end(self, net: object, fit: FitState) -> None:
        """Show what the epoch has measured."""
        if self._bar is None:
            every = max(1, fit.epochs // _LINES)
            if fit.epoch % every == 0 or fit.epoch == fit.epochs:
                self._report(fit)
            return
        if time.perf_counter() - self._moved > _BETWEEN:
            self._move(fit)

    def _move(self, fit: FitState) -> None:
        """Move the bar to the current step, with as many measurements as fit into the line."""
        bar, history, self._moved = self._bar, fit.history, time.perf_counter()
        epoch = fit.epoch if fit.stop else min(fit.epoch + 1, fit.epochs)  # after a stop there is no next epoch
        bar.set_description(f"epoch {epoch}/{fit.epochs}", refresh=False)
        names = ("val_accuracy", "accuracy", "val_loss")  # only one of them fits into 80 columns
        shown = ["loss", *[name for name in names if getattr(history, name)][:1]] if history.loss else []
        words = [f"{name} {history[name][-1]:.4f}" for name in shown]
        n = fit.epoch * fit.n_batches + fit.step
        now = bar.format_dict | {"n": n, "ncols": None}
        width = bar.ncols or math.inf
        first = _BARS.index(self._layout)  # once narrow, the layout stays so
        choices = [(layout, len(words)) for layout in _BARS[first:]] + [(_BARS[-1], k) for k in (1, 0)]
        for self._layout, k in choices:
            postfix = ", ".join(words[:k])
            if len(bar.format_meter(**now | {"bar_format": self._layout, "postfix": postfix})) <= width:
                break
        bar.bar_format = self._layout
        bar.set_postfix_str(postfix, refresh=False)
        bar.update(n - bar.n)

    def on_fit_end(self, net: object, fit: FitState) -> None:
        """Close the bar, or report the last epoch unless that was done."""
        if self._bar is not None:
            self._move(fit)
            self._bar.close()
            self._bar = None
        elif fit.epoch > self._reported:
            self._report(fit)

    def _report(self, fit: FitState) -> None:
        self._reported = fit.epoch
        if sys.stderr is not None:
            line = f"epoch {fit.epoch}/{fit.epochs}: {fit.history.last()}, {fit.history.seconds[-1]:.2f} s"
            print(line, file=sys.stderr)


@advised_constructor
class Table:
    """Print a table of the measurements, one line per epoch.

    Parameters
    ----------
    every : int
        Print every so many epochs, and the last one.
    columns : mapping of str to str, or None
        Headings of the measurements to print, by name. None prints all, and the seconds, under their own names.
    write : callable or None
        Prints a line; None is `print`. Use ``tqdm.write`` beside a progress bar.

    Examples
    --------
    >>> from fastmlp import MLP, callbacks, datasets
    >>> X_train, y_train, X_test, y_test = datasets.load_digits()
    >>> table = callbacks.Table(every=5)
    >>> history = MLP([64, 32, 10]).fit(X_train, y_train, callbacks=[table])
    epoch      loss  accuracy   seconds
        5    0.6667    0.8928    0.0005
       10    0.3172    0.9402    0.0005
    """

    def __init__(
        self,
        every: int = 1,
        columns: Mapping[str, str] | None = None,
        write: Callable[[str], object] | None = None,
    ) -> None:
        self.every = check_int("every", every, 1)
        if columns is not None and not isinstance(columns, Mapping):
            raise TypeError(f"columns must be a dict such as {{'val_loss': 'test loss'}}, not {columns!r}")
        if write is not None and not callable(write):
            raise TypeError(f"write must be a function that prints a line, not {write!r}")
        self.columns, self.write = columns, write
        self._printed = 0

    def on_fit_begin(self, net: object, fit: FitState) -> None:
        """Print the heading."""
        names = (*fit.measures, "learning_rate", "seconds")
        shown = self.columns or {name: name for name in names if name != "learning_rate"}
        for name in shown:
            if name not in names:
                raise ValueError(f"columns has {name!r}, but this fit measures {', '.join(names)}")
        self._widths = {name: max(len(heading), _NUMBER) for name, heading in shown.items()}
        self._printed = fit.epoch
        self._print("epoch", *(f"{heading:>{self._widths[name]}}" for name, heading in shown.items()))

    def on_epoch_end(self, net: object, fit: FitState) -> None:
        """Print the line of the finished epoch, if it is time to."""
        if fit.epoch % self.every == 0 or fit.epoch == fit.epochs:
            self._line(fit)

    def on_fit_end(self, net: object, fit: FitState) -> None:
        """Print the line of the last epoch unless that was done."""
        if fit.epoch > self._printed:
            self._line(fit)

    def _line(self, fit: FitState) -> None:
        self._printed = fit.epoch
        cells = []
        for name, width in self._widths.items():
            value = fit.history[name][-1]
            text = f"{value:.6g}" if name == "learning_rate" else _short(value)
            cells.append(f"{text:>{width}}")
        self._print(f"{fit.epoch:5}", *cells)

    def _print(self, *cells: str) -> None:
        line = "  ".join(cells)
        if self.write is None:
            print(line, flush=True)
        else:
            self.write(line)


def _short(value: float) -> str:
    """Return a measurement in few characters."""
    return f"{value:.4f}" if abs(value) < 1e5 else f"{value:.4g}"

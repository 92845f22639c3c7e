"""Callbacks that show the progress of a fit: a bar, and a table."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

from fastmlp.bars import Bar, new_bar
from fastmlp.hooks import FitState
from fastmlp.validation.calls import advised_constructor
from fastmlp.validation.settings import check_int

__all__ = ["ProgressBar", "Table"]

_BETWEEN = 0.05  # seconds; a fit may have thousands of epochs in each, and to lay out a line takes some 0.1 ms

_NUMBER = 8  # least width of a column of a table

_LINES = 20  # about this many lines report a long fit if there is no terminal


@advised_constructor
class ProgressBar:
    """Progress bar in a terminal, on stderr, or in a notebook.

    Elsewhere, for example in a log file, it prints a line per epoch, but at most about 20 lines.
    """

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._reported, self._moved = 0, 0.0

    def on_fit_begin(self, net: object, fit: FitState) -> None:
        """Show the empty bar."""
        self._reported = fit.epoch
        self._bar = new_bar(fit.epochs * fit.n_batches)
        self._move(fit, now=True)

    def on_step(self, net: object, fit: FitState) -> None:
        """Move the bar."""
        self._move(fit)

    def on_epoch_end(self, net: object, fit: FitState) -> None:
        """Show what the epoch has measured."""
        if self._bar is None:
            every = max(1, fit.epochs // _LINES)
            if fit.epoch % every == 0 or fit.epoch == fit.epochs:
                self._report(fit)
        elif time.perf_counter() - self._moved > _BETWEEN:
            self._move(fit)

    def _move(self, fit: FitState, now: bool = False) -> None:
        """Move the bar, if there is one, to the current step."""
        if self._bar is None:
            return
        self._moved, measured = time.perf_counter(), fit.history._last()
        epoch = fit.epoch if fit.stop else min(fit.epoch + 1, fit.epochs)  # after a stop there is no next epoch
        first = [name for name in ("val_accuracy", "accuracy", "val_loss") if name in measured][:1]
        names = dict.fromkeys(["loss", *first, *measured]) if measured else {}
        words = [f"{name} {measured[name]:.4f}" for name in names]
        if fit.history.interrupted:
            words.append("interrupted")
        self._bar.show(fit.epoch * fit.n_batches + fit.step, f"epoch {epoch}/{fit.epochs}", words, now=now)

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
    every : int, default=1
        Number of epochs between lines; the last epoch is always printed.
    columns : mapping of str to str, or None, default=None
        Measurements to print, as names and headings. None prints all of them and the seconds, under their own names.
    write : callable or None, default=None
        Function that prints a line. None is `print`. Use ``tqdm.write`` beside a progress bar.

    Examples
    --------
    >>> from fastmlp import MLP, callbacks, datasets
    >>> X_train, y_train, X_test, y_test = datasets.load_digits()
    >>> table = callbacks.Table(every=5)
    >>> history = MLP([64, 32, 10]).fit(X_train, y_train, callbacks=[table])
    epoch      loss  accuracy   seconds
        5    0.6667    0.8928    0.0...
       10    0.3172    0.9402    0.0...
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
        """Print the line of the epoch if it is due."""
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

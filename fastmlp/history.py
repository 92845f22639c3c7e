"""`History`: the measurements of a fit, epoch by epoch."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastmlp.options import Mode
from fastmlp.summary import as_html, of_history
from fastmlp.validation.calls import advised_methods
from fastmlp.validation.settings import check_choice

__all__ = ["Best", "History", "check_monitor", "direction"]

_LISTS = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")
_SMALL_IS_GOOD = {
    "brier",
    "cost",
    "deviance",
    "error",
    "loss",
    "mae",
    "mape",
    "mse",
    "msle",
    "perplexity",
    "rmse",
    "rmsle",
}


@advised_methods
@dataclass(repr=False)
class History:
    """Measurements of a fit: lists with one entry per finished epoch.

    ``history["val_f1_macro"]`` returns a list by its name.

    Attributes
    ----------
    loss, accuracy : list of float
        Means over the rows of the epoch, each batch measured before its step. No accuracy for regression.
    val_loss, val_accuracy : list of float
        Measured on the validation data after the epoch; empty without validation data.
    learning_rate : list of float
        Of the last step of the epoch.
    seconds : list of float
        Wall time of training, without validation and callbacks at the end of the epoch. Several short epochs may run
        in one call; its time is divided equally.
    metrics : dict of str to list of float
        Further metrics of the validation data, such as ``metrics["val_f1_macro"]``.
    interrupted : bool
        Whether Ctrl-C ended the fit.
    steps : int
        All steps, including those of an unfinished epoch.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    interrupted: bool = False
    steps: int = 0

    def __repr__(self) -> str:
        """Return one line, for a cell of a notebook."""
        last = f": {self.last()}" if self.loss else ""
        return f"<History of {len(self.loss)} epochs{', interrupted' * self.interrupted}{last}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return as_html([of_history(self)])

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickle; older versions had fewer lists."""
        vars(self).update(vars(History()) | state)

    def __getitem__(self, name: str) -> list[float]:
        """Return the list with this name.

        Raises
        ------
        KeyError
            If it was not measured.
        """
        measured = self._measured()
        if name not in measured:
            raise KeyError(f"{name!r} was not measured, but {', '.join(measured) or 'nothing yet'}")
        return measured[name]

    def last(self) -> str:
        """Return the measurements of the last epoch as text.

        Returns
        -------
        str
            One line, as a progress bar shows it.
        """
        return ", ".join(f"{name} {value:.4f}" for name, value in self._last().items())

    def _last(self) -> dict[str, float]:
        """Return the measurements of the last epoch by name, without the learning rate and the seconds."""
        apart = ("learning_rate", "seconds")
        return {name: values[-1] for name, values in self._measured().items() if name not in apart}

    def append(self, **measured: float) -> None:
        """Add the measurements of one epoch.

        Parameters
        ----------
        **measured : float
            A number for each list, by name. Other lists get nan.
        """
        self.extend(**{name: [value] for name, value in measured.items()})

    def extend(self, **measured: Sequence[float]) -> None:
        """Add the measurements of several epochs.

        Parameters
        ----------
        **measured : sequence of float
            Numbers for each list, by name. Other lists get nan.
        """
        self._put(len(self.loss), measured)

    def _put(self, start: int, measured: Mapping[str, Sequence[float]]) -> None:
        """Set the measurements of the epochs from `start` on, counted from 0. This may be repeated."""
        for name, numbers in measured.items():
            values = getattr(self, name) if name in _LISTS else self.metrics.setdefault(name, [])
            values += [math.nan] * (start - len(values))
            values[start:] = numbers
        own, n_epochs = vars(self), len(self.loss)
        for values in (*map(own.__getitem__, _LISTS), *self.metrics.values()):
            if 0 < len(values) < n_epochs:
                values += [math.nan] * (n_epochs - len(values))

    def best_epoch(self, monitor: str = "val_loss", mode: Mode = "auto", min_delta: float = 0.0) -> int:
        """Return the epoch with the best value of a measurement.

        Parameters
        ----------
        monitor : str, default="val_loss"
            Name of the measurement.
        mode : {"auto", "min", "max"}, default="auto"
            Whether small or large values are good; "auto" decides by the name.
        min_delta : float, default=0.0
            Minimum change that counts as an improvement.

        Returns
        -------
        int
            The epoch, from 1, or 0 if all values are nan.
        """
        best = Best(monitor, mode, min_delta)
        best.is_last(self)
        return best.epoch

    def to_dict(self) -> dict[str, list[float]]:
        """Return all measurements as lists.

        Returns
        -------
        dict of str to list of float
            Copies of all lists that are not empty, by name.
        """
        return {name: list(values) for name, values in self._measured().items()}

    def to_pandas(self) -> Any:
        """Return all measurements as a table.

        Returns
        -------
        pandas.DataFrame
            A column for each list, and a row for each epoch, from 1.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("history.to_pandas() needs pandas: pip install pandas") from error
        return pd.DataFrame(self._measured(), index=pd.RangeIndex(1, len(self.loss) + 1, name="epoch"))

    def plot(self, ax: Any = None) -> Any:
        """Plot loss, accuracy and further metrics of training and validation over the epochs.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to plot the loss, and nothing else. None makes a figure with axes for each measurement.
            `fastmlp.plots.learning_curves` plots several histories.

        Returns
        -------
        Axes, or array of Axes
            `ax`, or the new Axes. ``axes[0].figure`` is the figure.

        Raises
        ------
        ValueError
            If nothing has been measured.
        """
        from fastmlp.plots import learning_curves

        display = learning_curves(self, ax=ax)
        return display.axes_ if ax is None else ax

    def _measured(self) -> dict[str, list[float]]:
        lists = {name: getattr(self, name) for name in _LISTS[:4]} | self.metrics
        lists |= {name: getattr(self, name) for name in _LISTS[4:]}
        return {name: values for name, values in lists.items() if values}


@dataclass
class Best:
    """Tracks the best epoch of a growing history. The settings are those of `History.best_epoch`.

    Attributes
    ----------
    epoch : int
        Counted from 1; 0 if there is none yet.
    """

    monitor: str
    mode: Mode = "auto"
    min_delta: float = 0.0
    epoch: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._sign = direction(self.monitor, self.mode)
        self._value = -math.inf
        self._seen = 0

    def is_last(self, history: History) -> bool:
        """Read the epochs since the last call, and return whether the latest one is the best."""
        values = history[self.monitor]
        for value in values[self._seen :]:
            self._seen += 1
            if self._sign * value > self._value + self.min_delta:
                self._value, self.epoch = self._sign * value, self._seen
        return self.epoch == len(values)


def direction(monitor: str, mode: Mode = "auto") -> int:
    """Return 1 if large values of a measurement are good, -1 if small values are.

    Parameters
    ----------
    monitor : str
        Its name in the history.
    mode : {"auto", "min", "max"}
        "auto" decides by the name: loss, error, mae, mse, rmse and so on should be small.

    Raises
    ------
    TypeError, ValueError
        If the name is not a str, or there is no such mode.
    """
    if not isinstance(monitor, str):
        raise TypeError(f"monitor must be the name of a measurement, e.g. 'val_loss', not {monitor!r}")
    if check_choice("mode", mode, ("auto", "min", "max")) == "auto":
        return -1 if _SMALL_IS_GOOD & set(monitor.split("_")) else 1
    return 1 if mode == "max" else -1


def check_monitor(monitor: str | None, measures: Sequence[str]) -> None:
    """Refuse a measurement that the fit does not make."""
    if monitor is None or monitor in measures:
        return
    direction(monitor)  # which refuses what is no name
    advice = "; give validation_data" if monitor.startswith("val_") else ""
    close = difflib.get_close_matches(monitor, measures, n=1, cutoff=0.7)
    meant = f"did you mean {close[0]!r}?" if close else ""
    if advice and "val_loss" in measures:
        advice = f"; add {monitor.removeprefix('val_')!r} to metrics{', or ' if meant else ''}{meant}"
    elif not advice and meant:
        advice = f"; {meant}"
    raise ValueError(f"monitor is {monitor!r}, but this fit measures {', '.join(measures)}{advice}")

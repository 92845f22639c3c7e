"""Callbacks: objects whose methods `fit` calls while it trains.

A callback has any of these methods; `net` is the network and `fit` a `FitState`:

- ``on_fit_begin(net, fit)`` before the first epoch;
- ``on_step(net, fit)`` a few dozen times per second during an epoch, not at every step. The parameters may then mix two
  consecutive steps, and values written into them may be lost;
- ``on_mix_end(net, fit)`` after each mix of `fastmlp.data.Blocks` but the last of an epoch, between two steps;
- ``on_epoch_end(net, fit)`` after each epoch, which is then part of ``fit.history``;
- ``on_fit_end(net, fit)`` at the end, even after Ctrl-C or an error, if `on_fit_begin` has returned.

Other methods whose names begin with ``on_`` are refused, since `fit` would never call them.

`MLflow`, `TensorBoard`, `WandB` and `OptunaPruning` report a fit to other programs.

A callback can end the fit with ``fit.stop = True`` and change the learning rate with ``fit.learning_rate_factor *=
0.5``, both from the next epoch on.
"""

from __future__ import annotations

import copy
import csv
import math
import os
import string
import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.engine.base import Engine
from fastmlp.history import Best, check_monitor
from fastmlp.hooks import FitState, check_callbacks
from fastmlp.interchange.safetensors import check_target
from fastmlp.optimizers import Optimizer, at_step, get_optimizer
from fastmlp.options import Mode, OptimizerName
from fastmlp.progress import ProgressBar, Table
from fastmlp.trackers import MLflow, OptunaPruning, TensorBoard, WandB
from fastmlp.validation.calls import advised, advised_constructor
from fastmlp.validation.settings import check_bool, check_int, check_number, check_path

__all__ = [
    "CSVLog",
    "Checkpoint",
    "EarlyStopping",
    "FitState",
    "LearningRateFinder",
    "MLflow",
    "OptunaPruning",
    "ProgressBar",
    "Table",
    "TensorBoard",
    "TimeLimit",
    "WandB",
    "gather_callbacks",
]


class Net(Protocol):
    """What the callbacks below use of a network."""

    @property
    def seed(self) -> int | None: ...
    @property
    def weights(self) -> list[Floats]: ...
    @property
    def biases(self) -> list[Floats]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def save(self, path: str, *, training: bool) -> None: ...
    @property
    def _engine(self) -> Engine: ...
    def _check_data(self, X: Any, y: npt.ArrayLike) -> tuple[Any, Any]: ...


def gather_callbacks(callbacks: Iterable[object], progress: bool = False) -> list[object]:
    """Return `callbacks`, checked by `check_callbacks`, as a list, after a `ProgressBar` if `progress` is True."""
    gathered = check_callbacks(callbacks)
    return [ProgressBar(), *gathered] if progress else gathered


@advised_constructor
class EarlyStopping:
    """End the fit when a measurement has stopped improving, and restore the best parameters.

    Parameters
    ----------
    monitor : str
        Measurement: "loss", "val_loss", "val_accuracy", or ``"val_..."`` of any metric.
    patience : int
        Epochs in a row without improvement.
    min_delta : float
        An improvement must exceed this.
    mode : {"auto", "min", "max"}
        Whether small or large values are good; "auto" decides by the name.
    restore_best : bool
        Whether the network has the parameters of the best epoch in the end, even after Ctrl-C. To resume
        bit-identically you need the parameters of the last epoch, which `Checkpoint` writes.

    Attributes
    ----------
    stopped : bool
        Whether this callback ended the fit.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 10,
        min_delta: float = 0.0,
        mode: Mode = "auto",
        restore_best: bool = True,
    ) -> None:
        self.monitor, self.mode = monitor, mode
        self.patience = check_int("patience", patience, 1)
        self.min_delta = check_number("min_delta", min_delta)
        self.restore_best = check_bool("restore_best", restore_best)
        self._forget()

    def _forget(self) -> None:
        self._best, self.stopped = Best(self.monitor, self.mode, self.min_delta), False
        self._parameters: list[npt.NDArray[Any]] = []

    @property
    def best_epoch(self) -> int:
        """The best epoch so far, counted from 1; 0 if there is none yet."""
        return self._best.epoch

    def on_fit_begin(self, net: Net, fit: FitState) -> None:
        """Forget earlier fits."""
        self._forget()
        check_monitor(self.monitor, fit.measures)

    def on_epoch_end(self, net: Net, fit: FitState) -> None:
        """Copy the parameters if they are the best; stop after `patience` epochs."""
        if self._best.is_last(fit.history) and self.restore_best:
            self._parameters = [parameter.copy() for parameter in net.weights + net.biases]
        if fit.epoch - self.best_epoch >= self.patience:
            fit.stop = self.stopped = True

    def on_fit_end(self, net: Net, fit: FitState) -> None:
        """Restore the best parameters."""
        for parameter, best in zip(net.weights + net.biases, self._parameters, strict=False):
            parameter[...] = best
        self._parameters = []


@advised_constructor
class Checkpoint:
    """Save the network with its training state. A file is replaced as a whole or not at all.

    ``MLP.load(path)`` reads it, and ``fit(..., resume=True)`` continues.

    Parameters
    ----------
    path : str or path
        The .npz or .safetensors file. Its name may have fields, as of `str.format`, for the epoch and for what the
        epoch has measured, such as ``"net-{epoch:03d}-{val_loss:.2f}.npz"``. Without them each save replaces the one
        before. Write {{ for a brace.
    monitor : str or None
        A measurement such as "val_loss": save only epochs that are the best so far.
    every : int
        Save every so many epochs, and after the last one. List callbacks that may end the fit before this one.
    mode : {"auto", "min", "max"}
        Whether small or large values are good; "auto" decides by the name.
    seconds : float or None
        Where epochs over `fastmlp.data.Blocks` take long: save also within an epoch, whenever the last save is so many
        seconds ago. The fit resumes from there. Not with `monitor`, nor with fields for measurements in the path.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str | None = None,
        every: int = 1,
        mode: Mode = "auto",
        seconds: float | None = None,
    ) -> None:
        self.path = check_path(path)
        self._fields = _fields(self.path)
        self.monitor, self.mode = monitor, mode
        self.every = check_int("every", every, 1)
        self.seconds = None if seconds is None else check_number("seconds", seconds)
        if seconds is not None and (monitor is not None or set(self._fields) - {"epoch"}):
            raise ValueError(
                "seconds saves within an epoch, which has no measurements yet; leave out monitor and its fields"
            )
        self._best, self._saved = self._new_best(), time.monotonic()

    def _new_best(self) -> Best:
        return Best("loss" if self.monitor is None else self.monitor, self.mode)

    def on_fit_begin(self, net: Net, fit: FitState) -> None:
        """Check that the monitor exists, that the file is writable, and that the state can be saved."""
        self._best = self._new_best()
        check_monitor(self.monitor, fit.measures)
        known = ("epoch", *fit.measures, "learning_rate", "seconds")
        for name in self._fields:
            if name not in known:
                raise ValueError(f"path has the field {{{name}}}, but this fit has only {', '.join(known)}")
        check_target(self._file(fit.epoch, dict.fromkeys(known[1:], 0.0)))
        net.state_dict()
        self._saved = time.monotonic()

    def on_mix_end(self, net: Net, fit: FitState) -> None:
        """Save within an epoch, if the last save is long ago."""
        if self.seconds is not None and time.monotonic() - self._saved >= self.seconds:
            net.save(self._file(fit.epoch, {}), training=True)
            self._saved = time.monotonic()

    def on_epoch_end(self, net: Net, fit: FitState) -> None:
        """Save, if it is time to."""
        if fit.epoch % self.every and fit.epoch < fit.epochs and not fit.stop:
            return
        if self.monitor is None or self._best.is_last(fit.history):
            last = {name: fit.history[name][-1] for name in self._fields if name != "epoch"}
            net.save(self._file(fit.epoch, last), training=True)
            self._saved = time.monotonic()

    def _file(self, epoch: int, measured: Mapping[str, float]) -> str:
        try:
            return self.path.format(epoch=epoch, **measured)
        except KeyError as error:  # a field within the format of another
            raise ValueError(f"path {self.path!r} has the field {{{error.args[0]}}}, which has no value") from None
        except (ValueError, LookupError) as error:
            raise ValueError(f"path {self.path!r} cannot be formatted: {error}") from error


def _fields(path: str) -> list[str]:
    """Return the names of the fields of a path."""
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(path) if name is not None]
    except ValueError as error:
        raise ValueError(f"path {path!r} cannot be formatted: {error}; write {{{{ and }}}} for braces") from error
    for name in fields:
        if not name.isidentifier():
            raise ValueError(
                f"path {path!r} has a field without a name such as {{epoch}}; write {{{{ and }}}} for braces"
            )
    return fields


@advised_constructor
class CSVLog:
    """Write a line to a CSV file after each epoch.

    Parameters
    ----------
    path : str or path
        An older file is replaced. A resumed fit writes the earlier epochs, too.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = check_path(path)

    def on_fit_begin(self, net: Net, fit: FitState) -> None:
        """Write the epochs of a resumed fit, or an empty file."""
        self._write_all(fit.history.to_dict())

    def on_epoch_end(self, net: Net, fit: FitState) -> None:
        """Append a line, or write the file anew if there are new columns."""
        measured = fit.history._measured()  # the lists themselves: copies would cost more with each epoch
        if list(measured) == self._columns:
            self._write("a", [[len(fit.history.loss), *(values[-1] for values in measured.values())]])
        else:
            self._write_all(measured)

    def _write_all(self, measured: dict[str, list[float]]) -> None:
        self._columns = list(measured)
        lines = enumerate(zip(*measured.values(), strict=False), 1)
        heading = [["epoch", *measured]] if measured else []
        self._write("w", [*heading, *([epoch, *numbers] for epoch, numbers in lines)])

    def _write(self, mode: str, lines: list[list[Any]]) -> None:
        with open(self.path, mode, newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(lines)


@advised_constructor
class TimeLimit:
    """End the fit before an epoch that would, at the mean pace so far, exceed `seconds`; at least one is run."""

    def __init__(self, seconds: float) -> None:
        self.seconds = check_number("seconds", seconds, zero=False)

    def on_fit_begin(self, net: Net, fit: FitState) -> None:
        """Start the clock."""
        self._start, self._before = time.perf_counter(), fit.epoch

    def on_epoch_end(self, net: Net, fit: FitState) -> None:
        """Stop if another epoch would take too long."""
        epochs, elapsed = fit.epoch - self._before, time.perf_counter() - self._start
        if elapsed * (epochs + 1) / epochs > self.seconds:
            fit.stop = True


@advised_constructor
class LearningRateFinder:
    """Suggest a learning rate, by training a copy of a network with rates from low to high (Smith, 2017).

    ``net.fit(X, y, learning_rate=LearningRateFinder().find(net, X, y))``. This is not a callback; use it before `fit`.

    Parameters
    ----------
    low, high : float
        First and last learning rate.
    steps : int
        Number of steps. Rates grow by the same factor from step to step. The search ends early if the loss explodes.

    Attributes
    ----------
    rates, losses, smooth_losses : (k,) float64 arrays
        Learning rate of each step, loss of its batch before the step, and a running mean of the losses.
    suggestion : float
        The rate at which the running mean falls fastest.
    """

    def __init__(self, low: float = 1e-6, high: float = 10.0, steps: int = 100) -> None:
        self.low, self.high = check_number("low", low, zero=False), check_number("high", high, zero=False)
        if self.low >= self.high:
            raise ValueError(f"low must be below high, but low is {low} and high is {high}")
        self.steps = check_int("steps", steps, 10)

    @advised
    def find(
        self,
        net: Net,
        X: Any,
        y: npt.ArrayLike,
        *,
        optimizer: OptimizerName | Optimizer | None = None,
        batch_size: int = 64,
    ) -> float:
        """Return the suggestion for these rows. `net` is unchanged. There is no dropout and no noise.

        Raises
        ------
        ValueError
            If the loss does not fall at any of the learning rates.
        """
        if isinstance(net, type) or not hasattr(net, "_check_data"):
            raise TypeError(f"net must be a network, e.g. MLP([784, 128, 10]), not {net!r}")
        X_, y_ = net._check_data(X, y)
        twin, chosen = copy.deepcopy(net), get_optimizer(optimizer)
        parameters = twin.weights + twin.biases
        states = [[np.empty_like(parameter) for _ in range(chosen.slots)] for parameter in parameters]
        for state in states:
            chosen.start(state)
        n_rows = min(check_int("batch_size", batch_size, 1), len(y_))
        order = np.random.default_rng(net.seed).permutation(len(y_))
        batches = np.resize(order, (self.steps, n_rows))
        rates = np.geomspace(self.low, self.high, self.steps)
        coefficients = chosen.coefficients(np.arange(self.steps) + 1, rates)
        losses: list[float] = []
        with np.errstate(over="ignore", invalid="ignore"):  # the last steps are expected to explode
            for step, rows in enumerate(batches):
                loss, dw, db = twin._engine.gradients(X_[rows], y_[rows], None)
                if not loss < 4 * (losses[0] if losses else math.inf):
                    break
                losses.append(loss)
                for parameter, gradient, state in zip(parameters, dw + db, states, strict=True):
                    chosen.update(parameter, gradient, state, at_step(coefficients, step))
        if not losses:
            raise ValueError("the loss is nan or infinite before the first step")
        self.rates, self.losses = rates[: len(losses)], np.array(losses)
        self.smooth_losses = _running_mean(self.losses, self.steps / 40)
        falling = self.smooth_losses[: self.smooth_losses.argmin() + 1]
        noise = np.std((self.losses - self.smooth_losses)[: len(falling)])
        if len(falling) < 2 or falling[0] - falling[-1] < 2 * noise:
            raise ValueError(f"the loss falls at none of the learning rates from {self.low:g} to {self.high:g}")
        self.suggestion = float(self.rates[np.gradient(falling).argmin()])
        return self.suggestion

    def plot(self, ax: Any = None) -> Any:
        """Plot the losses over the learning rates into `ax`, or new Axes of matplotlib, and return it."""
        if not hasattr(self, "suggestion"):
            raise ValueError("nothing has been found yet; call find(net, X, y) first")
        from fastmlp.plots.colors import CURVES
        from fastmlp.plots.display import check_axes, new_axes

        check_axes(ax)
        ax = new_axes(1)[0] if ax is None else ax
        ax.plot(self.rates, self.losses, ".", color=CURVES[0], alpha=0.3)
        ax.plot(self.rates, self.smooth_losses, color=CURVES[0])
        ax.axvline(self.suggestion, color=CURVES[1], label=f"suggestion {self.suggestion:.2g}")
        ax.set(xscale="log", xlabel="learning rate", ylabel="loss")
        ax.grid(alpha=0.3)
        ax.legend(frameon=False)
        return ax


def _running_mean(values: npt.NDArray[np.float64], width: float) -> npt.NDArray[np.float64]:
    """Return averages over neighbours on both sides, with Gaussian weights of this width."""
    positions = np.arange(len(values))
    weights = np.exp(-0.5 * ((positions[:, None] - positions) / width) ** 2)
    means: npt.NDArray[np.float64] = weights @ values / weights.sum(axis=1)
    return means

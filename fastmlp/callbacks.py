"""Callbacks: objects whose methods `fit` calls while it trains.

A callback has one or more of these methods, where `net` is the network and `fit` a `FitState`:

- ``on_fit_begin(net, fit)`` before the first epoch;
- ``on_step(net, fit)`` a few dozen times per second during an epoch, not at every step. The parameters may then mix two
  consecutive steps, and values written into them may be lost;
- ``on_mix_end(net, fit)`` after each mix of `fastmlp.data.Blocks` but the last of an epoch, between two steps;
- ``on_epoch_end(net, fit)`` after each epoch, which is then part of ``fit.history``;
- ``on_fit_end(net, fit)`` at the end, even after Ctrl-C or an error, if `on_fit_begin` has returned.

A callback with another method whose name begins with ``on_`` is refused, because `fit` would never call it.

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
    """Check callbacks and return them as a list.

    Parameters
    ----------
    callbacks : iterable of objects
        Callbacks, as for `MLP.fit`.
    progress : bool, default=False
        Whether to put a `ProgressBar` before them.

    Returns
    -------
    list of objects
        The callbacks.

    Raises
    ------
    TypeError
        If an object is not a callback.
    """
    gathered = check_callbacks(callbacks)
    return [ProgressBar(), *gathered] if progress else gathered


@advised_constructor
class EarlyStopping:
    """End the fit when a measurement has stopped improving, and restore the best parameters.

    Parameters
    ----------
    monitor : str, default="val_loss"
        Name of the measurement: "loss", "val_loss", "val_accuracy", or ``"val_..."`` of any metric.
    patience : int, default=10
        Number of epochs in a row without improvement after which the fit ends.
    min_delta : float, default=0.0
        Minimum change that counts as an improvement.
    mode : {"auto", "min", "max"}, default="auto"
        Whether small or large values are good; "auto" decides by the name.
    restore_best : bool, default=True
        Whether to restore the parameters of the best epoch at the end, after Ctrl-C too. To resume bit-identically you
        need the parameters of the last epoch, which `Checkpoint` saves.

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
        """Copy the parameters if the epoch is the best; end the fit after `patience` epochs without improvement."""
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
        Name of the .npz or .safetensors file. It may have fields of `str.format` for the epoch and its measurements,
        such as ``"net-{epoch:03d}-{val_loss:.2f}.npz"``. Without fields, each save replaces the previous one. Write
        ``{{`` for a brace.
    monitor : str or None, default=None
        Name of a measurement, such as "val_loss". If given, only epochs that are the best so far are saved.
    every : int, default=1
        Number of epochs between saves; the last epoch is always saved. List callbacks that may end the fit before this
        one.
    mode : {"auto", "min", "max"}, default="auto"
        Whether small or large values are good; "auto" decides by the name.
    seconds : float or None, default=None
        Maximum time between saves, for long epochs over `fastmlp.data.Blocks`: the network is saved within epochs too,
        and a fit resumes from there. Not with `monitor` or with fields for measurements in the path.
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
        """Save within an epoch if the last save was more than `seconds` ago."""
        if self.seconds is not None and time.monotonic() - self._saved >= self.seconds:
            net.save(self._file(fit.epoch, {}), training=True)
            self._saved = time.monotonic()

    def on_epoch_end(self, net: Net, fit: FitState) -> None:
        """Save the network if it is due."""
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
        Name of the file. An existing file is replaced. A resumed fit writes the earlier epochs too.
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
    """End the fit before it exceeds a time limit.

    No epoch begins that would exceed the limit if it took as long as the mean epoch so far. The first epoch always
    runs.

    Parameters
    ----------
    seconds : float
        Time limit of the fit.
    """

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
    """Suggest a learning rate by training a copy of a network with growing rates: the learning rate range test [1]_.

    This is not a callback. Use it before `fit`:
    ``net.fit(X, y, learning_rate=LearningRateFinder().find(net, X, y))``.

    Parameters
    ----------
    low, high : float, default=1e-6, 10.0
        First and last learning rate.
    steps : int, default=100
        Number of steps. The rate grows by the same factor from step to step. The test ends early if the loss explodes.

    Attributes
    ----------
    rates, losses, smooth_losses : (k,) float64 arrays
        Learning rate of each step, loss of its batch before the step, and a running mean of the losses.
    suggestion : float
        Learning rate at which the running mean falls fastest.

    References
    ----------
    .. [1] Leslie N. Smith, "Cyclical learning rates for training neural networks", WACV 2017.
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
        """Run the test and return the suggested learning rate.

        Parameters
        ----------
        net : MLP
            The network; it is not changed. Dropout and noise are not applied.
        X, y : array_like
            Rows and targets, as for `MLP.fit`.
        optimizer : str, Optimizer or None, default=None
            Optimizer, as for `MLP.fit`.
        batch_size : int, default=64
            Rows per step.

        Returns
        -------
        float
            The attribute `suggestion`.

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
        """Plot the losses over the learning rates.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to plot. None makes a new figure.

        Returns
        -------
        matplotlib Axes
            `ax`, or the new Axes.

        Raises
        ------
        ValueError
            If `find` has not been called yet.
        """
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

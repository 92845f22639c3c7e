"""Callbacks: objects whose methods `fit` calls while it trains.

A callback has any of these methods; `net` is the network and `fit` a `FitState`:

- ``on_fit_begin(net, fit)`` before the first epoch;
- ``on_step(net, fit)`` a few dozen times per second during an epoch, not at every step. The parameters may then mix two
  consecutive steps, and values written into them may be lost;
- ``on_epoch_end(net, fit)`` after each epoch, which is then part of ``fit.history``;
- ``on_fit_end(net, fit)`` at the end, even after Ctrl-C or an error, if `on_fit_begin` has returned.

Other methods whose names begin with ``on_`` are refused, since `fit` would never call them.

A callback can end the fit with ``fit.stop = True`` and change the learning rate with ``fit.learning_rate_factor *=
0.5``, both from the next epoch on.
"""

from __future__ import annotations

import copy
import csv
import difflib
import math
import os
import string
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.history import Best, History, check_monitor, new_axes
from fastmlp.optimizers import Optimizer, at_step, get_optimizer
from fastmlp.storage import check_writable
from fastmlp.validation.calls import advised, advised_constructor
from fastmlp.validation.settings import check_bool, check_int, check_number

__all__ = [
    "CSVLog",
    "Checkpoint",
    "EarlyStopping",
    "FitState",
    "LearningRateFinder",
    "ProgressBar",
    "TimeLimit",
    "call_hooks",
    "gather_callbacks",
]

_LINES = 20  # about this many lines report a long fit if there is no terminal

HOOKS = ("on_fit_begin", "on_step", "on_epoch_end", "on_fit_end")

_ALSO_CALLED = {  # by Keras, Lightning, skorch and scikit-learn
    "on_fit_begin": "on_train_begin on_train_start on_fit_start on_begin setup",
    "on_step": "on_batch_end on_batch_begin on_train_batch_end on_train_batch_begin on_train_batch_start on_step_end",
    "on_epoch_end": "on_epoch_begin on_epoch_start on_train_epoch_end on_train_epoch_start on_validation_end "
    "on_test_end on_validation_epoch_end on_epoch",
    "on_fit_end": "on_train_end on_fit_ended on_end teardown",
}


class Net(Protocol):
    """What the callbacks below use of a network."""

    @property
    def seed(self) -> int | None: ...
    @property
    def weights(self) -> list[Floats]: ...
    @property
    def biases(self) -> list[Floats]: ...
    def gradients(self, X: Any, y: npt.ArrayLike) -> tuple[float, list[Floats], list[Floats]]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def save(self, path: str, *, training: bool) -> None: ...
    def _check_data(self, X: Any, y: npt.ArrayLike) -> tuple[Any, Any]: ...


_MAY_BE_SET: dict[str, Callable[[str, object], object]] = {"stop": check_bool, "learning_rate_factor": check_number}


@dataclass
class FitState:
    """The progress of a fit, for callbacks to read and to control.

    All attributes but `stop` and `learning_rate_factor` are read-only.

    Attributes
    ----------
    epochs, n_batches : int
        Epochs requested, and steps in each.
    epoch : int
        Finished epochs, in `on_epoch_end` including the current one.
    step : int
        Finished steps of the current epoch; 0 in `on_epoch_end`.
    history : History
        Measurements of the finished epochs.
    measures : tuple of str
        Names of the measurements that the history will contain.
    stop : bool
        Set it to True to end the fit after this epoch.
    learning_rate_factor : float
        Multiplies the learning rate, from the next epoch on.
    """

    epochs: int
    n_batches: int
    epoch: int = 0
    step: int = 0
    history: History = field(default_factory=History)
    measures: tuple[str, ...] = ()
    stop: bool = False
    learning_rate_factor: float = 1.0

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _MAY_BE_SET:
            value = _MAY_BE_SET[name](name, value)
        elif name not in self.__dataclass_fields__:
            close = difflib.get_close_matches(name, list(_MAY_BE_SET), n=1)
            meant = f"; did you mean fit.{close[0]}?" if close else f"; callbacks may set {' and '.join(_MAY_BE_SET)}"
            raise AttributeError(f"fit has no attribute {name!r}{meant}")
        elif name in vars(self):
            raise AttributeError(f"fit.{name} is read-only; callbacks may set {' and '.join(_MAY_BE_SET)}")
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"fit.{name} cannot be deleted")

    def _advance(self, **progress: int) -> None:
        """Set `epoch` and `step`, as the fit goes on."""
        vars(self).update(progress)


def gather_callbacks(callbacks: Iterable[object], progress: bool = False) -> list[object]:
    """Check `callbacks` and return them as a list, after a `ProgressBar` if `progress` is True.

    Raises
    ------
    TypeError
        If `callbacks` is not a list, or one of them has none of the methods, one that is not callable, or one whose
        name begins with ``on_`` but that `fit` does not call.
    """
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks must be a list of callbacks, not {type(callbacks).__name__}")
    gathered = list(callbacks)
    for callback in gathered:
        if isinstance(callback, type):
            raise TypeError(f"callback {callback.__name__} is a class; pass an object of it: {callback.__name__}()")
        methods = {hook: getattr(callback, hook) for hook in HOOKS if hasattr(callback, hook)}
        for name in dir(callback):
            if name.startswith("on_") and name not in HOOKS and callable(getattr(callback, name, None)):
                hook = _closest_hook(name)
                meant = f"did you mean {hook}?" if hook else f"it calls {', '.join(HOOKS)}"
                raise TypeError(f"callback {callback!r} has the method {name}, which fit never calls; {meant}")
        if not methods:
            raise TypeError(f"callback {callback!r} has none of the methods {', '.join(HOOKS)}")
        for hook, method in methods.items():
            if method is not None and not callable(method):
                raise TypeError(f"{hook} of callback {callback!r} must be a method, not {method!r}")
    return [ProgressBar(), *gathered] if progress else gathered


def _closest_hook(name: str) -> str | None:
    """Return the hook that a method of this name is probably meant to be."""
    for hook, names in _ALSO_CALLED.items():
        if name in names.split():
            return hook
    return next(iter(difflib.get_close_matches(name, HOOKS, n=1, cutoff=0.7)), None)


def call_hooks(callbacks: Sequence[object], hook: str, net: object, fit: FitState) -> None:
    """Call the method named `hook` of each callback that has it, in order."""
    for callback in callbacks:
        method = getattr(callback, hook, None)
        if method is not None:
            method(net, fit)


@advised_constructor
class ProgressBar:
    """A bar (tqdm, on stderr) in a terminal or notebook; elsewhere plain lines, one per epoch, but at most about 20."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._reported = 0

    def on_fit_begin(self, net: object, fit: FitState) -> None:
        """Show the empty bar."""
        self._reported = fit.epoch
        if sys.stderr is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules):
            from tqdm import tqdm

            total = fit.epochs * fit.n_batches
            self._bar = tqdm(total=total, desc=f"epoch 1/{fit.epochs}", unit="step", dynamic_ncols=True)
            if (self._bar.ncols or 0) < 0 or (self._bar.nrows or 0) < 0:  # the terminal does not know its size
                self._bar.dynamic_ncols = self._bar.ncols = self._bar.nrows = None

    def on_step(self, net: object, fit: FitState) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(fit.epoch * fit.n_batches + fit.step - self._bar.n)

    def on_epoch_end(self, net: object, fit: FitState) -> None:
        """Show what the epoch has measured."""
        history = fit.history
        if self._bar is None:
            every = max(1, fit.epochs // _LINES)
            if fit.epoch % every == 0 or fit.epoch == fit.epochs:
                self._report(fit)
            return
        names = ("val_accuracy", "accuracy", "val_loss")  # only one of them fits into 80 columns
        shown = ["loss", *[name for name in names if getattr(history, name)][:1]]
        words = ", ".join(f"{name} {history[name][-1]:.4f}" for name in shown)
        self._bar.set_postfix_str(words, refresh=False)
        self._bar.set_description(f"epoch {min(fit.epoch + 1, fit.epochs)}/{fit.epochs}", refresh=False)
        self._bar.update(fit.epoch * fit.n_batches - self._bar.n)

    def on_fit_end(self, net: object, fit: FitState) -> None:
        """Close the bar, or report the last epoch unless that was done."""
        if self._bar is not None:
            if fit.stop:  # there is no next epoch
                self._bar.set_description(f"epoch {fit.epoch}/{fit.epochs}", refresh=False)
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
class EarlyStopping:
    """End the fit when a measurement has stopped improving, and restore the best parameters.

    Parameters
    ----------
    monitor : str
        Measurement: "loss", "val_loss", "val_accuracy", or "val_..." of any metric.
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
        mode: str = "auto",
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


def _check_path(path: object) -> str:
    name = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(name, str):
        raise TypeError(f"path must be the name of a file, not {path!r}")
    if name == "":
        raise ValueError("path must be the name of a file, but it is empty")
    return name


@advised_constructor
class Checkpoint:
    """Save the network with its training state. A file is replaced as a whole or not at all.

    ``MLP.load(path)`` reads it, and ``fit(..., resume=True)`` continues.

    Parameters
    ----------
    path : str or path
        The .npz file. Its name may have fields, as of `str.format`, for the epoch and for what the epoch has measured,
        such as ``"net-{epoch:03d}-{val_loss:.2f}.npz"``. Without them each save replaces the one before. Write {{ for
        a brace.
    monitor : str or None
        A measurement such as "val_loss": save only epochs that are the best so far.
    every : int
        Save every so many epochs, and after the last one. List callbacks that may end the fit before this one.
    mode : {"auto", "min", "max"}
        Whether small or large values are good; "auto" decides by the name.
    """

    def __init__(
        self, path: str | os.PathLike[str], monitor: str | None = None, every: int = 1, mode: str = "auto"
    ) -> None:
        self.path = _check_path(path)
        self._fields = _fields(self.path)
        self.monitor, self.mode = monitor, mode
        self.every = check_int("every", every, 1)
        self._best = self._new_best()

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
        check_writable(self._file(fit.epoch, dict.fromkeys(known[1:], 0.0)))
        net.state_dict()

    def on_epoch_end(self, net: Net, fit: FitState) -> None:
        """Save, if it is time to."""
        if fit.epoch % self.every and fit.epoch < fit.epochs and not fit.stop:
            return
        if self.monitor is None or self._best.is_last(fit.history):
            last = {name: fit.history[name][-1] for name in self._fields if name != "epoch"}
            net.save(self._file(fit.epoch, last), training=True)

    def _file(self, epoch: int, measured: Mapping[str, float]) -> str:
        try:
            return self.path.format(epoch=epoch, **measured)
        except ValueError as error:
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
        self.path = _check_path(path)

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
        self, net: Net, X: Any, y: npt.ArrayLike, *, optimizer: str | Optimizer | None = None, batch_size: int = 64
    ) -> float:
        """Return the suggestion for these rows. `net` is unchanged. There is no dropout and no noise.

        Raises
        ------
        ValueError
            If the loss does not fall at any of the learning rates.
        """
        net._check_data(X, y)
        twin, chosen = copy.deepcopy(net), get_optimizer(optimizer)
        parameters = twin.weights + twin.biases
        states = [[np.empty_like(parameter) for _ in range(chosen.slots)] for parameter in parameters]
        for state in states:
            chosen.start(state)
        X, y = X.tocsr() if hasattr(X, "tocsr") else np.asarray(X), np.asarray(y)
        n_rows = min(check_int("batch_size", batch_size, 1), len(y))
        order = np.random.default_rng(net.seed).permutation(len(y))
        batches = np.resize(order, (self.steps, n_rows))
        rates = np.geomspace(self.low, self.high, self.steps)
        coefficients = chosen.coefficients(np.arange(self.steps) + 1, rates)
        losses: list[float] = []
        with np.errstate(over="ignore", invalid="ignore"):  # the last steps are expected to explode
            for step, rows in enumerate(batches):
                loss, dw, db = twin.gradients(X[rows], y[rows])
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
        ax = new_axes(1)[0] if ax is None else ax
        ax.plot(self.rates, self.losses, ".", color="tab:blue", alpha=0.3)
        ax.plot(self.rates, self.smooth_losses, color="tab:blue")
        ax.axvline(self.suggestion, color="tab:orange", label=f"suggestion {self.suggestion:.2g}")
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

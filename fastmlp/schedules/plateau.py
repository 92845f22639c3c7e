"""Schedules that lower the learning rate when a measurement stops improving."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fastmlp.history import History, direction
from fastmlp.options import Mode
from fastmlp.schedules.base import Duration, Schedule, Steps, plain_state
from fastmlp.validation.calls import advised_constructor
from fastmlp.validation.settings import check_int, check_number

__all__ = ["Adaptive", "ReduceOnPlateau", "check_monitored"]


class _Monitoring(Schedule):
    """A factor that drops from time to time.

    Attributes
    ----------
    now : float
        Factor of the next epoch.
    best : float
        Best measurement so far.
    waited : int
        Epochs without improvement.
    cooling : int
        Epochs to ignore, after a drop.
    """

    now: float
    best: float
    waited: int
    cooling: int
    _sign: int

    def start(self) -> None:
        """Reset the schedule at the start of a fit."""
        self.now, self.best, self.waited, self.cooling = 1.0, -self._sign * math.inf, 0, 0

    def at(self, steps: Steps, duration: Duration) -> float:
        """Return the factor of the next epoch."""
        return self.now

    def state(self) -> dict[str, float]:
        """Return the factor, the best measurement and the counts of epochs."""
        return {"now": self.now, "best": self.best, "waited": self.waited, "cooling": self.cooling}

    def load_state(self, state: Mapping[str, float]) -> None:
        """Restore what `state` returned."""
        self.now, self.best, self.waited, self.cooling = check_monitored(state)


def check_monitored(state: Mapping[str, object]) -> tuple[float, float, int, int]:
    """Return what `_Monitoring.state` has returned, as numbers: now, best, waited, cooling.

    Raises
    ------
    TypeError, ValueError
        If one is missing or out of range.
    """
    plain = plain_state(state)
    missing = [name for name in ("now", "best", "waited", "cooling") if name not in plain]
    if missing:
        raise ValueError(f"the state of its schedule has no {missing[0]!r}")
    best = plain["best"]
    if type(best) not in (int, float) or best != best:
        raise TypeError(f"best in the state of its schedule must be a number, not {best!r}")
    now = check_number("now in the state of its schedule", plain["now"])
    waited, cooling = (
        check_int(f"{name} in the state of its schedule", plain[name], 0) for name in ("waited", "cooling")
    )
    return now, float(best), waited, cooling


@advised_constructor
@dataclass
class ReduceOnPlateau(_Monitoring):
    """Reduce the learning rate when a measurement has stopped improving, as PyTorch's ReduceLROnPlateau.

    Parameters
    ----------
    monitor : str, default="loss"
        Name of the measurement: "loss", "val_loss", "val_accuracy", or ``"val_..."`` of any metric.
    factor : float in (0, 1), default=0.1
        Factor of each drop.
    patience : int, default=10
        Number of epochs in a row without improvement that are tolerated before a drop.
    threshold : float in [0, 1), default=1e-4
        Minimum improvement, as a fraction of the best measurement.
    cooldown : int, default=0
        Number of epochs to ignore after each drop.
    minimum : float, default=0.0
        Lower bound of the factor for the learning rate.
    mode : {"auto", "min", "max"}, default="auto"
        Whether small or large values are good; "auto" decides by the name.
    """

    monitor: str = "loss"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    cooldown: int = 0
    minimum: float = 0.0
    mode: Mode = "auto"

    def __post_init__(self) -> None:
        self.factor = check_number("factor", self.factor, below=1, zero=False)
        self.patience = check_int("patience", self.patience, 0)
        self.threshold = check_number("threshold", self.threshold, below=1)
        self.cooldown = check_int("cooldown", self.cooldown, 0)
        self.minimum = check_number("minimum", self.minimum, below=1)
        self._sign = direction(self.monitor, self.mode)
        self.start()

    def on_epoch_end(self, history: History) -> None:
        """Count epochs without improvement."""
        value = history[self.monitor][-1]
        if self._sign * value > self._sign * self.best * (1 + self._sign * self.threshold):
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        if self.cooling:
            self.cooling, self.waited = self.cooling - 1, 0
        if self.waited > self.patience:
            self.now = max(self.now * self.factor, self.minimum)
            self.cooling, self.waited = self.cooldown, 0


@advised_constructor
@dataclass
class Adaptive(_Monitoring):
    """Divide the learning rate by 5 when a measurement has stopped improving, as scikit-learn's "adaptive".

    Unlike scikit-learn, it does not end the fit once the learning rate is below 1e-6; use `EarlyStopping` for that.

    Parameters
    ----------
    tol : float, default=1e-4
        Minimum improvement.
    n_iter_no_change : int, default=10
        Number of epochs in a row without improvement that are tolerated before a drop.
    monitor : str, default="loss"
        Name of the measurement. scikit-learn uses "loss", or "val_accuracy" with early stopping.
    mode : {"auto", "min", "max"}, default="auto"
        Whether small or large values are good; "auto" decides by the name.
    """

    tol: float = 1e-4
    n_iter_no_change: int = 10
    monitor: str = "loss"
    mode: Mode = "auto"

    def __post_init__(self) -> None:
        self.tol = check_number("tol", self.tol)
        self.n_iter_no_change = check_int("n_iter_no_change", self.n_iter_no_change, 1)
        self._sign = direction(self.monitor, self.mode)
        self.start()

    def on_epoch_end(self, history: History) -> None:
        """Count epochs without improvement."""
        value = history[self.monitor][-1]
        gain = self._sign * (value - self.best)
        self.waited = self.waited + 1 if gain < self.tol else 0
        if gain > 0:
            self.best = value
        if self.waited > self.n_iter_no_change:
            self.now, self.waited = self.now / 5, 0

"""Schedules that watch what the epochs measure, and lower the learning rate where it gets no better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fastmlp.course import Course, Schedule, Steps
from fastmlp.history import History, direction
from fastmlp.validation.settings import check_int, check_number, check_positive_int

__all__ = ["Adaptive", "ReduceOnPlateau"]


class _Watching(Schedule):
    """A factor that falls now and then.

    Attributes
    ----------
    now : float
        The factor of the next epoch.
    best : float
        The best that was measured.
    waited : int
        Epochs without a better one.
    cooling : int
        Epochs in which they are not counted.
    """

    now: float
    best: float
    waited: int
    cooling: int
    _sign: int

    def start(self) -> None:
        self.now, self.best, self.waited, self.cooling = 1.0, -self._sign * math.inf, 0, 0

    def at(self, steps: Steps, course: Course) -> float:
        """Return the factor of the next epoch."""
        return self.now

    def state(self) -> dict[str, float]:
        return {"now": self.now, "best": self.best, "waited": self.waited, "cooling": self.cooling}

    def load_state(self, state: Mapping[str, float]) -> None:
        self.now, self.best = float(state["now"]), float(state["best"])
        self.waited, self.cooling = int(state["waited"]), int(state["cooling"])


@dataclass
class ReduceOnPlateau(_Watching):
    """Times `factor` when more than `patience` epochs have not become better, as PyTorch's ReduceLROnPlateau.

    Parameters
    ----------
    monitor : str
        What is watched: "loss", "val_loss", "val_accuracy", "val_..." of any metric.
    factor : float in (0, 1)
    patience : int
    threshold : float in [0, 1)
        Better is by more than this part of the best.
    cooldown : int
        Epochs that are not counted after a change.
    minimum : float
        The least factor.
    mode : {"auto", "min", "max"}
        Whether small or large values are good; "auto" goes by the name.
    """

    monitor: str = "loss"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    cooldown: int = 0
    minimum: float = 0.0
    mode: str = "auto"

    def __post_init__(self) -> None:
        self.factor = check_number("factor", self.factor, below=1, zero=False)
        self.patience = check_int("patience", self.patience, 0)
        self.threshold = check_number("threshold", self.threshold, below=1)
        self.cooldown = check_int("cooldown", self.cooldown, 0)
        self.minimum = check_number("minimum", self.minimum, below=1)
        self._sign = direction(self.monitor, self.mode)
        self.start()

    def on_epoch_end(self, history: History) -> None:
        """Count the epochs that are not better."""
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


@dataclass
class Adaptive(_Watching):
    """Divided by 5 when more than `n_iter_no_change` epochs have not become better by `tol`, as in scikit-learn.

    Where scikit-learn then ends the fit, at a learning rate of 1e-6, this goes on; `EarlyStopping` may end it.

    Parameters
    ----------
    tol : float
    n_iter_no_change : int
    monitor : str
        What is watched; scikit-learn has "loss", or "val_accuracy" with early stopping.
    mode : {"auto", "min", "max"}
        Whether small or large values are good; "auto" goes by the name.
    """

    tol: float = 1e-4
    n_iter_no_change: int = 10
    monitor: str = "loss"
    mode: str = "auto"

    def __post_init__(self) -> None:
        self.tol = check_number("tol", self.tol)
        self.n_iter_no_change = check_positive_int("n_iter_no_change", self.n_iter_no_change)
        self._sign = direction(self.monitor, self.mode)
        self.start()

    def on_epoch_end(self, history: History) -> None:
        """Count the epochs that are not better."""
        value = history[self.monitor][-1]
        gain = self._sign * (value - self.best)
        self.waited = self.waited + 1 if gain < self.tol else 0
        if gain > 0:
            self.best = value
        if self.waited > self.n_iter_no_change:
            self.now, self.waited = self.now / 5, 0

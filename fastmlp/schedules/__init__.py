"""Schedules: how the learning rate changes during a fit.

``net.fit(X, y, schedule=Cosine())``; a name such as ``schedule="cosine"`` uses the defaults. A schedule returns the
factor by which the optimizer's learning rate is multiplied in each step. A function of the step, counted from 0, is a
schedule, too: ``schedule=lambda step: ...``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from fastmlp.history import History
from fastmlp.schedules.base import Doubles, Duration, Schedule, Steps
from fastmlp.schedules.known import (
    Constant,
    Cosine,
    Exponential,
    InverseScaling,
    MultiStep,
    OneCycle,
    Step,
    _Function,
)
from fastmlp.schedules.plateau import Adaptive, ReduceOnPlateau, check_monitored
from fastmlp.validation.calls import advised_constructor
from fastmlp.validation.settings import check_choice, check_int, check_number

__all__ = [
    "Adaptive", "Constant", "Cosine", "Course", "Duration", "Exponential", "InverseScaling", "MultiStep", "OneCycle",
    "ReduceOnPlateau", "Schedule", "Step", "Warmup", "check_state", "get_schedule",
]  # fmt: skip

Course = Duration
"""The older name of `Duration`."""


@advised_constructor
@dataclass(frozen=True)
class Warmup(Schedule):
    """Increase the learning rate linearly, and then follow another schedule.

    Step t of n, counted from 0, has the factor ``(t + 1) / (n + 1)`` times the other schedule's first factor.

    Parameters
    ----------
    epochs : float, default=1.0
        Length of the warm-up in epochs.
    steps : int or None, default=None
        Length of the warm-up in steps, in place of `epochs`.
    schedule : str, Schedule or callable, default=Constant()
        Schedule that starts when the warm-up is over.
    """

    epochs: float = 1.0
    steps: int | None = None
    schedule: object = Constant()

    def __post_init__(self) -> None:
        steps = None if self.steps is None else check_int("steps", self.steps, 1)
        self._set(epochs=check_number("epochs", self.epochs), steps=steps, schedule=get_schedule(self.schedule))

    @property
    def _then(self) -> Schedule:
        return cast(Schedule, self.schedule)

    @property
    def monitor(self) -> str | None:
        """Measurement on which the other schedule depends."""
        return self._then.monitor

    def at(self, steps: Steps, duration: Duration) -> Doubles:
        """Return the factors."""
        n = round(self.epochs * duration.steps_per_epoch) if self.steps is None else self.steps
        then = self._then.at(np.maximum(steps - n, 0), replace(duration, before=duration.before + n))
        factors: Doubles = np.minimum((steps + 1) / (n + 1), 1) * np.asarray(then)
        return factors

    def start(self) -> None:
        """Start the other schedule."""
        self._then.start()

    def on_epoch_end(self, history: History) -> None:
        """Pass the history on to the other schedule."""
        self._then.on_epoch_end(history)

    def state(self) -> dict[str, float]:
        """Return the state of the other schedule."""
        return self._then.state()

    def load_state(self, state: Mapping[str, float]) -> None:
        """Restore the state of the other schedule."""
        self._then.load_state(state)


_NAMES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "cosine": Cosine,
    "one_cycle": OneCycle,
    "warmup": Warmup,
    "inverse_scaling": InverseScaling,
    "adaptive": Adaptive,
    "reduce_on_plateau": ReduceOnPlateau,
}
_ALSO_CALLED = {"invscaling": "inverse_scaling", "onecycle": "one_cycle", "plateau": "reduce_on_plateau"}
_NEED_SETTINGS = {
    "step": "Step(every=10)",
    "multi_step": "MultiStep([10, 20])",
    "exponential": "Exponential(gamma=0.9)",
}


def get_schedule(schedule: object = None) -> Schedule:
    """Return a schedule, given as an object, by name or as a function.

    Parameters
    ----------
    schedule : str, Schedule, callable or None, default=None
        A schedule; or the name of one with default settings: "constant", "cosine", "one_cycle", "warmup",
        "inverse_scaling", "adaptive" or "reduce_on_plateau"; or a function that gets the number of a step, from 0, and
        returns its factor. None is "constant".

    Returns
    -------
    Schedule
        The schedule.

    Raises
    ------
    TypeError, ValueError
        If there is no such schedule.
    """
    if schedule is None:
        return Constant()
    if isinstance(schedule, Schedule):
        return schedule
    if isinstance(schedule, type):
        raise TypeError(f"schedule {schedule.__name__} is a class; pass an instance: {schedule.__name__}()")
    if isinstance(schedule, str) and schedule in _NEED_SETTINGS:
        raise ValueError(f"schedule {schedule!r} needs settings; pass an object, e.g. {_NEED_SETTINGS[schedule]}")
    if callable(schedule):
        return _Function(schedule)
    others = ("an object of fastmlp.schedules", "a function")
    return _NAMES[check_choice("schedule", schedule, list(_NAMES), _ALSO_CALLED, others)]()


def check_state(name: str, state: Mapping[str, object]) -> None:
    """Check that a mapping can be the state of a schedule of this package. Other schedules may have any state.

    Parameters
    ----------
    name : str
        Name of the schedule's class.
    state : mapping of str to numbers
        The state, which is empty before the first epoch has ended.

    Raises
    ------
    TypeError, ValueError
        If something is missing or out of range.
    """
    own = state.keys() == {"now", "best", "waited", "cooling"}  # else a warm-up is followed by a schedule of a user
    if state and (name in ("Adaptive", "ReduceOnPlateau") or (name == "Warmup" and own)):
        check_monitored(state)

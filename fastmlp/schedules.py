"""Schedules: how the learning rate changes in the course of a fit.

``net.fit(X, y, schedule=Cosine())``; a name, ``schedule="cosine"``, takes the defaults. A schedule gives the factor by
which the optimizer's learning rate is multiplied in each step. So may any callable, ``schedule=lambda step: ...``, of
the step counted from 0.

Those here know the whole course from the start; those of `fastmlp.plateaus`, which can be had from here too, watch what
the epochs measure.
"""

from __future__ import annotations

import math
import numbers
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from fastmlp.course import Course, Doubles, Schedule, Steps
from fastmlp.history import History
from fastmlp.plateaus import Adaptive, ReduceOnPlateau
from fastmlp.validation.settings import check_choice, check_number, check_positive_int, is_list

__all__ = [
    "Adaptive", "Constant", "Cosine", "Course", "Exponential", "InverseScaling", "MultiStep", "OneCycle",
    "ReduceOnPlateau", "Schedule", "Step", "Warmup", "get_schedule",
]  # fmt: skip


@dataclass(frozen=True)
class Constant(Schedule):
    """The learning rate as it is."""

    def at(self, steps: Steps, course: Course) -> float:
        """Return 1."""
        return 1.0


class _Decay(Schedule):
    """`gamma` to the power of how often it has been applied."""

    gamma: float

    def at(self, steps: Steps, course: Course) -> Doubles:
        """Return the factors."""
        with np.errstate(over="ignore"):  # `factors` says where it is infinite
            powers: Doubles = np.float64(self.gamma) ** self._times(steps // course.steps_per_epoch)
        return powers

    @abstractmethod
    def _times(self, epochs: Steps) -> Steps:
        """Return how often, after so many epochs each."""


@dataclass(frozen=True)
class Step(_Decay):
    """``gamma ** (epoch // every)``.

    Parameters
    ----------
    every : int
        Epochs.
    gamma : float
    """

    every: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        check_positive_int("every", self.every)
        check_number("gamma", self.gamma, zero=False)

    def _times(self, epochs: Steps) -> Steps:
        return epochs // self.every


@dataclass(frozen=True)
class MultiStep(_Decay):
    """Times `gamma` when each of the `milestones` is reached.

    Parameters
    ----------
    milestones : sequence of int
        Finished epochs.
    gamma : float
    """

    milestones: Sequence[int]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        given: object = self.milestones
        if not is_list(given):
            raise TypeError(f"milestones must be a list of epochs, e.g. [30, 60], not {given!r}")
        epochs = tuple(check_positive_int(f"milestones[{i}]", epoch) for i, epoch in enumerate(given))
        object.__setattr__(self, "milestones", tuple(sorted(epochs)))
        check_number("gamma", self.gamma, zero=False)

    def _times(self, epochs: Steps) -> Steps:
        return np.searchsorted(self.milestones, epochs, side="right")


@dataclass(frozen=True)
class Exponential(_Decay):
    """``gamma ** epoch``."""

    gamma: float

    def __post_init__(self) -> None:
        check_number("gamma", self.gamma, zero=False)

    def _times(self, epochs: Steps) -> Steps:
        return epochs


@dataclass(frozen=True)
class InverseScaling(Schedule):
    """``(1 + rows seen) ** -power_t``, where the rows are counted epoch by epoch, as in scikit-learn."""

    power_t: float = 0.5

    def __post_init__(self) -> None:
        check_number("power_t", self.power_t)

    def at(self, steps: Steps, course: Course) -> Doubles:
        """Return the factors."""
        seen = steps // course.steps_per_epoch * float(course.n_rows)
        factors: Doubles = (1 + seen) ** -self.power_t
        return factors


@dataclass(frozen=True)
class Cosine(Schedule):
    """From 1 along half a wave to `minimum` (Loshchilov and Hutter, 2017), where the fit ends."""

    minimum: float = 0.0

    def __post_init__(self) -> None:
        check_number("minimum", self.minimum, below=1)

    def at(self, steps: Steps, course: Course) -> Doubles:
        """Return the factors."""
        return _half_wave(1, self.minimum, steps / course.steps)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up to the learning rate along half a wave, and down far below where it began (Smith and Topin, 2018).

    Parameters
    ----------
    pct_start : float in [0, 1)
        Part of the fit in which it rises.
    div_factor : float
        It begins with `1 / div_factor`.
    final_div_factor : float
        It ends with the beginning's `1 / final_div_factor`.
    """

    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def __post_init__(self) -> None:
        check_number("pct_start", self.pct_start, below=1)
        check_number("div_factor", self.div_factor, zero=False)
        check_number("final_div_factor", self.final_div_factor, zero=False)

    def at(self, steps: Steps, course: Course) -> Doubles:
        """Return the factors."""
        first, last = 1 / self.div_factor, 1 / self.div_factor / self.final_div_factor
        peak, end = self.pct_start * course.steps - 1, course.steps - 1
        rise = _half_wave(first, 1, steps / peak) if peak > 0 else 1.0
        fall = _half_wave(1, last, (steps - peak) / (end - peak))
        return np.where(steps <= peak, rise, fall)


@dataclass(frozen=True)
class _Function(Schedule):
    """What a callable returns for each step."""

    function: Callable[[int], float]

    def at(self, steps: Steps, course: Course) -> list[float]:
        return [self._number(step) for step in steps.tolist()]

    def _number(self, step: int) -> float:
        value: object = self.function(step)
        if not isinstance(value, numbers.Real):
            raise TypeError(f"schedule {self!r} must give a number, not {value!r}, at step {step}, counted from 0")
        try:
            return float(value)
        except OverflowError:  # an int beyond every float, which `factors` refuses
            return math.inf

    def __repr__(self) -> str:
        return getattr(self.function, "__name__", repr(self.function))


# --- before others ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Warmup(Schedule):
    """Linear growth before any other schedule, which begins when the warm-up is over.

    Step t of n, counted from 0, has the factor ``(t + 1) / (n + 1)`` of what the other schedule begins with.

    Parameters
    ----------
    epochs : float
        Length of the warm-up.
    steps : int or None
        Length in steps, in place of epochs.
    schedule : str, Schedule or callable
        What comes then.
    """

    epochs: float = 1.0
    steps: int | None = None
    schedule: object = Constant()

    def __post_init__(self) -> None:
        check_number("epochs", self.epochs)
        if self.steps is not None:
            check_positive_int("steps", self.steps)
        object.__setattr__(self, "schedule", get_schedule(self.schedule))

    @property
    def _then(self) -> Schedule:
        return cast(Schedule, self.schedule)

    @property
    def monitor(self) -> str | None:
        """What the other schedule watches."""
        return self._then.monitor

    def at(self, steps: Steps, course: Course) -> Doubles:
        """Return the factors."""
        n = round(self.epochs * course.steps_per_epoch) if self.steps is None else self.steps
        then = self._then.at(np.maximum(steps - n, 0), replace(course, before=course.before + n))
        factors: Doubles = np.minimum((steps + 1) / (n + 1), 1) * np.asarray(then)
        return factors

    def start(self) -> None:
        """Start the other schedule."""
        self._then.start()

    def on_epoch_end(self, history: History) -> None:
        """Let the other schedule look."""
        self._then.on_epoch_end(history)

    def state(self) -> dict[str, float]:
        """Return what the other schedule remembers."""
        return self._then.state()

    def load_state(self, state: Mapping[str, float]) -> None:
        """Let the other schedule remember."""
        self._then.load_state(state)


# --- names ------------------------------------------------------------------------------------------------------------

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
_WITH_SETTINGS = {
    "step": "Step(every=10)",
    "multi_step": "MultiStep([10, 20])",
    "exponential": "Exponential(gamma=0.9)",
}


def get_schedule(schedule: object = None) -> Schedule:
    """Return the schedule that a user means.

    Parameters
    ----------
    schedule : str, Schedule, callable or None
        A name stands for the defaults: constant, cosine, one_cycle, warmup, inverse_scaling, adaptive or
        reduce_on_plateau. A callable gives the factor of each step, counted from 0. None is constant.

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
        raise TypeError(f"schedule {schedule.__name__} is a class; pass an object of it: {schedule.__name__}()")
    if isinstance(schedule, str) and schedule in _WITH_SETTINGS:
        raise ValueError(f"schedule {schedule!r} needs settings; pass an object, e.g. {_WITH_SETTINGS[schedule]}")
    if callable(schedule):
        return _Function(schedule)
    return _NAMES[check_choice("schedule", schedule, list(_NAMES), _ALSO_CALLED)]()


def _half_wave(start: float, end: float, share: Doubles) -> Doubles:
    """Return the way from `start` to `end`, half a cosine wave, after this share of it."""
    way: Doubles = end + (start - end) * (1 + np.cos(np.pi * share)) / 2
    return way

"""`Schedule`, the interface of all schedules, and `Duration`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fastmlp.history import History

__all__ = ["Doubles", "Duration", "Schedule", "Steps", "plain_state"]

Doubles: TypeAlias = npt.NDArray[np.floating[Any]]
Steps: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Duration:
    """Length of a fit.

    Attributes
    ----------
    steps_per_epoch, epochs : int
    n_rows : int
        Rows of an epoch.
    before : int
        Steps of a warm-up, which do not count.
    """

    steps_per_epoch: int
    epochs: int
    n_rows: int
    before: int = 0

    @property
    def steps(self) -> int:
        """Steps of the whole fit without the warm-up, at least 1."""
        return max(1, self.steps_per_epoch * self.epochs - self.before)


class Schedule(ABC):
    """Base class of schedules, which give a factor of the learning rate for each step.

    A schedule of your own only needs the method `at`. One that depends on measurements overrides the others too.
    """

    def _set(self, **checked: object) -> None:
        """Replace settings by their checked values, Python's own numbers: NumPy's small ones would round factors."""
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def monitor(self) -> str | None:
        """Name of the measurement on which the schedule depends; None if it is known in advance."""
        return None

    @abstractmethod
    def at(self, steps: Steps, duration: Duration) -> Any:
        """Return the factors of the learning rate in some steps.

        Parameters
        ----------
        steps : (k,) int64 array
            Numbers of the steps, from 0.
        duration : Course
            Length of the fit.

        Returns
        -------
        (k,) array or float
            A factor for each step, or one for all.
        """

    def factors(self, first_step: int, n_steps: int, duration: Duration) -> Doubles:
        """Return the factors of consecutive steps, checked.

        Parameters
        ----------
        first_step : int
            Number of the first step, from 0.
        n_steps : int
            Number of steps.
        duration : Course
            Length of the fit.

        Returns
        -------
        (n_steps,) float64 array
            A factor for each step.

        Raises
        ------
        TypeError, ValueError
            If a factor is not a number, not finite or negative.
        """
        steps = np.arange(first_step, first_step + n_steps)
        number = self.at(steps, duration)
        if type(number) is float and 0 <= number < math.inf:
            return np.full(n_steps, number)
        given = np.asarray(number)
        if given.dtype.kind not in "fiu" or given.shape not in ((), (1,), steps.shape):
            raise TypeError(
                f"schedule {self!r} must give a number, or an array of shape {steps.shape} with one for each step, not "
                f"an array of {given.dtype} of shape {given.shape}"
            )
        factors = np.array(np.broadcast_to(given, steps.shape), np.float64)
        bad = np.flatnonzero(~(factors >= 0) | (factors == math.inf))
        if len(bad):
            what = f"{factors[bad[0]]} at step {steps[bad[0]]}, counted from 0"
            raise ValueError(f"schedule {self!r} gives {what}; a factor must be finite and 0 or more")
        return factors

    def start(self) -> None:  # noqa: B027 - most schedules have no state
        """Reset the schedule at the start of a fit."""

    def on_epoch_end(self, history: History) -> None:  # noqa: B027
        """Update the schedule after an epoch.

        Parameters
        ----------
        history : History
            Measurements of the fit, including this epoch.
        """

    def state(self) -> dict[str, float]:
        """Return the state, so that a resumed fit can continue.

        Returns
        -------
        dict of str to float
            Numbers by name; strings and lists of both are possible too.
        """
        return {}

    def load_state(self, state: Mapping[str, float]) -> None:  # noqa: B027
        """Restore the state.

        Parameters
        ----------
        state : dict of str to float
            What the method `state` returned.
        """


def plain_state(state: object, what: str = "the state of its schedule") -> dict[str, Any]:
    """Return the state of a schedule as a file can hold it, with Python's own numbers, strings and lists.

    Raises
    ------
    TypeError
        If it is no such dict; `what` begins the message.
    """
    if not isinstance(state, Mapping):
        raise TypeError(f"{what} must be a dict of numbers, not {state!r}")
    plain = {}
    for name, value in state.items():
        plain[name] = value if type(value) in (float, int, bool, str) else np.asarray(value).tolist()
        if not isinstance(name, str) or not _is_plain(plain[name]):
            raise TypeError(f"{what} must be a dict of numbers, but has {name!r}: {value!r}")
    return plain


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return type(value) in (float, int, bool, str)

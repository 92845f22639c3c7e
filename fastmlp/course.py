"""The course of a fit, and what a schedule of its learning rate is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fastmlp.history import History

__all__ = ["Course", "Doubles", "Schedule", "Steps"]

Doubles: TypeAlias = npt.NDArray[np.floating[Any]]
Steps: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Course:
    """How long a fit is.

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
        """All steps of the fit."""
        return max(1, self.steps_per_epoch * self.epochs - self.before)


class Schedule(ABC):
    """A factor of the learning rate for each step.

    A schedule of one's own has a method `at`. One that watches the fit has all the others, too.
    """

    @property
    def monitor(self) -> str | None:
        """What it watches in the history; None if it knows the course from the start."""
        return None

    @abstractmethod
    def at(self, steps: Steps, course: Course) -> Any:
        """Return the factors (k,), or one for all, at these steps (k,) of the course, counted from 0."""

    def factors(self, first_step: int, n_steps: int, course: Course) -> Doubles:
        """Return the factors (n_steps,) from `first_step` on.

        Raises
        ------
        TypeError, ValueError
            If one is not a number, not finite or below 0; it says which.
        """
        steps = np.arange(first_step, first_step + n_steps)
        factors = np.array(np.broadcast_to(self.at(steps, course), steps.shape), np.float64)
        bad = np.flatnonzero(~(factors >= 0) | (factors == math.inf))
        if len(bad):
            what = f"{factors[bad[0]]} at step {steps[bad[0]]}, counted from 0"
            raise ValueError(f"schedule {self!r} gives {what}; a factor must be finite and 0 or more")
        return factors

    def start(self) -> None:  # noqa: B027 - most have nothing to forget
        """Forget what earlier fits have shown."""

    def on_epoch_end(self, history: History) -> None:  # noqa: B027
        """Look at what the epoch has measured."""

    def state(self) -> dict[str, float]:
        """Return what it remembers, as numbers."""
        return {}

    def load_state(self, state: Mapping[str, float]) -> None:  # noqa: B027
        """Remember what `state` has returned."""

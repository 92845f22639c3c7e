"""Schedules that are known in advance: they depend on the step and the length of the fit alone."""

from __future__ import annotations

import math
import numbers
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fastmlp.schedules.base import Doubles, Duration, Schedule, Steps
from fastmlp.validation.calls import advised_constructor
from fastmlp.validation.settings import check_int, check_number, is_list

__all__ = ["Constant", "Cosine", "Exponential", "InverseScaling", "MultiStep", "OneCycle", "Step"]


@advised_constructor
@dataclass(frozen=True)
class Constant(Schedule):
    """The optimizer's learning rate, unchanged."""

    def at(self, steps: Steps, duration: Duration) -> float:
        """Return 1."""
        return 1.0


class _Decay(Schedule):
    """A power of `gamma`."""

    gamma: float

    def at(self, steps: Steps, duration: Duration) -> Doubles:
        """Return the factors."""
        with np.errstate(over="ignore"):  # `factors` refuses infinity
            powers: Doubles = np.float64(self.gamma) ** self._exponents(steps // duration.steps_per_epoch)
        return powers

    @abstractmethod
    def _exponents(self, epochs: Steps) -> Steps:
        """Return the exponent for each number of finished epochs."""


@advised_constructor
@dataclass(frozen=True)
class Step(_Decay):
    """Multiply the learning rate by `gamma` after every few epochs: the factor is ``gamma ** (epoch // every)``.

    Parameters
    ----------
    every : int
        Number of epochs between two drops.
    gamma : float, default=0.1
        Factor of each drop.
    """

    every: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        self._set(every=check_int("every", self.every, 1), gamma=check_number("gamma", self.gamma, zero=False))

    def _exponents(self, epochs: Steps) -> Steps:
        return epochs // self.every


@advised_constructor
@dataclass(frozen=True)
class MultiStep(_Decay):
    """Multiply the learning rate by `gamma` at each of the `milestones`.

    Parameters
    ----------
    milestones : sequence of int
        Numbers of finished epochs at which the learning rate drops.
    gamma : float, default=0.1
        Factor of each drop.
    """

    milestones: Sequence[int]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        given: object = self.milestones
        if not is_list(given):
            raise TypeError(f"milestones must be a list of epochs, e.g. [30, 60], not {given!r}")
        epochs = tuple(check_int(f"milestones[{i}]", epoch, 1) for i, epoch in enumerate(given))
        self._set(milestones=tuple(sorted(epochs)), gamma=check_number("gamma", self.gamma, zero=False))

    def _exponents(self, epochs: Steps) -> Steps:
        return np.searchsorted(self.milestones, epochs, side="right")


@advised_constructor
@dataclass(frozen=True)
class Exponential(_Decay):
    """Multiply the learning rate by `gamma` after each epoch: the factor is ``gamma ** epoch``.

    Parameters
    ----------
    gamma : float
        Factor of each epoch.
    """

    gamma: float

    def __post_init__(self) -> None:
        self._set(gamma=check_number("gamma", self.gamma, zero=False))

    def _exponents(self, epochs: Steps) -> Steps:
        return epochs


@advised_constructor
@dataclass(frozen=True)
class InverseScaling(Schedule):
    """Decrease the learning rate after each epoch, as scikit-learn's "invscaling".

    The factor is ``(1 + n) ** -power_t``, where n is the number of rows seen before the epoch.

    Parameters
    ----------
    power_t : float, default=0.5
        Exponent.
    """

    power_t: float = 0.5

    def __post_init__(self) -> None:
        self._set(power_t=check_number("power_t", self.power_t))

    def at(self, steps: Steps, duration: Duration) -> Doubles:
        """Return the factors."""
        seen = steps // duration.steps_per_epoch * float(duration.n_rows)
        factors: Doubles = (1 + seen) ** -self.power_t
        return factors


@advised_constructor
@dataclass(frozen=True)
class Cosine(Schedule):
    """Decrease the learning rate along half a cosine wave, to `minimum` at the end of the fit.

    Parameters
    ----------
    minimum : float in [0, 1), default=0.0
        Factor at the end; it starts from 1.

    References
    ----------
    Ilya Loshchilov and Frank Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017.
    """

    minimum: float = 0.0

    def __post_init__(self) -> None:
        self._set(minimum=check_number("minimum", self.minimum, below=1))

    def at(self, steps: Steps, duration: Duration) -> Doubles:
        """Return the factors."""
        return _half_wave(1, self.minimum, steps / duration.steps)


@advised_constructor
@dataclass(frozen=True)
class OneCycle(Schedule):
    """Increase the learning rate along half a cosine wave, then decrease it far below the start: the 1cycle policy.

    Parameters
    ----------
    pct_start : float in [0, 1), default=0.3
        Fraction of the fit in which the factor rises.
    div_factor : float, default=25.0
        The first factor is ``1 / div_factor``.
    final_div_factor : float, default=1e4
        The last factor is the first one divided by this.

    References
    ----------
    L. N. Smith and N. Topin, "Super-convergence: very fast training of neural networks using large learning rates",
    arXiv:1708.07120, 2018.
    """

    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def __post_init__(self) -> None:
        self._set(
            pct_start=check_number("pct_start", self.pct_start, below=1),
            div_factor=check_number("div_factor", self.div_factor, zero=False),
            final_div_factor=check_number("final_div_factor", self.final_div_factor, zero=False),
        )

    def at(self, steps: Steps, duration: Duration) -> Doubles:
        """Return the factors."""
        first, last = 1 / self.div_factor, 1 / self.div_factor / self.final_div_factor
        peak, end = self.pct_start * duration.steps - 1, duration.steps - 1
        rise = _half_wave(first, 1, steps / peak) if peak > 0 else 1.0
        fall = _half_wave(1, last, (steps - peak) / (end - peak))
        return np.where(steps <= peak, rise, fall)


@dataclass(frozen=True)
class _Function(Schedule):  # its name is in files and pickles
    """Calls a function for each step."""

    function: Callable[[int], float]

    def at(self, steps: Steps, duration: Duration) -> list[float]:
        return [self._number(step) for step in steps.tolist()]

    def _number(self, step: int) -> float:
        value: object = self.function(step)
        if not isinstance(value, numbers.Real):
            raise TypeError(f"schedule {self!r} must give a number, not {value!r}, at step {step}, counted from 0")
        try:
            return float(value)
        except OverflowError:  # an int larger than every float, which `factors` refuses
            return math.inf

    def __repr__(self) -> str:
        return getattr(self.function, "__name__", repr(self.function))


def _half_wave(start: float, end: float, fraction: Doubles) -> Doubles:
    """Return the value of half a cosine wave from `start` to `end`, after this fraction of it."""
    value: Doubles = end + (start - end) * (1 + np.cos(np.pi * fraction)) / 2
    return value

"""Successive halving (Jamieson and Talwalkar 2016): all trials train a little, the better ones longer.

A trial trains in one fit for each rung, but with a pause in place of an end: its schedule knows all epochs from the
start, and its callbacks see one fit. So the bits are those of one long fit, and no epoch is trained twice.
"""

from __future__ import annotations

from typing import NamedTuple

from fastmlp.hooks import FitState, call_hooks
from fastmlp.validation.settings import check_int

__all__ = ["Continued", "Pause", "Rung", "rungs"]


class Rung(NamedTuple):
    """How many trials train, and up to which epoch."""

    n_trials: int
    epochs: int


def rungs(n_trials: int, epochs: int, factor: int | None, min_epochs: int = 1) -> list[Rung]:
    """Return the rungs: each has a `factor`-th of the trials of the one before, rounded up, for `factor` times as long.

    The last rung has all epochs and fewer than `factor` trials, unless the first would be shorter than `min_epochs`.
    """
    epochs, min_epochs = check_int("epochs", epochs, 1), check_int("min_epochs", min_epochs, 1)
    if min_epochs > epochs:
        raise ValueError(f"min_epochs is {min_epochs}, but epochs is {epochs}")
    if factor is None:
        return [Rung(n_trials, epochs)]
    factor = check_int("factor", factor, 2, "an integer or None")
    trained = [epochs]
    while trained[0] // factor >= min_epochs and n_trials >= factor ** len(trained):
        trained.insert(0, epochs // factor ** len(trained))
    return [Rung(-(-n_trials // factor**i), until) for i, until in enumerate(trained)]


class Pause:
    """Ends a fit after epoch `until`, unless it ends anyway. It is the last callback.

    Attributes
    ----------
    until : int
    paused : bool
        Whether it has ended the last fit.
    """

    def __init__(self) -> None:
        self.until, self.paused = 0, False

    def on_fit_begin(self, net: object, fit: FitState) -> None:
        """Forget the last pause."""
        self.paused = False

    def on_epoch_end(self, net: object, fit: FitState) -> None:
        """Pause, if it is time to."""
        self.paused = not fit.stop and self.until <= fit.epoch < fit.epochs
        fit.stop = fit.stop or self.paused


class Continued:
    """A callback of a user, for which the fits between pauses are one fit."""

    def __init__(self, callback: object, pause: Pause) -> None:
        self.callback, self._pause = callback, pause
        self._begun, self._fit = False, FitState(0, 0)

    def _call(self, hook: str, net: object, fit: FitState) -> None:
        call_hooks([self.callback], hook, net, fit)

    def on_fit_begin(self, net: object, fit: FitState) -> None:
        """Begin, once."""
        if not self._begun:
            self._call("on_fit_begin", net, fit)
            self._begun = True

    def on_step(self, net: object, fit: FitState) -> None:
        """Pass it on."""
        self._call("on_step", net, fit)

    def on_epoch_end(self, net: object, fit: FitState) -> None:
        """Pass it on."""
        self._call("on_epoch_end", net, fit)

    def on_fit_end(self, net: object, fit: FitState) -> None:
        """End, unless it is only a pause."""
        self._fit = fit
        if not self._pause.paused:
            self._call("on_fit_end", net, fit)

    def end(self, net: object) -> None:
        """End a fit that will not be resumed."""
        self._call("on_fit_end", net, self._fit)

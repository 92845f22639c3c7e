"""Callbacks: objects that a fit calls while it runs.

A callback has any of these methods; `net` is the network and `fit` a `FitState`:

- ``on_fit_begin(net, fit)`` before the first epoch;
- ``on_step(net, fit)`` every few hundredths of a second while an epoch runs, not at every step; parameters may be those
  of two neighbouring steps then, and what is written into them may be lost;
- ``on_epoch_end(net, fit)`` when an epoch is finished and stands in ``fit.history``;
- ``on_fit_end(net, fit)`` at the end, also when Ctrl-C or an error ended the fit.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastmlp.history import History

__all__ = ["FitState", "ProgressBar", "call_hooks", "gather_callbacks"]

_LINES = 20  # about so many lines say how a long fit goes where there is no terminal

HOOKS = ("on_fit_begin", "on_step", "on_epoch_end", "on_fit_end")


@dataclass
class FitState:
    """Where a fit stands.

    Attributes
    ----------
    epochs, n_batches : int
        Epochs asked for, and steps in each.
    epoch : int
        Finished epochs; in `on_epoch_end` the epoch just finished is counted.
    step : int
        Finished steps in the present epoch; 0 again in `on_epoch_end`.
    history : History
        Measurements of the finished epochs.
    stop : bool
        Set it True to end the fit after this epoch.
    """

    epochs: int
    n_batches: int
    epoch: int = 0
    step: int = 0
    history: History = field(default_factory=History)
    stop: bool = False


def gather_callbacks(callbacks: Iterable[object], progress: bool = False) -> list[object]:
    """Check `callbacks` and return them as a list, with a `ProgressBar` in front when `progress` is True.

    Raises
    ------
    TypeError
        If `callbacks` is no list, or one of them has none of the methods of a callback, or one that cannot be called.
    """
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks must be a list of callbacks, not {type(callbacks).__name__}")
    gathered = list(callbacks)
    for callback in gathered:
        if isinstance(callback, type):
            raise TypeError(f"callback {callback.__name__} is a class; pass an object of it: {callback.__name__}()")
        methods = {hook: getattr(callback, hook) for hook in HOOKS if hasattr(callback, hook)}
        if not methods:
            raise TypeError(f"callback {callback!r} has none of the methods {', '.join(HOOKS)}")
        for hook, method in methods.items():
            if method is not None and not callable(method):
                raise TypeError(f"{hook} of callback {callback!r} must be a method, not {method!r}")
    return [ProgressBar(), *gathered] if progress else gathered


def call_hooks(callbacks: Sequence[object], hook: str, net: object, fit: FitState) -> None:
    """Call the method named `hook` of each callback that has it, in order."""
    for callback in callbacks:
        method = getattr(callback, hook, None)
        if method is not None:
            method(net, fit)


class ProgressBar:
    """A bar on a terminal or in a notebook (tqdm, on stderr); elsewhere plain lines, one an epoch or some twenty."""

    def __init__(self) -> None:
        self._bar: Any = None

    def on_fit_begin(self, net: object, fit: FitState) -> None:
        """Show the empty bar."""
        if sys.stderr is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules):
            from tqdm import tqdm

            total = fit.epochs * fit.n_batches
            self._bar = tqdm(total=total, desc=f"epoch 1/{fit.epochs}", unit="step", dynamic_ncols=True)
            if (self._bar.ncols or 0) < 0 or (self._bar.nrows or 0) < 0:  # a terminal that does not know its size
                self._bar.dynamic_ncols = self._bar.ncols = self._bar.nrows = None

    def on_step(self, net: object, fit: FitState) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(fit.epoch * fit.n_batches + fit.step - self._bar.n)

    def on_epoch_end(self, net: object, fit: FitState) -> None:
        """Say what the epoch has measured."""
        history = fit.history
        if self._bar is None:
            every = max(1, fit.epochs // _LINES)
            if sys.stderr is not None and (fit.epoch % every == 0 or fit.epoch == fit.epochs):
                line = f"epoch {fit.epoch}/{fit.epochs}: {history.last()}, {history.seconds[-1]:.2f} s"
                print(line, file=sys.stderr)
            return
        accuracy = "val_accuracy" if history.val_accuracy else "accuracy"  # as much as an 80-column terminal holds
        words = f"loss {history.loss[-1]:.4f}, {accuracy} {getattr(history, accuracy)[-1]:.4f}"
        self._bar.set_postfix_str(words, refresh=False)
        self._bar.set_description(f"epoch {min(fit.epoch + 1, fit.epochs)}/{fit.epochs}", refresh=False)
        self._bar.update(fit.epoch * fit.n_batches - self._bar.n)

    def on_fit_end(self, net: object, fit: FitState) -> None:
        """Leave the bar where it stands."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

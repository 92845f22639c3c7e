"""The methods of callbacks that `fit` calls, and the `FitState` that it passes; see `fastmlp.callbacks`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastmlp.history import History
from fastmlp.validation.settings import check_bool, check_number, is_iterable

__all__ = ["HOOKS", "FitState", "call_hooks", "check_callbacks"]

HOOKS = ("on_fit_begin", "on_step", "on_mix_end", "on_epoch_end", "on_fit_end")

_ALSO_CALLED = {  # by Keras, Lightning, skorch and scikit-learn
    "on_fit_begin": "on_train_begin on_train_start on_fit_start on_begin setup",
    "on_step": "on_batch_end on_batch_begin on_train_batch_end on_train_batch_begin on_train_batch_start on_step_end",
    "on_epoch_end": "on_epoch_begin on_epoch_start on_train_epoch_end on_train_epoch_start on_validation_end "
    "on_test_end on_validation_epoch_end on_epoch",
    "on_fit_end": "on_train_end on_fit_ended on_end teardown",
}


_MAY_BE_SET: dict[str, Callable[[str, object], object]] = {"stop": check_bool, "learning_rate_factor": check_number}


@dataclass
class FitState:
    """The progress of a fit, for callbacks to read and to control.

    All attributes but `stop` and `learning_rate_factor` are read-only.

    Attributes
    ----------
    epochs, n_batches : int
        Number of epochs requested, and of steps in each.
    epoch : int
        Number of finished epochs, including the current one in `on_epoch_end`.
    step : int
        Number of finished steps of the current epoch; 0 in `on_epoch_end`.
    history : History
        Measurements of the finished epochs.
    measures : tuple of str
        Names of the measurements that the history will contain.
    stop : bool
        Set it to True to end the fit after this epoch.
    learning_rate_factor : float
        Multiplies the learning rate, from the next epoch on.
    batch_size : int
        Rows per step; the last step of an epoch may have fewer.
    """

    epochs: int
    n_batches: int
    epoch: int = 0
    step: int = 0
    history: History = field(default_factory=History)
    measures: tuple[str, ...] = ()
    stop: bool = False
    learning_rate_factor: float = 1.0
    batch_size: int = 0

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


def check_callbacks(callbacks: Iterable[object]) -> list[object]:
    """Return `callbacks` as a list, if `fit` can call them.

    Raises
    ------
    TypeError
        If `callbacks` is not a list, or one of them has none of the methods, one that is not callable, or one whose
        name begins with ``on_`` but that `fit` does not call.
    """
    if not is_iterable(callbacks):
        raise TypeError(f"callbacks must be a list of callbacks, not {type(callbacks).__name__}")
    gathered = list(callbacks)
    for callback in gathered:
        if isinstance(callback, type):
            raise TypeError(f"callback {callback.__name__} is a class; pass an instance: {callback.__name__}()")
        methods = {hook: getattr(callback, hook) for hook in HOOKS if hasattr(callback, hook)}
        for name in dir(callback):
            if name.startswith("on_") and name not in HOOKS and callable(getattr(callback, name, None)):
                if name.startswith("on_fit_task_"):
                    raise TypeError(f"{callback!r} is a callback of scikit-learn; give it to estimator.set_callbacks")
                hook = _closest_hook(name)
                meant = f"did you mean {hook}?" if hook else f"it calls {', '.join(HOOKS)}"
                raise TypeError(f"callback {callback!r} has the method {name}, which fit never calls; {meant}")
        if not methods:
            raise TypeError(f"callback {callback!r} has none of the methods {', '.join(HOOKS)}")
        for hook, method in methods.items():
            if method is not None and not callable(method):
                raise TypeError(f"{hook} of callback {callback!r} must be a method, not {method!r}")
    return gathered


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

"""scikit-learn's own callbacks, since its version 1.9: they follow a fit as a task, and its epochs as subtasks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self, TypeVar

from fastmlp.activations import Floats
from fastmlp.hooks import HOOKS, FitState

try:
    from sklearn import callback as theirs
except ImportError:  # before 1.9
    theirs = None

__all__ = ["SupportsCallbacks", "Tasks", "with_callbacks"]

_Method = TypeVar("_Method", bound=Callable[..., Any])


def with_callbacks(method: _Method) -> _Method:
    """Decorate a method that fits, so that the callbacks are torn down after it."""
    decorated: _Method = method if theirs is None else theirs.with_callbacks(method)
    return decorated


if theirs is None:

    class SupportsCallbacks:
        """Has no `set_callbacks`, since scikit-learn has no callbacks."""

else:

    class SupportsCallbacks(theirs.CallbackSupportMixin):  # type: ignore[misc, no-redef]
        """Has `set_callbacks`."""

        def set_callbacks(self, *callbacks: Any) -> Self:
            """Set scikit-learn callbacks, such as `sklearn.callback.ProgressBar`, for later fits.

            The tasks of a fit are its epochs, or the iterations of 'lbfgs'. A callback whose `on_fit_task_end` returns
            True ends the fit. For callbacks of `fastmlp.callbacks`, use the parameter `callbacks`.

            Parameters
            ----------
            *callbacks : objects of `sklearn.callback`
                The callbacks. They replace all that were set before.

            Returns
            -------
            self : object
                This estimator.

            Raises
            ------
            TypeError
                If an argument is not a scikit-learn callback.
            """
            for callback in callbacks:
                if any(hasattr(callback, hook) for hook in HOOKS) and not hasattr(callback, "on_fit_task_end"):
                    name = type(callback).__name__
                    raise TypeError(f"{name} is not a callback of scikit-learn; use set_params(callbacks=[...])")
            return super().set_callbacks(*callbacks)  # type: ignore[no-any-return]


class Tasks:
    """Calls what `set_callbacks` has set. For training by epochs, it is one of the network's callbacks.

    Callbacks see X and y as they were passed to `fit`, with the rows that early stopping holds out.
    """

    def __init__(self, estimator: Any, n_subtasks: int, sequential: bool = True) -> None:
        self._estimator = estimator
        self._fit = estimator._init_callback_context(max_subtasks=n_subtasks, sequential_subtasks=sequential)
        self._subtask: Any = None
        self._data: dict[str, Any] = {}
        self._parameters: Sequence[Floats] = ()
        self._learned_all: dict[str, Any] | None = {}  # an estimator at the end; None has none, as one of many networks

    @classmethod
    def of(cls, estimator: Any, n_subtasks: int, sequential: bool = True) -> Self | None:
        """Return the tasks of a fit with so many subtasks at most, or None without callbacks; their setup is done."""
        has_any = getattr(estimator, "_skl_callbacks", None) and hasattr(estimator, "_init_callback_context")
        return cls(estimator, n_subtasks, sequential) if has_any else None

    def begin(self, X: Any, y: Any, sample_weight: Any) -> None:
        """Begin the fit."""
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._data = {"estimator": self._estimator, "X": X, "y": y, "metadata": metadata}
        self._fit.call_on_fit_task_begin(**self._data)

    def end(self) -> None:
        """End the fit."""
        self._fit.call_on_fit_task_end(**self._data, reconstruction_attributes=self._learned_all)

    # --- epochs and iterations ----------------------------------------------------------------------------------------

    def follow(self, parameters: Sequence[Floats]) -> None:
        """Let callbacks see these weights and biases, all weights first, at the end of each epoch."""
        self._parameters = parameters

    def begin_subtask(self, name: str) -> None:
        """Begin an epoch or iteration."""
        self._subtask = self._fit.subcontext(task_name=name)
        self._subtask.call_on_fit_task_begin(**self._data, reconstruction_attributes=self._learned)

    def end_subtask(self) -> bool:
        """End it; return whether the fit is to end, too."""
        subtask, self._subtask = self._subtask, None
        return bool(subtask.call_on_fit_task_end(**self._data, reconstruction_attributes=self._learned))

    def drop_subtask(self) -> None:
        """End an epoch or iteration that was begun but not finished."""
        if self._subtask is not None:
            self._subtask.call_on_fit_task_end(estimator=self._estimator)
            self._subtask = None

    def _learned(self) -> dict[str, Any]:
        """Return the attributes of an estimator that had stopped here."""
        copies, n = [parameter.copy() for parameter in self._parameters], len(self._parameters) // 2
        return {"coefs_": copies[:n], "intercepts_": copies[n:]}

    # --- of several networks ------------------------------------------------------------------------------------------

    @contextmanager
    def network(self, i: int, estimator: Any) -> Iterator[Self]:
        """Yield the task of one of the networks, which its estimator trains.

        Meanwhile that estimator has the callbacks that follow estimators within others, as a progress bar does.
        """
        task = copy.copy(self)
        task._learned_all = None
        task._fit = self._fit.subcontext(task_name="network", task_id=i)
        try:
            with task._fit.propagate_callback_context(estimator):
                yield task
        finally:
            for name in ("_callback_fit_ctx", "_skl_callbacks_to_teardown"):  # nothing of it is its own to tear down
                vars(estimator).pop(name, None)

    # --- called by the network's fit ----------------------------------------------------------------------------------

    def on_fit_begin(self, net: Any, fit: FitState) -> None:
        """Begin the first epoch."""
        self.begin_subtask("epoch")

    def on_epoch_end(self, net: Any, fit: FitState) -> None:
        """End the epoch, and begin the next one unless the fit is over."""
        if self.end_subtask():
            fit.stop = True
        if not fit.stop and fit.epoch < fit.epochs:
            self.begin_subtask("epoch")

    def on_fit_end(self, net: Any, fit: FitState) -> None:
        """End the epoch in which Ctrl-C came."""
        if fit.history.interrupted:
            self.drop_subtask()

"""`Tracker`, the common part of the callbacks in `fastmlp.trackers`.

An epoch may take less than a millisecond, and a write to a database or server a hundred times as long. So a tracker
writes in a thread of its own, at the end of the fit and at most twice a second before, and `fit` waits for it only at
the end. A tracker that fails warns, and the fit goes on.
"""

from __future__ import annotations

import dataclasses
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from queue import SimpleQueue
from typing import Any, ClassVar, NamedTuple, Self

from fastmlp.hooks import FitState
from fastmlp.validation.calls import warn
from fastmlp.validation.settings import check_number

__all__ = ["Row", "Tracker"]

_PATIENCE = 60.0  # seconds that the end of a fit waits for a tracker that does not answer
_DELAY = 0.01  # seconds until a write starts: meanwhile the next epoch does, whose kernels do not need the GIL
_LONGEST = 60.0  # seconds between two attempts of a tracker that keeps failing


class Row(NamedTuple):
    """What an epoch has measured."""

    epoch: int  # counted from 1
    time: float  # seconds since 1970, at the end of the epoch
    measured: dict[str, float]


class _Writer(threading.Thread):
    """The thread that writes while a fit runs, one write after the other. It does not keep the program from ending."""

    def __init__(self) -> None:
        super().__init__(name="fastmlp tracker", daemon=True)
        self._queue: SimpleQueue[tuple[Future[None], Callable[[], None]] | None] = SimpleQueue()

    def run(self) -> None:
        while (item := self._queue.get()) is not None:
            future, write = item
            try:
                write()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(None)

    def submit(self, write: Callable[[], None]) -> Future[None]:
        """Start to write."""
        future: Future[None] = Future()
        self._queue.put((future, write))
        return future

    def end(self) -> None:
        """End the thread, once it has written."""
        self._queue.put(None)


class Tracker:
    """A callback that writes rows in a thread of its own.

    Copies, such as `sklearn.base.clone` makes, share what they write to. A pickle does not contain it.
    """

    _target: ClassVar[str] = ""  # the attribute that has what is written to, if no pickle can have it
    _methods: ClassVar[tuple[str, ...]] = ()  # of what is written to
    _expected: ClassVar[str] = ""  # what messages call it

    def __init__(self, interval: float, prefix: str = "") -> None:
        if not isinstance(prefix, str):
            raise TypeError(f"prefix must be a str such as 'fold1/', not {prefix!r}")
        self.interval, self.prefix = check_number("interval", interval), prefix
        self._forget()

    def _checked(self, target: Any) -> Any:
        """Return what is written to, if it has the methods."""
        if isinstance(target, type) or not all(callable(getattr(target, name, None)) for name in self._methods):
            raise TypeError(f"{self._target} must be {self._expected}, not {target!r}")
        return target

    def _forget(self) -> None:
        """Forget the last fit."""
        self._writer: _Writer | None = None  # while a fit is tracked
        self._writing: Future[None] | None = None  # the last write, until its result is noted
        self._settings: dict[str, Any] | None = None  # until they are written
        self._times: list[float] = []
        self._first = self._sent = self._done = 0  # epochs of the history: at the start, in the thread, written
        self._failures, self._next = 0, 0.0
        self._steps = 0  # of the history, at the start
        self._around: BaseException | None = None  # the exception that was being handled when the fit began

    # --- implemented by each tracker ----------------------------------------------------------------------------------

    def _begin(self, fit: FitState) -> None:
        """Check that this fit can be tracked, in the thread that trains."""

    def _write(self, rows: Sequence[Row], settings: Mapping[str, Any] | None, status: str) -> None:
        """Write, in a thread of its own.

        Names in the rows begin with the prefix. The settings are None if they have been written. The status is one of
        MLflow's; all but "RUNNING" end the fit.
        """
        raise TypeError("a tracker says how it writes")

    # --- called by fit ------------------------------------------------------------------------------------------------

    def on_fit_begin(self, net: Any, fit: FitState) -> None:
        """Start afresh. Of a fit that is resumed, only the epochs to come are reported."""
        self._forget()
        if self._target and getattr(self, self._target) is None:
            warn(f"this {type(self).__name__} comes from a pickle, which has no {self._target}; it records nothing")
            return
        self._begin(fit)
        self._first = self._sent = self._done = len(fit.history.loss)
        self._steps, self._settings = fit.history.steps, _settings(net, fit)
        self._next = time.perf_counter() + self.interval
        self._around, writer = sys.exception(), _Writer()
        try:
            writer.start()
        except RuntimeError as error:  # there are too many threads
            warn(f"{type(self).__name__} records nothing: {error}")
            return
        self._writer = writer

    def on_epoch_end(self, net: Any, fit: FitState) -> None:
        """Start to write, unless the last write is still under way or less than `interval` seconds ago."""
        writer = self._writer
        if writer is None:
            return
        self._times.append(time.time())
        if self._is_due(fit) and (self._writing is None or self._writing.done()):
            self._settle()
            self._start(writer, fit)
            if not self.interval:
                self._settle(_PATIENCE)

    def on_fit_end(self, net: Any, fit: FitState) -> None:
        """Write the rest, and wait until it is written."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            reason = self._end(writer, fit)
        finally:
            writer.end()
        if reason:
            n_epochs = len(fit.history.loss)
            first = fit.epoch - n_epochs + min(self._done + 1, n_epochs)
            what = f"epochs {first} to {fit.epoch}" if first < fit.epoch else f"epoch {fit.epoch}"
            if n_epochs == self._first:
                what = "the fit"
            warn(f"{type(self).__name__} may not have recorded {what}: {reason}")

    def _end(self, writer: _Writer, fit: FitState) -> str:
        """Write the rest; return why that has failed, if it has."""
        give_up, status = time.perf_counter() + _PATIENCE, self._status(fit)
        if status == "FAILED" and fit.history.steps == self._steps and not isinstance(sys.exception(), ArithmeticError):
            return ""  # another callback has refused the fit; a loss that is not finite is worth a record
        self._settle(_PATIENCE, quietly=True)
        if self._writing is None:
            self._start(writer, fit, status)
        return self._settle(give_up - time.perf_counter(), quietly=True)

    def _status(self, fit: FitState) -> str:
        """Return how a fit has ended, in MLflow's words."""
        error = sys.exception()
        if fit.history.interrupted or type(error).__name__ == "TrialPruned":
            return "KILLED"
        return "FINISHED" if error is self._around else "FAILED"

    # --- writing ------------------------------------------------------------------------------------------------------

    def _is_due(self, fit: FitState) -> bool:
        return time.perf_counter() >= self._next

    def _rows(self, fit: FitState) -> list[Row]:
        """Return the epochs that have not been written."""
        measured, shift = fit.history._measured(), fit.epoch - len(fit.history.loss)
        times = [*self._times, time.time()]  # an epoch may have been interrupted in its validation
        return [
            Row(
                i + 1 + shift,
                times[i - self._first],
                {self.prefix + name: values[i] for name, values in measured.items()},
            )
            for i in range(self._done, len(fit.history.loss))
        ]

    def _start(self, writer: _Writer, fit: FitState, status: str = "RUNNING") -> None:
        """Start to write all epochs that have not been written."""
        rows, settings = self._rows(fit), self._settings
        self._sent = len(fit.history.loss)
        self._next = time.perf_counter() + min(self.interval * 2**self._failures, _LONGEST)
        delay = _DELAY if self.interval and status == "RUNNING" else 0.0

        def write() -> None:
            time.sleep(delay)
            self._write(rows, settings, status)

        self._writing = writer.submit(write)

    def _settle(self, seconds: float = 0.0, quietly: bool = False) -> str:
        """Wait for the last write, but not longer than this, and note its result; return why it has failed, if so."""
        if self._writing is None:
            return ""
        wait([self._writing], max(0.0, seconds))
        if not self._writing.done():
            return f"no answer for {_PATIENCE:g} seconds"
        error, self._writing = self._writing.exception(), None
        if error is None:
            self._done, self._settings, self._failures = self._sent, None, 0
            return ""
        reason = traceback.format_exception_only(error)[-1].strip()  # str(error) may fail, too
        self._failures += 1
        if self._failures == 1 and not quietly:
            warn(f"{type(self).__name__} has failed and will try again; training continues: {reason}")
        return reason

    # --- copies -------------------------------------------------------------------------------------------------------

    def __copy__(self) -> Self:
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        twin._forget()
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.__copy__()

    def __getstate__(self) -> dict[str, Any]:
        state = vars(self.__copy__())
        return state | {self._target: None} if self._target else state


def _settings(net: Any, fit: FitState) -> dict[str, Any]:
    """Return the settings of the network and of its fit, by name."""
    state = net._training_state
    return {
        **{name: list(value) if isinstance(value, tuple) else value for name, value in net._settings().items()},
        "epochs": fit.epochs,
        "batch_size": fit.batch_size,
        "optimizer": type(state.optimizer).__name__,
        **{field.name: getattr(state.optimizer, field.name) for field in dataclasses.fields(state.optimizer)},
        "schedule": state.schedule.replace("_Function", "function"),
    }

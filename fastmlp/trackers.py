"""Callbacks that report a fit to other programs: MLflow, TensorBoard, Weights & Biases, and Optuna's pruners.

An epoch may take less than a millisecond, and a write to a database or server a hundred times as long. So a tracker
writes in a thread of its own, at the end of the fit and at most twice a second before, and `fit` waits for it only at
the end. A tracker that fails warns, and the fit goes on.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import Any, ClassVar, NamedTuple, Self

from fastmlp.history import check_monitor, direction
from fastmlp.hooks import FitState
from fastmlp.options import Mode
from fastmlp.validation.calls import advised_constructor, warn
from fastmlp.validation.settings import check_number

__all__ = ["MLflow", "OptunaPruning", "TensorBoard", "WandB"]

_PATIENCE = 60.0  # seconds that the end of a fit waits for a tracker that does not answer
_DELAY = 0.01  # seconds until a write starts: meanwhile the next epoch does, whose kernels do not need the GIL
_LONGEST = 60.0  # seconds between two attempts of a tracker that keeps failing


class _Row(NamedTuple):
    """What an epoch has measured."""

    epoch: int  # counted from 1
    time: float  # seconds since 1970, at the end of the epoch
    measured: dict[str, float]


class _Writer(threading.Thread):
    """The thread that writes while a fit runs, one write after the other. It does not keep the program from ending."""

    def __init__(self) -> None:
        super().__init__(name="fastmlp tracker", daemon=True)
        self.error: BaseException | None = None  # of the last write
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._busy = threading.Lock()

    def run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except BaseException as error:
                self.error = error
            finally:
                self._busy.release()

    def write(self, work: Callable[[], None]) -> None:
        """Start to write, if it is not writing."""
        self.error = None
        self._busy.acquire()
        self._work.put(work)

    def is_writing(self) -> bool:
        return self._busy.locked()

    def wait(self, seconds: float) -> None:
        """Wait until it has written, but not longer than this."""
        if self._busy.acquire(timeout=max(0.0, seconds)):
            self._busy.release()

    def end(self) -> None:
        """End the thread, once it has written."""
        self._work.put(None)


class _Tracker:
    """A callback that writes rows in a thread of its own.

    Copies, such as `sklearn.base.clone` makes, share what they write to. A pickle does not contain it.
    """

    _target: ClassVar[str] = ""  # the attribute that has what is written to, if no pickle can have it

    def __init__(self, interval: float) -> None:
        self.interval = check_number("interval", interval)
        self._forget()

    def _forget(self) -> None:
        """Forget the last fit."""
        self._writer: _Writer | None = None  # while a fit is tracked
        self._pending = False  # whether there is a write whose result is not known
        self._settings: dict[str, Any] | None = None  # until they are written
        self._times: list[float] = []
        self._first = self._sent = self._done = 0  # epochs of the history: at the start, in the thread, written
        self._failures, self._next = 0, 0.0
        self._steps = 0  # of the history, at the start
        self._around: BaseException | None = None  # what was being handled when the fit began

    # --- implemented by each tracker ----------------------------------------------------------------------------------

    def _begin(self, fit: FitState) -> None:
        """Check that this fit can be tracked, in the thread that trains."""

    def _write(self, rows: Sequence[_Row], settings: Mapping[str, Any] | None, status: str) -> None:
        """Write, in a thread of its own.

        The settings are None if they have been written. The status is one of MLflow's; all but "RUNNING" end the fit.
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
        self._around, self._writer = sys.exception(), _Writer()
        self._writer.start()

    def on_epoch_end(self, net: Any, fit: FitState) -> None:
        """Start to write, unless the last write is still under way or less than `interval` seconds ago."""
        writer = self._writer
        if writer is None:
            return
        self._times.append(time.time())
        if self._is_due(fit) and not writer.is_writing():
            self._settle(writer)
            self._start(writer, fit)
            if not self.interval:
                writer.wait(_PATIENCE)
                self._settle(writer)

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
        writer.wait(_PATIENCE)
        self._settle(writer, quietly=True)
        if not self._pending:
            self._start(writer, fit, status)
            writer.wait(give_up - time.perf_counter())
        return self._settle(writer, quietly=True)

    def _status(self, fit: FitState) -> str:
        """Return how a fit has ended, in MLflow's words."""
        error = sys.exception()
        if fit.history.interrupted or type(error).__name__ == "TrialPruned":
            return "KILLED"
        return "FINISHED" if error is self._around else "FAILED"

    # --- writing ------------------------------------------------------------------------------------------------------

    def _is_due(self, fit: FitState) -> bool:
        return time.perf_counter() >= self._next

    def _rows(self, fit: FitState) -> list[_Row]:
        """Return the epochs that have not been written."""
        measured, shift = fit.history._measured(), fit.epoch - len(fit.history.loss)
        times = [*self._times, time.time()]  # an epoch may have been interrupted in its validation
        return [
            _Row(i + 1 + shift, times[i - self._first], {name: values[i] for name, values in measured.items()})
            for i in range(self._done, len(fit.history.loss))
        ]

    def _start(self, writer: _Writer, fit: FitState, status: str = "RUNNING") -> None:
        """Start to write all epochs that have not been written."""
        rows, settings = self._rows(fit), self._settings
        self._sent, self._pending = len(fit.history.loss), True
        self._next = time.perf_counter() + min(self.interval * 2**self._failures, _LONGEST)
        delay = _DELAY if self.interval and status == "RUNNING" else 0.0

        def write() -> None:
            time.sleep(delay)
            self._write(rows, settings, status)

        writer.write(write)

    def _settle(self, writer: _Writer, quietly: bool = False) -> str:
        """Note what the last write has done; return why it has failed, if it has."""
        if not self._pending:
            return ""
        if writer.is_writing():
            return f"no answer for {_PATIENCE:g} seconds"
        self._pending = False
        if writer.error is None:
            self._done, self._settings, self._failures = self._sent, None, 0
            return ""
        reason = f"{type(writer.error).__name__}: {writer.error}"
        self._failures += 1
        if self._failures == 1 and not quietly:
            warn(f"{type(self).__name__} has failed and will try again, while training goes on: {reason}")
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


def _check_target(name: str, target: object, methods: Sequence[str], what: str) -> Any:
    """Return what a tracker writes to, if it has these methods."""
    if isinstance(target, type) or not all(callable(getattr(target, method, None)) for method in methods):
        raise TypeError(f"{name} must be {what}, not {target!r}")
    return target


@advised_constructor
class MLflow(_Tracker):
    """Record the settings and measurements of a fit in MLflow.

    Parameters
    ----------
    run : str, Run or None
        The run, or its id. None is the active run or, without one, a new run for each fit, which ends with it.
    prefix : str
        Comes before the name of each measurement, such as "fold1/".
    interval : float
        Seconds between two writes during the fit. With 0 it waits for a write after each epoch.

    Attributes
    ----------
    run_id : str or None
        The run of the last fit.

    Raises
    ------
    ImportError
        If MLflow is missing.
    TypeError, ValueError
        If an argument is wrong.

    Examples
    --------
    >>> import mlflow
    >>> with mlflow.start_run():
    ...     net.fit(X, y, callbacks=[callbacks.MLflow()])
    """

    def __init__(self, run: Any = None, *, prefix: str = "", interval: float = 0.5) -> None:
        try:
            import mlflow  # noqa: F401
        except ImportError as error:
            raise ImportError("callbacks.MLflow needs MLflow: pip install mlflow") from error
        run = getattr(getattr(run, "info", None), "run_id", run)
        if run is not None and not isinstance(run, str):
            raise TypeError(f"run must be a run of MLflow or its id, not {run!r}")
        self.run, self.prefix = run, _check_prefix(prefix)
        super().__init__(interval)

    def _forget(self) -> None:
        super()._forget()
        self.run_id: str | None = None
        self._owns = False  # whether the run is this tracker's

    def _begin(self, fit: FitState) -> None:
        import mlflow

        active = mlflow.active_run() if self.run is None else None
        self.run_id = self.run if active is None else active.info.run_id
        self._owns = self.run_id is None

    def _write(self, rows: Sequence[_Row], settings: Mapping[str, Any] | None, status: str) -> None:
        import mlflow
        from mlflow.entities import Metric, Param

        client = mlflow.MlflowClient()
        if self.run_id is None:
            with mlflow.start_run() as run:  # which would also be the active run of this thread: leave it at once
                self.run_id = run.info.run_id
            client.update_run(self.run_id, status="RUNNING")
        run_id = self.run_id
        metrics = [
            Metric(re.sub(r"[^\w\-./ :]", "_", f"{self.prefix}{name}"), value, round(1000 * row.time), row.epoch)
            for row in rows
            for name, value in row.measured.items()
        ]
        for start in range(0, len(metrics), 1000):  # the most that MLflow takes at once
            client.log_batch(run_id, metrics[start : start + 1000])
        if settings is not None:  # MLflow refuses other values of those that an earlier fit has left in the run
            known = client.get_run(run_id).data.params
            new = [Param(name, str(value)) for name, value in settings.items() if name not in known]
            client.log_batch(run_id, params=new)
        if self._owns and status != "RUNNING":
            client.set_terminated(run_id, status)


@advised_constructor
class TensorBoard(_Tracker):
    """Record the measurements of a fit for TensorBoard, and its settings as text.

    Parameters
    ----------
    writer : SummaryWriter
        Of PyTorch (`torch.utils.tensorboard`) or tensorboardX.
    prefix : str
        Comes before the name of each measurement, such as "fold1/".
    interval : float
        Seconds between two writes during the fit. With 0 it waits for a write after each epoch.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong.

    Examples
    --------
    >>> from torch.utils.tensorboard import SummaryWriter
    >>> with SummaryWriter("runs/first") as writer:
    ...     net.fit(X, y, callbacks=[callbacks.TensorBoard(writer)])
    """

    _target = "writer"

    def __init__(self, writer: Any, *, prefix: str = "", interval: float = 0.5) -> None:
        self.writer = _check_target("writer", writer, ("add_scalar", "add_text", "flush"), "a SummaryWriter")
        self.prefix = _check_prefix(prefix)
        super().__init__(interval)

    def _write(self, rows: Sequence[_Row], settings: Mapping[str, Any] | None, status: str) -> None:
        if settings is not None:
            lines = [f"| {name} | {value} |" for name, value in settings.items()]
            self.writer.add_text(f"{self.prefix}settings", "\n".join(["| setting | value |", "|---|---|", *lines]))
        for row in rows:
            for name, value in row.measured.items():
                self.writer.add_scalar(f"{self.prefix}{name}", value, global_step=row.epoch, walltime=row.time)
        self.writer.flush()


@advised_constructor
class WandB(_Tracker):
    """Record the settings and measurements of a fit in a run of Weights & Biases.

    The epoch is recorded, too, and is the x axis of the charts. So a run may have several fits.

    Parameters
    ----------
    run : Run
        What ``wandb.init()`` returns.
    prefix : str
        Comes before the name of each measurement, such as "fold1/".
    interval : float
        Seconds between two writes during the fit. With 0 it waits for a write after each epoch.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong.

    Examples
    --------
    >>> import wandb
    >>> with wandb.init(project="digits") as run:
    ...     net.fit(X, y, callbacks=[callbacks.WandB(run)])
    """

    _target = "run"

    def __init__(self, run: Any, *, prefix: str = "", interval: float = 0.5) -> None:
        self.run = _check_target("run", run, ("log", "define_metric"), "what wandb.init() returns")
        self.prefix = _check_prefix(prefix)
        super().__init__(interval)

    def _begin(self, fit: FitState) -> None:
        self._measures = (*fit.measures, "learning_rate", "seconds")

    def _write(self, rows: Sequence[_Row], settings: Mapping[str, Any] | None, status: str) -> None:
        epoch = f"{self.prefix}epoch"
        if settings is not None:
            self.run.config.setdefaults(dict(settings))
            self.run.define_metric(epoch)
            for name in self._measures:
                self.run.define_metric(f"{self.prefix}{name}", step_metric=epoch)
        for row in rows:
            measured = {f"{self.prefix}{name}": value for name, value in row.measured.items()}
            self.run.log({epoch: row.epoch, **measured})


@advised_constructor
class OptunaPruning(_Tracker):
    """Report a measurement to Optuna, and end the fit if the pruner gives the trial up.

    `fit` then raises `optuna.TrialPruned`, as Optuna wants it.

    Fast epochs are not all reported: there is a report at most twice a second, and of the last epoch. The epochs are
    multiples of powers of two, so that pruners can compare trials. With ``interval=0`` each epoch is reported and
    waited for, and a study with seeds prunes the same trials again.

    Parameters
    ----------
    trial : Trial
        Of Optuna. It reports epochs from step 0 on.
    monitor : str
        Measurement: "loss", "val_loss", "val_accuracy", or "val_..." of any metric.
    mode : {"auto", "min", "max"}
        Whether small or large values are good, as the study must see it too; "auto" decides by the name.
    interval : float
        Seconds between two reports.

    Raises
    ------
    ImportError
        If Optuna is missing.
    TypeError, ValueError
        If an argument is wrong.

    Examples
    --------
    >>> def objective(trial):
    ...     rate = trial.suggest_float("learning_rate", 1e-3, 1, log=True)
    ...     pruning = callbacks.OptunaPruning(trial, monitor="val_loss")
    ...     history = net.fit(X, y, learning_rate=rate, validation_fraction=0.2, callbacks=[pruning])
    ...     return history.val_loss[-1]
    """

    _target = "trial"

    def __init__(self, trial: Any, monitor: str = "val_loss", *, mode: Mode = "auto", interval: float = 0.5) -> None:
        try:
            import optuna  # noqa: F401
        except ImportError as error:
            raise ImportError("callbacks.OptunaPruning needs Optuna: pip install optuna") from error
        self.trial = _check_target("trial", trial, ("report", "should_prune"), "a trial of Optuna")
        direction(monitor, mode)
        self.monitor, self.mode = monitor, mode
        super().__init__(interval)

    def _forget(self) -> None:
        super()._forget()
        self._pruned_at = 0  # the epoch at which the pruner gave the trial up
        self._reported = 0

    def _begin(self, fit: FitState) -> None:
        check_monitor(self.monitor, fit.measures)
        study = getattr(self.trial, "study", None)  # a FixedTrial has none
        if study is None:
            return
        try:
            directions = [each.name for each in study.directions]
        except Exception as error:  # of its storage, which then fails later, too
            warn(f"OptunaPruning cannot read the study: {type(error).__name__}: {error}")
            return
        if len(directions) != 1:
            raise ValueError(f"the study has {len(directions)} objectives, but Optuna prunes only studies of one")
        wanted = "MAXIMIZE" if direction(self.monitor, self.mode) > 0 else "MINIMIZE"
        if directions[0] != wanted:
            raise ValueError(
                f"monitor {self.monitor!r} is to be {wanted.lower()}d, but the study has the direction "
                f"{directions[0].lower()!r}; choose another monitor, direction or mode"
            )

    def on_epoch_end(self, net: Any, fit: FitState) -> None:
        """Report the epoch if it is time to; raise `optuna.TrialPruned` if an earlier report has led to it."""
        super().on_epoch_end(net, fit)
        if self._pruned_at:
            from optuna import TrialPruned

            raise TrialPruned(f"trial was pruned at epoch {self._pruned_at}")

    def _is_due(self, fit: FitState) -> bool:
        since = fit.epoch - self._reported
        return super()._is_due(fit) and (not self.interval or fit.epoch % (1 << (since.bit_length() - 1)) == 0)

    def _rows(self, fit: FitState) -> list[_Row]:
        self._reported = fit.epoch
        return super()._rows(fit)[-1:]

    def _write(self, rows: Sequence[_Row], settings: Mapping[str, Any] | None, status: str) -> None:
        for row in rows:
            self.trial.report(row.measured[self.monitor], row.epoch - 1)
            if status == "RUNNING" and self.trial.should_prune():
                self._pruned_at = row.epoch


def _check_prefix(prefix: object) -> str:
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be a str such as 'fold1/', not {prefix!r}")
    return prefix

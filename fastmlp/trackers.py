"""Callbacks that report a fit to other programs: MLflow, TensorBoard, Weights & Biases, and Optuna's pruners."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastmlp.history import check_monitor, direction
from fastmlp.hooks import FitState
from fastmlp.interchange.mlflow import left_to_autolog
from fastmlp.options import Mode
from fastmlp.tracking import Row, Tracker
from fastmlp.validation.calls import advised_constructor, warn

__all__ = ["MLflow", "OptunaPruning", "TensorBoard", "WandB"]


@advised_constructor
class MLflow(Tracker):
    """Record the settings and measurements of a fit in MLflow.

    Parameters
    ----------
    run : str, Run or None, default=None
        The run or its id. None is the active run. If there is none, each fit starts a new run and ends it.
    prefix : str, default=""
        Prefix of the name of each measurement, such as "fold1/".
    interval : float, default=0.5
        Minimum time between two writes during the fit, in seconds. With 0, the fit waits for a write after each epoch.

    Attributes
    ----------
    run_id : str or None
        Id of the run of the last fit.

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
    ...     history = net.fit(X, y, callbacks=[callbacks.MLflow()])
    """

    def __init__(self, run: Any = None, *, prefix: str = "", interval: float = 0.5) -> None:
        try:
            import mlflow  # noqa: F401
        except ImportError as error:
            raise ImportError("callbacks.MLflow needs MLflow: pip install mlflow") from error
        run = getattr(getattr(run, "info", None), "run_id", run)
        if run is not None and not isinstance(run, str):
            raise TypeError(f"run must be a run of MLflow or its id, not {run!r}")
        self.run = run
        super().__init__(interval, prefix)

    def _forget(self) -> None:
        super()._forget()
        self.run_id: str | None = None
        self._owns = False  # whether the run is this tracker's
        self._left_out: set[str] = set()  # names of settings that MLflow itself records in the run

    def _begin(self, fit: FitState) -> None:
        import mlflow

        active = mlflow.active_run()
        active_id = None if active is None else active.info.run_id
        self.run_id = active_id if self.run is None else self.run
        self._owns = self.run_id is None
        if not self._owns and self.run_id == active_id:
            self._left_out = left_to_autolog()

    def _write(self, rows: Sequence[Row], settings: Mapping[str, Any] | None, status: str) -> None:
        import mlflow
        from mlflow.entities import Metric, Param

        client = mlflow.MlflowClient()
        if self.run_id is None:
            with mlflow.start_run() as run:  # which would also be the active run of this thread: leave it at once
                self.run_id = run.info.run_id
            client.update_run(self.run_id, status="RUNNING")
        run_id = self.run_id
        metrics = [
            Metric(re.sub(r"[^\w\-./ :]", "_", name), value, round(1000 * row.time), row.epoch)
            for row in rows
            for name, value in row.measured.items()
        ]
        for start in range(0, len(metrics), 1000):  # the most that MLflow takes at once
            client.log_batch(run_id, metrics[start : start + 1000])
        if settings is not None:  # MLflow refuses other values of those that an earlier fit has left in the run
            known = client.get_run(run_id).data.params.keys() | self._left_out
            new = [Param(name, str(value)) for name, value in settings.items() if name not in known]
            client.log_batch(run_id, params=new)
        if self._owns and status != "RUNNING":
            client.set_terminated(run_id, status)


@advised_constructor
class TensorBoard(Tracker):
    """Record the measurements of a fit for TensorBoard, and its settings as text.

    Parameters
    ----------
    writer : SummaryWriter
        Of PyTorch (`torch.utils.tensorboard`) or tensorboardX.
    prefix : str, default=""
        Prefix of the name of each measurement, such as "fold1/".
    interval : float, default=0.5
        Minimum time between two writes during the fit, in seconds. With 0, the fit waits for a write after each epoch.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong.

    Examples
    --------
    >>> from torch.utils.tensorboard import SummaryWriter
    >>> with SummaryWriter("runs/first") as writer:
    ...     history = net.fit(X, y, callbacks=[callbacks.TensorBoard(writer)])
    """

    _target, _methods, _expected = "writer", ("add_scalar", "add_text", "flush"), "a SummaryWriter"

    def __init__(self, writer: Any, *, prefix: str = "", interval: float = 0.5) -> None:
        self.writer = self._checked(writer)
        super().__init__(interval, prefix)

    def _write(self, rows: Sequence[Row], settings: Mapping[str, Any] | None, status: str) -> None:
        if settings is not None:
            lines = [f"| {name} | {value} |" for name, value in settings.items()]
            self.writer.add_text(f"{self.prefix}settings", "\n".join(["| setting | value |", "|---|---|", *lines]))
        for row in rows:
            for name, value in row.measured.items():
                self.writer.add_scalar(name, value, global_step=row.epoch, walltime=row.time)
        self.writer.flush()


@advised_constructor
class WandB(Tracker):
    """Record the settings and measurements of a fit in a run of Weights & Biases.

    The epoch is recorded too, and is the x axis of the charts. A run may record several fits.

    Parameters
    ----------
    run : Run
        The run that ``wandb.init()`` returns.
    prefix : str, default=""
        Prefix of the name of each measurement, such as "fold1/".
    interval : float, default=0.5
        Minimum time between two writes during the fit, in seconds. With 0, the fit waits for a write after each epoch.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong.

    Examples
    --------
    >>> import wandb
    >>> with wandb.init(project="digits") as run:
    ...     history = net.fit(X, y, callbacks=[callbacks.WandB(run)])
    """

    _target, _methods, _expected = "run", ("log", "define_metric"), "what wandb.init() returns"

    def __init__(self, run: Any, *, prefix: str = "", interval: float = 0.5) -> None:
        self.run = self._checked(run)
        super().__init__(interval, prefix)

    def _write(self, rows: Sequence[Row], settings: Mapping[str, Any] | None, status: str) -> None:
        epoch = f"{self.prefix}epoch"
        if settings is not None:
            self.run.config.setdefaults(dict(settings))
            self.run.define_metric(epoch)
            for name in rows[0].measured if rows else ():
                self.run.define_metric(name, step_metric=epoch)
        for row in rows:
            self.run.log({epoch: row.epoch, **row.measured})


@advised_constructor
class OptunaPruning(Tracker):
    """Report a measurement to Optuna, and end the fit if the pruner prunes the trial.

    `fit` then raises `optuna.TrialPruned`, as Optuna expects.

    If epochs are short, not all are reported, but the last one is. Reported epochs are multiples of powers of two, so
    that pruners can compare trials. With ``interval=0`` every epoch is reported, the fit waits for each report, and a
    seeded study prunes the same trials when it is repeated.

    Parameters
    ----------
    trial : optuna.Trial
        The trial. The first epoch is its step 0.
    monitor : str, default="val_loss"
        Name of the measurement: "loss", "val_loss", "val_accuracy", or ``"val_..."`` of any metric.
    mode : {"auto", "min", "max"}, default="auto"
        Whether small or large values are good; "auto" decides by the name. It must agree with the study's direction.
    interval : float, default=0.5
        Minimum time between two reports, in seconds.

    Raises
    ------
    ImportError
        If Optuna is missing.
    TypeError, ValueError
        If an argument is wrong.

    Examples
    --------
    >>> import optuna
    >>> def objective(trial):
    ...     rate = trial.suggest_float("learning_rate", 1e-3, 1, log=True)
    ...     pruning = callbacks.OptunaPruning(trial, monitor="val_loss")
    ...     history = net.fit(X, y, learning_rate=rate, validation_fraction=0.2, callbacks=[pruning])
    ...     return history.val_loss[-1]
    >>> study = optuna.create_study(pruner=optuna.pruners.MedianPruner())
    >>> study.optimize(objective, n_trials=3)
    """

    _target, _methods, _expected = "trial", ("report", "should_prune"), "a trial of Optuna"

    def __init__(self, trial: Any, monitor: str = "val_loss", *, mode: Mode = "auto", interval: float = 0.5) -> None:
        try:
            import optuna  # noqa: F401
        except ImportError as error:
            raise ImportError("callbacks.OptunaPruning needs Optuna: pip install optuna") from error
        self.trial = self._checked(trial)
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
        """Report the epoch if it is due; raise `optuna.TrialPruned` if an earlier report has pruned the trial."""
        super().on_epoch_end(net, fit)
        if self._pruned_at:
            from optuna import TrialPruned

            raise TrialPruned(f"trial was pruned at epoch {self._pruned_at}")

    def _is_due(self, fit: FitState) -> bool:
        since = fit.epoch - self._reported
        return super()._is_due(fit) and (not self.interval or fit.epoch % (1 << (since.bit_length() - 1)) == 0)

    def _rows(self, fit: FitState) -> list[Row]:
        self._reported = fit.epoch
        return super()._rows(fit)[-1:]

    def _write(self, rows: Sequence[Row], settings: Mapping[str, Any] | None, status: str) -> None:
        for row in rows:
            self.trial.report(row.measured[self.monitor], row.epoch - 1)
            if status == "RUNNING" and self.trial.should_prune():
                self._pruned_at = row.epoch

"""The solvers 'sgd' and 'adam' of the estimators, which train as those of scikit-learn do. 'lbfgs' is in `lbfgs.py`.

It differs from `Network.fit` in some ways. scikit-learn draws from a `RandomState`. Its losses are sums over the
outputs, or half of that. Its penalty is divided by the rows of the batch. Its momentum accumulates steps, not
gradients. After each epoch it decides whether to stop.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning

from fastmlp.activations import Floats
from fastmlp.engine.base import EpochTotals, StepPlan
from fastmlp.fitting import Fitting
from fastmlp.losses import Targets
from fastmlp.optimizers import Optimizer
from fastmlp.training import Trainer, TrainingState

__all__ = [
    "NOT_FINITE",
    "EstimatorFit",
    "Scale",
    "StochasticTrainer",
    "changes_momentum",
    "initial_parameters",
    "rescale_momentum",
    "scale_of",
]

Doubles = npt.NDArray[np.float64]

NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)

_MIN_RATE = 1e-6  # at which the adaptive learning rate stops


class Scale(NamedTuple):
    """scikit-learn's loss divided by the network's, and the same for the gradient."""

    loss: float
    gradient: float


def scale_of(output: str, n_outputs: int) -> Scale:
    """Return the scale for a kind of output. The network's loss is a mean over the outputs.

    For numbers, scikit-learn reports half the mean squared error, but its gradient is that of half the sum.
    """
    match output:
        case "softmax":
            return Scale(1.0, 1.0)
        case "identity":
            return Scale(0.5, n_outputs / 2)
    return Scale(n_outputs, n_outputs)


def initial_parameters(
    layers: Sequence[int], activations: Sequence[str], random: np.random.RandomState, dtype: npt.DTypeLike
) -> tuple[list[Floats], list[Floats]]:
    """Draw the first weights and biases from a uniform distribution (Glorot and Bengio, 2010).

    `activations` has one entry per layer. The bounds differ only for "logistic".
    """
    weights, biases = [], []
    for fan_in, fan_out, activation in zip(layers[:-1], layers[1:], activations, strict=True):
        bound = math.sqrt((2 if activation == "logistic" else 6) / (fan_in + fan_out))
        weights.append(random.uniform(-bound, bound, (fan_in, fan_out)).astype(dtype, copy=False))
        biases.append(random.uniform(-bound, bound, fan_out).astype(dtype, copy=False))
    return weights, biases


class EstimatorFit(Fitting):
    """A fit of an estimator by epochs."""

    def warnings(self) -> Iterator[tuple[str, type[Warning]]]:
        """Yield the words and the kind of each warning that is due after the fit."""
        trainer = self.trainer
        assert isinstance(trainer, StochasticTrainer)
        yield from trainer.warnings


@dataclass(kw_only=True)
class StochasticTrainer(Trainer):
    """Trains as scikit-learn's stochastic solvers do.

    Attributes
    ----------
    estimator : MLPClassifier or MLPRegressor
        Its parameters are the settings; its attributes get the results.
    random_state : RandomState
        Draws the order of the rows.
    scale : Scale
    monitor : str or None
        Measurement of the validation data that scores an epoch.
    incremental : bool
        Whether this is one epoch of `partial_fit`.
    prints : bool
        Whether to report epochs on stdout.
    validation_weights : (n_val,) array or None
    """

    estimator: Any
    random_state: np.random.RandomState
    scale: Scale
    monitor: str | None
    incremental: bool
    prints: bool
    validation_weights: Floats | None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._batch_rows = self._rows_of_batches(self.n_rows)
        self._losses: list[np.float64] = []  # of finished epochs that `_record_epochs` has not seen
        self._best = [parameter.copy() for parameter in self.engine.parameters] if self.early_stopping else []
        self._converged = False
        self.warnings: list[tuple[str, type[Warning]]] = []  # due after the fit

    @cached_property
    def _order(self) -> npt.NDArray[np.int64]:
        return np.arange(self.n_rows)

    def _rows_of_batches(self, n_rows: int) -> npt.NDArray[np.int64]:
        return np.diff(np.arange(0, n_rows, self.batch_size), append=n_rows)

    @property
    def parameters_to_keep(self) -> Sequence[Floats]:
        """The parameters that the estimator would have if training stopped now; the same list throughout."""
        return self._best or self.engine.parameters

    @property
    def early_stopping(self) -> bool:
        """Whether the score of the validation data decides when to stop."""
        return bool(self.estimator.early_stopping) and not self.incremental

    def run(self) -> None:
        """Train until the estimator has converged, all epochs are done, a callback says stop, or Ctrl-C."""
        try:
            super().run()
        except FloatingPointError as error:
            self._record_epochs()
            if not self.early_stopping:
                reason = error if self.history.steps else "the loss is not finite before the first step; scale X and y"
                raise ValueError(f"{NOT_FINITE} ({reason})") from error
            self._record_epoch(math.nan, math.nan)
            self.warnings.append((f"{error}; the parameters are those of the best epoch", ConvergenceWarning))
            self._converged = True
        for parameter, best in zip(self.engine.parameters, self._best, strict=False):
            parameter[...] = best
        if self.history.interrupted:
            self.warnings.append(("Training interrupted by user.", UserWarning))
        elif self.history.steps and (trouble := self.not_finite()) is not None:
            self.warnings.append((f"{trouble}; lower the learning rate, or scale X and y", ConvergenceWarning))
        elif not (self._converged or self.incremental) and self.estimator.n_iter_ == self.estimator.max_iter:
            n = self.estimator.max_iter
            what = f"Stochastic Optimizer: Maximum iterations ({n}) reached and the optimization hasn't converged yet."
            self.warnings.append((what, ConvergenceWarning))

    # --- epochs -------------------------------------------------------------------------------------------------------

    def _epochs_per_call(self) -> int:
        """Return how many epochs may pass before one of them could be the last, or change the learning rate."""
        falls = self._has_own_rate and self.estimator.learning_rate == "invscaling"
        if self.incremental or self.prints or falls or self.row_weights is not None:
            return 1
        patience = self.estimator.n_iter_no_change - self.estimator._no_improvement_count + 1
        return int(max(1, min(super()._epochs_per_call(), patience)))

    @property
    def _has_own_rate(self) -> bool:
        """Whether the learning rate changes as scikit-learn's `learning_rate` says."""
        return bool(self.estimator.solver == "sgd")

    def _permutations(self, n_epochs: int) -> npt.NDArray[np.int64]:
        """Shuffle the last order again for each epoch, to what `sklearn.utils.shuffle` returns."""
        order = np.empty((n_epochs, self.n_rows), np.int64)
        for permutation in order:
            if self.shuffle:
                self.random_state.shuffle(self._order)
            permutation[:] = self._order
        return order

    def _step_plan(self, order: npt.NDArray[np.int64], rates: Doubles) -> StepPlan:
        """Divide the penalty by the rows, or weights, of each batch, and the weights by their mean in the batch.

        Scaled weights leave the gradients unchanged, but the loss of an epoch is then the mean of its batches, weighted
        by their rows.
        """
        plan = super()._step_plan(order, rates)
        batch_rows = self._rows_of_batches(order.shape[1])
        totals = batch_rows.astype(np.float64)  # (n_batches,)
        if self.row_weights is not None:
            (permutation,) = order
            weights = self.row_weights.astype(np.float64)
            totals = np.add.reduceat(weights[permutation], np.cumsum(batch_rows) - batch_rows)
            means = np.repeat(totals / batch_rows, batch_rows)
            scaled = np.zeros_like(self.row_weights)
            scaled[permutation] = np.divide(weights[permutation], means, out=np.zeros_like(means), where=means > 0)
            plan = replace(plan, row_weights=scaled)
        if self.estimator.alpha:
            l2 = self.estimator.alpha / self.scale.gradient
            self._l2 = np.divide(l2, totals, out=np.zeros_like(totals), where=totals > 0)  # the same in each epoch
            plan = replace(plan, l2=np.concatenate([self._l2] * len(order)))
        return plan

    def _record(self, totals: EpochTotals, last_rates: Doubles) -> None:
        super()._record(totals, last_rates)
        self._losses = self._mean_losses(totals, self.fit.epoch - self._begun.epoch)

    def _validate(self, X: Any, y: Targets) -> None:
        super()._validate(X, y)
        if self.validation_weights is not None:
            losses, _ = self.engine.losses(X, y)
            self.history.val_loss[-1] = float(np.average(losses, weights=self.validation_weights))

    def _mean_losses(self, totals: EpochTotals, n_epochs: int) -> list[np.float64]:
        """Return for each epoch the mean over the rows of the loss of their batch, penalty included."""
        n_rows = self.n_rows
        losses = self.scale.loss * totals.losses[:n_epochs] / n_rows
        if self.estimator.alpha:  # `penalties` is a sum over steps, not rows; the weights hardly change between them
            penalties = self.scale.gradient * totals.penalties[:n_epochs] * (self._batch_rows @ self._l2)
            losses += penalties / (n_rows * self._l2.sum())
        return list(losses)

    def _end_epoch(self) -> None:
        self._record_epochs()
        before = self.state.learning_rate_factor
        super()._end_epoch()
        self.state.learning_rate_factor = before
        if self._has_own_rate:
            rescale_momentum(self.state, self.state.optimizer, self.fit.learning_rate_factor)
        self.state.learning_rate_factor = self.fit.learning_rate_factor

    # --- results ------------------------------------------------------------------------------------------------------

    def _record_epochs(self) -> None:
        """Record finished epochs. If there are several, only the last one can end the fit."""
        losses, self._losses = self._losses, []
        for loss in losses:
            score = None
            if self.monitor is not None:
                score = self.history[self.monitor][-1]
                score = -self.scale.loss * score if self.monitor == "val_loss" else score
            self._record_epoch(loss, score)
            self._check_convergence()

    def _record_epoch(self, loss: float, score: float | None) -> None:
        """Set the estimator's attributes, and count epochs without improvement."""
        estimator = self.estimator
        estimator.n_iter_ += 1
        estimator.t_ += self.n_rows
        estimator.loss_ = loss
        estimator.loss_curve_.append(loss)
        if self.prints:
            estimator._print(f"Iteration {estimator.n_iter_}, loss = {loss:.8f}")
        if score is not None:
            estimator.validation_scores_.append(score)
            val_loss = self.history.val_loss
            estimator.validation_loss_curve_.append(self.scale.loss * val_loss[-1] if score == score else math.nan)
            if self.prints:
                estimator._print(f"Validation score: {score:f}")
        if self.early_stopping:
            value, best = score, estimator.best_validation_score_
        else:
            value, best = -loss, -estimator.best_loss_
        if value < best + estimator.tol:
            estimator._no_improvement_count += 1
        else:
            estimator._no_improvement_count = 0
        if value > best:
            if self.early_stopping:
                estimator.best_validation_score_ = score
                self._best[:] = [parameter.copy() for parameter in self.engine.parameters]
            else:
                estimator.best_loss_ = loss

    def _check_convergence(self) -> None:
        """Stop, or lower the learning rate, after too many epochs without improvement."""
        estimator, fit = self.estimator, self.fit
        kind = estimator.learning_rate if self._has_own_rate else "constant"
        if kind == "invscaling":
            fit.learning_rate_factor = (estimator.t_ + 1) ** -estimator.power_t
        if estimator._no_improvement_count > estimator.n_iter_no_change:
            what = "Validation score did not improve" if self.early_stopping else "Training loss did not improve"
            message = f"{what} more than tol={estimator.tol:f} for {estimator.n_iter_no_change} consecutive epochs."
            rate = estimator.learning_rate_init * fit.learning_rate_factor
            if kind == "adaptive" and rate > _MIN_RATE:
                fit.learning_rate_factor /= 5
                estimator._no_improvement_count = 0
                message += f" Setting learning rate to {rate / 5:f}"
            else:
                fit.stop = self._converged = True
                message += " Learning rate too small. Stopping." if kind == "adaptive" else " Stopping."
            if self.prints:
                estimator._print(message)
        fit.stop = fit.stop or self.incremental


def rescale_momentum(state: TrainingState, optimizer: Optimizer, factor: float) -> None:
    """Change the velocities as scikit-learn's momentum requires when the learning rate changes.

    scikit-learn computes ``v = momentum * v - rate * g; w += v``. While the rate is constant, this v is `-rate` times
    the v of ``v = momentum * v + g; w -= rate * v``.
    """
    if changes_momentum(state, optimizer, factor):
        before, after = state.optimizer.learning_rate * state.learning_rate_factor, optimizer.learning_rate * factor
        for slots in state.optimizer_state:
            for slot in slots:
                slot *= before / after


def changes_momentum(state: TrainingState, optimizer: Optimizer, factor: float) -> bool:
    """Return whether the learning rate changes."""
    return state.optimizer.learning_rate * state.learning_rate_factor != optimizer.learning_rate * factor

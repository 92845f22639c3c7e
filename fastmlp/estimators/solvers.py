"""How scikit-learn's multilayer perceptrons learn, step by step, on the networks of this package.

The estimators of `fastmlp.estimators` choose among these solvers. What scikit-learn does otherwise than `Network.fit`:
it draws from a `RandomState`; its losses are sums over the outputs, or halves; its penalty is divided by the rows of
each batch; its momentum remembers steps, not gradients; and what an epoch has measured decides whether it is the last.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.optimizers import Optimizer
from fastmlp.training import Descent, Fit, Outcome, Progress

if TYPE_CHECKING:
    from fastmlp.losses import Targets
    from fastmlp.network import Network

__all__ = [
    "NOT_FINITE",
    "Scale",
    "StochasticFit",
    "change_rate",
    "initial_parameters",
    "minimize",
    "scale_of",
]

Doubles = npt.NDArray[np.float64]

NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)

_LEAST_RATE = 1e-6  # from which the adaptive learning rate gives up


class Scale(NamedTuple):
    """What scikit-learn's loss is, and what its gradient, in units of the network's."""

    loss: float
    gradient: float


def scale_of(output: str, n_outputs: int) -> Scale:
    """Return the scale for a kind of output, of which the network's loss is the mean over the outputs.

    Of numbers scikit-learn reports half the mean of the squared errors, and descends half their sum.
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
    """Draw the first weights and biases: uniform, with the bounds of Glorot and Bengio (2010).

    `activations` has one for each layer, of which only "logistic" is told from the others.
    """
    weights, biases = [], []
    for fan_in, fan_out, activation in zip(layers[:-1], layers[1:], activations, strict=True):
        bound = math.sqrt((2 if activation == "logistic" else 6) / (fan_in + fan_out))
        weights.append(random.uniform(-bound, bound, (fan_in, fan_out)).astype(dtype, copy=False))
        biases.append(random.uniform(-bound, bound, fan_out).astype(dtype, copy=False))
    return weights, biases


# --- sgd and adam -----------------------------------------------------------------------------------------------------


@dataclass
class StochasticFit(Fit):
    """A fit in the manner of scikit-learn.

    Attributes
    ----------
    estimator : MLPClassifier or MLPRegressor
        Its parameters say how, its attributes what has come of it.
    random : RandomState
        Draws the order of the rows.
    scale : Scale
    monitor : str or None
        What of the validation data scores an epoch.
    incremental : bool
        Whether it is one epoch of a longer way.
    prints : bool
        Whether epochs are reported on stdout.
    validation_weights : (n_val,) array or None
    """

    estimator: Any
    random: np.random.RandomState
    scale: Scale
    monitor: str | None
    incremental: bool
    prints: bool
    validation_weights: Floats | None

    def __post_init__(self) -> None:
        super().__post_init__()
        n_rows = len(self.y)
        self._order = np.arange(n_rows)
        self._starts = np.arange(0, n_rows, self.batch_size)
        self._rows = np.diff(self._starts, append=n_rows)
        self._losses: list[float] = []  # of finished epochs at which nobody has looked
        self._best = [parameter.copy() for parameter in self._parameters] if self.early_stopping else []
        self._done = False

    @property
    def early_stopping(self) -> bool:
        """Whether the score of validation data ends it."""
        return bool(self.estimator.early_stopping) and not self.incremental

    @property
    def _parameters(self) -> list[Floats]:
        return self.net._weights + self.net._biases

    def run(self) -> None:
        """Train until the estimator is content, its epochs are over, a callback says so, or Ctrl-C."""
        try:
            super().run()
        except FloatingPointError as error:
            self._look()
            if not self.early_stopping:
                raise ValueError(f"{NOT_FINITE} ({error})") from error
            self._note(math.nan, math.nan)
            warnings.warn(f"{error}; the parameters are those of the best epoch", self._warning, stacklevel=5)
            self._done = True
        for parameter, best in zip(self._parameters, self._best, strict=False):
            parameter[...] = best
        if self.state.history.interrupted:
            warnings.warn("Training interrupted by user.", stacklevel=5)
        elif not (self._done or self.incremental) and self.estimator.n_iter_ == self.estimator.max_iter:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.estimator.max_iter}) reached and the optimization "
                "hasn't converged yet.",
                self._warning,
                stacklevel=5,
            )

    @property
    def _warning(self) -> type[Warning]:
        from sklearn.exceptions import ConvergenceWarning

        warning: type[Warning] = ConvergenceWarning
        return warning

    # --- epochs -------------------------------------------------------------------------------------------------------

    def _at_once(self) -> int:
        """Return how many epochs may pass before one of them could be the last, or change the learning rate."""
        falls = self._follows and self.estimator.learning_rate == "invscaling"
        if self.incremental or self.prints or falls or self.row_weights is not None:
            return 1
        patience = self.estimator.n_iter_no_change - self.estimator._no_improvement_count + 1
        return int(max(1, min(super()._at_once(), patience)))

    @property
    def _follows(self) -> bool:
        """Whether the learning rate is one of scikit-learn's own kinds."""
        return bool(self.estimator.solver == "sgd")

    def _orders(self, n_epochs: int) -> npt.NDArray[np.int64]:
        """Shuffle the last order again for each epoch, as `sklearn.utils.shuffle` does."""
        orders = np.empty((n_epochs, len(self.y)), np.int64)
        for order in orders:
            if self.shuffle:
                drawn = np.arange(len(self.y))
                self.random.shuffle(drawn)
                self._order = self._order[drawn]
            order[:] = self._order
        return orders

    def _descent(self, orders: npt.NDArray[np.int64]) -> Descent:
        """Divide the penalty by the rows, or weights, of each batch, and the weights by their mean in it.

        That leaves the gradients as they are, but the loss of an epoch is the mean of its batches by their rows.
        """
        descent = super()._descent(orders)
        totals = np.tile(self._rows.astype(np.float64), (len(orders), 1))  # (n_epochs, n_batches)
        if self.row_weights is not None:
            (order,) = orders
            weights = self.row_weights.astype(np.float64)
            totals = np.add.reduceat(weights[order], self._starts)[None]
            means = np.repeat(totals[0] / self._rows, self._rows)
            balanced = np.zeros_like(self.row_weights)
            balanced[order] = np.divide(weights[order], means, out=np.zeros_like(means), where=means > 0)
            descent = replace(descent, row_weights=balanced)
        if self.estimator.alpha:
            l2 = self.estimator.alpha / self.scale.gradient
            self._l2 = np.divide(l2, totals, out=np.zeros_like(totals), where=totals > 0)
            descent = replace(descent, l2=self._l2.ravel())
        return descent

    def _record(self, outcome: Outcome, rates: Doubles, seconds: float) -> None:
        before = self.state.epoch
        try:
            super()._record(outcome, rates, seconds)
        finally:
            self._losses = [self._mean_loss(outcome, epoch) for epoch in range(self.state.epoch - before)]
        if self.validation is not None and self.validation_weights is not None and self._losses:
            losses, _ = self.net._losses(*self.validation)
            self.state.history.val_loss[-1] = float(np.average(losses, weights=self.validation_weights))

    def _mean_loss(self, outcome: Outcome, epoch: int) -> np.float64:
        """Return the mean over the rows of the loss of their batches, each with its penalty."""
        n_rows = len(self.y)
        loss = self.scale.loss * outcome.losses[epoch] / n_rows
        if self.estimator.alpha:  # by rows, where `penalties` is the sum over steps: their weights hardly change
            l2 = self._l2[epoch]
            loss += self.scale.gradient * outcome.penalties[epoch] * (self._rows @ l2) / (n_rows * l2.sum())
        return np.float64(loss)

    def _end_epoch(self) -> None:
        self._look()
        before = self.progress.learning_rate_factor
        super()._end_epoch()
        self.progress.learning_rate_factor = before
        if self._follows:
            change_rate(self.progress, self.progress.optimizer, self.state.learning_rate_factor)
        self.progress.learning_rate_factor = self.state.learning_rate_factor

    # --- what an epoch has come to ------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Look at finished epochs; if they are several, only the last may end the fit."""
        losses, self._losses = self._losses, []
        for loss in losses:
            score = None
            if self.monitor is not None:
                score = self.state.history[self.monitor][-1]
                score = -self.scale.loss * score if self.monitor == "val_loss" else score
            self._note(loss, score)
            self._judge()

    def _note(self, loss: float, score: float | None) -> None:
        """Note an epoch in the estimator's attributes, and count the epochs without an improvement."""
        estimator = self.estimator
        estimator.n_iter_ += 1
        estimator.t_ += len(self.y)
        estimator.loss_ = loss
        estimator.loss_curve_.append(loss)
        if self.prints:
            print(f"Iteration {estimator.n_iter_}, loss = {loss:.8f}")
        if score is not None:
            estimator.validation_scores_.append(score)
            history = self.state.history.val_loss
            estimator.validation_loss_curve_.append(self.scale.loss * history[-1] if score == score else math.nan)
            if self.prints:
                print(f"Validation score: {score:f}")
        if self.early_stopping:
            gained, best = score, estimator.best_validation_score_
        else:
            gained, best = -loss, -estimator.best_loss_
        if gained < best + estimator.tol:
            estimator._no_improvement_count += 1
        else:
            estimator._no_improvement_count = 0
        if gained > best:
            if self.early_stopping:
                estimator.best_validation_score_ = score
                self._best = [parameter.copy() for parameter in self._parameters]
            else:
                estimator.best_loss_ = loss

    def _judge(self) -> None:
        """End the fit, or lower the learning rate, where enough epochs have passed without an improvement."""
        estimator, state = self.estimator, self.state
        kind = estimator.learning_rate if self._follows else "constant"
        if kind == "invscaling":
            state.learning_rate_factor = (estimator.t_ + 1) ** -estimator.power_t
        if estimator._no_improvement_count > estimator.n_iter_no_change:
            what = "Validation score did not improve" if self.early_stopping else "Training loss did not improve"
            message = f"{what} more than tol={estimator.tol:f} for {estimator.n_iter_no_change} consecutive epochs."
            rate = estimator.learning_rate_init * state.learning_rate_factor
            if kind == "adaptive" and rate > _LEAST_RATE:
                state.learning_rate_factor /= 5
                estimator._no_improvement_count = 0
                message += f" Setting learning rate to {rate / 5:f}"
            else:
                state.stop = self._done = True
                message += " Learning rate too small. Stopping." if kind == "adaptive" else " Stopping."
            if self.prints:
                print(message)
        state.stop = state.stop or self.incremental


def change_rate(progress: Progress, optimizer: Optimizer, factor: float) -> None:
    """Let the memory of scikit-learn's momentum go on with another learning rate.

    scikit-learn has ``v = momentum * v - rate * g; w += v``. As long as the rate stays, that is `-rate` times the v of
    ``v = momentum * v + g; w -= rate * v``.
    """
    before = progress.optimizer.learning_rate * progress.learning_rate_factor
    after = optimizer.learning_rate * factor
    if before != after:
        for slots in progress.memory:
            for slot in slots:
                slot *= before / after


# --- lbfgs ------------------------------------------------------------------------------------------------------------


def minimize(
    net: Network,
    X: Any,
    y: Targets,
    row_weights: Floats | None,
    *,
    scale: float,
    l2: float,
    options: Mapping[str, float],
    say: Callable[[int, float], None] | None = None,
) -> Any:
    """Minimize `scale` times the loss of all rows, and ``l2 / 2 * sum(W**2)``, with SciPy's L-BFGS-B.

    Parameters
    ----------
    net : Network
        Without a penalty of its own; it has the best parameters in the end.
    X, y, row_weights : checked
    scale, l2 : float
    options : mapping
        Those of L-BFGS-B.
    say : function of iteration and loss, or None
        Called after each iteration.

    Returns
    -------
    OptimizeResult of SciPy
    """
    from scipy import optimize

    own = net._weights + net._biases
    ends = np.cumsum([parameter.size for parameter in own])
    weights = slice(ends[len(net._weights) - 1])
    iteration, last = 0, math.nan

    def fill(vector: Doubles) -> None:
        for parameter, values in zip(own, np.split(vector, ends[:-1]), strict=True):
            parameter[...] = values.reshape(parameter.shape)

    def loss_and_gradient(vector: Doubles) -> tuple[float, Doubles]:
        nonlocal last
        fill(vector)
        loss, dw, db = net._gradients(X, y, row_weights)
        gradient = scale * np.concatenate([g.ravel() for g in dw + db], dtype=np.float64)
        gradient[weights] += l2 * vector[weights]
        last = scale * loss + l2 / 2 * float(vector[weights] @ vector[weights])
        return last, gradient

    def each_iteration(_: Doubles) -> None:
        nonlocal iteration
        iteration += 1
        if say is not None:
            say(iteration, last)

    start = np.concatenate([parameter.ravel() for parameter in own], dtype=np.float64)
    with net._training():
        result = optimize.minimize(
            loss_and_gradient, start, method="L-BFGS-B", jac=True, options=dict(options), callback=each_iteration
        )
        fill(result.x)
    return result

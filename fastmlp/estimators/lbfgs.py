"""The solver 'lbfgs' of the estimators: L-BFGS-B of SciPy, on the loss of all rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils.optimize import _check_optimize_result

from fastmlp.activations import Floats
from fastmlp.bars import new_bar
from fastmlp.engine.base import Engine
from fastmlp.estimators.solvers import scale_of
from fastmlp.estimators.tasks import Tasks
from fastmlp.interrupts import finish
from fastmlp.losses import Targets
from fastmlp.network import Network
from fastmlp.validation.rows import row_weights

__all__ = ["check_lbfgs", "fit_lbfgs"]

Doubles = npt.NDArray[np.float64]


def check_lbfgs(estimator: Any, validation: object) -> None:
    """Refuse arguments that need epochs, which 'lbfgs' does not have, except those that scikit-learn ignores."""
    given = {
        "dropout": np.any(estimator.dropout),
        "callbacks": estimator.callbacks,
        "a schedule as learning_rate": not isinstance(estimator.learning_rate, str),
        "X_val": validation is not None,
    }
    for what, is_given in given.items():
        if is_given:
            raise ValueError(f"{what} is for solver='sgd', 'adam' or an optimizer, not 'lbfgs'")


def fit_lbfgs(estimator: Any, net: Network, X: Any, y: Targets, weights: Floats | None, tasks: Tasks | None) -> None:
    """Train the network of an estimator, and set `n_iter_` and `loss_`."""
    l2 = float(estimator.alpha / (len(y) if weights is None else weights.sum()))
    scale = scale_of(net.output, net.layers[-1])

    bar = new_bar(estimator.max_iter, "iteration") if estimator.verbose == 1 else None

    def report(iteration: int, loss: float) -> bool:
        if bar is not None:
            bar.show(iteration, "lbfgs", [f"loss {loss:.4f}"])
        elif estimator.verbose:
            estimator._print(f"Iteration {iteration}, loss = {loss:.8f}")
        stop = tasks is not None and tasks.end_subtask()
        if tasks is not None and not stop:
            tasks.begin_subtask("lbfgs-iter")
        return stop

    if tasks is not None:
        tasks.follow(net._engine.parameters)
        tasks.begin_subtask("lbfgs-iter")
    result = finish(
        lambda: net._alone(
            lambda: _minimize(
                net._engine,
                X,
                y,
                row_weights(weights, None, y, net._loss, net.dtype),
                scale=scale.gradient,
                l2=l2,
                options={"maxfun": estimator.max_fun, "maxiter": estimator.max_iter, "gtol": estimator.tol},
                report=report if estimator.verbose or tasks is not None else None,
            )
        ),
        lambda: None if bar is None else bar.close(),
    )
    if tasks is not None:
        tasks.drop_subtask()
    estimator.n_iter_ = _check_optimize_result("lbfgs", result, estimator.max_iter)
    penalty = l2 / 2 * sum(float(np.square(coef, dtype=np.float64).sum()) for coef in estimator.coefs_)
    estimator.loss_ = np.float64((result.fun - penalty) * scale.loss / scale.gradient + penalty)


class _Stopped(Exception):
    """Raised within `_minimize` to end it."""

    def __init__(self, vector: Doubles) -> None:
        self.vector = vector


def _minimize(
    engine: Engine,
    X: Any,
    y: Targets,
    row_weights: Floats | None,
    *,
    scale: float,
    l2: float,
    options: Mapping[str, float],
    report: Callable[[int, float], bool] | None = None,
) -> Any:
    """Minimize `scale` times the loss of all rows, plus ``l2 / 2 * sum(W**2)``, with SciPy's L-BFGS-B.

    Parameters
    ----------
    engine : Engine
        Its own l2 is 0. It has the best parameters in the end, or those of before if anything is raised.
    X, y, row_weights
        Checked.
    scale, l2 : float
    options : mapping
        Of L-BFGS-B.
    report : function of iteration and loss, or None
        Called after each iteration, when the engine has its parameters; returns whether to stop.

    Returns
    -------
    OptimizeResult of SciPy
    """
    from scipy import optimize

    own = engine.parameters
    ends = np.cumsum([parameter.size for parameter in own])
    weights = slice(ends[len(engine.weights) - 1])
    iteration, last = 0, math.nan

    def fill(vector: Doubles) -> None:
        for parameter, values in zip(own, np.split(vector, ends[:-1]), strict=True):
            parameter[...] = values.reshape(parameter.shape)

    def loss_and_gradient(vector: Doubles) -> tuple[float, Doubles]:
        nonlocal last
        fill(vector)
        loss, dw, db = engine.gradients(X, y, row_weights)
        gradient = scale * np.concatenate([g.ravel() for g in dw + db], dtype=np.float64)
        gradient[weights] += l2 * vector[weights]
        last = scale * loss + l2 / 2 * float(vector[weights] @ vector[weights])
        return last, gradient

    def each_iteration(vector: Doubles) -> None:
        nonlocal iteration
        iteration += 1
        if report is not None:
            fill(vector)
            if report(iteration, last):
                raise _Stopped(vector.copy())

    start = np.concatenate([parameter.ravel() for parameter in own], dtype=np.float64)
    try:
        result = optimize.minimize(
            loss_and_gradient, start, method="L-BFGS-B", jac=True, options=dict(options), callback=each_iteration
        )
    except _Stopped as stopped:
        result = optimize.OptimizeResult(x=stopped.vector, fun=last, nit=iteration, status=0, message="stopped")
    except BaseException:
        fill(start)
        raise
    fill(result.x)
    return result

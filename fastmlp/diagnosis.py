"""Likely reasons why a fit has diverged or learned nothing. Only what is suspicious is examined.

The check after a fit compares its last losses with those of a constant guess, for some microseconds. Only if they are
no better does it compute the outputs of some rows, in NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastmlp.activations import ACTIVATIONS, Floats
from fastmlp.engine.base import Engine
from fastmlp.losses import Loss, Targets

__all__ = ["ConvergenceWarning", "after_divergence", "loss_of_a_guess", "not_finite", "what_went_wrong"]

_ROWS = 2000  # about so many rows, evenly spaced, stand for all
_BRIEF = 2**28  # multiply-adds that NumPy does in 30 ms
_MANY_STEPS, _MANY_MORE = 100, 500  # after fewer steps (of one epoch: fewer than the second) the loss may still be high
_LONG_EPOCHS = 10  # until then a loss near a guess's is ordinary
_CLOSE = 0.95  # a loss above this part of a guess's is worth a look
_HUGE = 100.0  # and one of so many times a guess's is too high even after a few steps
_LARGE_INPUT, _SMALL_INPUT = 10.0, 0.01
_LARGE_WEIGHT, _LARGE_PARAMETER, _LARGE_Y = 1e3, 1e6, 100.0


class ConvergenceWarning(UserWarning):
    """A fit has learned nothing: its loss is no better than that of a constant guess, or it rose."""


class _Range(NamedTuple):
    low: float
    high: float

    @property
    def largest(self) -> float:
        return max(-self.low, self.high)

    def __str__(self) -> str:
        return f"{self.low:.3g} to {self.high:.3g}"


def _range_of(numbers: npt.NDArray[Any], scale: float = 1.0) -> _Range:
    """Return the smallest and the largest number, nan if there is one."""
    return _Range(float(numbers.min()) * scale, float(numbers.max()) * scale) if numbers.size else _Range(0.0, 0.0)


def _range_of_X(engine: Engine, X: Any) -> _Range:
    numbers, scale = (X if isinstance(X, np.ndarray) else X.data), engine.settings.input_scale
    found = _range_of(numbers, 1.0 if numbers.dtype == engine.settings.dtype else scale)
    return found if isinstance(X, np.ndarray) else _Range(min(found.low, 0.0), max(found.high, 0.0))


# --- a loss that is not finite ----------------------------------------------------------------------------------------


def after_divergence(engine: Engine, X: Any, y: Targets, first: bool) -> str:
    """Return what may help after a loss that is not finite; `first` if no step has been taken before."""
    of_X, of_y = _range_of_X(engine, X), _range_of(y)
    parameters = [_range_of(parameter).largest for parameter in engine.parameters]
    scale = []
    if not np.isfinite(of_X.largest):
        scale.append(f"X has {of_X.largest} now, so it was changed during the fit")
    elif of_X.largest > _LARGE_INPUT:
        scale.append(f"scale X, which has numbers from {of_X}")
    if not engine.settings.loss.classifies and of_y.largest > _LARGE_Y:
        scale.append(f"scale y, which has numbers from {of_y}")
    if not first:
        return "; or ".join(["lower learning_rate", *scale])
    if not all(largest < _LARGE_PARAMETER for largest in parameters):
        largest = float(np.max(parameters))
        scale.insert(0, f"make a new network: parameters of this one are as large as {largest:.3g} before any step")
    return "; or ".join(scale) or "parameters, X or y are too large before any step: make a new network or scale them"


def not_finite(
    engine: Engine, X: Any, y: Targets, row_weights: Floats | None, chosen: npt.NDArray[np.int64] | None
) -> str | None:
    """Return what is wrong if the last step, after which no loss was measured, has made a fit diverge; else None.

    The arguments are those of `what_went_wrong`.
    """
    high = np.maximum.reduce([np.maximum.reduce(parameter, axis=None) for parameter in engine.parameters])
    low = np.minimum.reduce([np.minimum.reduce(parameter, axis=None) for parameter in engine.parameters])
    if not (-np.inf < low and high < np.inf):
        return "the last step has made parameters infinite or nan"
    overflows = engine.settings.loss.name == "exp"  # in float32, exp of 100 does
    if not overflows and low > -_LARGE_WEIGHT and high < _LARGE_WEIGHT:
        return None
    X, y, weights = _some_of(X, y, row_weights, chosen)
    with np.errstate(all="ignore"):
        outputs, *_ = _outputs(engine, X)
        losses = engine.settings.loss.losses(outputs, y).astype(np.float64)
    bad = ~np.isfinite(losses) if weights is None else ~np.isfinite(losses) & (weights > 0)
    return f"the last step has made the loss {losses[bad][0]}" if bad.any() else None


# --- a fit that has learned nothing -----------------------------------------------------------------------------------


def loss_of_a_guess(loss: Loss, y: Targets, row_weights: Floats | None = None) -> float:
    """Return the mean loss of the best guess that is the same for every row."""
    weights = None if row_weights is None else row_weights.astype(np.float64)
    if loss.name == "softmax":
        counts = np.bincount(y, weights, loss.n_outputs)
        p = (1 - loss.label_smoothing) * counts / counts.sum() + loss.label_smoothing / loss.n_outputs
        return -float(p @ np.log(np.where(p > 0, p, 1)))
    mean: npt.NDArray[np.float64] = np.average(y.astype(np.float64), axis=0, weights=weights)
    if loss.name == "logistic":
        return float(-np.mean([p @ np.log(np.where(p > 0, p, 1)) for p in np.stack([mean, 1 - mean], axis=1)]))
    guess = mean if loss.name == "identity" else np.log(np.where(mean > 0, mean, 1))
    losses = loss.losses(np.broadcast_to(guess, y.shape), y)
    return float(np.average(losses, weights=weights))


def what_went_wrong(
    engine: Engine,
    X: Any,
    y: Targets,
    row_weights: Floats | None,
    chosen: npt.NDArray[np.int64] | None,
    losses: Sequence[float],
    n_steps: int,
    learning_rate: float,
) -> str | None:
    """Return the words of a warning if a fit has learned nothing, else None.

    Parameters
    ----------
    engine : Engine
        Has the parameters after the fit.
    X, y, row_weights
        Checked.
    chosen : (k,) int64 array or None
        On which of these rows it was trained; None is all.
    losses : sequence of float
        Of its epochs, each measured before the steps.
    n_steps : int
    learning_rate : float
    """
    if trouble := not_finite(engine, X, y, row_weights, chosen):
        return f"{trouble}; lower learning_rate and make a new network"
    many = n_steps >= (_MANY_STEPS if len(losses) > 1 else _MANY_MORE)
    long = many and len(losses) >= _LONG_EPOCHS
    if not losses or n_steps < 2:
        return None
    loss, first, last = engine.settings.loss, losses[0], losses[-1]
    X, targets, weights = _some_of(X, y, row_weights, chosen)
    if weights is not None and not weights.any():
        return None
    with np.errstate(all="ignore"):
        guess = loss_of_a_guess(loss, targets, weights)
        if not guess > 0:  # nothing to learn
            return None
        margin = guess * (0.1 if long else 1)
        if last < guess * (_CLOSE if many else _HUGE) and last <= first + margin:
            return None
        outputs, dead, n_hidden = _outputs(engine, X)
        final = float(np.average(loss.losses(outputs, targets).astype(np.float64), weights=weights))
        predicted = loss.predicted(outputs)
    rose = last > first + margin and not final <= first + margin
    constant = bool((predicted == predicted[0]).all())
    largest = max(_range_of(w).largest for w in engine.weights)
    broken = dead > n_hidden / 2 or largest > _LARGE_WEIGHT  # not only at the beginning, as means of counts may be
    if many and constant and loss.classifies:
        trouble = f"the network predicts {predicted[0]} for every row"
    elif not final < (0.999 if long else 2 if many else _HUGE) * guess and (many or rose or broken):
        trouble = f"the loss, {final:.4g}, is no better than that of a constant guess, {guess:.4g}"
    elif rose:
        trouble = f"the loss rose from {first:.4g} to {final:.4g}"
    else:
        return None
    hints = _hints(engine, X, targets)
    if dead:
        hints.append(f"{dead} of {n_hidden} hidden units are dead, 0 for every row")
    moved = not abs(final - first) < 0.01 * first
    advice = "may be too high" if moved or dead else "may be too low, or the epochs too few"
    return f"this fit has learned nothing: {'; '.join([trouble, *hints, f'learning_rate={learning_rate:g} {advice}'])}"


def _some_of(
    X: Any, y: Targets, row_weights: Floats | None, chosen: npt.NDArray[np.int64] | None
) -> tuple[Any, Targets, Floats | None]:
    """Return the rows that stand for all, with their targets and weights."""
    every = slice(None, None, -(-len(y if chosen is None else chosen) // _ROWS))
    rows = every if chosen is None else chosen[every]
    return X[rows], y[rows], None if row_weights is None else row_weights[rows]


def _hints(engine: Engine, X: Any, y: Targets) -> list[str]:
    """Return what is unusual about X and y."""
    hints, of_X = [], _range_of_X(engine, X)
    if of_X.largest > _LARGE_INPUT or of_X.largest < _SMALL_INPUT:
        hints.append(f"X has numbers from {of_X}: scale it to about -1 to 1")
    if not engine.settings.loss.classifies:
        of_y = _range_of(y)
        if of_y.largest > _LARGE_Y or of_y.largest < _SMALL_INPUT:
            hints.append(f"y has numbers from {of_y}: scale it to about -1 to 1")
    return hints


def _outputs(engine: Engine, X: Any) -> tuple[Floats, int, int]:
    """Return the outputs of the last layer, and how many of how many hidden units are 0 for each of these rows."""
    settings, dead, n_hidden = engine.settings, 0, 0
    if X.dtype != settings.dtype:
        X = X.astype(settings.dtype) * np.dtype(settings.dtype).type(settings.input_scale)
    for layer, (w, b) in enumerate(zip(engine.weights, engine.biases, strict=True)):
        z: Floats = _product(X, w) + b
        if layer < len(settings.activations):
            name = settings.activations[layer]
            X = ACTIVATIONS[name].value(z)
            if name == "relu":
                dead += int(np.count_nonzero(~X.any(axis=0)))
            n_hidden += X.shape[1]
    return z, dead, n_hidden


def _product(X: Any, w: Floats) -> Floats:
    """Return ``X @ w``, without BLAS if that is brief: its threads spin for another 0.1 s, on cores of the next fit."""
    is_brief = isinstance(X, np.ndarray) and X.size * w.shape[1] < _BRIEF
    product: Floats = np.einsum("ij,jk->ik", X, w) if is_brief else X @ w
    return product

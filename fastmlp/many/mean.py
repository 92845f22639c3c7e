"""Predictions of several networks as those of one: their mean, and how far they are apart.

Sums are over the networks in their order and in float64, so their bits do not depend on who computes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.engine.base import Engine
from fastmlp.losses import Targets

__all__ = ["MeanEngine", "mean_of"]

Doubles = npt.NDArray[np.float64]


def mean_of(arrays: Iterable[Floats]) -> Floats:
    """Return the mean of arrays of one shape and dtype, which are added up one after another."""
    total, n, dtype = np.zeros(()), 0, np.dtype(np.float64)
    with np.errstate(invalid="ignore"):  # inf of one network and -inf of another
        for array in arrays:
            total, n, dtype = total + array, n + 1, array.dtype
    mean: Floats = (total / n).astype(dtype)
    return mean


class MeanEngine:
    """Predicts the mean of some engines of the same settings. It has the methods of an `Engine` that only predict.

    Each engine uses all cores for its predictions, one engine after another. Their rows X are the same.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = engines
        self.settings = engines[0].settings

    def predict_proba(self, X: Any) -> Floats:
        """Return the mean probabilities."""
        return mean_of(engine.predict_proba(X) for engine in self._engines)

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return what is most probable, or the mean of numbers, in the form in which users pass y."""
        if self.settings.loss.classifies:
            return self._most_probable(self.predict_proba(X))
        return mean_of(engine.predict(X) for engine in self._engines)

    def _most_probable(self, p: Floats) -> npt.NDArray[np.int64]:
        loss = self.settings.loss
        if loss.name == "softmax":
            return np.asarray(p.argmax(axis=1))
        return np.asarray(loss.decode(p[:, 1:] > 0.5 if loss.n_outputs == 1 else p > 0.5))

    def losses(self, X: Any, y: Targets) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Return the loss of each row's mean prediction, and whether it is right."""
        loss, limits = self.settings.loss, np.finfo(self.settings.dtype)
        tiny, below_one = float(limits.tiny), float(limits.epsneg) / 2  # probabilities are rounded to 0 and 1
        if not loss.classifies:
            z = self.predict(X).reshape(len(y), -1).astype(np.float64)
            z = _log(z, tiny) if loss.name == "exp" else z
            with np.errstate(invalid="ignore", over="ignore"):
                return loss.losses(z, y), loss.correct(z, y)
        p = self.predict_proba(X)
        right = (self._most_probable(p) == loss.decode(y)).reshape(len(y), -1).all(axis=1)
        z = _log(p, tiny)  # the outputs of one network with these probabilities
        if loss.name == "logistic":
            z = z[:, 1:] - z[:, :1] if loss.n_outputs == 1 else z - _log(1 - p, below_one)
        return loss.losses(z, y), right

    def spread(self, X: Any) -> Doubles:
        """Return the Jensen-Shannon divergence between the engines' probabilities, or the deviation of numbers."""
        loss = self.settings.loss
        if not loss.classifies:
            return self.std(X)
        total = negentropy = np.zeros(())
        for engine in self._engines:
            p = engine.predict_proba(X).astype(np.float64)
            total, negentropy = total + p, negentropy + _negentropy(p, loss.n_classes)
        n = len(self._engines)
        divergence = negentropy / n - _negentropy(total / n, loss.n_classes)
        return np.asarray(np.maximum(divergence, 0))  # not minus a rounding error

    def std(self, X: Any) -> Doubles:
        """Return the standard deviation of the engines' numbers, in the form in which users pass y."""
        mean = squares = np.zeros(())
        with np.errstate(invalid="ignore", over="ignore"):
            for n, engine in enumerate(self._engines, 1):  # Welford (1962): nothing cancels beside a large mean
                numbers = engine.predict(X).astype(np.float64)
                away = numbers - mean
                mean = mean + away / n
                squares = squares + away * (numbers - mean)
        return np.asarray(np.sqrt(squares / len(self._engines)))


def _log(x: Floats, least: float) -> Doubles:
    """Return the logarithms in float64; none is below that of `least`."""
    return np.log(np.maximum(x.astype(np.float64), least))


def _negentropy(p: Doubles, n_classes: int) -> Doubles:
    """Return minus the entropy: of the classes of each row (n,), or of each label (n, C)."""
    terms = p * np.log(np.where(p > 0, p, 1))
    if n_classes:
        return np.asarray(terms.sum(axis=1))
    other = 1 - p
    return np.asarray(terms + other * np.log(np.where(other > 0, other, 1)))

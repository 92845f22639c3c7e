"""What the outputs of a network mean: the targets that it learns, its loss, and what it predicts.

`z` (B, C) are the sums of the last layer. A head knows the form of `y` that users hand in (`check_y` makes targets of
it), the loss of each row with its gradient side by side, and what `predict` and `predict_proba` return.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats, logistic
from fastmlp.validation.targets import check_numbers, check_two_classes, check_y

__all__ = ["HEADS", "Head", "Identity", "Logistic", "Poisson", "Softmax", "Targets", "cross_entropy", "softmax"]

Targets: TypeAlias = npt.NDArray[Any]
"""Classes (n,) int32 of a softmax; numbers (n, C) of the network's dtype for every other head."""


def softmax(z: Floats) -> Floats:
    """Return the probabilities (B, C) of `z` (B, C); subtracting the row's maximum keeps exp from overflowing."""
    e: Floats = np.exp(z - z.max(axis=1, keepdims=True))
    e /= e.sum(axis=1, keepdims=True)
    return e


def cross_entropy(z: Floats, y: Targets, label_smoothing: float = 0.0) -> Floats:
    """Return the losses (B,) of `z` (B, C) for the classes `y` (B,).

    That is log(sum(exp(z))) - z[y], and with label smoothing s, log(sum(exp(z))) - (1 - s) z[y] - s mean(z).
    """
    shifted = z - z.max(axis=1, keepdims=True)
    losses: Floats = np.log(np.exp(shifted).sum(axis=1)) - (1 - label_smoothing) * shifted[np.arange(len(y)), y]
    if label_smoothing:
        losses -= label_smoothing * shifted.mean(axis=1)
    return losses


@dataclass(frozen=True)
class Head(ABC):
    """What the outputs of a network mean.

    Attributes
    ----------
    n_outputs : int
    label_smoothing : float
        Of a softmax; 0 for the others.
    classifies : bool
        Whether rows have right answers, so that there is an accuracy.
    """

    n_outputs: int
    label_smoothing: float = 0.0
    classifies: ClassVar[bool] = True

    @abstractmethod
    def check_y(self, y: object, n_rows: int, dtype: npt.DTypeLike, name: str = "y") -> Targets:
        """Return what a user has handed in as targets, in an array that nobody else has."""

    @abstractmethod
    def losses(self, z: Floats, y: Targets) -> Floats:
        """Return the loss of each row, (B,)."""

    @abstractmethod
    def gradient(self, z: Floats, y: Targets) -> Floats:
        """Return the gradient of each row's loss, (B, C)."""

    @abstractmethod
    def predicted(self, z: Floats) -> npt.NDArray[Any]:
        """Return what `predict` does, in the form in which users hand in y."""

    @abstractmethod
    def probabilities(self, z: Floats) -> Floats:
        """Return what `predict_proba` does."""

    @abstractmethod
    def as_handed_in(self, y: Targets) -> npt.NDArray[Any]:
        """Return targets in the form in which `predict` returns them."""

    def hits(self, z: Floats, y: Targets) -> npt.NDArray[np.bool_]:
        """Return whether each row is predicted right, with all its labels."""
        right = (self.predicted(z) == self.as_handed_in(y)).reshape(len(z), -1)
        hits: npt.NDArray[np.bool_] = right.all(axis=1)
        return hits

    @property
    def n_classes(self) -> int:
        """Classes of which each row has one; 0 where rows have none or several."""
        return 0


class Softmax(Head):
    """Classes that exclude each other: softmax and cross-entropy."""

    def check_y(self, y: object, n_rows: int, dtype: npt.DTypeLike, name: str = "y") -> Targets:
        """Return classes (n,), from classes or one-hot rows."""
        return check_y(y, n_rows, self.n_outputs, name)

    def losses(self, z: Floats, y: Targets) -> Floats:
        """Return the cross-entropy."""
        return cross_entropy(z, y, self.label_smoothing)

    def gradient(self, z: Floats, y: Targets) -> Floats:
        """Return the probabilities less the target, which is (1 - s) one-hot + s / C with label smoothing s."""
        delta = softmax(z)
        delta[np.arange(len(y)), y] -= 1 - self.label_smoothing
        if self.label_smoothing:
            delta -= self.label_smoothing / self.n_outputs
        return delta

    def predicted(self, z: Floats) -> npt.NDArray[np.int64]:
        """Return the most probable class; of equal ones the first."""
        labels: npt.NDArray[np.int64] = z.argmax(axis=1).astype(np.int64)
        return labels

    def probabilities(self, z: Floats) -> Floats:
        """Return the probability of each class, (B, C)."""
        return softmax(z)

    def as_handed_in(self, y: Targets) -> npt.NDArray[Any]:
        """Return the classes (n,)."""
        return y

    @property
    def n_classes(self) -> int:
        """One for each output."""
        return self.n_outputs


class _ByColumns(Head):
    """Targets are (n, C) numbers; users see one column as (n,)."""

    def as_handed_in(self, y: Targets) -> npt.NDArray[Any]:
        """Return (n, C), and (n,) where there is one column."""
        return y[:, 0] if self.n_outputs == 1 else y


class Logistic(_ByColumns):
    """Each output says yes or no: two classes in one unit, or labels that do not exclude each other."""

    def check_y(self, y: object, n_rows: int, dtype: npt.DTypeLike, name: str = "y") -> Targets:
        """Return 0 and 1 (n, C)."""
        return check_two_classes(y, n_rows, self.n_outputs, dtype, name)

    def losses(self, z: Floats, y: Targets) -> Floats:
        """Return the mean over the units of -log of the probability of what is true, so that exp never overflows."""
        losses: Floats = (np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))).mean(axis=1)
        return losses

    def gradient(self, z: Floats, y: Targets) -> Floats:
        """Return the probabilities less the targets, divided by the number of units."""
        return (logistic(z) - y) / self.n_outputs

    def predicted(self, z: Floats) -> npt.NDArray[np.int64]:
        """Return 1 where the probability is above a half, else 0."""
        return self.as_handed_in(z > 0)

    def as_handed_in(self, y: Targets) -> npt.NDArray[Any]:
        """Return integers 0 and 1, (n, C), and (n,) of one unit."""
        return super().as_handed_in(y.astype(np.int64))

    def probabilities(self, z: Floats) -> Floats:
        """Return the probability of each label, (B, C); of one unit those of no and yes, (B, 2)."""
        p = logistic(z)
        return np.hstack([logistic(-z), p]) if self.n_outputs == 1 else p

    @property
    def n_classes(self) -> int:
        """Two of one unit."""
        return 2 if self.n_outputs == 1 else 0


class _Numbers(_ByColumns):
    """Outputs that are not right or wrong, but near or far."""

    classifies = False

    def probabilities(self, z: Floats) -> Floats:
        """Refuse."""
        raise TypeError("a network whose outputs are numbers has no probabilities; use predict")

    def hits(self, z: Floats, y: Targets) -> npt.NDArray[np.bool_]:
        """Return no hits: numbers are not right or wrong."""
        return np.zeros(len(z), np.bool_)


class Identity(_Numbers):
    """Numbers: squared error, the mean over rows and outputs."""

    def check_y(self, y: object, n_rows: int, dtype: npt.DTypeLike, name: str = "y") -> Targets:
        """Return numbers (n, C)."""
        return check_numbers(y, n_rows, self.n_outputs, dtype, name)

    def losses(self, z: Floats, y: Targets) -> Floats:
        """Return the mean over the outputs of (z - y)**2."""
        losses: Floats = ((z - y) ** 2).mean(axis=1)
        return losses

    def gradient(self, z: Floats, y: Targets) -> Floats:
        """Return 2 (z - y) / C."""
        return 2 * (z - y) / self.n_outputs

    def predicted(self, z: Floats) -> Floats:
        """Return the numbers."""
        return self.as_handed_in(z)


class Poisson(_Numbers):
    """Means of counts, exp(z): half the Poisson deviance, the mean over rows and outputs."""

    def check_y(self, y: object, n_rows: int, dtype: npt.DTypeLike, name: str = "y") -> Targets:
        """Return numbers of 0 or more (n, C)."""
        numbers = check_numbers(y, n_rows, self.n_outputs, dtype, name)
        if (numbers < 0).any():
            row = int(np.argmax((numbers < 0).any(axis=1)))
            raise ValueError(f"{name} has {numbers[row].min()} in row {row}, but counts are 0 or more")
        return numbers

    def losses(self, z: Floats, y: Targets) -> Floats:
        """Return the mean over the outputs of y log(y / p) - y + p, p = exp(z); y log y is 0 for y = 0."""
        entropy = y * np.log(np.where(y > 0, y, 1))
        losses: Floats = (entropy - y * z - y + np.exp(z)).mean(axis=1)
        return losses

    def gradient(self, z: Floats, y: Targets) -> Floats:
        """Return (p - y) / C."""
        return (np.exp(z) - y) / self.n_outputs

    def predicted(self, z: Floats) -> Floats:
        """Return the means."""
        return self.as_handed_in(np.exp(z))


HEADS: dict[str, type[Head]] = {"softmax": Softmax, "logistic": Logistic, "identity": Identity, "exp": Poisson}

Loss = Head

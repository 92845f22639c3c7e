"""Losses: what the outputs of a network mean, the loss of each row and its gradient, and what is predicted.

`z` (B, C) are the outputs of the last layer. `Loss.check_y` turns the `y` of users into targets; `Loss.decode` turns
targets back into that form.

To add a loss, write its class here and add it to `LOSSES`; `kernels/losses.py` has the same for the kernels, under the
same name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats, logistic
from fastmlp.validation.targets import check_numbers, check_two_classes, check_y

__all__ = ["LOSSES", "Identity", "Logistic", "Loss", "Poisson", "Softmax", "Targets", "cross_entropy", "softmax"]

Targets: TypeAlias = npt.NDArray[Any]
"""Classes (n,) int32 for a softmax; numbers (n, C) of the network's dtype for the others."""


def softmax(z: Floats) -> Floats:
    """Return the softmax of each row, computed so that exp never overflows.

    Parameters
    ----------
    z : (B, C) array
        Logits.

    Returns
    -------
    (B, C) array
        Probabilities, ``exp(z) / sum(exp(z))`` of each row.
    """
    e: Floats = np.exp(z - z.max(axis=1, keepdims=True))
    e /= e.sum(axis=1, keepdims=True)
    return e


def cross_entropy(z: Floats, y: Targets, label_smoothing: float = 0.0) -> Floats:
    """Return the cross-entropy of each row.

    Parameters
    ----------
    z : (B, C) array
        Logits.
    y : (B,) int array
        Classes.
    label_smoothing : float in [0, 1), default=0.0
        Label smoothing s.

    Returns
    -------
    (B,) array
        ``log(sum(exp(z))) - (1 - s) * z[y] - s * mean(z)`` of each row.
    """
    shifted = z - z.max(axis=1, keepdims=True)
    losses: Floats = np.log(np.exp(shifted).sum(axis=1)) - (1 - label_smoothing) * shifted[np.arange(len(y)), y]
    if label_smoothing:
        losses -= label_smoothing * shifted.mean(axis=1)
    return losses


@dataclass(frozen=True)
class Loss(ABC):
    """What the outputs of a network mean, and how far they are from the targets.

    Attributes
    ----------
    n_outputs : int
    label_smoothing : float
        For a softmax; 0 for the others.
    classifies : bool
        Whether there is an accuracy.
    name : str
        What `output` calls it.
    """

    n_outputs: int
    label_smoothing: float = 0.0
    classifies: ClassVar[bool] = True
    name: ClassVar[str]

    @property
    def kernel(self) -> str:
        """Name of its functions in `fastmlp.kernels.losses`."""
        return self.name

    @abstractmethod
    def check_y(self, y: object, n_rows: int, dtype: npt.DTypeLike, name: str = "y") -> Targets:
        """Return `y` as targets, in a new array; raise if it does not fit."""

    @abstractmethod
    def losses(self, z: Floats, y: Targets) -> Floats:
        """Return the loss of each row, (B,)."""

    @abstractmethod
    def gradient(self, z: Floats, y: Targets) -> Floats:
        """Return the gradient of each row's loss, (B, C)."""

    @abstractmethod
    def predicted(self, z: Floats) -> npt.NDArray[Any]:
        """Return what `predict` returns, in the form in which users pass y."""

    @abstractmethod
    def probabilities(self, z: Floats) -> Floats:
        """Return what `predict_proba` returns."""

    @abstractmethod
    def decode(self, y: Targets) -> npt.NDArray[Any]:
        """Return targets in the form in which users pass y."""

    def correct(self, z: Floats, y: Targets) -> npt.NDArray[np.bool_]:
        """Return whether each row is predicted right, in all its labels."""
        correct = (self.predicted(z) == self.decode(y)).reshape(len(z), -1)
        rows: npt.NDArray[np.bool_] = correct.all(axis=1)
        return rows

    @property
    def n_classes(self) -> int:
        """Number of classes if each row has exactly one, else 0."""
        return 0


class Softmax(Loss):
    """Mutually exclusive classes: softmax and cross-entropy."""

    name = "softmax"

    @property
    def kernel(self) -> str:
        """Smoothed labels have their own functions."""
        return "smoothed softmax" if self.label_smoothing else self.name

    def check_y(self, y: object, n_rows: int, dtype: npt.DTypeLike, name: str = "y") -> Targets:
        """Return classes (n,) from classes or one-hot rows."""
        return check_y(y, n_rows, self.n_outputs, name)

    def losses(self, z: Floats, y: Targets) -> Floats:
        """Return the cross-entropy."""
        return cross_entropy(z, y, self.label_smoothing)

    def gradient(self, z: Floats, y: Targets) -> Floats:
        """Return the probabilities minus the target; with label smoothing s that is (1 - s) one-hot + s / C."""
        delta = softmax(z)
        delta[np.arange(len(y)), y] -= 1 - self.label_smoothing
        if self.label_smoothing:
            delta -= self.label_smoothing / self.n_outputs
        return delta

    def predicted(self, z: Floats) -> npt.NDArray[np.int64]:
        """Return the most probable class, the first of several."""
        labels: npt.NDArray[np.int64] = z.argmax(axis=1).astype(np.int64)
        return labels

    def probabilities(self, z: Floats) -> Floats:
        """Return the probability of each class, (B, C)."""
        return softmax(z)

    def decode(self, y: Targets) -> npt.NDArray[Any]:
        """Return the classes (n,)."""
        return y

    @property
    def n_classes(self) -> int:
        """Return the number of outputs."""
        return self.n_outputs


class _ByColumns(Loss):
    """Targets are (n, C) numbers; users pass (n,) if there is one column."""

    def decode(self, y: Targets) -> npt.NDArray[Any]:
        """Return (n, C), or (n,) if there is one column."""
        return y[:, 0] if self.n_outputs == 1 else y


class Logistic(_ByColumns):
    """0 or 1 for each output: two classes in one output, or multilabel."""

    name = "logistic"

    def check_y(self, y: object, n_rows: int, dtype: npt.DTypeLike, name: str = "y") -> Targets:
        """Return 0 and 1 (n, C)."""
        return check_two_classes(y, n_rows, self.n_outputs, dtype, name)

    def losses(self, z: Floats, y: Targets) -> Floats:
        """Return the binary cross-entropy, the mean over the outputs, written so that exp never overflows."""
        losses: Floats = (np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))).mean(axis=1)
        return losses

    def gradient(self, z: Floats, y: Targets) -> Floats:
        """Return (p - y) / C."""
        return (logistic(z) - y) / self.n_outputs

    def predicted(self, z: Floats) -> npt.NDArray[np.int64]:
        """Return 1 where p > 0.5, else 0."""
        return self.decode(z > 0)

    def decode(self, y: Targets) -> npt.NDArray[Any]:
        """Return integers 0 and 1, (n, C), or (n,) if there is one output."""
        return super().decode(y.astype(np.int64))

    def probabilities(self, z: Floats) -> Floats:
        """Return the probability of each label, (B, C), or of both classes of a single output, (B, 2)."""
        p = logistic(z)
        return np.hstack([logistic(-z), p]) if self.n_outputs == 1 else p

    @property
    def n_classes(self) -> int:
        """Return 2 if there is one output."""
        return 2 if self.n_outputs == 1 else 0


class _Numbers(_ByColumns):
    """Regression: a prediction is not right or wrong, so there is no accuracy."""

    classifies = False

    def probabilities(self, z: Floats) -> Floats:
        """Raise TypeError."""
        raise TypeError("a network whose outputs are numbers has no probabilities; use predict")

    def correct(self, z: Floats, y: Targets) -> npt.NDArray[np.bool_]:
        """Return False for each row."""
        return np.zeros(len(z), np.bool_)


class Identity(_Numbers):
    """Numbers: squared error."""

    name = "identity"

    def check_y(self, y: object, n_rows: int, dtype: npt.DTypeLike, name: str = "y") -> Targets:
        """Return numbers (n, C)."""
        return check_numbers(y, n_rows, self.n_outputs, dtype, name)

    def losses(self, z: Floats, y: Targets) -> Floats:
        """Return the mean over the outputs of (z - y)**2, in float64: beside a large y, float32 hides steps of z."""
        losses: Floats = (np.subtract(z, y, dtype=np.float64) ** 2).mean(axis=1)
        return losses

    def gradient(self, z: Floats, y: Targets) -> Floats:
        """Return 2 (z - y) / C."""
        return 2 * (z - y) / self.n_outputs

    def predicted(self, z: Floats) -> Floats:
        """Return the numbers."""
        return self.decode(z)


class Poisson(_Numbers):
    """Means of counts, exp(z): half the Poisson deviance."""

    name = "exp"

    def check_y(self, y: object, n_rows: int, dtype: npt.DTypeLike, name: str = "y") -> Targets:
        """Return numbers of 0 or more (n, C)."""
        numbers = check_numbers(y, n_rows, self.n_outputs, dtype, name)
        if (numbers < 0).any():
            row = int(np.argmax((numbers < 0).any(axis=1)))
            raise ValueError(f"{name} has {numbers[row].min()} in row {row}, but counts are 0 or more")
        return numbers

    def losses(self, z: Floats, y: Targets) -> Floats:
        """Return the mean over the outputs of y log(y / p) - y + p with p = exp(z), in float64; 0 log 0 is 0."""
        means = np.exp(z)
        y, z = y.astype(np.float64), z.astype(np.float64)
        losses: Floats = (y * (np.log(np.where(y > 0, y, 1)) - z) + np.exp(z) - y).mean(axis=1)
        return np.where(np.isfinite(means).all(axis=1), losses, np.inf)  # as `gradient` is

    def gradient(self, z: Floats, y: Targets) -> Floats:
        """Return (p - y) / C."""
        return (np.exp(z) - y) / self.n_outputs

    def predicted(self, z: Floats) -> Floats:
        """Return the means."""
        return self.decode(np.exp(z))


LOSSES: dict[str, type[Loss]] = {loss.name: loss for loss in (Softmax, Logistic, Identity, Poisson)}
"""The loss of each ``output`` of a network."""

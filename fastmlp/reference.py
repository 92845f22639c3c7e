"""The same network in plain NumPy, as a textbook writes it: what the kernels are compared with.

Dimensions: `B` rows of a batch, `I` fan-in, `O` fan-out, `C` classes, `L` layers.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.network import Floats, Labels, Network, Outcome

__all__ = ["MLP", "backward", "cross_entropy", "forward", "logistic", "relu", "softmax"]

_SECONDS_PER_HOOK = 0.05
_PREDICT_ROWS = 4096  # rows predicted together, so that memory does not grow with X

_quiet = np.errstate(over="ignore", invalid="ignore")  # a network that diverges shows it by its loss


# --- the mathematics --------------------------------------------------------------------------------------------------


def relu(z: Floats) -> Floats:
    """Return max(z, 0)."""
    a: Floats = np.maximum(z, 0)
    return a


def logistic(z: Floats) -> Floats:
    """Return 1 / (1 + exp(-z)), written so that exp never overflows."""
    e = np.exp(-np.abs(z))
    a: Floats = np.where(z >= 0, 1, e) / (1 + e)
    return a


def _activate(z: Floats, activation: str) -> Floats:
    return relu(z) if activation == "relu" else logistic(z)


def _slope(a: Floats, activation: str) -> Floats:
    """Return the derivative of an activation, from its output `a`; that of relu is 0 where a is 0."""
    return a > 0 if activation == "relu" else a * (1 - a)


def softmax(logits: Floats) -> Floats:
    """Return the probabilities (B, C) of `logits` (B, C); subtracting the row's maximum keeps exp from overflowing."""
    e: Floats = np.exp(logits - logits.max(axis=1, keepdims=True))
    e /= e.sum(axis=1, keepdims=True)
    return e


def cross_entropy(logits: Floats, y: Labels) -> Floats:
    """Return the losses (B,) of `logits` (B, C) for the classes `y` (B,): log(sum(exp(logits))) - logits[y]."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    losses: Floats = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(y)), y]
    return losses


def forward(x: Floats, weights: list[Floats], biases: list[Floats], activation: str) -> list[Floats]:
    """Return the input (B, I), the activations (B, O) of each hidden layer, and the logits (B, C), in that order."""
    outputs = [x]
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        outputs.append(_activate(outputs[-1] @ w + b, activation))
    outputs.append(outputs[-1] @ weights[-1] + biases[-1])
    return outputs


def backward(
    outputs: list[Floats], y: Labels, weights: list[Floats], activation: str
) -> tuple[list[Floats], list[Floats]]:
    """Return the gradients of the mean loss: one dW (I, O) and one db (O,) for each layer.

    Parameters
    ----------
    outputs : list of arrays
        What `forward` has returned.
    y : (B,) int32 array
        Classes.
    """
    dw, db = [], []
    delta = softmax(outputs[-1])  # (B, C), becomes the gradient of the logits
    delta[np.arange(len(y)), y] -= 1
    delta /= len(y)
    for layer in reversed(range(len(weights))):
        dw.append(outputs[layer].T @ delta)
        db.append(delta.sum(axis=0))
        if layer > 0:
            delta = delta @ weights[layer].T * _slope(outputs[layer], activation)
    return dw[::-1], db[::-1]


# --- the network ------------------------------------------------------------------------------------------------------


class MLP(Network):
    """The network of `fastmlp.MLP` in plain NumPy, with the same arguments, methods, first parameters and batches.

    Numbers differ from those of `fastmlp.MLP` only by the order in which floating-point sums are taken. `n_threads` and
    `first_layer` are ignored: NumPy's BLAS has threads of its own, and computes with every zero.
    """

    def _allocate(self) -> tuple[list[Floats], list[Floats]]:
        shapes = list(itertools.pairwise(self.layers))
        return [np.zeros(shape, self.dtype) for shape in shapes], [np.zeros(o, self.dtype) for _, o in shapes]

    @_quiet
    def _train(
        self,
        outcome: Outcome,
        data: Any,
        y: Labels,
        orders: npt.NDArray[np.int64],
        batch_size: int,
        learning_rate: float,
        on_step: Callable[[int], bool] | None = None,
    ) -> None:
        last_look = time.perf_counter()
        for epoch, order in enumerate(orders):
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                x, labels = self._numbers(data[rows]), y[rows]
                outputs = forward(x, self._weights, self._biases, self.activation)
                loss = float(cross_entropy(outputs[-1], labels).sum(dtype=np.float64))
                if not math.isfinite(loss):
                    outcome.bad_loss = loss
                    return
                dw, db = backward(outputs, labels, self._weights, self.activation)
                for parameter, gradient in zip(self._weights + self._biases, dw + db, strict=True):
                    parameter -= learning_rate * gradient
                outcome.losses[epoch] += loss
                outcome.hits[epoch] += np.count_nonzero(outputs[-1].argmax(axis=1) == labels)
                outcome.steps += 1
                if on_step is not None and time.perf_counter() - last_look > _SECONDS_PER_HOOK:
                    last_look = time.perf_counter()
                    if not on_step(outcome.steps):
                        return

    @_quiet
    def _gradients(self, X: Any, y: Labels) -> tuple[float, list[Floats], list[Floats]]:
        outputs = forward(self._numbers(X), self._weights, self._biases, self.activation)
        loss = float(cross_entropy(outputs[-1], y).mean(dtype=np.float64))
        return loss, *backward(outputs, y, self._weights, self.activation)

    @_quiet
    def _losses(self, X: Any, y: Labels) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        logits = self._logits(X)
        return cross_entropy(logits, y), logits.argmax(axis=1) == y

    @_quiet
    def _probabilities(self, X: Any) -> Floats:
        return softmax(self._logits(X))

    @_quiet
    def _predicted(self, X: Any) -> npt.NDArray[np.int64]:
        labels: npt.NDArray[np.int64] = self._logits(X).argmax(axis=1).astype(np.int64)
        return labels

    def _logits(self, X: Any) -> Floats:
        """Return the logits (n, C) of all rows."""
        blocks = (self._numbers(X[i : i + _PREDICT_ROWS]) for i in range(0, X.shape[0], _PREDICT_ROWS))
        return np.concatenate([forward(x, self._weights, self._biases, self.activation)[-1] for x in blocks])

    def _numbers(self, X: Any) -> Floats:
        """Return rows of a checked X as numbers: bytes scaled, CSR rows with their zeros."""
        dense: npt.NDArray[Any] = X if isinstance(X, np.ndarray) else X.toarray()
        return dense if dense.dtype == self.dtype else dense * np.dtype(self.dtype).type(self.input_scale)

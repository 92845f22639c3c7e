"""The same network in plain NumPy, as a textbook writes it: what the kernels are compared with.

Dimensions: `B` rows of a batch, `I` fan-in, `O` fan-out, `C` classes, `L` layers.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fastmlp.activations import ACTIVATIONS, Floats, logistic, per_layer, relu
from fastmlp.losses import Loss, Softmax, Targets, cross_entropy, softmax
from fastmlp.network import Network
from fastmlp.optimizers import at_step
from fastmlp.random import NOISE_LAYER, kept, normal_noise, row_keys
from fastmlp.training import Clipping, Descent, Outcome

__all__ = ["MLP", "backward", "clip", "cross_entropy", "forward", "logistic", "relu", "softmax"]

_SECONDS_PER_HOOK = 0.05
_PREDICT_ROWS = 4096  # rows predicted together, so that memory does not grow with X

Masks: TypeAlias = Sequence[Floats | None]
"""Factors (B, I) of the inputs of each layer, 0 or 1 / (1 - dropout); None where nothing is left out."""

_quiet = np.errstate(over="ignore", invalid="ignore")  # a network that diverges shows it by its loss


# --- the mathematics --------------------------------------------------------------------------------------------------


def forward(
    x: Floats,
    weights: Sequence[Floats],
    biases: Sequence[Floats],
    activation: str | Sequence[str],
    masks: Masks | None = None,
) -> list[Floats]:
    """Return the input (B, I) and the sums z (B, O) of each layer, in that order; the last are the outputs."""
    sums = [x]
    for layer, (w, b) in enumerate(zip(weights, biases, strict=True)):
        sums.append(_inputs(sums, layer, len(weights), activation, masks) @ w + b)
    return sums


def _inputs(
    sums: Sequence[Floats], layer: int, n_layers: int, activation: str | Sequence[str], masks: Masks | None
) -> Floats:
    """Return the inputs (B, I) of a layer, from the sums of the layer before."""
    h = sums[layer]
    if layer > 0:
        h = ACTIVATIONS[per_layer(activation, n_layers - 1)[layer - 1]].value(h)
    mask = None if masks is None else masks[layer]
    return h if mask is None else h * mask


def backward(
    sums: Sequence[Floats],
    y: Targets,
    weights: Sequence[Floats],
    activation: str | Sequence[str],
    head: Loss | None = None,
    row_weights: Floats | None = None,
    masks: Masks | None = None,
) -> tuple[list[Floats], list[Floats]]:
    """Return the gradients of the mean loss: one dW (I, O) and one db (O,) for each layer.

    Parameters
    ----------
    sums : list of arrays
        What `forward` has returned.
    y : (B,) int32 array of classes, or what else the head takes
    head : Loss or None
        None is a softmax.
    row_weights : (B,) array or None
        Of each row's loss.
    masks : list of arrays or None
        Those of `forward`.
    """
    dw: list[Floats] = []
    db: list[Floats] = []
    n_layers = len(weights)
    delta = (head or Softmax(sums[-1].shape[1])).gradient(sums[-1], y)  # (B, C), gradient of each row's loss
    if row_weights is None:
        delta /= len(y)
    else:
        delta *= row_weights[:, None] / row_weights.sum()
    for layer in reversed(range(n_layers)):
        dw.append(_inputs(sums, layer, n_layers, activation, masks).T @ delta)
        db.append(delta.sum(axis=0))
        if layer > 0:
            delta = delta @ weights[layer].T
            if masks is not None and masks[layer] is not None:
                delta *= masks[layer]
            delta *= ACTIVATIONS[per_layer(activation, n_layers - 1)[layer - 1]].slope(sums[layer])
    return dw[::-1], db[::-1]


def clip(gradients: Sequence[Floats], clipping: Clipping) -> None:
    """Bound the gradients in place: each number, then the 2-norm of all of them, as PyTorch does."""
    if clipping.value is not None:
        for g in gradients:
            np.clip(g, -clipping.value, clipping.value, out=g)
    if clipping.norm is not None:
        norm = math.sqrt(_sum_of_squares(gradients))
        for g in gradients:
            g *= min(1.0, clipping.norm / (norm + 1e-6))


def _sum_of_squares(arrays: Sequence[Floats]) -> float:
    return float(sum(np.square(array, dtype=np.float64).sum() for array in arrays))


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
        y: Targets,
        orders: npt.NDArray[np.int64],
        batch_size: int,
        descent: Descent,
        on_step: Callable[[int], bool] | None = None,
    ) -> None:
        last_look = time.perf_counter()
        for epoch, order in enumerate(orders):
            for start in range(0, len(order), batch_size):
                if not self._step(outcome, data, y, order[start : start + batch_size], epoch, descent):
                    return
                if on_step is not None and time.perf_counter() - last_look > _SECONDS_PER_HOOK:
                    last_look = time.perf_counter()
                    if not on_step(outcome.steps):
                        return

    def _step(
        self, outcome: Outcome, data: Any, y: Targets, rows: npt.NDArray[np.int64], epoch: int, descent: Descent
    ) -> bool:
        """Take one step, unless its loss is not finite; return whether it was."""
        x, masks = self._disturbed(self._numbers(data[rows]), rows, descent.epoch + epoch)
        weights = None if descent.row_weights is None else descent.row_weights[rows]
        sums = forward(x, self._weights, self._biases, self.activation, masks)
        losses = self._head.losses(sums[-1], y[rows])
        loss = float((losses if weights is None else weights * losses).sum(dtype=np.float64))
        l2 = self.l2 if descent.l2 is None else float(descent.l2[outcome.steps])
        penalty = self._penalty(l2)
        if not math.isfinite(loss + penalty):
            outcome.bad_loss = loss + penalty
            return False
        if weights is None or weights.any():
            dw, db = self._backward(sums, y[rows], weights, l2, masks)
            clip(dw + db, descent.clipping)
            coefficients = at_step(descent.coefficients, outcome.steps)
            for parameter, gradient, state in zip(self._weights + self._biases, dw + db, descent.memory, strict=True):
                descent.optimizer.update(parameter, gradient, state, coefficients)
            outcome.penalties[epoch] += penalty
        outcome.losses[epoch] += loss
        outcome.hits[epoch] += np.count_nonzero(self._head.correct(sums[-1], y[rows]))
        outcome.steps += 1
        return True

    def _disturbed(self, x: Floats, rows: npt.NDArray[np.int64], epoch: int) -> tuple[Floats, list[Floats | None]]:
        """Return the inputs with noise, and the masks of dropout, for these rows of X in this epoch."""
        seed = self._regularization_seed
        if self.input_noise:
            noise = self.input_noise * normal_noise(row_keys(seed, epoch, rows, NOISE_LAYER), x.shape[1])
            x = x + noise.astype(self.dtype)
        masks: list[Floats | None] = []
        for layer, (n_units, rate) in enumerate(zip(self.layers[:-1], self.dropout_rates, strict=True)):
            scale = np.dtype(self.dtype).type(1 / (1 - rate))
            masks.append(kept(row_keys(seed, epoch, rows, layer), n_units, rate) * scale if rate else None)
        return x, masks

    def _penalty(self, l2: float) -> float:
        """Return l2 / 2 times the sum of the squares of all weights."""
        return l2 / 2 * _sum_of_squares(self._weights) if l2 else 0.0

    def _backward(
        self, sums: list[Floats], y: Targets, row_weights: Floats | None, l2: float, masks: Masks | None = None
    ) -> tuple[list[Floats], list[Floats]]:
        """Return the gradients of the mean loss and the penalty."""
        dw, db = backward(sums, y, self._weights, self.activation, self._head, row_weights, masks)
        if l2:
            for g, w in zip(dw, self._weights, strict=True):
                g += l2 * w
        return dw, db

    @_quiet
    def _gradients(self, X: Any, y: Targets, row_weights: Floats | None) -> tuple[float, list[Floats], list[Floats]]:
        sums = forward(self._numbers(X), self._weights, self._biases, self.activation)
        loss = np.average(self._head.losses(sums[-1], y).astype(np.float64), weights=row_weights)
        return float(loss) + self._penalty(self.l2), *self._backward(sums, y, row_weights, self.l2)

    @_quiet
    def _losses(self, X: Any, y: Targets) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        outputs = self._outputs(X)
        return self._head.losses(outputs, y), self._head.correct(outputs, y)

    @_quiet
    def _probabilities(self, X: Any) -> Floats:
        return self._head.probabilities(self._outputs(X))

    @_quiet
    def _predicted(self, X: Any) -> npt.NDArray[Any]:
        return self._head.predicted(self._outputs(X))

    def _outputs(self, X: Any) -> Floats:
        """Return the outputs (n, C) of all rows."""
        blocks = (self._numbers(X[i : i + _PREDICT_ROWS]) for i in range(0, X.shape[0], _PREDICT_ROWS))
        return np.concatenate([forward(x, self._weights, self._biases, self.activation)[-1] for x in blocks])

    def _numbers(self, X: Any) -> Floats:
        """Return rows of a checked X as numbers: bytes scaled, CSR rows with their zeros."""
        dense: npt.NDArray[Any] = X if isinstance(X, np.ndarray) else X.toarray()
        return dense if dense.dtype == self.dtype else dense * np.dtype(self.dtype).type(self.input_scale)

"""The network in plain NumPy, written like a textbook. Tests compare the kernels with it.

Dimensions: `B` rows of a batch, `I` fan-in, `O` fan-out, `C` classes.
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
from fastmlp.engine.base import Clipping, Engine, EpochTotals, Settings, StepPlan
from fastmlp.losses import Loss, Softmax, Targets, cross_entropy, softmax
from fastmlp.network import Network
from fastmlp.optimizers import at_step
from fastmlp.random import NOISE_LAYER, kept, normal_noise, row_keys
from fastmlp.validation.calls import advised_constructor

__all__ = ["MLP", "backward", "clip", "cross_entropy", "forward", "logistic", "relu", "softmax"]

_SECONDS_PER_HOOK = 0.05
_PREDICT_ROWS = 4096  # predicted at a time, so that memory does not grow with X

Masks: TypeAlias = Sequence[Floats | None]
"""Dropout masks: for each layer the factors (B, I) of its inputs, 0 or 1 / (1 - dropout), or None without dropout."""

_quiet = np.errstate(over="ignore", invalid="ignore")  # a network that diverges reports it through its loss


# --- the mathematics --------------------------------------------------------------------------------------------------


def forward(
    x: Floats,
    weights: Sequence[Floats],
    biases: Sequence[Floats],
    activation: str | Sequence[str],
    masks: Masks | None = None,
) -> list[Floats]:
    """Compute the forward pass.

    Parameters
    ----------
    x : (B, I) array
        Rows of a batch.
    weights, biases : list of (I, O) arrays, list of (O,) arrays
        Parameters of each layer.
    activation : str or sequence of str
        Activation of the hidden layers.
    masks : list of (B, I) arrays, or None, default=None
        Dropout masks: for each layer the factors of its inputs, 0 or 1 / (1 - dropout), or None.

    Returns
    -------
    list of arrays
        ``[x, z of the first layer, ..., z of the last]``, where z (B, O) are the sums before the activation.
    """
    sums = [x]
    for layer, (w, b) in enumerate(zip(weights, biases, strict=True)):
        sums.append(_inputs(sums, layer, len(weights), activation, masks) @ w + b)
    return sums


def _inputs(
    sums: Sequence[Floats], layer: int, n_layers: int, activation: str | Sequence[str], masks: Masks | None
) -> Floats:
    """Return the inputs (B, I) of a layer: activation and dropout of the sums before it."""
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
    """Compute the gradients of the mean loss.

    Parameters
    ----------
    sums : list of arrays
        The result of `forward`.
    y : array
        Targets as the loss takes them; for softmax (B,) int32 classes.
    weights : list of (I, O) arrays
        Weights, as for `forward`.
    activation : str or sequence of str
        Activation, as for `forward`.
    head : Loss or None, default=None
        Output activation and loss. None is softmax with cross-entropy.
    row_weights : (B,) array or None, default=None
        Weight of each row's loss.
    masks : list of (B, I) arrays, or None, default=None
        Dropout masks, as for `forward`.

    Returns
    -------
    dW : list of (I, O) arrays
        Gradient with respect to the weights of each layer.
    db : list of (O,) arrays
        Gradient with respect to the biases of each layer.
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
    """Clip gradients in place, as PyTorch does: first each element, then the 2-norm of all of them.

    Parameters
    ----------
    gradients : sequence of arrays
        Gradients of all parameters.
    clipping : Clipping
        Limits of the elements and of the norm.
    """
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


class NumPyEngine(Engine):
    """Computes with the functions above.

    It ignores `n_threads` and `first_layer`: NumPy's BLAS has its own threads and multiplies by every zero.
    """

    def __init__(self, settings: Settings, n_threads: int | None) -> None:
        super().__init__(settings, n_threads)
        shapes = list(itertools.pairwise(settings.layers))
        self.weights = [np.zeros(shape, settings.dtype) for shape in shapes]
        self.biases = [np.zeros(fan_out, settings.dtype) for _, fan_out in shapes]

    @_quiet
    def train(
        self,
        totals: EpochTotals,
        rows: Any,
        y: Targets,
        order: npt.NDArray[np.int64],
        batch_size: int,
        plan: StepPlan,
        on_step: Callable[[int], bool] | None = None,
    ) -> None:
        """Take one step for each batch of each epoch."""
        last_call = time.perf_counter()
        for epoch, permutation in enumerate(order):
            for start in range(0, len(permutation), batch_size):
                if not self._step(totals, rows, y, permutation[start : start + batch_size], epoch, plan):
                    return
                if on_step is not None and time.perf_counter() - last_call > _SECONDS_PER_HOOK:
                    last_call = time.perf_counter()
                    if not on_step(totals.steps):
                        return

    def _step(
        self, totals: EpochTotals, rows: Any, y: Targets, batch: npt.NDArray[np.int64], epoch: int, plan: StepPlan
    ) -> bool:
        """Take one step unless its loss is not finite; return whether it was taken."""
        loss_of = self.settings.loss
        x, masks = self._perturbed(self._numbers(rows[batch]), batch, plan.seed, plan.epoch + epoch)
        weights = None if plan.row_weights is None else plan.row_weights[batch]
        sums = forward(x, self.weights, self.biases, self.settings.activations, masks)
        losses = loss_of.losses(sums[-1], y[batch])
        loss = float((losses if weights is None else weights * losses).sum(dtype=np.float64))
        l2 = self.settings.l2 if plan.l2 is None else float(plan.l2[totals.steps])
        penalty = self._penalty(l2)
        mean = loss / (len(batch) if weights is None else float(weights.sum(dtype=np.float64)) or 1.0)
        if mean > np.finfo(self.settings.dtype).max:
            loss = math.inf  # training stops before gradients overflow
        if not math.isfinite(loss + penalty):
            totals.bad_loss = loss + penalty
            return False
        if weights is None or weights.any():
            dw, db = self._backward(sums, y[batch], weights, l2, masks)
            clip(dw + db, plan.clipping)
            coefficients = at_step(plan.coefficients, totals.steps)
            for parameter, gradient, state in zip(self.parameters, dw + db, plan.state, strict=True):
                plan.optimizer.update(parameter, gradient, state, coefficients)
            totals.penalties[epoch] += penalty
        totals.losses[epoch] += loss
        totals.correct[epoch] += np.count_nonzero(loss_of.correct(sums[-1], y[batch]))
        totals.steps += 1
        return True

    def _perturbed(
        self, x: Floats, rows: npt.NDArray[np.int64], seed: int, epoch: int
    ) -> tuple[Floats, list[Floats | None]]:
        """Return the inputs with noise, and the dropout masks, for these rows of X in this epoch."""
        settings = self.settings
        if settings.input_noise:
            noise = settings.input_noise * normal_noise(row_keys(seed, epoch, rows, NOISE_LAYER), x.shape[1])
            x = x + noise.astype(settings.dtype)
        masks: list[Floats | None] = []
        for layer, (n_units, rate) in enumerate(zip(settings.layers[:-1], settings.dropout_rates, strict=True)):
            scale = np.dtype(settings.dtype).type(1 / (1 - rate))
            masks.append(kept(row_keys(seed, epoch, rows, layer), n_units, rate) * scale if rate else None)
        return x, masks

    def _penalty(self, l2: float) -> float:
        """Return l2 / 2 times the sum of the squares of all weights."""
        return l2 / 2 * _sum_of_squares(self.weights) if l2 else 0.0

    def _backward(
        self, sums: list[Floats], y: Targets, row_weights: Floats | None, l2: float, masks: Masks | None = None
    ) -> tuple[list[Floats], list[Floats]]:
        """Return the gradients of the mean loss plus the penalty."""
        settings = self.settings
        dw, db = backward(sums, y, self.weights, settings.activations, settings.loss, row_weights, masks)
        if l2:
            for g, w in zip(dw, self.weights, strict=True):
                g += l2 * w
        return dw, db

    @_quiet
    def gradients(self, X: Any, y: Targets, row_weights: Floats | None) -> tuple[float, list[Floats], list[Floats]]:
        """Backpropagate through all rows at once."""
        settings = self.settings
        sums = forward(self._numbers(X), self.weights, self.biases, settings.activations)
        loss = np.average(settings.loss.losses(sums[-1], y).astype(np.float64), weights=row_weights)
        return float(loss) + self._penalty(settings.l2), *self._backward(sums, y, row_weights, settings.l2)

    @_quiet
    def losses(self, X: Any, y: Targets) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Return the loss of each row, and whether it is predicted right."""
        outputs = self._outputs(X)
        return self.settings.loss.losses(outputs, y), self.settings.loss.correct(outputs, y)

    @_quiet
    def predict_proba(self, X: Any) -> Floats:
        """Return probabilities."""
        return self.settings.loss.probabilities(self._outputs(X))

    @_quiet
    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return predictions in the form of y."""
        return self.settings.loss.predicted(self._outputs(X))

    def _outputs(self, X: Any) -> Floats:
        """Return the outputs (n, C) of all rows."""
        blocks = (self._numbers(X[i : i + _PREDICT_ROWS]) for i in range(0, X.shape[0], _PREDICT_ROWS))
        return np.concatenate([forward(x, self.weights, self.biases, self.settings.activations)[-1] for x in blocks])

    def _numbers(self, X: Any) -> Floats:
        """Return checked rows as floats: bytes are scaled, CSR rows become dense."""
        dense: npt.NDArray[Any] = X if isinstance(X, np.ndarray) else X.toarray()
        dtype = np.dtype(self.settings.dtype)
        return dense if dense.dtype == dtype else dense * dtype.type(self.settings.input_scale)


@advised_constructor
class MLP(Network):
    """`fastmlp.MLP` in plain NumPy, with the same arguments, methods, initial parameters and batches.

    Its numbers differ from those of `fastmlp.MLP` only by the order in which floating-point sums are taken.
    """

    _engine_class = NumPyEngine

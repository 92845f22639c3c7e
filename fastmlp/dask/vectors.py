"""Parameters and the optimizer's state as one vector, which travels in one piece."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.engine.base import Engine, StepPlan
from fastmlp.optimizers import at_step
from fastmlp.reference import clip

__all__ = ["all_arrays", "average", "descend", "fill", "flat"]

_AT_ONCE = 2**13  # numbers: they stay in the cache, and their memory is not asked of the system again each time


def flat(arrays: Sequence[Floats], out: Floats | None = None) -> Floats:
    """Return all numbers of some arrays in one, `out` if it is given; padding stays behind."""
    return np.concatenate([array.ravel() for array in arrays], out=out)


def fill(arrays: Sequence[Floats], vector: npt.NDArray[np.floating]) -> None:
    """Write what `flat` has returned, or a mean of such vectors, into the arrays."""
    start = 0
    for array in arrays:
        array[...] = vector[start : start + array.size].reshape(array.shape)
        start += array.size


def all_arrays(engine: Engine, state: Sequence[Sequence[Floats]]) -> list[Floats]:
    """Return the parameters, and the optimizer's state slot by slot."""
    return engine.parameters + [array for slot in zip(*state, strict=True) for array in slot]


def average(vectors: Sequence[Floats], weights: Sequence[float], out: Floats) -> None:
    """Write the mean of vectors by their weights, computed in float64 and in their order. Equal vectors are the mean.

    Each number of the mean depends on the same number of the vectors alone, so parts may be averaged one by one.
    """
    total = sum(weights)
    for start in range(0, len(out), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        first = vectors[0][part].astype(np.float64)
        mean, change = first.copy(), np.empty_like(first)
        for vector, weight in zip(vectors[1:], weights[1:], strict=True):
            if weight:
                np.subtract(vector[part], first, out=change)
                change *= weight / total
                mean += change
        out[part] = mean


def descend(vector: Floats, summed: Floats, n_weights: int, plan: StepPlan, step: int) -> float | None:
    """Take a step in place, and return the penalty before it; None without a step if a loss is not finite.

    Parameters
    ----------
    vector : (k,) array
        Parameters, of which the first `n_weights` are weights, and the optimizer's state slot by slot.
    summed : (n_parameters + 2,) array
        Sum of what `Shard.gradient` has returned.
    n_weights : int
    plan : StepPlan
    step : int
        Of this plan.
    """
    parameters, *slots = np.split(vector, 1 + plan.optimizer.slots)
    weights, weight, l2 = parameters[:n_weights], summed[-2], 0.0 if plan.l2 is None else float(plan.l2[step])
    penalty = l2 / 2 * float(np.square(weights, dtype=np.float64).sum()) if l2 else 0.0
    if not np.isfinite(weight + penalty):
        return None
    if not weight:
        return 0.0
    gradient = summed[:-2] / weight
    if l2:
        gradient[:n_weights] += l2 * weights
    clip([gradient], plan.clipping)
    plan.optimizer.update(parameters, gradient, slots, at_step(plan.coefficients, step))
    return penalty

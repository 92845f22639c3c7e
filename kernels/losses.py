"""Losses: for each meaning of a network's outputs, the loss fused with its gradient, and the answers of a prediction.

The losses of some rows replace their outputs ``z`` in place by deltas, `inv_weight` times the row's weight times the
gradient of its loss. They store each loss times its weight, and whether the row is predicted right. Lanes beyond the
outputs become 0. ``sources[row]`` is the row's place in X, and in `targets`: a class for a softmax, a number for each
output for the others.

`fastmlp/losses.py` has the same in NumPy, under the same names. To add a loss, write its formula and its gradient, and
list it in `LOSSES` in both files. The softmax and its gradient are in `softmax.py`.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from numpy import float64

from .jit import kernel, part
from .simd import maximum, where
from .softmax import (
    add_logs,
    argmax,
    index_of,
    largest_of,
    largest_of_rows,
    softmax,
    softmax_loss,
    softmax_of_rows,
)
from .trace import formula
from .vector_ops import (
    first_lanes,
    lane,
    lane_count,
    load,
    load_part,
    reduce_add,
    set_lane,
    splat,
    squared_distance,
    store,
)
from .vmath import exp, exp_of_any, log1p, logistic

add = formula(lambda a, b: a + b)
subtract = formula(lambda a, b: a - b)
multiply = formula(lambda a, b: a * b)


@part
def weight_of(row_weights, source):
    """Return the weight of a row of X; it is 1 if there are no weights."""
    return float(row_weights[source]) if len(row_weights) > 0 else 1.0


def each_row(row_loss):
    """Build the losses of some rows, one by one."""

    def losses(
        row_losses, out_at, z, n_out, targets, row_weights, sources, first_row, last_row, inv_weight, smoothing
    ):  # fmt: skip
        for row in range(first_row, last_row):
            source, at = sources[row], z.at + row * z.pitch
            weight = weight_of(row_weights, source)
            loss, correct = row_loss(z.buffer, at, n_out, targets, source, inv_weight * weight, smoothing)
            row_losses.loss[out_at + row], row_losses.correct[out_at + row] = loss * weight, correct

    return losses


def mean_loss(loss_of, gradient_of, is_wrong):
    """Build the loss of one row that is the mean over its outputs of ``loss_of(z, y)``, from three formulas.

    The row is right where ``is_wrong(z, y)`` is 0 for each of its outputs.
    """
    loss_of, gradient_of, is_wrong = formula(loss_of), formula(gradient_of), formula(is_wrong)

    @part
    def row_loss(z, at, n_out, targets, row, scale, smoothing):
        """Return the loss, and whether the row is right; replace its outputs by `scale` times the gradient."""
        lanes, loss, wrong = lane_count(z), splat(z, 0.0), splat(z, 0.0)
        for o in range(0, n_out, lanes):
            value, y = load(z, at + o), load_part(targets, row * n_out + o, n_out - o)
            loss = add(loss, first_lanes(loss_of(value, y), n_out - o, 0.0))
            wrong = add(wrong, first_lanes(is_wrong(value, y), n_out - o, 0.0))
            store(z, at + o, first_lanes(multiply(gradient_of(value, y), scale / n_out), n_out - o, 0.0))
        return float(reduce_add(loss)) / n_out, reduce_add(wrong) == 0.0

    return row_loss


# Classes -------------------------------------------------------------------------------------------------------------

softmax_losses_left = part(each_row(softmax_loss))


@kernel
def softmax_losses(
    row_losses, out_at, z, n_out, targets, row_weights, sources, first_row, last_row, inv_weight, smoothing
):  # fmt: skip
    """Compute the losses of a softmax for as many rows at once as a vector has lanes, then for the rows left."""
    buffer, lanes, row = z.buffer, lane_count(z.buffer), first_row
    while row + lanes <= last_row:
        start, out, weights = z.at + row * z.pitch, out_at + row, splat(buffer, inv_weight)
        largest = largest_of_rows(buffer, start, z.pitch, n_out)
        for i in range(lanes):
            source, place = sources[row + i], start + i * z.pitch
            label, top = targets[source], lane(largest, i)
            row_losses.correct[out + i] = index_of(buffer, place, n_out, top) == label
            row_losses.loss[out + i] = float(top) - float(buffer[place + label])
            weights = set_lane(weights, i, inv_weight * weight_of(row_weights, source))
        add_logs(row_losses.loss, out, softmax_of_rows(buffer, start, z.pitch, n_out, largest, weights))
        for i in range(lanes):
            source = sources[row + i]
            buffer[start + i * z.pitch + targets[source]] -= lane(weights, i)
            row_losses.loss[out + i] *= weight_of(row_weights, source)
        row += lanes
    softmax_losses_left(
        row_losses, out_at, z, n_out, targets, row_weights, sources, row, last_row, inv_weight, smoothing
    )


@part
def smoothed_loss(z, at, n_out, targets, row, scale, smoothing):
    """Return the loss of a softmax with label smoothing: the part `smoothing` of the target is spread over all classes.

    See Szegedy et al. (2016).
    """
    lanes, label, largest = lane_count(z), targets[row], largest_of(z, at, n_out)
    total = splat(z, 0.0)
    for o in range(0, n_out, lanes):
        total = add(total, subtract(first_lanes(load(z, at + o), n_out - o, largest), splat(z, largest)))
    above_mean = (float(z[at + label]) - float(largest)) - float(reduce_add(total)) / n_out
    loss, correct = softmax_loss(z, at, n_out, targets, row, scale, smoothing)
    for o in range(0, n_out, lanes):
        moved = subtract(load(z, at + o), splat(z, scale * smoothing / n_out))
        store(z, at + o, first_lanes(moved, n_out - o, 0.0))
    z[at + label] += scale * smoothing
    return loss + smoothing * above_mean, correct


@part
def softmax_probabilities(out, row, z, at, n_out):
    """Write the probabilities of the classes."""
    softmax(z, at, n_out, largest_of(z, at, n_out), 1.0)
    numbers(out, row, z, at, n_out)


@part
def softmax_labels(out, row, z, at, n_out):
    """Write the most probable class."""
    out[row] = argmax(z, at, n_out)


# Yes or no for each output -------------------------------------------------------------------------------------------

logistic_loss = mean_loss(
    loss_of=lambda z, y: maximum(0.0, z) - z * y + log1p(exp(-maximum(z, -z))),  # binary cross-entropy
    gradient_of=lambda z, y: logistic(z) - y,
    is_wrong=lambda z, y: where(z > 0.0, 1.0 - y, y),
)
logistic_of, logistic_of_minus = formula(logistic), formula(lambda z: logistic(-z))


@part
def logistic_probabilities(out, row, z, at, n_out):
    """Write the probability of yes for each output; of one output, those of no and yes."""
    if n_out == 1:
        value = load(z, at)
        store(z, at, logistic_of_minus(value))
        out[2 * row] = z[at]
        store(z, at, logistic_of(value))
        out[2 * row + 1] = z[at]
        return
    for o in range(0, n_out, lane_count(z)):
        store(z, at + o, logistic_of(load(z, at + o)))
    numbers(out, row, z, at, n_out)


@part
def logistic_labels(out, row, z, at, n_out):
    """Write 1 where yes is more probable than no, else 0."""
    for o in range(n_out):
        out[row * n_out + o] = z[at + o] > 0.0


# Numbers -------------------------------------------------------------------------------------------------------------

squared_slope = formula(lambda z, y: 2.0 * (z - y))


@part
def squared_loss(z, at, n_out, targets, row, scale, smoothing):
    """Return the mean of ``(z - y)**2`` in float64: beside a large y, float32 hides how far z has moved."""
    loss = 0.0
    for o in range(0, n_out, lane_count(z)):
        value, y = first_lanes(load(z, at + o), n_out - o, 0.0), load_part(targets, row * n_out + o, n_out - o)
        loss += squared_distance(value, y)
        store(z, at + o, multiply(squared_slope(value, y), scale / n_out))
    return loss / n_out, False


@part
def numbers(out, row, z, at, n_out):
    """Write the outputs."""
    for o in range(n_out):
        out[row * n_out + o] = z[at + o]


# Means of counts -----------------------------------------------------------------------------------------------------

mean_of = formula(exp_of_any)
above_target = formula(lambda z, y: exp_of_any(z) - y)


@part
def poisson_loss(z, at, n_out, targets, row, scale, smoothing):
    """Return the mean of ``y log(y / p) + p - y`` with ``p = exp(z)``, half the deviance; its gradient is ``p - y``.

    The loss is computed in float64, since for a large y it is the difference of large numbers. It is infinite if a mean
    is infinite in float32.
    """
    loss, total = 0.0, splat(z, 0.0)
    for o in range(n_out):
        value, y = float64(z[at + o]), float64(targets[row * n_out + o])
        loss += math.exp(value) - y
        if y > 0.0:
            loss += y * (math.log(y) - value)
    for o in range(0, n_out, lane_count(z)):
        above = above_target(load(z, at + o), load_part(targets, row * n_out + o, n_out - o))
        above = first_lanes(above, n_out - o, 0.0)
        total = add(total, above)
        store(z, at + o, multiply(above, scale / n_out))
    if not math.isfinite(reduce_add(total)):
        loss = math.inf
    return loss / n_out, False


@part
def means(out, row, z, at, n_out):
    """Write the means of the counts."""
    for o in range(0, n_out, lane_count(z)):
        store(z, at + o, mean_of(load(z, at + o)))
    numbers(out, row, z, at, n_out)


class Loss(NamedTuple):
    """The losses of some rows, and the answers for one row: numbers such as probabilities, and integers."""

    losses: Callable[..., Any]
    numbers: Callable[..., None]
    labels: Callable[..., None]


LOSSES = {
    "softmax": Loss(softmax_losses, softmax_probabilities, softmax_labels),
    "smoothed softmax": Loss(kernel(each_row(smoothed_loss)), softmax_probabilities, softmax_labels),
    "logistic": Loss(kernel(each_row(logistic_loss)), logistic_probabilities, logistic_labels),
    "identity": Loss(kernel(each_row(squared_loss)), numbers, numbers),
    "exp": Loss(kernel(each_row(poisson_loss)), means, numbers),
}
"""By the name of the output; the softmax has a second one with label smoothing."""

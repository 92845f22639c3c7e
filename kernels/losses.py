"""Heads: what each makes of the last layer's outputs, its loss fused with its gradient.

The losses of some rows turn their outputs ``z`` into deltas in place, ``share`` times the row's weight times the
gradient of its loss, and note each loss, times its weight, and whether the row is predicted right. ``sources`` says
which rows of X they are; ``targets`` are those of all rows: a class each for a softmax, else a number for each output.
Vector beyond the outputs become 0. A loss of one row does so with its ``share``, and gives both.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from .jit import kernel, part
from .simd import (
    first_lanes,
    formula,
    lane,
    lane_count,
    load,
    load_first,
    load_part,
    maximum,
    reduce_add,
    set_lane,
    splat,
    store,
    where,
)
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
from .vmath import exp, exp_of_any, log1p, logistic

add = formula(lambda a, b: a + b)
subtract = formula(lambda a, b: a - b)
multiply = formula(lambda a, b: a * b)


@part
def weight_of(row_weights, source):
    """Give the weight of a row of X; where there are none, each has 1."""
    return float(row_weights[source]) if len(row_weights) > 0 else 1.0


def each_row(row_loss_of):
    """Build the losses of some rows, one after the other."""

    @kernel
    def losses(
        row_loss, row_hit, out_at, z, at, pitch, n_out, targets, row_weights, sources, sources_at, first_row, last_row,
        share, smoothing,
    ):  # fmt: skip
        for row in range(first_row, last_row):
            source = sources[sources_at + row]
            weight = weight_of(row_weights, source)
            loss, hit = row_loss_of(z, at + row * pitch, n_out, targets, source, share * weight, smoothing)
            row_loss[out_at + row], row_hit[out_at + row] = loss * weight, hit

    return losses


# Classes -------------------------------------------------------------------------------------------------------------


@kernel
def softmax_losses(
    row_loss, row_hit, out_at, z, at, pitch, n_out, targets, row_weights, sources, sources_at, first_row, last_row,
    share, smoothing,
):  # fmt: skip
    """Compute the losses of a softmax, of as many rows at once as a vector has lanes."""
    lanes, row = lane_count(z), first_row
    while row + lanes <= last_row:
        start, out, weights = at + row * pitch, out_at + row, splat(z, share)
        largest = largest_of_rows(z, start, pitch, n_out)
        for i in range(lanes):
            source, place = sources[sources_at + row + i], start + i * pitch
            label, top = targets[source], lane(largest, i)
            row_hit[out + i] = index_of(z, place, n_out, top) == label
            row_loss[out + i] = float(top) - float(z[place + label])
            weights = set_lane(weights, i, share * weight_of(row_weights, source))
        add_logs(row_loss, out, softmax_of_rows(z, start, pitch, n_out, largest, weights))
        for i in range(lanes):
            source = sources[sources_at + row + i]
            z[start + i * pitch + targets[source]] -= lane(weights, i)
            row_loss[out + i] *= weight_of(row_weights, source)
        row += lanes
    while row < last_row:
        source = sources[sources_at + row]
        weight = weight_of(row_weights, source)
        loss, hit = softmax_loss(z, at + row * pitch, n_out, targets, source, share * weight, smoothing)
        row_loss[out_at + row], row_hit[out_at + row] = loss * weight, hit
        row += 1


@part
def smoothed_loss(z, at, n_out, targets, row, share, smoothing):
    """Give the loss of a softmax whose target has the part ``smoothing`` spread evenly over all classes."""
    lanes, label, largest = lane_count(z), targets[row], largest_of(z, at, n_out)
    total = splat(z, 0.0)
    for o in range(0, n_out, lanes):
        total = add(total, subtract(load_first(z, at + o, n_out - o, largest), splat(z, largest)))
    beyond_mean = (float(z[at + label]) - float(largest)) - float(reduce_add(total)) / n_out
    loss, hit = softmax_loss(z, at, n_out, targets, row, share, smoothing)
    for o in range(0, n_out, lanes):
        moved = subtract(load(z, at + o), splat(z, share * smoothing / n_out))
        store(z, at + o, first_lanes(moved, n_out - o, 0.0))
    z[at + label] += share * smoothing
    return loss + smoothing * beyond_mean, hit


@part
def softmax_probabilities(out, row, z, at, n_out):
    """Write the probabilities of the classes."""
    softmax(z, at, n_out, largest_of(z, at, n_out), 1.0)
    for o in range(n_out):
        out[row * n_out + o] = z[at + o]


@part
def softmax_labels(out, row, z, at, n_out):
    """Write the most probable class."""
    out[row] = argmax(z, at, n_out)


# Yes or no for each output -------------------------------------------------------------------------------------------


logistic_of = formula(logistic)
logistic_of_minus = formula(lambda z: logistic(-z))
binary_cross_entropy = formula(lambda z, y: maximum(0.0, z) - z * y + log1p(exp(-maximum(z, -z))))
binary_gradient = formula(lambda z, y, share: (logistic(z) - y) * share)
is_wrong = formula(lambda z, y: where(z > 0.0, 1.0 - y, y))


@part
def logistic_loss(z, at, n_out, targets, row, share, smoothing):
    """Give the mean of ``max(z, 0) - z y + log(1 + exp(-abs(z)))``, whose gradient is ``(logistic(z) - y) / n_out``."""
    lanes, loss, wrong = lane_count(z), splat(z, 0.0), splat(z, 0.0)
    for o in range(0, n_out, lanes):
        value, y = load(z, at + o), load_part(targets, row * n_out + o, n_out - o)
        loss = add(loss, first_lanes(binary_cross_entropy(value, y), n_out - o, 0.0))
        wrong = add(wrong, first_lanes(is_wrong(value, y), n_out - o, 0.0))
        store(z, at + o, first_lanes(binary_gradient(value, y, share / n_out), n_out - o, 0.0))
    return float(reduce_add(loss)) / n_out, reduce_add(wrong) == 0.0


@part
def logistic_probabilities(out, row, z, at, n_out):
    """Write the probability of each yes; of one output, those of no and of yes."""
    if n_out == 1:
        value = load(z, at)
        store(z, at, logistic_of_minus(value))
        out[2 * row] = z[at]
        store(z, at, logistic_of(value))
        out[2 * row + 1] = z[at]
        return
    for o in range(0, n_out, lane_count(z)):
        store(z, at + o, logistic_of(load(z, at + o)))
    for o in range(n_out):
        out[row * n_out + o] = z[at + o]


@part
def logistic_labels(out, row, z, at, n_out):
    """Write 1 where yes is more probable than no, else 0."""
    for o in range(n_out):
        out[row * n_out + o] = z[at + o] > 0.0


# Numbers -------------------------------------------------------------------------------------------------------------


squared_difference = formula(lambda z, y: (z - y) * (z - y))
squared_gradient = formula(lambda z, y, share: (z - y) * share)


@part
def squared_loss(z, at, n_out, targets, row, share, smoothing):
    """Give the mean of ``(z - y)**2``, whose gradient is ``2 (z - y) / n_out``; no row is right."""
    lanes, loss = lane_count(z), splat(z, 0.0)
    for o in range(0, n_out, lanes):
        value, y = load(z, at + o), load_part(targets, row * n_out + o, n_out - o)
        loss = add(loss, first_lanes(squared_difference(value, y), n_out - o, 0.0))
        store(z, at + o, first_lanes(squared_gradient(value, y, 2.0 * share / n_out), n_out - o, 0.0))
    return float(reduce_add(loss)) / n_out, False


@part
def numbers(out, row, z, at, n_out):
    """Write the outputs themselves."""
    for o in range(n_out):
        out[row * n_out + o] = z[at + o]


# Means of counts -----------------------------------------------------------------------------------------------------


mean_of = formula(exp_of_any)
beyond_target = formula(lambda z, y: exp_of_any(z) - y)


@part
def poisson_loss(z, at, n_out, targets, row, share, smoothing):
    """Give the mean of ``y log(y / p) + p - y`` for ``p = exp(z)``, whose gradient is ``(p - y) / n_out``."""
    lanes, loss, beyond = lane_count(z), 0.0, splat(z, 0.0)
    for o in range(n_out):
        y = float(targets[row * n_out + o])
        if y > 0.0:
            loss += y * (math.log(y) - float(z[at + o]))
    for o in range(0, n_out, lanes):
        value, y = load(z, at + o), load_part(targets, row * n_out + o, n_out - o)
        difference = first_lanes(beyond_target(value, y), n_out - o, 0.0)
        beyond = add(beyond, difference)
        store(z, at + o, multiply(difference, share / n_out))
    return (loss + float(reduce_add(beyond))) / n_out, False


@part
def means(out, row, z, at, n_out):
    """Write the means of the counts."""
    for o in range(0, n_out, lane_count(z)):
        store(z, at + o, mean_of(load(z, at + o)))
    numbers(out, row, z, at, n_out)


class Head(NamedTuple):
    """What makes the losses of some rows, and a row's answers: numbers and integers."""

    losses: Callable[..., Any]
    numbers: Callable[..., None]
    labels: Callable[..., None]


HEADS = {
    "softmax": Head(softmax_losses, softmax_probabilities, softmax_labels),
    "smoothed softmax": Head(each_row(smoothed_loss), softmax_probabilities, softmax_labels),
    "logistic": Head(each_row(logistic_loss), logistic_probabilities, logistic_labels),
    "identity": Head(each_row(squared_loss), numbers, numbers),
    "exp": Head(each_row(poisson_loss), means, numbers),
}

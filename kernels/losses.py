"""Heads: what each makes of one row of the last layer's outputs, its loss fused with its gradient.

A loss turns the outputs ``z`` of a row into ``share`` times the gradient of its loss, in place, and gives the loss and
whether the row is predicted right. ``targets`` are those of all rows: a class each for a softmax, else a number for
each output. Lanes beyond the outputs become 0.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from .functions import exp, exp_of_any, log1p, logistic
from .jit import part
from .simd import (
    first_equal,
    first_lanes,
    formula,
    lane_count,
    load,
    load_first,
    load_part,
    maximum,
    reduce_add,
    reduce_max,
    splat,
    store,
    where,
)

larger = formula(maximum)
add = formula(lambda a, b: a + b)
subtract = formula(lambda a, b: a - b)
multiply = formula(lambda a, b: a * b)
exp_of_difference = formula(lambda a, b: exp(a - b))


# Classes -------------------------------------------------------------------------------------------------------------


@part
def largest_of(z, at, n_out):
    """Give the largest of one row's outputs; a NaN where there is one."""
    lanes = lane_count(z)
    top = load_first(z, at, n_out, -math.inf)
    for o in range(lanes, n_out, lanes):
        top = larger(top, load_first(z, at + o, n_out - o, -math.inf))
    return reduce_max(top)


@part
def index_of(z, at, n_out, number):
    """Give the first of one row's outputs that equals ``number``; 0 where none does."""
    lanes = lane_count(z)
    for o in range(0, n_out, lanes):
        lane = first_equal(load(z, at + o), number)
        if lane < lanes:
            return o + lane
    return 0


@part
def argmax(z, at, n_out):
    """Give the first index of the largest of one row's outputs; where there is a NaN, some index."""
    return index_of(z, at, n_out, largest_of(z, at, n_out))


@part
def softmax(z, at, n_out, largest, weight):
    """Turn one row of outputs into ``weight`` times their probabilities in place; give the sum of exponentials.

    ``p = exp(z - max z) / sum(exp(z - max z))``; lanes beyond ``n_out`` become 0.
    """
    lanes = lane_count(z)
    total = splat(z, 0.0)
    for o in range(0, n_out, lanes):
        e = exp_of_difference(load_first(z, at + o, n_out - o, -math.inf), splat(z, largest))
        total = add(total, e)
        store(z, at + o, e)
    norm = reduce_add(total)
    for o in range(0, n_out, lanes):
        store(z, at + o, multiply(multiply(load(z, at + o), 1.0 / norm), weight))
    return norm


@part
def softmax_loss(z, at, n_out, targets, row, share, smoothing):
    """Give ``log(sum(exp(z))) - z[label]``, whose gradient is ``softmax(z) - onehot(label)``."""
    label = targets[row]
    own, largest = z[at + label], largest_of(z, at, n_out)
    hit = index_of(z, at, n_out, largest) == label
    norm = softmax(z, at, n_out, largest, share)
    z[at + label] -= share
    return math.log(float(norm)) + (float(largest) - float(own)), hit


@part
def smoothed_loss(z, at, n_out, targets, row, share, smoothing):
    """Give the same with a target that has the part ``smoothing`` spread evenly over all classes."""
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
    """What makes a row's loss, and its answers: numbers and integers."""

    loss: Callable[..., Any]
    numbers: Callable[..., None]
    labels: Callable[..., None]


HEADS = {
    "softmax": Head(softmax_loss, softmax_probabilities, softmax_labels),
    "smoothed softmax": Head(smoothed_loss, softmax_probabilities, softmax_labels),
    "logistic": Head(logistic_loss, logistic_probabilities, logistic_labels),
    "identity": Head(squared_loss, numbers, numbers),
    "exp": Head(poisson_loss, means, numbers),
}

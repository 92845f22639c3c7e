"""Losses on the outputs of the last layer, fused with their gradients."""

import math

from .jit import part
from .simd import exp, first_equal, formula, lane_count, load, load_first, maximum, reduce_add, reduce_max, splat, store

larger = formula(maximum)
add = formula(lambda a, b: a + b)
multiply = formula(lambda a, b: a * b)
exp_of_difference = formula(lambda a, b: exp(a - b))


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
def softmax_cross_entropy(
    row_loss, row_hit, out_at, z, z_at, pitch, labels, labels_at, n_out, first_row, last_row, weight
):
    """Compute each row's loss and whether its largest output is its label's; outputs become the loss's gradient.

    ``loss = log(sum(exp(z))) - z[label]`` and ``dloss/dz = weight * (softmax(z) - onehot(label))``, with ``weight`` one
    over the rows of the batch  # (B, C).
    """
    for row in range(first_row, last_row):
        at, label = z_at + row * pitch, labels[labels_at + row]
        own, largest = z[at + label], largest_of(z, at, n_out)
        row_hit[out_at + row] = index_of(z, at, n_out, largest) == label
        norm = softmax(z, at, n_out, largest, weight)
        row_loss[out_at + row] = math.log(float(norm)) + (float(largest) - float(own))
        z[at + label] -= weight

"""Rows of numbers, read in place. They are copied only if noise or dropout change them."""

import numpy as np

from ..activations import floor_of
from ..bits import ONE, ZERO, nonfinite_lanes
from ..jit import kernel, part
from ..matmul import forward_and_prefetch, rows_to_prefetch, sum_gradient
from ..matmul import update as update_product
from ..random import kept, noisy, row_key
from ..structs import Gathered, Prefetch, owned
from ..vector_ops import lane_count, load_part, store
from ..vector_ops import load as load_vector
from .base import Format, Products, Rows

NOISE_LAYER = 1_000_000
"""What noise is keyed by in place of a layer."""


# Load ----------------------------------------------------------------------------------------------------------------


@part
def load(ws, data, settings, at, n_rows, n_in, epoch):
    """Let the products read the rows where they are."""
    for row in range(n_rows):
        ws.inputs[row] = data.order[at + row] * n_in


@part
def load_perturbed(ws, data, settings, at, n_rows, n_in, epoch):
    """Copy the rows, with noise and dropout."""
    for row in range(n_rows):
        for k in range(0, n_in, lane_count(data.x)):
            store(ws.work, ws.inputs[row] + k, load_part(data.x, data.order[at + row] * n_in + k, n_in - k))
    perturb(ws.work, ws.inputs, data.order, at, n_rows, n_in, settings, epoch)


@kernel
def perturb(buffer, starts, order, at, n_rows, n_in, settings, epoch):
    """Add noise to staged rows, then drop some of their numbers."""
    # Read once: the compiler does not know that stores to the buffer do not change them.
    seed, noise, drop_below, scale = settings.seed, settings.noise, settings.drop_below, settings.scale_kept
    for row in range(n_rows):
        start = starts[row]
        if noise > 0.0:
            key = row_key(seed, epoch, order[at + row], NOISE_LAYER)
            for k in range(0, n_in, lane_count(buffer)):
                store(buffer, start + k, noisy(load_vector(buffer, start + k), key, k, noise))
        if drop_below:
            key = row_key(seed, epoch, order[at + row], 0)
            for k in range(0, n_in, lane_count(buffer)):
                store(buffer, start + k, kept(load_vector(buffer, start + k), key, k, drop_below, scale))


@part
def in_place(ws, data):
    """Return the rows of X."""
    return Gathered(data.x, ws.inputs, 0)


@part
def staged(ws, data):
    """Return the rows in the workspace."""
    return Gathered(ws.work, ws.inputs, 0)


@part
def check(bad_row, ws, data, at, n_rows, n_in):
    """Note the first of these rows if a number of them is infinite or NaN."""
    lanes, bad, k, end = lane_count(data.x), ZERO, at * n_in, (at + n_rows) * n_in
    while k + lanes <= end:
        bad |= nonfinite_lanes(data.x, k)
        k += lanes
    while k < end:
        if not np.isfinite(data.x[k]):
            bad = ONE
        k += 1
    if bad != ZERO and bad_row[0] < 0:
        bad_row[0] = at


# Products ------------------------------------------------------------------------------------------------------------


@part
def forward(out, x, w, b, layer, block, data, next_at):
    """Compute the first layer's outputs, and prefetch the next rows meanwhile."""
    prefetch = Prefetch(data.x, data.order, next_at, rows_to_prefetch(block, len(data.order)))
    forward_and_prefetch(out, x, w, b, layer.n_in, block, floor_of(layer.activation), prefetch)


@part
def update(w, x, lists, delta, layer, n_rows, rate):
    """Update the weights that the thread owns."""
    update_product(w, x, delta, delta.buffer, n_rows, owned(layer), rate)


@part
def gradient(g, x, lists, delta, layer, n_rows, block, keep):
    """Compute the gradient of a block."""
    sum_gradient(g, x, delta, delta.buffer, n_rows, block, keep)


PRODUCTS = Products(forward, update, gradient)
PERTURBED = Rows("dense_perturbed", load_perturbed, staged, PRODUCTS, staged=True)
PLAIN = Rows("dense", load, in_place, PRODUCTS, staged=False)
DENSE = Format(train=PLAIN, dropout=PERTURBED, noise=PERTURBED, infer=PLAIN, check=check)

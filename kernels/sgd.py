"""The step of plain SGD, fused into the gradient product: each tile applies its gradient while it is in registers.

So no gradient is stored. The exception is a batch of several chunks, whose gradient is accumulated in a buffer.
"""

from .jit import part
from .matmul import add_and_clear, update, update_bias
from .optimizers import RATE
from .structs import ACCUMULATE, COMMIT, Matrix, bias_of, deltas_of, inputs_of, owned, waits_after_update, weights_of
from .team import FIRST_UPDATE, UPDATE, WAIT, barrier, profile
from .vector_ops import lane_count


@part
def update_pass(target, ws, layers, n_rows, rate):
    """Compute ``target += rate * gradient`` of what the thread owns, except the weights of the first layer."""
    for i in range(len(layers)):
        layer = layers[i]
        delta, block = deltas_of(layer, ws), owned(layer)
        if i > 0:
            x = inputs_of(ws, i)
            update(weights_of(target, layer), x, delta, ws.work, n_rows, block, rate)
        if layer.end_row == layer.n_in:
            update_bias(bias_of(target, layer), delta, ws.work, n_rows, block, rate)


@part
def commit(params, rate, team):
    """Compute ``params += rate * gradient`` and clear the gradient, each thread for its part."""
    lanes = lane_count(params.flat)
    vectors = len(params.flat) // lanes
    first, last = vectors * team.rank // team.size * lanes, vectors * (team.rank + 1) // team.size * lanes
    add_and_clear(params.flat, params.gradient, first, last, rate)


def sgd_step(first_update):
    """Build the step of plain SGD."""

    @part
    def take_step(params, first_w, ws, layers, x, n_rows, schedule, step, is_first, is_last, mode, team):
        target, rate = params.flat, -schedule[step, RATE]
        target_rate = rate
        if mode & ACCUMULATE:
            target, target_rate = params.gradient, 1.0
            first_w = Matrix(params.gradient, first_w.at, first_w.pitch)
        first_update(first_w, x, ws.lists, deltas_of(layers[0], ws), layers[0], n_rows, target_rate)
        profile(ws.clocks, FIRST_UPDATE)
        update_pass(target, ws, layers, n_rows, target_rate)
        if is_last and mode & COMMIT:
            barrier(team)
            commit(params, rate, team)
        profile(ws.clocks, UPDATE)
        if waits_after_update(layers, mode):
            barrier(team)
        profile(ws.clocks, WAIT)

    return take_step

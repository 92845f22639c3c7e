"""What changes the parameters: the step of plain SGD, and that of every other optimizer.

Plain SGD changes the weights in the tiles that sum up their gradient, which is never stored. Others change them block
by block (`descent`), as do penalties and bounds of the gradient.
"""

import math

from .dense import axpy, update, update_bias
from .descent import DENSE, change_all, change_by, learn_biases, learn_from, sum_squares, total_of
from .jit import part
from .optimizers import CLIP_NORM, L2, RATE
from .simd import lane_count
from .tables import (
    ACCUMULATE,
    COLUMN,
    COMMIT,
    D_PITCH,
    END_COLUMN,
    END_IN,
    G_PITCH,
    IN,
    N_IN,
    OWN_PITCH,
    PITCH,
    SLOT,
    SUMS,
    WAITING,
    B,
    D,
    G,
    W,
)
from .team import FIRST_UPDATE, UPDATE, WAIT, lap, meet


@part
def update_pass(target, work, plan, notes, chunk, rows, rate):
    """Compute ``target += rate * gradient`` of what the thread owns, but for the weights of the first layer."""
    for layer in range(len(plan)):
        w, pitch, d, d_pitch, at = (
            plan[layer, W],
            plan[layer, PITCH],
            plan[layer, D],
            plan[layer, D_PITCH],
            layer * chunk,
        )
        i, end, column, end_column = plan[layer, IN], plan[layer, END_IN], plan[layer, COLUMN], plan[layer, END_COLUMN]
        if layer > 0:
            update(target, w, pitch, work, notes, at, work, d, work, rows, d_pitch, i, end, column, end_column, rate)
        if end == plan[layer, N_IN]:
            update_bias(target, plan[layer, B], work, d, work, rows, d_pitch, column, end_column, rate)


@part
def commit(params, gradient, rate, rank, size):
    """Compute ``params += rate * gradient`` and clear the gradient, each thread for its part."""
    lanes = lane_count(params)
    vectors = len(params) // lanes
    axpy(params, gradient, vectors * rank // size * lanes, vectors * (rank + 1) // size * lanes, rate)


def plain_step(first_update):
    """Build the step of plain SGD, whose gradient is never stored, or summed up if it comes in chunks."""

    @part
    def take_step(
        params, gradient, memory, weights, w, w_pitch, work, plan, x, index, marks, links, notes, sums,
        rows, chunk, coefficients, step, goes_on, ends, mode, meetings, rank, size,
    ):  # fmt: skip
        rate = -coefficients[step, RATE]
        target, target_rate, first_target = params, rate, weights
        if mode & ACCUMULATE:
            target, target_rate, first_target = gradient, 1.0, gradient
        first_update(first_target, w, w_pitch, work, plan, x, index, marks, links, notes, rows, chunk, target_rate)
        lap(notes, FIRST_UPDATE)
        update_pass(target, work, plan, notes, chunk, rows, target_rate)
        if ends and mode & COMMIT:
            meet(meetings, size)
            commit(params, gradient, rate, rank, size)
        lap(notes, UPDATE)
        meet(meetings, size)
        lap(notes, WAIT)

    return take_step


def step_of(optimizer, kind, in_place):
    """Build the step of an optimizer's formula on a kind of rows, read in place or from where they were brought."""
    change_block = change_by(optimizer)
    learn, learn_bias, change = learn_from(DENSE, change_block), learn_biases(change_block), change_all(change_block)
    first_learn = learn if kind is DENSE else learn_from(kind, change_block)

    @part
    def take_step(
        params, gradient, memory, weights, w, w_pitch, work, plan, x, index, marks, links, notes, sums,
        rows, chunk, coefficients, step, goes_on, ends, mode, meetings, rank, size,
    ):  # fmt: skip
        n_layers, l2, bound = len(plan), coefficients[step, L2], coefficients[step, CLIP_NORM]
        keep = 1.0 if goes_on else 0.0
        rows_in = x if in_place else work
        slots, first_slot, slot = memory, w, len(params)
        if plan[0, OWN_PITCH]:
            slots, first_slot, slot = work, w + plan[0, SLOT], plan[0, SLOT]
        first_learn(
            weights, w, w_pitch, slots, first_slot, slot, work, plan[0, G], plan[0, G_PITCH], rows_in, notes, 0,
            (2 * n_layers + 1) * chunk, index, marks, links, plan[0, D], plan[0, D_PITCH], plan[0, WAITING], rows,
            plan[0, N_IN], plan[0, IN], plan[0, END_IN], plan[0, COLUMN], plan[0, END_COLUMN], sums, plan[0, SUMS],
            coefficients, step, keep, ends,
        )  # fmt: skip
        lap(notes, FIRST_UPDATE)
        for layer in range(n_layers):
            n_in, d, d_pitch, g, g_pitch = plan_of_gradient(plan, layer)
            i, end, column, end_column = plan_of_share(plan, layer)
            w_at, b_at, sums_at = plan[layer, W], plan[layer, B], plan[layer, SUMS]
            if layer > 0:
                learn(
                    params, w_at, plan[layer, PITCH], memory, w_at, len(params), work, g, g_pitch, work, notes,
                    layer * chunk, 0, index, marks, links, d, d_pitch, 0, rows, n_in, i, end, column, end_column, sums,
                    sums_at, coefficients, step, keep, ends,
                )  # fmt: skip
            if end == n_in:
                learn_bias(
                    params, b_at, memory, b_at, len(params), work, g, g_pitch, d, d_pitch, rows, n_in, column,
                    end_column, sums, sums_at, coefficients, step, keep, ends,
                )  # fmt: skip
        if ends and bound < math.inf:
            meet(meetings, size)
            factor = bound / (math.sqrt(total_of(sums, 0, len(sums) // 2)) + 1e-6)
            if not factor < 1.0:
                factor = 1.0
            change(
                weights, w, w_pitch, slots, first_slot, slot, work, plan[0, G], plan[0, G_PITCH], plan[0, N_IN],
                plan[0, IN], plan[0, END_IN], plan[0, COLUMN], plan[0, END_COLUMN], sums, plan[0, SUMS], coefficients,
                step, l2, factor,
            )  # fmt: skip
            for layer in range(n_layers):
                n_in, _, _, g, g_pitch = plan_of_gradient(plan, layer)
                i, end, column, end_column = plan_of_share(plan, layer)
                w_at, pitch, sums_at = plan[layer, W], plan[layer, PITCH], plan[layer, SUMS]
                if layer > 0:
                    change(
                        params, w_at, pitch, memory, w_at, len(params), work, g, g_pitch, n_in, i, end, column,
                        end_column, sums, sums_at, coefficients, step, l2, factor,
                    )  # fmt: skip
                if end == n_in:  # the gradient of the biases is another row
                    b_at = plan[layer, B] - n_in * pitch
                    change(
                        params, b_at, pitch, memory, b_at, len(params), work, g, g_pitch, n_in, n_in, n_in + 1, column,
                        end_column, sums, sums_at, coefficients, step, 0.0, factor,
                    )  # fmt: skip
        lap(notes, UPDATE)
        meet(meetings, size)
        lap(notes, WAIT)

    return take_step


@part
def plan_of_gradient(plan, layer):
    """Give a layer's inputs, and where its deltas and its gradient lie."""
    return plan[layer, N_IN], plan[layer, D], plan[layer, D_PITCH], plan[layer, G], plan[layer, G_PITCH]


@part
def plan_of_share(plan, layer):
    """Give which rows and columns of a layer's weights the thread owns."""
    return plan[layer, IN], plan[layer, END_IN], plan[layer, COLUMN], plan[layer, END_COLUMN]


@part
def sum_weights(sums, plan, weights, w, w_pitch, params, coefficients):
    """Sum up the squares of the weights that the thread owns, for the first step's penalty, if there is one."""
    for layer in range(len(plan) if coefficients[0, L2] > 0.0 else 0):
        source, at, pitch = params, plan[layer, W], plan[layer, PITCH]
        if layer == 0:
            source, at, pitch = weights, w, w_pitch
        i, end, column, end_column = plan[layer, IN], plan[layer, END_IN], plan[layer, COLUMN], plan[layer, END_COLUMN]
        lanes = lane_count(source)
        stride = (plan[layer, N_IN] + lanes - 1) // lanes + 1
        sum_squares(
            sums, len(sums) // 2 + plan[layer, SUMS] + column * stride + i // lanes, stride, source,
            at + i * pitch + column * lanes, pitch, end - i, end_column - column,
        )  # fmt: skip


@part
def penalty_of(sums, coefficients, step):
    """Give the penalty on the weights before a step."""
    l2 = coefficients[step, L2]
    return l2 / 2 * total_of(sums, len(sums) // 2, len(sums)) if l2 > 0.0 else 0.0

"""Updates block by block, for every optimizer but plain SGD, penalties and gradient clipping.

A block is some rows of some columns of a layer's weights. Its gradient is computed into a small buffer, and changes the
weights while the first cache has it. The gradient of everything that the thread owns is kept only if a batch comes in
chunks, or if the norm of the whole gradient is clipped. Each thread changes what it owns, and no other reads its
gradients.

``sums`` holds sums of squares, of gradients in its first half and of weights in its second. There is one for each
lanes x lanes square of a layer's weights and one for each vector of its biases, column by column. They are added in one
order, whichever thread computed them.
"""

import math
import operator

from numba import types

from .formats import dense
from .formats.base import BLOCK_ROWS, BLOCK_VECTORS, row_width
from .jit import kernel, part
from .matmul import sum_bias_gradient
from .optimizers import CLIP_NORM, CLIP_VALUE, L2, apply_formula, penalized_and_clipped
from .simd import fma, fold
from .structs import Block, Matrix, Slots, deltas_of, inputs_of, owned, waits_after_update, weights_of
from .team import FIRST_UPDATE, UPDATE, WAIT, barrier, profile
from .trace import formula, loop, traced
from .vector_ops import lane_count, load, reduce_add, splat, store

penalize_and_clip_vector = formula(penalized_and_clipped)
add = formula(lambda a, b: a + b)


# Sums of squares -----------------------------------------------------------------------------------------------------


@traced(returns=lambda a, at, pitch, n_rows: types.float64)
def squares(a, at, pitch, n_rows):
    """Return the sum of the squares of some vectors, ``pitch`` apart, in float64, where none overflows."""

    def add(i, total):
        v = a.vector(at + i * pitch).widened()
        return [fma(v, v, *total)]

    return fold(operator.add, *loop(n_rows, [a.constant(0.0).widened()], add))


@part
def column_stride(layer, lanes):
    """Return how many sums a column of a layer has: one for each square of vectors, and one for the bias."""
    return (layer.n_in + lanes - 1) // lanes + 1


@part
def sum_squares(sums, at, stride, a, n_rows, n_vectors):
    """Compute the sums of squares of a matrix: ``sums[at:]`` for the first column, ``stride`` further for the next."""
    lanes = lane_count(a.buffer)
    for j in range(n_vectors):
        for i in range(0, n_rows, lanes):
            square = squares(a.buffer, a.at + i * a.pitch + j * lanes, a.pitch, min(lanes, n_rows - i))
            sums[at + j * stride + i // lanes] = square


@part
def total_of(sums, first, last):
    """Return the sum of ``sums[first:last]``, whole vectors of them."""
    total = splat(sums, 0.0)
    for at in range(first, last, lane_count(sums)):
        total = add(total, load(sums, at))
    return reduce_add(total)


@part
def sum_weights(w, layer, sums):
    """Compute the sums of squares of the weights that the thread owns."""
    lanes = lane_count(w.buffer)
    stride = column_stride(layer, lanes)
    at = len(sums) // 2 + layer.squares + layer.column * stride + layer.row // lanes
    own = Matrix(w.buffer, w.at + layer.row * w.pitch + layer.column * lanes, w.pitch)
    sum_squares(sums, at, stride, own, layer.end_row - layer.row, layer.end_column - layer.column)


@part
def penalty_of(sums, schedule, step):
    """Return ``l2 / 2`` times the sum of the squares of all weights."""
    l2 = schedule[step, L2]
    return l2 / 2 * total_of(sums, len(sums) // 2, len(sums)) if l2 > 0.0 else 0.0


@part
def clip_factor(sums, schedule, step):
    """Return the factor that brings the norm of the gradient below its bound, as in PyTorch; at most 1."""
    factor = schedule[step, CLIP_NORM] / (math.sqrt(total_of(sums, 0, len(sums) // 2)) + 1e-6)
    return factor if factor < 1.0 else 1.0


# One block -----------------------------------------------------------------------------------------------------------


@part
def penalize_and_clip(g, w, n_rows, n_vectors, l2, bound, scale):
    """Compute ``g = scale * clip(g + l2 * w, -bound, bound)``."""
    lanes = lane_count(w.buffer)
    for i in range(n_rows):
        for j in range(0, n_vectors * lanes, lanes):
            at = g.at + i * g.pitch + j
            weights = load(w.buffer, w.at + i * w.pitch + j)
            store(g.buffer, at, penalize_and_clip_vector(load(g.buffer, at), weights, l2, bound, scale))


@kernel
def finish_gradient(g, w, n_rows, n_vectors, sums, sums_at, stride, schedule, step, l2):
    """Add the penalty to a block's gradient, clip it, and sum up its squares, where these are asked for."""
    bound = schedule[step, CLIP_VALUE]
    if l2 > 0.0 or bound < math.inf:
        penalize_and_clip(g, w, n_rows, n_vectors, l2, bound, 1.0)
    if schedule[step, CLIP_NORM] < math.inf:
        sum_squares(sums, sums_at, stride, g, n_rows, n_vectors)


def applying(optimizer):
    """Build the change of a block by an optimizer's formula."""
    apply = apply_formula(optimizer)

    @kernel
    def apply_gradient(w, g, state, n_rows, n_vectors, sums, sums_at, stride, schedule, step, l2, scale):
        """Change a block and its state by ``scale`` times its gradient; sum up the squares for the next penalty."""
        if scale != 1.0:
            penalize_and_clip(g, w, n_rows, n_vectors, 0.0, math.inf, scale)
        apply(w, g, state, schedule, step, n_rows, n_vectors)
        if l2 > 0.0:
            sum_squares(sums, sums_at + len(sums) // 2, stride, w, n_rows, n_vectors)

    return apply_gradient


@part
def gradient_of(layer, buffer, i, column, lanes):
    """Return where the gradient of the block at row ``i`` and a column is: in the full gradient, or in a buffer."""
    if layer.gradient_pitch > 0:
        return Matrix(buffer, layer.gradient + i * layer.gradient_pitch + column * lanes, layer.gradient_pitch)
    return Matrix(buffer, layer.gradient, BLOCK_VECTORS * lanes)


# A layer -------------------------------------------------------------------------------------------------------------


def updating_layer(products, apply_gradient):
    """Build the pass over a layer's weights that computes their gradient, and applies it when it is complete."""
    prepare, prepare_columns, release = products.prepare, products.prepare_columns, products.release
    gradient = products.gradient

    @kernel
    def update_layer(w, state, x, lists, delta, layer, n_rows, sums, schedule, step, keep, is_last):
        """Walk through the blocks. ``keep`` is 0 for the first chunk of a batch; ``is_last`` says if it is the last."""
        lanes, l2, column = lane_count(w.buffer), schedule[step, L2], layer.column
        applies, stride = is_last and schedule[step, CLIP_NORM] == math.inf, column_stride(layer, lanes)
        prepare(x, lists, layer, n_rows)
        while column < layer.end_column:
            vectors = row_width(layer.end_column - column)
            prepare_columns(x, lists, layer, n_rows)
            for i in range(layer.row, layer.end_row, BLOCK_ROWS):
                end = min(i + BLOCK_ROWS, layer.end_row)
                g, place = gradient_of(layer, delta.buffer, i, column, lanes), i * w.pitch + column * lanes
                whole = Matrix(g.buffer, g.at - i * g.pitch - column * lanes, g.pitch)
                gradient(whole, x, lists, delta, layer, n_rows, Block(i, end, column, column + vectors), keep)
                w_block, sums_at = Matrix(w.buffer, w.at + place, w.pitch), layer.squares + column * stride + i // lanes
                if is_last:
                    finish_gradient(g, w_block, end - i, vectors, sums, sums_at, stride, schedule, step, l2)
                if applies:
                    slots = Slots(state.buffer, state.at + place, state.stride)
                    apply_gradient(w_block, g, slots, end - i, vectors, sums, sums_at, stride, schedule, step, l2, 1.0)
            column += vectors
        release(x, lists, layer, n_rows)

    return update_layer


def updating_bias(apply_gradient):
    """Build the pass over a layer's biases that computes their gradient, and applies it when it is complete."""

    @kernel
    def update_bias(params, state, delta, layer, n_rows, sums, schedule, step, keep, is_last):
        lanes, column = lane_count(params), layer.column
        applies, stride = is_last and schedule[step, CLIP_NORM] == math.inf, column_stride(layer, lanes)
        while column < layer.end_column:
            vectors, place = row_width(layer.end_column - column), column * lanes
            g = gradient_of(layer, delta.buffer, layer.n_in, column, lanes)
            whole, block = Matrix(g.buffer, g.at - place, 0), Block(0, 1, column, column + vectors)
            sum_bias_gradient(whole, delta, delta.buffer, n_rows, block, keep)
            b, sums_at = Matrix(params, layer.b + place, 0), layer.squares + (column + 1) * stride - 1
            g = Matrix(g.buffer, g.at, 0)
            if is_last:
                finish_gradient(g, b, 1, vectors, sums, sums_at, stride, schedule, step, 0.0)
            if applies:
                slots = Slots(state, layer.b + place, len(params))
                apply_gradient(b, g, slots, 1, vectors, sums, sums_at, stride, schedule, step, 0.0, 1.0)
            column += vectors

    return update_bias


def applying_layer(apply_gradient):
    """Build the pass over a layer that applies its gradient, which is complete."""

    @kernel
    def apply_layer(w, state, g, layer, block, sums, schedule, step, l2, scale):
        lanes = lane_count(w.buffer)
        stride = column_stride(layer, lanes)
        for column in range(block.column, block.end_column, BLOCK_VECTORS):
            vectors = min(BLOCK_VECTORS, block.end_column - column)
            for i in range(block.row, block.end_row, BLOCK_ROWS):
                place = i * w.pitch + column * lanes
                apply_gradient(
                    Matrix(w.buffer, w.at + place, w.pitch),
                    Matrix(g.buffer, g.at + i * g.pitch + column * lanes, g.pitch),
                    Slots(state.buffer, state.at + place, state.stride), min(BLOCK_ROWS, block.end_row - i), vectors,
                    sums, layer.squares + column * stride + i // lanes, stride, schedule, step, l2, scale,
                )  # fmt: skip

    return apply_layer


# A step --------------------------------------------------------------------------------------------------------------


def blockwise_step(optimizer, products):
    """Build the step of an optimizer's formula, for the first layer's products of some rows."""
    apply_gradient = applying(optimizer)
    update_layer, update_bias = updating_layer(dense.PRODUCTS, apply_gradient), updating_bias(apply_gradient)
    first_update = update_layer if products is dense.PRODUCTS else updating_layer(products, apply_gradient)
    apply_layer = applying_layer(apply_gradient)

    @part
    def take_step(params, first_w, ws, layers, x, n_rows, schedule, step, is_first, is_last, mode, team):
        keep, state = 0.0 if is_first else 1.0, params.state
        first_state = Slots(state, first_w.at, len(params.flat))
        if layers[0].private_pitch:
            first_state = Slots(ws.work, first_w.at + layers[0].slot_stride, layers[0].slot_stride)
        first_update(
            first_w, first_state, x, ws.lists, deltas_of(layers[0], ws), layers[0], n_rows, ws.sums, schedule, step,
            keep, is_last,
        )  # fmt: skip
        profile(ws.clocks, FIRST_UPDATE)
        for i in range(len(layers)):
            layer = layers[i]
            delta = deltas_of(layer, ws)
            if i > 0:
                update_layer(
                    weights_of(params.flat, layer), Slots(state, layer.w, len(params.flat)),
                    inputs_of(ws, i), ws.lists, delta, layer, n_rows,
                    ws.sums, schedule, step, keep, is_last,
                )  # fmt: skip
            if layer.end_row == layer.n_in:
                update_bias(params.flat, state, delta, layer, n_rows, ws.sums, schedule, step, keep, is_last)
        if is_last and schedule[step, CLIP_NORM] < math.inf:
            barrier(team)
            l2, scale = schedule[step, L2], clip_factor(ws.sums, schedule, step)
            for i in range(len(layers)):
                layer = layers[i]
                w, slots = weights_of(params.flat, layer), Slots(state, layer.w, len(params.flat))
                if i == 0:
                    w, slots = first_w, first_state
                g = Matrix(ws.work, layer.gradient, layer.gradient_pitch)
                apply_layer(w, slots, g, layer, owned(layer), ws.sums, schedule, step, l2, scale)
                if layer.end_row == layer.n_in:  # the gradient of the biases is one more row
                    b_at = layer.b - layer.n_in * layer.pitch
                    b, slots = Matrix(params.flat, b_at, layer.pitch), Slots(state, b_at, len(params.flat))
                    block = Block(layer.n_in, layer.n_in + 1, layer.column, layer.end_column)
                    apply_layer(b, slots, g, layer, block, ws.sums, schedule, step, 0.0, scale)
        profile(ws.clocks, UPDATE)
        if waits_after_update(layers, mode) or schedule[step, L2] > 0.0:  # then the sums of squares are read next
            barrier(team)
        profile(ws.clocks, WAIT)

    return take_step

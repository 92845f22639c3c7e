"""Steps of optimizers: the gradient of a block of weights, and while the first cache has it, what becomes of it.

A block is some rows of some columns of a layer's weights. Its gradient is summed up in a place of its thread, and is
gone after the step; where a batch comes in chunks, or the norm of the whole gradient is asked for, the gradient of all
that the thread owns is kept. Each thread changes what it owns, and nobody else reads its gradients.

``sums`` holds sums of squares, of gradients in its first half and of weights in its second: a number for each square of
vectors of a layer's weights and one for each vector of its biases, column by column. Their sums have one order, whoever
owns them.
"""

import math

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .csr import csr_gradient, empty_chains, link_features
from .dense import sum_up_bias, sum_up_gradient
from .jit import kernel, part
from .optimizers import CLIP_NORM, CLIP_VALUE, L2, apply_formula, clipped
from .rows import PAIR, WORD, groups_of, words_of
from .simd import Memory, Vector, fma, fold, formula, lane_count, load, reduce_add, splat, store
from .sparse import WIDTHS, find_places, row_width, sum_up_features, turn_marks
from .structs import Matrix, Slots
from .tile import loop

BLOCK_ROWS, BLOCK_VECTORS = 48, WIDTHS[-1]
"""Of a block at most; whole squares of vectors, whole tiles, and whole pairs of features."""

limit_vector = formula(clipped)
add = formula(lambda a, b: a + b)


# The gradient of a block, from each kind of rows ---------------------------------------------------------------------


@part
def nothing(links, starts, places_at, index, marks, n_rows, n_in, first_in, last_in):
    """Prepare nothing."""


@part
def dense_gradient(
    g, g_at, g_pitch, x, starts, starts_at, places_at, links, n_in, delta, delta_at, pitch, waiting_at, n_rows,
    first_in, last_in, column, vectors, keep,
):  # fmt: skip
    """Sum up the gradient of a block from dense rows."""
    sum_up_gradient(
        g, g_at, g_pitch, x, starts, starts_at, delta, delta_at, delta, n_rows, pitch, first_in, last_in,
        column, column + vectors, keep,
    )  # fmt: skip


@part
def turn(links, starts, places_at, index, marks, n_rows, n_in, first_in, last_in):
    """Prepare the marks of packed rows."""
    turn_marks(links, marks, n_rows, n_in)


@part
def find(links, starts, places_at, index, marks, n_rows, n_in, first_in, last_in):
    """Find where packed rows begin."""
    find_places(starts, places_at, marks, n_rows, n_in, first_in)


@part
def packed_gradient(
    g, g_at, g_pitch, x, starts, starts_at, places_at, links, n_in, delta, delta_at, pitch, waiting_at, n_rows,
    first_in, last_in, column, vectors, keep,
):  # fmt: skip
    """Sum up the gradient of a block from packed rows; blocks of some columns come one after the other."""
    j = column * lane_count(g)
    sum_up_features(
        vectors, g, g_at + first_in * g_pitch + j, g_pitch, x, starts, places_at, links, first_in // PAIR,
        words_of(n_in) * WORD, groups_of(n_rows), last_in - first_in, delta, delta_at + j, pitch, waiting_at, keep,
    )  # fmt: skip


@part
def link(links, starts, places_at, index, marks, n_rows, n_in, first_in, last_in):
    """Prepare the chains of the features of CSR rows."""
    link_features(links, starts, places_at, index, n_rows, n_in, first_in, last_in)


@part
def chained_gradient(
    g, g_at, g_pitch, x, starts, starts_at, places_at, links, n_in, delta, delta_at, pitch, waiting_at, n_rows,
    first_in, last_in, column, vectors, keep,
):  # fmt: skip
    """Sum up the gradient of a block from CSR rows."""
    csr_gradient(
        g, g_at, g_pitch, x, starts, links, n_in, delta, delta_at, pitch, first_in, last_in, column, vectors, keep
    )


@part
def unlink(links, starts, places_at, index, marks, n_rows, n_in, first_in, last_in):
    """Forget the chains."""
    empty_chains(links, n_in)


DENSE = nothing, nothing, dense_gradient, nothing
PACKED = turn, find, packed_gradient, nothing
CSR = link, nothing, chained_gradient, unlink
"""What is done before all blocks, before those of some columns, for each block, and at the end."""


# What becomes of it --------------------------------------------------------------------------------------------------


@intrinsic
def squares(typing_context, a, at, pitch, n_rows):
    """Give the sum of the squares of some vectors, ``pitch`` apart, in float64, where none overflows."""

    def codegen(context, builder, signature, args):
        memory = Memory(context, builder, a, args[0])
        wide = ir.VectorType(ir.DoubleType(), memory.vector_type.count)

        def add(i, total):
            v = memory.vector(builder.add(args[1], builder.mul(i, args[2])))
            v = v if v.value.type == wide else Vector(builder, builder.fpext(v.value, wide))
            return [fma(v, v, Vector(builder, *total)).value]

        total = loop(builder, args[3], [ir.Constant(wide, [0.0] * wide.count)], add)
        return fold(lambda a, b: a + b, Vector(builder, *total))

    return types.float64(a, types.int64, types.int64, types.int64), codegen


@part
def sum_squares(sums, at, stride, a, a_at, pitch, n_rows, n_vectors):
    """Sum up the squares of a block's numbers: one sum for each square of vectors, ``stride`` from column to column."""
    lanes = lane_count(a)
    for j in range(n_vectors):
        for i in range(0, n_rows, lanes):
            square = squares(a, a_at + i * pitch + j * lanes, pitch, min(lanes, n_rows - i))
            sums[at + j * stride + i // lanes] = square


@part
def total_of(sums, first, last):
    """Give the sum of sums, of whole vectors of them."""
    total = splat(sums, 0.0)
    for at in range(first, last, lane_count(sums)):
        total = add(total, load(sums, at))
    return reduce_add(total)


@part
def limit(g, g_at, g_pitch, w, w_at, w_pitch, n_rows, n_vectors, l2, bound, scale):
    """Compute ``g = scale * clip(g + l2 * w, -bound, bound)`` of a block."""
    lanes = lane_count(w)
    for i in range(n_rows):
        for j in range(0, n_vectors * lanes, lanes):
            at = g_at + i * g_pitch + j
            store(g, at, limit_vector(load(g, at), load(w, w_at + i * w_pitch + j), l2, bound, scale))


@kernel
def limit_block(g, g_at, g_pitch, w, w_at, w_pitch, n_rows, n_vectors, sums, sums_at, stride, coefficients, step, l2):
    """Add the penalty to a block's gradient, bound it, and sum up its squares, where these are asked for."""
    bound = coefficients[step, CLIP_VALUE]
    if l2 > 0.0 or bound < math.inf:
        limit(g, g_at, g_pitch, w, w_at, w_pitch, n_rows, n_vectors, l2, bound, 1.0)
    if coefficients[step, CLIP_NORM] < math.inf:
        sum_squares(sums, sums_at, stride, g, g_at, g_pitch, n_rows, n_vectors)


def change_by(optimizer):
    """Build what an optimizer's formula makes of a block."""
    descend = apply_formula(optimizer)

    @kernel
    def change_block(
        w, w_at, w_pitch, g, g_at, g_pitch, memory, memory_at, slot, n_rows, n_vectors, sums, sums_at, stride,
        coefficients, step, l2, scale,
    ):  # fmt: skip
        """Change a block and its memory by ``scale`` times its gradient; sum up the squares for the next penalty."""
        if scale != 1.0:
            limit(g, g_at, g_pitch, w, w_at, w_pitch, n_rows, n_vectors, 0.0, math.inf, scale)
        slots = Slots(memory, memory_at, slot)
        descend(Matrix(w, w_at, w_pitch), Matrix(g, g_at, g_pitch), slots, coefficients, step, n_rows, n_vectors)
        if l2 > 0.0:
            sum_squares(sums, sums_at + len(sums) // 2, stride, w, w_at, w_pitch, n_rows, n_vectors)

    return change_block


# All of a layer ------------------------------------------------------------------------------------------------------


@part
def place_of(g_at, g_pitch, i, column, lanes):
    """Give where the gradient of the block from row ``i`` and ``column`` on is, and its pitch: 0 if it has no other."""
    if g_pitch > 0:
        return g_at + i * g_pitch + column * lanes, g_pitch
    return g_at, BLOCK_VECTORS * lanes


def learn_from(kind, change_block):
    """Build the pass over a layer's weights that sums up their gradient, and changes them when it is whole."""
    prepare, prepare_columns, sum_up_block, end = kind

    @kernel
    def learn(
        w, w_at, w_pitch, memory, memory_at, slot, work, g_at, g_pitch, x, starts, starts_at, places_at, index, marks,
        links, delta_at, pitch, waiting_at, n_rows, n_in, first_in, last_in, column, last_column, sums, sums_at,
        coefficients, step, keep, ends,
    ):  # fmt: skip
        lanes, l2 = lane_count(w), coefficients[step, L2]
        changes, stride = ends and coefficients[step, CLIP_NORM] == math.inf, (n_in + lanes - 1) // lanes + 1
        prepare(links, starts, places_at, index, marks, n_rows, n_in, first_in, last_in)
        while column < last_column:
            vectors = row_width(last_column - column)
            prepare_columns(links, starts, places_at, index, marks, n_rows, n_in, first_in, last_in)
            for i in range(first_in, last_in, BLOCK_ROWS):
                last = min(i + BLOCK_ROWS, last_in)
                at, block_pitch = place_of(g_at, g_pitch, i, column, lanes)
                sum_up_block(
                    work, at - i * block_pitch - column * lanes, block_pitch, x, starts, starts_at, places_at, links,
                    n_in, work, delta_at, pitch, waiting_at, n_rows, i, last, column, vectors, keep,
                )  # fmt: skip
                place, sum_at = i * w_pitch + column * lanes, sums_at + column * stride + i // lanes
                if ends:
                    limit_block(
                        work, at, block_pitch, w, w_at + place, w_pitch, last - i, vectors, sums, sum_at, stride,
                        coefficients, step, l2,
                    )  # fmt: skip
                if changes:
                    change_block(
                        w, w_at + place, w_pitch, work, at, block_pitch, memory, memory_at + place, slot, last - i,
                        vectors, sums, sum_at, stride, coefficients, step, l2, 1.0,
                    )  # fmt: skip
            column += vectors
        end(links, starts, places_at, index, marks, n_rows, n_in, first_in, last_in)

    return learn


def learn_biases(change_block):
    """Build the pass over a layer's biases that sums up their gradient, and changes them when it is whole."""

    @kernel
    def learn(
        b, b_at, memory, memory_at, slot, work, g_at, g_pitch, delta_at, pitch, n_rows, n_in, column, last_column,
        sums, sums_at, coefficients, step, keep, ends,
    ):  # fmt: skip
        lanes = lane_count(b)
        changes, stride = ends and coefficients[step, CLIP_NORM] == math.inf, (n_in + lanes - 1) // lanes + 1
        while column < last_column:
            vectors = row_width(last_column - column)
            at, _ = place_of(g_at, g_pitch, n_in, column, lanes)
            place, sum_at = column * lanes, sums_at + (column + 1) * stride - 1
            sum_up_bias(work, at - place, work, delta_at, work, n_rows, pitch, column, column + vectors, keep)
            if ends:
                limit_block(work, at, 0, b, b_at + place, 0, 1, vectors, sums, sum_at, stride, coefficients, step, 0.0)
            if changes:
                change_block(
                    b, b_at + place, 0, work, at, 0, memory, memory_at + place, slot, 1, vectors, sums, sum_at, stride,
                    coefficients, step, 0.0, 1.0,
                )  # fmt: skip
            column += vectors

    return learn


def change_all(change_block):
    """Build the pass over a layer that changes it by its whole gradient."""

    @kernel
    def change(
        w, w_at, w_pitch, memory, memory_at, slot, work, g_at, g_pitch, n_in, first_in, last_in, column, last_column,
        sums, sums_at, coefficients, step, l2, scale,
    ):  # fmt: skip
        lanes = lane_count(w)
        stride = (n_in + lanes - 1) // lanes + 1
        for c in range(column, last_column, BLOCK_VECTORS):
            vectors = min(BLOCK_VECTORS, last_column - c)
            for i in range(first_in, last_in, BLOCK_ROWS):
                place = i * w_pitch + c * lanes
                change_block(
                    w, w_at + place, w_pitch, work, g_at + i * g_pitch + c * lanes, g_pitch, memory,
                    memory_at + place, slot, min(BLOCK_ROWS, last_in - i), vectors, sums,
                    sums_at + c * stride + i // lanes, stride, coefficients, step, l2, scale,
                )  # fmt: skip

    return change

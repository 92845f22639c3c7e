"""Softmax and its cross-entropy: of a row, and of as many rows at once as a vector has lanes, with the same bits.

A row by itself waits: for its largest output, for the sum over its classes, for the logarithm of that. Of many rows
the sums across lanes are taken together: halves of two rows in one vector, then quarters of four, in the order in which
those of one row are.
"""

import math

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .functions import exp, log
from .jit import part
from .simd import (
    I32,
    I64,
    Lanes,
    Memory,
    VectorType,
    first_equal,
    first_mask,
    formula,
    lane_count,
    load,
    load_first,
    maximum,
    reduce_add,
    reduce_max,
    splat,
    spread,
    step,
    store,
    where,
)
from .tile import loop

larger = formula(maximum)
add = formula(lambda a, b: a + b)
multiply = formula(lambda a, b: a * b)
exp_of_difference = formula(lambda a, b: exp(a - b))


# A row ---------------------------------------------------------------------------------------------------------------


@part
def largest_of(z, at, n_out):
    """Give the largest of one row's outputs."""
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
        at_lane = first_equal(load(z, at + o), number)
        if at_lane < lanes:
            return o + at_lane
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


@intrinsic
def log_of(typing_context, number):
    """Give the logarithm of a sum of exponentials, the largest of which is 1; a NaN of a NaN."""

    def codegen(context, builder, signature, args):
        vector = spread(builder, context.get_value_type(VectorType(types.float64)), args[0])
        return builder.extract_element(_log(Lanes(builder, vector)).value, I32(0))

    return types.float64(types.float64), codegen


def _log(norms):
    return where(norms > 0.0, log(norms), norms)


@part
def softmax_loss(z, at, n_out, targets, row, share, smoothing):
    """Give ``log(sum(exp(z))) - z[label]``, whose gradient is ``softmax(z) - onehot(label)``."""
    label = targets[row]
    own, largest = z[at + label], largest_of(z, at, n_out)
    hit = index_of(z, at, n_out, largest) == label
    norm = softmax(z, at, n_out, largest, share)
    z[at + label] -= z.dtype.type(share)
    return log_of(float(norm)) + (float(largest) - float(own)), hit


# As many rows as a vector has lanes ----------------------------------------------------------------------------------


def _fold_rows(combine, rows):
    """Emit a vector that has all lanes of each row combined, in the order of :func:`fold`."""
    builder, count, width = rows[0].builder, rows[0].count, rows[0].count
    while width > 1:
        width //= 2
        low = [i for i in range(2 * count) if not i & width]
        halves = [ir.Constant(ir.VectorType(I32, count), [i + high for i in low]) for high in (0, width)]
        rows = [
            combine(*(Lanes(builder, builder.shuffle_vector(a.value, b.value, half)) for half in halves))
            for a, b in zip(rows[::2], rows[1::2], strict=True)
        ]
    return rows[0]


def _everywhere(vector, i):
    """Emit a vector with lane ``i`` in every lane."""
    mask = ir.Constant(ir.VectorType(I32, vector.count), [i] * vector.count)
    return Lanes(vector.builder, vector.builder.shuffle_vector(vector.value, vector.value, mask))


def _blocks(builder, memory, at, pitch, n_out, values, body):
    """Emit ``values[i] = body(i, place, inside, values[i])`` for each vector of each of the rows.

    ``place`` is where it starts, and ``inside`` says which of its lanes are outputs.
    """
    count = memory.vector_type.count

    def block(k, values):
        o = builder.mul(k, I64(count))
        inside = first_mask(builder, builder.sub(n_out, o), count)
        first = builder.add(at, o)
        return [body(i, step(builder, first, i, pitch), inside, old) for i, old in enumerate(values)]

    n_blocks = builder.sdiv(builder.add(n_out, I64(count - 1)), I64(count))
    return loop(builder, n_blocks, values, block)


@intrinsic
def largest_of_rows(typing_context, z, at, pitch, n_out):
    """Give the largest output of each of the rows."""

    def codegen(context, builder, signature, args):
        memory, (at, pitch, n_out) = Memory(context, builder, z, args[0]), args[1:]
        low = Lanes(builder, ir.Constant(memory.vector_type, [-math.inf] * memory.vector_type.count))

        def body(i, place, inside, top):
            value = Lanes(builder, builder.select(inside, memory.vector(place).value, low.value))
            return maximum(Lanes(builder, top), value).value

        tops = _blocks(builder, memory, at, pitch, n_out, [low.value] * low.count, body)
        return _fold_rows(maximum, [Lanes(builder, top) for top in tops]).value

    i64 = types.int64
    return VectorType(z.dtype)(z, i64, i64, i64), codegen


@intrinsic
def softmax_of_rows(typing_context, z, at, pitch, n_out, largest, weights):
    """Turn each of the rows into its weight times its probabilities in place; give their sums of exponentials."""

    def codegen(context, builder, signature, args):
        memory, (at, pitch, n_out) = Memory(context, builder, z, args[0]), args[1:4]
        tops, weights = Lanes(builder, args[4]), Lanes(builder, args[5])
        zero, low = tops.of(0.0), tops.of(-math.inf)

        def exponentials(i, place, inside, total):
            value = Lanes(builder, builder.select(inside, memory.vector(place).value, low.value))
            e = exp(value - _everywhere(tops, i))
            memory.put(place, e)
            return (Lanes(builder, total) + e).value

        totals = _blocks(builder, memory, at, pitch, n_out, [zero.value] * zero.count, exponentials)
        norms = _fold_rows(lambda a, b: a + b, [Lanes(builder, total) for total in totals])
        shares = 1.0 / norms

        def scale(i, place, inside, nothing):
            memory.put(place, memory.vector(place) * _everywhere(shares, i) * _everywhere(weights, i))
            return nothing

        _blocks(builder, memory, at, pitch, n_out, [I32(0)] * zero.count, scale)
        return norms.value

    i64 = types.int64
    return largest(z, i64, i64, i64, largest, weights), codegen


@intrinsic
def add_logs(typing_context, out, at, norms):
    """Add the logarithms of the rows' sums of exponentials to ``out[at:]``, float64 numbers."""

    def codegen(context, builder, signature, args):
        memory, values = Memory(context, builder, out, args[0]), args[2]
        wide = memory.vector_type
        for first in range(0, norms.count, wide.count):
            part_of = ir.Constant(ir.VectorType(I32, wide.count), list(range(first, first + wide.count)))
            some = builder.shuffle_vector(values, values, part_of)
            some = Lanes(builder, some if some.type == wide else builder.fpext(some, wide))
            place = builder.add(args[1], I64(first))
            memory.put(place, _log(some) + memory.vector(place))
        return context.get_dummy_value()

    return types.void(out, types.int64, norms), codegen

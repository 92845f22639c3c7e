"""Softmax, its cross-entropy and its gradient: of one row, and of as many rows as a vector has lanes, bit-identical.

One row is bound by latency: its maximum, then the sum over its classes, then the logarithm of that. For many rows the
reductions across lanes are done together: halves of two rows in one vector, then quarters of four, and so on, in the
order in which one row is reduced.
"""

import math
from operator import add

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .jit import part
from .simd import I32, I64, Memory, Vector, VectorType, first_mask, fold, maximum, spread, step, where
from .tile import loop
from .vmath import exp, log

# Code for one row and for many ----------------------------------------------------------------------------------------


def _fold_rows(combine, rows):
    """Emit a vector whose lane ``i`` is all lanes of row ``i`` combined, in the order of `fold`."""
    builder, count, width = rows[0].builder, rows[0].count, rows[0].count
    while width > 1:
        width //= 2
        low = [i for i in range(2 * count) if not i & width]
        halves = [ir.Constant(ir.VectorType(I32, count), [i + high for i in low]) for high in (0, width)]
        rows = [
            combine(*(Vector(builder, builder.shuffle_vector(a.value, b.value, half)) for half in halves))
            for a, b in zip(rows[::2], rows[1::2], strict=True)
        ]
    return rows[0]


def _everywhere(vector, i):
    """Emit a vector with lane ``i`` of another in every lane."""
    mask = ir.Constant(ir.VectorType(I32, vector.count), [i] * vector.count)
    return Vector(vector.builder, vector.builder.shuffle_vector(vector.value, vector.value, mask))


class _Rows:
    """Outputs of one or more rows, in the code of an intrinsic."""

    def __init__(self, context, builder, array_type, array, at, pitch, n_out):
        self.builder, self.memory = builder, Memory(context, builder, array_type, array)
        self.at, self.pitch, self.n_out = at, pitch, n_out
        self.count = self.memory.vector_type.count
        self.low = Vector(builder, ir.Constant(self.memory.vector_type, [-math.inf] * self.count))

    def each(self, values, body):
        """Emit ``values[i] = body(i, place, inside, values[i])`` for each vector of each of the rows.

        ``place`` is where the vector starts, and ``inside`` the mask of its lanes that are outputs.
        """

        def block(k, values):
            o = self.builder.mul(k, I64(self.count))
            inside = first_mask(self.builder, self.builder.sub(self.n_out, o), self.count)
            places = [step(self.builder, self.builder.add(self.at, o), i, self.pitch) for i in range(len(values))]
            return [body(i, p, inside, Vector(self.builder, values[i])).value for i, p in enumerate(places)]

        n_blocks = self.builder.sdiv(self.builder.add(self.n_out, I64(self.count - 1)), I64(self.count))
        return [Vector(self.builder, v) for v in loop(self.builder, n_blocks, [v.value for v in values], block)]

    def outputs(self, place, inside):
        """Emit the load of a vector, with minus infinity in the lanes beyond the outputs."""
        return Vector(self.builder, self.builder.select(inside, self.memory.vector(place).value, self.low.value))

    def largest(self, n_rows):
        """Emit the maximum of each lane over each row."""
        return self.each([self.low] * n_rows, lambda i, place, inside, top: maximum(top, self.outputs(place, inside)))

    def exponentials(self, tops):
        """Emit ``z = exp(z - top)`` in place, and the sum of each lane over each row."""

        def body(i, place, inside, total):
            e = exp(self.outputs(place, inside) - tops[i])
            self.memory.put(place, e)
            return total + e

        return self.each([top.of(0.0) for top in tops], body)

    def scale(self, factors, weights):
        """Emit ``z = z * factor * weight`` in place."""

        def body(i, place, inside, unused):
            self.memory.put(place, self.memory.vector(place) * factors[i] * weights[i])
            return unused

        self.each([factor.of(0.0) for factor in factors], body)


def _log(norms):
    """Emit the logarithm of a sum of exponentials, the largest of which is 1; NaN stays NaN."""
    return where(norms > 0.0, log(norms), norms)


# One row -------------------------------------------------------------------------------------------------------------


@intrinsic
def largest_of(typing_context, z, at, n_out):
    """Return the largest output of a row."""

    def codegen(context, builder, signature, args):
        array, at, n_out = args
        return fold(maximum, *_Rows(context, builder, z, array, at, I64(0), n_out).largest(1))

    return z.dtype(z, types.int64, types.int64), codegen


@intrinsic
def index_of(typing_context, z, at, n_out, number):
    """Return the index of the first output of a row that equals `number`, or 0 if none does."""

    def codegen(context, builder, signature, args):
        array, at, n_out, number = args
        rows, bits = _Rows(context, builder, z, array, at, I64(0), n_out), ir.IntType(64)
        number = rows.memory.broadcast(number)

        def block(k, found):
            o = builder.mul(k, I64(rows.count))
            equal = (rows.memory.vector(builder.add(at, o)) == number).value
            mask = builder.zext(builder.bitcast(equal, ir.IntType(rows.count)), bits)
            here = builder.add(o, builder.cttz(mask, ir.IntType(1)(0)))
            first = builder.and_(builder.icmp_signed("<", found[0], I64(0)), builder.icmp_signed("!=", mask, I64(0)))
            return [builder.select(first, here, found[0])]

        n_blocks = builder.sdiv(builder.add(n_out, I64(rows.count - 1)), I64(rows.count))
        (found,) = loop(builder, n_blocks, [I64(-1)], block)
        return builder.select(builder.icmp_signed("<", found, I64(0)), I64(0), found)

    return types.int64(z, types.int64, types.int64, z.dtype), codegen


@part
def argmax(z, at, n_out):
    """Return the index of the first largest output of a row; if there is a NaN, any index."""
    return index_of(z, at, n_out, largest_of(z, at, n_out))


@intrinsic
def softmax(typing_context, z, at, n_out, largest, weight):
    """Replace a row of outputs by `weight` times their probabilities; return the sum of exponentials.

    ``p = exp(z - max z) / sum(exp(z - max z))``; lanes beyond `n_out` become 0.
    """

    def codegen(context, builder, signature, args):
        array, at, n_out, largest, weight = args
        rows = _Rows(context, builder, z, array, at, I64(0), n_out)
        norm = fold(add, *rows.exponentials([rows.memory.broadcast(largest)]))
        weight = context.cast(builder, weight, signature.args[4], z.dtype)
        rows.scale([1.0 / rows.memory.broadcast(norm)], [rows.memory.broadcast(weight)])
        return norm

    return z.dtype(z, types.int64, types.int64, z.dtype, weight), codegen


@intrinsic
def log_of(typing_context, number):
    """Return the logarithm of a row's sum of exponentials."""

    def codegen(context, builder, signature, args):
        vector = spread(builder, context.get_value_type(VectorType(types.float64)), args[0])
        return builder.extract_element(_log(Vector(builder, vector)).value, I32(0))

    return types.float64(types.float64), codegen


@part
def softmax_loss(z, at, n_out, targets, row, scale, smoothing):
    """Return the cross-entropy ``log(sum(exp(z))) - z[label]``, and whether the label has the largest output.

    Replace `z` by `scale` times the gradient ``softmax(z) - onehot(label)``.
    """
    label = targets[row]
    own, largest = z[at + label], largest_of(z, at, n_out)
    correct = index_of(z, at, n_out, largest) == label
    norm = softmax(z, at, n_out, largest, scale)
    z[at + label] -= z.dtype.type(scale)
    return log_of(float(norm)) + (float(largest) - float(own)), correct


# As many rows as a vector has lanes -----------------------------------------------------------------------------------


@intrinsic
def largest_of_rows(typing_context, z, at, pitch, n_out):
    """Return the largest output of each row."""

    def codegen(context, builder, signature, args):
        rows = _Rows(context, builder, z, *args)
        return _fold_rows(maximum, rows.largest(rows.count)).value

    i64 = types.int64
    return VectorType(z.dtype)(z, i64, i64, i64), codegen


@intrinsic
def softmax_of_rows(typing_context, z, at, pitch, n_out, largest, weights):
    """Replace each row by its weight times its probabilities; return the sums of exponentials of the rows."""

    def codegen(context, builder, signature, args):
        rows, tops, weights = _Rows(context, builder, z, *args[:4]), *(Vector(builder, v) for v in args[4:])
        norms = _fold_rows(add, rows.exponentials([_everywhere(tops, i) for i in range(rows.count)]))
        rows.scale(*([_everywhere(v, i) for i in range(rows.count)] for v in (1.0 / norms, weights)))
        return norms.value

    i64 = types.int64
    return largest(z, i64, i64, i64, largest, weights), codegen


@intrinsic
def add_logs(typing_context, out, at, norms):
    """Add the logarithms of the rows' sums of exponentials to ``out[at:]``, in float64."""

    def codegen(context, builder, signature, args):
        memory, values = Memory(context, builder, out, args[0]), args[2]
        wide = memory.vector_type
        for first in range(0, norms.count, wide.count):
            part_of = ir.Constant(ir.VectorType(I32, wide.count), list(range(first, first + wide.count)))
            some = builder.shuffle_vector(values, values, part_of)
            some = Vector(builder, some if some.type == wide else builder.fpext(some, wide))
            place = builder.add(args[1], I64(first))
            memory.put(place, _log(some) + memory.vector(place))
        return context.get_dummy_value()

    return types.void(out, types.int64, norms), codegen

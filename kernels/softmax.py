"""Softmax, its cross-entropy and its gradient: of one row, and of as many rows as a vector has lanes, bit-identical.

A single row is latency-bound: its maximum, then the sum over its classes, then the logarithm of that. For many rows the
reductions across lanes are done together: halves of two rows in one vector, then quarters of four, and so on, in the
order in which one row is reduced.
"""

import math
from operator import add

from numba import types

from .jit import part
from .simd import I32, Vector, VectorType, first_mask, fold, maximum, shuffle, spread, where
from .trace import Int, loop, traced
from .vmath import exp, log

# Code for one row and for many ----------------------------------------------------------------------------------------


def _fold_rows(combine, rows):
    """Emit a vector whose lane ``i`` is all lanes of row ``i`` combined, in the order of `fold`."""
    count, width = rows[0].count, rows[0].count
    while width > 1:
        width //= 2
        low = [i for i in range(2 * count) if not i & width]
        rows = [
            combine(*(shuffle(a, b, [i + high for i in low]) for high in (0, width)))
            for a, b in zip(rows[::2], rows[1::2], strict=True)
        ]
    return rows[0]


def _everywhere(vector, i):
    """Emit a vector with lane ``i`` of another in every lane."""
    return shuffle(vector, vector, [i] * vector.count)


class _Rows:
    """Outputs of one or more rows."""

    def __init__(self, z, at, pitch, n_out):
        self.z, self.at, self.pitch, self.n_out = z, at, pitch, n_out
        self.low = z.constant(-math.inf)
        self.n_blocks = (n_out + (z.count - 1)) // z.count

    def each(self, values, body):
        """Emit ``values[i] = body(i, place, inside, values[i])`` for each vector of each of the rows.

        ``place`` is where the vector starts, and ``inside`` the mask of its lanes that are outputs.
        """

        def block(k, values):
            o = k * self.z.count
            inside = Vector(o.builder, first_mask(o.builder, (self.n_out - o).value, self.z.count))
            return [body(i, self.at + o + i * self.pitch, inside, value) for i, value in enumerate(values)]

        return loop(self.n_blocks, values, block)

    def outputs(self, place, inside):
        """Emit the load of a vector, with minus infinity in the lanes beyond the outputs."""
        return where(inside, self.z.vector(place), self.low)

    def largest(self, n_rows):
        """Emit the maximum of each lane over each row."""
        return self.each([self.low] * n_rows, lambda i, place, inside, top: maximum(top, self.outputs(place, inside)))

    def exponentials(self, tops):
        """Emit ``z = exp(z - top)`` in place, and the sum of each lane over each row."""

        def body(i, place, inside, total):
            e = exp(self.outputs(place, inside) - tops[i])
            self.z.put(place, e)
            return total + e

        return self.each([top.of(0.0) for top in tops], body)

    def scale(self, factors, weights):
        """Emit ``z = z * factor * weight`` in place."""

        def body(i, place, inside, unused):
            self.z.put(place, self.z.vector(place) * factors[i] * weights[i])
            return unused

        self.each([factor.of(0.0) for factor in factors], body)


def _log(norms):
    """Emit the logarithm of a sum of exponentials, the largest of which is 1; NaN stays NaN."""
    return where(norms > 0.0, log(norms), norms)


# One row -------------------------------------------------------------------------------------------------------------


@traced(returns=lambda z, at, n_out: z.dtype)
def largest_of(z, at, n_out):
    """Return the largest output of a row."""
    return fold(maximum, *_Rows(z, at, at.of(0), n_out).largest(1))


@traced(returns=lambda z, at, n_out, number: types.int64)
def index_of(z, at, n_out, number):
    """Return the index of the first output of a row that equals `number`, or 0 if none does."""
    rows, number = _Rows(z, at, at.of(0), n_out), number.vector(z)

    def block(k, state):
        (found,) = state
        equal = (z.vector(at + k * z.count) == number).bits_of_lanes()
        mask = Int(k.builder, equal)
        here = k * z.count + mask.lowest_bit(is_set=False)
        return [((found < 0) & (mask != 0)).choose(here, found)]

    (found,) = loop(rows.n_blocks, [at.of(-1)], block)
    return (found < 0).choose(0, found)


@part
def argmax(z, at, n_out):
    """Return the index of the first largest output of a row; if there is a NaN, any index."""
    return index_of(z, at, n_out, largest_of(z, at, n_out))


@traced(returns=lambda z, at, n_out, largest, weight: z.dtype)
def softmax(z, at, n_out, largest, weight):
    """Replace a row of outputs by `weight` times their probabilities; return the sum of exponentials.

    ``p = exp(z - max z) / sum(exp(z - max z))``; lanes beyond `n_out` become 0.
    """
    rows = _Rows(z, at, at.of(0), n_out)
    norm = fold(add, *rows.exponentials([largest.vector(z)]))
    rows.scale([1.0 / Vector(z.builder, spread(z.builder, z.vector_type, norm))], [weight.vector(z)])
    return norm


@traced(returns=lambda number: types.float64)
def log_of(number):
    """Return the logarithm of a row's sum of exponentials."""
    vector_type = number.context.get_value_type(VectorType(types.float64))
    norm = _log(Vector(number.builder, spread(number.builder, vector_type, number.cast(types.float64))))
    return norm.builder.extract_element(norm.value, I32(0))


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


@traced(returns=lambda z, at, pitch, n_out: VectorType(z.dtype))
def largest_of_rows(z, at, pitch, n_out):
    """Return the largest output of each row."""
    return _fold_rows(maximum, _Rows(z, at, pitch, n_out).largest(z.count))


@traced(returns=lambda z, at, pitch, n_out, largest, weights: largest)
def softmax_of_rows(z, at, pitch, n_out, largest, weights):
    """Replace each row by its weight times its probabilities; return the sums of exponentials of the rows."""
    rows = _Rows(z, at, pitch, n_out)
    norms = _fold_rows(add, rows.exponentials([_everywhere(largest, i) for i in range(z.count)]))
    rows.scale(*([_everywhere(v, i) for i in range(z.count)] for v in (1.0 / norms, weights)))
    return norms


@traced
def add_logs(out, at, norms):
    """Add the logarithms of the rows' sums of exponentials to ``out[at:]``, in float64."""
    for first in range(0, norms.count, out.count):
        some = shuffle(norms, norms, range(first, first + out.count)).widened()
        out.put(at + first, _log(some) + out.vector(at + first))

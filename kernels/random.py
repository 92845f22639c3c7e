"""Random numbers for dropout and noise, counter-based: those of `fastmlp/random.py`, under the same names.

A number is a hash of the seed, the epoch, the row of X, the layer and the unit, in 32-bit arithmetic, one number a
lane. It does not depend on the thread that computes it, and no state is stored.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .jit import part
from .simd import I32, I64, VECTOR_BYTES, Vector, _splat, spread, sqrt
from .vmath import log, turn

GOLDEN = 0x9E3779B9
"""2**32 divided by the golden ratio: its multiples lie far apart."""


def _mixed(builder, h):
    """Emit the hash of a word, or of each word of a vector: lowbias32 (Wellons, 2018)."""

    def word(number):
        return h.type(number) if isinstance(h.type, ir.IntType) else ir.Constant(h.type, [number] * h.type.count)

    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, None)):
        h = builder.xor(h, builder.lshr(h, word(shift)))
        if factor is not None:
            h = builder.mul(h, word(factor))
    return h


def _random_vector(builder, key, unit, offsets):
    """Emit 32 random bits in each lane, for the units ``unit + offsets`` of a row."""
    words = ir.VectorType(I32, len(offsets))
    keys = spread(builder, words, builder.trunc(key, I32))
    units = builder.add(spread(builder, words, builder.trunc(unit, I32)), ir.Constant(words, list(offsets)))
    counted = builder.add(keys, builder.mul(units, ir.Constant(words, [GOLDEN] * len(offsets))))
    return _mixed(builder, builder.xor(_mixed(builder, counted), keys))


@intrinsic
def mix(typing_context, h):
    """Return the hash of the low 32 bits."""

    def codegen(context, builder, signature, args):
        return builder.zext(_mixed(builder, builder.trunc(args[0], I32)), I64)

    return types.int64(types.int64), codegen


@part
def row_key(seed, epoch, row, layer):
    """Return the key of a row of X in an epoch and a layer: 0 is the inputs, l the l-th hidden layer."""
    return mix(mix(mix(mix(seed) ^ epoch) + row) + GOLDEN * (layer + 1))


@part
def random_bits(key, unit):
    """Return 32 random bits for a unit of a row."""
    return mix(mix(key + GOLDEN * unit) ^ key)


@intrinsic
def kept(typing_context, vector, key, unit, drop_below, scale):
    """Return `scale` times a vector of a row's units from `unit` on, with 0 in the lanes that are dropped."""

    def codegen(context, builder, signature, args):
        value, key, unit, drop_below, _ = args
        words = _random_vector(builder, key, unit, range(vector.count))
        keep = builder.icmp_unsigned(">=", words, spread(builder, words.type, builder.trunc(drop_below, I32)))
        scaled = builder.fmul(value, _splat(context, builder, vector, signature.args[4], args[4]))
        return builder.select(keep, scaled, ir.Constant(value.type, [0.0] * vector.count))

    i64 = types.int64
    return vector(vector, i64, i64, i64, scale), codegen


@intrinsic
def kept_bits(typing_context, key, unit, drop_below):
    """Return a bit mask of 64 units of a row from `unit` on, set where they are kept."""

    def codegen(context, builder, signature, args):
        key, unit, drop_below = args
        count, bits = VECTOR_BYTES // 4, I64(0)
        for first in range(0, 64, count):
            words = _random_vector(builder, key, unit, range(first, first + count))
            keep = builder.icmp_unsigned(">=", words, spread(builder, words.type, builder.trunc(drop_below, I32)))
            some = builder.zext(builder.bitcast(keep, ir.IntType(count)), I64)
            bits = builder.or_(bits, builder.shl(some, I64(first)))
        return bits

    i64 = types.int64
    return types.uint64(i64, i64, i64), codegen


@intrinsic
def noisy(typing_context, vector, key, unit, size):
    """Return a vector plus `size` times normal numbers, two from each pair of words (Box and Muller, 1958).

    They are computed in float64.
    """

    def codegen(context, builder, signature, args):
        value, key, unit, size = args
        pairs = vector.count // 2
        doubles = ir.VectorType(ir.DoubleType(), pairs)

        def uniform(first):
            words = _random_vector(builder, key, unit, range(first, vector.count, 2))
            return (Vector(builder, builder.uitofp(words, doubles)) + 0.5) * 2.0**-32

        radius = sqrt(-2.0 * log(uniform(0)))
        cosine, sine = turn(uniform(1))
        order = ir.Constant(ir.VectorType(I32, vector.count), [i // 2 + i % 2 * pairs for i in range(vector.count)])
        normal = builder.shuffle_vector((radius * cosine).value, (radius * sine).value, order)
        noise = builder.fmul(
            spread(builder, normal.type, context.cast(builder, size, signature.args[3], types.float64)), normal
        )
        if vector.dtype == types.float32:
            noise = builder.fptrunc(noise, value.type)
        return builder.fadd(value, noise)

    return vector(vector, types.int64, types.int64, size), codegen

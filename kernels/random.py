"""Random numbers that are counted, not drawn: those of `fastmlp/random.py`, whose names these are.

A number is a hash of the seed, the epoch, the row of X, the layer and the unit that it is for, in arithmetic of 32
bits, a lane each: so it is the same whichever thread computes it, and nothing need be kept of it.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .jit import part
from .simd import I32, I64, _splat, spread

GOLDEN = 0x9E3779B9
"""2**32 over the golden ratio."""


def _mixed(builder, h):
    """Emit the hash of a word, or of each in a vector."""

    def word(number):
        return h.type(number) if isinstance(h.type, ir.IntType) else ir.Constant(h.type, [number] * h.type.count)

    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, None)):
        h = builder.xor(h, builder.lshr(h, word(shift)))
        if factor is not None:
            h = builder.mul(h, word(factor))
    return h


def random_words(builder, key, unit, count):
    """Emit 32 random bits, a lane each, for ``count`` units of a row from ``unit`` on."""
    words = ir.VectorType(I32, count)
    keys = spread(builder, words, builder.trunc(key, I32))
    units = builder.add(spread(builder, words, builder.trunc(unit, I32)), ir.Constant(words, list(range(count))))
    counted = builder.add(keys, builder.mul(units, ir.Constant(words, [GOLDEN] * count)))
    return _mixed(builder, builder.xor(_mixed(builder, counted), keys))


@intrinsic
def mix(typing_context, h):
    """Give the hash of the lowest 32 bits."""

    def codegen(context, builder, signature, args):
        return builder.zext(_mixed(builder, builder.trunc(args[0], I32)), I64)

    return types.int64(types.int64), codegen


@part
def row_key(seed, epoch, row, layer):
    """Give the key of a row of X in an epoch, for a layer: 0 for the inputs, l for the l-th hidden layer."""
    return mix(mix(mix(mix(seed) ^ epoch) + row) + GOLDEN * (layer + 1))


@intrinsic
def kept(typing_context, vector, key, unit, threshold, factor):
    """Give ``factor`` times the numbers of a vector, from ``unit`` of a row on, and 0 for those that are dropped."""

    def codegen(context, builder, signature, args):
        value, key, unit, threshold, _ = args
        words = random_words(builder, key, unit, vector.count)
        keep = builder.icmp_unsigned(">=", words, spread(builder, words.type, builder.trunc(threshold, I32)))
        scaled = builder.fmul(value, _splat(context, builder, vector, signature.args[4], args[4]))
        return builder.select(keep, scaled, ir.Constant(value.type, [0.0] * vector.count))

    i64 = types.int64
    return vector(vector, i64, i64, i64, factor), codegen

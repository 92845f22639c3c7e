"""Random numbers for dropout and noise, counter-based: those of `fastmlp/random.py`, under the same names.

A number is a hash of the seed, the epoch, the row of X, the layer and the unit, in 32-bit arithmetic, one number a
lane. It does not depend on the thread that computes it, and no state is stored.
"""

from llvmlite import ir
from numba import types

from .jit import part
from .simd import I32, I64, VECTOR_BYTES, Vector, shuffle, spread, sqrt, where
from .trace import traced
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


@traced(returns=lambda h: types.int64)
def mix(h):
    """Return the hash of the low 32 bits."""
    return h.builder.zext(_mixed(h.builder, h.builder.trunc(h.value, I32)), I64)


@part
def row_key(seed, epoch, row, layer):
    """Return the key of a row of X in an epoch and a layer: 0 is the inputs, l the l-th hidden layer."""
    return mix(mix(mix(mix(seed) ^ epoch) + row) + GOLDEN * (layer + 1))


@part
def random_bits(key, unit):
    """Return 32 random bits for a unit of a row."""
    return mix(mix(key + GOLDEN * unit) ^ key)


def _kept(key, unit, drop_below, offsets):
    """Emit a mask of the units ``unit + offsets`` of a row, set where they are kept."""
    builder, words = key.builder, _random_vector(key.builder, key.value, unit.value, offsets)
    bound = spread(builder, words.type, builder.trunc(drop_below.value, I32))
    return Vector(builder, builder.icmp_unsigned(">=", words, bound))


@traced(returns=lambda vector, key, unit, drop_below, scale: vector)
def kept(vector, key, unit, drop_below, scale):
    """Return `scale` times a vector of a row's units from `unit` on, with 0 in the lanes that are dropped."""
    return where(_kept(key, unit, drop_below, range(vector.count)), vector * scale.vector(vector), vector.of(0.0))


@traced(returns=lambda key, unit, drop_below: types.uint64)
def kept_bits(key, unit, drop_below):
    """Return a bit mask of 64 units of a row from `unit` on, set where they are kept."""
    count, bits = VECTOR_BYTES // 4, I64(0)
    for first in range(0, 64, count):
        some = _kept(key, unit, drop_below, range(first, first + count)).bits_of_lanes()
        bits = key.builder.or_(bits, key.builder.shl(some, I64(first)))
    return bits


@traced(returns=lambda vector, key, unit, size: vector)
def noisy(vector, key, unit, size):
    """Return a vector plus `size` times normal numbers, two from each pair of words (Box and Muller, 1958).

    They are computed in float64.
    """
    builder, count = key.builder, vector.count
    pairs = count // 2
    doubles = ir.VectorType(ir.DoubleType(), pairs)

    def uniform(first):
        words = _random_vector(builder, key.value, unit.value, range(first, count, 2))
        return (Vector(builder, builder.uitofp(words, doubles)) + 0.5) * 2.0**-32

    radius = sqrt(-2.0 * log(uniform(0)))
    cosine, sine = turn(uniform(1))
    normal = shuffle(radius * cosine, radius * sine, [i // 2 + i % 2 * pairs for i in range(count)])
    noise = size.vector(normal) * normal
    if vector.bits == 32:
        noise = Vector(builder, builder.fptrunc(noise.value, vector.value.type))
    return vector + noise

"""Bit masks of lanes, and vectors moved by them: one bit a lane, the lowest for the first."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .jit import part
from .simd import AVX2, AVX512, BMI2, I32, I64, Vector, call_llvm, where
from .trace import traced

WORD = 64
"""Bits in a word of a mask."""

ZERO, ONE = np.uint64(0), np.uint64(1)


UINT64 = lambda *kinds: types.uint64  # noqa: E731


@traced(returns=UINT64)
def nonzero_lanes(x, at):
    """Return a bit for each lane of the vector at ``x[at:]``, set where the number is not zero."""
    numbers = x.vector(at)
    nonzero = x.builder.fcmp_unordered("!=", numbers.value, numbers.of(0.0).value)
    return Vector(x.builder, nonzero).bits_of_lanes()


@traced(returns=UINT64)
def nonfinite_lanes(x, at):
    """Return a bit for each lane of the vector at ``x[at:]``, set where the number is infinite or NaN."""
    zero = x.vector(at) - x.vector(at)  # NaN where it is not finite
    return Vector(x.builder, x.builder.fcmp_unordered("uno", zero.value, zero.value)).bits_of_lanes()


def _mask_of(bits, count):
    """Emit a mask of lanes from a bit for each."""
    builder = bits.builder
    low = builder.trunc(bits.value, ir.IntType(count))
    return Vector(builder, builder.bitcast(low, ir.VectorType(ir.IntType(1), count)))


@traced(returns=UINT64)
def nonzero_pairs(x, at):
    """Return two bits for each pair of the 64 bytes at ``x[at:]``, set where they are not both zero."""
    builder, pairs = x.builder, ir.VectorType(ir.IntType(16), WORD // 2)
    both = builder.load(builder.bitcast(x.address(at, WORD), pairs.as_pointer()), align=1)
    nonzero = builder.sext(builder.icmp_unsigned("!=", both, ir.Constant(pairs, None)), pairs)
    each = builder.bitcast(nonzero, ir.VectorType(ir.IntType(8), WORD))
    return builder.bitcast(builder.icmp_unsigned("!=", each, ir.Constant(each.type, None)), I64)


@traced
def compress(out, at, numbers, bits):
    """Move the lanes of a vector whose bits are set to the front, and store the whole vector at ``out[at:]``."""
    builder, lanes = out.builder, f"v{numbers.count}f{numbers.bits}"
    if AVX512:  # the general instruction stores lane by lane on some processors
        mask, name = _mask_of(bits, numbers.count), f"llvm.x86.avx512.mask.compress.{lanes}"
        kept = call_llvm(builder, name, numbers.vector_type, numbers.value, numbers.of(0.0).value, mask.value)
        out.put(at, Vector(builder, kept))
    elif AVX2:
        out.put(at, Vector(builder, _compressed(builder, numbers.value, bits.value)))
    else:
        mask, address = _mask_of(bits, numbers.count), out.address(at, numbers.count)
        name = f"llvm.masked.compressstore.{lanes}"
        call_llvm(builder, name, ir.VoidType(), numbers.value, address, mask.value)


def _compressed(builder, vector, bits):
    """Emit the permutation of a 256-bit vector that moves the lanes of a mask to the front, looked up in a table."""
    count, eight = vector.type.count, ir.VectorType(ir.IntType(32), 8)
    words = 8 // count  # of 32 bits in a lane
    row_type = ir.ArrayType(ir.IntType(8), 8)
    table_type = ir.ArrayType(row_type, 1 << count)
    name = f"lanes_first.{count}"
    table = builder.module.globals.get(name)
    if table is None:
        rows = []
        for mask in range(1 << count):
            order = [i * words + j for i in range(count) if mask >> i & 1 for j in range(words)]
            rows.append(ir.Constant(row_type, order + [0] * (8 - len(order))))
        table = cgutils.add_global_variable(builder.module, table_type, name)
        table.linkage, table.global_constant = "internal", True
        table.initializer = ir.Constant(table_type, rows)
    low = builder.and_(bits, I64((1 << count) - 1))
    row = builder.gep(table, [I64(0), low])
    places = builder.load(builder.bitcast(row, ir.VectorType(ir.IntType(8), 8).as_pointer()), align=1)
    floats = ir.VectorType(ir.FloatType(), 8)
    args = builder.bitcast(vector, floats), builder.zext(places, eight)
    return builder.bitcast(call_llvm(builder, "llvm.x86.avx2.permps", floats, *args), vector.type)


@traced
def keep_lanes(out, out_at, x, at, bits, factor):
    """Store ``factor * x[at:]``, a vector, at ``out[out_at:]``, with zeros where the bits are not set."""
    out.put(out_at, where(_mask_of(bits, x.count), x.vector(at) * factor.vector(x), out.constant(0.0)))


@traced(returns=lambda bits: types.int64)
def count_bits(bits):
    """Return how many bits are set."""
    return bits.bit_count()


@traced(returns=UINT64)
def _extract(bits, mask):
    """Return the bits at the places of the mask, put together: the instruction PEXT of x86."""
    return call_llvm(bits.builder, "llvm.x86.bmi.pext.64", I64, bits.value, mask.value)


@part
def _extract_one_by_one(bits, mask):
    """Return the bits at the places of the mask, put together, one by one."""
    together, place = ZERO, ZERO
    while mask != ZERO:
        lowest = mask & (ZERO - mask)
        if bits & lowest != ZERO:
            together |= ONE << place
        place += ONE
        mask ^= lowest
    return together


extract_bits = _extract if BMI2 else _extract_one_by_one


@part
def double_bits(bits):
    """Return each of the lowest 32 bits twice (Warren, Hacker's Delight, 7-2)."""
    bits &= (ONE << np.uint64(32)) - ONE
    for shift in (16, 8, 4, 2, 1):
        bits = (bits | bits << np.uint64(shift)) & (~ZERO // ((ONE << np.uint64(shift)) + ONE))
    return bits | bits << ONE


@traced
def transpose_bits(words, at):
    """Transpose the square of 64 x 64 bits at ``words[at:]`` by halves (Warren, Hacker's Delight, 7-3)."""
    builder, lanes = words.builder, 8
    kind, first = ir.VectorType(I64, lanes), words.address(at, WORD)
    places = [builder.bitcast(builder.gep(first, [I64(i)]), kind.as_pointer()) for i in range(0, WORD, lanes)]
    rows = [builder.load(place, align=8) for place in places]
    for half in (1, 2, 4):  # both words are in one vector
        low = [not lane & half for lane in range(lanes)]
        other = ir.Constant(ir.VectorType(I32, lanes), [lane ^ half for lane in range(lanes)])
        kept = ir.Constant(kind, [_columns(half) if yes else ~_columns(half) for yes in low])
        turns = ir.Constant(kind, [half if yes else WORD - half for yes in low])
        for i, row in enumerate(rows):
            moved = builder.shuffle_vector(row, row, other)
            moved = call_llvm(builder, f"llvm.fshl.v{lanes}i64", kind, moved, moved, turns)
            rows[i] = builder.or_(builder.and_(row, kept), builder.and_(moved, builder.not_(kept)))
    for half in (8, 16, 32):
        shift, columns = ir.Constant(kind, [half] * lanes), ir.Constant(kind, [_columns(half)] * lanes)
        for i in range(lanes):
            if not i & half // lanes:
                j = i + half // lanes
                swap = builder.and_(builder.xor(builder.lshr(rows[i], shift), rows[j]), columns)
                rows[i] = builder.xor(rows[i], builder.shl(swap, shift))
                rows[j] = builder.xor(rows[j], swap)
    for place, row in zip(places, rows, strict=True):
        builder.store(row, place, align=8)


def _columns(half):
    """Return the bits of the columns whose number has a 0 where ``half`` has its 1."""
    return (2**WORD - 1) // (2**half + 1)

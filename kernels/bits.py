"""Bit masks of lanes, and vectors moved by them: one bit a lane, the lowest for the first."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import part
from .simd import AVX2, AVX512, BMI2, I32, I64, Memory, Vector, spread

WORD = 64
"""Bits in a word of a mask."""

ZERO, ONE = np.uint64(0), np.uint64(1)


def _lanes_to_bits(builder, mask):
    return builder.zext(builder.bitcast(mask, ir.IntType(mask.type.count)), I64)


def _bits_to_lanes(builder, bits, count):
    return builder.bitcast(builder.trunc(bits, ir.IntType(count)), ir.VectorType(ir.IntType(1), count))


@intrinsic
def nonzero_lanes(typing_context, x, at):
    """Return a bit for each lane of the vector at ``x[at:]``, set where the number is not zero."""

    def codegen(context, builder, signature, args):
        vector = Memory(context, builder, x, args[0]).vector(args[1])
        return _lanes_to_bits(builder, builder.fcmp_unordered("!=", vector.value, vector.of(0.0).value))

    return types.uint64(x, types.int64), codegen


@intrinsic
def nonfinite_lanes(typing_context, x, at):
    """Return a bit for each lane of the vector at ``x[at:]``, set where the number is infinite or NaN."""

    def codegen(context, builder, signature, args):
        value = Memory(context, builder, x, args[0]).vector(args[1]).value
        zero = builder.fsub(value, value)  # NaN where it is not finite
        return _lanes_to_bits(builder, builder.fcmp_unordered("uno", zero, zero))

    return types.uint64(x, types.int64), codegen


@intrinsic
def compress(typing_context, out, out_at, x, at, bits):
    """Move the lanes of ``x[at:]`` whose bits are set to the front, and store the whole vector at ``out[out_at:]``."""

    def codegen(context, builder, signature, args):
        out_memory, x_memory = Memory(context, builder, out, args[0]), Memory(context, builder, x, args[2])
        vector = x_memory.vector(args[3]).value
        kind = vector.type
        if AVX512:  # the general instruction stores lane by lane on some processors
            name = f"llvm.x86.avx512.mask.compress.v{kind.count}f{x.dtype.bitwidth}"
            mask = _bits_to_lanes(builder, args[4], kind.count)
            function_type = ir.FunctionType(kind, [kind, kind, mask.type])
            function = cgutils.get_or_insert_function(builder.module, function_type, name)
            zeros = ir.Constant(kind, [0.0] * kind.count)
            out_memory.put(args[1], Vector(builder, builder.call(function, [vector, zeros, mask])))
        elif AVX2:
            out_memory.put(args[1], Vector(builder, _compressed(builder, vector, args[4])))
        else:
            mask = _bits_to_lanes(builder, args[4], kind.count)
            address = out_memory.address(args[1], kind.count)
            name = f"llvm.masked.compressstore.v{kind.count}f{x.dtype.bitwidth}"
            function_type = ir.FunctionType(ir.VoidType(), [kind, address.type, mask.type])
            function = cgutils.get_or_insert_function(builder.module, function_type, name)
            builder.call(function, [vector, address, mask])
        return context.get_dummy_value()

    return types.void(out, types.int64, x, types.int64, types.uint64), codegen


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
    function_type = ir.FunctionType(floats, [floats, eight])
    function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.x86.avx2.permps")
    moved = builder.call(function, [builder.bitcast(vector, floats), builder.zext(places, eight)])
    return builder.bitcast(moved, vector.type)


@intrinsic
def keep_lanes(typing_context, out, out_at, x, at, bits, factor):
    """Store ``factor * x[at:]``, a vector, at ``out[out_at:]``, with zeros where the bits are not set."""

    def codegen(context, builder, signature, args):
        out_memory, x_memory = Memory(context, builder, out, args[0]), Memory(context, builder, x, args[2])
        vector = x_memory.vector(args[3])
        factor = spread(builder, vector.value.type, context.cast(builder, args[5], signature.args[5], x.dtype))
        mask = _bits_to_lanes(builder, args[4], vector.value.type.count)
        product = builder.fmul(vector.value, factor)
        out_memory.put(args[1], Vector(builder, builder.select(mask, product, vector.of(0.0).value)))
        return context.get_dummy_value()

    return types.void(out, types.int64, x, types.int64, types.uint64, factor), codegen


@intrinsic
def count_bits(typing_context, bits):
    """Return how many bits are set."""

    def codegen(context, builder, signature, args):
        return builder.ctpop(args[0])

    return types.int64(types.uint64), codegen


@intrinsic
def _extract(typing_context, bits, mask):
    """Return the bits at the places of the mask, put together: the instruction PEXT of x86."""

    def codegen(context, builder, signature, args):
        function_type = ir.FunctionType(I64, [I64, I64])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.x86.bmi.pext.64")
        return builder.call(function, list(args))

    return types.uint64(types.uint64, types.uint64), codegen


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


@intrinsic
def transpose_bits(typing_context, words, at):
    """Transpose the square of 64 x 64 bits at ``words[at:]`` by halves (Warren, Hacker's Delight, 7-3)."""

    def codegen(context, builder, signature, args):
        lanes = 8
        kind = ir.VectorType(I64, lanes)
        first = Memory(context, builder, words, args[0]).address(args[1], WORD)
        places = [builder.bitcast(builder.gep(first, [I64(i)]), kind.as_pointer()) for i in range(0, WORD, lanes)]
        rows = [builder.load(place, align=8) for place in places]
        rotate = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(kind, [kind] * 3), f"llvm.fshl.v{lanes}i64"
        )
        for half in (1, 2, 4):  # both words are in one vector
            low = [not lane & half for lane in range(lanes)]
            other = ir.Constant(ir.VectorType(I32, lanes), [lane ^ half for lane in range(lanes)])
            kept = ir.Constant(kind, [_columns(half) if yes else ~_columns(half) for yes in low])
            turns = ir.Constant(kind, [half if yes else WORD - half for yes in low])
            for i, row in enumerate(rows):
                moved = builder.shuffle_vector(row, row, other)
                moved = builder.call(rotate, [moved, moved, turns])
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
        return context.get_dummy_value()

    return types.void(words, types.int64), codegen


def _columns(half):
    """Return the bits of the columns whose number has a 0 where ``half`` has its 1."""
    return (2**WORD - 1) // (2**half + 1)

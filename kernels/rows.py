"""How the rows of a batch come to the first layer: read in place, or brought into the workspace as they are needed.

Rows that are kept small, as bytes or without their zeros, are a quarter of the memory to read: at the speed of the
sums, that is what an epoch would wait for. Each way notes in ``notes[:rows]`` where the rows start that the products
read. A packed row is its pairs of neighbouring numbers, one after the other, without those of two zeros; which pairs
they are is marked in ``marks[:rows * n_words]``, a bit a pair of features.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import entry, part
from .simd import AVX2, AVX512, BMI2, I64, Memory, Vector, lane_count, prefetch, spread

PAIR = 2
"""Features of a mark. Where their number is odd, the last pair has a zero behind it."""

WORD = 64
"""Marks in a word: of pairs of features, or of rows."""

LINE_BYTES, WORD_BYTES = 64, 8

ZERO, ONE = np.uint64(0), np.uint64(1)

FIRSTS = np.uint64(0x5555555555555555)
"""The first bit of each two."""


# One vector ----------------------------------------------------------------------------------------------------------


def _lanes_to_bits(builder, mask):
    return builder.zext(builder.bitcast(mask, ir.IntType(mask.type.count)), I64)


def _bits_to_lanes(builder, bits, count):
    return builder.bitcast(builder.trunc(bits, ir.IntType(count)), ir.VectorType(ir.IntType(1), count))


@intrinsic
def nonzero_lanes(typing_context, x, at):
    """Give one bit for each lane of the vector at ``x[at:]``, set where the number is not zero."""

    def codegen(context, builder, signature, args):
        vector = Memory(context, builder, x, args[0]).vector(args[1])
        return _lanes_to_bits(builder, builder.fcmp_unordered("!=", vector.value, vector.of(0.0).value))

    return types.uint64(x, types.int64), codegen


@intrinsic
def bad_lanes(typing_context, x, at):
    """Give one bit for each lane of the vector at ``x[at:]``, set where the number is infinite or none at all."""

    def codegen(context, builder, signature, args):
        value = Memory(context, builder, x, args[0]).vector(args[1]).value
        zero = builder.fsub(value, value)  # NaN where it is not finite
        return _lanes_to_bits(builder, builder.fcmp_unordered("uno", zero, zero))

    return types.uint64(x, types.int64), codegen


@intrinsic
def compress(typing_context, out, out_at, x, at, bits):
    """Write the lanes of ``x[at:]`` whose bits are set to the first places of ``out[out_at:]``, a whole vector."""

    def codegen(context, builder, signature, args):
        out_memory, x_memory = Memory(context, builder, out, args[0]), Memory(context, builder, x, args[2])
        vector = x_memory.vector(args[3]).value
        kind = vector.type
        if AVX512:  # the general instruction writes to memory, lane by lane on some processors
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
    """Emit a permutation of a 256-bit vector that has the lanes of the lowest bits first; a table says which it is."""
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
    """Write ``factor * x[at:]`` of a vector to ``out[out_at:]``, zeros where the bits are not set."""

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
def widen(typing_context, out, out_at, x, at, scale):
    """Write ``scale * x[at:]`` of a vector of bytes to ``out[out_at:]``."""

    def codegen(context, builder, signature, args):
        out_memory, x_memory = Memory(context, builder, out, args[0]), Memory(context, builder, x, args[2])
        kind = out_memory.vector_type
        bytes_type = ir.VectorType(ir.IntType(8), kind.count)
        address = builder.bitcast(x_memory.address(args[3], kind.count), bytes_type.as_pointer())
        factor = spread(builder, kind, context.cast(builder, args[4], signature.args[4], out.dtype))
        value = builder.uitofp(builder.load(address, align=1), kind)
        out_memory.put(args[1], Vector(builder, builder.fmul(value, factor)))
        return context.get_dummy_value()

    return types.void(out, types.int64, x, types.int64, scale), codegen


@intrinsic
def widen_one(typing_context, out, out_at, x, at, scale):
    """Write ``scale * x[at]`` of a byte to ``out[out_at]``."""

    def codegen(context, builder, signature, args):
        out_memory, x_memory = Memory(context, builder, out, args[0]), Memory(context, builder, x, args[2])
        factor = context.cast(builder, args[4], signature.args[4], out.dtype)
        out_memory.set(args[1], builder.fmul(builder.uitofp(x_memory.number(args[3]), factor.type), factor))
        return context.get_dummy_value()

    return types.void(out, types.int64, x, types.int64, scale), codegen


@intrinsic
def count_bits(typing_context, bits):
    """Give how many bits are set."""

    def codegen(context, builder, signature, args):
        return builder.ctpop(args[0])

    return types.int64(types.uint64), codegen


@intrinsic
def _extract(typing_context, bits, mask):
    """Give the bits at the places of the mask, put together: an instruction of x86."""

    def codegen(context, builder, signature, args):
        function_type = ir.FunctionType(I64, [I64, I64])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.x86.bmi.pext.64")
        return builder.call(function, list(args))

    return types.uint64(types.uint64, types.uint64), codegen


@part
def _extract_one_by_one(bits, mask):
    """Give the bits at the places of the mask, put together."""
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
def both_of(bits):
    """Give each of the lowest 32 bits twice (Warren, Hacker's Delight, 7-2)."""
    bits &= (ONE << np.uint64(32)) - ONE
    for shift in (16, 8, 4, 2, 1):
        bits = (bits | bits << np.uint64(shift)) & (~ZERO // ((ONE << np.uint64(shift)) + ONE))
    return bits | bits << ONE


# The rows of a batch -------------------------------------------------------------------------------------------------


@part
def words_of(n_in):
    """Give how many words the marks of a row take."""
    return (n_in + PAIR * WORD - 1) // (PAIR * WORD)


@part
def groups_of(n_rows):
    """Give how many words one mark of each row takes."""
    return (n_rows + WORD - 1) // WORD


@part
def read_in_place(notes, marks, work, x, starts, index, orders, at, rows, n_in, ends_at, scale):
    """Let the products read rows of numbers where they are."""
    for row in range(rows):
        notes[row] = orders[at + row] * n_in


@part
def pack_numbers(notes, marks, work, x, starts, index, orders, at, rows, n_in, ends_at, scale):
    """Bring rows of numbers, packed."""
    for row in range(rows):
        pack_row(work, notes[row], marks, row * words_of(n_in), x, orders[at + row] * n_in, n_in)


@part
def widen_row(notes, work, x, orders, at, row, n_in, scale):
    """Bring a row of bytes."""
    k, start, lanes = 0, orders[at + row] * n_in, lane_count(work)
    while k + lanes <= n_in:
        widen(work, notes[row] + k, x, start + k, scale)
        k += lanes
    while k < n_in:
        widen_one(work, notes[row] + k, x, start + k, scale)
        k += 1


@part
def bring_bytes(notes, marks, work, x, starts, index, orders, at, rows, n_in, ends_at, scale):
    """Bring rows of bytes."""
    for row in range(rows):
        widen_row(notes, work, x, orders, at, row, n_in, scale)


@part
def widen_rows(notes, marks, work, x, starts, index, orders, at, rows, n_in, ends_at, scale):
    """Bring rows of bytes; packed where there is room for marks."""
    for row in range(rows):
        widen_row(notes, work, x, orders, at, row, n_in, scale)
        if len(marks) > 0:  # a packed row never reaches the numbers that are still to be read
            pack_row(work, notes[row], marks, row * words_of(n_in), work, notes[row], n_in)


@part
def read_packed(notes, marks, work, x, starts, index, orders, at, rows, n_in, ends_at, scale):
    """Let the products read packed rows where they are: from word ``starts[i]`` on their marks, then their numbers."""
    n_words, per_word = words_of(n_in), WORD_BYTES // x.itemsize
    for row in range(rows):
        notes[row] = starts[orders[at + row]]
    for word in range(n_words):  # the first of all rows: what has not been fetched is waited for at once
        for row in range(rows):
            marks[row * n_words + word] = index[notes[row] + word]
    for row in range(rows):
        notes[row] = (notes[row] + n_words) * per_word


@part
def read_or_pack(notes, marks, work, x, starts, index, orders, at, rows, n_in, ends_at, scale):
    """Let the products read packed rows where they are; bring others, packed."""
    if len(starts) > 0:
        read_packed(notes, marks, work, x, starts, index, orders, at, rows, n_in, ends_at, scale)
    else:
        pack_numbers(notes, marks, work, x, starts, index, orders, at, rows, n_in, ends_at, scale)


# What comes after: a row is fetched while another is worked on, for memory is slower than the sums -------------------


@part
def fetch_row(x, starts, orders, at, n_in):
    """Fetch a row of numbers or bytes."""
    if at < len(orders):
        for i in range(orders[at] * n_in, (orders[at] + 1) * n_in, LINE_BYTES // x.itemsize):
            prefetch(x, i)


@part
def fetch_packed(x, starts, orders, at, n_in):
    """Fetch a packed row, and where one lies that comes later; nothing of rows that are still to be packed."""
    per_word = WORD_BYTES // x.itemsize
    if len(starts) > 0 and at < len(orders):
        start = starts[orders[at]]
        end = min(starts[orders[at] + 1], start + words_of(n_in) + n_in // per_word + 1)  # a gap may follow
        for i in range(start, end, LINE_BYTES // WORD_BYTES):
            prefetch(x, i * per_word)
        prefetch(x, end * per_word - 1)
        prefetch(starts, orders[min(at + 8, len(orders) - 1)])


@part
def fetch_targets(targets, n_rows, orders, at, rows):
    """Fetch the targets of some rows, which lie as far apart as those."""
    each = len(targets) // n_rows
    for i in range(at, at + rows):
        prefetch(targets, orders[i] * each)


@part
def fetch_nothing(x, starts, orders, at, n_in):
    """Fetch nothing."""


# Rows made small -----------------------------------------------------------------------------------------------------


@part
def pack_row(packed, at, marks, marks_at, x, x_at, n_in):
    """Write the pairs of a row that are not zero to ``packed[at:]`` and mark them; give where they end.

    Up to a vector beyond their end is written to, but never beyond as many numbers as there are in all pairs.
    """
    lanes = lane_count(x)
    for word in range(words_of(n_in)):
        marks[marks_at + word] = ZERO
        for half in range(PAIR):
            k = (word * PAIR + half) * WORD
            end = min(k + WORD, n_in)
            firsts, place = ZERO, ZERO
            while k + lanes <= end:
                some = nonzero_lanes(x, x_at + k)
                some = (some | some >> ONE) & FIRSTS
                compress(packed, at, x, x_at + k, some | some << ONE)
                at += PAIR * count_bits(some)
                firsts |= some << place
                place += np.uint64(lanes)
                k += lanes
            while k < end:
                first, second = x[x_at + k], x[x_at + k + 1] if k + 1 < end else 0.0
                if first != 0.0 or second != 0.0:
                    packed[at], packed[at + 1] = first, second
                    at += PAIR
                    firsts |= ONE << place
                place += np.uint64(PAIR)
                k += PAIR
            marks[marks_at + word] |= extract_bits(firsts, FIRSTS) << np.uint64(half * WORD // PAIR)
    return at


@part
def look_at_numbers(bad_row, x, work, notes, marks, starts, first, rows, n_in):
    """Note in ``bad_row[0]`` the first of these rows if one of them has an infinite number or a NaN."""
    lanes, bad, at, end = lane_count(x), ZERO, first * n_in, (first + rows) * n_in
    while at + lanes <= end:
        bad |= bad_lanes(x, at)
        at += lanes
    while at < end:
        if not np.isfinite(x[at]):
            bad = ONE
        at += 1
    if bad != ZERO and bad_row[0] < 0:
        bad_row[0] = first


@part
def look_at_packed(bad_row, x, work, notes, marks, starts, first, rows, n_in):
    """Note the same of rows that have just been packed; those that came so have been looked at."""
    lanes, n_words, bad = lane_count(x), words_of(n_in), ZERO
    for row in range(rows if len(starts) == 0 else 0):
        left = 0
        for word in range(row * n_words, (row + 1) * n_words):
            left += PAIR * count_bits(marks[word])
        for at in range(notes[row], notes[row] + left, lanes):
            some = bad_lanes(work, at)
            bad |= some if left >= lanes else some & ((ONE << np.uint64(left)) - ONE)
            left -= lanes
    if bad != ZERO and bad_row[0] < 0:
        bad_row[0] = first


@part
def look_at_nothing(bad_row, x, work, notes, marks, starts, first, rows, n_in):
    """Note nothing."""


@entry
def pack_rows(packed, index, ends, bad_row, x, n_in, first_word, first_row, last_row):
    """Pack rows from word ``first_word`` on, each its marks and then its numbers; ``ends`` says before which word.

    ``packed`` is seen as numbers like x, and as words in ``index``. ``bad_row[0]`` becomes the first row that has
    an infinite number or a NaN.
    """
    lanes, n_words, per_word = lane_count(x), words_of(n_in), WORD_BYTES // x.itemsize
    start = first_word
    for row in range(first_row, last_row):
        at = (start + n_words) * per_word
        end = pack_row(packed, at, index, start, x, row * n_in, n_in)
        for k in range(end, end + lanes):  # for the vectors below
            packed[k] = 0.0
        bad = ZERO
        for k in range(at, end, lanes):
            bad |= bad_lanes(packed, k)
        if bad != ZERO and bad_row[0] < 0:
            bad_row[0] = row
        start += n_words + (end - at + per_word - 1) // per_word
        ends[row] = start

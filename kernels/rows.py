"""How the rows of a batch come to the first layer: read in place, or brought into the workspace as they are needed.

Rows that are kept small, as bytes or without their zeros, are a quarter of the memory to read: at the speed of the
sums, that is what an epoch would wait for. Each way notes in ``notes[:rows]`` where the rows start that the products
read, and where zeros are left out, marks their nonzero numbers in ``marks[:rows * n_words]``.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import entry, part
from .simd import AVX512, I64, Lanes, Memory, lane_count, prefetch, spread

WORD = 64
"""Features, or rows, in a word of marks."""

LINE_BYTES, WORD_BYTES = 64, 8

ZERO, ONE = np.uint64(0), np.uint64(1)


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
def expand(typing_context, out, out_at, x, at, bits):
    """Write the numbers at ``x[at:]``, a whole vector, to the lanes of ``out[out_at:]`` whose bits are set, else 0."""

    def codegen(context, builder, signature, args):
        out_memory, x_memory = Memory(context, builder, out, args[0]), Memory(context, builder, x, args[2])
        kind = x_memory.vector_type
        address, mask = x_memory.address(args[3], kind.count), _bits_to_lanes(builder, args[4], kind.count)
        function_type = ir.FunctionType(kind, [address.type, mask.type, kind])
        name = f"llvm.masked.expandload.v{kind.count}f{x.dtype.bitwidth}"
        function = cgutils.get_or_insert_function(builder.module, function_type, name)
        zeros = ir.Constant(kind, [0.0] * kind.count)
        out_memory.put(args[1], Lanes(builder, builder.call(function, [address, mask, zeros])))
        return context.get_dummy_value()

    return types.void(out, types.int64, x, types.int64, types.uint64), codegen


@intrinsic
def compress(typing_context, out, out_at, x, at, bits):
    """Write the lanes of ``x[at:]`` whose bits are set to the first places of ``out[out_at:]``, a whole vector."""

    def codegen(context, builder, signature, args):
        out_memory, x_memory = Memory(context, builder, out, args[0]), Memory(context, builder, x, args[2])
        vector = x_memory.vector(args[3]).value
        kind, mask = vector.type, _bits_to_lanes(builder, args[4], vector.type.count)
        if AVX512:  # the general instruction writes to memory, lane by lane on some processors
            name = f"llvm.x86.avx512.mask.compress.v{kind.count}f{x.dtype.bitwidth}"
            function_type = ir.FunctionType(kind, [kind, kind, mask.type])
            function = cgutils.get_or_insert_function(builder.module, function_type, name)
            zeros = ir.Constant(kind, [0.0] * kind.count)
            out_memory.put(args[1], Lanes(builder, builder.call(function, [vector, zeros, mask])))
        else:
            address = out_memory.address(args[1], kind.count)
            name = f"llvm.masked.compressstore.v{kind.count}f{x.dtype.bitwidth}"
            function_type = ir.FunctionType(ir.VoidType(), [kind, address.type, mask.type])
            function = cgutils.get_or_insert_function(builder.module, function_type, name)
            builder.call(function, [vector, address, mask])
        return context.get_dummy_value()

    return types.void(out, types.int64, x, types.int64, types.uint64), codegen


@intrinsic
def widen(typing_context, out, out_at, x, at, count, scale):
    """Write ``scale * x[at : at + count]`` of bytes to a vector at ``out[out_at:]``; give the bits of what is not zero.

    Lanes from ``count`` on become zero; no byte beyond is read.
    """

    def codegen(context, builder, signature, args):
        out_memory, x_memory = Memory(context, builder, out, args[0]), Memory(context, builder, x, args[2])
        kind = out_memory.vector_type
        bytes_type = ir.VectorType(ir.IntType(8), kind.count)
        numbers = ir.VectorType(I64, kind.count)
        inside = builder.icmp_signed(
            "<", ir.Constant(numbers, list(range(kind.count))), spread(builder, numbers, args[4])
        )
        address = builder.bitcast(x_memory.address(args[3], args[4]), bytes_type.as_pointer())
        name = f"llvm.masked.load.v{kind.count}i8.p0"
        function_type = ir.FunctionType(bytes_type, [address.type, ir.IntType(32), inside.type, bytes_type])
        function = cgutils.get_or_insert_function(builder.module, function_type, name)
        zeros = ir.Constant(bytes_type, [0] * kind.count)
        value = builder.call(function, [address, ir.IntType(32)(1), inside, zeros])
        factor = spread(builder, kind, context.cast(builder, args[5], signature.args[5], out.dtype))
        out_memory.put(args[1], Lanes(builder, builder.fmul(builder.uitofp(value, kind), factor)))
        return _lanes_to_bits(builder, builder.icmp_unsigned("!=", value, zeros))

    return types.uint64(out, types.int64, x, types.int64, types.int64, scale), codegen


@intrinsic
def count_bits(typing_context, bits):
    """Give how many bits are set."""

    def codegen(context, builder, signature, args):
        return builder.ctpop(args[0])

    return types.int64(types.uint64), codegen


@intrinsic
def lowest_bit(typing_context, bits):
    """Give the place of the lowest bit that is set; there must be one."""

    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.IntType(1)(1))

    return types.int64(types.uint64), codegen


# The rows of a batch -------------------------------------------------------------------------------------------------


@part
def words_of(n_in):
    """Give how many words the marks of a row take."""
    return (n_in + WORD - 1) // WORD


@part
def read_in_place(notes, marks, work, x, starts, index, orders, at, rows, n_in, ends_at, scale):
    """Let the products read rows of numbers where they are."""
    for row in range(rows):
        notes[row] = orders[at + row] * n_in


@part
def mark_in_place(notes, marks, work, x, starts, index, orders, at, rows, n_in, ends_at, scale):
    """Let the products read rows of numbers where they are, and mark what is not zero."""
    for row in range(rows):
        notes[row] = orders[at + row] * n_in
        mark_row(marks, row * words_of(n_in), x, orders[at + row] * n_in, n_in)


@part
def widen_rows(notes, marks, work, x, starts, index, orders, at, rows, n_in, ends_at, scale):
    """Bring rows of bytes, and mark what is not zero where there is room for marks."""
    lanes, n_words, marked = lane_count(work), words_of(n_in), len(marks) > 0
    for row in range(rows):
        start, to = orders[at + row] * n_in, notes[row]
        for word in range(n_words):
            bits = ZERO
            for i in range(0, WORD, lanes):
                k = word * WORD + i
                count = min(lanes, n_in - k)
                if count > 0:
                    bits |= widen(work, to + k, x, start + k, count, scale) << np.uint64(i)
            if marked:
                marks[row * n_words + word] = bits


@part
def unpack_rows(notes, marks, work, x, starts, index, orders, at, rows, n_in, ends_at, scale):
    """Bring rows whose zeros were left out: from word ``starts[i]`` on their marks, as ``index``, and numbers, as x."""
    lanes, n_words, per_word = lane_count(work), words_of(n_in), WORD_BYTES // x.itemsize
    for row in range(rows):
        start, to = starts[orders[at + row]], notes[row]
        k = (start + n_words) * per_word
        for word in range(n_words):
            bits = index[start + word]
            marks[row * n_words + word] = bits
            for i in range(0, WORD, lanes):
                expand(work, to + word * WORD + i, x, k, bits)
                k += count_bits(bits & ((ONE << np.uint64(lanes)) - ONE))
                bits >>= np.uint64(lanes)


# What comes after: a row is fetched while another is worked on, for memory is slower than the sums -------------------


@part
def fetch_bytes(x, starts, orders, at, n_in):
    """Fetch a row of bytes."""
    if at < len(orders):
        for i in range(orders[at] * n_in, (orders[at] + 1) * n_in, LINE_BYTES):
            prefetch(x, i)


@part
def fetch_packed(x, starts, orders, at, n_in):
    """Fetch a packed row, and where one lies that comes later."""
    per_word = WORD_BYTES // x.itemsize
    if at < len(orders):
        for i in range(starts[orders[at]], starts[orders[at] + 1], LINE_BYTES // WORD_BYTES):
            prefetch(x, i * per_word)
        prefetch(starts, orders[min(at + 8, len(orders) - 1)])


@part
def fetch_nothing(x, starts, orders, at, n_in):
    """Fetch nothing."""


# Rows made small -----------------------------------------------------------------------------------------------------


@part
def mark_row(marks, marks_at, x, x_at, n_in):
    """Mark the nonzero numbers of a row."""
    lanes = lane_count(x)
    for word in range(words_of(n_in)):
        start, end = x_at + word * WORD, x_at + min((word + 1) * WORD, n_in)
        bits, at = ZERO, start
        while at + lanes <= end:
            bits |= nonzero_lanes(x, at) << np.uint64(at - start)
            at += lanes
        while at < end:
            if x[at] != 0.0:
                bits |= ONE << np.uint64(at - start)
            at += 1
        marks[marks_at + word] = bits


@entry
def count_rows(lengths, x, n_in, first_row, last_row):
    """Give how many words each row takes when it is packed."""
    lanes, per_word = lane_count(x), WORD_BYTES // x.itemsize
    for row in range(first_row, last_row):
        count, at = 0, row * n_in
        while at + lanes <= (row + 1) * n_in:
            count += count_bits(nonzero_lanes(x, at))
            at += lanes
        while at < (row + 1) * n_in:
            count += x[at] != 0.0
            at += 1
        lengths[row] = words_of(n_in) + (count + per_word - 1) // per_word


@entry
def pack_rows(packed, index, starts, x, n_in, first_row, last_row):
    """Write the marks and the nonzero numbers of each row from word ``starts[row]`` on.

    ``packed`` is seen as numbers like x, and as words in ``index``.
    """
    lanes, n_words, per_word = lane_count(x), words_of(n_in), WORD_BYTES // x.itemsize
    for row in range(first_row, last_row):
        start = starts[row]
        mark_row(index, start, x, row * n_in, n_in)
        at, end = (start + n_words) * per_word, starts[row + 1] * per_word
        for word in range(n_words):
            bits, k = index[start + word], row * n_in + word * WORD
            while bits != ZERO and at + lanes <= end and k + lanes <= (row + 1) * n_in:
                compress(packed, at, x, k, bits)
                at += count_bits(bits & ((ONE << np.uint64(lanes)) - ONE))
                bits >>= np.uint64(lanes)
                k += lanes
            while bits != ZERO and at < end:
                i = lowest_bit(bits)
                packed[at] = x[k + i]
                bits &= bits - ONE
                at += 1
            if bits != ZERO:  # somebody has changed x since its numbers were counted: what found no room is left out
                index[start + word] ^= bits << np.uint64(k - row * n_in - word * WORD)

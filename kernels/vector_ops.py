"""Operations on vectors: load, store, prefetch, and move lanes."""

from llvmlite import ir
from numba import types

from .simd import I32, I64, VectorType, call_llvm, first_mask, fold, shuffle
from .trace import traced


@traced(returns=lambda array: types.int64)
def lane_count(array):
    """Return how many numbers of the array's dtype fit in one vector."""
    return I64(array.count)


@traced(returns=lambda array, at: VectorType(array.dtype))
def load(array, at):
    """Return the vector at ``array[at:]``."""
    return array.vector(at)


@traced(returns=lambda array, at, count: VectorType(array.dtype))
def load_part(array, at, count):
    """Return the vector at ``array[at:]``, of which only the first `count` lanes are read; the others are 0."""
    builder, vector_type = array.builder, array.vector_type
    count = (count < array.count).choose(count, array.count)
    address = builder.bitcast(array.address(at, count), vector_type.as_pointer())
    mask, zeros = first_mask(builder, count.value, array.count), ir.Constant(vector_type, [0.0] * array.count)
    name = f"llvm.masked.load.v{array.count}f{array.dtype.bitwidth}.p0"
    return call_llvm(builder, name, vector_type, address, I32(array.align), mask, zeros)


@traced
def store(array, at, vector):
    """Write a vector to ``array[at:]``."""
    array.put(at, vector)


@traced(returns=lambda array, number: VectorType(array.dtype))
def splat(array, number):
    """Return a vector of the array's dtype with `number` in every lane."""
    return number.vector(array)


@traced(returns=lambda vector, count, fill: vector)
def first_lanes(vector, count, fill):
    """Return a vector with its first `count` lanes, and `fill` in the others."""
    inside = first_mask(vector.builder, count.value, vector.count)
    return vector.builder.select(inside, vector.value, fill.vector(vector).value)


@traced(returns=lambda vector: vector.dtype)
def reduce_add(vector):
    """Return the sum of all lanes, in the order of `fold`."""
    return fold(lambda a, b: a + b, vector)


@traced(returns=lambda a, b: types.float64)
def squared_distance(a, b):
    """Return the sum of ``(a - b)**2`` over all lanes, computed in float64."""
    difference = a.widened() - b.widened()
    return fold(lambda x, y: x + y, difference * difference)


@traced(returns=lambda vector, i: vector.dtype)
def lane(vector, i):
    """Return a lane of a vector."""
    return vector.builder.extract_element(vector.value, i.value)


@traced(returns=lambda vector, i, number: vector)
def set_lane(vector, i, number):
    """Return a vector with another number in a lane."""
    return vector.builder.insert_element(vector.value, number.cast(vector.dtype), i.value)


@traced
def transpose_square(out, source):
    """Write the transpose of the lanes x lanes square at the start of a matrix to the start of another."""
    n = out.buffer.count
    rows = [source.buffer.vector(source.at + i * source.pitch) for i in range(n)]
    half = n // 2
    while half:  # swap the off-diagonal halves of each square of 2 * half
        low = [c if not c & half else n + c - half for c in range(n)]
        high = [c + half if not c & half else n + c for c in range(n)]
        for i in range(n):
            if not i & half:
                pair = rows[i], rows[i + half]
                rows[i], rows[i + half] = shuffle(*pair, low), shuffle(*pair, high)
        half //= 2
    for i, row in enumerate(rows):
        out.buffer.put(out.at + i * out.pitch, row)


@traced
def prefetch(array, at):
    """Prefetch the cache line of ``array[at]``, which need not exist, into the L2 cache."""
    array.prefetch(at)


@traced
def prefetch_near(array, at):
    """Prefetch it into the L1 cache."""
    array.prefetch(at, near=True)


@traced
def prefetch_to_write(array, at):
    """Prefetch it into the L1 cache, to be written."""
    array.prefetch(at, to_write=True)


@traced(returns=lambda array, at: array.dtype)
def peek(array, at):
    """Return ``array[at]`` by an atomic load: another thread may write it."""
    return array.builder.load_atomic(array.address(at), "acquire", array.align)

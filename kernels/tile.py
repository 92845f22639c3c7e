"""The register tile: a block of a matrix product that stays in registers until it is finished.

A product is ``out[i, :] = finish(first + sum over k of a[i, k] * b[k, :], out[i, :])``. The forward pass and the update
both have this form: ``first`` is the bias or zero, and ``finish`` is the activation or the optimizer. So neither costs
a pass over memory. Each number of a tile is one sum, computed in the order of ``k`` by fused multiply-adds. The size of
a tile changes no bit.
"""

from itertools import product

from numba import types
from numba.extending import intrinsic

from .jit import part
from .simd import I64, REGISTERS, Vector, fma, spread, step, unpack

HEIGHTS = {4: (6, 4, 2, 1), 2: (8, 4, 2, 1), 1: (8, 4, 2, 1)}
if REGISTERS < 32:
    HEIGHTS = {2: (6, 4, 2, 1), 1: (8, 4, 2, 1)}
"""Rows of the tiles of each width in vectors. The sums of the tallest and a row of b fit the registers."""

VECTORS = max(HEIGHTS)
"""Vectors in a row of the widest tile."""

TALLEST, TALLEST_NARROW = HEIGHTS[VECTORS][0], HEIGHTS[1][0]

SHAPES = [(rows, vectors) for vectors, heights in HEIGHTS.items() for rows in heights]

_LINE_BITS = 512  # of a cache line


@part
def tile_width(left, widest):
    """Return the width of the next tile, a power of two, if ``left`` vectors of a row remain."""
    while widest > left:
        widest //= 2
    return widest


@part
def tile_height(left, vectors):
    """Return the height of the next tile of this width if ``left`` rows remain."""
    tallest = TALLEST if vectors == VECTORS else TALLEST_NARROW
    if left >= tallest:
        return tallest
    return 4 if left >= 4 else 2 if left >= 2 else 1


def tile_product(rows_named, finish, prefetching=False):
    """Build the intrinsic that computes one tile of a product, of any of the shapes.

    Parameters
    ----------
    rows_named : bool
        Whether the rows of ``a`` are the rows of the tile, ``a[i, k] = a.buffer[a.starts[a.first + i] + a_at + k]``, or
        the terms of the sum, ``a[i, k] = a.buffer[a.starts[a.first + k] + a_at + i]``, which multiplies by the
        transpose of ``a``.
    finish : formula
        ``finish(sum, out, number)`` is stored to ``out``.
    prefetching : bool
        Whether the tile prefetches the rows of a :class:`~.structs.Prefetch` meanwhile. They are as long as the sum,
        and their number is a power of two. A core can wait for few cache lines at a time, so each term prefetches one.
    """
    i64 = types.int64

    @intrinsic
    def tile(typing_context, rows, vectors, out, a, a_at, b, n, first, number, prefetch):
        """Compute ``rows`` rows of ``vectors`` vectors; ``first`` is one row that starts the sums of every row."""
        return types.void(i64, i64, out, a, i64, b, i64, first, number, prefetch), codegen

    def codegen(context, builder, signature, args):
        rows, vectors, _, _, a_at, _, n, _, number, _ = args
        out, a, b, first = (unpack(context, builder, signature.args[i], args[i]) for i in (2, 3, 5, 7))
        prefetch = unpack(context, builder, signature.args[9], args[9]) if prefetching else None
        number = context.cast(builder, number, signature.args[8], out.buffer.dtype)
        number = Vector(builder, spread(builder, out.buffer.vector_type, number))
        lanes = out.buffer.vector_type.count

        def emit(n_rows, n_vectors):
            across = [I64(j * lanes) for j in range(n_vectors)]
            places = [builder.add(step(builder, out.at, i, out.pitch), at) for i in range(n_rows) for at in across]
            if rows_named:
                starts = [a.starts.number(builder.add(a.first, I64(i))) for i in range(n_rows)]
                a_rows = [builder.add(start, a_at) for start in starts]
            else:
                a_rows = [builder.add(a_at, I64(i)) for i in range(n_rows)]
                for place in places:  # large weights come from memory, which takes as long as computing their gradient
                    out.buffer.prefetch(place)

            def add(k, sums):
                if prefetching:
                    turn = builder.and_(k, builder.sub(prefetch.count, I64(1)))
                    row = builder.zext(prefetch.order.number(builder.add(prefetch.at, turn)), I64)
                    prefetch.source.prefetch(builder.add(builder.mul(row, n), k))
                term = k if rows_named else a.starts.number(builder.add(a.first, k))
                b_row = builder.add(b.at, builder.mul(k, b.pitch))
                right = [b.buffer.vector(builder.add(b_row, at)) for at in across]
                if not rows_named:  # the next tile's part of this row: the core does not foresee it
                    next_part = I64(_LINE_BITS // a.buffer.dtype.bitwidth)
                    a.buffer.prefetch(builder.add(builder.add(a_rows[0], term), next_part))
                left = [a.buffer.everywhere(builder.add(row, term)) for row in a_rows]
                return multiply_add(builder, sums, left, right)

            start = [first.buffer.vector(builder.add(first.at, at)).value for at in across] * n_rows
            for place, total in zip(places, loop(builder, n, start, add), strict=True):
                out.buffer.put(place, finish(Vector(builder, total), out.buffer.vector(place), number))

        shape = builder.add(builder.mul(rows, I64(VECTORS + 1)), vectors)
        switch(builder, shape, {r * (VECTORS + 1) + v: lambda r=r, v=v: emit(r, v) for r, v in SHAPES})
        return context.get_dummy_value()

    return tile


def switch(builder, value, cases):
    """Emit ``cases[value]()``."""
    done = builder.append_basic_block("done")
    choice = builder.switch(value, done)
    for number, emit in cases.items():
        block = builder.append_basic_block(f"case.{number}")
        choice.add_case(I64(number), block)
        builder.position_at_end(block)
        emit()
        builder.branch(done)
    builder.position_at_end(done)


def loop(builder, n, values, body):
    """Emit ``for k in range(n): values = body(k, values)``, with the values in registers."""
    _, *values = loop_while(
        builder,
        [I64(0), *values],
        lambda state: builder.icmp_signed("<", state[0], n),
        lambda state: [builder.add(state[0], I64(1)), *body(state[0], state[1:])],
    )
    return values


def loop_while(builder, state, condition, body):
    """Emit ``while condition(state): state = body(state)`` with the state, LLVM values, in registers."""
    before = builder.block
    head, inside, after = (builder.append_basic_block(f"loop.{name}") for name in ("head", "body", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    phis = [builder.phi(value.type) for value in state]
    builder.cbranch(condition(phis), inside, after)
    builder.position_at_end(inside)
    new = body(phis)
    for phi, start, value in zip(phis, state, new, strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(value, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return phis


def multiply_add(builder, sums, left, right):
    """Emit ``sums[i, j] + left[i] * right[j]`` of a tile, row by row."""
    pairs = product(left, right)
    return [fma(a, b, Vector(builder, old)).value for (a, b), old in zip(pairs, sums, strict=True)]

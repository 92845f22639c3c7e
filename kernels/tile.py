"""The register tile: a block of a matrix product that stays in registers until it is finished.

A product is ``out[i, :] = finish(first + sum over k of a[i, k] * b[k, :], out[i, :])``: one form for the forward pass
(``first`` is the bias, ``finish`` the activation) and for the update (``first`` is zero, ``finish`` the optimizer), so
that neither a bias nor an optimizer costs a pass over memory. Each number of a tile is one sum, taken in the order of
``k`` by fused multiply-adds: the height and width of a tile, and what else is computed beside it, change no bit.
"""

from itertools import product

from numba import types
from numba.extending import intrinsic

from .jit import part
from .simd import I64, REGISTERS, Memory, Vector, fma, spread, step

HEIGHTS = {4: (6, 4, 2, 1), 2: (8, 4, 2, 1), 1: (8, 4, 2, 1)}
if REGISTERS < 32:
    HEIGHTS = {2: (6, 4, 2, 1), 1: (8, 4, 2, 1)}
"""Rows of the tiles of each width in vectors: the sums of the tallest and a row of b fit the registers."""

VECTORS = max(HEIGHTS)
"""Vectors in a row of the widest tile."""

TALLEST, TALLEST_NARROW = HEIGHTS[VECTORS][0], HEIGHTS[1][0]

SHAPES = [(rows, vectors) for vectors, heights in HEIGHTS.items() for rows in heights]

_LINE_BITS = 512  # of a cache line


@part
def tile_width(left, widest):
    """Give the width of the next tile, a power of two, where ``left`` vectors of a row are left to do."""
    while widest > left:
        widest //= 2
    return widest


@part
def tile_height(left, vectors):
    """Give the height of the next tile of a width where ``left`` rows are left to do."""
    tallest = TALLEST if vectors == VECTORS else TALLEST_NARROW
    if left >= tallest:
        return tallest
    return 4 if left >= 4 else 2 if left >= 2 else 1


def tile_product(rows_named, finish, fetching=False):
    """Build the intrinsic that computes one tile of a product, of any of the shapes.

    Parameters
    ----------
    rows_named : bool
        Whether ``starts[starts_at:]`` names the rows of the tile, ``a[i, k] = a[starts[i] + a_at + k]``, or the
        terms of the sum, ``a[i, k] = a[starts[k] + a_at + i]``, which is a product with the transpose of ``a``.
    finish : formula
        ``finish(sum, out, number)`` gives what is stored to ``out``.
    fetching : bool
        Whether meanwhile the rows ``order[order_at : order_at + n_rows]`` of ``source`` are fetched, each as long as
        the sum; their number is a power of two. Memory takes few wishes at a time, so there is one for each term.
    """
    i64 = types.int64

    @intrinsic
    def tile(
        typing_context, rows, vectors, out, out_at, out_pitch, a, a_at, starts, starts_at, b, b_at, b_pitch, n,
        first, first_at, number, source, order, order_at, n_fetched,
    ):  # fmt: skip
        kinds = (
            i64, i64, out, i64, i64, a, i64, starts, i64, b, i64, i64, i64, first, i64, number, source, order, i64, i64,
        )  # fmt: skip
        return types.void(*kinds), codegen

    def codegen(context, builder, signature, args):
        rows, vectors, _, out_at, out_pitch, _, a_at, _, starts_at, _, b_at, b_pitch, n, _, first_at, number = args[:16]
        out, a, starts, b, first, source, order = (
            Memory(context, builder, signature.args[i], args[i]) for i in (2, 5, 7, 9, 13, 16, 17)
        )
        order_at, n_fetched = args[18:]
        number = context.cast(builder, number, signature.args[15], out.dtype)
        number = Vector(builder, spread(builder, out.vector_type, number))

        def emit(n_rows, n_vectors):
            across = [I64(j * out.vector_type.count) for j in range(n_vectors)]
            places = [builder.add(step(builder, out_at, i, out_pitch), at) for i in range(n_rows) for at in across]
            if rows_named:
                a_rows = [builder.add(starts.number(builder.add(starts_at, I64(i))), a_at) for i in range(n_rows)]
            else:
                a_rows = [builder.add(a_at, I64(i)) for i in range(n_rows)]
                for place in places:  # where weights are many they lie far away, and take as long as their gradient
                    out.prefetch(place)

            def add(k, sums):
                if fetching:
                    turn = builder.and_(k, builder.sub(n_fetched, I64(1)))
                    row = builder.zext(order.number(builder.add(order_at, turn)), I64)
                    source.prefetch(builder.add(builder.mul(row, n), k))
                term = k if rows_named else starts.number(builder.add(starts_at, k))
                b_row = builder.add(b_at, builder.mul(k, b_pitch))
                right = [b.vector(builder.add(b_row, at)) for at in across]
                if not rows_named:  # the next tiles' part of this row, which nothing in the core foresees
                    a.prefetch(builder.add(builder.add(a_rows[0], term), I64(_LINE_BITS // a.dtype.bitwidth)))
                left = [a.everywhere(builder.add(row, term)) for row in a_rows]
                return multiply_add(builder, sums, left, right)

            start = [first.vector(builder.add(first_at, at)).value for at in across] * n_rows
            for place, total in zip(places, loop(builder, n, start, add), strict=True):
                out.put(place, finish(Vector(builder, total), out.vector(place), number))

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
    """Emit ``for k in range(n): values = body(k, values)`` with the values in registers."""
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
    """Emit ``sums[i, j] + left[i] * right[j]`` for a tile given row by row."""
    pairs = product(left, right)
    return [fma(a, b, Vector(builder, old)).value for (a, b), old in zip(pairs, sums, strict=True)]

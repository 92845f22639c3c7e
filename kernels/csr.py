"""The first layer on rows of a CSR matrix: it costs what their numbers cost, however many features there are.

The numbers of a row are ``x[starts[row] : ends[row]]``, their features ``indices`` there. For the update, ``links``
holds for each feature of a batch the chain of its numbers, in the order of the rows. It is made of parts: how many
features there are in the batch; the first link of each feature, 0 where it has none; the features; and of each link
the next link, its row, and where its number is in the row.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .jit import kernel, part
from .optimizers import sgd, sum_up
from .simd import I64, Lanes, Memory, lane_count, maximum, spread
from .sparse import WIDTHS, row_width
from .tile import loop, loop_while, multiply_add, switch

AHEAD = 6
"""Numbers of a row, or features, whose weights are fetched before their turn: they lie anywhere."""

LINK_FIELDS = 4


@intrinsic
def forward_row(
    typing_context, vectors, out, out_at, x, indices, first, last, w, w_at, pitch, b, b_at, floor
):  # fmt: skip
    """Compute ``max(x @ w + b, floor)`` of one row, for some columns."""

    def codegen(context, builder, signature, args):
        vectors, _, out_at, _, _, first, last, _, w_at, pitch, _, b_at, _ = args
        out, x, indices, w, b = (Memory(context, builder, signature.args[i], args[i]) for i in (1, 3, 4, 7, 10))
        floor = Lanes(
            builder, spread(builder, out.vector_type, context.cast(builder, args[12], signature.args[12], out.dtype))
        )

        def w_row(p):
            return builder.add(w_at, builder.mul(builder.zext(indices.number(p), I64), pitch))

        def emit(width):
            across = [I64(j * out.vector_type.count) for j in range(width)]
            end = builder.sub(last, I64(1))

            def add(k, sums):
                p = builder.add(first, k)
                later = builder.add(p, I64(AHEAD))
                later = w_row(builder.select(builder.icmp_signed("<", later, end), later, end))
                for j in across:
                    w.prefetch(builder.add(later, j))
                here = w_row(p)
                right = [w.vector(builder.add(here, j)) for j in across]
                return multiply_add(builder, sums, [x.everywhere(p)], right)

            start = [b.vector(builder.add(b_at, j)).value for j in across]
            sums = loop(builder, builder.sub(last, first), start, add)
            for j, total in zip(across, sums, strict=True):
                out.put(builder.add(out_at, j), maximum(floor, Lanes(builder, total)))

        switch(builder, vectors, {width: lambda width=width: emit(width) for width in WIDTHS})
        return context.get_dummy_value()

    i64 = types.int64
    kinds = i64, out, i64, x, indices, i64, i64, w, i64, i64, b, i64, floor
    return types.void(*kinds), codegen


def chain_product(finish):
    """Build the intrinsic of the update's product of one feature."""

    def codegen(context, builder, signature, args):
        vectors, _, w_at, _, _, _, link, next_at, row_at, place_at, _, delta_at, pitch, _ = args
        w, x, starts, links, delta = (Memory(context, builder, signature.args[i], args[i]) for i in (1, 3, 4, 5, 10))
        number = Lanes(
            builder, spread(builder, w.vector_type, context.cast(builder, args[13], signature.args[13], w.dtype))
        )

        def field(start, link):
            return builder.zext(links.number(builder.add(start, link)), I64)

        def emit(width):
            across = [I64(j * w.vector_type.count) for j in range(width)]

            def add(state):
                link, *sums = state
                row = field(row_at, link)
                number = builder.add(starts.number(row), field(place_at, link))
                start = builder.add(delta_at, builder.mul(row, pitch))
                right = [delta.vector(builder.add(start, j)) for j in across]
                return [field(next_at, link), *multiply_add(builder, sums, [x.everywhere(number)], right)]

            zero = ir.Constant(w.vector_type, [0.0] * w.vector_type.count)
            state = [link] + [zero] * width
            _, *sums = loop_while(builder, state, lambda state: builder.icmp_signed(">", state[0], I64(0)), add)
            for j, total in zip(across, sums, strict=True):
                place = builder.add(w_at, j)
                w.put(place, finish(Lanes(builder, total), w.vector(place), number))

        switch(builder, vectors, {width: lambda width=width: emit(width) for width in WIDTHS})
        return context.get_dummy_value()

    i64 = types.int64

    @intrinsic
    def update_chain(
        typing_context, vectors, w, w_at, x, starts, links, link, next_at, row_at, place_at, delta, delta_at, pitch,
        number,
    ):  # fmt: skip
        """Compute ``w[k] = finish(x[:, k] @ delta, w[k], number)`` of the feature whose chain begins with ``link``."""
        kinds = i64, w, i64, x, starts, links, i64, i64, i64, i64, delta, i64, i64, number
        return types.void(*kinds), codegen

    return update_chain


update_chain, sum_up_chain = chain_product(sgd), chain_product(sum_up)


@intrinsic
def prefetch_row(typing_context, w, at, vectors):
    """Hint that ``vectors`` vectors of w from ``at`` on will soon be used."""

    def codegen(context, builder, signature, args):
        memory = Memory(context, builder, w, args[0])

        def emit(width):
            for j in range(width):
                memory.prefetch(builder.add(args[1], I64(j * memory.vector_type.count)))

        switch(builder, args[2], {width: lambda width=width: emit(width) for width in WIDTHS})
        return context.get_dummy_value()

    return types.void(w, types.int64, types.int64), codegen


@part
def read_csr(notes, marks, work, x, starts, index, orders, at, rows, n_in, ends_at, scale):
    """Note where the numbers of each row of a batch start and end."""
    for row in range(rows):
        notes[row] = starts[orders[at + row]]
        notes[ends_at + row] = starts[orders[at + row] + 1]


@kernel
def csr_forward(
    out, out_at, x, starts, ends_at, indices, w, w_at, w_pitch, b, b_at, pitch, first_row, last_row,
    column, last_column, floor,
):  # fmt: skip
    """Compute ``out = max(x @ w + b, floor)``  # (B, O)."""
    while column < last_column:
        vectors = row_width(last_column - column)
        j = column * lane_count(out)
        for row in range(first_row, last_row):
            forward_row(
                vectors, out, out_at + row * pitch + j, x, indices, starts[row], starts[ends_at + row],
                w, w_at + j, w_pitch, b, b_at + j, floor,
            )  # fmt: skip
        column += vectors


@kernel
def link_features(links, starts, ends_at, indices, n_rows, n_in, first_in, last_in):
    """Chain up the numbers of each feature of a batch, of those from ``first_in`` to ``last_in``."""
    room = (len(links) - 1 - n_in) // LINK_FIELDS
    features_at, next_at, row_at, place_at = 1 + n_in, 1 + n_in + room, 1 + n_in + 2 * room, 1 + n_in + 3 * room
    n_features, link = 0, 0
    for row in range(n_rows - 1, -1, -1):  # so that a chain begins with its first row
        for p in range(starts[row], starts[ends_at + row]):
            k = indices[p]
            if first_in <= k < last_in:
                if links[1 + k] == 0:
                    links[features_at + n_features] = k
                    n_features += 1
                link += 1
                links[next_at + link - 1] = links[1 + k]
                links[row_at + link - 1] = row
                links[place_at + link - 1] = p - starts[row]
                links[1 + k] = link
    links[0] = n_features


@kernel
def csr_update(w, w_at, w_pitch, x, starts, links, n_in, delta, delta_at, pitch, column, last_column, rate):
    """Compute ``w += rate * x.T @ delta`` where x has numbers, and empty the chains."""
    room = (len(links) - 1 - n_in) // LINK_FIELDS
    features_at, next_at, row_at, place_at = 1 + n_in, 1 + n_in + room, 1 + n_in + 2 * room, 1 + n_in + 3 * room
    n_features = links[0]
    while column < last_column:
        vectors = row_width(last_column - column)
        j = column * lane_count(w)
        for i in range(n_features):
            later = links[features_at + min(i + AHEAD, n_features - 1)]
            prefetch_row(w, w_at + later * w_pitch + j, vectors)
            k = links[features_at + i]
            update_chain(
                vectors, w, w_at + k * w_pitch + j, x, starts, links, links[1 + k], next_at - 1, row_at - 1,
                place_at - 1, delta, delta_at + j, pitch, rate,
            )  # fmt: skip
        column += vectors
    empty_chains(links, n_in)


@part
def csr_gradient(
    g, g_at, g_pitch, x, starts, links, n_in, delta, delta_at, pitch, first_in, last_in, column, vectors, keep
):  # fmt: skip
    """Compute ``g = keep * g + x.T @ delta`` of some features, also those without numbers, for some columns."""
    room = (len(links) - 1 - n_in) // LINK_FIELDS
    next_at, row_at, place_at = 1 + n_in + room, 1 + n_in + 2 * room, 1 + n_in + 3 * room
    j = column * lane_count(g)
    for k in range(first_in, last_in):
        sum_up_chain(
            vectors, g, g_at + k * g_pitch + j, x, starts, links, links[1 + k], next_at - 1, row_at - 1, place_at - 1,
            delta, delta_at + j, pitch, keep,
        )  # fmt: skip


@part
def empty_chains(links, n_in):
    """Forget the chains of a batch."""
    for i in range(links[0]):
        links[1 + links[1 + n_in + i]] = 0

"""The first layer on rows of a CSR matrix: it costs what their numbers cost, however many features there are.

The numbers of a row are ``x[starts[row] : ends[row]]``, their features ``indices`` there, which ascend. For the update,
``links`` holds for each feature of a batch the chain of its numbers, in the order of the rows. It is made of parts: how
many features there are in the batch; for each feature where its first link lies, 0 where it has none; the features of
the batch; and the links: where the next one lies, its row, and where its number is in the row.

What is needed lies anywhere in memory, and waiting for it is most of the work: all of it is fetched ahead.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .jit import kernel, part
from .optimizers import accumulate, plain_sgd
from .rows import LINE_BYTES, ONE
from .simd import I64, Memory, Vector, lane_count, maximum, prefetch_near, spread
from .sparse import WIDTHS
from .tile import loop, loop_while, multiply_add, switch

WIDEST = 8
"""Vectors in a row of the widest tile: a row of weights is mostly one tile, for each takes all numbers anew."""

AHEAD = 24
"""Numbers of rows, or features, whose weights are fetched before their turn: as many as a core can wait for at once."""

LINK_FIELDS = 4
"""Numbers of ``links`` for each number of a batch: a feature, and the fields of a link."""


def _each_width(builder, vectors, emit, widths=range(1, WIDEST + 1)):
    switch(builder, vectors, {width: lambda width=width: emit(width) for width in widths})


@intrinsic
def forward_row(
    typing_context, vectors, out, out_at, x, indices, first, last, next_first, next_last, w, w_at, pitch,
    b, b_at, floor,
):  # fmt: skip
    """Compute ``max(x @ w + b, floor)`` of one row, for some columns, and fetch weights of its end and the next row."""

    def codegen(context, builder, signature, args):
        vectors, _, out_at, _, _, first, last, next_first, next_last, _, w_at, pitch, _, b_at, floor = args
        out, x, indices, w, b = (Memory(context, builder, signature.args[i], args[i]) for i in (1, 3, 4, 9, 12))
        floor = context.cast(builder, floor, signature.args[14], out.dtype)
        floor = Vector(builder, spread(builder, out.vector_type, floor))

        def w_row(p):
            return builder.add(w_at, builder.mul(builder.zext(indices.number(p), I64), pitch))

        def emit(width):
            across = [I64(j * out.vector_type.count) for j in range(width)]

            def add(k, sums):
                p = builder.add(first, k)
                # how far the number to fetch for lies behind the row's end: then it is one of the next row's, or none
                beyond = builder.sub(builder.add(p, I64(AHEAD)), last)
                in_row = builder.icmp_signed("<", beyond, I64(0))
                later = builder.add(builder.select(in_row, last, next_first), beyond)
                exists = builder.or_(in_row, builder.icmp_signed("<", later, next_last))
                later = w_row(builder.select(exists, later, p))
                for j in across:
                    w.prefetch(builder.add(later, j), near=True)
                here = w_row(p)
                right = [w.vector(builder.add(here, j)) for j in across]
                return multiply_add(builder, sums, [x.everywhere(p)], right)

            start = [b.vector(builder.add(b_at, j)).value for j in across]
            sums = loop(builder, builder.sub(last, first), start, add)
            for j, total in zip(across, sums, strict=True):
                out.put(builder.add(out_at, j), maximum(floor, Vector(builder, total)))

        _each_width(builder, vectors, emit)
        return context.get_dummy_value()

    i64 = types.int64
    kinds = i64, out, i64, x, indices, i64, i64, i64, i64, w, i64, i64, b, i64, floor
    return types.void(*kinds), codegen


def chain_products(finish, listed):
    """Build the update's products of some features: of a list in ``links``, or those that follow each other.

    These are for the tiles of `descent`.
    """

    def codegen(context, builder, signature, args):
        vectors, _, w_at, w_pitch, _, _, _, first, n_features, _, delta_at, pitch, number = args
        w, x, starts, links, delta = (Memory(context, builder, signature.args[i], args[i]) for i in (1, 4, 5, 6, 9))
        number = context.cast(builder, number, signature.args[12], w.dtype)
        number = Vector(builder, spread(builder, w.vector_type, number))
        last = builder.sub(n_features, I64(1))

        def entry(at, i=0):
            return builder.zext(links.number(builder.add(at, I64(i))), I64)

        def feature(i):
            at = builder.add(first, i)
            return entry(at) if listed else at

        def places(link):
            # where the number of a link lies, and the deltas of its row
            row = entry(link, 1)
            return builder.add(starts.number(row), entry(link, 2)), builder.add(delta_at, builder.mul(row, pitch))

        def emit(width):
            across = [I64(j * w.vector_type.count) for j in range(width)]
            zero = ir.Constant(w.vector_type, [0.0] * w.vector_type.count)

            def fetch(k):
                number_at, delta_row = places(entry(k, 1))
                w_row = builder.add(w_at, builder.mul(k, w_pitch))
                x.prefetch(number_at, near=True)
                for j in across:
                    w.prefetch(builder.add(w_row, j), near=True)
                    delta.prefetch(builder.add(delta_row, j), near=True)

            def add(state):
                link, *sums = state
                number_at, delta_row = places(link)
                right = [delta.vector(builder.add(delta_row, j)) for j in across]
                return [entry(link), *multiply_add(builder, sums, [x.everywhere(number_at)], right)]

            def each(i, _):
                if listed:
                    later = builder.add(i, I64(AHEAD))
                    fetch(feature(builder.select(builder.icmp_signed("<", later, last), later, last)))
                k = feature(i)
                state = [entry(k, 1)] + [zero] * width
                _, *sums = loop_while(builder, state, lambda state: builder.icmp_signed(">", state[0], I64(0)), add)
                w_row = builder.add(w_at, builder.mul(k, w_pitch))
                for j, total in zip(across, sums, strict=True):
                    at = builder.add(w_row, j)
                    w.put(at, finish(Vector(builder, total), w.vector(at), number))
                return []

            loop(builder, n_features, [], each)

        _each_width(builder, vectors, emit, range(1, WIDEST + 1) if listed else WIDTHS)
        return context.get_dummy_value()

    i64 = types.int64

    @intrinsic
    def update_chains(
        typing_context, vectors, w, w_at, w_pitch, x, starts, links, first, n_features, delta, delta_at, pitch, number
    ):
        """Compute ``w[k] = finish(x[:, k] @ delta, w[k], number)`` of the features, for some columns."""
        kinds = i64, w, i64, i64, x, starts, links, i64, i64, delta, i64, i64, number
        return types.void(*kinds), codegen

    return update_chains


update_listed, sum_up_all = chain_products(plain_sgd, listed=True), chain_products(accumulate, listed=False)


@part
def read_csr(notes, marks, work, x, starts, index, orders, at, rows, n_in, ends_at, scale):
    """Note where the numbers of each row of a batch start and end, and fetch them."""
    for row in range(rows):
        start, end = starts[orders[at + row]], starts[orders[at + row] + 1]
        notes[row], notes[ends_at + row] = start, end
        for p in range(start, end, LINE_BYTES // x.itemsize):  # one of indices holds as many or more
            prefetch_near(x, p)
            prefetch_near(index, p)


@kernel
def csr_forward(
    out, out_at, x, starts, ends_at, indices, w, w_at, w_pitch, b, b_at, pitch, first_row, last_row,
    column, last_column, floor,
):  # fmt: skip
    """Compute ``out = max(x @ w + b, floor)``  # (B, O)."""
    while column < last_column:
        vectors = min(WIDEST, last_column - column)
        j = column * lane_count(out)
        for row in range(first_row, last_row):
            following = min(row + 1, last_row - 1)
            forward_row(
                vectors, out, out_at + row * pitch + j, x, indices, starts[row], starts[ends_at + row],
                starts[following], starts[ends_at + following], w, w_at + j, w_pitch, b, b_at + j, floor,
            )  # fmt: skip
        column += vectors


@part
def fetch_chains(links, indices, p, end, first_in, last_in):
    """Fetch where the chains of a row's numbers ``p`` to ``end`` begin, of those in a share; give which these are."""
    while p < end and indices[p] < first_in:
        p += 1
    first = p
    while p < end and indices[p] < last_in:
        prefetch_near(links, 1 + indices[p])
        p += 1
    return first, p


@kernel
def link_features(links, starts, ends_at, indices, n_rows, n_in, first_in, last_in):
    """Chain up the numbers of each feature of a batch, of those from ``first_in`` to ``last_in``."""
    features_at = np.uint64(1 + n_in)  # Numba asks signed indices whether they count from the end
    feature, link = features_at, features_at + np.uint64((len(links) - 1 - n_in) // LINK_FIELDS)
    first = last = 0  # the numbers of a row in the share, where their chains begin being fetched already
    for row in range(n_rows, -1, -1):  # so that a chain begins with its first row
        here, end = first, last
        if row > 0:
            first, last = fetch_chains(links, indices, starts[row - 1], starts[ends_at + row - 1], first_in, last_in)
        for p in range(here, end):
            k = np.uint64(indices[p])
            following = links[ONE + k]
            links[ONE + k] = link
            links[link], links[link + ONE], links[link + np.uint64(2)] = following, row, p - starts[row]
            link += np.uint64(LINK_FIELDS - 1)
            links[feature] = k
            feature += np.uint64(following == 0)
    links[0] = feature - features_at


@kernel
def csr_update(w, w_at, w_pitch, x, starts, links, n_in, delta, delta_at, pitch, column, last_column, rate):
    """Compute ``w += rate * x.T @ delta`` where x has numbers, and empty the chains."""
    while column < last_column:
        vectors = min(WIDEST, last_column - column)
        j = column * lane_count(w)
        update_listed(
            vectors, w, w_at + j, w_pitch, x, starts, links, 1 + n_in, links[0], delta, delta_at + j, pitch, rate
        )
        column += vectors
    empty_chains(links, n_in)


@part
def csr_gradient(
    g, g_at, g_pitch, x, starts, links, n_in, delta, delta_at, pitch, first_in, last_in, column, vectors, keep
):  # fmt: skip
    """Compute ``g = keep * g + x.T @ delta`` of some features, also those without numbers, for some columns."""
    j = column * lane_count(g)
    sum_up_all(
        vectors, g, g_at + j, g_pitch, x, starts, links, first_in, last_in - first_in, delta, delta_at + j, pitch, keep
    )


@part
def empty_chains(links, n_in):
    """Forget the chains of a batch."""
    for i in range(links[0]):
        links[1 + links[1 + n_in + i]] = 0

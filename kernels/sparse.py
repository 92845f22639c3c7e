"""The first layer on rows with many zeros: a product with zero is left out, which changes no bit of the sum.

Where the nonzero numbers of a row are is marked in ``marks``: a bit for each feature, in whole words of 64. The forward
pass takes two rows at a time, through the features that either has, so that weights are read once for both. The update
takes two features at a time, through the rows that have either: ``by_feature`` holds the marks of 64 rows, turned
around.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .jit import kernel
from .optimizers import sgd
from .rows import WORD, ZERO, words_of
from .simd import I64, REGISTERS, Lanes, Memory, lane_count, maximum, spread
from .tile import loop, loop_while, multiply_add, switch, tile_width

WIDTHS = (1, 2, 4, 8) if REGISTERS == 32 else (1, 2, 4)
"""Vectors in a row of the tiles."""


def _each_mark(builder, word, sums, body):
    """Emit ``for i in the marks of the word, from the lowest: sums = body(i, sums)``."""

    def take(state):
        mask, *sums = state
        i = builder.cttz(mask, ir.IntType(1)(1))
        rest = builder.and_(mask, builder.sub(mask, I64(1)))
        return [rest, *body(i, sums)]

    return loop_while(builder, [word, *sums], lambda state: builder.icmp_unsigned("!=", state[0], I64(0)), take)[1:]


@intrinsic
def forward_pair(
    typing_context,
    vectors,
    out,
    out_at,
    other_out_at,
    x,
    x_at,
    other_x_at,
    marks,
    at,
    other_at,
    n_words,
    w,
    w_at,
    pitch,
    b,
    b_at,
    floor,
):
    """Compute ``max(x @ w + b, floor)`` of two rows, for some columns."""

    def codegen(context, builder, signature, args):
        vectors, _, out_at, other_out_at, _, x_at, other_x_at, _, at, other_at, n_words, _, w_at, pitch, _, b_at, _ = (
            args
        )
        out, x, marks, w, b = (Memory(context, builder, signature.args[i], args[i]) for i in (1, 4, 7, 11, 14))
        floor = Lanes(
            builder, spread(builder, out.vector_type, context.cast(builder, args[16], signature.args[16], out.dtype))
        )

        def emit(width):
            across = [I64(j * out.vector_type.count) for j in range(width)]
            first = [b.vector(builder.add(b_at, j)).value for j in across]

            def add_word(word, sums):
                both = [marks.number(builder.add(start, word)) for start in (at, other_at)]
                k = builder.mul(word, I64(WORD))

                def add(i, sums):
                    feature = builder.add(k, i)
                    row = builder.add(w_at, builder.mul(feature, pitch))
                    right = [w.vector(builder.add(row, j)) for j in across]
                    left = [x.everywhere(builder.add(start, feature)) for start in (x_at, other_x_at)]
                    return multiply_add(builder, sums, left, right)

                return _each_mark(builder, builder.or_(*both), sums, add)

            sums = loop(builder, n_words, first + first, add_word)
            for i, start in enumerate((out_at, other_out_at)):
                for j, at_j in enumerate(across):
                    out.put(builder.add(start, at_j), maximum(floor, Lanes(builder, sums[i * width + j])))

        switch(builder, vectors, {width: lambda width=width: emit(width) for width in WIDTHS})
        return context.get_dummy_value()

    i64 = types.int64
    kinds = i64, out, i64, i64, x, i64, i64, marks, i64, i64, i64, w, i64, i64, b, i64, floor
    return types.void(*kinds), codegen


@intrinsic
def update_pair(
    typing_context, vectors, w, w_at, other_w_at, x, starts, k, other_k, by_feature, at, other_at, stride,
    n_words, delta, delta_at, pitch, rate,
):  # fmt: skip
    """Compute ``w[k] += rate * x[:, k] @ delta`` of two features, for some columns."""

    def codegen(context, builder, signature, args):
        vectors, _, w_at, other_w_at, _, _, k, other_k, _, at, other_at, stride, n_words, _, delta_at, pitch, _ = args
        w, x, starts, by_feature, delta = (
            Memory(context, builder, signature.args[i], args[i]) for i in (1, 4, 5, 8, 13)
        )
        rate = Lanes(
            builder, spread(builder, w.vector_type, context.cast(builder, args[16], signature.args[16], w.dtype))
        )

        def emit(width):
            across = [I64(j * w.vector_type.count) for j in range(width)]
            zero = ir.Constant(w.vector_type, [0.0] * w.vector_type.count)

            def add_word(word, sums):
                def add(i, sums):
                    row = builder.add(builder.mul(word, I64(WORD)), i)
                    start = builder.add(delta_at, builder.mul(row, pitch))
                    right = [delta.vector(builder.add(start, j)) for j in across]
                    x_row = starts.number(row)
                    left = [x.everywhere(builder.add(x_row, i)) for i in (k, other_k)]
                    return multiply_add(builder, sums, left, right)

                here = builder.mul(word, stride)
                both = [by_feature.number(builder.add(start, here)) for start in (at, other_at)]
                return _each_mark(builder, builder.or_(*both), sums, add)

            sums = loop(builder, n_words, [zero] * (2 * width), add_word)
            places = [builder.add(start, j) for start in (w_at, other_w_at) for j in across]
            new = [sgd(Lanes(builder, total), w.vector(place), rate) for place, total in zip(places, sums, strict=True)]
            for place, vector in zip(places, new, strict=True):
                w.put(place, vector)

        switch(builder, vectors, {width: lambda width=width: emit(width) for width in WIDTHS})
        return context.get_dummy_value()

    i64 = types.int64
    kinds = i64, w, i64, i64, x, starts, i64, i64, by_feature, i64, i64, i64, i64, delta, i64, i64, rate
    return types.void(*kinds), codegen


def sparse_forward(fetch):
    """Build the forward product, which fetches the rows of the next batch between its own."""

    @kernel
    def forward(
        out, out_at, x, starts, marks, w, w_at, w_pitch, b, b_at, n_in, pitch, first_row, last_row, column, last_column,
        floor, source, source_starts, orders, next_at,
    ):  # fmt: skip
        """Compute ``out = max(x @ w + b, floor)``, leaving out products with zeros  # (B, O)."""
        n_words = words_of(n_in)
        first_column = column
        while column < last_column:
            vectors = tile_width(last_column - column, WIDTHS[-1])
            j = column * lane_count(out)
            for row in range(first_row, last_row, 2):
                other = min(row + 1, last_row - 1)
                if column == first_column:
                    fetch(source, source_starts, orders, next_at + row, n_in)
                    fetch(source, source_starts, orders, next_at + other, n_in)
                forward_pair(
                    vectors, out, out_at + row * pitch + j, out_at + other * pitch + j, x, starts[row], starts[other],
                    marks, row * n_words, other * n_words, n_words, w, w_at + j, w_pitch, b, b_at + j, floor,
                )  # fmt: skip
            column += vectors

    return forward


@kernel
def sparse_update(
    w, w_at, w_pitch, x, starts, by_feature, n_rows, n_in, delta, delta_at, pitch, first_in, last_in,
    column, last_column, rate,
):  # fmt: skip
    """Compute ``w += rate * x.T @ delta``, leaving out products with zeros and rows of w without gradient."""
    n_groups, stride = words_of(n_rows), words_of(n_in) * WORD
    while column < last_column:
        vectors = tile_width(last_column - column, WIDTHS[-1])
        j = column * lane_count(w)
        for k in range(first_in, last_in, 2):
            other = min(k + 1, last_in - 1)
            some = ZERO
            for group in range(n_groups):
                some |= by_feature[group * stride + k] | by_feature[group * stride + other]
            if some != ZERO:
                update_pair(
                    vectors, w, w_at + k * w_pitch + j, w_at + other * w_pitch + j, x, starts, k, other,
                    by_feature, k, other, stride, n_groups, delta, delta_at + j, pitch, rate,
                )  # fmt: skip
        column += vectors


@kernel
def turn_marks(by_feature, marks, n_rows, n_in):
    """Turn the marks of a batch around: a word for each feature and group of 64 rows.

    Squares of 64 x 64 bits are transposed by halves (Warren, Hacker's Delight, 7-3).
    """
    n_words = words_of(n_in)
    for group in range(words_of(n_rows)):
        for word in range(n_words):
            at = (group * n_words + word) * WORD
            for i in range(WORD):
                row = group * WORD + i
                by_feature[at + i] = marks[row * n_words + word] if row < n_rows else ZERO
            half = WORD // 2
            mask = np.uint64(0xFFFFFFFF)
            while half:
                shift = np.uint64(half)
                for first in range(at, at + WORD, 2 * half):
                    for i in range(first, first + half):
                        swap = ((by_feature[i] >> shift) ^ by_feature[i + half]) & mask
                        by_feature[i] ^= swap << shift
                        by_feature[i + half] ^= swap
                half //= 2
                mask ^= mask << np.uint64(half)

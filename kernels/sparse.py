"""The first layer on packed rows: products with zeros are left out, which changes no bit of the sum.

A packed row is its nonzero numbers, and ``marks``, a bit for each feature, in whole words of 64. ``places`` holds for
each row where its next number lies: both passes meet the features in order, so it only moves on.

The forward pass takes some words of all rows after the other words of all rows: the weights of so few features stay in
the first cache, while they would come from the second one for every row anew. The update takes two features at a time,
where their sums fit the registers, through the rows that have either: neighbours mostly have the same rows, whose
deltas are read once, and a zero is a small price. ``by_feature`` holds the marks of 64 rows, turned around.
"""

from contextlib import nullcontext
from functools import reduce

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import kernel, part
from .optimizers import sgd, sum_up
from .rows import ONE, WORD, ZERO, count_bits, words_of
from .simd import I32, I64, REGISTERS, VECTOR_BYTES, Lanes, Memory, lane_count, maximum, prefetch_to_write, spread
from .tile import loop, loop_while, multiply_add, switch

WIDTHS = (1, 2, 3, 4, 8)
"""Vectors in a row of the tiles."""

SLAB_BYTES, FEWEST_WORDS = 32768, 2
"""Of weights that the forward pass takes at a time, but words of marks at least."""

ROWS = 64
"""Rows that the forward pass takes through the slabs together: their sums stay in the first cache, or nearly."""


@part
def row_width(left):
    """Give the width of the next tile where ``left`` vectors of a row are left to do."""
    return 8 if left >= 8 else min(left, 4)


def _each_mark(builder, word, state, body):
    """Emit ``for i in the marks of the word, from the lowest: state = body(i, state)``.

    The mask alone says when the loop ends, one instruction a mark: an end that was guessed wrong is known while the
    sums are still behind.
    """

    def take(state):
        mask, *rest = state
        i = builder.cttz(mask, ir.IntType(1)(1))
        return [builder.and_(mask, builder.sub(mask, I64(1))), *body(i, rest)]

    return loop_while(builder, [word, *state], lambda state: builder.icmp_unsigned("!=", state[0], I64(0)), take)[1:]


@intrinsic
def forward_slab(
    typing_context, vectors, out, out_at, pitch, sums_at, sums_pitch, x, places, places_at, marks, at, stride, n_words,
    n_rows, w, w_at, w_pitch, b, b_at, begins, floor,
):  # fmt: skip
    """Compute ``out = max(start + x @ w, floor)`` of some words of some rows, for some columns.

    ``start`` is the bias where the slab ``begins`` the rows, else the sums so far, which lie in ``out`` too.
    """

    def codegen(context, builder, signature, args):
        (
            vectors, _, out_at, pitch, sums_at, sums_pitch, _, _, places_at, _, at, stride, n_words, n_rows, _, w_at,
            w_pitch, _, b_at, begins, floor,
        ) = args  # fmt: skip
        out, x, places, marks, w, b = (
            Memory(context, builder, signature.args[i], args[i]) for i in (1, 6, 7, 9, 14, 17)
        )
        floor = context.cast(builder, floor, signature.args[20], out.dtype)
        floor = Lanes(builder, spread(builder, out.vector_type, floor))

        def emit(width):
            across = [I64(j * out.vector_type.count) for j in range(width)]

            word_pitch = builder.mul(I64(WORD), w_pitch)

            def each_row(row, _):
                place_at, marks_at = builder.add(places_at, row), builder.add(at, builder.mul(row, stride))
                place = builder.add(out_at, builder.mul(row, pitch))
                start = builder.add(sums_at, builder.mul(row, sums_pitch))

                def add_word(word, state):
                    first = builder.add(w_at, builder.mul(word, word_pitch))

                    def add(i, state):
                        place, *sums = state
                        weights = builder.add(first, builder.mul(i, w_pitch))
                        right = [w.vector(builder.add(weights, j)) for j in across]
                        return [builder.add(place, I64(1)), *multiply_add(builder, sums, [x.everywhere(place)], right)]

                    return _each_mark(builder, marks.number(builder.add(marks_at, word)), state, add)

                sums = [out.vector_of_either(begins, b, builder.add(b_at, j), builder.add(start, j)) for j in across]
                next_place, *sums = loop(builder, n_words, [places.number(place_at), *sums], add_word)
                places.set(place_at, next_place)
                for j, total in zip(across, sums, strict=True):
                    out.put(builder.add(place, j), maximum(floor, Lanes(builder, total)))
                return []

            loop(builder, n_rows, [], each_row)

        switch(builder, vectors, {width: lambda width=width: emit(width) for width in WIDTHS})
        return context.get_dummy_value()

    i64, yes = types.int64, types.boolean
    kinds = (
        i64, out, i64, i64, i64, i64, x, places, i64, marks, i64, i64, i64, i64, w, i64, i64, b, i64, yes, floor,
    )  # fmt: skip
    return types.void(*kinds), codegen


def _numbers(builder, x, place, words, i):
    """Emit the next number of a row for each of the features whose marks are ``words``, and the place after them.

    The row, number ``i`` of those marks, has one of the features at least.
    """
    if len(words) == 1:
        return [x.everywhere(place)], builder.add(place, I64(1))
    numbers = []
    for word in words:
        bit = builder.and_(builder.lshr(word, i), I64(1))
        numbers.append(x.everywhere_or_zero(place, builder.trunc(bit, ir.IntType(1))))
        place = builder.add(place, bit)
    return numbers, place


def feature_products(finish, skip):
    """Build the intrinsic of the update's products; those that no row has are skipped, or have a product of 0."""

    def codegen(context, builder, signature, args):
        (
            vectors, _, w_at, w_pitch, _, _, places_at, _, at, stride, n_words, n_features, _, delta_at, pitch, number,
        ) = args  # fmt: skip
        w, x, places, by_feature, delta = (
            Memory(context, builder, signature.args[i], args[i]) for i in (1, 4, 5, 7, 12)
        )
        number = context.cast(builder, number, signature.args[15], w.dtype)
        number = Lanes(builder, spread(builder, w.vector_type, number))

        def emit(width):
            across = [I64(j * w.vector_type.count) for j in range(width)]
            zero = ir.Constant(w.vector_type, [0.0] * w.vector_type.count)

            def update(k, together):
                firsts = [builder.add(builder.add(at, k), I64(i)) for i in range(together)]

                def words_of_rows(word):
                    return [by_feature.number(builder.add(first, builder.mul(word, stride))) for first in firsts]

                def add_word(word, sums):
                    words, first_row = words_of_rows(word), builder.mul(word, I64(WORD))

                    def add(i, sums):
                        row = builder.add(first_row, i)
                        place_at = builder.add(places_at, row)
                        left, next_place = _numbers(builder, x, places.number(place_at), words, i)
                        places.set(place_at, next_place)
                        start = builder.add(delta_at, builder.mul(row, pitch))
                        return multiply_add(builder, sums, left, [delta.vector(builder.add(start, j)) for j in across])

                    return _each_mark(builder, reduce(builder.or_, words), sums, add)

                def gather(word, some):
                    return [reduce(builder.or_, words_of_rows(word), *some)]

                there = nullcontext()
                if skip:
                    (some,) = loop(builder, n_words, [I64(0)], gather)
                    there = builder.if_then(builder.icmp_unsigned("!=", some, I64(0)))
                with there:
                    sums = loop(builder, n_words, [zero] * (width * together), add_word)
                    for i, total in enumerate(sums):
                        start = builder.add(w_at, builder.mul(builder.add(k, I64(i // width)), w_pitch))
                        place = builder.add(start, across[i % width])
                        w.put(place, finish(Lanes(builder, total), w.vector(place), number))
                return []

            if 3 * width + 2 > REGISTERS:  # their sums, a row of deltas, and a number of each
                loop(builder, n_features, [], lambda k, _: update(k, 1))
            else:
                loop(builder, builder.ashr(n_features, I64(1)), [], lambda k, _: update(builder.shl(k, I64(1)), 2))
                last = builder.and_(n_features, I64(-2))
                loop(builder, builder.sub(n_features, last), [], lambda k, _: update(builder.add(k, last), 1))

        switch(builder, vectors, {width: lambda width=width: emit(width) for width in WIDTHS})
        return context.get_dummy_value()

    i64 = types.int64

    @intrinsic
    def update_features(
        typing_context, vectors, w, w_at, w_pitch, x, places, places_at, by_feature, at, stride, n_words, n_features,
        delta, delta_at, pitch, number,
    ):  # fmt: skip
        """Compute ``w[k] = finish(x[:, k] @ delta, w[k], number)`` of some features, for some columns."""
        kinds = i64, w, i64, i64, x, places, i64, by_feature, i64, i64, i64, i64, delta, i64, i64, number
        return types.void(*kinds), codegen

    return update_features


update_features, sum_up_features = feature_products(sgd, skip=True), feature_products(sum_up, skip=False)


def sparse_forward(fetch):
    """Build the forward product, which fetches the rows of the next batch between its own."""

    @kernel
    def forward(
        out, out_at, pitch, sums_at, sums_pitch, x, starts, places_at, marks, w, w_at, w_pitch, b, b_at, n_in,
        first_row, last_row, column, last_column, floor, source, source_starts, orders, next_at,
    ):  # fmt: skip
        """Compute ``out = max(x @ w + b, floor)``, leaving out products with zeros  # (B, O).

        The sums lie in ``out`` too, from ``sums_at`` on, where other threads do not look before they are done.
        """
        n_words, fetches = words_of(n_in), True
        while column < last_column:
            vectors = row_width(last_column - column)
            j = column * lane_count(out)
            slab = max(FEWEST_WORDS, SLAB_BYTES // (vectors * VECTOR_BYTES * WORD))
            for row in range(first_row, last_row, ROWS):
                rows = min(ROWS, last_row - row)
                sums = sums_at + row * sums_pitch + j
                for i in range(row, row + rows):
                    starts[places_at + i] = starts[i]
                    for k in range(0, vectors * lane_count(out), lane_count(out)):  # another core has read them
                        prefetch_to_write(out, out_at + i * pitch + j + k)
                for word in range(0, n_words, slab):
                    if word + slab < n_words:
                        to, to_pitch, limit = sums, sums_pitch, -np.inf
                    else:
                        to, to_pitch, limit = out_at + row * pitch + j, pitch, floor
                    if fetches:  # little by little
                        for i in range(row + rows * word // n_words, row + rows * min(word + slab, n_words) // n_words):
                            fetch(source, source_starts, orders, next_at + i, n_in)
                    forward_slab(
                        vectors, out, to, to_pitch, sums, sums_pitch, x, starts, places_at + row,
                        marks, row * n_words + word, n_words, min(slab, n_words - word), rows,
                        w, w_at + word * WORD * w_pitch + j, w_pitch, b, b_at + j, word == 0, limit,
                    )  # fmt: skip
            fetches = False
            column += vectors

    return forward


@kernel
def sparse_update(
    w, w_at, w_pitch, x, starts, places_at, marks, by_feature, n_rows, n_in, delta, delta_at, pitch, first_in, last_in,
    column, last_column, rate,
):  # fmt: skip
    """Compute ``w += rate * x.T @ delta``, leaving out products with zeros and rows of w without gradient."""
    n_groups, stride = words_of(n_rows), words_of(n_in) * WORD
    turn_marks(by_feature, marks, n_rows, n_in)
    while column < last_column:
        vectors = row_width(last_column - column)
        j = column * lane_count(w)
        find_places(starts, places_at, marks, n_rows, n_in, first_in)
        update_features(
            vectors, w, w_at + first_in * w_pitch + j, w_pitch, x, starts, places_at, by_feature, first_in, stride,
            n_groups, last_in - first_in, delta, delta_at + j, pitch, rate,
        )  # fmt: skip
        column += vectors


@part
def find_places(starts, places_at, marks, n_rows, n_in, first_in):
    """Find for each row the place of its first number from feature ``first_in`` on."""
    n_words = words_of(n_in)
    for row in range(n_rows):
        place, word = starts[row], row * n_words
        for before in range(0, first_in, WORD):
            bits = marks[word + before // WORD]
            if first_in - before < WORD:
                bits &= (ONE << np.uint64(first_in - before)) - ONE
            place += count_bits(bits)
        starts[places_at + row] = place


@kernel
def turn_marks(by_feature, marks, n_rows, n_in):
    """Turn the marks of a batch around: a word for each feature and group of 64 rows."""
    n_words = words_of(n_in)
    for group in range(words_of(n_rows)):
        for word in range(n_words):
            at = (group * n_words + word) * WORD
            for i in range(WORD):
                row = group * WORD + i
                by_feature[at + i] = marks[row * n_words + word] if row < n_rows else ZERO
            turn_square(by_feature, at)


@intrinsic
def turn_square(typing_context, words, at):
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
        for half in (1, 2, 4):  # of which both words are in one vector
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
    """Give the bits of the columns whose number has a 0 where ``half`` has its 1."""
    return (2**WORD - 1) // (2**half + 1)

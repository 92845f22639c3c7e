"""The first layer on packed rows: products with zeros are left out, which changes no bit of the sum.

A packed row is its pairs of neighbouring numbers that are not both zero, and ``marks``, a bit for each pair, in whole
words of 64. Neighbours are mostly zero together: a pair costs one mark, one turn of a loop, and seldom a zero.
``places`` holds for each row where its next pair lies: both passes meet the features in order, so it only moves on.

The forward pass takes one word of all rows, then the next one of all rows: the weights of so few features stay in the
first cache, while they would come from the second one for every row anew. The update takes each pair of features
through the rows that have it, more than 128 rows in parts. ``by_pair`` holds the marks of 64 rows, turned around. What
comes next is read ahead in both: where a row ends is guessed wrong, and then it is there.
"""

from contextlib import nullcontext

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import kernel, part
from .optimizers import accumulate, plain_sgd
from .rows import ONE, PAIR, WORD, ZERO, count_bits, groups_of, words_of
from .simd import I32, I64, REGISTERS, VECTOR_BYTES, Memory, Vector, lane_count, maximum, prefetch_to_write, spread
from .tile import loop, loop_while, multiply_add, switch

WIDTHS = (1, 2, 3, 4, 8) if REGISTERS >= 32 else (1, 2, 3, 4)
"""Vectors in a row of the tiles: the sums of two features, a row of deltas and two numbers fit the registers."""

ROWS = 64
"""Rows that the forward pass takes through the words together: their sums stay in the first cache, or nearly."""

GROUPS, SUMS_BYTES = 2, 16384
"""Groups of 64 rows that the update takes through some features together, for their deltas to stay in the first cache;
of that many features whose sums wait for the next rows."""


@part
def row_width(left):
    """Give the width of the next tile where ``left`` vectors of a row are left to do."""
    return WIDTHS[-1] if left >= WIDTHS[-1] else min(left, 4)


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
def forward_word(
    typing_context, vectors, out, out_at, pitch, sums_at, sums_pitch, x, places, places_at, marks, at, stride, n_rows,
    w, w_at, w_pitch, b, b_at, begins, floor,
):  # fmt: skip
    """Compute ``out = max(start + x @ w, floor)`` of the features of one word of marks of some rows, for some columns.

    ``start`` is the bias where the word ``begins`` the rows, else the sums so far, which lie in ``out`` too.
    """

    def codegen(context, builder, signature, args):
        (
            vectors, _, out_at, pitch, sums_at, sums_pitch, _, _, places_at, _, at, stride, n_rows, _, w_at, w_pitch,
            _, b_at, begins, floor,
        ) = args  # fmt: skip
        out, x, places, marks, w, b = (
            Memory(context, builder, signature.args[i], args[i]) for i in (1, 6, 7, 9, 13, 16)
        )
        floor = context.cast(builder, floor, signature.args[19], out.dtype)
        floor = Vector(builder, spread(builder, out.vector_type, floor))
        pair_pitch, last = builder.mul(I64(PAIR), w_pitch), builder.sub(n_rows, I64(1))

        def pairs_of(row):
            return marks.number(builder.add(at, builder.mul(row, stride))), places.number(builder.add(places_at, row))

        def emit(width):
            across = [I64(j * out.vector_type.count) for j in range(width)]

            def add(i, state):
                place, *sums = state
                weights = builder.add(w_at, builder.mul(i, pair_pitch))
                for _ in range(PAIR):
                    right = [w.vector(builder.add(weights, j)) for j in across]
                    sums = multiply_add(builder, sums, [x.everywhere(place)], right)
                    place, weights = builder.add(place, I64(1)), builder.add(weights, w_pitch)
                return [place, *sums]

            def each_row(row, state):
                word, first = state
                start = builder.add(sums_at, builder.mul(row, sums_pitch))
                sums = [out.vector_of_either(begins, b, builder.add(b_at, j), builder.add(start, j)) for j in across]
                following = pairs_of(builder.select(builder.icmp_signed("<", row, last), builder.add(row, I64(1)), row))
                n_numbers = builder.mul(I64(PAIR), builder.ctpop(word))
                places.set(builder.add(places_at, row), builder.add(first, n_numbers))
                _, *sums = _each_mark(builder, word, [first, *sums], add)
                place = builder.add(out_at, builder.mul(row, pitch))
                for j, total in zip(across, sums, strict=True):
                    out.put(builder.add(place, j), maximum(floor, Vector(builder, total)))
                return following

            loop(builder, n_rows, pairs_of(I64(0)), each_row)

        switch(builder, vectors, {width: lambda width=width: emit(width) for width in WIDTHS})
        return context.get_dummy_value()

    i64, yes = types.int64, types.boolean
    kinds = (
        i64, out, i64, i64, i64, i64, x, places, i64, marks, i64, i64, i64, w, i64, i64, b, i64, yes, floor,
    )  # fmt: skip
    return types.void(*kinds), codegen


def feature_products(finish, skip):
    """Build the update's products of some features, an even one first.

    Features that none of up to 128 rows has are skipped, or have a product of 0.
    """

    def codegen(context, builder, signature, args):
        (
            vectors, _, w_at, w_pitch, _, _, places_at, _, at, stride, n_groups, n_features, _, delta_at, pitch,
            waiting_at, begins, ends, number,
        ) = args  # fmt: skip
        w, x, places, by_pair, delta = (Memory(context, builder, signature.args[i], args[i]) for i in (1, 4, 5, 7, 12))
        number = context.cast(builder, number, signature.args[18], w.dtype)
        number = Vector(builder, spread(builder, w.vector_type, number))
        last_pair = builder.ashr(builder.sub(n_features, I64(1)), I64(1))
        last_group = builder.sub(n_groups, I64(1))

        def marks_of(pair, group):
            return by_pair.number(builder.add(builder.add(at, pair), builder.mul(group, stride)))

        def emit(width):
            across = [I64(j * w.vector_type.count) for j in range(width)]
            zero = ir.Constant(w.vector_type, [0.0] * w.vector_type.count)

            def places_of_waiting(pair):
                start = builder.add(waiting_at, builder.mul(pair, I64(PAIR * width * w.vector_type.count)))
                return [builder.add(start, I64(i * w.vector_type.count)) for i in range(PAIR * width)]

            def sums_before(pair):
                with builder.if_else(begins) as (at_first, later):
                    with at_first:
                        before = builder.block
                    with later:
                        sums = [delta.vector(place).value for place in places_of_waiting(pair)]
                        after = builder.block
                phis = [builder.phi(w.vector_type) for _ in sums]
                for phi, total in zip(phis, sums, strict=True):
                    phi.add_incoming(zero, before)
                    phi.add_incoming(total, after)
                return phis

            def update(pair, state):
                def add_word(group, state):
                    word, seen, *sums = state
                    more = builder.icmp_signed("<", group, last_group)
                    following = builder.select(more, builder.add(group, I64(1)), I64(0))
                    following = marks_of(builder.select(more, pair, next_pair), following)
                    first_row = builder.mul(group, I64(WORD))

                    def add(i, sums):
                        row = builder.add(first_row, i)
                        place_at = builder.add(places_at, row)
                        place = places.number(place_at)
                        places.set(place_at, builder.add(place, I64(PAIR)))
                        left = [x.everywhere(builder.add(place, I64(k))) for k in range(PAIR)]
                        start = builder.add(delta_at, builder.mul(row, pitch))
                        return multiply_add(builder, sums, left, [delta.vector(builder.add(start, j)) for j in across])

                    return [following, builder.or_(seen, word), *_each_mark(builder, word, sums, add)]

                next_pair = builder.select(builder.icmp_signed("<", pair, last_pair), builder.add(pair, I64(1)), pair)
                state = [*state, I64(0), *sums_before(pair)]
                following, seen, *sums = loop(builder, n_groups, state, add_word)
                with builder.if_then(builder.not_(ends)):
                    for place, total in zip(places_of_waiting(pair), sums, strict=True):
                        delta.put(place, Vector(builder, total))
                changed = builder.or_(builder.not_(begins), builder.icmp_unsigned("!=", seen, I64(0)))
                with builder.if_then(builder.and_(ends, changed) if skip else ends):
                    for i in range(PAIR):
                        k = builder.add(builder.mul(pair, I64(PAIR)), I64(i))
                        with builder.if_then(builder.icmp_signed("<", k, n_features)) if i else nullcontext():
                            start = builder.add(w_at, builder.mul(k, w_pitch))
                            for j, total in zip(across, sums[i * width :][:width], strict=True):
                                place = builder.add(start, j)
                                w.put(place, finish(Vector(builder, total), w.vector(place), number))
                return [following]

            loop(builder, builder.add(last_pair, I64(1)), [marks_of(I64(0), I64(0))], update)

        switch(builder, vectors, {width: lambda width=width: emit(width) for width in WIDTHS})
        return context.get_dummy_value()

    i64 = types.int64

    @intrinsic
    def go_through(
        typing_context, vectors, w, w_at, w_pitch, x, places, places_at, by_pair, at, stride, n_groups, n_features,
        delta, delta_at, pitch, waiting_at, begins, ends, number,
    ):  # fmt: skip
        """Add some rows to sums that begin with 0 or wait in ``delta``; they end in w, or wait there for more."""
        yes = types.boolean
        kinds = i64, w, i64, i64, x, places, i64, by_pair, i64, i64, i64, i64, delta, i64, i64, i64, yes, yes, number
        return types.void(*kinds), codegen

    @part
    def update_features(
        vectors, w, w_at, w_pitch, x, places, places_at, by_pair, at, stride, n_groups, n_features,
        delta, delta_at, pitch, waiting_at, number,
    ):  # fmt: skip
        """Compute ``w[k] = finish(x[:, k] @ delta, w[k], number)`` of some features, for some columns."""
        for group in range(0, n_groups, GROUPS):
            row = group * WORD
            go_through(
                vectors, w, w_at, w_pitch, x, places, places_at + row, by_pair, at + group * stride, stride,
                min(GROUPS, n_groups - group), n_features, delta, delta_at + row * pitch, pitch, waiting_at,
                group == 0, group + GROUPS >= n_groups, number,
            )  # fmt: skip

    return update_features


update_features, sum_up_features = feature_products(plain_sgd, skip=True), feature_products(accumulate, skip=False)


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
            for row in range(first_row, last_row, ROWS):
                rows = min(ROWS, last_row - row)
                sums = sums_at + row * sums_pitch + j
                for i in range(row, row + rows):
                    starts[places_at + i] = starts[i]
                    for k in range(0, vectors * lane_count(out), lane_count(out)):  # another core has read them
                        prefetch_to_write(out, out_at + i * pitch + j + k)
                for word in range(n_words):
                    if word + 1 < n_words:
                        to, to_pitch, limit = sums, sums_pitch, -np.inf
                    else:
                        to, to_pitch, limit = out_at + row * pitch + j, pitch, floor
                    if fetches:  # little by little
                        for i in range(row + rows * word // n_words, row + rows * (word + 1) // n_words):
                            fetch(source, source_starts, orders, next_at + i, n_in)
                    forward_word(
                        vectors, out, to, to_pitch, sums, sums_pitch, x, starts, places_at + row,
                        marks, row * n_words + word, n_words, rows,
                        w, w_at + word * WORD * PAIR * w_pitch + j, w_pitch, b, b_at + j, word == 0, limit,
                    )  # fmt: skip
            fetches = False
            column += vectors

    return forward


@kernel
def sparse_update(
    w, w_at, w_pitch, x, starts, places_at, marks, by_pair, n_rows, n_in, delta, delta_at, pitch, waiting_at,
    first_in, last_in, column, last_column, rate,
):  # fmt: skip
    """Compute ``w += rate * x.T @ delta``, leaving out products with pairs of zeros; ``first_in`` is even.

    Of up to 128 rows, features that none has are left out, too. Sums wait for more in ``delta[waiting_at:]``.
    """
    n_groups, stride = groups_of(n_rows), words_of(n_in) * WORD
    turn_marks(by_pair, marks, n_rows, n_in)
    while column < last_column:
        vectors = row_width(last_column - column)
        j = column * lane_count(w)
        find_places(starts, places_at, marks, n_rows, n_in, first_in)
        block = n_in if n_groups <= GROUPS else SUMS_BYTES // (vectors * VECTOR_BYTES * PAIR) * PAIR
        for k in range(first_in, last_in, block):
            update_features(
                vectors, w, w_at + k * w_pitch + j, w_pitch, x, starts, places_at, by_pair, k // PAIR, stride,
                n_groups, min(block, last_in - k), delta, delta_at + j, pitch, waiting_at, rate,
            )  # fmt: skip
        column += vectors


@part
def find_places(starts, places_at, marks, n_rows, n_in, first_in):
    """Find for each row the place of its first number from feature ``first_in`` on, an even one."""
    n_words, first_pair = words_of(n_in), first_in // PAIR
    for row in range(n_rows):
        place, word = starts[row], row * n_words
        for before in range(0, first_pair, WORD):
            bits = marks[word + before // WORD]
            if first_pair - before < WORD:
                bits &= (ONE << np.uint64(first_pair - before)) - ONE
            place += PAIR * count_bits(bits)
        starts[places_at + row] = place


@kernel
def turn_marks(by_pair, marks, n_rows, n_in):
    """Turn the marks of a batch around: a word for each pair of features and group of 64 rows."""
    n_words = words_of(n_in)
    for group in range(groups_of(n_rows)):
        for word in range(n_words):
            at = (group * n_words + word) * WORD
            for i in range(WORD):
                row = group * WORD + i
                by_pair[at + i] = marks[row * n_words + word] if row < n_rows else ZERO
            turn_square(by_pair, at)


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

"""Rows without their zeros. Multiplications by zero are skipped, which changes no bit of a sum.

A packed row is a bit mask, whole words of 64 bits, and then numbers. Each bit stands for a pair of neighbouring
features; the numbers are the pairs that are not both zero. Neighbours are mostly zero together, so a pair costs one bit
and one turn of a loop, and seldom a multiplication by zero.

The forward pass takes one word of the masks of all rows, then the next word. So the weights of these few features stay
in the first cache. The update takes each pair of features through the rows that have it, at most 128 rows at a time:
the transposed masks hold a word for each pair and 64 rows. Both passes read a row's numbers in order, so ``positions``
only moves on. Both load the next mask early: the end of a row is often mispredicted, and then the mask is there.
"""

import numpy as np

from ..activations import floor_of
from ..bits import (
    ONE,
    WORD,
    ZERO,
    compress,
    count_bits,
    double_bits,
    extract_bits,
    keep_lanes,
    nonfinite_lanes,
    nonzero_lanes,
    transpose_bits,
)
from ..jit import entry, kernel, part
from ..optimizers import accumulate, plain_sgd
from ..random import kept_bits, row_key
from ..simd import VECTOR_BYTES, maximum
from ..structs import Matrix, Packed
from ..tile import multiply_add
from ..trace import either, if_then, loop, loop_while, switch, traced
from ..vector_ops import lane_count, prefetch, prefetch_to_write
from ..vector_ops import load as load_vector
from .base import BLOCK_ROWS, BLOCK_VECTORS, WIDTHS, Buffers, Format, Products, Rows, row_width, tiles_of

PAIR = 2
"""Features of a bit. If their number is odd, the last pair has a zero behind it."""

LINE_BYTES, WORD_BYTES = 64, 8

ROWS = 64
"""Rows that the forward pass takes through the words together. Their sums stay in the first cache, or nearly."""

GROUPS, SUMS_BYTES = 2, 16384
"""Groups of 64 rows that the update takes through some features together, so that their deltas stay in the first
cache; of so many features that the partial sums stay there too."""

FIRSTS = np.uint64(0x5555555555555555)
"""The first bit of each two."""


@part
def words_of(n_in):
    """Return the number of words in the mask of a row."""
    return (n_in + PAIR * WORD - 1) // (PAIR * WORD)


@part
def groups_of(n_rows):
    """Return the number of groups of 64 rows."""
    return (n_rows + WORD - 1) // WORD


# Pack ----------------------------------------------------------------------------------------------------------------


@part
def pack_row(out, at, masks, mask_at, x, x_at, n_in):
    """Write the pairs of a row that are not zero to ``out[at:]``, and its mask; return where they end.

    Up to a vector beyond the end is overwritten, but never more numbers than all pairs have.
    """
    lanes = lane_count(x)
    for word in range(words_of(n_in)):
        masks[mask_at + word] = ZERO
        for half in range(PAIR):
            k = (word * PAIR + half) * WORD
            end = min(k + WORD, n_in)
            firsts, bit = ZERO, ZERO
            while k + lanes <= end:
                pairs = nonzero_lanes(x, x_at + k)
                pairs = (pairs | pairs >> ONE) & FIRSTS
                compress(out, at, load_vector(x, x_at + k), pairs | pairs << ONE)
                at += PAIR * count_bits(pairs)
                firsts |= pairs << bit
                bit += np.uint64(lanes)
                k += lanes
            while k < end:
                first, second = x[x_at + k], x[x_at + k + 1] if k + 1 < end else 0.0
                if first != 0.0 or second != 0.0:
                    out[at], out[at + 1] = first, second
                    at += PAIR
                    firsts |= ONE << bit
                bit += np.uint64(PAIR)
                k += PAIR
            masks[mask_at + word] |= extract_bits(firsts, FIRSTS) << np.uint64(half * WORD // PAIR)
    return at


@entry
def pack_rows(packed, words, ends, bad_row, x, n_in, first_word, first_row, last_row):
    """Pack rows from word ``first_word`` on, each its mask and then its numbers; ``ends`` gets the word after each.

    ``packed`` and ``words`` are the same memory, seen as numbers like x and as words. ``bad_row[0]`` becomes the first
    row that has an infinite number or NaN.
    """
    lanes, n_words, per_word = lane_count(x), words_of(n_in), WORD_BYTES // x.itemsize
    start = first_word
    for row in range(first_row, last_row):
        at = (start + n_words) * per_word
        end = pack_row(packed, at, words, start, x, row * n_in, n_in)
        for k in range(end, end + lanes):  # whole vectors are read below
            packed[k] = 0.0
        bad = ZERO
        for k in range(at, end, lanes):
            bad |= nonfinite_lanes(packed, k)
        if bad != ZERO and bad_row[0] < 0:
            bad_row[0] = row
        start += n_words + (end - at + per_word - 1) // per_word
        ends[row] = start


# Load ----------------------------------------------------------------------------------------------------------------


@part
def load(ws, data, settings, at, n_rows, n_in, epoch):
    """Let the products read packed rows where they are."""
    n_words, per_word = words_of(n_in), WORD_BYTES // data.x.itemsize
    for row in range(n_rows):
        ws.inputs[row] = data.indptr[data.order[at + row]]
    for word in range(n_words):  # first word of all rows: cache misses of different rows overlap
        for row in range(n_rows):
            ws.masks[row * n_words + word] = data.indices[ws.inputs[row] + word]
    for row in range(n_rows):
        ws.inputs[row] = (ws.inputs[row] + n_words) * per_word


@part
def load_or_pack(ws, data, settings, at, n_rows, n_in, epoch):
    """Let the products read packed rows where they are; pack rows of numbers into the workspace."""
    if len(data.indptr) > 0:
        load(ws, data, settings, at, n_rows, n_in, epoch)
    else:
        for row in range(n_rows):
            start = data.order[at + row] * n_in
            pack_row(ws.work, ws.inputs[row], ws.masks, row * words_of(n_in), data.x, start, n_in)


@kernel
def drop(out, starts, masks, x, words, indptr, order, at, n_rows, n_in, settings, epoch):
    """Copy packed rows with zeros for the numbers that dropout drops."""
    n_words, per_word, lanes = words_of(n_in), WORD_BYTES // x.itemsize, lane_count(x)
    seed, drop_below, scale = settings.seed, settings.drop_below, settings.scale_kept  # once, see `dense.perturb`
    for row in range(n_rows):
        first_word, end = indptr[order[at + row]], starts[row]
        key, k = row_key(seed, epoch, order[at + row], 0), (first_word + n_words) * per_word
        for word in range(n_words):
            pairs = masks[row * n_words + word] = words[first_word + word]
            for unit in range(word * PAIR * WORD, (word + 1) * PAIR * WORD, WORD):
                features = double_bits(pairs)
                if features != ZERO:
                    keep = extract_bits(kept_bits(key, unit, drop_below), features)
                    count = count_bits(features)
                    for i in range(0, count, lanes):
                        keep_lanes(out, end + i, x, k + i, keep >> np.uint64(i), scale)
                    end += count
                    k += count
                pairs >>= np.uint64(WORD // PAIR)


@part
def load_dropout(ws, data, settings, at, n_rows, n_in, epoch):
    """Copy packed rows into the workspace, with dropout."""
    drop(ws.work, ws.inputs, ws.masks, data.x, data.indices, data.indptr, data.order, at, n_rows, n_in, settings, epoch)


@part
def in_place(ws, data):
    """Return the rows of a packed X."""
    return Packed(data.x, ws.inputs, ws.ends, ws.masks)


@part
def staged(ws, data):
    """Return the rows in the workspace."""
    return Packed(ws.work, ws.inputs, ws.ends, ws.masks)


@part
def in_place_or_staged(ws, data):
    """Return the rows of a packed X, or those that have been packed into the workspace."""
    if len(data.indptr) > 0:
        return Packed(data.x, ws.inputs, ws.ends, ws.masks)
    return Packed(ws.work, ws.inputs, ws.ends, ws.masks)


@part
def check(bad_row, ws, data, at, n_rows, n_in):
    """Note the first of these rows if a number that was just packed is infinite or NaN; a packed X has been checked."""
    lanes, n_words, bad = lane_count(data.x), words_of(n_in), ZERO
    for row in range(n_rows if len(data.indptr) == 0 else 0):
        left = 0
        for word in range(row * n_words, (row + 1) * n_words):
            left += PAIR * count_bits(ws.masks[word])
        for k in range(ws.inputs[row], ws.inputs[row] + left, lanes):
            lanes_of = nonfinite_lanes(ws.work, k)
            bad |= lanes_of if left >= lanes else lanes_of & ((ONE << np.uint64(left)) - ONE)
            left -= lanes
    if bad != ZERO and bad_row[0] < 0:
        bad_row[0] = at


# Prefetch: memory is slower than the sums, so rows are fetched while others are worked on-----------------------------


@part
def prefetch_dense_row(data, at, n_in):
    """Prefetch a row of numbers or bytes."""
    if at < len(data.order):
        for i in range(data.order[at] * n_in, (data.order[at] + 1) * n_in, LINE_BYTES // data.x.itemsize):
            prefetch(data.x, i)


@part
def prefetch_row(data, at, n_in):
    """Prefetch a packed row, and the start of a later one."""
    per_word, n_left = WORD_BYTES // data.x.itemsize, len(data.order)
    if len(data.indptr) > 0 and at < n_left:
        start = data.indptr[data.order[at]]
        end = min(data.indptr[data.order[at] + 1], start + words_of(n_in) + n_in // per_word + 1)  # a gap may follow
        for i in range(start, end, LINE_BYTES // WORD_BYTES):
            prefetch(data.x, i * per_word)
        prefetch(data.x, end * per_word - 1)
        prefetch(data.indptr, data.order[min(at + 8, n_left - 1)])


@part
def no_prefetch(data, at, n_in):
    """Prefetch nothing."""


# Forward -------------------------------------------------------------------------------------------------------------


def _each_bit(mask, state, body):
    """Emit ``for i in the bits of the mask, from the lowest: state = body(i, state)``.

    Only the mask decides when the loop ends, with one instruction a bit. So a mispredicted end is noticed while the
    sums are still being computed.
    """

    def take(state):
        mask, *rest = state
        return [mask & (mask - 1), *body(mask.lowest_bit(), rest)]

    return loop_while([mask, *state], lambda state: state[0] != 0, take)[1:]


def _each_width(vectors, emit):
    switch(vectors, {width: lambda width=width: emit(width) for width in WIDTHS})


@traced
def forward_word(vectors, out, sums, x, row, n_rows, word, n_words, w, b, floor):
    """Compute ``out = max(start + x @ w, floor)`` for the features of one word of the masks, for some columns.

    ``start`` is the bias for the first word, else the sums so far. ``row`` is the first of the rows.
    """
    floor, mask_at, is_first = floor.vector(out.buffer), row * n_words + word, word == 0

    def mask_and_position(i):
        return [x.masks.index(mask_at + i * n_words), x.positions.index(row + i)]

    def emit(width):
        across = [j * out.buffer.count for j in range(width)]

        def add_pair(i, state):
            position, *totals = state
            weights = w.at + i * (w.pitch * PAIR)
            for _ in range(PAIR):
                right = [w.buffer.vector(weights + j) for j in across]
                totals = multiply_add(totals, [x.buffer.broadcast(position)], right)
                position, weights = position + 1, weights + w.pitch
            return [position, *totals]

        def each_row(i, state):
            mask, position = state
            start = sums.at + i * sums.pitch
            totals = [sums.buffer.vector_of_either(is_first, b.buffer, b.at + j, start + j) for j in across]
            following = mask_and_position((i < n_rows - 1).choose(i + 1, i))
            x.positions.set(row + i, position + mask.bit_count() * PAIR)
            _, *totals = _each_bit(mask, [position, *totals], add_pair)
            for j, total in zip(across, totals, strict=True):
                out.buffer.put(out.at + i * out.pitch + j, maximum(floor, total))
            return following

        loop(n_rows, mask_and_position(0), each_row)

    _each_width(vectors, emit)


@part
def prefetch_weights(w, x, row, n_rows, word, n_words, j, vectors):
    """Prefetch the weights of the features of one word that any of the rows has."""
    seen = ZERO
    if word < n_words:
        for i in range(row, row + n_rows):
            seen |= x.masks[i * n_words + word]
    at, lanes = w.at + word * WORD * PAIR * w.pitch + j, lane_count(w.buffer)
    while seen != ZERO:
        if seen & ONE != ZERO:
            for k in range(0, vectors * lanes, lanes):
                prefetch(w.buffer, at + k)
                prefetch(w.buffer, at + w.pitch + k)
        at += PAIR * w.pitch
        seen >>= ONE


def _forward(prefetch_next):
    """Build the forward product, which prefetches the rows of the next batch between its own."""

    @kernel
    def forward(out, sums, x, w, b, n_in, block, parts, floor, data, next_at):
        """Compute ``out = max(x @ w + b, floor)``  # (B, O).

        ``sums`` is a place that no other thread uses: the sums stay there until they are finished. If the rows of the
        batch are divided into several parts, the update needs the others too, and other threads have changed weights.
        """
        n_words, prefetches, lanes, column = words_of(n_in), True, lane_count(out.buffer), block.column
        while column < block.end_column:
            vectors, j = row_width(block.end_column - column), column * lanes
            for row in range(block.row, block.end_row, ROWS):
                n_rows = min(ROWS, block.end_row - row)
                own = Matrix(sums.buffer, sums.at + row * sums.pitch + j, sums.pitch)
                final = Matrix(out.buffer, out.at + row * out.pitch + j, out.pitch)
                for i in range(n_rows):
                    x.positions[row + i] = x.starts[row + i]
                    for k in range(0, vectors * lanes, lanes):  # another core has read these outputs
                        prefetch_to_write(out.buffer, final.at + i * out.pitch + k)
                for word in range(n_words):
                    to, bound = own, -np.inf
                    if word + 1 == n_words:
                        to, bound = final, floor
                    if prefetches:  # little by little
                        start, n_next = row * parts, n_rows * parts
                        for i in range(start + n_next * word // n_words, start + n_next * (word + 1) // n_words):
                            prefetch_next(data, next_at + i, n_in)
                    if parts > 1:
                        prefetch_weights(w, x, row, n_rows, word + 1, n_words, j, vectors)
                    forward_word(
                        vectors, to, own, x, row, n_rows, word, n_words,
                        Matrix(w.buffer, w.at + word * WORD * PAIR * w.pitch + j, w.pitch),
                        Matrix(b.buffer, b.at + j, 0), bound,
                    )  # fmt: skip
            prefetches = False
            column += vectors

    return forward


# Update --------------------------------------------------------------------------------------------------------------


def _feature_products(finish, skip_empty):
    """Build ``w[k] = finish(x[:, k] @ delta, w[k], number)`` for features from an even one on, and some columns.

    Features that no row of a batch of up to 128 rows has are skipped if ``skip_empty``, else their product is 0.
    """

    @traced
    def add_rows(vectors, w, x, masks_t, row, n_groups, n_features, delta, partial_sums, is_last, number):
        """Add the products of some groups of rows to the sums, which start with 0 at row 0.

        They end in w with the last rows. Until then they are kept in ``delta.buffer[partial_sums:]``.
        """
        number, lanes, is_first = number.vector(w.buffer), w.buffer.count, row == 0
        last_pair = (n_features - 1) >> 1

        def rows_of(pair, group):
            return masks_t.buffer.index(masks_t.at + pair + group * masks_t.pitch)

        def emit(width):
            across = [j * lanes for j in range(width)]

            def partial_places(pair):
                return [partial_sums + pair * (PAIR * width * lanes) + i * lanes for i in range(PAIR * width)]

            def update_pair(pair, state):
                next_pair = (pair < last_pair).choose(pair + 1, pair)

                def add_group(group, state):
                    mask, seen, *totals = state
                    more = group < n_groups - 1
                    following = rows_of(more.choose(pair, next_pair), more.choose(group + 1, 0))

                    def add_row(i, totals):
                        here = group * WORD + i
                        position = x.positions.index(row + here)
                        x.positions.set(row + here, position + PAIR)
                        left = [x.buffer.broadcast(position + k) for k in range(PAIR)]
                        right = [delta.buffer.vector(delta.at + here * delta.pitch + j) for j in across]
                        return multiply_add(totals, left, right)

                    return [following, seen | mask, *_each_bit(mask, totals, add_row)]

                zeros = [number.of(0.0)] * (PAIR * width)
                totals = either(is_first, zeros, lambda: [delta.buffer.vector(at) for at in partial_places(pair)])
                following, seen, *totals = loop(n_groups, [*state, pair.of(0), *totals], add_group)

                def store_feature(i):
                    k = pair * PAIR + i
                    for j, total in zip(across, totals[i * width :][:width], strict=True):
                        place = w.at + k * w.pitch + j
                        w.buffer.put(place, finish(total, w.buffer.vector(place), number))

                def store_pair():
                    store_feature(0)
                    if_then(pair * PAIR + 1 < n_features, lambda: store_feature(1))

                def keep_sums():
                    for place, total in zip(partial_places(pair), totals, strict=True):
                        delta.buffer.put(place, total)

                if_then(~is_last, keep_sums)
                if_then(is_last & (~is_first | (seen != 0)) if skip_empty else is_last, store_pair)
                return [following]

            loop(last_pair + 1, [rows_of(last_pair.of(0), 0)], update_pair)

        _each_width(vectors, emit)

    @part
    def update_features(vectors, w, x, masks_t, n_groups, n_features, delta, partial_sums, number):
        for group in range(0, n_groups, GROUPS):
            row, end_group = group * WORD, min(group + GROUPS, n_groups)
            add_rows(
                vectors, w, x, Matrix(masks_t.buffer, masks_t.at + group * masks_t.pitch, masks_t.pitch), row,
                end_group - group, n_features, Matrix(delta.buffer, delta.at + row * delta.pitch, delta.pitch),
                partial_sums, end_group == n_groups, number,
            )  # fmt: skip

    return update_features


update_features = _feature_products(plain_sgd, skip_empty=True)
sum_features = _feature_products(accumulate, skip_empty=False)


@part
def rewind(x, n_rows, n_in, feature):
    """Set the position of each row to its first number from a feature on, an even one."""
    n_words, first_pair = words_of(n_in), feature // PAIR
    for row in range(n_rows):
        position, word = x.starts[row], row * n_words
        for before in range(0, first_pair, WORD):
            mask = x.masks[word + before // WORD]
            if first_pair - before < WORD:
                mask &= (ONE << np.uint64(first_pair - before)) - ONE
            position += PAIR * count_bits(mask)
        x.positions[row] = position


@kernel
def transpose_masks(masks_t, masks, n_rows, n_in):
    """Transpose the masks of a batch: a word for each pair of features and group of 64 rows."""
    n_words = words_of(n_in)
    for group in range(groups_of(n_rows)):
        for word in range(n_words):
            at = (group * n_words + word) * WORD
            for i in range(WORD):
                row = group * WORD + i
                masks_t[at + i] = masks[row * n_words + word] if row < n_rows else ZERO
            transpose_bits(masks_t, at)


@kernel
def update(w, x, lists, delta, layer, n_rows, rate):
    """Compute ``w += rate * x.T @ delta`` of the weights that the thread owns."""
    n_groups, n_in, column = groups_of(n_rows), layer.n_in, layer.column
    transpose_masks(lists, x.masks, n_rows, n_in)
    while column < layer.end_column:
        vectors = row_width(layer.end_column - column)
        j = column * lane_count(w.buffer)
        rewind(x, n_rows, n_in, layer.row)
        n_features = n_in if n_groups <= GROUPS else SUMS_BYTES // (vectors * VECTOR_BYTES * PAIR) * PAIR
        for k in range(layer.row, layer.end_row, n_features):
            update_features(
                vectors, Matrix(w.buffer, w.at + k * w.pitch + j, w.pitch), x,
                Matrix(lists, k // PAIR, words_of(n_in) * WORD), n_groups, min(n_features, layer.end_row - k),
                Matrix(delta.buffer, delta.at + j, delta.pitch), layer.partial_sums, rate,
            )  # fmt: skip
        column += vectors


@part
def prepare(x, lists, layer, n_rows):
    """Transpose the masks."""
    transpose_masks(lists, x.masks, n_rows, layer.n_in)


@part
def prepare_columns(x, lists, layer, n_rows):
    """Start again with the first feature."""
    rewind(x, n_rows, layer.n_in, layer.row)


@part
def gradient(g, x, lists, delta, layer, n_rows, block, keep):
    """Compute the gradient of a block. Blocks of the same columns must come in the order of their rows."""
    j = block.column * lane_count(g.buffer)
    sum_features(
        block.end_column - block.column, Matrix(g.buffer, g.at + block.row * g.pitch + j, g.pitch), x,
        Matrix(lists, block.row // PAIR, words_of(layer.n_in) * WORD), groups_of(n_rows), block.end_row - block.row,
        Matrix(delta.buffer, delta.at + j, delta.pitch), layer.partial_sums, keep,
    )  # fmt: skip


def buffers(chunk, n_in, n_nonzeros):
    """Return the sizes of masks, transposed masks, and partial sums if rows come in several groups."""
    n_words = -(-n_in // (PAIR * WORD))
    block = BLOCK_ROWS * BLOCK_VECTORS * VECTOR_BYTES
    partial_sums = max(SUMS_BYTES, block) if chunk > GROUPS * WORD else 0
    return Buffers(chunk * n_words, -(-chunk // WORD) * WORD * n_words, "uint64", partial_sums)


def cycles(vectors, density):
    """Return about the cycles of a feature: for each tile, a pair of them takes 12, and 2 more for each vector."""
    return density * (6 * len(tiles_of(vectors, WIDTHS)) + vectors)


def products(prefetch_next):
    """Return the products of packed rows, where the forward pass prefetches the next rows in this way."""
    forward_block = _forward(prefetch_next)

    @part
    def forward(out, x, w, b, layer, block, data, next_at):
        sums = Matrix(out.buffer, layer.delta, layer.delta_pitch)
        forward_block(out, sums, x, w, b, layer.n_in, block, layer.parts, floor_of(layer.activation), data, next_at)

    return Products(forward, update, gradient, prepare, prepare_columns, buffers=buffers, cycles=cycles)


PRODUCTS = products(prefetch_row)
PLAIN = Rows("packed", load, in_place, PRODUCTS, staged=False)
DROPOUT = Rows("packed_dropout", load_dropout, staged, PRODUCTS, staged=True)
TO_INFER = Rows("packed", load_or_pack, in_place_or_staged, PRODUCTS, staged=True)
PACKED = Format(train=PLAIN, dropout=DROPOUT, noise=None, infer=TO_INFER, check=check)

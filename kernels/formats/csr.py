"""Rows of a CSR matrix: a step costs what its nonzeros cost, however many columns there are.

The numbers of a row are ``x[starts[row] : ends[row]]``, and their columns are in ``indices`` there, in ascending order.
For the update, ``lists`` holds the nonzeros of a batch by column, each column's in the order of the rows, as linked
lists. It consists of: how many columns the batch has; for each column where its first link is, 0 if it has none; the
columns of the batch; and the links, each the place of the next link, its row, and where its number is in the row.

All of these are scattered in memory, and most of the time goes into waiting for them. So all are prefetched.
"""

import numpy as np

from ..activations import floor_of
from ..bits import ONE
from ..jit import kernel, part
from ..optimizers import accumulate, plain_sgd
from ..random import random_bits, row_key
from ..simd import maximum
from ..structs import Csr, Matrix
from ..tile import multiply_add
from ..trace import formula, loop, loop_while, switch, traced
from ..vector_ops import lane_count, prefetch_near, store
from ..vector_ops import load as load_vector
from . import dense
from .base import WIDTHS, Buffers, Format, Products, Rows, no_check
from .packed import LINE_BYTES

WIDEST = 8
"""Vectors in a row of the widest tile. Wide, because each tile reads all numbers of a row anew."""

AHEAD = 24
"""Numbers or columns whose weights are prefetched before their turn: as many cache lines as a core can wait for."""

LINK_FIELDS = 4
"""Numbers of ``lists`` for each number of a batch: a column, and the fields of a link."""

times = formula(lambda vector, factor: vector * factor)


# Load ----------------------------------------------------------------------------------------------------------------


@part
def load(ws, data, settings, at, n_rows, n_in, epoch):
    """Note where each row starts and ends, and prefetch it."""
    for row in range(n_rows):
        start, end = data.indptr[data.order[at + row]], data.indptr[data.order[at + row] + 1]
        ws.inputs[row], ws.ends[row] = start, end
        for p in range(start, end, LINE_BYTES // data.x.itemsize):  # a line of indices holds as many or more
            prefetch_near(data.x, p)
            prefetch_near(data.indices, p)


@kernel
def drop(kept, kept_indices, starts, ends, x, indices, indptr, order, at, n_rows, settings, epoch):
    """Copy the numbers that dropout keeps, and their columns."""
    seed, drop_below, scale = settings.seed, settings.drop_below, settings.scale_kept  # once, see `dense.perturb`
    out, lanes = 0, lane_count(x)
    for row in range(n_rows):
        key, starts[row] = row_key(seed, epoch, order[at + row], 0), out
        for p in range(indptr[order[at + row]], indptr[order[at + row] + 1]):
            kept[out], kept_indices[out] = x[p], indices[p]  # overwritten by the next one if it is dropped
            out += random_bits(key, indices[p]) >= drop_below
        ends[row] = out
    for k in range(0, out, lanes):
        store(kept, k, times(load_vector(kept, k), scale))


@part
def load_dropout(ws, data, settings, at, n_rows, n_in, epoch):
    """Copy rows with dropout, which leaves fewer numbers."""
    drop(
        ws.kept, ws.kept_indices, ws.inputs, ws.ends, data.x, data.indices, data.indptr, data.order, at, n_rows,
        settings, epoch,
    )  # fmt: skip


@part
def load_perturbed(ws, data, settings, at, n_rows, n_in, epoch):
    """Write rows with all their zeros into the workspace, and add noise, which leaves no zeros."""
    for row in range(n_rows):
        for k in range(n_in):
            ws.work[ws.inputs[row] + k] = 0.0
        for p in range(data.indptr[data.order[at + row]], data.indptr[data.order[at + row] + 1]):
            ws.work[ws.inputs[row] + data.indices[p]] = data.x[p]
    dense.perturb(ws.work, ws.inputs, data.order, at, n_rows, n_in, settings, epoch)


@part
def in_place(ws, data):
    """Return the rows of X."""
    return Csr(data.x, data.indices, ws.inputs, ws.ends)


@part
def kept_rows(ws, data):
    """Return what dropout has kept."""
    return Csr(ws.kept, ws.kept_indices, ws.inputs, ws.ends)


# Forward -------------------------------------------------------------------------------------------------------------


def _each_width(vectors, emit, widths=range(1, WIDEST + 1)):
    switch(vectors, {width: lambda width=width: emit(width) for width in widths})


@traced
def forward_row(vectors, out, x, row, next_row, w, b, floor):
    """Compute ``max(x @ w + b, floor)`` of one row, for some columns; prefetch the weights of its end and the next row.

    ``out`` is where the row's outputs are.
    """
    floor, first, end = floor.vector(out.buffer), x.starts.index(row), x.ends.index(row)
    next_first, next_end = x.starts.index(next_row), x.ends.index(next_row)

    def w_row(p):
        return w.at + x.indices.index(p) * w.pitch

    def emit(width):
        across = [j * out.buffer.count for j in range(width)]

        def add(k, sums):
            p = first + k
            # the number to prefetch for is in this row, or in the next one if it is beyond the end of this
            beyond = p + AHEAD - end
            in_row = beyond < 0
            later = in_row.choose(end, next_first) + beyond
            later = w_row((in_row | (later < next_end)).choose(later, p))
            for j in across:
                w.buffer.prefetch(later + j, near=True)
            right = [w.buffer.vector(w_row(p) + j) for j in across]
            return multiply_add(sums, [x.buffer.broadcast(p)], right)

        sums = loop(end - first, [b.buffer.vector(b.at + j) for j in across], add)
        for j, total in zip(across, sums, strict=True):
            out.buffer.put(out.at + j, maximum(floor, total))

    _each_width(vectors, emit)


@kernel
def forward_rows(out, x, w, b, block, floor):
    """Compute ``out = max(x @ w + b, floor)``  # (B, O)."""
    column = block.column
    while column < block.end_column:
        vectors = min(WIDEST, block.end_column - column)
        j = column * lane_count(out.buffer)
        for row in range(block.row, block.end_row):
            forward_row(
                vectors, Matrix(out.buffer, out.at + row * out.pitch + j, out.pitch), x, row,
                min(row + 1, block.end_row - 1), Matrix(w.buffer, w.at + j, w.pitch), Matrix(b.buffer, b.at + j, 0),
                floor,
            )  # fmt: skip
        column += vectors


@part
def forward(out, x, w, b, layer, block, data, next_at):
    """Compute the first layer's outputs."""
    forward_rows(out, x, w, b, block, floor_of(layer.activation))


# Update --------------------------------------------------------------------------------------------------------------


def _column_products(finish, listed):
    """Build ``w[k] = finish(x[:, k] @ delta, w[k], number)`` for columns k of X, for some vectors of w.

    They are those of a list that starts at ``lists[first]``, or the columns from ``first`` on.
    """

    @traced
    def update_columns(vectors, w, x, lists, first, n_columns, delta, number):
        number, last = number.vector(w.buffer), n_columns - 1

        def column(i):
            return lists.index(first + i) if listed else first + i

        def places(link):
            # where the number of a link is, and the deltas of its row
            row = lists.index(link + 1)
            return x.starts.index(row) + lists.index(link + 2), delta.at + row * delta.pitch

        def emit(width):
            across = [j * w.buffer.count for j in range(width)]

            def prefetch(k):
                number_at, delta_row = places(lists.index(k + 1))
                x.buffer.prefetch(number_at, near=True)
                for j in across:
                    w.buffer.prefetch(w.at + k * w.pitch + j, near=True)
                    delta.buffer.prefetch(delta_row + j, near=True)

            def add(state):
                link, *sums = state
                number_at, delta_row = places(link)
                right = [delta.buffer.vector(delta_row + j) for j in across]
                return [lists.index(link), *multiply_add(sums, [x.buffer.broadcast(number_at)], right)]

            def each(i, _):
                if listed:
                    prefetch(column((i + AHEAD < last).choose(i + AHEAD, last)))
                k = column(i)
                state = [lists.index(k + 1)] + [number.of(0.0)] * width
                _, *sums = loop_while(state, lambda state: state[0] > 0, add)
                for j, total in zip(across, sums, strict=True):
                    at = w.at + k * w.pitch + j
                    w.buffer.put(at, finish(total, w.buffer.vector(at), number))
                return []

            loop(n_columns, [], each)

        _each_width(vectors, emit, range(1, WIDEST + 1) if listed else WIDTHS)

    return update_columns


update_listed, sum_all = _column_products(plain_sgd, listed=True), _column_products(accumulate, listed=False)


@part
def prefetch_heads(lists, indices, p, end, layer):
    """Prefetch where the lists of a row's own columns begin; return the range of the numbers in these columns."""
    while p < end and indices[p] < layer.row:
        p += 1
    first = p
    while p < end and indices[p] < layer.end_row:
        prefetch_near(lists, 1 + indices[p])
        p += 1
    return first, p


@kernel
def list_columns(lists, x, layer, n_rows):
    """List the nonzeros of a batch by column, of the columns that the thread owns."""
    columns_at = np.uint64(1 + layer.n_in)  # unsigned: Numba checks signed indices for wraparound
    column, link = columns_at, columns_at + np.uint64((len(lists) - 1 - layer.n_in) // LINK_FIELDS)
    first = last = 0  # the owned numbers of a row whose lists are being prefetched
    for row in range(n_rows, -1, -1):  # the last row first, so that a list begins with its first row
        here, end = first, last
        if row > 0:
            first, last = prefetch_heads(lists, x.indices, x.starts[row - 1], x.ends[row - 1], layer)
        for p in range(here, end):
            k = np.uint64(x.indices[p])
            following = lists[ONE + k]
            lists[ONE + k] = link
            lists[link], lists[link + ONE], lists[link + np.uint64(2)] = following, row, p - x.starts[row]
            link += np.uint64(LINK_FIELDS - 1)
            lists[column] = k
            column += np.uint64(following == 0)
    lists[0] = column - columns_at


@part
def clear_lists(lists, n_in):
    """Make the lists empty again."""
    for i in range(lists[0]):
        lists[1 + lists[1 + n_in + i]] = 0


@kernel
def update_owned(w, x, lists, delta, layer, rate):
    """Compute ``w += rate * x.T @ delta`` of the columns that have nonzeros, and clear the lists."""
    column = layer.column
    while column < layer.end_column:
        vectors = min(WIDEST, layer.end_column - column)
        j = column * lane_count(w.buffer)
        update_listed(
            vectors, Matrix(w.buffer, w.at + j, w.pitch), x, lists, 1 + layer.n_in, lists[0],
            Matrix(delta.buffer, delta.at + j, delta.pitch), rate,
        )  # fmt: skip
        column += vectors
    clear_lists(lists, layer.n_in)


@part
def update(w, x, lists, delta, layer, n_rows, rate):
    """Update the weights that the thread owns."""
    list_columns(lists, x, layer, n_rows)
    update_owned(w, x, lists, delta, layer, rate)


@part
def prepare(x, lists, layer, n_rows):
    """List the nonzeros by column."""
    list_columns(lists, x, layer, n_rows)


@part
def gradient(g, x, lists, delta, layer, n_rows, block, keep):
    """Compute the gradient of a block, also of columns without nonzeros."""
    j = block.column * lane_count(g.buffer)
    sum_all(
        block.end_column - block.column, Matrix(g.buffer, g.at + j, g.pitch), x, lists, block.row,
        block.end_row - block.row, Matrix(delta.buffer, delta.at + j, delta.pitch), keep,
    )  # fmt: skip


@part
def release(x, lists, layer, n_rows):
    """Clear the lists."""
    clear_lists(lists, layer.n_in)


def buffers(chunk, n_in, n_nonzeros):
    """Return the size of the lists."""
    return Buffers(lists=1 + n_in + LINK_FIELDS * n_nonzeros, lists_dtype="int32")


# Columns of X are scattered in memory. If threads divided the columns of w, each would have to fetch all of them.
PRODUCTS = Products(forward, update, gradient, prepare, release=release, buffers=buffers, by_columns=False)
PLAIN = Rows("csr", load, in_place, PRODUCTS, staged=False)
DROPOUT = Rows("csr_dropout", load_dropout, kept_rows, PRODUCTS, staged=False, keeps=True)
NOISE = Rows("csr_noise", load_perturbed, dense.staged, dense.PRODUCTS, staged=True)
CSR = Format(train=PLAIN, dropout=DROPOUT, noise=NOISE, infer=PLAIN, check=no_check)

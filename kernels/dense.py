"""A layer on dense rows: forward, input gradient and update, each one matrix product.

Rows of ``x`` are named by where they start in their buffer (``starts``), so the same kernels read a shuffled batch in
place from the user's array and a layer's activations from the workspace. Columns are counted in whole vectors.
"""

from .jit import kernel, part
from .optimizers import accumulate, plain_sgd
from .simd import formula, lane_count, load, maximum, splat, store, transpose_square
from .tile import TALLEST, VECTORS, tile_height, tile_product, tile_width


def _bounded(z, _, floor):
    return maximum(floor, z)


forward_tile = tile_product(rows_named=True, finish=_bounded)
fetching_tile = tile_product(rows_named=True, finish=_bounded, fetching=True)
sgd_vector = formula(plain_sgd)
add = formula(lambda a, b: a + b)

ROWS = 11 * TALLEST
"""Rows that go through all columns together: they stay in the second cache, where each column would read them anew."""

_MOST_FETCHED = 16  # rows by one tile: each term of its sum fetches from one of them


def _product(tile):
    """Build the forward product around its tile."""

    @kernel
    def forward(
        out, out_at, x, starts, starts_at, w, w_at, w_pitch, b, b_at, n_in, pitch, first_row, last_row,
        column, last_column, floor, source, order, order_at, n_fetched,
    ):  # fmt: skip
        """Compute ``out = max(x @ w + b, floor)``  # (B, O) = max((B, I) @ (I, O) + (O,), floor).

        If it fetches, then each tile in turn ``n_fetched`` of the rows ``order[order_at:]`` of ``source``.
        """
        last_at = max(len(order) - n_fetched, 0)
        for block in range(first_row, last_row, ROWS):
            end = min(block + ROWS, last_row)
            j = column
            while j < last_column:
                vectors = tile_width(last_column - j, VECTORS)
                at, row = j * lane_count(out), block
                while row < end:
                    rows = tile_height(end - row, vectors)
                    tile(
                        rows, vectors, out, out_at + row * pitch + at, pitch, x, 0, starts, starts_at + row,
                        w, w_at + at, w_pitch, n_in, b, b_at + at, floor,
                        source, order, min(order_at, last_at), n_fetched,
                    )  # fmt: skip
                    row += rows
                    order_at += n_fetched
                j += vectors

    return forward


forward = _product(forward_tile)
forward_and_fetch = _product(fetching_tile)


@part
def rows_to_fetch(n_rows, n_columns, most):
    """Give how many rows each tile of a product fetches so that all fetch as many as it has: a power of two."""
    across = n_columns // VECTORS + (n_columns % VECTORS + 1) // 2  # tiles of four vectors, two and one
    n_tiles = across * max(1, n_rows // tile_height(n_rows, tile_width(n_columns, VECTORS)))
    rows = 1
    while rows * n_tiles < n_rows and 2 * rows <= min(most, _MOST_FETCHED):
        rows *= 2
    return rows


def updating(finish):
    """Build ``w = finish(x.T @ delta, w, number)``, and the same of biases; the product never leaves the registers."""
    tile, vector = tile_product(rows_named=False, finish=finish), formula(finish)

    @kernel
    def update(
        w, w_at, w_pitch, x, starts, starts_at, delta, delta_at, zeros, n_rows, pitch, first_in, last_in,
        column, last_column, number,
    ):  # fmt: skip
        """Compute ``w = finish(x.T @ delta, w, number)``  # (I, O), from (B, I).T @ (B, O)."""
        while column < last_column:
            vectors = tile_width(last_column - column, VECTORS)
            at = column * lane_count(w)
            i = first_in
            while i < last_in:
                rows = tile_height(last_in - i, vectors)
                w_row = w_at + i * w_pitch + at
                tile(
                    rows, vectors, w, w_row, w_pitch, x, i, starts, starts_at, delta, delta_at + at, pitch, n_rows,
                    zeros, 0, number, zeros, starts, 0, 1,
                )  # fmt: skip
                i += rows
            column += vectors

    @part
    def update_bias(b, b_at, delta, delta_at, zeros, n_rows, pitch, column, last_column, number):
        """Compute ``b = finish(delta.sum(axis=0), b, number)``  # (O,)."""
        lanes = lane_count(b)
        for at in range(column * lanes, last_column * lanes, lanes):
            total = load(zeros, 0)
            for row in range(n_rows):
                total = add(total, load(delta, delta_at + row * pitch + at))
            store(b, b_at + at, vector(total, load(b, b_at + at), number))

    return update, update_bias


update, update_bias = updating(plain_sgd)
"""``w += rate * x.T @ delta`` and ``b += rate * delta.sum(axis=0)``."""

sum_up_gradient, sum_up_bias = updating(accumulate)
"""The gradients alone, added to what is there where the last argument is 1, in place of it where it is 0."""


@part
def transpose(out, out_at, out_pitch, w, w_at, w_pitch, first_in, last_in, column, last_column):
    """Compute ``out = w.T``  # (O, I) from (I, O), in squares of whole vectors; ``first_in`` starts a square."""
    lanes = lane_count(w)
    for i in range(first_in, last_in, lanes):
        for o in range(column * lanes, last_column * lanes, lanes):
            transpose_square(out, out_at + o * out_pitch + i, out_pitch, w, w_at + i * w_pitch + o, w_pitch)


@part
def axpy(y, x, first, last, rate):
    """Compute ``y += rate * x`` and then ``x = 0``, from ``first`` to ``last``, both whole vectors."""
    for at in range(first, last, lane_count(y)):
        store(y, at, sgd_vector(load(x, at), load(y, at), rate))
        store(x, at, splat(x, 0.0))

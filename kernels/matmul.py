"""Matrix products of dense rows, made of register tiles: forward, update and gradient of a layer.

The rows of ``x`` lie anywhere in their buffer (:class:`~.structs.Gathered`). So the same kernels read a shuffled batch
in place from the user's array, and a layer's activations from the workspace.
"""

from .jit import kernel, part
from .optimizers import accumulate, plain_sgd
from .simd import maximum
from .structs import Gathered, Matrix, Prefetch
from .tile import TALLEST, VECTORS, tile_height, tile_product, tile_width
from .trace import formula
from .vector_ops import lane_count, load, splat, store, transpose_square

ROWS = 11 * TALLEST
"""Rows that go through all columns together, so that they stay in the second cache from one column to the next."""

MOST_PREFETCHED = 16
"""Rows that one tile prefetches at most. Each term of its sums prefetches from one of them."""

sgd_vector = formula(plain_sgd)
add = formula(lambda a, b: a + b)


def _bounded(z, _, floor):
    return maximum(floor, z)


@part
def advance(prefetch, n_rows):
    """Move on by ``n_rows``, but not so far that a tile would prefetch beyond the order."""
    at = min(prefetch.at + n_rows, max(len(prefetch.order) - prefetch.count, 0))
    return Prefetch(prefetch.source, prefetch.order, at, prefetch.count)


def _forward(prefetching):
    """Build the forward product."""
    tile = tile_product(rows_named=True, finish=_bounded, prefetching=prefetching)

    @kernel
    def forward(out, x, w, b, n_in, block, floor, prefetch):
        """Compute ``out = max(x @ w + b, floor)``  # (B, O) = max((B, I) @ (I, O) + (O,), floor)."""
        if prefetching:
            prefetch = advance(prefetch, 0)
        for first_row in range(block.row, block.end_row, ROWS):
            end_row = min(first_row + ROWS, block.end_row)
            column = block.column
            while column < block.end_column:
                vectors, j = tile_width(block.end_column - column, VECTORS), column * lane_count(out.buffer)
                row = first_row
                while row < end_row:
                    rows = tile_height(end_row - row, vectors)
                    tile(
                        rows, vectors, Matrix(out.buffer, out.at + row * out.pitch + j, out.pitch),
                        Gathered(x.buffer, x.starts, x.first + row), 0, Matrix(w.buffer, w.at + j, w.pitch), n_in,
                        Matrix(b.buffer, b.at + j, 0), floor, prefetch,
                    )  # fmt: skip
                    row += rows
                    if prefetching:
                        prefetch = advance(prefetch, prefetch.count)
                column += vectors

    return forward


forward, forward_and_prefetch = _forward(prefetching=False), _forward(prefetching=True)


@part
def rows_to_prefetch(block, n_left):
    """Return how many rows each tile prefetches, a power of two, so that all tiles prefetch about a block's rows."""
    n_rows, n_columns = block.end_row - block.row, block.end_column - block.column
    across = n_columns // VECTORS + (n_columns % VECTORS + 1) // 2  # tiles of four vectors, two and one
    n_tiles = across * max(1, n_rows // tile_height(n_rows, tile_width(n_columns, VECTORS)))
    rows = 1
    while rows * n_tiles < n_rows and 2 * rows <= min(n_left, MOST_PREFETCHED):
        rows *= 2
    return rows


def _update(finish):
    """Build ``w = finish(x.T @ delta, w, number)``, and the same for biases. The product never leaves the registers."""
    tile, finish_vector = tile_product(rows_named=False, finish=finish), formula(finish)

    @kernel
    def update(w, x, delta, zeros, n_rows, block, number):
        """Compute ``w = finish(x.T @ delta, w, number)``  # (I, O), from (B, I).T @ (B, O)."""
        column = block.column
        while column < block.end_column:
            vectors, j = tile_width(block.end_column - column, VECTORS), column * lane_count(w.buffer)
            i = block.row
            while i < block.end_row:
                rows = tile_height(block.end_row - i, vectors)
                tile(
                    rows, vectors, Matrix(w.buffer, w.at + i * w.pitch + j, w.pitch), x, i,
                    Matrix(delta.buffer, delta.at + j, delta.pitch), n_rows, Matrix(zeros, 0, 0), number, 0,
                )  # fmt: skip
                i += rows
            column += vectors

    @part
    def update_bias(b, delta, zeros, n_rows, block, number):
        """Compute ``b = finish(delta.sum(axis=0), b, number)``  # (O,)."""
        lanes = lane_count(b.buffer)
        for j in range(block.column * lanes, block.end_column * lanes, lanes):
            total = load(zeros, 0)
            for row in range(n_rows):
                total = add(total, load(delta.buffer, delta.at + row * delta.pitch + j))
            store(b.buffer, b.at + j, finish_vector(total, load(b.buffer, b.at + j), number))

    return update, update_bias


update, update_bias = _update(plain_sgd)
"""``w += rate * x.T @ delta`` and ``b += rate * delta.sum(axis=0)``."""

sum_gradient, sum_bias_gradient = _update(accumulate)
"""The gradients alone. They are added to what is there if the last argument is 1, and replace it if it is 0."""


@part
def transpose(out, w, block):
    """Compute ``out = w.T``  # (O, I) from (I, O), in squares of whole vectors; ``block.row`` starts a square."""
    lanes = lane_count(w.buffer)
    for i in range(block.row, block.end_row, lanes):
        for o in range(block.column * lanes, block.end_column * lanes, lanes):
            transpose_square(
                Matrix(out.buffer, out.at + o * out.pitch + i, out.pitch),
                Matrix(w.buffer, w.at + i * w.pitch + o, w.pitch),
            )


@part
def add_and_clear(y, x, first, last, rate):
    """Compute ``y += rate * x`` and then ``x = 0``, from ``first`` to ``last``, both whole vectors."""
    for at in range(first, last, lane_count(y)):
        store(y, at, sgd_vector(load(x, at), load(y, at), rate))
        store(x, at, splat(x, 0.0))

"""The register tile: a block of a matrix product that stays in registers until it is finished.

A product is ``out[i, :] = finish(first + sum over k of a[i, k] * b[k, :], out[i, :])``. The forward pass and the update
both have this form: ``first`` is the bias or zero, and ``finish`` is the activation or the optimizer. So neither costs
a pass over memory. Each number of a tile is one sum, computed in the order of ``k`` by fused multiply-adds. The size of
a tile changes no bit.
"""

from itertools import product

from .jit import part
from .simd import REGISTERS, fma
from .trace import loop, switch, traced

HEIGHTS = {4: (6, 4, 2, 1), 2: (8, 4, 2, 1), 1: (8, 4, 2, 1)}
if REGISTERS < 32:
    HEIGHTS = {2: (6, 4, 2, 1), 1: (8, 4, 2, 1)}
"""Rows of the tiles of each width in vectors. The sums of the tallest and a row of b fit the registers."""

VECTORS = max(HEIGHTS)
"""Vectors in a row of the widest tile."""

TALLEST, TALLEST_NARROW = HEIGHTS[VECTORS][0], HEIGHTS[1][0]

SHAPES = [(rows, vectors) for vectors, heights in HEIGHTS.items() for rows in heights]

_LINE_BITS = 512  # of a cache line


@part
def tile_width(left, widest):
    """Return the width of the next tile, a power of two, if ``left`` vectors of a row remain."""
    while widest > left:
        widest //= 2
    return widest


@part
def tile_height(left, vectors):
    """Return the height of the next tile of this width if ``left`` rows remain."""
    tallest = TALLEST if vectors == VECTORS else TALLEST_NARROW
    if left >= tallest:
        return tallest
    return 4 if left >= 4 else 2 if left >= 2 else 1


def tile_product(rows_named, finish, prefetching=False):
    """Build the intrinsic that computes one tile of a product, of any of the shapes.

    Parameters
    ----------
    rows_named : bool
        Whether the rows of ``a`` are the rows of the tile, ``a[i, k] = a.buffer[a.starts[a.first + i] + a_at + k]``, or
        the terms of the sum, ``a[i, k] = a.buffer[a.starts[a.first + k] + a_at + i]``, which multiplies by the
        transpose of ``a``.
    finish : formula
        ``finish(sum, out, number)`` is stored to ``out``.
    prefetching : bool
        Whether the tile prefetches the rows of a :class:`~.structs.Prefetch` meanwhile. They are as long as the sum,
        and their number is a power of two. A core can wait for few cache lines at a time, so each term prefetches one.
    """

    @traced
    def tile(rows, vectors, out, a, a_at, b, n, first, number, prefetch):
        """Compute ``rows`` rows of ``vectors`` vectors; ``first`` is one row that starts the sums of every row."""
        number, lanes = number.vector(out.buffer), out.buffer.count

        def emit(n_rows, n_vectors):
            across = [j * lanes for j in range(n_vectors)]
            places = [out.at + i * out.pitch + j for i in range(n_rows) for j in across]
            if rows_named:
                a_rows = [a.starts.index(a.first + i) + a_at for i in range(n_rows)]
            else:
                a_rows = [a_at + i for i in range(n_rows)]
                for place in places:  # large weights come from memory, which takes as long as computing their gradient
                    out.buffer.prefetch(place)

            def add(k, sums):
                if prefetching:
                    row = prefetch.order.index(prefetch.at + (k & (prefetch.count - 1)))
                    prefetch.source.prefetch(row * n + k)
                term = k if rows_named else a.starts.index(a.first + k)
                right = [b.buffer.vector(b.at + k * b.pitch + j) for j in across]
                if not rows_named:  # what the next tile reads of this row: the hardware prefetcher misses it
                    a.buffer.prefetch(a_rows[0] + term + _LINE_BITS // a.buffer.dtype.bitwidth)
                return multiply_add(sums, [a.buffer.broadcast(row + term) for row in a_rows], right)

            start = [first.buffer.vector(first.at + j) for j in across] * n_rows
            for place, total in zip(places, loop(n, start, add), strict=True):
                out.buffer.put(place, finish(total, out.buffer.vector(place), number))

        shapes = {r * (VECTORS + 1) + v: lambda r=r, v=v: emit(r, v) for r, v in SHAPES}
        switch(rows * (VECTORS + 1) + vectors, shapes)

    return tile


def multiply_add(sums, left, right):
    """Emit ``sums[i, j] + left[i] * right[j]`` of a tile, row by row."""
    return [fma(a, b, total) for (a, b), total in zip(product(left, right), sums, strict=True)]

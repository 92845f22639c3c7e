"""Peak rates of a core, for a roofline model: multiply-adds on registers alone, and reading memory alone."""

from .jit import entry
from .simd import VECTOR_BYTES
from .structs import Gathered, Matrix
from .tile import TALLEST, VECTORS, tile_product
from .trace import formula
from .vector_ops import lane_count, load, store

_tile = tile_product(rows_named=True, finish=lambda total, _, scale: scale * total)
_add = formula(lambda a, b: a + b)

UNROLLED = 4
"""Independent sums, so that reading does not wait for the latency of an addition."""


@entry
def multiply_add(out, a, starts, b, n):
    """Compute one tile whose sum has ``n`` terms, all of them with the same row of ``b``."""
    pitch = VECTORS * VECTOR_BYTES  # enough for either dtype
    row = Matrix(b, 0, 0)
    _tile(TALLEST, VECTORS, Matrix(out, 0, pitch), Gathered(a, starts, 0), 0, row, n, row, 1.0, 0)


@entry
def read_all(out, x, first, last):
    """Sum the vectors of ``x[first:last]``, a multiple of four of them, into ``out[:1 vector]``."""
    lanes = lane_count(x)
    s, t, u, v = load(out, 0), load(out, 0), load(out, 0), load(out, 0)
    for at in range(first, last, UNROLLED * lanes):
        s = _add(s, load(x, at))
        t = _add(t, load(x, at + lanes))
        u = _add(u, load(x, at + 2 * lanes))
        v = _add(v, load(x, at + 3 * lanes))
    store(out, 0, _add(_add(s, t), _add(u, v)))

"""Row formats: how rows are loaded, and how the first layer computes with them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..jit import part
from ..simd import REGISTERS
from ..tile import HEIGHTS

WIDTHS = (1, 2, 3, 4, 8) if REGISTERS >= 32 else (1, 2, 3, 4)
"""Vectors in a row of the tiles of packed rows and of gradients by blocks. The sums of two features, a row of deltas
and two numbers fit the registers."""

BLOCK_ROWS, BLOCK_VECTORS = 48, WIDTHS[-1]
"""Size of a block of a gradient: whole squares of vectors, whole tiles, and whole pairs of features."""

Part = Callable[..., Any]


@part
def row_width(left):
    """Return the width of the next tile if ``left`` vectors of a row remain."""
    return WIDTHS[-1] if left >= WIDTHS[-1] else min(left, 4)


class Buffers(NamedTuple):
    """Sizes of what products need in the workspace of each thread."""

    masks: int = 0
    lists: int = 0
    lists_dtype: str = "uint64"
    partial_sums: int = 0  # bytes


def no_buffers(chunk, n_in, n_nonzeros):
    """Return that nothing is needed."""
    return Buffers()


@part
def skip(x, lists, layer, n_rows):
    """Do nothing."""


def tiles_of(vectors, widths):
    """Return the widths of the tiles that cover some vectors, the widest first."""
    tiles = []
    while vectors:
        tiles.append(max(width for width in widths if width <= vectors))
        vectors -= tiles[-1]
    return tiles


def dense_cycles(vectors, density):
    """Return the cycles of two multiply-adds for each vector, two at a time, and of what each tile costs besides."""
    return vectors + 0.3 * len(tiles_of(vectors, HEIGHTS))


@dataclass(frozen=True, eq=False)
class Products:
    """What the first layer computes with loaded rows ``x`` of some kind. `lists` are those of the workspace."""

    forward: Part
    """forward(out, x, w, b, layer, block, data, next_at): ``out = max(x @ w + b, floor)``. Rows ``order[next_at:]`` may
    be prefetched: they come next."""
    update: Part
    """update(w, x, lists, delta, layer, n_rows, rate): ``w += rate * x.T @ delta``, of the weights the thread owns."""
    gradient: Part
    """gradient(g, x, lists, delta, layer, n_rows, block, keep): ``g = keep * g + x.T @ delta`` of a block."""
    prepare: Part = skip
    """prepare(x, lists, layer, n_rows), before all blocks of a gradient."""
    prepare_columns: Part = skip
    """prepare_columns(x, lists, layer, n_rows), before the blocks of some columns."""
    release: Part = skip
    """release(x, lists, layer, n_rows), after all blocks."""
    buffers: Callable[[int, int, int], Buffers] = no_buffers
    """buffers(chunk, n_in, n_nonzeros), for that many rows, features, and nonzeros of CSR rows."""
    by_columns: bool = True
    """Whether the weights may be divided between threads by columns."""
    cycles: Callable[[int, float], float] = dense_cycles
    """cycles(vectors, density): about what forward and update take for a feature of a row, if a thread has some vectors
    of columns, and a part of the rows have the feature."""


@dataclass(frozen=True, eq=False)
class Rows:
    """How a loop reads the rows of X."""

    name: str
    load: Part
    """load(ws, data, settings, at, n_rows, n_in, epoch): make the rows ``order[at : at + n_rows]`` ready, so that
    ``ws.inputs[:n_rows]`` says where they start."""
    view: Part
    """view(ws, data): the loaded rows, as the products take them."""
    products: Products
    staged: bool
    """Whether rows are written to the workspace, or read where they are."""
    keeps: bool = False
    """Whether nonzeros are copied to ``ws.kept``."""


@dataclass(frozen=True, eq=False)
class Format:
    """A form in which X comes."""

    train: Rows
    dropout: Rows
    """With dropout of the inputs."""
    noise: Rows | None
    """With noise on the inputs, and dropout too if asked for. None if X comes in another format then."""
    infer: Rows
    check: Part
    """check(bad_row, ws, data, at, n_rows, n_in): set ``bad_row[0]`` to a row if one of these rows is not finite."""


@part
def no_check(bad_row, ws, data, at, n_rows, n_in):
    """Check nothing: rows of this format have been checked before."""

"""What a row format consists of: how its rows are loaded, and what the first layer computes with them."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ..jit import part

Part = Callable[..., Any]


@part
def skip(x, lists, layer, n_rows):
    """Do nothing."""


class Products(NamedTuple):
    """What the first layer computes with loaded rows ``x`` of some kind. `lists` are those of the workspace."""

    forward: Part
    """forward(out, x, w, b, layer, block, data, next_at): ``out = max(x @ w + b, floor)``. Rows ``order[next_at:]`` come
    next, so they may be prefetched."""
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


class Rows(NamedTuple):
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


class Format(NamedTuple):
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

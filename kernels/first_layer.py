"""What the first layer does with each kind of rows: how it takes them, its products, its update."""

from .activations import floor_of
from .csr import csr_forward, csr_update, link_features, read_csr
from .dense import forward_and_fetch, rows_to_fetch, update
from .descent import CSR, DENSE, PACKED
from .disturb import copy_rows, disturb_nothing, disturb_rows, drop_csr, drop_packed, spread_rows, take_nothing
from .jit import part
from .rows import (
    bring_bytes,
    fetch_nothing,
    fetch_packed,
    fetch_row,
    look_at_nothing,
    look_at_numbers,
    look_at_packed,
    read_in_place,
    read_or_pack,
    read_packed,
    widen_rows,
)
from .sparse import sparse_forward, sparse_update
from .tables import BY_COLUMNS, COLUMN, D_PITCH, END_COLUMN, END_IN, IN, KIND, N_IN, PITCH, WAITING, B, D, H


def dense_forward(in_place):
    """Build the first layer's products of dense rows, read in place or from where they were brought."""

    @part
    def first_forward(
        work, plan, params, weights, w, w_pitch, x, starts, index, marks, notes, chunk, orders, at,
        rows, first_row, last_row,
    ):  # fmt: skip
        row, end_row = (0, rows) if plan[0, BY_COLUMNS] else (first_row, last_row)
        h, b, n_in, pitch = plan[0, H], plan[0, B], plan[0, N_IN], plan[0, PITCH]
        column, end_column, floor = plan[0, COLUMN], plan[0, END_COLUMN], floor_of(plan[0, KIND])
        rows_in = x if in_place else work
        fetched = rows_to_fetch(end_row - row, end_column - column, len(orders))
        forward_and_fetch(
            work, h, rows_in, notes, 0, weights, w, w_pitch, params, b, n_in, pitch, row, end_row, column, end_column,
            floor, x, orders, at + rows, fetched,
        )  # fmt: skip

    return first_forward


def dense_update(in_place):
    """Build the first layer's update from dense rows."""

    @part
    def first_update(target, w, w_pitch, work, plan, x, index, marks, links, notes, rows, chunk, rate):
        d, pitch, i, end = plan[0, D], plan[0, D_PITCH], plan[0, IN], plan[0, END_IN]
        column, end_column = plan[0, COLUMN], plan[0, END_COLUMN]
        rows_in = x if in_place else work
        update(target, w, w_pitch, rows_in, notes, 0, work, d, work, rows, pitch, i, end, column, end_column, rate)

    return first_update


def packed_forward(in_place, fetch):
    """Build the first layer's products of packed rows, read in place or from where they were brought.

    None is in place where X is packed.
    """
    forward_packed, either = sparse_forward(fetch), in_place is None

    @part
    def first_forward(
        work, plan, params, weights, w, w_pitch, x, starts, index, marks, notes, chunk, orders, at,
        rows, first_row, last_row,
    ):  # fmt: skip
        row, end_row = (0, rows) if plan[0, BY_COLUMNS] else (first_row, last_row)
        b, n_in, places = plan[0, B], plan[0, N_IN], (2 * len(plan) + 1) * chunk
        column, end_column, floor = plan[0, COLUMN], plan[0, END_COLUMN], floor_of(plan[0, KIND])
        rows_in = x if in_place or (either and len(starts) > 0) else work
        forward_packed(
            work, plan[0, H], plan[0, PITCH], plan[0, D], plan[0, D_PITCH], rows_in, notes, places, marks,
            weights, w, w_pitch, params, b, n_in, row, end_row, column, end_column, floor, x, starts, orders, at + rows,
        )  # fmt: skip

    return first_forward


def packed_update(in_place):
    """Build the first layer's update from packed rows."""

    @part
    def first_update(target, w, w_pitch, work, plan, x, index, marks, links, notes, rows, chunk, rate):
        d, n_in, pitch, i, end = plan[0, D], plan[0, N_IN], plan[0, D_PITCH], plan[0, IN], plan[0, END_IN]
        column, end_column, places = plan[0, COLUMN], plan[0, END_COLUMN], (2 * len(plan) + 1) * chunk
        rows_in = x if in_place else work
        sparse_update(
            target, w, w_pitch, rows_in, notes, places, marks, links, rows, n_in, work, d, pitch, plan[0, WAITING],
            i, end, column, end_column, rate,
        )  # fmt: skip

    return first_update


@part
def csr_first_forward(
    work, plan, params, weights, w, w_pitch, x, starts, index, marks, notes, chunk, orders, at,
    rows, first_row, last_row,
):  # fmt: skip
    """Compute the first layer's products of CSR rows."""
    row, end_row = (0, rows) if plan[0, BY_COLUMNS] else (first_row, last_row)
    h, b, pitch, ends = plan[0, H], plan[0, B], plan[0, PITCH], (2 * len(plan) + 1) * chunk
    column, end_column, floor = plan[0, COLUMN], plan[0, END_COLUMN], floor_of(plan[0, KIND])
    csr_forward(
        work, h, x, notes, ends, index, weights, w, w_pitch, params, b, pitch, row, end_row, column, end_column, floor
    )


@part
def csr_first_update(target, w, w_pitch, work, plan, x, index, marks, links, notes, rows, chunk, rate):
    """Update the first layer's weights from CSR rows."""
    d, n_in, pitch, ends = plan[0, D], plan[0, N_IN], plan[0, D_PITCH], (2 * len(plan) + 1) * chunk
    link_features(links, notes, ends, index, rows, n_in, plan[0, IN], plan[0, END_IN])
    csr_update(target, w, w_pitch, x, notes, links, n_in, work, d, pitch, plan[0, COLUMN], plan[0, END_COLUMN], rate)


_DENSE, _MARKED = dense_forward(False), packed_forward(False, fetch_row)

TRAIN_ROWS = {
    "dense": (read_in_place, disturb_nothing, dense_forward(True), "dense", True),
    "bytes": (widen_rows, disturb_nothing, _DENSE, "dense", False),
    "packed": (read_packed, disturb_nothing, packed_forward(True, fetch_packed), "packed", True),
    "sparse bytes": (widen_rows, disturb_nothing, _MARKED, "packed", False),
    "csr": (read_csr, disturb_nothing, csr_first_forward, "csr", True),
    "disturbed dense": (copy_rows, disturb_rows, _DENSE, "dense", False),
    "disturbed bytes": (bring_bytes, disturb_rows, _DENSE, "dense", False),
    "disturbed sparse bytes": (bring_bytes, disturb_rows, _MARKED, "packed", False),
    "disturbed csr": (spread_rows, disturb_rows, _DENSE, "dense", False),
    "dropped packed": (take_nothing, drop_packed, packed_forward(False, fetch_packed), "packed", False),
    "dropped csr": (take_nothing, drop_csr, csr_first_forward, "csr", True),
}
INFER_ROWS = {
    "dense": (look_at_numbers, read_in_place, dense_forward(True)),
    "sparse": (look_at_packed, read_or_pack, packed_forward(None, fetch_packed)),
    "bytes": (look_at_nothing, widen_rows, dense_forward(False)),
    "sparse bytes": (look_at_nothing, widen_rows, packed_forward(False, fetch_nothing)),
    "csr": (look_at_nothing, read_csr, csr_first_forward),
}
"""What the first layer does with each kind of rows; to train, also the form in which its update finds them, and whether
that is in place."""

FORMS = {
    "dense": (dense_update, DENSE),
    "packed": (packed_update, PACKED),
    "csr": (lambda in_place: csr_first_update, CSR),
}
"""For each form of rows the update of plain SGD, and how others find gradients."""

"""Whole epochs in one call: the minibatch loop, and the loop that predicts.

The threads of a team run :func:`train` together. In the forward pass wide layers are divided by columns, so that each
core keeps its columns of the weights in its own cache, from their update to their next use; narrow ones by rows of the
batch, as is the loss. Deltas are divided like the forward pass of their layer, updates too, but those of narrow layers
by rows of the weights.

A loop for plain SGD changes the weights in the tiles that sum up their gradient. Those for other optimizers change them
block by block (`descent`), as do penalties and bounds of the gradient.

``plan`` is a thread's own table of the layers, one row of integers each, whose columns are named below. ``notes`` is
its own table of the rows of the chunk at hand: where their inputs to each layer start, where their deltas of each layer
start, which rows of X they are, and where they end. ``settings`` are numbers whose places are named below.
``work`` starts with zeros, as many as the longest row of a layer.
"""

import math
from functools import cache

from .activations import RELU, activate, floor_of, multiply_rows, relu_gradients
from .csr import csr_forward, csr_update, link_features, read_csr
from .dense import axpy, forward, forward_and_fetch, rows_to_fetch, transpose, update, update_bias
from .descent import CSR, DENSE, PACKED, change_all, change_by, learn_biases, learn_from, sum_squares, total_of
from .disturb import copy_rows, disturb_nothing, disturb_rows, drop_csr, drop_packed, spread_rows, take_nothing
from .jit import entry, part
from .losses import HEADS
from .optimizers import CLIP_NORM, FORMULAS, L2, RATE
from .rows import (
    bring_bytes,
    fetch_nothing,
    fetch_packed,
    fetch_row,
    look_for_bad,
    look_for_nothing,
    read_in_place,
    read_or_pack,
    read_packed,
    widen_rows,
)
from .simd import lane_count, peek
from .sparse import sparse_forward, sparse_update
from .team import (
    BACKWARD,
    FIRST_FORWARD,
    FIRST_UPDATE,
    FORWARD,
    LOSS,
    OUTSIDE,
    TAKE,
    TRANSPOSE,
    UPDATE,
    WAIT,
    cycles,
    lap,
    meet,
)

N_IN, N_OUT, WIDTH, PITCH, W, B, H, D, T, KIND, D_PITCH, BY_COLUMNS, COLUMN, END_COLUMN, IN, END_IN = range(16)
MEET, MEET_BACK, OWN, OWN_PITCH, SLOPE, SLOT, G, G_PITCH, SUMS, FIELDS = range(16, 26)
"""Columns of ``plan``. Sizes of the layer; vectors in one row of its weights and outputs; numbers from one such row to
the next. Where its weights (I, O) and biases (O,) start in ``params``, its outputs (chunk, O), deltas (chunk, O) and
transposed weights (O, I) in ``work``. Its activation. Numbers from one row of its deltas to the next. Whether its
forward pass is divided by columns; the columns and the rows of its weights that this thread owns; whether the threads
must meet after its forward pass, and after its deltas are computed. Where the thread's own copy of its columns of the
first weights would start in ``work`` if all columns were there, and numbers from one row of the copy to the next; 0
where there is no copy. Side by side with those of another thread, they would be dragged from core to core all the time:
processors fetch the lines beside those that are used. Where the slopes of its activation (chunk, O) are left in
``work``, or 0. Numbers from the thread's own copy to that of the first slot of the optimizer's memory, and so on. Where
the gradient of the weights would start in ``work`` if all rows and columns were there, and numbers from one row of it
to the next; 0 where there is only room for a block of it. Where the layer's sums of squares start in each half of
``sums``."""

STOP, AGREED, STEPS, RESULT, CONTROLS = range(5)
"""Places in ``control``: Python's wish to stop, what the team made of it, steps finished, and how training ended."""

FINISHED, STOPPED, NOT_FINITE = range(3)
"""What ``control[RESULT]`` says at the end."""

ACCUMULATE, COMMIT = 1, 2
"""Modes of :func:`train`: sum the gradient up in ``gradient`` first; then change the parameters by it."""

NUMBERS, LABELS, LOSSES = range(3)
"""Modes of :func:`infer`: what a head gives as numbers, such as probabilities, or as integers, or the losses."""

SMOOTHING, NOISE, SEED, EPOCH, DROPOUT = range(5)
"""Places in ``settings``: of a softmax's labels; of the inputs; what the random numbers are keyed by, of which the
second counts on; and from ``DROPOUT`` on, of the inputs of each layer, from which random word on a unit is kept and
what it is then multiplied by."""


def training(name, first_layer, hidden, row_loss_of, take_step, sums_weights):
    """Build the minibatch loop around what it is to do.

    Parameters
    ----------
    name : str
    first_layer : triple of parts
        How the first layer takes its rows, how they are disturbed, and its forward product.
    hidden : triple of parts
        What :func:`hidden_layers` gives.
    row_loss_of : part
        Loss of a row.
    take_step : part
        What changes the parameters, and meets.
    sums_weights : bool
        Whether that can leave sums of the squares of weights, for a penalty.
    """
    take_rows, disturb, first_forward = first_layer
    apart = disturb is drop_csr  # what is left of the rows lies in arrays of its own
    finish_layer, forward_pass, backward_pass = hidden
    loss_pass = losses(row_loss_of)

    def train(
        params, gradient, memory, work, notes, marks, links, taken, features, sums, epoch_loss, epoch_hits,
        epoch_penalty, row_loss, row_hit, control, meetings, x, starts, index, targets, row_weights, orders,
        coefficients, plan, settings, n_rows, batch_size, chunk, n_epochs, scale, mode, rank, size,
    ):  # fmt: skip
        began, ends_at = cycles(), (2 * len(plan) + 1) * chunk
        weights, w, w_pitch = params, plan[0, W], plan[0, PITCH]
        if plan[0, OWN_PITCH]:
            weights, w, w_pitch = work, plan[0, OWN], plan[0, OWN_PITCH]
        x_, index_ = (taken, features) if apart else (x, index)
        step, penalty = 0, 0.0
        if sums_weights and n_epochs > 0:
            sum_weights(sums, plan, weights, w, w_pitch, params, coefficients)
            meet(meetings, size)
        lap(notes, OUTSIDE)
        for epoch in range(n_epochs):
            for start in range(0, n_rows, batch_size):
                end = min(start + batch_size, n_rows)
                loss, hits = 0.0, 0
                weight = weigh(row_weights, orders, epoch * n_rows + start, end - start)
                share = 1.0 / weight if weight > 0.0 else 0.0
                if sums_weights:  # before anybody can have changed them: the threads meet in between
                    penalty = penalty_of(sums, coefficients, step)
                transpose_pass(work, plan, params)
                if not plan[0, MEET]:  # or else the threads meet before they use what is transposed
                    meet(meetings, size)
                lap(notes, TRANSPOSE)
                for first in range(start, end, chunk):
                    rows = min(chunk, end - first)
                    row, end_row = rows * rank // size, rows * (rank + 1) // size
                    at = epoch * n_rows + first
                    note_rows(notes, plan, orders, at, rows, chunk)
                    take_rows(notes, marks, work, x, starts, index, orders, at, rows, plan[0, N_IN], ends_at, scale)
                    disturb(
                        notes, marks, work, x, starts, index, taken, features, orders, at, rows, plan[0, N_IN], ends_at,
                        int(settings[SEED]), int(settings[EPOCH]) + epoch, settings[NOISE], int(settings[DROPOUT]),
                        settings[DROPOUT + 1],
                    )  # fmt: skip
                    lap(notes, TAKE)
                    first_forward(
                        work, plan, params, weights, w, w_pitch, x_, starts, index_, marks, notes, chunk, orders, at,
                        rows, row, end_row,
                    )  # fmt: skip
                    finish_layer(work, plan, 0, notes, settings, epoch, chunk, rows, row, end_row, meetings, size)
                    lap(notes, FIRST_FORWARD)
                    forward_pass(work, plan, params, notes, settings, epoch, chunk, rows, row, end_row, meetings, size)
                    lap(notes, FORWARD)
                    loss_pass(
                        row_loss,
                        row_hit,
                        0,
                        work,
                        plan,
                        notes,
                        targets,
                        row_weights,
                        settings,
                        chunk,
                        row,
                        end_row,
                        share,
                    )
                    lap(notes, LOSS)
                    if rank == 0:
                        control[AGREED] = peek(control, STOP)
                    backward_pass(work, plan, notes, settings, chunk, rows, row, end_row, meetings, size)
                    for i in range(rows):
                        loss += row_loss[i]
                        hits += row_hit[i]
                    lap(notes, BACKWARD)
                    if control[AGREED] or (mode != ACCUMULATE and not math.isfinite(loss + penalty)):
                        if rank == 0:
                            control[RESULT] = STOPPED if control[AGREED] else NOT_FINITE
                            epoch_loss[epoch] += loss
                            epoch_penalty[epoch] += penalty
                        return
                    if weight > 0.0:
                        take_step(
                            params, gradient, memory, weights, w, w_pitch, work, plan, x_, index_, marks, links, notes,
                            sums, rows, chunk, coefficients, step, first > start, first + rows == end, mode, meetings,
                            rank, size,
                        )  # fmt: skip
                    else:
                        meet(meetings, size)
                step += 1
                if rank == 0:
                    epoch_loss[epoch] += loss
                    epoch_hits[epoch] += hits
                    if weight > 0.0:
                        epoch_penalty[epoch] += penalty
                    control[STEPS] += 1
        if rank == 0:
            meetings[3] = cycles() - began

    train.__name__ = name
    return entry(train)


def inference(name, first_layer, hidden, head):
    """Build the loop that predicts around what the first layer does."""
    look, take_rows, first_forward = first_layer
    finish_layer, forward_pass, _ = hidden
    row_loss_of, numbers_of, labels_of = head
    loss_pass = losses(row_loss_of)

    def infer(
        numbers, predicted, row_loss, row_hit, bad_row, work, notes, marks,
        x, starts, index, targets, row_weights, orders, params, plan, settings, meetings,
        first_row, last_row, chunk, scale, mode,
    ):  # fmt: skip
        last, ends_at = len(plan) - 1, (2 * len(plan) + 1) * chunk
        z, pitch, n_out = plan[last, H], plan[last, PITCH], plan[last, N_OUT]
        for first in range(first_row, last_row, chunk):
            rows = min(chunk, last_row - first)
            if len(starts) == 0:  # packed rows have been looked at
                look(bad_row, x, first, first + rows, plan[0, N_IN])
            take_rows(notes, marks, work, x, starts, index, orders, first, rows, plan[0, N_IN], ends_at, scale)
            first_forward(
                work, plan, params, params, plan[0, W], plan[0, PITCH], x, starts, index, marks, notes, chunk, orders,
                first, rows, 0, rows,
            )  # fmt: skip
            finish_layer(work, plan, 0, notes, settings, 0, chunk, rows, 0, rows, meetings, 1)
            forward_pass(work, plan, params, notes, settings, 0, chunk, rows, 0, rows, meetings, 1)
            if mode == LOSSES:
                note_rows(notes, plan, orders, first, rows, chunk)
                loss_pass(
                    row_loss, row_hit, first, work, plan, notes, targets, row_weights, settings, chunk, 0, rows, 1.0
                )
            for row in range(rows):
                if mode == LABELS:
                    labels_of(predicted, first + row, work, z + row * pitch, n_out)
                elif mode == NUMBERS:
                    numbers_of(numbers, first + row, work, z + row * pitch, n_out)

    infer.__name__ = name
    return entry(infer)


# What the first layer does with each kind of rows --------------------------------------------------------------------


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
        h, b, n_in, pitch, places = plan[0, H], plan[0, B], plan[0, N_IN], plan[0, PITCH], (2 * len(plan) + 1) * chunk
        column, end_column, floor = plan[0, COLUMN], plan[0, END_COLUMN], floor_of(plan[0, KIND])
        rows_in = x if in_place or (either and len(starts) > 0) else work
        forward_packed(
            work, h, rows_in, notes, places, marks, weights, w, w_pitch, params, b, n_in, pitch, row, end_row,
            column, end_column, floor, x, starts, orders, at + rows,
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
            target, w, w_pitch, rows_in, notes, places, marks, links, rows, n_in, work, d, pitch, i, end,
            column, end_column, rate,
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
    "dense": (look_for_bad, read_in_place, dense_forward(True)),
    "sparse": (look_for_bad, read_or_pack, packed_forward(None, fetch_nothing)),
    "bytes": (look_for_nothing, widen_rows, dense_forward(False)),
    "sparse bytes": (look_for_nothing, widen_rows, packed_forward(False, fetch_nothing)),
    "csr": (look_for_nothing, read_csr, csr_first_forward),
}
"""What the first layer does with each kind of rows; to train, also the form in which its update finds them, and whether
that is in place."""


# The layers above ----------------------------------------------------------------------------------------------------


@part
def note_rows(notes, plan, orders, at, rows, chunk):
    """Note which rows of X those of a chunk are."""
    rows_at = 2 * len(plan) * chunk
    for row in range(rows):
        notes[rows_at + row] = orders[at + row]


@part
def weigh(row_weights, orders, at, rows):
    """Give the sum of the weights of the rows of a batch; where there are none, each has 1."""
    if len(row_weights) == 0:
        return float(rows)
    total = 0.0
    for i in range(at, at + rows):
        total += row_weights[orders[i]]
    return total


@part
def finish_nothing(work, plan, layer, notes, settings, epoch, chunk, row, end_row):
    """Leave outputs as the tile has left them: an identity or ReLU, all units kept."""


@part
def finish_outputs(work, plan, layer, notes, settings, epoch, chunk, row, end_row):
    """Apply to products what their tile has not applied: an activation that has a slope, and dropout."""
    threshold, factor = DROPOUT + 2 * (layer + 1), DROPOUT + 2 * (layer + 1) + 1
    activate(
        work, plan[layer, H], plan[layer, SLOPE], plan[layer, PITCH], row, end_row, plan[layer, COLUMN],
        plan[layer, END_COLUMN], plan[layer, KIND], notes, 2 * len(plan) * chunk, int(settings[threshold]),
        settings[factor], int(settings[SEED]), int(settings[EPOCH]) + epoch, layer + 1,
    )  # fmt: skip


@part
def go_back(work, plan, layer, settings, row, end_row):
    """Multiply deltas by the slope of ReLU, where it is one."""
    if plan[layer, KIND] == RELU:
        relu_gradients(
            work, plan[layer, D], plan[layer, D_PITCH], work, plan[layer, H], plan[layer, PITCH], row, end_row,
            plan[layer, COLUMN], plan[layer, END_COLUMN], 1.0,
        )  # fmt: skip


@part
def go_back_by_slopes(work, plan, layer, settings, row, end_row):
    """Multiply deltas by the slopes of an activation and of dropout."""
    d, d_pitch, h, slope, pitch = (
        plan[layer, D], plan[layer, D_PITCH], plan[layer, H], plan[layer, SLOPE], plan[layer, PITCH],
    )  # fmt: skip
    column, end_column = plan[layer, COLUMN], plan[layer, END_COLUMN]
    if slope:
        multiply_rows(work, d, d_pitch, work, slope, pitch, row, end_row, column, end_column)
    elif plan[layer, KIND] == RELU:
        factor = settings[DROPOUT + 2 * (layer + 1) + 1]
        relu_gradients(work, d, d_pitch, work, h, pitch, row, end_row, column, end_column, factor)


def hidden_layers(finish, go_back):
    """Build what all layers do after the first, and the end of the first, around what ends a product on both ways."""

    @part
    def finish_layer(work, plan, layer, notes, settings, epoch, chunk, rows, first_row, last_row, meetings, size):
        """Apply what the products of a layer have not applied, and meet where others need its outputs."""
        row, end_row = (0, rows) if plan[layer, BY_COLUMNS] else (first_row, last_row)
        finish(work, plan, layer, notes, settings, epoch, chunk, row, end_row)
        if plan[layer, MEET]:
            meet(meetings, size)

    @part
    def forward_pass(work, plan, params, notes, settings, epoch, chunk, rows, first_row, last_row, meetings, size):
        """Compute the outputs of all layers after the first, the last one's for the thread's own rows at least."""
        for layer in range(1, len(plan)):
            row, end_row = (0, rows) if plan[layer, BY_COLUMNS] else (first_row, last_row)
            h, w, b, n_in, pitch = plan[layer, H], plan[layer, W], plan[layer, B], plan[layer, N_IN], plan[layer, PITCH]
            column, end_column, floor = plan[layer, COLUMN], plan[layer, END_COLUMN], floor_of(plan[layer, KIND])
            at = layer * chunk
            forward(
                work, h, work, notes, at, params, w, pitch, params, b, n_in, pitch, row, end_row, column, end_column,
                floor, work, notes, 0, 1,
            )  # fmt: skip
            finish_layer(work, plan, layer, notes, settings, epoch, chunk, rows, first_row, last_row, meetings, size)

    @part
    def backward_pass(work, plan, notes, settings, chunk, rows, first_row, last_row, meetings, size):
        """Compute the deltas of all layers below the last; the threads meet at least once."""
        for layer in range(len(plan) - 1, 0, -1):
            if plan[layer, MEET_BACK]:
                meet(meetings, size)
            below, at = layer - 1, (len(plan) + layer) * chunk
            row, end_row = (0, rows) if plan[below, BY_COLUMNS] else (first_row, last_row)
            d, d_pitch, t, pitch = plan[below, D], plan[below, D_PITCH], plan[layer, T], plan[below, PITCH]
            n_out, column, end_column = plan[layer, N_OUT], plan[below, COLUMN], plan[below, END_COLUMN]
            forward(
                work, d, work, notes, at, work, t, pitch, work, 0, n_out, d_pitch, row, end_row, column, end_column,
                -math.inf, work, notes, 0, 1,
            )  # fmt: skip
            go_back(work, plan, below, settings, row, end_row)
        if plan[0, MEET_BACK]:
            meet(meetings, size)

    return finish_layer, forward_pass, backward_pass


HIDDEN = {
    "plain": hidden_layers(finish_nothing, go_back),
    "sloped": hidden_layers(finish_outputs, go_back_by_slopes),
}
"""What hidden layers do: those that have ReLU, or none, and keep all units; and all others."""


def losses(row_loss_of):
    """Build what turns the last layer's outputs into its deltas."""

    @part
    def loss_pass(
        row_loss, row_hit, out_at, work, plan, notes, targets, row_weights, settings, chunk, first_row, last_row, share
    ):
        """Turn the last layer's outputs into its deltas, and note each row's loss, times its weight."""
        last, rows_at = len(plan) - 1, 2 * len(plan) * chunk
        for row in range(first_row, last_row):
            source, weight = notes[rows_at + row], 1.0
            if len(row_weights) > 0:
                weight = float(row_weights[source])
            at = plan[last, H] + row * plan[last, PITCH]
            loss, hit = row_loss_of(work, at, plan[last, N_OUT], targets, source, share * weight, settings[SMOOTHING])
            row_loss[out_at + row], row_hit[out_at + row] = loss * weight, hit

    return loss_pass


@part
def transpose_pass(work, plan, params):
    """Copy the weights above the first layer that the thread owns, transposed."""
    for layer in range(1, len(plan)):
        t, t_pitch, w, pitch = plan[layer, T], plan[layer - 1, PITCH], plan[layer, W], plan[layer, PITCH]
        i, end, column, end_column = plan[layer, IN], plan[layer, END_IN], plan[layer, COLUMN], plan[layer, END_COLUMN]
        transpose(work, t, t_pitch, params, w, pitch, i, end, column, end_column)


# Steps ---------------------------------------------------------------------------------------------------------------


@part
def update_pass(target, work, plan, notes, chunk, rows, rate):
    """Compute ``target += rate * gradient`` of what the thread owns, but for the weights of the first layer."""
    for layer in range(len(plan)):
        w, pitch, d, d_pitch, at = (
            plan[layer, W],
            plan[layer, PITCH],
            plan[layer, D],
            plan[layer, D_PITCH],
            layer * chunk,
        )
        i, end, column, end_column = plan[layer, IN], plan[layer, END_IN], plan[layer, COLUMN], plan[layer, END_COLUMN]
        if layer > 0:
            update(target, w, pitch, work, notes, at, work, d, work, rows, d_pitch, i, end, column, end_column, rate)
        if end == plan[layer, N_IN]:
            update_bias(target, plan[layer, B], work, d, work, rows, d_pitch, column, end_column, rate)


@part
def commit(params, gradient, rate, rank, size):
    """Compute ``params += rate * gradient`` and clear the gradient, each thread for its part."""
    lanes = lane_count(params)
    vectors = len(params) // lanes
    axpy(params, gradient, vectors * rank // size * lanes, vectors * (rank + 1) // size * lanes, rate)


def plain_step(first_update):
    """Build the step of plain SGD, whose gradient is never stored, or summed up if it comes in chunks."""

    @part
    def take_step(
        params, gradient, memory, weights, w, w_pitch, work, plan, x, index, marks, links, notes, sums,
        rows, chunk, coefficients, step, goes_on, ends, mode, meetings, rank, size,
    ):  # fmt: skip
        rate = -coefficients[step, RATE]
        target, target_rate, first_target = params, rate, weights
        if mode & ACCUMULATE:
            target, target_rate, first_target = gradient, 1.0, gradient
        first_update(first_target, w, w_pitch, work, plan, x, index, marks, links, notes, rows, chunk, target_rate)
        lap(notes, FIRST_UPDATE)
        update_pass(target, work, plan, notes, chunk, rows, target_rate)
        if ends and mode & COMMIT:
            meet(meetings, size)
            commit(params, gradient, rate, rank, size)
        lap(notes, UPDATE)
        meet(meetings, size)
        lap(notes, WAIT)

    return take_step


def step_of(optimizer, kind, in_place):
    """Build the step of an optimizer's formula on a kind of rows, read in place or from where they were brought."""
    change_block = change_by(optimizer)
    learn, learn_bias, change = learn_from(DENSE, change_block), learn_biases(change_block), change_all(change_block)
    first_learn = learn if kind is DENSE else learn_from(kind, change_block)

    @part
    def take_step(
        params, gradient, memory, weights, w, w_pitch, work, plan, x, index, marks, links, notes, sums,
        rows, chunk, coefficients, step, goes_on, ends, mode, meetings, rank, size,
    ):  # fmt: skip
        n_layers, l2, bound = len(plan), coefficients[step, L2], coefficients[step, CLIP_NORM]
        keep = 1.0 if goes_on else 0.0
        rows_in = x if in_place else work
        slots, first_slot, slot = memory, w, len(params)
        if plan[0, OWN_PITCH]:
            slots, first_slot, slot = work, w + plan[0, SLOT], plan[0, SLOT]
        first_learn(
            weights, w, w_pitch, slots, first_slot, slot, work, plan[0, G], plan[0, G_PITCH], rows_in, notes, 0,
            (2 * n_layers + 1) * chunk, index, marks, links, plan[0, D], plan[0, D_PITCH], rows, plan[0, N_IN],
            plan[0, IN], plan[0, END_IN], plan[0, COLUMN], plan[0, END_COLUMN], sums, plan[0, SUMS], coefficients,
            step, keep, ends,
        )  # fmt: skip
        lap(notes, FIRST_UPDATE)
        for layer in range(n_layers):
            n_in, d, d_pitch, g, g_pitch = plan_of_gradient(plan, layer)
            i, end, column, end_column = plan_of_share(plan, layer)
            w_at, b_at, sums_at = plan[layer, W], plan[layer, B], plan[layer, SUMS]
            if layer > 0:
                learn(
                    params, w_at, plan[layer, PITCH], memory, w_at, len(params), work, g, g_pitch, work, notes,
                    layer * chunk, 0, index, marks, links, d, d_pitch, rows, n_in, i, end, column, end_column, sums,
                    sums_at, coefficients, step, keep, ends,
                )  # fmt: skip
            if end == n_in:
                learn_bias(
                    params, b_at, memory, b_at, len(params), work, g, g_pitch, d, d_pitch, rows, n_in, column,
                    end_column, sums, sums_at, coefficients, step, keep, ends,
                )  # fmt: skip
        if ends and bound < math.inf:
            meet(meetings, size)
            factor = bound / (math.sqrt(total_of(sums, 0, len(sums) // 2)) + 1e-6)
            if not factor < 1.0:
                factor = 1.0
            change(
                weights, w, w_pitch, slots, first_slot, slot, work, plan[0, G], plan[0, G_PITCH], plan[0, N_IN],
                plan[0, IN], plan[0, END_IN], plan[0, COLUMN], plan[0, END_COLUMN], sums, plan[0, SUMS], coefficients,
                step, l2, factor,
            )  # fmt: skip
            for layer in range(n_layers):
                n_in, _, _, g, g_pitch = plan_of_gradient(plan, layer)
                i, end, column, end_column = plan_of_share(plan, layer)
                w_at, pitch, sums_at = plan[layer, W], plan[layer, PITCH], plan[layer, SUMS]
                if layer > 0:
                    change(
                        params, w_at, pitch, memory, w_at, len(params), work, g, g_pitch, n_in, i, end, column,
                        end_column, sums, sums_at, coefficients, step, l2, factor,
                    )  # fmt: skip
                if end == n_in:  # the gradient of the biases is another row
                    b_at = plan[layer, B] - n_in * pitch
                    change(
                        params, b_at, pitch, memory, b_at, len(params), work, g, g_pitch, n_in, n_in, n_in + 1, column,
                        end_column, sums, sums_at, coefficients, step, 0.0, factor,
                    )  # fmt: skip
        lap(notes, UPDATE)
        meet(meetings, size)
        lap(notes, WAIT)

    return take_step


@part
def plan_of_gradient(plan, layer):
    """Give a layer's inputs, and where its deltas and its gradient lie."""
    return plan[layer, N_IN], plan[layer, D], plan[layer, D_PITCH], plan[layer, G], plan[layer, G_PITCH]


@part
def plan_of_share(plan, layer):
    """Give which rows and columns of a layer's weights the thread owns."""
    return plan[layer, IN], plan[layer, END_IN], plan[layer, COLUMN], plan[layer, END_COLUMN]


@part
def sum_weights(sums, plan, weights, w, w_pitch, params, coefficients):
    """Sum up the squares of the weights that the thread owns, for the first step's penalty, if there is one."""
    for layer in range(len(plan) if coefficients[0, L2] > 0.0 else 0):
        source, at, pitch = params, plan[layer, W], plan[layer, PITCH]
        if layer == 0:
            source, at, pitch = weights, w, w_pitch
        i, end, column, end_column = plan[layer, IN], plan[layer, END_IN], plan[layer, COLUMN], plan[layer, END_COLUMN]
        lanes = lane_count(source)
        stride = (plan[layer, N_IN] + lanes - 1) // lanes + 1
        sum_squares(
            sums, len(sums) // 2 + plan[layer, SUMS] + column * stride + i // lanes, stride, source,
            at + i * pitch + column * lanes, pitch, end - i, end_column - column,
        )  # fmt: skip


@part
def penalty_of(sums, coefficients, step):
    """Give the penalty on the weights before a step."""
    l2 = coefficients[step, L2]
    return l2 / 2 * total_of(sums, len(sums) // 2, len(sums)) if l2 > 0.0 else 0.0


# The loops -----------------------------------------------------------------------------------------------------------


FORMS = {
    "dense": (dense_update, DENSE),
    "packed": (packed_update, PACKED),
    "csr": (lambda in_place: csr_first_update, CSR),
}
"""For each form of rows the update of plain SGD, and how others find gradients."""


@cache
def train_loop(rows, hidden, head, optimizer):
    """Give the minibatch loop of a kind of rows, hidden layers, head and optimizer; None is plain SGD.

    It is compiled at its first call.
    """
    *first_layer, form, in_place = TRAIN_ROWS[rows]
    update_of, learning = FORMS[form]
    step = plain_step(update_of(in_place)) if optimizer is None else step_of(FORMULAS[optimizer], learning, in_place)
    name = _name("train", rows, hidden, head, optimizer)
    return training(name, first_layer, HIDDEN[hidden], HEADS[head].loss, step, optimizer is not None)


@cache
def infer_loop(rows, hidden, head):
    """Give the loop that predicts, of a kind of rows, hidden layers and head; it is compiled at its first call."""
    return inference(_name("infer", rows, hidden, head), INFER_ROWS[rows], HIDDEN[hidden], HEADS[head])


def _name(what, rows, hidden, head, optimizer=None):
    parts = [
        what,
        rows,
        *(hidden, head) * (hidden != "plain" or head != "softmax"),
        *([optimizer] if optimizer else []),
    ]
    return "_".join(parts).replace(" ", "_")

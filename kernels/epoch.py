"""Whole epochs in one call: the minibatch loop, and the loop that predicts.

The threads of a team run :func:`train` together. In the forward pass wide layers are divided by columns, so that each
core keeps its columns of the weights in its own cache, from their update to their next use; narrow ones by rows of the
batch, as are the loss and the input gradients. Updates are divided like the forward pass of their layer, narrow ones by
rows of the weights.

``plan`` is a thread's own table of the layers, one row of integers each, whose columns are named below. ``notes`` is
its own table of the rows of the chunk at hand: where their inputs to each layer start, where their deltas of each layer
start, their labels, and where their marks start. ``work`` starts with zeros, as many as the longest row of a layer.
"""

import math

from .activations import activate, activate_gradient, floor_of
from .dense import axpy, forward, transpose, update, update_bias
from .jit import entry, part
from .losses import argmax, softmax, softmax_cross_entropy
from .simd import lane_count, peek
from .sparse import WORD, sparse_forward, sparse_update, turn_marks
from .team import cycles, meet

N_IN, N_OUT, WIDTH, PITCH, W, B, H, D, T, KIND, BY_COLUMNS, COLUMN, END_COLUMN, IN, END_IN, MEET, FIELDS = range(17)
"""Columns of ``plan``. Sizes of the layer; vectors in one row of its weights, outputs and deltas; numbers from one such
row to the next. Where its weights (I, O) and biases (O,) start in ``params``, its outputs (chunk, O), deltas (chunk, O)
and transposed weights (O, I) in ``work``. Its activation. Whether its forward pass is divided by columns; the columns
and the rows of its weights that this thread owns; whether the threads must meet after its forward pass."""

STOP, AGREED, STEPS, RESULT, CONTROLS = range(5)
"""Places in ``control``: Python's wish to stop, what the team made of it, steps finished, and how training ended."""

FINISHED, STOPPED, NOT_FINITE = range(3)
"""What ``control[RESULT]`` says at the end."""

ACCUMULATE, COMMIT = 1, 2
"""Modes of :func:`train`: sum the gradient up in ``gradient`` first; then change the parameters by it."""

PROBABILITIES, LABELS, LOSSES = range(3)
"""Modes of :func:`infer`."""


def training(name, first_forward, first_update):
    """Build the minibatch loop around the two products of the first layer, which ask what their input is like."""

    def train(
        params, gradient, work, notes, by_feature, epoch_loss, epoch_hits, row_loss, row_hit, control, meetings,
        x, x_pitch, marks, labels, orders, plan, n_rows, batch_size, chunk, n_epochs, rate, mode, rank, size,
    ):  # fmt: skip
        began = cycles()
        target, target_rate = (gradient, 1.0) if mode & ACCUMULATE else (params, -rate)
        for epoch in range(n_epochs):
            for start in range(0, n_rows, batch_size):
                end = min(start + batch_size, n_rows)
                loss, hits = 0.0, 0
                transpose_pass(work, plan, params)
                meet(meetings, size)
                for first in range(start, end, chunk):
                    rows = min(chunk, end - first)
                    row, end_row = rows * rank // size, rows * (rank + 1) // size
                    at = epoch * n_rows + first
                    take_rows(notes, plan, orders, at, x_pitch, labels, rows, chunk)
                    first_forward(work, plan, params, x, marks, by_feature, notes, chunk, rows, row, end_row)
                    finish_layer(work, plan, 0, rows, row, end_row, meetings, size)
                    forward_pass(work, plan, params, notes, chunk, rows, row, end_row, meetings, size)
                    loss_pass(row_loss, row_hit, 0, work, plan, notes, chunk, row, end_row, 1.0 / (end - start))
                    backward_pass(work, plan, notes, chunk, row, end_row)
                    if rank == 0:
                        control[AGREED] = peek(control, STOP)
                    meet(meetings, size)
                    for i in range(rows):
                        loss += row_loss[i]
                        hits += row_hit[i]
                    if control[AGREED] or (mode != ACCUMULATE and not math.isfinite(loss)):
                        if rank == 0:
                            control[RESULT] = STOPPED if control[AGREED] else NOT_FINITE
                            epoch_loss[epoch] += loss
                        return
                    next_at = at + rows
                    next_end = min(next_at + chunk, len(orders))
                    first_update(
                        target, work, plan, x, by_feature, notes, rows, target_rate, orders, next_at, next_end, x_pitch
                    )
                    update_pass(target, work, plan, notes, chunk, rows, target_rate)
                    meet(meetings, size)
                if mode & COMMIT:
                    commit(params, gradient, -rate, rank, size)
                    meet(meetings, size)
                if rank == 0:
                    epoch_loss[epoch] += loss
                    epoch_hits[epoch] += hits
                    control[STEPS] += 1
        if rank == 0:
            meetings[3] = cycles() - began

    train.__name__ = name
    return entry(train)


@part
def dense_first_forward(work, plan, params, x, marks, by_feature, notes, chunk, rows, first_row, last_row):
    """Compute the first layer's products of dense rows."""
    row, end_row = (0, rows) if plan[0, BY_COLUMNS] else (first_row, last_row)
    h, w, b, n_in, pitch = plan[0, H], plan[0, W], plan[0, B], plan[0, N_IN], plan[0, PITCH]
    column, end_column, floor = plan[0, COLUMN], plan[0, END_COLUMN], floor_of(plan[0, KIND])
    forward(work, h, x, notes, 0, params, w, params, b, n_in, pitch, row, end_row, column, end_column, floor)


@part
def dense_first_update(target, work, plan, x, by_feature, notes, rows, rate, orders, next_at, next_end, x_pitch):
    """Update the first layer's weights from dense rows."""
    w, d, pitch, i, end = plan[0, W], plan[0, D], plan[0, PITCH], plan[0, IN], plan[0, END_IN]
    column, end_column = plan[0, COLUMN], plan[0, END_COLUMN]
    update(target, w, x, notes, 0, work, d, work, rows, pitch, i, end, column, end_column, rate)


@part
def sparse_first_forward(work, plan, params, x, marks, by_feature, notes, chunk, rows, first_row, last_row):
    """Compute the first layer's products of rows with zeros, and turn the batch's marks around for the update."""
    row, end_row = (0, rows) if plan[0, BY_COLUMNS] else (first_row, last_row)
    h, w, b, n_in, pitch = plan[0, H], plan[0, W], plan[0, B], plan[0, N_IN], plan[0, PITCH]
    column, end_column, floor = plan[0, COLUMN], plan[0, END_COLUMN], floor_of(plan[0, KIND])
    n_words, at = (n_in + WORD - 1) // WORD, (2 * len(plan) + 1) * chunk
    sparse_forward(
        work, h, x, notes, marks, at, n_words, params, w, params, b, pitch, row, end_row, column, end_column, floor
    )
    turn_marks(by_feature, marks, notes, at, rows, n_words)


@part
def sparse_first_update(target, work, plan, x, by_feature, notes, rows, rate, orders, next_at, next_end, x_pitch):
    """Update the first layer's weights from rows with zeros."""
    w, d, pitch, i, end = plan[0, W], plan[0, D], plan[0, PITCH], plan[0, IN], plan[0, END_IN]
    column, end_column, n_words = plan[0, COLUMN], plan[0, END_COLUMN], (plan[0, N_IN] + WORD - 1) // WORD
    groups = (rows + WORD - 1) // WORD
    sparse_update(
        target, w, x, notes, by_feature, groups, n_words, work, d, pitch, i, end, column, end_column, rate,
        orders, next_at, next_end, x_pitch,
    )  # fmt: skip


train_dense = training("train_dense", dense_first_forward, dense_first_update)
train_sparse = training("train_sparse", sparse_first_forward, sparse_first_update)


@entry
def infer(
    probabilities, predicted, row_loss, row_hit, work, notes,
    x, x_pitch, labels, params, plan, meetings, first_row, last_row, chunk, mode,
):  # fmt: skip
    """Run the network on some rows of x: their probabilities (n, C), or labels (n,), or losses (n,) and hits (n,)."""
    last = len(plan) - 1
    z, pitch, n_out = plan[last, H], plan[last, PITCH], plan[last, N_OUT]
    for first in range(first_row, last_row, chunk):
        rows = min(chunk, last_row - first)
        for row in range(rows):
            notes[row] = (first + row) * x_pitch
        dense_first_forward(work, plan, params, x, notes, notes, notes, chunk, rows, 0, rows)
        finish_layer(work, plan, 0, rows, 0, rows, meetings, 1)
        forward_pass(work, plan, params, notes, chunk, rows, 0, rows, meetings, 1)
        if mode == LOSSES:
            for row in range(rows):
                notes[2 * len(plan) * chunk + row] = labels[first + row]
            loss_pass(row_loss, row_hit, first, work, plan, notes, chunk, 0, rows, 1.0)
        for row in range(rows):
            at = z + row * pitch
            if mode == LABELS:
                predicted[first + row] = argmax(work, at, n_out)
            elif mode == PROBABILITIES:
                softmax(work, at, n_out)
                for o in range(n_out):
                    probabilities[(first + row) * n_out + o] = work[at + o]


@part
def take_rows(notes, plan, orders, at, x_pitch, labels, rows, chunk):
    """Note where the rows of a chunk start in x and in its marks, and their labels."""
    labels_at, marks_at = 2 * len(plan) * chunk, (2 * len(plan) + 1) * chunk
    n_words = (x_pitch + WORD - 1) // WORD
    for row in range(rows):
        notes[row] = orders[at + row] * x_pitch
        notes[labels_at + row] = labels[orders[at + row]]
        notes[marks_at + row] = orders[at + row] * n_words


@part
def finish_layer(work, plan, layer, rows, first_row, last_row, meetings, size):
    """Apply what the products of a layer have not applied, and meet where others need its outputs."""
    row, end_row = (0, rows) if plan[layer, BY_COLUMNS] else (first_row, last_row)
    column, end_column, kind = plan[layer, COLUMN], plan[layer, END_COLUMN], plan[layer, KIND]
    activate(work, plan[layer, H], plan[layer, PITCH], row, end_row, column, end_column, kind)
    if plan[layer, MEET]:
        meet(meetings, size)


@part
def forward_pass(work, plan, params, notes, chunk, rows, first_row, last_row, meetings, size):
    """Compute the outputs of all layers after the first, the last one's for the thread's own rows at least."""
    for layer in range(1, len(plan)):
        row, end_row = (0, rows) if plan[layer, BY_COLUMNS] else (first_row, last_row)
        h, w, b, n_in, pitch = plan[layer, H], plan[layer, W], plan[layer, B], plan[layer, N_IN], plan[layer, PITCH]
        column, end_column, floor = plan[layer, COLUMN], plan[layer, END_COLUMN], floor_of(plan[layer, KIND])
        at = layer * chunk
        forward(work, h, work, notes, at, params, w, params, b, n_in, pitch, row, end_row, column, end_column, floor)
        finish_layer(work, plan, layer, rows, first_row, last_row, meetings, size)


@part
def loss_pass(row_loss, row_hit, out_at, work, plan, notes, chunk, first_row, last_row, weight):
    """Turn the last layer's outputs into its deltas, and note each row's loss."""
    last, labels_at = len(plan) - 1, 2 * len(plan) * chunk
    z, pitch, n_out = plan[last, H], plan[last, PITCH], plan[last, N_OUT]
    softmax_cross_entropy(
        row_loss, row_hit, out_at, work, z, pitch, notes, labels_at, n_out, first_row, last_row, weight
    )


@part
def backward_pass(work, plan, notes, chunk, first_row, last_row):
    """Compute the deltas of all layers below the last."""
    for layer in range(len(plan) - 1, 0, -1):
        below, at = layer - 1, (len(plan) + layer) * chunk
        d, pitch, width, kind = plan[below, D], plan[below, PITCH], plan[below, WIDTH], plan[below, KIND]
        n_out, t = plan[layer, N_OUT], plan[layer, T]
        forward(work, d, work, notes, at, work, t, work, 0, n_out, pitch, first_row, last_row, 0, width, -math.inf)
        activate_gradient(work, d, work, plan[below, H], pitch, first_row, last_row, kind)


@part
def update_pass(target, work, plan, notes, chunk, rows, rate):
    """Compute ``target += rate * gradient`` of what the thread owns, but for the weights of the first layer."""
    for layer in range(len(plan)):
        w, d, pitch, at = plan[layer, W], plan[layer, D], plan[layer, PITCH], layer * chunk
        i, end, column, end_column = plan[layer, IN], plan[layer, END_IN], plan[layer, COLUMN], plan[layer, END_COLUMN]
        if layer > 0:
            update(target, w, work, notes, at, work, d, work, rows, pitch, i, end, column, end_column, rate)
        if end == plan[layer, N_IN]:
            update_bias(target, plan[layer, B], work, d, work, rows, pitch, column, end_column, rate)


@part
def transpose_pass(work, plan, params):
    """Copy the weights above the first layer that the thread owns, transposed."""
    for layer in range(1, len(plan)):
        t, t_pitch, w, pitch = plan[layer, T], plan[layer - 1, PITCH], plan[layer, W], plan[layer, PITCH]
        i, end, column, end_column = plan[layer, IN], plan[layer, END_IN], plan[layer, COLUMN], plan[layer, END_COLUMN]
        transpose(work, t, t_pitch, params, w, pitch, i, end, column, end_column)


@part
def commit(params, gradient, rate, rank, size):
    """Compute ``params += rate * gradient`` and clear the gradient, each thread for its part."""
    lanes = lane_count(params)
    vectors = len(params) // lanes
    axpy(params, gradient, vectors * rank // size * lanes, vectors * (rank + 1) // size * lanes, rate)

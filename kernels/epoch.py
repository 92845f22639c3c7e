"""Whole epochs in one call: the minibatch loop, and the loop that predicts.

The threads of a team run :func:`train` together. In the forward pass wide layers are divided by columns, so that each
core keeps its columns of the weights in its own cache, from their update to their next use; narrow ones by rows of the
batch, as is the loss. Deltas are divided like the forward pass of their layer, updates too, but those of narrow layers
by rows of the weights.
"""

import math
from functools import cache

from .disturb import drop_csr
from .first_layer import FORMS, INFER_ROWS, TRAIN_ROWS
from .jit import entry, part
from .layers import HIDDEN, transpose_pass
from .losses import LOSSES as ROW_LOSSES
from .optimizers import FORMULAS
from .rows import fetch_targets
from .simd import peek
from .steps import penalty_of, plain_step, step_of, sum_weights
from .structs import Matrix, RowLosses
from .tables import (
    ACCUMULATE,
    AGREED,
    DROPOUT,
    EPOCH,
    LABELS,
    LOSSES,
    MEET,
    N_IN,
    N_OUT,
    NOISE,
    NOT_FINITE,
    NUMBERS,
    OWN,
    OWN_PITCH,
    PITCH,
    RESULT,
    SEED,
    SMOOTHING,
    STEPS,
    STOP,
    STOPPED,
    H,
    W,
)
from .team import BACKWARD, FIRST_FORWARD, FORWARD, LOSS, OUTSIDE, TAKE, TRANSPOSE, cycles, lap, meet


def training(name, first_layer, hidden, losses, take_step, sums_weights):
    """Build the minibatch loop around what it is to do.

    Parameters
    ----------
    name : str
    first_layer : triple of parts
        How the first layer takes its rows, how they are disturbed, and its forward product.
    hidden : triple of parts
        What :func:`hidden_layers` gives.
    losses : part
        Losses of some rows.
    take_step : part
        What changes the parameters, and meets.
    sums_weights : bool
        Whether that can leave sums of the squares of weights, for a penalty.
    """
    take_rows, disturb, first_forward = first_layer
    apart = disturb is drop_csr  # what is left of the rows lies in arrays of its own
    finish_layer, forward_pass, backward_pass = hidden

    def train(
        params, gradient, memory, work, notes, marks, links, taken, features, sums, epoch_loss, epoch_hits,
        epoch_penalty, row_loss, row_hit, control, meetings, x, starts, index, targets, row_weights, orders,
        coefficients, plan, settings, n_rows, batch_size, chunk, n_epochs, scale, mode, rank, size,
    ):  # fmt: skip
        began, last = cycles(), len(plan) - 1
        z, pitch, n_out = plan[last, H], plan[last, PITCH], plan[last, N_OUT]
        rows_at, ends_at = 2 * len(plan) * chunk, (2 * len(plan) + 1) * chunk
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
                    fetch_targets(targets, n_rows, orders, at + row, end_row - row)
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
                    losses(
                        RowLosses(row_loss, row_hit), 0, Matrix(work, z, pitch), n_out, targets, row_weights,
                        notes[rows_at:], row, end_row, share, settings[SMOOTHING],
                    )  # fmt: skip
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
    losses, numbers_of, labels_of = head

    def infer(
        numbers, predicted, row_loss, row_hit, bad_row, work, notes, marks,
        x, starts, index, targets, row_weights, orders, params, plan, settings, meetings,
        first_row, last_row, chunk, scale, mode,
    ):  # fmt: skip
        last, rows_at, ends_at = len(plan) - 1, 2 * len(plan) * chunk, (2 * len(plan) + 1) * chunk
        z, pitch, n_out = plan[last, H], plan[last, PITCH], plan[last, N_OUT]
        for first in range(first_row, last_row, chunk):
            rows = min(chunk, last_row - first)
            take_rows(notes, marks, work, x, starts, index, orders, first, rows, plan[0, N_IN], ends_at, scale)
            look(bad_row, x, work, notes, marks, starts, first, rows, plan[0, N_IN])
            first_forward(
                work, plan, params, params, plan[0, W], plan[0, PITCH], x, starts, index, marks, notes, chunk, orders,
                first, rows, 0, rows,
            )  # fmt: skip
            finish_layer(work, plan, 0, notes, settings, 0, chunk, rows, 0, rows, meetings, 1)
            forward_pass(work, plan, params, notes, settings, 0, chunk, rows, 0, rows, meetings, 1)
            if mode == LOSSES:
                note_rows(notes, plan, orders, first, rows, chunk)
                losses(
                    RowLosses(row_loss, row_hit), first, Matrix(work, z, pitch), n_out, targets, row_weights,
                    notes[rows_at:], 0, rows, 1.0, settings[SMOOTHING],
                )  # fmt: skip
            for row in range(rows):
                if mode == LABELS:
                    labels_of(predicted, first + row, work, z + row * pitch, n_out)
                elif mode == NUMBERS:
                    numbers_of(numbers, first + row, work, z + row * pitch, n_out)

    infer.__name__ = name
    return entry(infer)


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


# The loops -----------------------------------------------------------------------------------------------------------


@cache
def train_loop(rows, hidden, head, optimizer):
    """Give the minibatch loop of a kind of rows, hidden layers, head and optimizer; None is plain SGD.

    It is compiled at its first call.
    """
    *first_layer, form, in_place = TRAIN_ROWS[rows]
    update_of, learning = FORMS[form]
    step = plain_step(update_of(in_place)) if optimizer is None else step_of(FORMULAS[optimizer], learning, in_place)
    name = _name("train", rows, hidden, head, optimizer)
    return training(name, first_layer, HIDDEN[hidden], ROW_LOSSES[head].losses, step, optimizer is not None)


@cache
def infer_loop(rows, hidden, head):
    """Give the loop that predicts, of a kind of rows, hidden layers and head; it is compiled at its first call."""
    return inference(_name("infer", rows, hidden, head), INFER_ROWS[rows], HIDDEN[hidden], ROW_LOSSES[head])


def _name(what, rows, hidden, head, optimizer=None):
    parts = [
        what,
        rows,
        *(hidden, head) * (hidden != "plain" or head != "softmax"),
        *([optimizer] if optimizer else []),
    ]
    return "_".join(parts).replace(" ", "_")

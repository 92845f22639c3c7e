"""Whole epochs in one call: the minibatch loop, and the loop that predicts.

The threads of a team run `train` together. A layer is divided into a grid of columns and rows. A thread computes the
outputs of its columns for its rows of the batch, and changes its columns and rows of the weights. So each core keeps
its columns of the weights in its own cache. The loss is divided by rows of the batch.
"""

import math
from functools import cache

from numpy import finfo, float64

from .blockwise import blockwise_step, penalty_of, sum_weights
from .jit import entry, part
from .layers import HIDDEN, forward_block, outputs_of, transpose_pass, turn_outputs
from .losses import LOSSES
from .optimizers import FORMULAS, L2
from .sgd import sgd_step
from .structs import (
    ACCUMULATE,
    AGREED,
    LABELS,
    LAST_STEP,
    NOT_FINITE,
    NUMBERS,
    PAUSE,
    RESULT,
    ROW_LOSSES,
    STEPS,
    STOP,
    STOPPED,
    Data,
    Matrix,
    Parameters,
    RowLosses,
    Team,
    Totals,
    Workspace,
    bias_of,
    waits_after_update,
    weights_of,
)
from .team import (
    BACKWARD,
    FAILED,
    FIRST_FORWARD,
    FORWARD,
    LOAD,
    LOSS,
    OUTSIDE,
    TAKEN,
    TRANSPOSE,
    add_one,
    barrier,
    profile,
)
from .vector_ops import peek, prefetch

EARLY = 16
"""While so many chunks are left, a thread that predicts takes its next one early, and prefetches it. The last ones are
taken when a thread is free, so that all end at the same time."""


def training(rows, hidden, losses, take_step, has_penalty, has_classes):
    """Build the minibatch loop.

    Parameters
    ----------
    rows : formats.Rows
    hidden : triple of parts
        What :func:`.layers.hidden_layers` returns.
    losses : part
        Losses of some rows.
    take_step : part
        Changes the parameters, and ends with a barrier if `waits_after_update`.
    has_penalty : bool
        Whether the step maintains the sums of squared weights that an l2 penalty needs: all steps but plain SGD.
    has_classes : bool
        Whether a row has one class as its target, and not a number for each output.

    Notes
    -----
    `order` and `schedule` describe all steps, epoch after epoch; an epoch may take any `n_rows` rows of X. A call takes
    the steps from `first_step` on, but not `end_step`. Several calls in a row give the bits of one, whatever the sizes
    of their teams: a step leaves nothing to the next but parameters, state and totals. Sums of squares are computed
    again, from the same weights.
    """
    load, view, first_forward = rows.load, rows.view, rows.products.forward
    finish_layer, forward_pass, backward_pass = hidden

    def train(
        params, gradient, state, work, inputs, deltas, sources, ends, masks, clocks, lists, kept, kept_indices, sums,
        epoch_loss, epoch_correct, epoch_penalty, row_loss, row_correct, sync, control,
        x, indptr, indices, targets, row_weights, order, schedule, layers, settings,
        n_rows, batch_size, first_step, end_step, mode, rank, size,
    ):  # fmt: skip
        p, team = Parameters(params, gradient, state), Team(sync, control, rank, size)
        ws = Workspace(work, inputs, deltas, sources, ends, masks, clocks, lists, kept, kept_indices, sums)
        totals, of_rows = Totals(epoch_loss, epoch_correct, epoch_penalty), RowLosses(row_loss, row_correct)
        data, s = Data(x, indptr, indices, targets, row_weights, order), settings[0]
        first, last = layers[0], layers[len(layers) - 1]
        first_w = weights_of(params, first)
        if first.private_pitch:
            first_w = Matrix(work, first.private, first.private_pitch)
        first_b, outputs, batch_x = bias_of(params, first), outputs_of(last, ws), view(ws, data)
        n_batches, penalty = (n_rows + batch_size - 1) // batch_size, 0.0  # steps of an epoch
        largest = float64(finfo(params.dtype).max)
        epoch, start = first_step // n_batches, first_step % n_batches * batch_size
        if has_penalty and first_step < end_step:
            if schedule[first_step, L2] > 0.0:
                sum_weights(first_w, first, sums)
                for i in range(1, len(layers)):
                    sum_weights(weights_of(params, layers[i]), layers[i], sums)
            barrier(team)
        profile(clocks, OUTSIDE)
        for step in range(first_step, end_step):
            end = min(start + batch_size, n_rows)
            loss, correct, is_last = 0.0, 0, 0
            weight = weight_of_batch(data, epoch * n_rows + start, end - start)
            inv_weight = 1.0 / weight if weight > 0.0 else 0.0
            if has_penalty:  # no thread can change the sums yet: there is a barrier in between
                penalty = penalty_of(sums, schedule, step)
            for chunk in range(start, end, s.chunk):
                rows = min(s.chunk, end - chunk)
                row, end_row = rows * rank // size, rows * (rank + 1) // size
                at, pass_ = epoch * n_rows + chunk, s.epoch + epoch
                turn_outputs(ws, layers)
                note_sources(ws, order, at, rows)
                prefetch_targets(data, 1 if has_classes else last.n_out, at + row, end_row - row)
                load(ws, data, s, at, rows, first.n_in, pass_)
                profile(clocks, LOAD)
                block = forward_block(first, rows)
                first_forward(outputs_of(first, ws), batch_x, first_w, first_b, first, block, data, at + rows)
                finish_layer(ws, layers, 0, block, s, pass_, rows, team)
                profile(clocks, FIRST_FORWARD)
                if chunk == start:
                    transpose_pass(params, ws, layers)
                profile(clocks, TRANSPOSE)
                forward_pass(params, ws, layers, s, pass_, rows, team)
                profile(clocks, FORWARD)
                losses(
                    of_rows, 0, outputs, last.n_out, targets, row_weights, sources, row, end_row, inv_weight,
                    s.label_smoothing,
                )  # fmt: skip
                profile(clocks, LOSS)
                if rank == 0:
                    control[AGREED], control[LAST_STEP] = peek(control, STOP), peek(control, PAUSE)
                backward_pass(ws, layers, s, rows, team)
                for i in range(rows):
                    loss += row_loss[i]
                    correct += row_correct[i]
                if mode != ACCUMULATE and loss * inv_weight > largest:
                    loss = math.inf  # training stops before gradients overflow
                profile(clocks, BACKWARD)
                # Read before the update: after it, rank 0 may already write those of the next step.
                is_last = control[LAST_STEP]
                if control[AGREED] or peek(sync, FAILED):  # a thread that has failed has not reached any update
                    if rank == 0:
                        control[RESULT] = STOPPED
                    return
                if mode != ACCUMULATE and not math.isfinite(loss + penalty):
                    if rank == 0:
                        control[RESULT] = NOT_FINITE
                        totals.loss[epoch] += loss
                        totals.penalty[epoch] += penalty
                    return
                if weight > 0.0:
                    take_step(
                        p, first_w, ws, layers, batch_x, rows, schedule, step, chunk == start, chunk + rows == end,
                        mode, team,
                    )  # fmt: skip
                elif waits_after_update(layers, mode):
                    barrier(team)
            if rank == 0:
                totals.loss[epoch] += loss
                totals.correct[epoch] += correct
                if weight > 0.0:
                    totals.penalty[epoch] += penalty
                control[STEPS] = step + 1
            if is_last:
                return
            start = end
            if start == n_rows:
                epoch, start = epoch + 1, 0

    return train


def inference(row_format, hidden, head):
    """Build the loop that predicts.

    Threads that call it with the same `sync` share the rows: each takes the next chunk until none is left.
    """
    load, view, first_forward = row_format.infer.load, row_format.infer.view, row_format.infer.products.forward
    check, (finish_layer, forward_pass, _) = row_format.check, hidden
    losses, numbers_of, labels_of = head

    def infer(
        numbers, labels, row_loss, row_correct, bad_row, work, inputs, deltas, sources, ends, masks, clocks, sync,
        x, indptr, indices, targets, row_weights, order, params, layers, settings, first_row, end_row, mode,
    ):  # fmt: skip
        data, ws = (
            Data(x, indptr, indices, targets, row_weights, order),
            Workspace(work, inputs, deltas, sources, ends, masks, clocks),
        )
        team, of_rows, s = Team(sync, sync, 0, 1), RowLosses(row_loss, row_correct), settings[0]
        first, last = layers[0], layers[len(layers) - 1]
        first_w, first_b = weights_of(params, first), bias_of(params, first)
        outputs, batch_x = outputs_of(last, ws), view(ws, data)
        at = first_row + add_one(sync, TAKEN) * s.chunk
        while at < end_row:
            rows = min(s.chunk, end_row - at)
            load(ws, data, s, at, rows, first.n_in, 0)
            check(bad_row, ws, data, at, rows, first.n_in)
            block = forward_block(first, rows)
            early = end_row - at > EARLY * s.chunk
            next_at = first_row + add_one(sync, TAKEN) * s.chunk if early else len(order)
            first_forward(outputs_of(first, ws), batch_x, first_w, first_b, first, block, data, next_at)
            finish_layer(ws, layers, 0, block, s, 0, rows, team)
            forward_pass(params, ws, layers, s, 0, rows, team)
            if mode == ROW_LOSSES:
                note_sources(ws, order, at, rows)
                losses(of_rows, at, outputs, last.n_out, targets, row_weights, sources, 0, rows, 1.0, s.label_smoothing)
            for row in range(rows):
                if mode == LABELS:
                    labels_of(labels, at + row, work, outputs.at + row * outputs.pitch, last.n_out)
                elif mode == NUMBERS:
                    numbers_of(numbers, at + row, work, outputs.at + row * outputs.pitch, last.n_out)
            at = next_at if early else first_row + add_one(sync, TAKEN) * s.chunk

    return infer


@part
def note_sources(ws, order, at, n_rows):
    """Store the index in X of each row of a chunk."""
    for row in range(n_rows):
        ws.sources[row] = order[at + row]


@part
def weight_of_batch(data, at, n_rows):
    """Return the sum of the weights of the rows of a batch."""
    if len(data.row_weights) == 0:
        return float(n_rows)
    total = 0.0
    for i in range(at, at + n_rows):
        total += data.row_weights[data.order[i]]
    return total


@part
def prefetch_targets(data, each, at, n_rows):
    """Prefetch the targets of some rows, which may be anywhere."""
    for i in range(at, at + n_rows):
        prefetch(data.targets, data.order[i] * each)


# The loops, compiled at their first call -----------------------------------------------------------------------------


@cache
def train_loop(rows, hidden, head, optimizer):
    """Return the training loop for some `formats.Rows`, a key of `HIDDEN`, a loss, and a formula; None is plain SGD."""
    products = rows.products
    step = sgd_step(products.update) if optimizer is None else blockwise_step(FORMULAS[optimizer], products)
    loop = training(rows, HIDDEN[hidden], LOSSES[head].losses, step, optimizer is not None, head == "softmax")
    return _entry(loop, "train", rows, hidden, head, optimizer)


@cache
def infer_loop(row_format, hidden, head):
    """Return the loop that predicts, for a `formats.Format`, a key of `HIDDEN`, and a loss."""
    loop = inference(row_format, HIDDEN[hidden], LOSSES[head])
    return _entry(loop, "infer", row_format.infer, hidden, head)


def _entry(loop, kind, rows, hidden, head, optimizer=None):
    names = [kind, rows.name, *(() if (hidden, head) == ("plain", "softmax") else (hidden, head)), optimizer]
    loop.__name__ = "_".join(filter(None, names)).replace(" ", "_")
    return entry(loop)

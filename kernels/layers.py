"""What a step does above the first layer: the other layers on both ways."""

import math

from .activations import RELU, activate, floor_of, multiply_rows, relu_gradient_rows
from .dense import forward, transpose
from .jit import part
from .structs import Block, Matrix
from .tables import (
    BY_COLUMNS,
    COLUMN,
    D_PITCH,
    DROPOUT,
    END_COLUMN,
    END_IN,
    EPOCH,
    IN,
    KIND,
    MEET,
    MEET_BACK,
    N_IN,
    N_OUT,
    PITCH,
    SEED,
    SLOPE,
    B,
    D,
    H,
    T,
    W,
)
from .team import meet


@part
def finish_nothing(work, plan, layer, notes, settings, epoch, chunk, row, end_row):
    """Leave outputs as the tile has left them: an identity or ReLU, all units kept."""


@part
def finish_outputs(work, plan, layer, notes, settings, epoch, chunk, row, end_row):
    """Apply to products what their tile has not applied: an activation that has a slope, and dropout."""
    threshold, factor = DROPOUT + 2 * (layer + 1), DROPOUT + 2 * (layer + 1) + 1
    activate(
        Matrix(work, plan[layer, H], plan[layer, PITCH]), plan[layer, SLOPE],
        Block(row, end_row, plan[layer, COLUMN], plan[layer, END_COLUMN]), plan[layer, KIND],
        notes[2 * len(plan) * chunk :], int(settings[SEED]), int(settings[EPOCH]) + epoch, layer + 1,
        int(settings[threshold]), settings[factor],
    )  # fmt: skip


@part
def go_back(work, plan, layer, settings, row, end_row):
    """Multiply deltas by the slope of ReLU, where it is one."""
    if plan[layer, KIND] == RELU:
        relu_gradient_rows(
            Matrix(work, plan[layer, D], plan[layer, D_PITCH]), Matrix(work, plan[layer, H], plan[layer, PITCH]),
            Block(row, end_row, plan[layer, COLUMN], plan[layer, END_COLUMN]), 1.0,
        )  # fmt: skip


@part
def go_back_by_slopes(work, plan, layer, settings, row, end_row):
    """Multiply deltas by the slopes of an activation and of dropout."""
    d, d_pitch, h, slope, pitch = (
        plan[layer, D], plan[layer, D_PITCH], plan[layer, H], plan[layer, SLOPE], plan[layer, PITCH],
    )  # fmt: skip
    column, end_column = plan[layer, COLUMN], plan[layer, END_COLUMN]
    if slope:
        block = Block(row, end_row, column, end_column)
        multiply_rows(Matrix(work, d, d_pitch), Matrix(work, slope, pitch), block)
    elif plan[layer, KIND] == RELU:
        factor = settings[DROPOUT + 2 * (layer + 1) + 1]
        block = Block(row, end_row, column, end_column)
        relu_gradient_rows(Matrix(work, d, d_pitch), Matrix(work, h, pitch), block, factor)


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


@part
def transpose_pass(work, plan, params):
    """Copy the weights above the first layer that the thread owns, transposed."""
    for layer in range(1, len(plan)):
        t, t_pitch, w, pitch = plan[layer, T], plan[layer - 1, PITCH], plan[layer, W], plan[layer, PITCH]
        i, end, column, end_column = plan[layer, IN], plan[layer, END_IN], plan[layer, COLUMN], plan[layer, END_COLUMN]
        transpose(work, t, t_pitch, params, w, pitch, i, end, column, end_column)

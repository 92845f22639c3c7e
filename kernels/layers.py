"""The layers above the first, forward and backward, and the end of every layer: activation, dropout, barrier."""

import math

from .activations import RELU, activate, floor_of, multiply_rows, relu_gradient_rows
from .jit import kernel, part
from .matmul import forward, transpose
from .structs import Block, Gathered, Matrix, bias_of, deltas_of, inputs_of, owned, weights_of
from .team import barrier
from .vector_ops import lane_count, prefetch_near


@part
def outputs_of(layer, ws):
    """Return a layer's outputs (chunk, O)."""
    return Matrix(ws.work, layer.out, layer.pitch)


@part
def turn_outputs(ws, layers):
    """Let the first layer write its outputs where those of the last step but one are."""
    first, chunk = layers[0], len(ws.sources)
    turn = first.turn
    if turn != 0:
        first.out += turn
        if first.slope:
            first.slope += turn
        for row in range(chunk, 2 * chunk):
            ws.inputs[row] += turn
        first.turn = -turn


@part
def forward_block(layer, n_rows):
    """Return the outputs of a layer, and their deltas, that this thread computes: some columns of some rows."""
    first, end = n_rows * layer.part // layer.parts, n_rows * (layer.part + 1) // layer.parts
    return Block(first, end, layer.column, layer.end_column)


@part
def no_activation(ws, layers, i, block, settings, epoch):
    """Do nothing: the matrix product has already applied ReLU or the identity, and there is no dropout."""


@part
def apply_activation(ws, layers, i, block, settings, epoch):
    """Apply what the matrix product has not applied: an activation other than ReLU, and dropout."""
    layer = layers[i]
    activate(
        outputs_of(layer, ws), layer.slope, block, layer.activation, ws.sources, settings.seed, epoch, i + 1,
        layer.drop_below, layer.scale_kept,
    )  # fmt: skip


@part
def apply_relu_slope(ws, layer, block):
    """Multiply deltas by the derivative of ReLU: 1 where the output is positive, else 0."""
    if layer.activation == RELU:
        relu_gradient_rows(deltas_of(layer, ws), outputs_of(layer, ws), block, 1.0)


@part
def apply_slope(ws, layer, block):
    """Multiply deltas by the derivatives of the activation and of dropout."""
    if layer.slope:
        multiply_rows(deltas_of(layer, ws), Matrix(ws.work, layer.slope, layer.pitch), block)
    elif layer.activation == RELU:
        relu_gradient_rows(deltas_of(layer, ws), outputs_of(layer, ws), block, layer.scale_kept)


FETCHED = 256
"""Vectors that are prefetched at most: more would evict each other from the first cache."""


@kernel
def fetch(a, row, end_row, vectors):
    """Prefetch rows that other threads have written, all at once: tiles would wait for one line after the other."""
    lanes = lane_count(a.buffer)
    if (end_row - row) * vectors > FETCHED:
        return
    for i in range(row, end_row):
        for j in range(0, vectors * lanes, lanes):
            prefetch_near(a.buffer, a.at + i * a.pitch + j)


def hidden_layers(activation, slope):
    """Build the end of a layer, and the passes through the layers above the first."""

    @part
    def finish_layer(ws, layers, i, block, settings, epoch, n_rows, team):
        """Apply the activation, and wait if other threads need the outputs."""
        activation(ws, layers, i, block, settings, epoch)
        if layers[i].barrier:
            barrier(team)
            if i + 1 < len(layers):
                next_block = forward_block(layers[i + 1], n_rows)
                fetch(outputs_of(layers[i], ws), next_block.row, next_block.end_row, layers[i].width)

    @part
    def forward_pass(params, ws, layers, settings, epoch, n_rows, team):
        """Compute the outputs of all layers above the first."""
        for i in range(1, len(layers)):
            layer = layers[i]
            block = forward_block(layer, n_rows)
            forward(
                outputs_of(layer, ws), inputs_of(ws, i),
                weights_of(params, layer), bias_of(params, layer), layer.n_in, block,
                floor_of(layer.activation), 0,
            )  # fmt: skip
            finish_layer(ws, layers, i, block, settings, epoch, n_rows, team)

    @part
    def backward_pass(ws, layers, settings, n_rows, team):
        """Compute the deltas of all layers below the last. The threads wait for each other at least once."""
        for i in range(len(layers) - 1, 0, -1):
            layer, below = layers[i], layers[i - 1]
            block = forward_block(below, n_rows)
            if layer.barrier_back:
                barrier(team)
                fetch(deltas_of(layer, ws), block.row, block.end_row, layer.width)
            if team.size > 1:
                w_t = Matrix(ws.work, layer.w_t + block.column * lane_count(ws.work), below.pitch)
                fetch(w_t, 0, layer.n_out, block.end_column - block.column)
            forward(
                deltas_of(below, ws), Gathered(ws.work, ws.deltas, i * settings.chunk),
                Matrix(ws.work, layer.w_t, below.pitch), Matrix(ws.work, 0, 0), layer.n_out, block, -math.inf, 0,
            )  # fmt: skip
            slope(ws, below, block)
        if layers[0].barrier_back:
            barrier(team)

    return finish_layer, forward_pass, backward_pass


HIDDEN = {
    "plain": hidden_layers(no_activation, apply_relu_slope),
    "sloped": hidden_layers(apply_activation, apply_slope),
}
"""Plain: ReLU or identity, and no dropout. Sloped: all others, which store their derivatives in the forward pass."""


@part
def transpose_pass(params, ws, layers):
    """Copy the weights above the first layer that the thread owns, transposed."""
    for i in range(1, len(layers)):
        layer = layers[i]
        out = Matrix(ws.work, layer.w_t, layers[i - 1].pitch)
        transpose(out, weights_of(params, layer), owned(layer))

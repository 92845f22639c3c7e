"""Data structures that kernels pass to one another: a record for each layer, and named tuples of arrays.

Python passes flat arguments, since Numba takes a microsecond to recognize a tuple. The entries group them.
"""

from typing import Any, NamedTuple

import numpy as np
from numba.core import ir_utils

from .jit import part

LAYER = np.dtype(
    [
        (name, np.int64)
        for name in (
            "n_in", "n_out",
            "width",  # vectors in a row of its weights and outputs
            "pitch",  # numbers from one such row to the next
            "w", "b",  # where its weights (I, O) and biases (O,) start in the parameters
            "activation",  # code, see `activations`
            # where these start in `work`, the buffer that the threads of a team share:
            "out",  # outputs (chunk, O)
            "slope",  # slopes of the activation (chunk, O); 0 if none are stored
            "turn",  # offset from these outputs and slopes to those of the next batch; 0 if they share the buffer
            "w_t",  # transposed weights (O, I)
            "delta", "delta_pitch",  # gradient of the loss by the products (chunk, O)
            "private", "private_pitch",  # the thread's own copy of its columns of the weights; pitch 0 if there is none
            "slot_stride",  # offset from that copy to that of the optimizer's first slot, and from slot to slot
            "gradient", "gradient_pitch",  # of the weights; pitch 0 if there is room for one block only
            "partial_sums",  # of an update from packed rows, until more rows are added to them
            "squares",  # where its sums of squares start in each half of `sums`
            # how the work is divided between threads:
            "column", "end_column", "row", "end_row",  # the weights that this thread owns; columns counted in vectors
            "part", "parts",  # of the rows of a batch, it computes this part of its columns of the outputs
            "barrier", "barrier_back",  # whether threads wait for each other after the forward pass, after the deltas
            "drop_below",  # a unit is dropped if its random word is below this
        )
    ]
    + [("scale_kept", np.float64)]  # what the other units are multiplied by
)  # fmt: skip
"""The plan of one layer for one thread. `private` and `gradient` are the places of row 0 and column 0, which may lie
outside of what the thread owns."""

SETTINGS = np.dtype(
    [
        ("chunk", np.int64),  # rows that go through the network together
        ("seed", np.int64), ("epoch", np.int64),  # dropout and noise are keyed by them
        ("drop_below", np.int64), ("scale_kept", np.float64),  # dropout of the inputs, as in LAYER
        ("noise", np.float64),  # standard deviation of the noise on the inputs
        ("input_scale", np.float64),  # factor of rows of bytes
        ("label_smoothing", np.float64),
    ]
)  # fmt: skip
"""What is the same in all steps of a call."""


class Matrix(NamedTuple):
    """Rows in a flat buffer, ``pitch`` numbers apart. With pitch 0 all rows are the same."""

    buffer: Any
    at: Any
    pitch: Any


class Gathered(NamedTuple):
    """Rows of a buffer that lie anywhere: row i starts at ``starts[first + i]``."""

    buffer: Any
    starts: Any
    first: Any


class Packed(NamedTuple):
    """Rows without their zeros, see `formats.packed`."""

    buffer: Any
    starts: Any  # where the first number of each row is
    positions: Any  # where its next number is, while a kernel walks through the features
    masks: Any


class Csr(NamedTuple):
    """CSR rows: the numbers of row i and their features are at ``starts[i]`` to ``ends[i]``."""

    buffer: Any
    indices: Any
    starts: Any
    ends: Any


class Slots(NamedTuple):
    """An optimizer's state: arrays in the shape of the weights, ``stride`` numbers apart."""

    buffer: Any
    at: Any
    stride: Any


class Block(NamedTuple):
    """A part of a matrix: some rows, and some columns, which are counted in whole vectors."""

    row: Any
    end_row: Any
    column: Any
    end_column: Any


class Prefetch(NamedTuple):
    """Rows ``order[at:]`` of a matrix without padding; each tile prefetches ``count`` of them."""

    source: Any
    order: Any
    at: Any
    count: Any


class Data(NamedTuple):
    """The rows that a call trains on or predicts."""

    x: Any
    indptr: Any  # where each row of a CSR matrix starts in x, or each packed row in `indices`
    indices: Any  # features of the numbers of CSR rows; x of packed rows, seen as words
    targets: Any
    row_weights: Any  # empty if all are 1
    order: Any  # permutations of the rows, one epoch after the other


class Workspace(NamedTuple):
    """Buffers of one thread. `work` and `sums` are shared by its team."""

    work: Any  # starts with zeros, as many as the longest row of a layer
    inputs: Any  # (L, chunk): where the inputs of each row to each layer start
    deltas: Any  # (L, chunk): where its deltas start
    sources: Any  # (chunk,): which row of X it is
    ends: Any  # (chunk,): where a CSR row ends; where the next number of a packed row is
    masks: Any  # (chunk, words): bit masks of packed rows
    clocks: Any  # of the profiled build
    lists: Any = ()  # nonzeros by column: lists of a CSR batch, transposed masks of a packed one
    kept: Any = ()  # numbers of CSR rows that dropout has kept
    kept_indices: Any = ()
    sums: Any = ()  # of squares


class Parameters(NamedTuple):
    """Everything that a step may change."""

    flat: Any
    gradient: Any  # accumulated where a batch comes in chunks
    state: Any  # of the optimizer, its slots one after the other


class RowLosses(NamedTuple):
    """Loss of each row of a chunk, and whether it was predicted right."""

    loss: Any
    correct: Any


class Totals(NamedTuple):
    """Sums over each epoch."""

    loss: Any
    correct: Any
    penalty: Any


class Team(NamedTuple):
    """Threads that run the same kernel."""

    sync: Any  # see `team`
    control: Any
    rank: Any
    size: Any


@part
def weights_of(params, layer):
    """Return a layer's weights (I, O)."""
    return Matrix(params, layer.w, layer.pitch)


@part
def bias_of(params, layer):
    """Return a layer's biases, one row (O,)."""
    return Matrix(params, layer.b, 0)


@part
def owned(layer):
    """Return the block of a layer's weights that this thread owns."""
    return Block(layer.row, layer.end_row, layer.column, layer.end_column)


@part
def waits_after_update(layers, mode):
    """Return whether threads wait for each other at the end of a step.

    They need not if each thread reads only its own weights until the next barrier, after the first layer, and writes
    its outputs to another place than in the last step: others may still be reading those.
    """
    return layers[0].turn == 0 or mode != FUSED


@part
def inputs_of(ws, i):
    """Return the inputs of layer i."""
    return Gathered(ws.work, ws.inputs, i * len(ws.sources))


@part
def deltas_of(layer, ws):
    """Return a layer's deltas (chunk, O)."""
    return Matrix(ws.work, layer.delta, layer.delta_pitch)


STOP, AGREED, PAUSE, LAST_STEP, STEPS, RESULT, CONTROLS = range(7)
"""Places in ``control``: Python's wish to stop before the next update, and the team's answer; Python's wish to end the
call after a step, and the answer; finished steps, how training ended."""

FINISHED, STOPPED, NOT_FINITE = range(3)
"""Values of ``control[RESULT]``."""

FUSED, ACCUMULATE, COMMIT = 0, 1, 2
"""Modes of plain SGD: apply the gradient in the tiles that compute it; or add it to ``gradient``, and then maybe apply
that at the end of the batch."""

NUMBERS, LABELS, ROW_LOSSES = range(3)
"""What inference computes: probabilities or other numbers, labels, or the loss of each row."""


def _add_aliases(made, fields, alias_map, arg_aliases):
    for field in fields:
        ir_utils._add_alias(made, field.name, alias_map, arg_aliases)


# Numba does not know that a tuple made in a function shares its arrays with the caller, and would remove stores into
# them as dead code.
for _kind in [kind for kind in globals().values() if isinstance(kind, type) and issubclass(kind, tuple)]:
    ir_utils.alias_func_extensions[_kind.__name__, _kind.__module__] = _add_aliases

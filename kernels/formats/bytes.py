"""Rows of bytes, a quarter of the memory of float32. They are scaled as they are loaded into the workspace.

Where most of them are zero, they are packed there, see `packed`.
"""

from dataclasses import replace

import numpy as np
from llvmlite import ir

from ..bits import ONE, WORD, compress, count_bits, extract_bits, nonzero_pairs
from ..jit import part
from ..simd import Vector, VectorType
from ..trace import traced
from ..vector_ops import lane_count, store
from . import dense, packed
from .base import Format, Rows, no_check


@traced(returns=lambda out, x, at, scale: VectorType(out.dtype))
def widened(out, x, at, scale):
    """Return ``scale * x[at:]``, a vector of the dtype of ``out``."""
    builder, bytes_type = out.builder, ir.VectorType(ir.IntType(8), out.count)
    address = builder.bitcast(x.address(at, out.count), bytes_type.as_pointer())
    numbers = Vector(builder, builder.uitofp(builder.load(address, align=1), out.vector_type))
    return numbers * scale.vector(out)


@traced
def widen_one(out, out_at, x, at, scale):
    """Store ``scale * x[at]`` at ``out[out_at]``."""
    factor = scale.cast(out.dtype)
    number = out.builder.uitofp(out.builder.load(x.address(at)), factor.type)
    out.builder.store(out.builder.fmul(number, factor), out.address(out_at))


@part
def widen_row(out, out_at, x, at, n_in, scale):
    """Compute ``out = scale * x`` of one row."""
    k, lanes = 0, lane_count(out)
    while k + lanes <= n_in:
        store(out, out_at + k, widened(out, x, at + k, scale))
        k += lanes
    while k < n_in:
        widen_one(out, out_at + k, x, at + k, scale)
        k += 1


@part
def pack_row(out, at, masks, mask_at, x, x_at, n_in, scale):
    """Write the pairs of ``scale * x`` of one row that are not zero to ``out[at:]``, and its mask.

    Never more than the whole vectors of a row are overwritten. Where zeros are is seen in 64 bytes at once, and how
    many numbers come before those of each vector follows from the mask alone, so no vector waits for another.
    """
    start, lanes, n_blocks = at, lane_count(out), n_in // WORD
    for block in range(n_blocks):
        k = block * WORD
        features = nonzero_pairs(x, x_at + k)
        for i in range(0, WORD, lanes):
            before = count_bits(features & ((ONE << np.uint64(i)) - ONE))
            compress(out, at + before, widened(out, x, x_at + k + i, scale), features >> np.uint64(i))
        at += count_bits(features)
        pairs, word = extract_bits(features, packed.FIRSTS), mask_at + block // packed.PAIR
        if block % packed.PAIR == 0:
            masks[word] = pairs
        else:
            masks[word] |= pairs << np.uint64(WORD // packed.PAIR)
    k = n_blocks * WORD
    if k < n_in:
        word = mask_at + n_blocks // packed.PAIR
        first = masks[word]
        widen_row(out, start + k, x, x_at + k, n_in - k, scale)
        packed.pack_row(out, at, masks, word, out, start + k, n_in - k)
        if n_blocks % packed.PAIR != 0:
            masks[word] = first | masks[word] << np.uint64(WORD // packed.PAIR)


@part
def load(ws, data, settings, at, n_rows, n_in, epoch):
    """Load scaled rows."""
    for row in range(n_rows):
        widen_row(ws.work, ws.inputs[row], data.x, data.order[at + row] * n_in, n_in, settings.input_scale)


@part
def load_perturbed(ws, data, settings, at, n_rows, n_in, epoch):
    """Load scaled rows with noise and dropout."""
    load(ws, data, settings, at, n_rows, n_in, epoch)
    dense.perturb(ws.work, ws.inputs, data.order, at, n_rows, n_in, settings, epoch)


@part
def load_packed(ws, data, settings, at, n_rows, n_in, epoch):
    """Load scaled rows without their zeros."""
    for row in range(n_rows):
        start, mask_at = data.order[at + row] * n_in, row * packed.words_of(n_in)
        pack_row(ws.work, ws.inputs[row], ws.masks, mask_at, data.x, start, n_in, settings.input_scale)


@part
def load_packed_perturbed(ws, data, settings, at, n_rows, n_in, epoch):
    """Load scaled rows with noise and dropout, and pack each in place: it never grows beyond what has been read."""
    load_perturbed(ws, data, settings, at, n_rows, n_in, epoch)
    for row in range(n_rows):
        start = ws.inputs[row]
        packed.pack_row(ws.work, start, ws.masks, row * packed.words_of(n_in), ws.work, start, n_in)


PLAIN = Rows("bytes", load, dense.staged, dense.PRODUCTS, staged=True)
PERTURBED = Rows("bytes_perturbed", load_perturbed, dense.staged, dense.PRODUCTS, staged=True)
BYTES = Format(train=PLAIN, dropout=PERTURBED, noise=PERTURBED, infer=PLAIN, check=no_check)

PACKED = Rows("packed_bytes", load_packed, packed.staged, packed.products(packed.prefetch_dense_row), staged=True)
PACKED_PERTURBED = replace(PACKED, name="packed_bytes_perturbed", load=load_packed_perturbed)
PACKED_TO_INFER = replace(PACKED, products=packed.products(packed.no_prefetch))  # prefetching gains nothing there
PACKED_BYTES = Format(PACKED, PACKED_PERTURBED, None, PACKED_TO_INFER, no_check)

"""Rows of bytes, a quarter of the memory of float32. They are scaled as they are loaded into the workspace.

Where most of them are zero, they are packed there, see `packed`.
"""

from dataclasses import replace

from llvmlite import ir

from ..jit import part
from ..simd import Vector
from ..trace import traced
from ..vector_ops import lane_count
from . import dense, packed
from .base import Format, Rows, no_check


@traced
def widen(out, out_at, x, at, scale):
    """Store ``scale * x[at:]``, a vector, at ``out[out_at:]``."""
    builder, bytes_type = out.builder, ir.VectorType(ir.IntType(8), out.count)
    address = builder.bitcast(x.address(at, out.count), bytes_type.as_pointer())
    numbers = Vector(builder, builder.uitofp(builder.load(address, align=1), out.vector_type))
    out.put(out_at, numbers * scale.vector(out))


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
        widen(out, out_at + k, x, at + k, scale)
        k += lanes
    while k < n_in:
        widen_one(out, out_at + k, x, at + k, scale)
        k += 1


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
    """Load scaled rows and pack each of them in place: it never grows beyond the numbers that have been read."""
    for row in range(n_rows):
        start = ws.inputs[row]
        widen_row(ws.work, start, data.x, data.order[at + row] * n_in, n_in, settings.input_scale)
        packed.pack_row(ws.work, start, ws.masks, row * packed.words_of(n_in), ws.work, start, n_in)


@part
def load_packed_perturbed(ws, data, settings, at, n_rows, n_in, epoch):
    """Load scaled rows with noise and dropout, and pack them."""
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

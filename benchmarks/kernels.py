"""Each kernel alone, on 64 rows of MNIST and the layers of its network, as a share of the FMA peak of one core.

python -m benchmarks.kernels

Rows and weights are in the caches, and no kernel prefetches the next rows. The dense kernels get rows without zeros.
The packed and CSR kernels get MNIST as it is: a fifth of its numbers is not zero. The last layer has ten columns, which
do not fill their vectors. GFLOP/s count the multiply-adds of the network, without padding and without skipped zeros.
"""

import math
import time
from dataclasses import dataclass

import numpy as np

from fastmlp import datasets
from fastmlp.bench.machine import describe, fma_peak
from fastmlp.engine.layout import Layout, aligned_zeros
from fastmlp.engine.rows import rows_to_train
from fastmlp.engine.workspace import Needs, Workspace
from fastmlp.kernels import matmul, structs
from fastmlp.kernels.formats import FORMATS, packed
from fastmlp.kernels.jit import kernel
from fastmlp.kernels.layers import outputs_of
from fastmlp.kernels.structs import Block, Gathered, Matrix, deltas_of, inputs_of, owned

N_ROWS, N_IN, N_OUT, N_CLASSES = 64, 784, 128, 10
RATE = -1e-6
SECONDS = 0.05  # of a run, which repeats a kernel as often as fits in
RUNS = 5  # the best one counts


def images(kind):
    """Return rows of MNIST as the kernels of a format are to get them."""
    X = datasets.load_mnist()[0][:N_ROWS]
    if kind == "dense":
        return X + np.float32(1 / 512)
    if kind == "csr":
        import scipy.sparse

        return scipy.sparse.csr_matrix(X)
    return X


def batch(kind):
    """Return what the functions below take: parameters, workspace, layers and data of a training step."""
    rng = np.random.default_rng(0)
    layout = Layout((N_IN, N_OUT, N_CLASSES), "float32")
    rows = rows_to_train(images(kind), "sparse" if kind == "packed" else "dense", layout.widths[0], 1)
    needs = Needs(FORMATS[kind].train, False, N_ROWS, 1, (), rows.most_nonzeros(N_ROWS))
    space = Workspace(layout, ["relu"], needs)
    layers = space.layers[0]
    for numbers in (params := aligned_zeros(layout.size, "float32"), space.work[layers[0]["out"] :]):
        numbers[:] = rng.standard_normal(len(numbers)) / 100
    ws = structs.Workspace(space.work, *space.private[0], space.sums)
    data = structs.Data(rows.x, rows.indptr, rows.indices, params[:0], params[:0], np.arange(N_ROWS))
    return params, ws, layers, data, space.settings


def first_layer(kind, forward):
    """Build the two products of the first layer with rows of a format; each is computed ``n`` times."""
    load, view, update = FORMATS[kind].train.load, FORMATS[kind].train.view, FORMATS[kind].train.products.update

    @kernel
    def repeat_forward(n, params, ws, layers, data, settings):
        load(ws, data, settings[0], 0, N_ROWS, N_IN, 0)
        layer, x = layers[0], view(ws, data)
        out, w, b = outputs_of(layer, ws), Matrix(params, layer.w, layer.pitch), Matrix(params, layer.b, 0)
        for _ in range(n):
            forward(out, x, w, b, layer, Block(0, N_ROWS, 0, layer.width), data, N_ROWS)

    @kernel
    def repeat_update(n, params, ws, layers, data, settings):
        load(ws, data, settings[0], 0, N_ROWS, N_IN, 0)
        layer, x = layers[0], view(ws, data)
        for _ in range(n):
            update(Matrix(params, layer.w, layer.pitch), x, ws.lists, deltas_of(layer, ws), layer, N_ROWS, RATE)

    return repeat_forward, repeat_update


@kernel
def dense_forward(out, x, w, b, layer, block, data, next_at):
    matmul.forward(out, x, w, b, layer.n_in, block, 0.0, 0)


@kernel
def last_forward(n, params, ws, layers, data, settings):
    layer = layers[1]
    w, b = Matrix(params, layer.w, layer.pitch), Matrix(params, layer.b, 0)
    for _ in range(n):
        block = Block(0, N_ROWS, 0, layer.width)
        matmul.forward(outputs_of(layer, ws), inputs_of(ws, 1), w, b, layer.n_in, block, -math.inf, 0)


@kernel
def backward(n, params, ws, layers, data, settings):
    layer, below = layers[1], layers[0]
    deltas, w_t = Gathered(ws.work, ws.deltas, N_ROWS), Matrix(ws.work, layer.w_t, below.pitch)
    for _ in range(n):
        block = Block(0, N_ROWS, 0, below.width)
        matmul.forward(deltas_of(below, ws), deltas, w_t, Matrix(ws.work, 0, 0), layer.n_out, block, -math.inf, 0)


@kernel
def last_update(n, params, ws, layers, data, settings):
    layer = layers[1]
    w, x = Matrix(params, layer.w, layer.pitch), inputs_of(ws, 1)
    for _ in range(n):
        matmul.update(w, x, deltas_of(layer, ws), ws.work, N_ROWS, owned(layer), RATE)


def calls():
    """Return for each kernel a function that runs it ``n`` times, and the multiply-adds of one run."""
    first = N_ROWS * N_IN * N_OUT
    first_nonzero, last = np.count_nonzero(images("packed")) * N_OUT, N_ROWS * N_OUT * N_CLASSES
    forwards = {
        "dense": (dense_forward, first),
        "packed": (packed.products(packed.no_prefetch).forward, first_nonzero),
        "csr": (FORMATS["csr"].train.products.forward, first_nonzero),
    }
    found = {}
    for kind, (forward, multiply_adds) in forwards.items():
        of_format = batch(kind)
        functions = dict(zip(("forward", "update"), first_layer(kind, forward), strict=True))
        found |= {f"{kind} {name}": (function, of_format, multiply_adds) for name, function in functions.items()}
        if kind == "dense":
            functions = {"last forward": last_forward, "backward": backward, "last update": last_update}
            found |= {name: (function, of_format, last) for name, function in functions.items()}
    return {
        name: (lambda n, function=function, arguments=arguments: function(n, *arguments), multiply_adds)
        for name, (function, arguments, multiply_adds) in found.items()
    }


@dataclass
class Rate:
    """FLOP/s of a kernel, and those of multiply-adds alone, measured before and after it."""

    flops: float
    peak: float


def measure():
    """Return the rate of each kernel by its name."""
    rates = {}
    for name, (call, multiply_adds) in calls().items():
        call(1)  # compiles
        begin = time.perf_counter()
        call(10)
        n = max(1, int(10 * SECONDS / (time.perf_counter() - begin)))
        peak, best = fma_peak(), np.inf
        for _ in range(RUNS):
            begin = time.perf_counter()
            call(n)
            best = min(best, (time.perf_counter() - begin) / n)
        rates[name] = Rate(2 * multiply_adds / best, max(peak, fma_peak()))
    return rates


def main():
    print(describe())
    print(f"\n{N_ROWS} rows, {N_IN}-{N_OUT}-{N_CLASSES}, one core\n\n| kernel | GFLOP/s | of peak |\n|---|---|---|")
    for name, rate in measure().items():
        print(f"| {name} | {rate.flops / 1e9:.1f} | {rate.flops / rate.peak:.1%} |", flush=True)


if __name__ == "__main__":
    main()

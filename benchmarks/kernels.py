"""Each kernel alone, on the layers of MNIST's network and 64 of its rows, against the FMA peak of one core.

python -m benchmarks.kernels

Rows and weights are in the caches. Dense kernels get no zeros; packed and CSR rows have the fifth of the numbers that
is not zero. Those of the last layer have ten columns, which do not fill their vectors. GFLOP/s count the multiply-adds
that are done. Whoever changes a kernel's arguments changes them here.
"""

import time
from dataclasses import dataclass

import numpy as np

from fastmlp import datasets
from fastmlp.bench.machine import describe, fma_peak
from fastmlp.engine.layout import aligned_zeros, n_words
from fastmlp.kernels import csr, dense, rows, simd, sparse
from fastmlp.kernels.jit import kernel

N_ROWS, N_IN, N_OUT, N_CLASSES = 64, 784, 128, 10
SECONDS = 0.05  # that a run of repetitions takes
RUNS = 5  # of which the best counts

_packed_forward = sparse.sparse_forward(rows.fetch_nothing)


class Batch:
    """Rows in each form that the kernels read, with weights and deltas of the first layer; and those of the last."""

    def __init__(self):
        rng = np.random.default_rng(0)
        lanes = simd.lanes("float32")
        self.width, self.pitch, self.words = N_OUT // lanes, N_OUT + lanes, n_words(N_IN)
        some = datasets.load_mnist()[0][:N_ROWS]
        full = some + np.float32(1 / 512)
        self.n_numbers = np.count_nonzero(some)
        self.full, self.starts = full.reshape(-1), np.arange(N_ROWS) * N_IN
        self.out, self.w, self.b, self.delta, self.zeros = (
            aligned_zeros(n * self.pitch, np.float32) for n in (2 * N_ROWS, N_IN, 1, N_ROWS, 1)
        )
        for flat in (self.w, self.delta):
            flat.reshape(-1, self.pitch)[:, :N_OUT] = rng.standard_normal((flat.size // self.pitch, N_OUT)) / 100
        self.narrow_width = -(-N_CLASSES // lanes)
        self.narrow = self.narrow_width * lanes
        self.narrow_out, self.narrow_w, self.narrow_delta = (
            aligned_zeros(n * self.narrow, np.float32) for n in (N_ROWS, N_OUT, N_ROWS)
        )
        self.narrow_delta[:] = rng.standard_normal(self.narrow_delta.size) / 100
        self.narrow_starts, self.wide_starts = np.arange(N_ROWS) * self.narrow, np.arange(N_ROWS) * self.pitch
        self.marks = np.zeros(N_ROWS * self.words, np.uint64)
        self.by_pair = np.zeros(-(-N_ROWS // rows.WORD) * rows.WORD * self.words, np.uint64)
        room = N_IN + lanes
        self.packed, self.places = np.zeros(N_ROWS * room, np.float32), np.zeros(2 * N_ROWS, np.int64)
        self.places[:N_ROWS] = np.arange(N_ROWS) * room
        for row in range(N_ROWS):
            start = row * self.words
            rows.pack_row(self.packed, self.places[row], self.marks, start, some.reshape(-1), row * N_IN, N_IN)
        self.numbers, self.indices = some[some != 0], np.nonzero(some)[1].astype(np.int32)
        ends = np.cumsum(np.count_nonzero(some, axis=1))
        self.begins = np.concatenate([[0], ends[:-1], ends]).astype(np.int64)
        self.links = np.zeros(1 + N_IN + csr.LINK_FIELDS * self.n_numbers, np.int32)
        self.none = np.zeros(0, np.int64)


@kernel
def _repeat_dense_forward(n, out, x, starts, w, b, pitch, width, n_in):
    for _ in range(n):
        dense.forward(out, 0, x, starts, 0, w, 0, pitch, b, 0, n_in, pitch, 0, N_ROWS, 0, width, 0.0, x, starts, 0, 1)


@kernel
def _repeat_dense_update(n, w, x, starts, delta, zeros, pitch, width, n_in):
    for _ in range(n):
        dense.update(w, 0, pitch, x, starts, 0, delta, 0, zeros, N_ROWS, pitch, 0, n_in, 0, width, -1e-6)


@kernel
def _repeat_packed_forward(n, out, x, places, marks, w, b, pitch, width, none):
    for _ in range(n):
        _packed_forward(
            out, 0, pitch, N_ROWS * pitch, pitch, x, places, N_ROWS, marks, w, 0, pitch, b, 0, N_IN,
            0, N_ROWS, 0, width, 0.0,
            x, none, none, 0,
        )  # fmt: skip


@kernel
def _repeat_packed_update(n, w, x, places, marks, by_pair, delta, pitch, width):
    for _ in range(n):
        sparse.sparse_update(
            w, 0, pitch, x, places, N_ROWS, marks, by_pair, N_ROWS, N_IN, delta, 0, pitch, 0, 0, N_IN, 0, width, -1e-6
        )


@kernel
def _repeat_csr_forward(n, out, x, starts, indices, w, b, pitch, width):
    for _ in range(n):
        csr.csr_forward(out, 0, x, starts, N_ROWS, indices, w, 0, pitch, b, 0, pitch, 0, N_ROWS, 0, width, 0.0)


@kernel
def _repeat_csr_update(n, w, x, starts, indices, links, delta, pitch, width):
    for _ in range(n):
        csr.link_features(links, starts, N_ROWS, indices, N_ROWS, N_IN, 0, N_IN)
        csr.csr_update(w, 0, pitch, x, starts, links, N_IN, delta, 0, pitch, 0, width, -1e-6)


def calls():
    """Return for each kernel a function of how often it is run, and the multiply-adds of one run."""
    b = Batch()
    shape, few = (b.pitch, b.width), b.n_numbers * N_OUT
    narrow = (b.narrow, b.narrow_width)
    all_of_them, last = N_ROWS * N_IN * N_OUT, N_ROWS * N_OUT * N_CLASSES
    return {
        "dense forward": (
            lambda n: _repeat_dense_forward(n, b.out, b.full, b.starts, b.w, b.b, *shape, N_IN), all_of_them,
        ),
        "dense update": (
            lambda n: _repeat_dense_update(n, b.w, b.full, b.starts, b.delta, b.zeros, *shape, N_IN), all_of_them,
        ),
        "last forward": (
            lambda n: _repeat_dense_forward(
                n, b.narrow_out, b.delta, b.wide_starts, b.narrow_w, b.b, *narrow, N_OUT
            ), last,
        ),
        "backward": (
            lambda n: _repeat_dense_forward(
                n, b.out, b.narrow_delta, b.narrow_starts, b.w, b.b, *shape, N_CLASSES
            ), last,
        ),
        "last update": (
            lambda n: _repeat_dense_update(
                n, b.narrow_w, b.delta, b.wide_starts, b.narrow_delta, b.zeros, *narrow, N_OUT
            ), last,
        ),
        "packed forward": (
            lambda n: _repeat_packed_forward(n, b.out, b.packed, b.places, b.marks, b.w, b.b, *shape, b.none), few,
        ),
        "packed update": (
            lambda n: _repeat_packed_update(n, b.w, b.packed, b.places, b.marks, b.by_pair, b.delta, *shape), few,
        ),
        "csr forward": (
            lambda n: _repeat_csr_forward(n, b.out, b.numbers, b.begins, b.indices, b.w, b.b, *shape), few,
        ),
        "csr update": (
            lambda n: _repeat_csr_update(n, b.w, b.numbers, b.begins, b.indices, b.links, b.delta, *shape), few,
        ),
    }  # fmt: skip


@dataclass
class Rate:
    """FLOP/s of a kernel, and of multiply-adds alone, measured before and after it."""

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

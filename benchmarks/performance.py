"""Where the time of an epoch goes, and how an epoch grows: prints the tables of docs/bottlenecks.md.

python -m benchmarks.performance [--epochs N] [--only phases|growth] [--threads N]

The kernels count the cycles of each phase themselves, in their profiled build (FASTMLP_PROFILED=1), which runs in a
process of its own. The bound of a phase is the larger of two times: that of its multiply-adds at the FMA peak, and that
of reading its bytes from memory at the measured bandwidth.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys

import numpy as np

import fastmlp
from fastmlp import datasets
from fastmlp.bench.flops import count_nonzero, epoch_flops
from fastmlp.bench.machine import describe, fma_peak, read_bandwidth
from fastmlp.engine.cores import available_threads
from fastmlp.kernels.formats.packed import buffers

from .text import N_CLASSES, N_FEATURES, bag_of_words

KINDS = {
    "packed": "MNIST, zeros left out",
    "dense": "without zeros",
    "bytes": "MNIST in bytes",
    "csr": "text, 20,000 rows with 50 of 50,000 features",
}
FLOAT, WORD, LINE = 4, 8, 64  # bytes
FITS = 3  # the fastest one counts


def rows(kind):
    """Return rows of MNIST in some form, or of text; their labels; and the settings that a network for them needs."""
    if kind == "csr":
        return *bag_of_words(), {}
    X, y, *_ = datasets.load_mnist()
    if kind == "dense":
        X += np.float32(1 / 512)
    if kind == "bytes":
        return np.rint(255 * X).astype(np.uint8), y, {"input_scale": 1 / 255}
    return X, y, {}


# --- phases -----------------------------------------------------------------------------------------------------------


def count_cycles(net, X, y, batch_size, epochs):
    """Return the seconds of an epoch, and the cycles of each thread in each phase; needs the profiled build.

    The network's number of threads must be fixed.
    """
    from fastmlp.kernels import team

    net.fit(X, y, epochs=1, batch_size=batch_size)
    spaces = [space for idle in net._engine._idle.values() for space in idle if len(space.layers) == net.n_threads]
    for space, rank in itertools.product(spaces, range(net.n_threads)):
        space.clocks(rank)[:] = 0
    history = net.fit(X, y, epochs=epochs, batch_size=batch_size)
    space = max(spaces, key=lambda space: space.clocks(0)[team.FIRST_FORWARD])
    cycles = [(space.clocks(rank)[:-1] / epochs).tolist() for rank in range(net.n_threads)]
    return {
        "seconds": sum(history.seconds) / epochs,
        "cycles": [dict(zip(team.PHASES, own, strict=True)) for own in cycles],
    }


def count_phases(kind, layers, batch_size, n_threads, epochs):
    """Return what `count_cycles` does for one network, and what its rows are."""
    X, y, settings = rows(kind)
    net = fastmlp.MLP(layers, n_threads=n_threads, **settings)
    return count_cycles(net, X, y, batch_size, epochs) | {
        "rows": len(y),
        "nonzero": count_nonzero(X),
        "pairs": 0 if kind == "csr" else int(np.count_nonzero(np.logical_or(X[:, ::2], X[:, 1::2]))),
    }


def phases(kind, layers, batch_size, n_threads, epochs):
    """Call `count_phases` in a process that uses the profiled build."""
    given = json.dumps([kind, layers, batch_size, n_threads, epochs])
    command = [sys.executable, "-m", "benchmarks.performance", "--count", given]
    done = subprocess.run(command, env=os.environ | {"FASTMLP_PROFILED": "1"}, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def work(kind, layers, n_rows, n_nonzero, n_pairs):
    """Return the FLOP of each phase of an epoch, and the bytes that it must read from memory.

    Text reads a row of weights for each nonzero, and the update also writes it. Much of that is in the third cache, so
    the bandwidth of memory is no bound for text.
    """
    n_first = n_rows * layers[0] if kind == "dense" else n_nonzero
    first = 2 * n_first * layers[1]
    others = sum(2 * n_rows * fan_in * fan_out for fan_in, fan_out in itertools.pairwise(layers[1:]))
    flops = {
        "first forward": first, "forward": others, "backward": others, "first update": first, "update": others,
    }  # fmt: skip
    masks = n_rows * buffers(1, layers[0], 0).masks * WORD
    weights = n_nonzero * -(-layers[1] * FLOAT // LINE) * LINE
    read = {
        "packed": {"first forward": n_pairs * 2 * FLOAT + masks},
        "dense": {"first forward": n_rows * layers[0] * FLOAT},
        "bytes": {"load": n_rows * layers[0]},
        "csr": {"first forward": weights, "first update": 2 * weights},
    }
    return flops, read[kind]


def print_phases(kind, layers, batch_size, n_threads, epochs):
    """Print the table of one network's phases."""
    peak, bandwidth = fma_peak(n_threads=n_threads), read_bandwidth(n_threads)
    found = phases(kind, layers, batch_size, n_threads, epochs)
    peak = max(peak, fma_peak(n_threads=n_threads))
    flops, n_bytes = work(kind, layers, found["rows"], found["nonzero"], found["pairs"])
    steps = -(-found["rows"] // batch_size)
    names = [name for name in found["cycles"][0] if name != "outside"]
    cycles = {name: sum(own[name] for own in found["cycles"]) / n_threads for name in names}
    seconds_of_a_cycle = found["seconds"] / sum(cycles.values())
    network, threads = "-".join(map(str, layers)), f"{n_threads} thread{'s' * (n_threads > 1)}"
    print(f"\n{KINDS[kind]}, {network}, batch {batch_size}, {threads}: {1e3 * found['seconds']:.1f} ms an epoch\n")
    print("| phase | ms | of the epoch | GFLOP/s | of peak | KB a step | GB/s | bound, ms | of bound | cycles |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    total = 0.0
    for name in names:
        seconds = cycles[name] * seconds_of_a_cycle
        flop, n_read = flops.get(name, 0), n_bytes.get(name, 0)
        bound = max(flop / peak, 0.0 if kind == "csr" else n_read / bandwidth)
        total += bound
        counted = {"first forward": found["nonzero"], "first update": found["nonzero"]}
        each = cycles[name] * n_threads / (counted.get(name) or found["rows"])
        cells = [
            name,
            f"{1e3 * seconds:.2f}",
            f"{cycles[name] / sum(cycles.values()):.1%}",
            f"{flop / seconds / 1e9:.1f}" if flop else "",
            f"{flop / seconds / peak:.1%}" if flop else "",
            f"{n_read / steps / 1e3:.0f}" if n_read else "",
            f"{n_read / seconds / 1e9:.1f}" if n_read else "",
            f"{1e3 * bound:.2f}" if bound else "",
            f"{bound / seconds:.1%}" if bound else "",
            f"{each:.1f} a {'nonzero' if name in counted else 'row'}",
        ]
        print(f"| {' | '.join(cells)} |")
    print(f"| all | {1e3 * found['seconds']:.2f} | | | | | | {1e3 * total:.2f} | {total / found['seconds']:.1%} | |")
    print(
        f"\nPeak {peak / 1e9:.1f} GFLOP/s, memory {bandwidth / 1e9:.1f} GB/s, on {threads}, measured in the same run."
    )


# --- growth -----------------------------------------------------------------------------------------------------------


def best_epoch(X, y, layers, batch_size=64, n_threads=None, epochs=2):
    """Return the seconds of the fastest epoch of some fits, after one that compiles."""
    net = fastmlp.MLP(layers, n_threads=n_threads)
    fits = [net.fit(X, y, epochs=epochs, batch_size=batch_size, learning_rate=0.01) for _ in range(FITS + 1)]
    return min(second for fit in fits[1:] for second in fit.seconds)


def print_growth(title, head, cases, n_threads):
    """Print a table of how an epoch grows, with a line for each case (name, X, y, layers, threads)."""
    print(f"\n{title}\n\n| {head} | ms an epoch | ns a row | GFLOP/s | of peak |\n|---|---|---|---|---|")
    for name, X, y, layers, threads in cases:
        size = threads or n_threads
        peak = fma_peak(n_threads=size)
        seconds = best_epoch(X, y, layers, n_threads=size)
        rate = epoch_flops(layers, len(X), count_nonzero(X)) / seconds
        cells = [
            name, f"{1e3 * seconds:.2f}", f"{1e9 * seconds / len(X):.0f}", f"{rate / 1e9:.1f}", f"{rate / peak:.1%}",
        ]  # fmt: skip
        print(f"| {' | '.join(cells)} |", flush=True)


def growth(n_threads):
    """Print how an epoch grows with rows, width, depth, density and threads."""
    X, y, _ = rows("packed")
    full, *_ = rows("dense")
    net = (784, 128, 10)
    cut = [(f"{len(y) // part:,}", X[: len(y) // part], y[: len(y) // part], net, None) for part in (16, 8, 4, 2, 1)]
    print_growth("Rows: MNIST cut, 784-128-10", "rows", cut, n_threads)
    widths = (32, 64, 128, 256, 512, 1024)
    print_growth(
        "Width: MNIST, 784-n-10", "hidden units", [(f"{n}", X, y, (784, n, 10), None) for n in widths], n_threads
    )
    few = slice(0, 15_000)
    deep = [(f"{n}", X[few], y[few], (784, *[128] * n, 10), None) for n in (1, 2, 4, 8)]
    print_growth("Depth: 15,000 rows of MNIST, hidden layers of 128", "hidden layers", deep, n_threads)
    generator = np.random.default_rng(0)
    kept = generator.random(full.shape, dtype=np.float32)
    densities = [
        (f"{part:.0%}", full * (kept < part), y, net, None) for part in (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0)
    ]
    print_growth("Density: pixels set to zero at random, 784-128-10", "not zero", densities, n_threads)
    for zeros, data in (("with its zeros", X), ("without zeros", full)):
        threads = [(f"{n}", data, y, net, n) for n in range(1, available_threads() + 1)]
        print_growth(f"Threads: MNIST {zeros}, 784-128-10", "threads", threads, n_threads)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10, help="of each table of phases (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=available_threads(), help="of the tables of growth")
    parser.add_argument("--only", choices=("phases", "growth"))
    parser.add_argument("--count", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.count:
        print(json.dumps(count_phases(*json.loads(options.count))))
        return
    print(describe())
    if options.only != "growth":
        for kind in ("packed", "dense", "bytes"):
            print_phases(kind, (784, 128, 10), 64, 1, options.epochs)
        if options.threads > 1:
            print_phases("packed", (784, 128, 10), 64, options.threads, options.epochs)
        print_phases("packed", (784, 512, 128, 10), 64, 1, max(1, options.epochs // 5))
        print_phases("csr", (N_FEATURES, 100, N_CLASSES), 200, options.threads, options.epochs)
    if options.only != "phases":
        growth(options.threads)


if __name__ == "__main__":
    main()

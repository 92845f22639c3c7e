"""`fit_many` on MNIST, 784-128-10: its time beside fits one after another, and the memory that each network adds.

python -m benchmarks.many [--networks N] [--epochs N] [--runs N]
"""

import argparse
import subprocess
import sys
import time

import numpy as np

from fastmlp import MLP, datasets, fit_many
from fastmlp.bench.machine import describe

from .memory import reset_peak, resident_bytes

LAYERS = [784, 128, 10]


def networks(n, **settings):
    return [MLP(LAYERS, seed=seed, **settings) for seed in range(n)]


def one_after_another(X, y, n, epochs, n_threads):
    nets = networks(n, n_threads=n_threads)
    for net in nets:
        net.fit(X, y, epochs=epochs)
    return nets


def together(X, y, n, epochs):
    nets = networks(n)
    fit_many(nets, X, y, epochs=epochs)
    return nets


def print_times(X, y, n, epochs, runs):
    """Print the seconds of each way, in turns, and check that all give the same bits."""
    ways = {
        "one after another, one thread": lambda: one_after_another(X, y, n, epochs, 1),
        "one after another, teams": lambda: one_after_another(X, y, n, epochs, None),
        "fit_many": lambda: together(X, y, n, epochs),
    }
    taken, bits = {name: [] for name in ways}, set()
    for _ in range(runs):
        for name, train in ways.items():
            start = time.perf_counter()
            nets = train()
            taken[name].append(time.perf_counter() - start)
            bits.add(b"".join(net.weights[0].tobytes() for net in nets))
    equal = "are equal" if len(bits) == 1 else "DIFFER"
    print(f"{n} networks, {epochs} epochs each, {runs} runs in turns; the bits {equal}")
    first = taken["one after another, one thread"]
    for name, seconds in taken.items():
        ratios = np.divide(seconds, first)
        print(
            f"{name:31} best {min(seconds):.2f} s, median {np.median(seconds):.2f} s; "
            f"of the time on one thread: best {min(seconds) / min(first):.2f}, median {np.median(ratios):.2f}"
        )


def print_peak(n, epochs):
    """Print the bytes that `n` networks take besides the data, in this process."""
    X, y, *_ = datasets.load_mnist()
    fit_many(networks(1), X[:64], y[:64], epochs=1)  # compiles
    reset_peak()
    before = resident_bytes("VmRSS")
    fit_many(networks(n), X, y, epochs=epochs)
    print(resident_bytes("VmHWM") - before)


def peak(n, epochs):
    """Return the bytes that `n` networks take besides the data, in a process of their own."""
    command = [sys.executable, "-m", "benchmarks.many", "--peak", str(n), "--epochs", str(epochs)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print_peak(options.peak, options.epochs)
        return
    print(describe())
    X, y, *_ = datasets.load_mnist()
    fit_many(networks(2), X[:256], y[:256], epochs=1)
    print_times(X, y, options.networks, options.epochs, options.runs)
    n = 1
    before = peak(n, options.epochs)
    print(f"memory besides the data: {before / 1e6:.1f} MB for 1 network", end="")
    while n < options.networks:
        n *= 2
        now = peak(n, options.epochs)
        print(f", {now / 1e6:.1f} MB for {n} ({2 * (now - before) / n / 1e6:.1f} MB for each further one)", end="")
        before = now
    print()


if __name__ == "__main__":
    main()

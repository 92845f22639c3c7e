"""Epochs of `fit` on rows without zeros, shuffling included, as a share of the FMA peak.

python -m benchmarks.dense [--threads N] [--runs N]
"""

import argparse
import statistics

import numpy as np

from fastmlp import MLP
from fastmlp.bench.flops import epoch_flops
from fastmlp.bench.machine import describe, fma_peak

WORK = [  # layers, rows, batch size
    ([784, 128, 10], 60_000, 64),
    ([784, 128, 64, 10], 60_000, 64),
    ([784, 1024, 1024, 10], 15_360, 256),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=5, help="fits of 3 epochs; the peak is measured before each")
    options = parser.parse_args()
    print(describe())
    print("network                  batch  threads  epoch, s (best, median)  share of peak (best, median)")
    generator = np.random.default_rng(0)
    X = generator.standard_normal((60_000, 784), dtype=np.float32)
    y = generator.integers(0, 10, len(X))
    for layers, n_rows, batch_size in WORK:
        net = MLP(layers, n_threads=options.threads)
        settings = {"batch_size": batch_size, "learning_rate": 1e-3}
        net.fit(X[: 4 * batch_size], y[: 4 * batch_size], epochs=1, **settings)  # compiles
        seconds, peak = [], 0.0
        for _ in range(options.runs):
            peak = max(peak, fma_peak() * options.threads)
            seconds += net.fit(X[:n_rows], y[:n_rows], epochs=3, **settings).seconds
        shares = [epoch_flops(layers, n_rows) / s / peak for s in (min(seconds), statistics.median(seconds))]
        name = "-".join(map(str, layers))
        print(
            f"{name:24} {batch_size:5}  {options.threads:7}  {min(seconds):9.4f} {statistics.median(seconds):10.4f}"
            f"     {shares[0]:13.1%} {shares[1]:8.1%}"
        )


if __name__ == "__main__":
    main()

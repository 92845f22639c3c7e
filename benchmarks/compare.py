"""Compare whole trainings with NumPy, PyTorch, JAX and scikit-learn, in float32 and on all cores.

python -m benchmarks.compare [--works NAME ...] [--runs N]

The libraries take turns. Those that are not installed are skipped. One that does not come to the loss of fastmlp (see
`fastmlp.bench.turns`) gets an error instead of a time. The time of a whole training is divided by its
epochs. The dense limit is the time of all multiply-adds, those with zeros included, at the measured FMA peak.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastmlp import MLP, datasets
from fastmlp.bench.flops import epoch_flops
from fastmlp.bench.machine import describe, facts
from fastmlp.bench.peers import JAX, FastMLP, NumPy, PyTorch, ScikitLearn, Task, available
from fastmlp.bench.report import reasons_not_to_quote, unit_of
from fastmlp.bench.turns import PAUSE, take_turns
from fastmlp.engine.cores import available_threads

from .text import bag_of_words

ALL = (NumPy, PyTorch, JAX, ScikitLearn)


# --- data -------------------------------------------------------------------------------------------------------------


def mnist():
    return datasets.load_mnist()[:2]


def digits():
    return datasets.load_digits()[:2]


def xor():
    return datasets.load_xor()[:2]


def planted(n_rows, n_features, n_classes):
    """Return normally distributed rows. The class of a row is the random direction in which it is largest."""
    generator = np.random.default_rng(0)
    X = generator.standard_normal((n_rows, n_features), dtype=np.float32)
    return X, (X @ generator.standard_normal((n_features, n_classes), dtype=np.float32)).argmax(axis=1)


# --- training ---------------------------------------------------------------------------------------------------------


@dataclass
class Work:
    """A training task, its data, and the peers to compare with."""

    data: Callable
    task: Task
    peers: tuple = ALL


TRAININGS = {
    "mnist": Work(mnist, Task((784, 128, 10), 64)),
    "mnist-deep": Work(mnist, Task((784, 128, 64, 10), 64)),
    "mnist-b32": Work(mnist, Task((784, 128, 10), 32)),
    "mnist-b256": Work(mnist, Task((784, 128, 10), 256)),
    "mnist-adam": Work(mnist, Task((784, 128, 10), 64, rate=1e-3, optimizer="adam"), (PyTorch, ScikitLearn)),
    "mnist-wide": Work(mnist, Task((784, 1024, 1024, 10), 256, epochs=1)),
    "dense": Work(lambda: planted(60_000, 784, 10), Task((784, 128, 10), 64, rate=0.01)),
    "tabular": Work(lambda: planted(100_000, 30, 2), Task((30, 100, 100, 2), 128)),
    "csr": Work(bag_of_words, Task((50_000, 128, 20), 64, epochs=1), (ScikitLearn,)),
    "digits": Work(digits, Task((64, 32, 10), 1_437, epochs=1_000, shuffle=False)),
    "xor": Work(xor, Task((2, 4, 2), 4, rate=0.5, epochs=5_000, activation="logistic", shuffle=False), ALL[:-1]),
}


def compare_training(name, installed, runs):
    """Print the table of one task; return whether every peer did the same work."""
    work = TRAININGS[name]
    X, y = work.data()
    task = work.task
    layers, epochs = "-".join(map(str, task.layers)), f"{task.epochs:,} epoch{'s' * (task.epochs > 1)}"
    print(f"\n{name}: {X.shape[0]:,} rows, {layers} {task.activation}, batch {task.batch_size:,}, {epochs}")
    peers = [FastMLP(), *(peer for peer in installed if isinstance(peer, work.peers))]
    turns = take_turns(peers, X, y, task, runs)
    scale, unit = unit_of(turns.best("fastmlp"))
    print_table(f"epoch, {unit}", scale, turns.seconds, turns.errors)
    used = statistics.fmean(turns.others) if turns.others else None
    spreads = {name: turns.spread(name) for name in turns.seconds}
    for line in reasons_not_to_quote(used, available_threads(), facts()["own_cores"], spreads):
        print(f"    {line}")
    if isinstance(X, np.ndarray):
        print_limit(turns.seconds["fastmlp"], epoch_flops(task.layers, len(X)), turns.peak)
    return not turns.errors


def print_table(title, scale, times, errors):
    """Print the best and median times, and their ratios to those of fastmlp."""
    own_best, own_median = min(times["fastmlp"]), statistics.median(times["fastmlp"])
    print(f"    {'':16} {title:>12} (best, median)   times fastmlp (best, median)")
    for name, seconds in times.items():
        best, median = min(seconds), statistics.median(seconds)
        ratios = f"{best / own_best:16.2f} {median / own_median:8.2f}"
        print(f"    {name:16} {scale * best:12.5g} {scale * median:12.5g}   {ratios}")
    for name, error in errors.items():
        print(f"    {name:16} ERROR: {error}")
    others = {name: min(seconds) / own_best for name, seconds in times.items() if name != "fastmlp"}
    if others:
        fastest = min(others, key=others.get)
        pytorch = f"; PyTorch / fastmlp {others['PyTorch']:.2f}" if "PyTorch" in others else ""
        print(f"    fastest peer / fastmlp {others[fastest]:.2f} ({fastest}){pytorch}")


def print_limit(seconds, flops, peak):
    """Print the dense limit, and the time of fastmlp as a multiple of it."""
    cores = available_threads()
    limit = flops / (peak * cores)
    scale, unit = unit_of(min(seconds))
    print(
        f"    fastmlp / dense limit {min(seconds) / limit:.2f}: "
        f"{scale * limit:.4g} {unit} at {cores} x {peak / 1e9:.0f} GFLOP/s, measured in the same run"
    )


# --- other tasks ------------------------------------------------------------------------------------------------------


def compare_prediction(installed, runs):
    """Print the times of predicting probabilities, for many rows and for one."""
    X, y, X_test, _ = datasets.load_mnist()
    task = TRAININGS["mnist"].task
    net = MLP(task.layers)
    net.fit(X, y, epochs=1)
    peers, errors = [FastMLP(), *installed], {}
    for rows, unit, scale, seconds in ((X_test, "ms", 1e3, 0.1), (X_test[:1], "µs", 1e6, 0.3)):
        print(f"\npredict: probabilities of {len(rows):,} row{'s' * (len(rows) > 1)}, 784-128-10, each run a median")
        times = {}
        for _ in range(runs):
            for peer in peers:
                predict = peer.prepare_inference(rows, task, net.weights, net.biases)
                difference = np.abs(np.asarray(predict()) - net.predict_proba(rows)).max()
                if not difference <= 1e-4:
                    errors[peer.name] = f"probabilities differ by {difference:.1e}"
                    times.pop(peer.name, None)
                    continue
                times.setdefault(peer.name, []).append(median_call(predict, seconds))
        print_table(f"a call, {unit}", scale, times, errors)
    return not errors


def median_call(call, seconds):
    """Return the median time of a call, over at least five calls and at least some seconds."""
    time.sleep(PAUSE)
    times, end = [], time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def compare_threads(installed, runs):
    """Print the times of fastmlp with one thread and with one thread for each core."""
    X, y = mnist()
    task = TRAININGS["mnist"].task
    print(f"\nthreads: mnist, {task.epochs} epochs")
    peers = [FastMLP(n_threads) for n_threads in sorted({1, available_threads()})]
    turns = take_turns(peers, X, y, task, runs)
    times = turns.seconds
    one = next(iter(times.values()))
    print(f"    {'':24} epoch, ms (best, median)   speedup (best, median)")
    for name, seconds in times.items():
        best, median = min(seconds), statistics.median(seconds)
        print(
            f"    {name:24} {1e3 * best:9.2f} {1e3 * median:14.2f}"
            f"   {min(one) / best:10.2f} {statistics.median(one) / median:8.2f}"
        )
    return not turns.errors


def compare_sizes(installed, runs):
    """Print the time per row of fastmlp, on a part of MNIST, all of it, and ten copies of it."""
    X, y = mnist()
    task = TRAININGS["mnist"].task
    peer = FastMLP()
    sizes = (len(X) // 10, len(X), 10 * len(X))
    X, y = np.tile(X, (10, 1)), np.tile(y, 10)
    net = MLP(task.layers)
    times = {size: [] for size in sizes}
    for run in range(runs + 1):
        for size in sizes if run else sizes[:1]:
            train_once = peer.prepare(X[:size], y[:size], task, net.weights, net.biases)
            time.sleep(PAUSE)
            begin = time.perf_counter()
            train_once()
            if run:
                times[size].append((time.perf_counter() - begin) / task.epochs / size)
    print(f"\nlinear: MNIST cut and tiled, {task.epochs} epochs")
    print("        rows     a row, µs (best, median)    epoch, s (best, median)")
    for size, seconds in times.items():
        best, median = min(seconds), statistics.median(seconds)
        print(f"    {size:8,} {1e6 * best:13.3f} {1e6 * median:12.3f} {size * best:15.4f} {size * median:10.4f}")
    return True


def main():
    others = {"predict": compare_prediction, "threads": compare_threads, "linear": compare_sizes}
    names = [*TRAININGS, *others]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--works", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    print(describe())
    installed, missing = available(ALL)
    for peer, reason in missing.items():
        print(f"{peer} is not installed: {reason}")
    versions = [f"{peer.name} {peer.version}" for peer in (FastMLP(), *installed)]
    print(f"{', '.join(versions)}; {available_threads()} threads")
    good = True
    for name in options.works:
        arguments = (installed, options.runs)
        good &= others[name](*arguments) if name in others else compare_training(name, *arguments)
    sys.exit(0 if good else "a peer did not do the same work")


if __name__ == "__main__":
    main()

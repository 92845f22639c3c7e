"""How fastmlp uses the cores of this machine: prints tables of docs/performance.md and docs/bottlenecks.md.

python -m benchmarks.scaling [--threads 1,2,4] [--runs N] [--networks NAME,NAME] [--peers] [--quick]

Each network trains with 1, 2, 4 and so on up to all cores, and with the number of threads that fastmlp finds. They
take turns, and the fastest run counts. A time is that of a whole fit, with checking and packing, divided by its epochs.
Nothing is downloaded. Where a data set is missing, rows of the same shape and with as many zeros take its place.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache

import numpy as np

import fastmlp
from fastmlp import datasets
from fastmlp.bench.machine import describe
from fastmlp.bench.peers import JAX, FastMLP, PyTorch, ScikitLearn, Task, available
from fastmlp.bench.turns import take_turns
from fastmlp.engine import team_size
from fastmlp.engine.cores import available_threads

from .compare import median_call, planted
from .performance import count_cycles

AUTOMATIC = "automatic"
QUICK_ROWS = 15_360  # of the wide network, 60 batches
PREDICTED = 10_000  # rows
TEST_SECONDS = 0.1  # of a measurement of predictions


# --- data -------------------------------------------------------------------------------------------------------------


def like_images(n_rows, n_features, n_classes, density):
    """Return rows with many zeros: each has some numbers in runs, more often in the middle, as a pen's strokes are."""
    generator = np.random.default_rng(0)
    at = np.linspace(-1, 1, n_features)
    likely = np.exp(-3 * at**2)
    smooth = generator.standard_normal((n_rows, n_features // 4 + 1), dtype=np.float32)
    smooth = np.repeat(smooth, 4, axis=1)[:, :n_features]  # runs of four
    X = generator.random((n_rows, n_features), dtype=np.float32)
    score = smooth + likely
    X[score < np.quantile(score[: min(n_rows, 1000)], 1 - density)] = 0
    return X, (X @ generator.standard_normal((n_features, n_classes), dtype=np.float32)).argmax(axis=1)


@cache
def mnist():
    """Return a name, rows and labels."""
    try:
        return "MNIST", *datasets.load_mnist()[:2]
    except (OSError, ImportError):
        return "stand-in for MNIST", *like_images(60_000, 784, 10, 0.191)


@cache
def digits():
    try:
        return "digits", *datasets.load_digits()[:2]
    except (OSError, ImportError):
        return "stand-in for digits", *like_images(1_437, 64, 10, 0.51)


@cache
def noise():
    return "noise without zeros", *planted(60_000, 784, 10)


@cache
def tabular():
    return "tabular", *planted(100_000, 30, 2)


@dataclass(frozen=True)
class Net:
    """A network and its training."""

    data: object
    layers: tuple
    batch_size: int
    epochs: int
    rate: float = 0.1
    quick_epochs: int = 2
    cut: bool = False  # whether a quick run takes few rows

    def rows(self, quick):
        """Return a name, rows and labels."""
        name, X, y = self.data()
        return (f"{name}, {QUICK_ROWS:,} rows", X[:QUICK_ROWS], y[:QUICK_ROWS]) if self.cut and quick else (name, X, y)


NETWORKS = {
    "mnist": Net(mnist, (784, 128, 10), 64, 5, quick_epochs=3),
    "mnist-b256": Net(mnist, (784, 128, 10), 256, 5, quick_epochs=3),
    "mnist-deep": Net(mnist, (784, 128, 64, 10), 64, 5),
    "mnist-300": Net(mnist, (784, 300, 100, 10), 100, 3),
    "wide": Net(mnist, (784, 1024, 1024, 10), 256, 1, quick_epochs=1, cut=True),
    "noise": Net(noise, (784, 128, 10), 64, 3, rate=0.01),
    "tabular": Net(tabular, (30, 100, 100, 2), 128, 4),
    "digits": Net(digits, (64, 32, 10), 64, 300, quick_epochs=100),
}


def print_table(title, head, rows):
    """Print a table in markdown."""
    print(f"\n{title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def in_words(size):
    return f"{size} thread{'s' * (size != 1)}"


# --- training ---------------------------------------------------------------------------------------------------------


def seconds_of_fits(net, sizes, runs, quick):
    """Return the seconds of an epoch for each number of threads, of a fit that finds it, and of fits after that."""
    _, X, y = net.rows(quick)
    epochs = net.quick_epochs if quick else net.epochs
    fit = {"epochs": epochs, "batch_size": net.batch_size, "learning_rate": net.rate}
    fastmlp.MLP(net.layers, n_threads=1).fit(X[:256], y[:256], epochs=1, batch_size=64)  # compiles
    best = {}
    for run in range(runs):
        team_size.forget()
        for size in [*sizes, "first", AUTOMATIC]:
            model = fastmlp.MLP(net.layers, n_threads=size if isinstance(size, int) else None)
            begin = time.perf_counter()
            model.fit(X, y, **fit)
            seconds = (time.perf_counter() - begin) / epochs
            best[size] = min(seconds, best.get(size, seconds))
        print(f"{net.layers}, run {run + 1} of {runs}", file=sys.stderr)
    return best


def print_training(names, sizes, runs, quick):
    """Print the table of all networks."""
    rows = []
    for name in names:
        net = NETWORKS[name]
        found = seconds_of_fits(net, sizes, runs, quick)
        ratio = found[AUTOMATIC] / min(found[size] for size in sizes)
        title = f"{net.rows(quick)[0]}, {'-'.join(map(str, net.layers))}, batch {net.batch_size}"
        rows.append([title, *(f"{1e3 * found[key]:.3g}" for key in [*sizes, "first", AUTOMATIC]), f"{ratio:.2f}"])
    head = ["network", *map(str, sizes), "automatic, first fit", "automatic", "of the best"]
    print_table("Training, ms an epoch, by number of threads", head, rows)


# --- predictions ------------------------------------------------------------------------------------------------------


def print_predictions(sizes, runs, peers):
    """Print the table of predictions, of many rows and of one."""
    name, X, _ = mnist()
    X, task = X[:PREDICTED], Task((784, 128, 10), 64)
    net = fastmlp.MLP(task.layers)
    ours = [FastMLP(size) for size in sizes] + [FastMLP(None, name=AUTOMATIC)]
    rows = []
    for n_rows, unit, scale in ((PREDICTED, "ms", 1e3), (1, "µs", 1e6)):
        best = {}
        for _ in range(runs):
            for peer in [*ours, *peers]:
                predict = peer.prepare_inference(X[:n_rows], task, net.weights, net.biases)
                for _ in range(40 if peer.name == AUTOMATIC else 1):  # it learns
                    predict()
                seconds = median_call(predict, TEST_SECONDS)
                best[peer.name] = min(seconds, best.get(peer.name, seconds))
        rows.append([f"{n_rows:,} of {name}, {unit}", *(f"{scale * seconds:.3g}" for seconds in best.values())])
    print_table(
        "Predictions of probabilities, 784-128-10, by number of threads",
        ["rows", *map(str, sizes), AUTOMATIC, *(peer.name for peer in peers)],
        rows,
    )


# --- fits at once -----------------------------------------------------------------------------------------------------


def seconds_at_once(n_fits, n_threads, epochs):
    """Return the seconds of an epoch of one of some fits that run at the same time."""
    _, X, y = mnist()
    nets = [fastmlp.MLP((784, 128, 10), n_threads=n_threads, seed=seed) for seed in range(n_fits)]
    begin = time.perf_counter()
    fastmlp.fit_many(nets, X, y, n_jobs=n_fits, epochs=epochs, batch_size=64)
    return (time.perf_counter() - begin) / (n_fits * epochs)


def print_at_once(sizes, runs, epochs):
    """Print the table of fits at the same time."""
    rows = []
    for name, n_threads in (("one thread each", 1), (AUTOMATIC, None)):
        best = [min(seconds_at_once(n_fits, n_threads, epochs) for _ in range(runs)) for n_fits in sizes]
        rows.append([name, *(f"{1e3 * seconds:.3g}" for seconds in best)])
    title = f"Fits at the same time by fit_many, {mnist()[0]}, 784-128-10, batch 64: ms a network and epoch"
    print_table(title, ["threads of a fit", *(f"{n} fit{'s' * (n > 1)}" for n in sizes)], rows)


# --- phases -----------------------------------------------------------------------------------------------------------


def count(name, sizes, epochs, quick):
    """Return what `count_cycles` does for each number of threads."""
    net = NETWORKS[name]
    _, X, y = net.rows(quick)
    return [count_cycles(fastmlp.MLP(net.layers, n_threads=size), X, y, net.batch_size, epochs) for size in sizes]


def print_phases(name, sizes, epochs, quick):
    """Print the milliseconds of each phase, by number of threads: the mean over its threads, the least and the most.

    The kernels count them in their profiled build, which runs in a process of its own.
    """
    given = json.dumps([name, sizes, epochs, quick])
    command = [sys.executable, "-m", "benchmarks.scaling", "--count", given]
    done = subprocess.run(command, env=os.environ | {"FASTMLP_PROFILED": "1"}, check=True, stdout=subprocess.PIPE)
    rows = []
    for size, found in zip(sizes, json.loads(done.stdout), strict=True):
        phases = [phase for phase in found["cycles"][0] if phase != "outside"]
        total = sum(own[phase] for own in found["cycles"] for phase in phases) / size
        cells = []
        for phase in phases:
            own = sorted(1e3 * found["seconds"] * cycles[phase] / max(total, 1) for cycles in found["cycles"])
            spread = f" ({own[0]:.1f} to {own[-1]:.1f})" if own[-1] - own[0] > 0.2 * own[-1] > 0.2 else ""
            cells.append(f"{sum(own) / size:.1f}{spread}")
        rows.append([str(size), f"{1e3 * found['seconds']:.1f}", *cells])
    net = NETWORKS[name]
    title = f"{net.rows(quick)[0]}, {'-'.join(map(str, net.layers))}, batch {net.batch_size}"
    print_table(f"Phases, ms an epoch: {title}", ["threads", "all", *phases], rows)


# --- peers ------------------------------------------------------------------------------------------------------------


def print_peers(names, peers, runs, quick):
    """Print the table of all networks, with other libraries on all cores."""
    rows, names_of_peers = [], ["fastmlp", *(peer.name for peer in peers)]
    for name in names:
        net = NETWORKS[name]
        title, X, y = net.rows(quick)
        epochs = 1 if quick and name != "digits" else net.quick_epochs
        task = Task(net.layers, net.batch_size, rate=net.rate, epochs=epochs)
        turns = take_turns([FastMLP(), *peers], X, y, task, runs)
        cells = [f"{1e3 * turns.best(peer):.3g}" if peer in turns.seconds else "" for peer in names_of_peers]
        rows.append([f"{title}, {'-'.join(map(str, net.layers))}, batch {net.batch_size}", *cells])
        for peer, error in turns.errors.items():
            print(f"{name}, {peer}: {error}", file=sys.stderr)
    print_table("Training, ms an epoch, all libraries on all cores", ["network", *names_of_peers], rows)


def powers_of_two(most):
    """Return 1, 2, 4 and so on, and the most."""
    return [1 << i for i in range(most.bit_length()) if 1 << i < most] + [most]


def parse(arguments=None):
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = lambda text: [int(number) for number in text.split(",")]  # noqa: E731
    parser.add_argument("--threads", type=numbers, default=powers_of_two(available_threads()), metavar="1,2,4")
    parser.add_argument("--runs", type=int, help="the fastest counts (default: 3, or 2 with --quick)")
    parser.add_argument("--networks", type=lambda text: text.split(","), default=list(NETWORKS), metavar="NAME,NAME")
    parser.add_argument("--peers", action="store_true", help="other libraries that are installed, too")
    parser.add_argument("--quick", action="store_true", help="fewer epochs: about a minute on 16 cores")
    parser.add_argument("--count", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.networks) - NETWORKS.keys())
    if unknown:
        parser.error(f"unknown networks: {', '.join(unknown)}; there are {', '.join(NETWORKS)}")
    options.runs = options.runs or (2 if options.quick else 3)
    return options


def load():
    return f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""


def main():
    options = parse()
    if options.count:
        print(json.dumps(count(*json.loads(options.count))))
        return
    peers, missing = available((PyTorch, JAX, ScikitLearn)) if options.peers else ([], {})
    print(f"{describe()}, {in_words(available_threads())} available, {load()}")
    print(", ".join(f"{peer.name} {peer.version}" for peer in (FastMLP(), *peers)))
    for peer, reason in missing.items():
        print(f"{peer} is not installed: {reason}", file=sys.stderr)
    sizes, runs, quick = options.threads, options.runs, options.quick
    print_training(options.networks, sizes, runs, quick)
    print_predictions(sizes, runs, peers)
    print_at_once(sizes, 1 if quick else runs, 2 if quick else 4)
    print_phases("mnist", sizes, 3, quick)
    if peers:
        print_peers(options.networks, peers, 1 if quick else runs, quick)
    print(f"\n{load()} at the end")


if __name__ == "__main__":
    main()

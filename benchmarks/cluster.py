"""MNIST, 784-128-10, on a cluster of two single-threaded worker processes on this machine.

python -m benchmarks.cluster [--turns N] [--batch-size N]

`fit` is timed in turns with one process with one thread. The time is that of an epoch, the mean of a fit, when the
workers have the rows. "halves" are fits of half of the rows by each worker, at the same time, which never average: no
way of averaging can be faster. "whole" is the time of the whole call, from arrays at the client to a trained network.
"""

import argparse
import time
from collections import defaultdict

import numpy as np

from fastmlp import MLP, datasets
from fastmlp.bench.load import Others
from fastmlp.bench.machine import describe

LAYERS, EPOCHS = [784, 128, 10], 5
NUMBERS = 101_770  # parameters of this network


def shown(seconds):
    return f"best {1e3 * min(seconds):7.1f} ms, median {1e3 * np.median(seconds):7.1f} ms"


# --- one network on rows of several workers ---------------------------------------------------------------------------


def train_half(i, batch_size):
    """Train on half of the rows; return the history."""
    X, y, _, _ = datasets.load_mnist()
    half = slice(i * len(X) // 2, (i + 1) * len(X) // 2)
    return MLP(LAYERS, n_threads=1).fit(X[half], y[half], epochs=EPOCHS, batch_size=batch_size // 2)


def timed_fit(client, way, data, batch_size):
    """Return the seconds of an epoch, and the network."""
    from fastmlp.dask import fit as fit_on

    net, fit = MLP(LAYERS, n_threads=1), {"epochs": EPOCHS, "batch_size": batch_size}
    if way == "halves":
        workers = enumerate(client.nthreads())
        halves = [client.submit(train_half, i, batch_size, workers=[one], pure=False) for i, one in workers]
        histories = client.gather(halves)
    elif way == "one process":
        histories = [net.fit(*data, **fit)]
    else:
        histories = [fit_on(client, net, *data, average_every=way, **fit)]
    return max(np.mean(history.seconds) for history in histories), net


def print_fit(client, turns, only):
    """Print the time of an epoch and the accuracy after some."""
    X, y, X_test, y_test = datasets.load_mnist()
    for batch_size, ways in {64: ("epoch", 50), 1024: ("epoch", "step"), 8192: ("epoch", "step")}.items():
        if only not in (None, batch_size):
            continue
        taken, whole, accuracies = defaultdict(list), defaultdict(list), {}
        for turn in range(1 + turns):
            for way in ("one process", "halves", *ways):
                start = time.perf_counter()
                seconds, net = timed_fit(client, way, (X, y), batch_size)
                if turn:  # in the first one, workers import what they need
                    taken[way].append(seconds)
                    whole[way].append(time.perf_counter() - start)
                accuracies[way] = net.score(X_test, y_test)
        one = np.array(taken["one process"])
        for way, seconds in taken.items():
            ratios = f"{min(seconds) / min(one):.2f}, in a turn {np.median(seconds / one):.2f}"
            rest = "" if way == "halves" else f", whole {1e3 * min(whole[way]):5.0f} ms; {accuracies[way]:.4f}"
            print(f"batch_size {batch_size:5}, {way!r:13}: {shown(seconds)}, of one process {ratios}{rest}")


# --- what it takes to average 400 KB ----------------------------------------------------------------------------------


class Echo:
    """An actor that returns what it gets, or sums it with others by xgboost's all-reduce."""

    def returned(self, array):
        return array

    def reduced(self, settings, turns):
        from xgboost import collective

        taken, array = [], np.ones(NUMBERS, np.float32)
        with collective.CommunicatorContext(**settings):
            for _ in range(turns):
                start = time.perf_counter()
                collective.allreduce(array, collective.Op.SUM)
                taken.append(time.perf_counter() - start)
        return taken


def print_transports(client, turns):
    """Print how long the parameters take to the workers and back, and an all-reduce between them."""
    futures = [client.submit(Echo, actor=True, workers=[one], pure=False) for one in client.nthreads()]
    actors, array, taken = [future.result() for future in futures], np.ones(NUMBERS, np.float32), []
    for _ in range(turns):
        start = time.perf_counter()
        for reply in [actor.returned(array) for actor in actors]:
            reply.result()
        taken.append(time.perf_counter() - start)
    print(f"{array.nbytes} bytes to two actors and back: {shown(taken)}")
    try:
        from xgboost.tracker import RabitTracker
    except ImportError:
        return
    tracker = RabitTracker(n_workers=len(actors), host_ip="127.0.0.1")
    tracker.start()
    replies = [actor.reduced(tracker.worker_args(), turns) for actor in actors]
    print(f"all-reduce of xgboost between two workers: {shown(max((reply.result() for reply in replies), key=sum))}")


def main():
    from distributed import Client, LocalCluster  # here, since asv imports every file of this folder

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--batch-size", type=int, help="only this one of 64, 1024 and 8192")
    arguments = parser.parse_args()
    print(describe())
    others = Others()
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        Client(cluster, direct_to_workers=True) as client,
    ):
        print_transports(client, 40 * arguments.turns)
        print_fit(client, arguments.turns, arguments.batch_size)
    print(f"other programs used {others.cores() or 0:.1f} cores")


if __name__ == "__main__":
    main()

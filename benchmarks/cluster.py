"""MNIST, 784-128-10, on a cluster of two single-threaded worker processes on this machine.

python -m benchmarks.cluster [--turns N]

`fit` is timed in turns with one process with one thread, per epoch, when the workers have the rows.
"""

import argparse
import time

import numpy as np
from distributed import Client, LocalCluster

import fastmlp.dask
from fastmlp import MLP, datasets
from fastmlp.bench.load import Others
from fastmlp.bench.machine import describe

LAYERS, EPOCHS = [784, 128, 10], 5
NUMBERS = 101_770  # parameters of this network


class EachEpoch:
    """Makes a fit in one process stop after each epoch, too, so that each has a time of its own."""

    def on_epoch_end(self, net, fit):
        pass


def shown(seconds):
    return f"best {1e3 * min(seconds):7.1f} ms, median {1e3 * np.median(seconds):7.1f} ms"


# --- one network on rows of several workers ---------------------------------------------------------------------------


def print_fit(client, turns):
    """Print the time of an epoch and the accuracy after some."""
    X, y, X_test, y_test = datasets.load_mnist()
    for batch_size, ways in {64: ("epoch", 50), 1024: ("epoch", "step"), 8192: ("epoch", "step")}.items():
        taken, accuracies = {}, {}
        for _ in range(turns):
            for way in (None, *ways):
                net, fit = MLP(LAYERS, n_threads=1), {"epochs": EPOCHS, "batch_size": batch_size}
                if way is None:
                    history = net.fit(X, y, callbacks=[EachEpoch()], **fit)
                else:
                    history = fastmlp.dask.fit(client, net, X, y, average_every=way, **fit)
                taken.setdefault(way, []).extend(history.seconds[1:])
                accuracies[way] = net.score(X_test, y_test)
        for way, seconds in taken.items():
            name = "one process, one thread" if way is None else f"average_every={way!r}"
            ratio = f"{min(seconds) / min(taken[None]):.2f}, {np.median(seconds) / np.median(taken[None]):.2f}"
            print(
                f"batch_size {batch_size:5}, {name:23}: {shown(seconds)}, of one process {ratio}; {accuracies[way]:.4f}"
            )


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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    print(describe())
    others = Others()
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        Client(cluster, direct_to_workers=True) as client,
    ):
        print_transports(client, 40 * arguments.turns)
        print_fit(client, arguments.turns)
    print(f"other programs used {others.cores() or 0:.1f} cores")


if __name__ == "__main__":
    main()

"""Many networks on a local cluster of Dask, against `fit_many` in one process: ``python -m benchmarks.cluster_many``.

64 networks 784-128-10, 5 epochs of MNIST each. The cluster has as many worker processes of one thread as there are
cores. Both do everything: X is sent to each worker, checked and packed. They take turns. The bits are compared.
"""

import argparse
import copy
import statistics
import time

import numpy as np

from fastmlp import MLP, datasets, fit_many
from fastmlp.bench.machine import describe
from fastmlp.engine.cores import available_threads

from .scaling import load


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--turns", type=int, default=3)
    return parser.parse_args()


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main():
    from distributed import Client, LocalCluster  # here, since asv imports every file of this folder

    from fastmlp.dask import fit_many as fit_many_on

    options, n_workers = parse(), available_threads()
    X, y, *_ = datasets.load_mnist()
    fit = {"epochs": options.epochs, "batch_size": 64, "learning_rate": 0.1}
    print(f"{describe()}, {load()}")
    with (
        LocalCluster(n_workers=n_workers, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        fresh = [MLP([784, 128, 10], seed=seed) for seed in range(options.networks)]
        fit_many_on(client, copy.deepcopy(fresh[: 2 * n_workers]), X, y, epochs=1)  # loads the kernels
        fit_many(copy.deepcopy(fresh[:n_workers]), X, y, epochs=1)
        here, on_cluster = [], []
        for _ in range(options.turns):
            one, other = copy.deepcopy(fresh), copy.deepcopy(fresh)
            here.append(seconds(lambda: fit_many(one, X, y, **fit)))  # noqa: B023
            on_cluster.append(seconds(lambda: fit_many_on(client, other, X, y, **fit)))  # noqa: B023
            for net, same in zip(one, other, strict=True):
                for w, v in zip(net.weights + net.biases, same.weights + same.biases, strict=True):
                    np.testing.assert_array_equal(w, v)
            print(f"one process {here[-1]:6.2f} s, {n_workers} workers {on_cluster[-1]:6.2f} s", flush=True)
    for name, of_all in (("best", min), ("median", statistics.median)):
        one, other = of_all(here), of_all(on_cluster)
        print(f"{name:6} {one:6.2f} s and {other:6.2f} s: {other / one:.2f} of the time")
    print(f"{load()} at the end")


if __name__ == "__main__":
    main()

"""Whole trainings in float32 beside NumPy, PyTorch, JAX and scikit-learn, on all cores, one after the other in turns.

python -m benchmarks.compare [--works NAME ...] [--runs N]

Peers that are not installed are left out. Before it is timed, each peer trains for one epoch without shuffling, from
the same first parameters: a loss over all rows that differs from that of fastmlp by more than 2 %, or after a timed run
an accuracy that differs by more than 3 %, is shown as an error in place of the time. Times are of the whole training,
divided by its epochs; the dense limit is the least time for the multiply-adds, zeros included, at the measured peak.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.dense import epoch_flops
from benchmarks.machine import describe, fma_peak
from benchmarks.peers import JAX, FastMLP, NumPy, PyTorch, ScikitLearn, Task, available
from fastmlp import MLP, datasets
from fastmlp.reference import cross_entropy, forward
from fastmlp.threads import available_threads

LOSS_TOLERANCE, ACCURACY_TOLERANCE = 0.02, 0.03  # another order of the rows alone changes accuracy by 0.018
PAUSE = 0.3  # seconds before a measurement, in which the threads of the last peer stop spinning
CHUNK = 4096
ALL = (NumPy, PyTorch, JAX, ScikitLearn)


class Disagreement(ArithmeticError):
    """A peer has not done the same work."""


# --- data -------------------------------------------------------------------------------------------------------------


def mnist():
    return datasets.load_mnist()[:2]


def digits():
    return datasets.load_digits()[:2]


def xor():
    return datasets.load_xor()[:2]


def planted(n_rows, n_features, n_classes):
    """Return normal rows, and as classes the largest of some random directions."""
    generator = np.random.default_rng(0)
    X = generator.standard_normal((n_rows, n_features), dtype=np.float32)
    return X, (X @ generator.standard_normal((n_features, n_classes), dtype=np.float32)).argmax(axis=1)


def sparse():
    import scipy.sparse

    generator = np.random.default_rng(0)
    X = scipy.sparse.random(20_000, 50_000, 0.001, format="csr", dtype=np.float32, rng=generator)
    return X, (X @ generator.standard_normal((50_000, 20), dtype=np.float32)).argmax(axis=1)


# --- training ---------------------------------------------------------------------------------------------------------


@dataclass
class Work:
    """What is trained on which data, beside whom."""

    data: Callable
    task: Task
    peers: tuple = ALL
    accuracy_tolerance: float = ACCURACY_TOLERANCE


TRAININGS = {
    "mnist": Work(mnist, Task((784, 128, 10), 64)),
    "mnist-deep": Work(mnist, Task((784, 128, 64, 10), 64)),
    "mnist-b32": Work(mnist, Task((784, 128, 10), 32)),
    "mnist-b256": Work(mnist, Task((784, 128, 10), 256)),
    "mnist-wide": Work(mnist, Task((784, 1024, 1024, 10), 256, epochs=1)),
    "dense": Work(lambda: planted(60_000, 784, 10), Task((784, 128, 10), 64, rate=0.01)),
    "tabular": Work(lambda: planted(100_000, 30, 2), Task((30, 100, 100, 2), 128)),
    # After one epoch on text the accuracy hangs on the order of the rows; the check without shuffling stands.
    "csr": Work(sparse, Task((50_000, 128, 20), 64, epochs=1), (ScikitLearn,), accuracy_tolerance=1.0),
    "digits": Work(digits, Task((64, 32, 10), 1_437, epochs=1_000, shuffle=False)),
    "xor": Work(xor, Task((2, 4, 2), 4, rate=0.5, epochs=5_000, activation="logistic", shuffle=False), ALL[:-1]),
}


def evaluate(X, y, task, weights, biases):
    """Return the mean loss and the accuracy, the same way for every peer."""
    loss, hits = 0.0, 0
    for start in range(0, len(y), CHUNK):
        rows = slice(start, start + CHUNK)
        logits = forward(X[rows], weights, biases, task.activation)[-1]
        loss += float(cross_entropy(logits, y[rows]).sum(dtype=np.float64))
        hits += int((logits.argmax(axis=1) == y[rows]).sum())
    return loss / len(y), hits / len(y)


def check_same(found, expected, same_steps, accuracy_tolerance):
    """Raise Disagreement unless losses (where the steps were the same) and accuracies agree."""
    (loss, accuracy), (expected_loss, expected_accuracy) = found, expected
    if same_steps and not abs(loss - expected_loss) <= LOSS_TOLERANCE * expected_loss:
        raise Disagreement(f"loss is {loss:.5f}, not {expected_loss:.5f}")
    if not abs(accuracy - expected_accuracy) <= accuracy_tolerance:
        raise Disagreement(f"accuracy is {accuracy:.4f}, not {expected_accuracy:.4f}")


def same_steps(peer, task):
    """Tell whether a peer takes the same steps as fastmlp, but for the order of the rows."""
    return not (isinstance(peer, ScikitLearn) and task.layers[-1] == 2)


def train(peer, X, y, task, start):
    """Return the seconds of one training, and the loss and accuracy after it."""
    run = peer.prepare(X, y, task, *start)
    time.sleep(PAUSE)
    begin = time.perf_counter()
    parameters = run()
    seconds = time.perf_counter() - begin
    return seconds, evaluate(X, y, task, *parameters)


def take_turns(peers, X, y, task, runs, accuracy_tolerance=ACCURACY_TOLERANCE):
    """Train with each peer in turn, some times over; the first one says what the others must reach.

    Returns
    -------
    times : dict of str to list of float
        Seconds per epoch, for each peer that did the same work.
    errors : dict of str to str
        For each of the others, how it differed.
    peak : float
        FLOP/s of a core in multiply-adds, the best of those measured before each turn.
    """
    net = MLP(task.layers, activation=task.activation)
    start = ([w.copy() for w in net.weights], [b.copy() for b in net.biases])
    times, errors, expected, peak = {peer.name: [] for peer in peers}, {}, {}, 0.0
    first = replace(task, epochs=1, shuffle=False)
    for now in [first] + [task] * runs:
        peak = max(peak, fma_peak())
        for peer in peers:
            if peer.name in errors:
                continue
            seconds, found = train(peer, X, y, now, start)
            try:
                same = same_steps(peer, task) and not now.shuffle
                tolerance = accuracy_tolerance if now.shuffle else ACCURACY_TOLERANCE
                check_same(found, expected.setdefault(now, found), same, tolerance)
            except Disagreement as error:
                errors[peer.name] = str(error)
                del times[peer.name]
                continue
            if now is task:
                times[peer.name].append(seconds / task.epochs)
    return times, errors, peak


def compare_training(name, installed, runs):
    """Print the table of one work; return whether every peer did the same."""
    work = TRAININGS[name]
    X, y = work.data()
    task = work.task
    layers, epochs = "-".join(map(str, task.layers)), f"{task.epochs:,} epoch{'s' * (task.epochs > 1)}"
    print(f"\n{name}: {X.shape[0]:,} rows, {layers} {task.activation}, batch {task.batch_size:,}, {epochs}")
    peers = [FastMLP(), *(peer for peer in installed if isinstance(peer, work.peers))]
    times, errors, peak = take_turns(peers, X, y, task, runs, work.accuracy_tolerance)
    print_table("epoch, ms", 1e3, times, errors)
    if isinstance(X, np.ndarray):
        print_limit(times["fastmlp"], epoch_flops(task.layers, len(X)), peak)
    return not errors


def print_table(title, scale, times, errors):
    """Print best and median times, and how many times those of fastmlp they are."""
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
    print(
        f"    fastmlp / dense limit {min(seconds) / limit:.2f}: "
        f"{1e3 * limit:.4g} ms at {cores} x {peak / 1e9:.0f} GFLOP/s, measured beside"
    )


# --- other works ------------------------------------------------------------------------------------------------------


def compare_prediction(installed, runs):
    """Print the times of `predict_proba` and its like, for many rows and for one."""
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
    """Return the median time of a call, of at least five, and of as many as go into some seconds."""
    time.sleep(PAUSE)
    times, end = [], time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def compare_threads(installed, runs):
    """Print fastmlp with one thread and with one for each core."""
    X, y = mnist()
    task = TRAININGS["mnist"].task
    print(f"\nthreads: mnist, {task.epochs} epochs")
    peers = [FastMLP(n_threads) for n_threads in sorted({1, available_threads()})]
    times, errors, _ = take_turns(peers, X, y, task, runs)
    one = next(iter(times.values()))
    print(f"    {'':24} epoch, ms (best, median)   speedup (best, median)")
    for name, seconds in times.items():
        best, median = min(seconds), statistics.median(seconds)
        print(
            f"    {name:24} {1e3 * best:9.2f} {1e3 * median:14.2f}"
            f"   {min(one) / best:10.2f} {statistics.median(one) / median:8.2f}"
        )
    return not errors


def compare_sizes(installed, runs):
    """Print the time per row of fastmlp, for MNIST cut and tiled."""
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
    installed = available(*ALL)
    versions = [f"{peer.name} {peer.version}" for peer in (FastMLP(), *installed)]
    print(f"{', '.join(versions)}; {available_threads()} threads")
    good = True
    for name in options.works:
        arguments = (installed, options.runs)
        good &= others[name](*arguments) if name in others else compare_training(name, *arguments)
    sys.exit(0 if good else "a peer has not done the same work")


if __name__ == "__main__":
    main()

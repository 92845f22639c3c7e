"""Training from a file of several times the memory that a process may use, beside training on the same rows in memory.

python -m benchmarks.out_of_core [--only limit|memory|sorted] [--rows bytes|float32|dense] [--limit MB] [--turns N]
    [--folder FOLDER]

limit: a file of six times the limit. Three processes take turns: one trains on the rows in memory, one on the file, and
one only reads the file, in random order too, as fast as the disk delivers. The last two run in a control group,
whose limit holds for the pages of the file that the system keeps, too. Making one needs root on most systems. Without
one, the pages are dropped before each epoch.

memory: what a fit takes at its peak beyond what a process has once its kernels are loaded, by rows of the file.

sorted: accuracy after three epochs on rows that are sorted by class in the file, and on the same rows in memory.
"""

import argparse
import contextlib
import gc
import multiprocessing
import os
import tempfile
import time
from collections import deque
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.memory import reset_peak, resident_bytes
from fastmlp import MLP, datasets, warm_up
from fastmlp.bench.machine import describe
from fastmlp.data import Blocks

TIMES = 6  # the limit
EPOCHS = 3
LAYERS = [784, 128, 10]


def rows_of(kind, X):
    """Return MNIST as bytes, as float32 with its zeros, or without them."""
    if kind == "bytes":
        return np.rint(255 * X).astype(np.uint8)
    return X if kind == "float32" else X + np.float32(1 / 512)


def write(folder, kind, n_rows):
    """Write MNIST again and again, shuffled; return the paths of X and y."""
    X, y, *_ = datasets.load_mnist()
    X, random = rows_of(kind, X), np.random.default_rng(0)
    paths = folder / "x.npy", folder / "y.npy"
    labels = np.empty(n_rows, np.uint8)
    with open(paths[0], "wb") as file:
        header = {"descr": X.dtype.str, "fortran_order": False, "shape": (n_rows, 784)}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, n_rows, len(X)):
            order = random.permutation(len(X))[: n_rows - start]
            labels[start : start + len(order)] = y[order]
            file.write(X[order])
        os.fsync(file.fileno())
    np.save(paths[1], labels)
    return paths


def network(kind, **settings):
    return MLP(LAYERS, input_scale=1 / 255 if kind == "bytes" else 1.0, **settings)


def drop(path):
    """Drop the pages of a file that the system keeps."""
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def fit_in_memory(kind, paths, _):
    X, y = map(np.load, paths)
    return network(kind).fit(X, y, epochs=EPOCHS).seconds


def fit_from_file(kind, paths, is_limited):
    """Return the seconds of each epoch. Pages of a file count for the group that reads them first: none may be left."""
    blocks, net, seconds = Blocks(*paths), network(kind), []
    for epoch in range(EPOCHS):
        if epoch == 0 or not is_limited:
            drop(paths[0])
        seconds += net.fit(blocks, epochs=1).seconds
    return seconds


def only_read(_, paths, is_limited):
    """Return the seconds that it takes to read the blocks in random order."""
    source, seconds = Blocks(paths[0])._source, []
    for epoch in range(EPOCHS):
        if epoch == 0 or not is_limited:
            drop(paths[0])
        order = np.random.default_rng(epoch).permutation(len(source.lengths)).tolist()
        start = time.perf_counter()
        deque(source.read(order), maxlen=0)
        seconds.append(time.perf_counter() - start)
    return seconds


def in_process(work, group, *arguments):
    """Return what `work` returns in a new process, in a control group unless that is None."""
    receive, send = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_answer, args=(send, work, group, arguments))
    process.start()
    send.close()
    try:
        return receive.recv()
    except EOFError:
        raise SystemExit(f"{work.__name__}: the process was killed, or has failed") from None
    finally:
        process.join()


def _answer(send, work, group, arguments):
    if group is not None:
        (group / "cgroup.procs").write_text(str(os.getpid()))
    send.send(work(*arguments))


@contextlib.contextmanager
def control_group(limit):
    """Make a group of processes that may use `limit` bytes; None if this user or system cannot."""
    for top, name in ((Path("/sys/fs/cgroup"), "memory.max"), (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes")):
        group = top / f"fastmlp-{os.getpid()}"
        try:
            group.mkdir()
            with open(group / name, "r+") as file:  # the kernel has made it, or this is no control group
                file.write(str(limit))
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            continue
        try:
            yield group
        finally:
            group.rmdir()
        return
    yield None


def measure_limit(folder, kinds, limit, turns):
    parts = {"in memory": fit_in_memory, "from the file": fit_from_file, "only reading": only_read}
    print("| rows | file, MB | in memory, s | from the file, s | ratio | only reading, s | GB/s |")
    print("|---|---|---|---|---|---|---|")
    for kind in kinds:
        n_rows = TIMES * limit // (784 * (1 if kind == "bytes" else 4))
        paths, seconds = write(folder, kind, n_rows), {name: [] for name in parts}
        n_bytes = paths[0].stat().st_size
        with control_group(limit) as group:
            for _ in range(turns):
                for name, work in parts.items():
                    limited = None if name == "in memory" else group
                    seconds[name] += in_process(work, limited, kind, paths, group is not None)
        best = {name: min(some) for name, some in seconds.items()}
        ratio = best["from the file"] / best["in memory"]
        texts = {name: f"{min(some):.2f} ({np.median(some):.2f})" for name, some in seconds.items()}
        how = f"{n_bytes / 1e6:.0f}, " + (f"limit {limit / 1e6:.0f}" if group else "pages dropped")
        speed = n_bytes / 1e9 / best["only reading"]
        print(f"| {kind} | {how} | {' | '.join(list(texts.values())[:2])} | {ratio:.2f} |", end="")
        print(f" {texts['only reading']} | {speed:.2f} |", flush=True)
    print(f"\nBest (median) of {turns * EPOCHS} epochs, 784-128-10, batch 64.\n")


def peak_of_fit(kind, paths, _):
    """Return the bytes that a fit takes at its peak, and what `Blocks.memory` says."""
    warm_up(LAYERS, rows={"bytes": "sparse uint8", "float32": "sparse", "dense": "dense"}[kind])
    blocks, net = Blocks(*paths), network(kind)
    gc.collect()
    reset_peak()
    before = resident_bytes("VmRSS")
    net.fit(blocks, epochs=1)
    return resident_bytes("VmHWM") - before, blocks.memory()


def measure_memory(folder, kinds):
    print("| rows of | number | file, MB | memory of the fit, MB | Blocks.memory(), MB |")
    print("|---|---|---|---|---|")
    for kind in kinds:
        for n_rows in (60_000, 240_000, 960_000):
            paths = write(folder, kind, n_rows)
            peak, said = in_process(peak_of_fit, None, kind, paths, False)
            size = paths[0].stat().st_size
            print(f"| {kind} | {n_rows:,} | {size / 1e6:.0f} | {peak / 1e6:.0f} | {said / 1e6:.0f} |", flush=True)
    print()


def measure_sorted(folder, kinds):
    X, y, X_test, y_test = datasets.load_mnist()
    order = np.argsort(y, kind="stable")
    print("| rows sorted by class | seed | from the file | in memory | difference |")
    print("|---|---|---|---|---|")
    for kind in kinds:
        rows, test = rows_of(kind, X)[order], rows_of(kind, X_test)
        np.save(folder / "x.npy", rows)
        blocks = Blocks(folder / "x.npy", y[order])
        for seed in range(4):
            scores = []
            for data in ((blocks,), (rows, y[order])):
                net = network(kind, seed=seed)
                net.fit(*data, epochs=3)
                scores.append(net.score(test, y_test))
            print(f"| {kind} | {seed} | {scores[0]:.4f} | {scores[1]:.4f} | {scores[0] - scores[1]:+.2%} |", flush=True)
    print()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("limit", "memory", "sorted"))
    parser.add_argument("--rows", choices=("bytes", "float32", "dense"))
    parser.add_argument("--limit", type=int, default=512, help="of memory, in MB (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=2, help=f"of {EPOCHS} epochs each (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where the files are written; by default a temporary one")
    options = parser.parse_args()
    kinds = [options.rows] if options.rows else ["bytes", "float32", "dense"]
    print(f"{describe()}\n")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        parts = {
            "limit": partial(measure_limit, limit=10**6 * options.limit, turns=options.turns),
            "memory": measure_memory,
            "sorted": measure_sorted,
        }
        for part, measure in parts.items():
            if options.only in (None, part):
                measure(Path(name), kinds)


if __name__ == "__main__":
    main()

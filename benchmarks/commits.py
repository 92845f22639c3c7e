"""Compare the speed of two commits in pairs of runs, to check a change before it is merged.

python -m benchmarks.commits BASE [NEW] [--pairs N] [--rows mnist|dense|bytes] [--layers N ...] [--batch-size N]
                             [--threads N] [--epochs N] [--optimizer NAME]

BASE and NEW are commits, by any name that git accepts. Without NEW, BASE is compared with the working tree. Each commit
is checked out into its own folder and has its own kernel cache. In each pair both train, in one process each and right
after each other. The order alternates, so that a drift of the machine affects both. The time of a process is the median
of its epochs. The last line shows the median ratio of the pairs, and the range of the middle half and of all of them.
The sign test gives the probability of such a one-sided result, or a more one-sided one, if both were equally fast.
"""

import argparse
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

MEASURE = """
import json, sys
import numpy as np
import fastmlp
given = json.loads(sys.argv[1])
assert fastmlp.__file__.startswith(given["folder"]), fastmlp.__file__
X, y, *_ = fastmlp.datasets.load_mnist()
settings = {}
if given["rows"] == "dense":
    X += np.float32(1 / 512)
elif given["rows"] == "bytes":
    X, settings["input_scale"] = np.rint(255 * X).astype(np.uint8), 1 / 255
net = fastmlp.MLP([784, *given["layers"], 10], n_threads=given["threads"], **settings)
fit = {"batch_size": given["batch_size"], **({"optimizer": given["optimizer"]} if given["optimizer"] else {})}
net.fit(X[:1000], y[:1000], epochs=1, **fit)
history = net.fit(X, y, epochs=given["epochs"], **fit)
assert history.accuracy[-1] > 0.85, history.accuracy
print(json.dumps(history.seconds))
"""


@contextlib.contextmanager
def checked_out(commit, folder):
    """Yield a folder with the files of a commit; None means the working tree."""
    if commit is None:
        yield ROOT
        return
    git = ("git", "-C", ROOT, "worktree")
    subprocess.run([*git, "add", "--quiet", "--detach", folder, commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", folder], check=True)


def seconds(folder, cache, given):
    """Return the median time of an epoch in a process that uses the package in a folder."""
    environment = os.environ | {"PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": str(cache)}
    work = json.dumps(given | {"folder": str(folder)})
    command = [sys.executable, "-c", MEASURE, work]
    done = subprocess.run(command, env=environment, cwd=cache, check=True, stdout=subprocess.PIPE, text=True)
    return statistics.median(json.loads(done.stdout))


def chance(ratios):
    """Return the p value of the two-sided sign test that ratios below and above 1 are equally likely."""
    n, below = len(ratios), sum(ratio < 1 for ratio in ratios)
    tail = sum(math.comb(n, k) for k in range(max(below, n - below), n + 1)) / 2**n
    return min(1.0, 2 * tail)


def summary(ratios):
    """Return one line that summarizes the ratios of all pairs."""
    low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return (
        f"new / base {statistics.median(ratios):.3f}, middle half {low:.3f}..{high:.3f}, "
        f"all {min(ratios):.3f}..{max(ratios):.3f}, {len(ratios)} pairs, sign test {chance(ratios):.2g}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("base")
    add("new", nargs="?", help="default: the working tree")
    add("--pairs", type=int, default=10)
    add("--rows", choices=("mnist", "dense", "bytes"), default="mnist")
    add("--layers", type=int, nargs="+", default=[128], help="hidden layers")
    add("--batch-size", type=int, default=64)
    add("--threads", type=int)
    add("--epochs", type=int, default=10)
    add("--optimizer")
    options = vars(parser.parse_args())
    base, new, pairs = (options.pop(name) for name in ("base", "new", "pairs"))
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        sides = []
        for name, commit in (("base", base), ("new", new)):
            cache = Path(temporary) / f"{name}-kernels"
            cache.mkdir()
            sides.append((stack.enter_context(checked_out(commit, Path(temporary) / name)), cache))
        for side in sides:
            seconds(*side, options | {"epochs": 1})  # compiles
        print("pair  base, ms   new, ms  new / base")
        ratios = []
        for pair in range(pairs):
            found = {}
            for side in (0, 1) if pair % 2 == 0 else (1, 0):
                found[side] = seconds(*sides[side], options)
            ratios.append(found[1] / found[0])
            print(f"{pair + 1:4}  {1e3 * found[0]:8.2f}  {1e3 * found[1]:8.2f}  {ratios[-1]:10.3f}", flush=True)
        print(summary(ratios))


if __name__ == "__main__":
    main()

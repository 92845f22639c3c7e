"""How long a fresh process takes: the import, and a first fit with an empty and with a full kernel cache.

python -m benchmarks.startup [--runs N] [--at-once N]

With --at-once, only: N processes that start at once with an empty cache, over one, in turns. Each process says which
kernels it has compiled, so a kernel that two have compiled is counted twice.
"""

import argparse
import collections
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

IMPORT = "import fastmlp"
FIT = """
import numpy as np
import fastmlp
X = np.random.default_rng(0).standard_normal((1000, 20), dtype=np.float32)
fastmlp.MLP([20, 16, 3]).fit(X, np.arange(1000) % 3, epochs=2)
"""

COUNTED = f"""{FIT}
import json
from fastmlp.kernels.cache import ready
print(json.dumps([(kernel.kernel, kernel.dtype) for kernel in ready if kernel.is_new]))
"""


def process_seconds(program, cache):
    """Return the wall time of a fresh Python process that runs `program`, interpreter and imports included."""
    environment = os.environ | {"NUMBA_CACHE_DIR": cache}
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    return time.perf_counter() - start


def seconds_at_once(n_processes):
    """Return the wall time of so many processes with one empty cache, and how often each kernel was compiled."""
    with tempfile.TemporaryDirectory() as empty:
        environment = os.environ | {"NUMBA_CACHE_DIR": empty}
        start = time.perf_counter()
        processes = [
            subprocess.Popen([sys.executable, "-c", COUNTED], env=environment, stdout=subprocess.PIPE)
            for _ in range(n_processes)
        ]
        counts = collections.Counter()
        for process in processes:
            counts.update(map(tuple, json.loads(process.communicate()[0])))
        seconds = time.perf_counter() - start
        left = [path for path in os.listdir(empty) if not path.endswith(".kernel")]
    if any(process.returncode for process in processes) or left:
        raise RuntimeError(f"a process has failed, or left {left}")
    return seconds, counts


def report_at_once(n_processes, n_runs):
    """Measure one cold process and many at once, in turns."""
    seconds = {1: [], n_processes: []}
    for _ in range(n_runs):
        for n in seconds:
            took, counts = seconds_at_once(n)
            seconds[n].append(took)
            repeated = {" ".join(kernel): count for kernel, count in counts.items() if count > 1}
            print(f"{n} at once: {took:.2f} s, {len(counts)} kernels, compiled more than once: {repeated or 'none'}")
    for n, found in seconds.items():
        report(f"{n} cold at once", found)
    ratios = [many / one for one, many in zip(*seconds.values(), strict=True)]
    print(f"ratio {min(ratios):.2f} best, {statistics.median(ratios):.2f} median")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--at-once", type=int, metavar="N")
    arguments = parser.parse_args()
    if arguments.at_once is not None:
        report_at_once(arguments.at_once, arguments.runs)
        return
    runs = range(arguments.runs)
    with tempfile.TemporaryDirectory() as warm:
        process_seconds(FIT, warm)
        cases = {
            "python alone": lambda: process_seconds("", warm),
            "import fastmlp": lambda: process_seconds(IMPORT, warm),
            "import, small first fit, kernels cached": lambda: process_seconds(FIT, warm),
        }
        seconds = {name: [measure() for _ in runs] for name, measure in cases.items()}
    for name, found in seconds.items():
        report(name, found)
    python, imported = seconds["python alone"], seconds["import fastmlp"]
    report("import fastmlp, less python alone", [b - a for a, b in zip(python, imported, strict=True)])
    cold = []
    for _ in runs:
        with tempfile.TemporaryDirectory() as empty:
            cold.append(process_seconds(FIT, empty))
    report("import, small first fit, empty cache", cold)


def report(name, seconds):
    print(f"{name:42} {min(seconds):6.2f} s best, {statistics.median(seconds):6.2f} s median")


if __name__ == "__main__":
    main()

"""How long a fresh process takes: the import, and a first fit with an empty and with a full kernel cache.

python -m benchmarks.startup [--runs N]
"""

import argparse
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


def process_seconds(program, cache):
    """Return the wall time of a fresh Python process that runs `program`, interpreter and imports included."""
    environment = os.environ | {"NUMBA_CACHE_DIR": cache}
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = range(parser.parse_args().runs)
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

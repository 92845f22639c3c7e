"""Run every benchmark of the asv suite once, on few rows: shows that each runs, and times nothing.

python -m benchmarks.check [PATTERN]

asv itself never runs on few rows, so such results cannot enter its history. PATTERN is a regular expression, as that of
asv's --bench.
"""

import argparse
import importlib
import inspect
import itertools
import os
import re
import sys
import tempfile
import traceback
from pathlib import Path

from . import suite

FEW_ROWS = 4096


def benchmarks():
    """Yield (name, class, method) of each benchmark, named as asv names them."""
    for path in sorted(Path(__file__).parent.glob("bench_*.py")):
        module = importlib.import_module(f".{path.stem}", __package__)
        for kind in list(vars(module).values()):
            if inspect.isclass(kind) and kind.__module__ == module.__name__:
                for method in dir(kind):
                    if method.startswith(("time_", "track_", "peakmem_")):
                        yield f"{path.stem}.{kind.__name__}.{method}", kind, method


def cases(kind):
    """Return all combinations of a benchmark's parameters."""
    params = getattr(kind, "params", [])
    return list(itertools.product(*params)) if params else [()]


def call(kind, method, cached, params):
    """Run a benchmark once, as asv does; return what it returns."""
    it = kind()
    arguments = (*cached, *params)
    try:
        if hasattr(it, "setup"):
            it.setup(*arguments)
        result = getattr(it, method)(*arguments)
    except NotImplementedError:
        return "skipped"
    if hasattr(it, "teardown"):
        it.teardown(*arguments)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pattern", nargs="?", default="")
    pattern = re.compile(parser.parse_args().pattern)
    suite.FEW_ROWS = FEW_ROWS
    caches, failed, n = {}, [], 0
    os.chdir(temporary := tempfile.mkdtemp())  # benchmarks may write there, as under asv
    for name, kind, method in benchmarks():
        if not pattern.search(name):
            continue
        make = getattr(kind, "setup_cache", None)
        for params in cases(kind):
            shown, n = f"{name}({', '.join(map(str, params))})", n + 1
            try:
                if make is not None and make not in caches:
                    caches[make] = make(kind())
                result = call(kind, method, () if make is None else (caches[make],), params)
            except Exception:
                traceback.print_exc()
                failed.append(shown)
                result = "FAILED"
            print(shown, result, flush=True)
    os.chdir(Path(temporary).parent)
    if not n:
        sys.exit(f"no benchmark is named like {pattern.pattern!r}")
    print(f"{n} benchmarks, {len(failed)} failed", *failed, sep="\n")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()

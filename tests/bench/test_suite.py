"""asv can run the suite, and a benchmark fails if its network has not learned."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import check

pytest.importorskip("asv", reason="needs asv, which the bench extra brings")

ROOT = Path(__file__).resolve().parents[2]


IMPORT_ALL = """
import importlib, sys

class Missing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("asv", "dask", "distributed", "jax", "matplotlib", "pandas", "pytest", "torch"):
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Missing())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_every_file_is_imported_with_the_package_alone():
    """So asv does, in an environment that has nothing but fastmlp and what it needs."""
    names = [f"benchmarks.{path.stem}" for path in (ROOT / "benchmarks").glob("[!_]*.py")]
    command = [sys.executable, "-c", IMPORT_ALL, *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def asv(tmp_path):
    """Return a function that runs asv on a copy of the suite, in an empty home, beside compiled kernels."""
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run([*git, "init", "-q", "-b", "main"], cwd=tmp_path, check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "a"], cwd=tmp_path, check=True)
    kernels = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    environment = os.environ | {
        "HOME": str(tmp_path), "XDG_CACHE_HOME": kernels, "ASV_PYTHONPATH": str(ROOT), "PYTHONPATH": str(ROOT),
    }  # fmt: skip

    def run(*command):
        full = [sys.executable, "-m", "asv", *command, "--config", "benchmarks/asv.conf.json"]
        return subprocess.run(full, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500)

    assert run("machine", "--yes").returncode == 0
    return run


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.name)
def test_benchmarks_import_only_what_an_environment_of_asv_has(path):
    """asv imports all files in an environment that has only the package."""
    found = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {
        name.partition(".")[0]
        for node in found
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module])
        if not getattr(node, "level", 0)
    }
    of_the_package = {"numba", "numpy", "scipy", "sklearn", "tqdm"}  # SciPy by way of scikit-learn
    assert names - sys.stdlib_module_names <= {"fastmlp", "benchmarks", *of_the_package}


def test_every_benchmark_can_be_called(asv):
    done = asv("check", "--python=same")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No problems found" in done.stdout + done.stderr


def test_benchmark_reports_what_it_measured(asv, tmp_path):
    done = asv("run", "--python=same", "--quick", "--bench", "Small", "--set-commit-hash", "HEAD")
    assert done.returncode == 0, done.stdout + done.stderr
    (name,) = [path for path in (tmp_path / ".asv" / "results").rglob("*.json") if path.parent.parent.name == "results"
               and path.name != "machine.json"]  # fmt: skip
    saved = json.loads(name.read_text())
    ((benchmark, result),) = saved["results"].items()
    assert 0 < result[0][0] < 60
    assert saved["load"].keys() == {benchmark}
    assert saved["load"][benchmark] is None or saved["load"][benchmark] >= 0
    assert (saved["requirements"], saved["env_vars"]) == ({}, {})


def test_benchmark_of_wrong_accuracy_fails(asv, tmp_path):
    suite = tmp_path / "benchmarks" / "bench_training.py"
    code = suite.read_text()
    assert "self.y), 0.99)" in code
    suite.write_text(code.replace("self.y), 0.99)", "self.y), 1.01)"))
    done = asv("run", "--python=same", "--quick", "--show-stderr", "--bench", "Small")
    assert done.returncode == 2
    assert "WrongAccuracy: accuracy is" in done.stdout + done.stderr
    assert "failed" in done.stdout + done.stderr


def test_selections_in_the_documentation_select_something():
    """asv searches the names of benchmarks for a regular expression, and runs nothing if none is found."""
    names = [name for name, *_ in check.benchmarks()]
    texts = [path.read_text() for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md"))]
    patterns = {pattern for text in texts for pattern in re.findall(r"--bench[= ]['\"]?([\w.|]+)", text)}
    assert patterns
    assert [pattern for pattern in patterns if not any(re.search(pattern, name) for name in names)] == []


def test_the_check_knows_the_benchmarks_that_asv_knows(asv, tmp_path):
    done = asv("run", "--python=same", "--bench", "just-discover")  # nothing is called so: asv only looks for them
    assert done.returncode == 0, done.stdout + done.stderr
    known = json.loads((tmp_path / ".asv" / "results" / "benchmarks.json").read_text())
    assert known.keys() - {"version"} == {name for name, *_ in check.benchmarks()}


def test_few_rows_are_only_those_of_the_check(monkeypatch):
    """asv cannot be made to run on few rows, so such results cannot enter its history."""
    code = "import os\nfrom benchmarks import suite\nassert suite.FEW_ROWS is None"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"FASTMLP_FEW_ROWS": "1"}, check=True)


def test_the_check_runs_a_benchmark_once():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.check", "Small"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.splitlines() == ["bench_training.Small.time_fit_of_100_epochs() None", "1 benchmarks, 0 failed"]
    assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.check", "Nothing"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (1, "no benchmark is named like 'Nothing'\n")


def test_epoch_that_has_not_learned_gives_no_time():
    import numpy as np

    import fastmlp
    from benchmarks.suite import WrongAccuracy, best_epoch

    X, y = np.random.default_rng(0).random((100, 5), dtype=np.float32), np.arange(100) % 4
    with pytest.raises(WrongAccuracy, match="less than 0.85"):
        best_epoch(fastmlp.MLP([5, 4, 4]), X, y, 1)

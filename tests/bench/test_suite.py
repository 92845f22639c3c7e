"""asv can run the suite, and a benchmark fails if its network has not learned."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("asv", reason="needs asv, which the bench extra brings")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def asv(tmp_path):
    """Return a function that runs asv on a copy of the suite, with its own home folder."""
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run([*git, "init", "-q", "-b", "main"], cwd=tmp_path, check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "a"], cwd=tmp_path, check=True)
    environment = os.environ | {"HOME": str(tmp_path), "ASV_PYTHONPATH": str(ROOT)}

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
    (result,) = json.loads(name.read_text())["results"].values()
    assert 0 < result[0][0] < 60


def test_benchmark_of_wrong_accuracy_fails(asv, tmp_path):
    suite = tmp_path / "benchmarks" / "bench_training.py"
    code = suite.read_text()
    assert "self.y), 0.99)" in code
    suite.write_text(code.replace("self.y), 0.99)", "self.y), 1.01)"))
    done = asv("run", "--python=same", "--quick", "--show-stderr", "--bench", "Small")
    assert done.returncode == 2
    assert "WrongAccuracy: accuracy is" in done.stdout + done.stderr
    assert "failed" in done.stdout + done.stderr


def test_epoch_that_has_not_learned_gives_no_time():
    import numpy as np

    import fastmlp
    from benchmarks.suite import WrongAccuracy, best_epoch

    X, y = np.random.default_rng(0).random((100, 5), dtype=np.float32), np.arange(100) % 4
    with pytest.raises(WrongAccuracy, match="less than 0.85"):
        best_epoch(fastmlp.MLP([5, 4, 4]), X, y, 1)

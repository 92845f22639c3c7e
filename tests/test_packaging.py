"""The sdist and the wheel as users get them: what is in them, and that they work from wherever they may lie."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import pytest

import fastmlp

ROOT = Path(__file__).resolve().parents[1]

# A network small enough to compile and fit in seconds, and a check that it did learn.
PREDICTION = """
import numpy as np
from fastmlp import MLP

assert np.allclose(MLP([5, 7, 2], seed=0).predict_proba(np.ones((3, 5), np.float32)).sum(axis=1), 1)
"""
SMALL_FIT = """
import numpy as np
from fastmlp import MLP

rng = np.random.default_rng(0)
X = rng.standard_normal((60, 5)).astype(np.float32)
y = (X[:, 0] > 0).astype(np.int64)
net = MLP([5, 7, 2], seed=0)
loss = net.fit(X, y, epochs=8, batch_size=13).loss
assert loss[-1] < loss[0], loss
assert net.predict(X).shape == (60,)
"""


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; what it says is shown where it fails."""
    settings = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | environment
    done = subprocess.run(command, cwd=cwd, env=settings, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Give a copy of what an sdist is built from, so that building leaves no trace in the repository."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, copy)
    for name in ("fastmlp", "kernels"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True)  # with any __pycache__: it must stay out of the wheel
    return copy


@pytest.fixture(scope="module")
def sdist(source, tmp_path_factory):
    """Give the sdist."""
    if int(version("setuptools").partition(".")[0]) < 77:
        pytest.skip("needs setuptools >= 77, which the test extra brings")
    folder = tmp_path_factory.mktemp("sdist")
    program = f"import setuptools.build_meta as backend; backend.build_sdist({str(folder)!r})"
    run(sys.executable, "-c", program, cwd=source)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """Give the wheel, built from nothing but the sdist, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "--no-index")
    run(*pip, "--no-build-isolation", "--wheel-dir", folder, sdist, cwd=folder)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Give a folder that the wheel alone is installed into."""
    target = tmp_path_factory.mktemp("installed")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps", "--no-index")
    run(*pip, "--target", target, wheel, cwd=target)
    return target


def test_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = Counter(archive.namelist())
    expected = {
        "fastmlp/py.typed",
        "fastmlp/data/mnist.npz",
        "fastmlp/data/README.md",
        "fastmlp/kernels/README.md",
        *(str(path.relative_to(ROOT)) for path in (ROOT / "fastmlp" / "page" / "web").iterdir()),
        *(str(path.relative_to(ROOT)) for path in (ROOT / "fastmlp").glob("[!k]*/**/*.py")),
        *(str(path.relative_to(ROOT)) for path in (ROOT / "fastmlp").glob("*.py")),
        *(f"fastmlp/{path.relative_to(ROOT)}" for path in (ROOT / "kernels").rglob("*.py")),
    }
    metadata = f"fastmlp-{fastmlp.__version__}.dist-info/"
    content = Counter({name: count for name, count in names.items() if not name.startswith(metadata)})
    assert content == Counter(expected)


def test_sdist_and_wheel_carry_their_licences(sdist, wheel):
    """That of the code, and that of the MNIST images."""
    stem = f"fastmlp-{fastmlp.__version__}"
    with tarfile.open(sdist) as source, zipfile.ZipFile(wheel) as archive:
        for name in ("LICENSE", "fastmlp/data/README.md"):
            licence = (ROOT / name).read_bytes()
            assert source.extractfile(f"{stem}/{name}").read() == licence
            assert archive.read(f"{stem}.dist-info/licenses/{name}") == licence
        metadata = archive.read(f"{stem}.dist-info/METADATA").decode()
    assert "License-Expression: BSD-3-Clause AND CC-BY-SA-3.0\n" in metadata
    assert "CC BY-SA 3.0" in (ROOT / "fastmlp/data/README.md").read_text(encoding="utf-8")


def test_metadata_says_what_the_package_needs(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    needed = {line.split(":")[1].split(">")[0].strip() for line in lines if line.startswith("Requires-Dist")}
    assert {"numba", "numpy", "scikit-learn", "tqdm"} <= needed
    assert "Requires-Python: >=3.11" in lines


def test_installed_package_is_whole(installed, tmp_path):
    program = (
        "import fastmlp, fastmlp.kernels, importlib.util, pathlib\n"
        "from fastmlp import datasets\n"
        "assert importlib.util.find_spec('kernels') is None\n"
        "print(pathlib.Path(fastmlp.__file__).parents[1], pathlib.Path(fastmlp.kernels.__file__).parents[2], sep='\\n')"
    )
    done = run(sys.executable, "-c", program, cwd=tmp_path, PYTHONPATH=str(installed))
    assert {Path(line).resolve() for line in done.stdout.splitlines()} == {installed.resolve()}


def test_installed_package_fits(installed, tmp_path):
    run(sys.executable, "-W", "error", "-c", SMALL_FIT, cwd=tmp_path, PYTHONPATH=str(installed))


def test_installed_bench_measures(installed, tmp_path):
    command = (sys.executable, "-W", "error", "-m", "fastmlp", "bench", "--data", "digits", "--epochs", "20")
    done = run(*command, "--runs", "1", "--peers", "numpy", cwd=tmp_path, PYTHONPATH=str(installed))
    assert "times fastmlp" in done.stdout
    assert "NumPy " in done.stdout


def test_read_only_source_path_with_a_space_and_empty_home(tmp_path):
    """Kernels compile, run and stay silent where nothing may be written beside them."""
    place, home = tmp_path / "a folder", tmp_path / "home"
    shutil.copytree(ROOT / "fastmlp", place / "fastmlp", ignore=shutil.ignore_patterns("__pycache__"))
    home.mkdir()
    _forbid_writing(place)
    try:
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(place), "FASTMLP_QUIET": "1"}
        command = (sys.executable, "-c", PREDICTION)
        done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        if not os.access(place / "fastmlp", os.W_OK):  # the superuser may write anyway
            assert not list(place.rglob("__pycache__"))
    finally:
        _allow_writing(place)


def _forbid_writing(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)


def _allow_writing(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)

"""The example of training out of core: its rows, its files, and what is left when writing them is interrupted."""

import errno
import os
import runpy
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fastmlp import datasets

pytestmark = pytest.mark.slow  # it compiles for some seconds
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "infinite.py"
SPLITS = [(0, 300), (300, 1), (301, 99), (400, 100)]


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE))


@pytest.fixture(scope="module")
def images():
    return np.rint(255 * datasets.load_mnist(n_samples=100)[0]).astype(np.uint8)


@pytest.fixture
def small_pieces(example, monkeypatch):
    for function in ("generate", "holds"):
        monkeypatch.setitem(example[function].__globals__, "PIECE", 64)


def saved(path):
    return np.load(path, mmap_mode="r")


def test_any_part_has_the_same_rows(example, images):
    make = example["distorted"]
    whole = make(images, 0, 500)
    with ThreadPoolExecutor(3) as pool:
        parts = list(pool.map(lambda part: make(images, *part), SPLITS))
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_another_process_makes_the_same_rows(example, tmp_path):
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1])['write_files'](__import__('pathlib').Path(sys.argv[2]), 60_050)"
    )
    subprocess.run([sys.executable, "-c", code, EXAMPLE, tmp_path], check=True, timeout=300)
    digits = np.rint(255 * datasets.load_mnist()[0]).astype(np.uint8)
    np.testing.assert_array_equal(saved(tmp_path / "x.npy")[-50:], example["distorted"](digits, 60_000, 50))


def test_the_first_rows_are_the_digits_and_the_others_resemble_them(example, images):
    rows = example["distorted"](images, 0, 5_000)
    np.testing.assert_array_equal(rows[:100], images)
    new, old = rows[100:].astype(float), np.resize(images, (4_900, 784)).astype(float)
    assert np.all(np.any(new != old, axis=1))
    new -= new.mean(axis=1, keepdims=True)
    old -= old.mean(axis=1, keepdims=True)
    alike = np.sum(new * old, axis=1) / np.sqrt(np.sum(new**2, axis=1) * np.sum(old**2, axis=1))
    assert alike.min() > 0.05
    assert 0.6 < np.median(alike) < 0.98
    assert 0.8 < np.mean(rows[100:] > 0) / np.mean(images > 0) < 1.2
    assert rows.max() == 255


def test_rows_of_other_seeds_and_numbers_differ(example, images):
    make = example["distorted"]
    rows = np.concatenate(
        [make(images[:1], first, 500, seed) for first, seed in ((1, 0), (501, 0), (1, 1), (2**40, 0))]
    )
    assert len(np.unique(rows, axis=0)) == 2_000


def test_displacements_are_as_large_as_they_should_be(example):
    splines = example["SPLINES"].astype(float)
    np.testing.assert_allclose(splines.sum(axis=1), 1, atol=1e-6)
    knots = np.random.default_rng(0).uniform(-1, 1, (20_000, *(splines.shape[1],) * 2))
    fields = example["DISPLACEMENT"] * np.einsum("ri,nij,cj->nrc", splines[::9], knots, splines[::9])
    assert fields.std() == pytest.approx(example["FIELD"], rel=0.05)


def test_a_file_is_complete_or_absent(example, images, small_pieces, tmp_path, monkeypatch):
    path, make = tmp_path / "x.npy", example["distorted"]
    calls = []

    def stopped(images, first, n_rows, seed):
        calls.append(first)
        if first >= 256:
            raise KeyboardInterrupt
        return make(images, first, n_rows, seed)

    monkeypatch.setitem(example["generate"].__globals__, "distorted", stopped)
    with pytest.raises(KeyboardInterrupt):
        example["generate"](path, images, 500, n_threads=2)
    assert not path.exists()
    n_written = (tmp_path / "x.npy.part").stat().st_size // 784
    assert n_written > 0
    monkeypatch.setitem(
        example["generate"].__globals__, "distorted", lambda *args: calls.append(args[1]) or make(*args)
    )
    calls.clear()
    example["generate"](path, images, 500, n_threads=2)
    assert min(calls) >= n_written // 64 * 64 - 64  # the last piece is made again, to compare
    np.testing.assert_array_equal(saved(path), make(images, 0, 500))
    assert os.listdir(tmp_path) == ["x.npy"]


@pytest.mark.parametrize("left", ["of another seed", "zeros", "of another length", "half a header", "too long"])
def test_what_is_left_counts_only_if_it_is_right(example, images, small_pieces, tmp_path, left):
    path, expected = tmp_path / "x.npy", example["distorted"](images, 0, 300)
    part = tmp_path / "x.npy.part"
    if left == "of another seed":
        example["generate"](part, images, 300, seed=1)
    elif left == "zeros":
        np.save(tmp_path / "z.npy", np.zeros((300, 784), np.uint8))
        shutil.move(tmp_path / "z.npy", part)
    elif left == "of another length":
        example["generate"](part, images, 200)
    elif left == "half a header":
        part.write_bytes(b"\x93NUMPY")
    else:
        example["generate"](part, images, 300)
        part.write_bytes(part.read_bytes() + b"more")
    example["generate"](path, images, 300)
    np.testing.assert_array_equal(saved(path), expected)


def test_a_full_disk_is_an_error_that_says_so(example, images, small_pieces, tmp_path, monkeypatch):
    path, generate = tmp_path / "x.npy", example["generate"]
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: usage)
        with pytest.raises(OSError, match="GB are needed, but 0.0 GB are free"):
            generate(path, images, 500)
    make = example["distorted"]

    def full(images, first, n_rows, seed):
        if first > 200:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return make(images, first, n_rows, seed)

    with monkeypatch.context() as patch:
        patch.setitem(generate.__globals__, "distorted", full)
        with pytest.raises(
            OSError, match=r"No space left on device after 256 of 500 rows; the next call continues there"
        ):
            generate(path, images, 500, n_threads=1)
    assert not path.exists()
    generate(path, images, 500)
    np.testing.assert_array_equal(saved(path), make(images, 0, 500))


def test_it_trains_out_of_core(example, tmp_path, capsys):
    figures = example["main"](rows=20_000, folder=tmp_path)
    X, y = saved(tmp_path / "x.npy"), saved(tmp_path / "y.npy")
    assert (X.shape, X.dtype, y.shape, y.dtype) == ((20_000, 784), np.uint8, (20_000,), np.uint8)
    np.testing.assert_array_equal(y, datasets.load_mnist()[1][:20_000])
    assert figures["test_accuracy"] > 0.9
    assert "one epoch of 20,000 rows" in capsys.readouterr().out
    before = (tmp_path / "x.npy").stat().st_mtime_ns
    assert example["main"](rows=20_000, folder=tmp_path)["test_accuracy"] == figures["test_accuracy"]
    assert (tmp_path / "x.npy").stat().st_mtime_ns == before

"""Files that commands write: none of their inputs, and a disk that is full is told."""

import os
import subprocess
import sys

import numpy as np
import pytest
from support.nets import ROOT

from fastmlp.cli import main

FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """The name of a .npz file with rows of two classes."""
    monkeypatch.chdir(tmp_path)
    rows, labels = np.zeros((4, 2), np.float32), np.array([0, 1, 0, 1])
    np.savez("data.npz", X_train=rows, y_train=labels, X_test=rows, y_test=labels)
    return "data.npz"


@pytest.mark.parametrize("line", ["bench --json", "bench --peers --runs 1 --chart", "train --epochs 1 --save"])
def test_data_are_not_overwritten(line, archive, capsys):
    suffix = ".svg" if line.endswith("--chart") else ".npz"
    target = f"link{suffix}"
    os.symlink(archive, target)
    with open(archive, "rb") as file:
        before = file.read()
    assert main([*line.split(), target, "--data", archive]) == 2
    assert f"{line.split()[-1]} '{target}' would overwrite 'data.npz'\n" in capsys.readouterr().err
    with open(archive, "rb") as file:
        assert file.read() == before


def test_files_in_a_folder_of_data_are_not_overwritten(tmp_path, capsys):
    name = tmp_path / "train-images-idx3-ubyte"
    name.write_bytes(b"")
    assert main(["bench", "--data", str(tmp_path), "--json", str(name)]) == 2
    assert "would overwrite" in capsys.readouterr().err


@FULL
@pytest.mark.parametrize("option", ["--version", "--help"])
def test_texts_on_a_full_disk(option):
    with open("/dev/full", "w") as full:
        command = (sys.executable, "-m", "fastmlp", option)
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, timeout=120)
    assert (done.returncode, done.stderr) == (2, "fastmlp: error: No space left on device\n")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("[", "expected the node content"),
        ("num_threads: 0", "Number of threads specified must be > 0.; fastmlp doctor says what to do\n"),
        ("disable_jit: 1", "need Numba's compiler; take disable_jit out of .numba_config.yaml in this folder\n"),
    ],
)
def test_settings_with_which_numba_cannot_be_imported(settings, words, tmp_path):
    pytest.importorskip("yaml")
    (tmp_path / ".numba_config.yaml").write_text(settings)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    command = (sys.executable, "-m", "fastmlp", "train", "--data", "xor")
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment | {"PYTHONPATH": str(ROOT)}, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert words in done.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"y_train": [0, 0, 0, 0], "y_test": [0, 0, 0, 0]}, "y_train has only class 0; classes must be two or more"),
        ({"y_test": [0, 1, 2, 0]}, "y_test has label 2, but y_train only labels up to 1"),
    ],
)
def test_wrong_labels_are_refused_before_anything_is_printed(changes, words, archive, capsys):
    with np.load(archive) as file:
        arrays = dict(file)
    np.savez(archive, **arrays | changes)
    assert main(["train", "--data", archive]) == 2
    output, message = capsys.readouterr()
    assert (output, message) == ("", f"fastmlp train: error: {words}\n")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("bench --json a.svg --chart a.svg", "--chart 'a.svg' would overwrite --json 'a.svg'"),
        ("bench --json x/../a.svg --chart ./a.svg", "--chart './a.svg' would overwrite --json 'x/../a.svg'"),
        ("bench --json link.svg --chart a.svg", "--chart 'a.svg' would overwrite --json 'link.svg'"),
        ("bench --json hard.svg --chart target.svg", "--chart 'target.svg' would overwrite --json 'hard.svg'"),
        ("train --save net.npz --report page.html", "--report 'page.html' would overwrite --save 'net.npz'"),
        ("train --save net.npz --plot net.npz", "--plot 'net.npz' would overwrite --save 'net.npz'"),
        ("train --report p.html --plot p.html/", "--plot 'p.html/' would overwrite --report 'p.html'"),
    ],
)
def test_two_outputs_are_two_files(line, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.symlink("a.svg", "link.svg")
    os.symlink("net.npz", "page.html")
    (tmp_path / "target.svg").write_text("")
    os.link("target.svg", "hard.svg")
    before = sorted(os.listdir())
    assert main([*line.split(), "--data", "xor"]) == 2
    assert capsys.readouterr().err == f"fastmlp {line.split()[0]}: error: {words}\n"
    assert sorted(os.listdir()) == before

"""`fastmlp bench`, called as from a shell."""

import json
import re

import pytest

from fastmlp.bench import machine, peers, turns
from fastmlp.cli import main
from fastmlp.cli.machine_arguments import PEERS

QUICK = ["bench", "--data", "digits", "--layers", "32", "--epochs", "2", "--runs", "2", "--peers", "numpy", "numpy64"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(turns, "PAUSE", 0.0)
    monkeypatch.setattr(machine, "read_bandwidth", lambda *_: 1e10)  # it takes a second


def test_table_and_json(capsys, tmp_path):
    assert main([*QUICK, "--batch-size", "32", "--threads", "1", "--json", str(tmp_path / "b.json")]) == 0
    out = capsys.readouterr().out
    text = " ".join(out.split())  # lines are wrapped
    assert re.search(
        r" 64-32-10 relu, digits: 1,437 rows, .* batch 32, SGD 0.1, 1 thread each loss after 1 epoch:", text
    )
    assert re.search(r"^turn 2 of 2, (ms|µs): fastmlp \S+, NumPy \S+, NumPy float64 \S+$", out, re.MULTILINE)
    assert re.search(r" limits: \d+ GFLOP/s .* GB/s read from memory", text)
    table = out.partition("share of limit")[2]
    times = {
        name: float(best.replace(",", ""))
        for name, best in re.findall(r"^(\w[\w ]*?) +([\d,.]+)\b", table, re.MULTILINE)
    }
    assert set(times) == {"fastmlp", "NumPy", "NumPy float64", "dense limit", "nonzero limit"}
    assert times["nonzero limit"] < times["dense limit"]
    found = json.loads((tmp_path / "b.json").read_text())
    assert [row["name"] for row in found["results"]] == ["fastmlp", "NumPy", "NumPy float64"]
    assert all(len(row["seconds"]) == 2 for row in found["results"])
    assert found["work"]["layers"] == [64, 32, 10]
    assert found["work"]["threads"] == 1


def test_peer_that_is_not_installed_is_named(capsys, monkeypatch):
    def missing(self, n_threads):
        raise ImportError("No module named 'jax'")

    monkeypatch.setattr(peers.JAX, "__init__", missing)
    assert main([*QUICK[:-2], "jax"]) == 0
    assert "JAX: skipped, No module named 'jax'" in capsys.readouterr().out


def test_peer_that_does_other_work_fails_the_command(capsys, monkeypatch):
    monkeypatch.setattr(peers.NumPy, "_step", lambda *_: None)
    assert main(QUICK) == 1
    assert "NumPy: ERROR, not timed: loss is" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--peers", "tensorflow"],
            "--peers: must be one of numpy, numpy64, pytorch, pytorch-compiled, jax, sklearn, not 'tensorflow'",
        ),
        (["--chart", "bench.gif"], "does not end in .png or .svg"),
        (["--runs", "0"], "not a whole number of 1 or more"),
        (["--data", "nothing.npz"], "cannot read --data"),
        (["--save", "x.npz"], "unrecognized arguments"),
        (["--json", "no-such-folder/bench.json"], "there is no folder no-such-folder"),
        (["--chart", "no-such-folder/bench.svg"], "there is no folder no-such-folder"),
        (["--json", "."], "it is a folder"),
    ],
)
def test_wrong_use_is_said_in_one_line(arguments, words, capsys):
    assert main(["bench", *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_help_names_every_peer(capsys):
    assert main(["bench", "--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in PEERS)
    assert {getattr(peers, name) for name in PEERS.values()} == set(peers.PEERS)

"""The table and the chart of `fastmlp bench`, and when they warn."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.command_line import run

from fastmlp.bench import load, report, turns


def made(seconds, others=0.0, before=0.0, threads=2, cores=2):
    """A report of made-up times: seconds of each turn, for each peer."""
    measured = turns.Turns(seconds, losses=dict.fromkeys(seconds, 0.5))
    limits = {"fma": 1e11, "fma_one_core": 5e10, "read": 2e10, "read_one_core": 1e10, "dense": 1e-3, "nonzero": 1e-4}
    return {
        "machine": {
            "processor": "cpu", "cores": cores, "own_cores": cores, "vector_bits": 512, "system": "Linux x86_64",
            "python": "3.12",
        },
        "versions": dict.fromkeys(seconds, "1"),
        "limits": limits,
        "work": {
            "data": "mnist", "rows": 60_000, "layers": [784, 128, 10], "activation": "relu", "batch_size": 64,
            "epochs": 2, "rate": 0.1, "nonzero": 0.19, "threads": threads, "unbound": [], "runs": 3,
        },
        "others": {"before": before, "during": others},
        "results": report.results(measured, limits),
        "errors": {}, "not_compared": {}, "missing": {}, "interrupted": False,
    }  # fmt: skip


QUIET = {"fastmlp": [0.030, 0.031, 0.032], "NumPy": [0.30, 0.31, 0.32]}


def test_results():
    measured = turns.Turns({"fastmlp": [1.0, 2.0, 4.0], "other": [4.0, 4.0, 4.0]})
    ours, other = report.results(measured, {"dense": 0.5, "nonzero": 0.25})
    assert (ours["best"], ours["median"], ours["spread"]) == (1.0, 2.0, 1.5)
    assert (other["ratio"], other["ratio_range"], other["ratio_of_bests"]) == (2.0, [1.0, 4.0], 4.0)
    assert (other["share_of_dense_limit"], other["share_of_nonzero_limit"]) == (0.125, 0.0625)


def test_table():
    assert report.table(made(QUIET)) == [
        "                            epoch, ms        times fastmlp   share of limit",
        "                 best  median  spread   median       range   dense  nonzero",
        "fastmlp          30.0    31.0      6%     1.00  1.00..1.00    3.3%     0.3%",
        "NumPy             300     310      6%     10.0  10.0..10.0    0.3%    <0.1%",
        "dense limit      1.00",
        "nonzero limit   0.100",
        "limits: 100 GFLOP/s in float32 multiply-adds (50 on one core), 20.0 GB/s read from memory (10.0)",
    ]


def test_the_times_of_a_turn_keep_their_unit():
    done = turns.Turns({"fastmlp": [0.0011, 0.0009], "NumPy": [1.5, 1.6]})
    assert report.turn_line(2, 5, done) == "turn 2 of 5, ms: fastmlp 0.900, NumPy 1,600"


@pytest.mark.parametrize(("seconds", "unit", "best"), [
    (8.2e-6, "µs", "8.20"), (999e-6, "µs", "999"), (1.5e-3, "ms", "1.50"), (0.412, "ms", "412"),
    (3.4, "ms", "3,400"), (12.5, "s", "12.5"),
])  # fmt: skip
def test_the_unit_is_that_of_the_fastest(seconds, unit, best):
    lines = report.table(made({"fastmlp": [seconds]}))
    assert f"epoch, {unit}" in lines[0]
    assert lines[2].split()[:2] == ["fastmlp", best]


@pytest.mark.parametrize("width", [30, 50, 60, 78, 100])
def test_the_table_fits_a_narrow_terminal(width):
    lines = report.table(made(QUIET), width)[:6]
    assert max(map(len, lines)) <= max(width, 37)
    assert "fastmlp" in lines[2]


def test_nothing_is_said_on_a_quiet_machine():
    assert report.warnings(made(QUIET, others=0.1)) == []
    assert report.warnings(made(QUIET, others=2.0, cores=8)) == []  # of other cores


@pytest.mark.parametrize("when", ["before", "others"])
def test_a_busy_machine_gets_a_warning(when):
    (line,) = report.warnings(made(QUIET, **{when: 1.3}))
    assert line == "WARNING: the machine was busy: other programs used 1.3 of 2 cores; do not quote the ratios"
    (line,) = report.warnings(made({"fastmlp": [0.03] * 3}, **{when: 1.3}))
    assert line.endswith("; do not quote the times")


def test_a_wide_spread_gets_a_warning():
    (line,) = report.warnings(made(QUIET | {"JAX": [0.1, 0.2, 0.3]}))
    assert line == "WARNING: the turns of JAX differ by more than 50%; do not quote its ratio"
    (line,) = report.warnings(made(QUIET | {"fastmlp": [0.03, 0.05, 0.09]}))
    assert line == "WARNING: the turns of fastmlp differ by more than 50%; do not quote the ratios"


def test_cores_that_are_in_the_way():
    assert not load.others_are_in_the_way(0.2, threads=2, cores=2)
    assert load.others_are_in_the_way(0.3, threads=2, cores=2)
    assert not load.others_are_in_the_way(1.0, threads=1, cores=2)
    assert not load.others_are_in_the_way(None, threads=2, cores=2)


def test_own_work_is_not_that_of_others(monkeypatch):
    busy, own = iter([100.0, 103.0]), iter([50.0, 52.0])  # seconds, of all and of this program
    wall = iter([10.0, 12.0])
    monkeypatch.setattr(load, "_busy_seconds", lambda: next(busy))
    monkeypatch.setattr(load, "_own_seconds", lambda: next(own))
    monkeypatch.setattr(load.time, "perf_counter", lambda: next(wall))
    assert load.Others().cores() == 0.5  # one second in two


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux counts busy seconds")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_process_may_have_any_name(tmp_path):
    program = os.fsencode(tmp_path) + b"/caf\xe9"
    shutil.copy(os.fsencode(sys.executable), program)
    with subprocess.Popen([program, b"-c", b"input()"], stdin=subprocess.PIPE) as process:
        try:
            assert load._own_seconds() > 0
        finally:
            process.kill()


def test_own_seconds_include_children_that_have_ended():
    before = load._own_seconds()
    program = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert load._own_seconds() - before >= 0.25
    assert load._busy_seconds() > 0


def test_a_system_without_counters_tells_no_numbers(monkeypatch):
    monkeypatch.setattr(load, "_busy_seconds", lambda: None)
    assert load.Others().cores() is None


def drawn(measured, tmp_path, monkeypatch):
    """The chart: its axes and its texts."""
    figure = pytest.importorskip("matplotlib.figure")
    kept = []
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, path: kept.append(self))
    report.chart(measured, tmp_path / "bench.svg")
    (axes,) = kept[0].axes
    return axes, kept[0]


def test_a_bad_turn_does_not_squeeze_the_chart(tmp_path, monkeypatch):
    bad = QUIET | {"NumPy": [0.30, 0.31, 60.0]}
    axes, figure = drawn(made(bad), tmp_path, monkeypatch)
    assert axes.get_xlim()[1] < 2 * 310
    (arrow,) = [line for line in axes.lines if line.get_marker() == ">"]
    assert 310 < arrow.get_xdata()[0] < axes.get_xlim()[1]
    assert max(max(line.get_xdata()) for line in axes.lines) <= arrow.get_xdata()[0]
    assert "310 ms  (10.0 x), worst 60,000 ms" in [text.get_text() for text in axes.texts]
    assert "do not quote" in figure.get_suptitle()


def test_a_quiet_chart_has_no_arrow_and_no_warning(tmp_path, monkeypatch):
    axes, figure = drawn(made(QUIET), tmp_path, monkeypatch)
    assert [line for line in axes.lines if line.get_marker() == ">"] == []
    assert figure.get_suptitle() == ""


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_chart_is_written(ending, tmp_path):
    pytest.importorskip("matplotlib")
    target = tmp_path / f"bench.{ending}"
    report.chart(made(QUIET), target)
    assert target.read_bytes().startswith(b"\x89PNG" if ending == "png" else b"<?xml")


def test_chart_of_another_kind_is_refused_before_anything_runs(tmp_path):
    done = run("bench", "--data", "digits", "--chart", tmp_path / "bench.jpeg")
    assert done.returncode == 2
    assert re.search(r"does not end in \.png or \.svg\n$", done.stderr)

"""benchmarks.scaling beside other libraries."""

from dataclasses import replace

from benchmarks import scaling
from fastmlp.bench import turns
from fastmlp.bench.notebooks import NumPy


def test_other_libraries_are_measured(capsys, monkeypatch):
    monkeypatch.setattr(turns, "PAUSE", 0.0)
    monkeypatch.setattr(turns, "fma_peak", lambda **_: 1e11)
    digits = replace(scaling.NETWORKS["digits"], quick_epochs=2)
    monkeypatch.setitem(scaling.NETWORKS, "digits", digits)
    scaling.print_peers(["digits"], [NumPy()], 1, quick=True)
    *_, head, _, row = capsys.readouterr().out.splitlines()
    assert head == "| network | fastmlp | NumPy |"
    name, *times = row.strip("| ").split(" | ")
    assert name == "digits, 64-32-10, batch 64"
    assert all(float(time) > 0 for time in times)
    assert len(times) == 2

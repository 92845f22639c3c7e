"""In the profiled build each thread counts the cycles of all phases, and computes the same bits."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastmlp.kernels import team

ROOT = Path(__file__).resolve().parents[2]

TRAIN = """
import json
import numpy as np
import fastmlp
rng = np.random.default_rng(0)
X = rng.standard_normal((300, 40), dtype=np.float32)
y = np.arange(300) % 3
net = fastmlp.MLP([40, 64, 3], n_threads=2)
net.fit(X, y, epochs=3)
(space,) = (space for idle in net._engine._idle.values() for space in idle if len(space.layers) == 2)
clocks = [space.clocks(rank)[:-1].tolist() for rank in range(2)]
print(json.dumps([clocks, float(np.float64(net.weights[0]).sum()), float(np.float64(net.weights[1]).sum())]))
"""


def trained(profiled):
    environment = {key: value for key, value in os.environ.items() if key != "FASTMLP_PROFILED"}
    environment |= {"FASTMLP_PROFILED": "1"} if profiled else {}
    command = [sys.executable, "-c", TRAIN]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_profiled_build_counts_every_phase_and_changes_no_bit():
    clocks, *weights = trained(True)
    for own in clocks:
        assert len(own) == len(team.PHASES)
        assert all(cycles > 0 for cycles in own[1:]) or not any(own[1:]), own  # none where there is no clock
    normal, *same = trained(False)
    assert not any(cycles for own in normal for cycles in own)
    assert weights == same


def test_performance_counts_the_work_of_all_phases():
    pytest.importorskip("benchmarks.performance")
    from benchmarks.performance import work
    from fastmlp.bench.flops import epoch_flops

    for kind, n_nonzero in (("packed", 1234), ("dense", 60_000 * 784), ("bytes", 1234), ("csr", 1234)):
        flops, n_bytes = work(kind, (784, 128, 64, 10), 60_000, n_nonzero, 700)
        assert sum(flops.values()) == epoch_flops((784, 128, 64, 10), 60_000, n_nonzero)
        assert set(flops) | set(n_bytes) <= set(team.PHASES)

"""Many short fits with more threads than cores, and many processes that compile at once into one cold folder."""

import hashlib
import json
import os
import subprocess
import sys

import pytest
from support.nets import ROOT

# --- more threads than cores ------------------------------------------------------------------------------------------

MANY = """
import faulthandler, sys
faulthandler.dump_traceback_later(400, exit=True)  # where a team hangs, this says at which barrier
import numpy as np
from fastmlp import MLP

generator = np.random.default_rng(0)
X, y = generator.random((300, 20), np.float32), generator.integers(0, 5, 300)
X[generator.random(X.shape) < 0.5] = 0
layers = ([20, 33, 5], [20, 130, 5], [20, 70, 40, 5], [20, 5])

def bits(i, n_threads):
    first_layer = ("dense", "sparse")[i % 2]
    net = MLP(layers[i % 4], seed=i, n_threads=n_threads, first_layer=first_layer)
    history = net.fit(X, y, epochs=2, batch_size=(25, 60, 300)[i % 3])
    return [p.tobytes() for p in net.weights + net.biases], history.loss, history.accuracy

for i in range(int(sys.argv[1])):
    alone = bits(i, 1)
    for n_threads in (4, 7):
        assert bits(i, n_threads) == alone, (i, n_threads)
"""


@pytest.mark.parametrize("n_fits", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_short_fits_of_more_threads_than_cores(n_fits):
    """Neither hangs nor differs from those of one thread."""
    ran = subprocess.run(
        [sys.executable, "-c", MANY, str(n_fits)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=450, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")


PAUSED = """
import faulthandler, sys
faulthandler.dump_traceback_later(400, exit=True)
import numpy as np
from fastmlp import MLP
from fastmlp.engine import compiled, threads

def run(engine, call, space, size, seconds, go_on=lambda: True):
    def pause():
        go_on()
        space.pause()
        return True
    n_calls.append(size)
    threads.run_team(size, call, go_on=pause, stop=space.stop, release=space.release)

threads._POLL_SECONDS, compiled.CompiledEngine._run, n_calls = 1e-4, run, []
generator = np.random.default_rng(0)
X, y = generator.random((20000, 20), np.float32), generator.integers(0, 5, 20000)
bits = {}
while len(n_calls) < int(sys.argv[1]):  # eight units are one vector, so threads divide the rows of a batch
    for n_threads in (1, 2, 4):
        net = MLP([20, 8, 5], n_threads=n_threads)
        net.fit(X, y, epochs=2, batch_size=128)
        bits[n_threads] = [p.tobytes() for p in net.weights + net.biases]
    assert bits[1] == bits[2] == bits[4]
assert {1, 2, 4} <= set(n_calls), set(n_calls)
"""


@pytest.mark.parametrize("n_calls", [400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_teams_that_pause_all_the_time(n_calls):
    """All threads of a team return after the same step, although one may be far behind when rank 0 reads the next."""
    ran = subprocess.run(
        [sys.executable, "-c", PAUSED, str(n_calls)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=450, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")


# --- processes that compile at once -----------------------------------------------------------------------------------

ONE_OF_MANY = """
import hashlib, json
import numpy as np
from fastmlp import MLP
from fastmlp.kernels import epoch, matmul
from fastmlp.kernels.formats import FORMATS

print("ready", flush=True)
input()
X = np.random.default_rng(0).random((300, 20), np.float32)
net = MLP([20, 40, 3], n_threads=2, seed=1)
print(json.dumps({
    "bits": hashlib.sha256(net.predict_proba(X).tobytes()).hexdigest(),
    "compiled": len(matmul.forward.signatures),
    "hits": sum(epoch.infer_loop(FORMATS["dense"], "plain", "softmax").stats.cache_hits.values()),
}))
"""


def predictions_in_processes(n_processes, folder):
    """What as many processes say that begin to predict at the same time."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", ONE_OF_MANY]
    processes = []
    try:
        for _ in range(n_processes):
            processes.append(subprocess.Popen(command, env=environment, **pipes))  # noqa: PERF401
        for process in processes:
            assert process.stdout.readline() == "ready\n", process.stderr.read()
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        said = []
        for process in processes:
            out, err = process.communicate(timeout=300 + 30 * n_processes)
            assert (process.returncode, err) == (0, "")
            said.append(json.loads(out))
        return said
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.mark.slow  # `test_processes_that_start_together_compile_once` does so with a small kernel
@pytest.mark.parametrize("n_processes", [2, 8])
def test_processes_fill_a_cold_cache_at_once(n_processes, tmp_path):
    folder = tmp_path / "cache"
    said = predictions_in_processes(n_processes, folder)
    assert any(process["compiled"] for process in said)
    assert len({process["bits"] for process in said}) == 1
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert sorted(name.partition("-")[0] for name in files) == ["infer_dense"]
    for name, content in files.items():
        assert name.endswith(".kernel")
        assert hashlib.sha256(name.encode() + b"\0" + content[32:]).digest() == content[:32]  # whole
    (last,) = predictions_in_processes(1, folder)
    assert last == {"bits": said[0]["bits"], "compiled": 0, "hits": 1}
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == files

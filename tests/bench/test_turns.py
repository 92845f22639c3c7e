"""Peers do the same work as fastmlp; one that does other work is not timed."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.nets import ROOT

from fastmlp import datasets
from fastmlp.bench import command, machine, peers, turns
from fastmlp.bench.peers import PEERS, FastMLP, NumPy, ScikitLearn, Task

TASK = Task((64, 32, 10), 64, epochs=2)  # so few that the accuracy still depends on the order of the rows


@pytest.fixture(scope="module")
def digits():
    X, y, *_ = datasets.load_digits()
    return X, y


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(turns, "PAUSE", 0.0)
    monkeypatch.setattr(turns, "fma_peak", lambda **_: 1e11)
    monkeypatch.setattr(machine, "fma_peak", lambda **_: 1e11)
    monkeypatch.setattr(machine, "read_bandwidth", lambda *_: 1e10)


def made(kind):
    try:
        return kind()
    except ImportError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    "kind", [kind for kind in PEERS if kind.name != "PyTorch compiled"], ids=lambda kind: kind.name
)
@pytest.mark.parametrize("activation", ["relu", "logistic"])
@pytest.mark.filterwarnings("ignore")  # of other libraries
def test_peer_comes_to_the_loss_of_fastmlp(kind, activation, digits):
    task = Task((64, 32, 10), 64, epochs=2, activation=activation)
    done = turns.take_turns([FastMLP(), made(kind)], *digits, task, 1)
    assert (done.errors, done.not_compared) == ({}, {})
    assert len(done.seconds[kind.name]) == 1
    assert done.losses[kind.name] == pytest.approx(done.losses["fastmlp"], rel=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_two_classes_of_scikit_learn_are_timed_but_not_compared(digits):
    X, y = digits[0], digits[1] % 2
    done = turns.take_turns([FastMLP(), ScikitLearn()], X, y, Task((64, 32, 2), 64, epochs=1), 1)
    assert done.errors == {}
    assert "one output for two classes" in done.not_compared["scikit-learn"]
    assert len(done.seconds["scikit-learn"]) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_peer_comes_to_the_loss_of_fastmlp(digits):
    done = turns.take_turns([FastMLP(), made(peers.CompiledPyTorch)], *digits, TASK, 1)
    assert done.errors == {}


@pytest.mark.parametrize(
    "kind", [kind for kind in PEERS if kind.name != "PyTorch compiled"], ids=lambda kind: kind.name
)
@pytest.mark.filterwarnings("ignore")
def test_peer_predicts_what_fastmlp_does(kind, digits):
    X, _ = digits
    net = FastMLP()._network(TASK, *_first())
    predict = made(kind).prepare_inference(X, TASK, net.weights, net.biases)
    np.testing.assert_allclose(np.asarray(predict()), net.predict_proba(X), atol=1e-5)


def _first():
    import fastmlp

    net = fastmlp.MLP(TASK.layers)
    return list(net.weights), list(net.biases)


class Slack(NumPy):
    """A peer that never changes the first layer."""

    name = "slack"

    def _step(self, x, y, task, weights, biases, dw, db):
        first = weights[0].copy()
        super()._step(x, y, task, weights, biases, dw, db)
        weights[0][...] = first


class Late(NumPy):
    """A peer that works in the first epoch, which is checked, but not in the epochs that are timed."""

    name = "late"

    def prepare(self, X, y, task, weights, biases):
        return super().prepare(X, y, task, weights, biases) if task.epochs == 1 else lambda: (weights, biases)


class Broken(NumPy):
    name = "broken"

    def prepare(self, X, y, task, weights, biases):
        raise RuntimeError("no compiler\nfound")


@pytest.mark.parametrize(("peer", "words"), [(Slack, "loss is"), (Late, "loss is"), (Broken, "no compiler found")])
def test_wrong_work_is_an_error_in_place_of_a_time(peer, words, digits, tmp_path):
    lines = []
    measured = command.run(
        *digits, TASK, data="digits", runs=2, peers=(NumPy, peer), write=lines.append,
        json_file=str(tmp_path / "bench.json"),
    )  # fmt: skip
    found = json.loads((tmp_path / "bench.json").read_text())
    assert measured == found
    assert words in found["errors"][peer.name]
    assert {row["name"] for row in found["results"]} == {"fastmlp", "NumPy"}
    assert any(line.startswith(f"{peer.name}: ERROR") for line in lines)


def test_fastmlp_itself_must_not_fail(digits):
    with pytest.raises(RuntimeError, match="no compiler"):
        turns.take_turns([Broken()], *digits, TASK, 1)


def test_turns_alternate(digits):
    said = []
    turns.take_turns([FastMLP(), NumPy()], *digits, TASK, 2, say=said.append)
    assert said == [
        "check of fastmlp", "check of NumPy", "turn 1 of 2, fastmlp", "turn 1 of 2, NumPy", "turn 2 of 2, fastmlp",
        "turn 2 of 2, NumPy",
    ]  # fmt: skip


def test_ctrl_c_keeps_the_turns_that_finished(digits, monkeypatch):
    presses = iter([None, None, KeyboardInterrupt])

    class Pressed(NumPy):
        def prepare(self, *given):
            if next(presses):
                raise KeyboardInterrupt
            return super().prepare(*given)

    done = turns.take_turns([FastMLP(), Pressed()], *digits, TASK, 5)
    assert done.interrupted
    assert [len(seconds) for seconds in done.seconds.values()] == [1, 1]  # none of the turn that was cut short


def test_ctrl_c_before_the_first_time_ends_it(digits):
    class Pressed(NumPy):
        def prepare(self, *given):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        turns.take_turns([FastMLP(), Pressed()], *digits, TASK, 5)


def test_a_fit_cut_short_by_ctrl_c_is_no_time(digits, monkeypatch):
    import fastmlp

    class Interrupted:
        interrupted = True

    monkeypatch.setattr(fastmlp.MLP, "fit", lambda *_, **__: Interrupted())
    with pytest.raises(KeyboardInterrupt):
        FastMLP().prepare(*digits, TASK, *_first())()


@pytest.mark.parametrize("n_threads", [1, 2])
def test_peers_keep_to_the_number_of_threads(n_threads):
    from threadpoolctl import threadpool_info

    with peers.bound_blas(n_threads):
        pools = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
        assert max(pools, default=0) <= n_threads
        assert bool(peers.unbound(n_threads)) == (not pools)  # a library without pools chooses for itself
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    made(peers.PyTorch).__class__(n_threads)
    assert torch.get_num_threads() == n_threads
    torch.set_num_threads(before)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads have no names here")
def test_jax_keeps_to_the_number_of_threads():
    pytest.importorskip("jax")
    program = (
        "import os\nfrom fastmlp.bench.peers import JAX\njax = JAX(1).jax\n"
        "x = jax.numpy.ones((500, 500))\n(x @ x).block_until_ready()\n"
        "names = [open(f'/proc/self/task/{task}/comm').read().strip() for task in os.listdir('/proc/self/task')]\n"
        "print(names.count('tf_XLAEigen'), 'NPROC' in os.environ)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "1 False\n", done.stderr

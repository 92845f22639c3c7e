"""Peers do the same work as fastmlp; one that does other work is not timed."""

import json

import numpy as np
import pytest

from fastmlp import datasets
from fastmlp.bench import command, peers, report, turns
from fastmlp.bench.peers import PEERS, FastMLP, NumPy, Task

TASK = Task((64, 32, 10), 64, epochs=20)  # so many that the order of the rows matters little


@pytest.fixture(scope="module")
def digits():
    X, y, *_ = datasets.load_digits()
    return X, y


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(turns, "PAUSE", 0.0)
    monkeypatch.setattr(turns, "fma_peak", lambda **_: 1e11)


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
    task = Task((64, 32, 10), 32, epochs=20, activation=activation)
    done = turns.take_turns([FastMLP(), made(kind)], *digits, task, 1)
    assert done.errors == {}
    assert len(done.seconds[kind.name]) == 1


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


@pytest.mark.parametrize(("peer", "words"), [(Slack, "loss is"), (Late, "accuracy is"), (Broken, "no compiler found")])
def test_wrong_work_is_an_error_in_place_of_a_time(peer, words, digits, tmp_path):
    lines = []
    good = command.run(
        *digits, TASK, data="digits", runs=2, peers=(NumPy, peer), write=lines.append,
        json_file=str(tmp_path / "bench.json"),
    )  # fmt: skip
    found = json.loads((tmp_path / "bench.json").read_text())
    assert not good
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


def test_results():
    measured = turns.Turns({"fastmlp": [1.0, 2.0, 4.0], "other": [4.0, 4.0, 4.0]})
    ours, other = report.results(measured, {"dense": 0.5, "nonzero": 0.25})
    assert (ours["best"], ours["median"], ours["spread"]) == (1.0, 2.0, 1.5)
    assert (other["ratio"], other["ratio_range"], other["ratio_of_bests"]) == (2.0, [1.0, 4.0], 4.0)
    assert (other["share_of_dense_limit"], other["share_of_nonzero_limit"]) == (0.125, 0.0625)


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_chart(ending, digits, tmp_path):
    pytest.importorskip("matplotlib")
    target = tmp_path / f"bench.{ending}"
    assert command.run(
        *digits, TASK, data="digits", runs=2, peers=(NumPy,), chart_file=str(target), write=lambda line: None
    )
    assert target.read_bytes().startswith(b"\x89PNG" if ending == "png" else b"<?xml")


def test_chart_of_another_kind_is_refused_before_anything_runs(digits):
    with pytest.raises(ValueError, match=r"does not end in \.png or \.svg"):
        command.run(*digits, TASK, data="digits", chart_file="bench.jpeg")

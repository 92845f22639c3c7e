"""How the shards of `fastmlp.dask.fit` average: the same bits with and without xgboost, and how long a call takes."""

import numpy as np
import pytest

pytest.importorskip("distributed")
pytest.importorskip("dask.array")

from numpy.testing import assert_allclose
from support.nets import AtEpochEnd, Recorder, assert_same, parameters

import fastmlp.dask
from fastmlp import MLP

N, LAYERS = 230, [20, 16, 3]


def let_xgboost(client, be):
    """Let the workers believe that xgboost is missing, or broken, or let it work."""

    def patch():
        from importlib.util import find_spec

        from fastmlp.dask import ring, shard

        def broken(*_):
            raise OSError("no address")

        shard.find_spec = (lambda name: None) if be == "missing" else find_spec
        shard.Tracker = broken if be == "broken" else ring.Tracker

    client.run(patch)


def flip(net, fit):
    np.negative(net.biases[0], net.biases[0])


@pytest.fixture
def constants(client):
    """A function that changes constants of the workers, for the time of a test."""

    def change(**numbers):
        from fastmlp.dask import ring, shard

        vars(ring).update(_GATHERED_BYTES=numbers.get("at_once", 2**22))
        vars(shard).update(SECONDS_PER_CALL=numbers.get("seconds", 0.5))

    yield lambda **numbers: client.run(change, **numbers)
    client.run(change)


@pytest.mark.parametrize(
    ("average_every", "n_shards", "without", "fit"),
    [
        ("step", 2, "missing", {"optimizer": "adam", "clip_norm": 0.5}),
        ("epoch", 3, "broken", {"optimizer": "adam", "sample_weight": np.arange(N) % 7}),
        (2, 2, "missing", {"optimizer": "adam", "schedule": "cosine"}),
        (2, 2, "broken", {"optimizer": "adam", "callbacks": [AtEpochEnd(flip)]}),
    ],
)
def test_same_bits_with_and_without_xgboost(client, data, rounds, constants, average_every, n_shards, without, fit):
    """With it, shards average among themselves."""
    pytest.importorskip("xgboost")
    constants(at_once=2**10)
    nets, n_rounds = [MLP(LAYERS, l2=1e-3, dropout=0.2) for _ in range(2)], []
    try:
        for net, be in zip(nets, ("working", without), strict=True):
            let_xgboost(client, be)
            fastmlp.dask.fit(client, net, *data, average_every=average_every, n_shards=n_shards, epochs=5, **fit)
            n_rounds.append(rounds.copy())
            rounds.clear()
    finally:
        let_xgboost(client, "working")
    for a, b in zip(*map(parameters, nets), strict=True):
        assert a.tobytes() == b.tobytes()
    assert nets[0].history.accuracy == nets[1].history.accuracy
    assert nets[0]._random.generator.bit_generator.state == nets[1]._random.generator.bit_generator.state
    if average_every == "step":
        assert_allclose(nets[0].history.loss, nets[1].history.loss, rtol=1e-12)
    else:
        assert nets[0].history.loss == nets[1].history.loss
        assert max(n_rounds[0]) > 1
        assert n_rounds[1] == [1] * sum(n_rounds[0])


def test_shards_return_when_the_time_for_a_call_is_over(client, data, rounds, constants):
    """The bits do not depend on it."""
    pytest.importorskip("xgboost")
    nets = [MLP(LAYERS) for _ in range(2)]
    for net, seconds in zip(nets, (60, 0), strict=True):
        constants(seconds=seconds)
        fastmlp.dask.fit(client, net, *data, n_shards=2, epochs=3, average_every=4, optimizer="adam", batch_size=32)
    assert rounds == [6] + [1] * 6
    assert_same(*nets)


@pytest.mark.parametrize("average_every", ["epoch", 2])
def test_a_loss_turns_bad_while_the_shards_are_alone(client, data, rounds, average_every):
    """The network has the last average before that, as it has if the client averages."""
    nets, n_batches = [MLP(LAYERS) for _ in range(2)], -(-N // 32)
    for net, callbacks in zip(nets, ([], [Recorder()]), strict=True):  # with callbacks, a call ends with the epoch
        with pytest.raises(FloatingPointError, match="lower learning_rate") as info:
            fastmlp.dask.fit(
                client, net, *data, n_shards=2, epochs=9, batch_size=32, average_every=average_every,
                schedule=lambda step: 1.0 if step < 5 * n_batches + 4 else 1e36, callbacks=callbacks,
            )  # fmt: skip
        assert "step 6 of the epoch, in shard" in str(info.value)
        assert len(net.history.loss) == 5
    assert_same(*nets)
    assert max(rounds) > 1
    assert nets[0].history.loss == nets[1].history.loss
    assert nets[0].history.steps == nets[1].history.steps


def test_one_shard_needs_nobody_to_average(client, data, rounds):
    fastmlp.dask.fit(client, MLP(LAYERS), *data, n_shards=1, epochs=100)
    assert sum(rounds) == 100
    assert len(rounds) < 50

"""A fit on blocks resumes to the bit, also within an epoch."""

import warnings

import pytest
from support.blocks import FIT, blocks_of, network, state, trained

from fastmlp import MLP
from fastmlp.callbacks import Checkpoint
from fastmlp.data import Blocks

pytestmark = [pytest.mark.loops("blocks"), pytest.mark.filterwarnings("ignore:this fit has learned nothing")]


class StopsAfter:
    """Ctrl-C after so many mixes."""

    def __init__(self, n):
        self.n = n

    def on_mix_end(self, net, fit):
        self.n -= 1
        if self.n == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [1, 2, 5, 11])
def test_a_fit_resumes_within_an_epoch(rows, tmp_path, after):
    expected, net = network(), network()
    expected.fit(blocks_of(rows), **FIT)
    with pytest.warns(UserWarning, match="Ctrl-C stopped training in epoch"):
        net.fit(blocks_of(rows), **FIT, callbacks=[StopsAfter(after)])
    assert 0 < net.history.steps < expected.history.steps
    net.save(tmp_path / "net.npz", training=True)
    net = MLP.load(tmp_path / "net.npz")
    history = net.fit(blocks_of(rows), **FIT, resume=True)
    assert state(net) == state(expected)
    assert (history.loss, history.accuracy, history.steps) == (
        expected.history.loss, expected.history.accuracy, expected.history.steps,
    )  # fmt: skip


def test_ctrl_c_at_any_step(rows):
    class Stops:
        def on_step(self, net, fit):
            if fit.step % 7 == 5:
                raise KeyboardInterrupt

    expected, net = network(), network()
    expected.fit(blocks_of(rows), **FIT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.fit(blocks_of(rows), **FIT, callbacks=[Stops()])
        for _ in range(100):
            if net.history.steps == expected.history.steps:
                break
            net.fit(blocks_of(rows), **FIT, resume=True, callbacks=[Stops()] if net.history.steps < 100 else [])
    assert state(net) == state(expected)
    assert net.history.loss == expected.history.loss


def test_checkpoints_within_an_epoch(rows, tmp_path):
    expected = network()
    expected.fit(blocks_of(rows), **FIT)
    with pytest.warns(UserWarning, match="Ctrl-C"):
        network().fit(blocks_of(rows), **FIT, callbacks=[Checkpoint(tmp_path / "net.npz", seconds=0), StopsAfter(7)])
    net = MLP.load(tmp_path / "net.npz")
    assert 0 < net.history.steps < expected.history.steps
    net.fit(blocks_of(rows), **FIT, resume=True)
    assert state(net) == state(expected)
    with pytest.raises(ValueError, match="within an epoch"):
        Checkpoint("net.npz", monitor="val_loss", seconds=1)


def test_an_unfinished_epoch_is_of_the_same_blocks(rows):
    net = network()
    with pytest.warns(UserWarning, match="Ctrl-C"):
        net.fit(blocks_of(rows), **FIT, callbacks=[StopsAfter(2)])
    before = state(net)
    with pytest.raises(ValueError, match="an epoch of 997 rows in batches of 16, but there are 960 rows"):
        net.fit(blocks_of((rows[0][:960], rows[1][:960])), **FIT, resume=True)
    assert state(net) == before
    net.fit(*rows, **FIT, resume=True)  # rows in memory begin a new epoch
    assert net._training_state.unfinished is None


@pytest.mark.parametrize(
    ("settings", "fit"),
    [({"rows": 20}, {}), ({"mix": 3}, {}), ({}, {"shuffle": False})],
    ids=["rows", "mix", "shuffle"],
)
def test_an_unfinished_epoch_has_an_order(rows, settings, fit):
    net = network()
    with pytest.warns(UserWarning, match="Ctrl-C"):
        net.fit(blocks_of(rows), **FIT, callbacks=[StopsAfter(2)])
    before = state(net)
    with pytest.raises(ValueError, match="give Blocks with the same rows and mix, and the same shuffle"):
        net.fit(Blocks(*rows, **{"rows": 40, "mix": 5} | settings), **FIT, **fit, resume=True)
    assert state(net) == before
    net.fit(blocks_of(rows), **FIT, resume=True)


def test_a_new_learning_rate_begins_with_an_epoch(rows):
    class Changes:
        def on_mix_end(self, net, fit):
            fit.learning_rate_factor = 0.0 if fit.epoch == 0 else 1.0

    net = network()
    net.fit(blocks_of(rows), **FIT | {"epochs": 1})
    assert trained(blocks_of(rows), epochs=1, callbacks=[Changes()]) == (state(net), net.history.loss)
    changed = network()
    changed.fit(blocks_of(rows), **FIT | {"epochs": 2}, callbacks=[Changes()])
    assert changed.history.learning_rate == [0.1, 0.0]

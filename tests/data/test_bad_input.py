"""Bad rows, readers that raise or hang, and what blocks are not for."""

import _thread
import threading

import numpy as np
import pytest
from support.blocks import FEATURES, FIT, C, N, blocks_of, network, state, trained

import fastmlp
from fastmlp import MLP
from fastmlp.data import Blocks

pytestmark = [pytest.mark.loops("blocks"), pytest.mark.filterwarnings("ignore:this fit has learned nothing")]


def test_nan_is_found_before_its_block_is_trained_on(rows):
    X = rows[0].copy()
    X[700, 3] = np.nan
    net = network()
    with pytest.raises(ValueError, match="X has nan in row 700 of X, column 3"):
        net.fit(Blocks(X, rows[1], rows=40, mix=5), **FIT)
    assert np.isfinite(np.concatenate([w.ravel() for w in net.weights])).all()
    net.fit(*rows, **FIT)  # it can still be used


def test_a_fit_that_fails_before_its_first_step_draws_nothing(rows):
    X = rows[0].copy()
    X[:, 3] = np.inf
    net = network()
    with pytest.raises(ValueError, match="X has inf in row"):
        net.fit(Blocks(X, rows[1], rows=40, mix=5), **FIT)
    assert net.history.steps == 0
    assert trained(blocks_of(rows), net) == trained(blocks_of(rows))


@pytest.mark.parametrize("weight", [0, 1e-60, 1e60])
def test_weights_that_are_nothing_or_infinite_as_float32(rows, weight):
    with pytest.raises(ValueError, match="the weights of all rows add up to"):
        network().fit(Blocks(*rows, sample_weight=np.full(N, float(weight)), rows=40), **FIT)


def test_labels_are_checked_before_anything_is_trained(rows):
    y = rows[1].copy()
    y[900] = 7
    net = network()
    before = state(net)
    with pytest.raises(ValueError, match="y has label 7 in row 900|y has label 7"):
        net.fit(Blocks(rows[0], y, rows=40), **FIT)
    assert state(net) == before


def test_a_reader_that_raises_leaves_the_network_after_its_last_step(rows):
    class Broken:
        calls = 0

        def __len__(self):
            return 20

        def __getitem__(self, block):
            Broken.calls += 1
            if Broken.calls > 90:
                raise OSError("the disk is gone")
            chosen = slice(40 * block, 40 * (block + 1))
            return rows[0][chosen], rows[1][chosen]

    net = network()
    with pytest.raises(OSError, match="the disk is gone"):
        net.fit(Blocks(Broken(), mix=5), **FIT)
    steps = net.history.steps
    assert net._training_state.steps == steps > 0


def test_parts_of_blocks_name_rows_of_the_whole(rows):
    X, y = rows[0].copy(), rows[1].astype(float)
    X[700, 3], y[41] = np.nan, 0.5
    messages = []
    for blocks in (Blocks(X, rows[1], rows=40, mix=5), Blocks(rows[0], y, rows=40)):
        for part in blocks.split(0.4):
            try:
                network().fit(part, **FIT)
            except ValueError as error:
                messages.append(str(error))
    assert messages == [
        "X has nan in row 700 of X, column 3",
        "y has 0.5 in row 41 of y, but class labels are integers from 0 on",
    ]


def test_targets_of_a_part_do_not_read_the_rows(rows, files):
    part = Blocks(*files, rows=40).split(0.4)[1]
    assert [block.X for block in part._source.targets()] == [None] * part.n_blocks


def test_ctrl_c_ends_a_fit_whose_reader_hangs(rows, monkeypatch):
    monkeypatch.setattr("fastmlp.data.read_ahead._MOST_PATIENCE", 0.01)
    go_on, calls = threading.Event(), []

    class Hangs:
        def __len__(self):
            return 24

        def __getitem__(self, block):
            calls.append(block)
            reads_ahead = threading.current_thread() is not threading.main_thread()
            if reads_ahead and len(calls) > 80 and not go_on.is_set():
                _thread.interrupt_main()
                go_on.wait(120)
            return rows[0][40 * block : 40 * block + 40], rows[1][40 * block : 40 * block + 40]

    n_threads = threading.active_count()
    with pytest.warns(UserWarning, match="Ctrl-C stopped training in epoch"):
        network().fit(Blocks(Hangs(), mix=5), **FIT)
    go_on.set()
    for thread in threading.enumerate():
        if thread.name == "fastmlp reads ahead":
            thread.join(120)
    assert threading.active_count() == n_threads


def test_a_file_that_changes_is_noticed(rows, files):
    class Rewrites:
        def on_epoch_end(self, net, fit):
            np.save(files[0], rows[0] + 1)

    net = network()
    with pytest.raises(ValueError, match="changed"):
        net.fit(Blocks(*files, rows=40, mix=5), **FIT, callbacks=[Rewrites()])
    assert len(net.history.loss) == 1


def test_what_blocks_are_not_for(rows):
    blocks = blocks_of(rows)
    for call, match in (
        (lambda: network().fit(blocks, rows[1]), "do not give y again"),
        (lambda: network().fit(blocks, sample_weight=np.ones(N)), "do not give sample_weight again"),
        (lambda: network().fit(rows[0]), "fit needs y"),
        (lambda: network().train_batch(blocks, rows[1]), "only fit"),
        (lambda: network().fit(Blocks(rows[0], rows=40)), "without y"),
        (lambda: fastmlp.fit_many([network()], blocks, rows[1]), "X is Blocks, which only fit"),
        (lambda: fastmlp.Ensemble(network()).predict(blocks), "X is Blocks, which only fit"),
        (lambda: network().hidden_activations(blocks), "X is Blocks, which only fit"),
        (lambda: np.asarray(blocks), "X is Blocks, which only fit"),
        (lambda: network().evaluate(Blocks(rows[0], rows=40)), "without y"),
        (lambda: MLP([FEATURES + 1, C]).fit(blocks), "20 features, but the network has 21"),
    ):
        with pytest.raises((TypeError, ValueError), match=match):
            call()

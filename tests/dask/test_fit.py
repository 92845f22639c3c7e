"""`fastmlp.dask.fit` on a cluster of two worker processes."""

import copy
import itertools
import signal
import threading
import time
import warnings

import numpy as np
import pytest

pytest.importorskip("distributed")
pytest.importorskip("dask.array")

import dask
import dask.array as da
import dask.dataframe as dd
import pandas as pd
from distributed import Client, LocalCluster
from numpy.testing import assert_allclose
from scipy.sparse import csr_array
from support.nets import assert_same, parameters
from support.remote import wait_for

import fastmlp.dask
from fastmlp import MLP
from fastmlp.callbacks import EarlyStopping
from fastmlp.diagnosis import ConvergenceWarning
from fastmlp.optimizers import Adam

N, LAYERS = 230, [20, 16, 3]


# --- what is computed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "fit"),
    [
        ({}, {"batch_size": 30}),
        ({}, {"optimizer": "adam", "class_weight": "balanced", "schedule": "cosine", "average_every": 3}),
        ({"dropout": 0.2, "l2": 1e-3}, {"batch_size": 300, "shuffle": False, "optimizer": "adam"}),
    ],
)
def test_one_shard_is_bit_identical_to_fit(client, data, settings, fit):
    nets = [MLP(LAYERS, **settings) for _ in range(2)]
    history = fastmlp.dask.fit(client, nets[0], *data, n_shards=1, epochs=3, **fit)
    fit.pop("average_every", None)
    expected = nets[1].fit(*data, epochs=3, **fit)
    assert_same(*nets)
    assert (history.loss, history.accuracy, history.steps) == (expected.loss, expected.accuracy, expected.steps)
    before, after = (net.state_dict() for net in nets)
    assert before.keys() == after.keys()
    assert nets[0]._random.generator.bit_generator.state == nets[1]._random.generator.bit_generator.state


def test_two_shards_are_the_mean_of_two_fits(client, data):
    X, y = data
    net, twins = MLP(LAYERS), [MLP(LAYERS) for _ in range(2)]
    weights = np.random.default_rng(1).random(N)
    fastmlp.dask.fit(client, net, X, y, n_shards=2, epochs=2, batch_size=32, sample_weight=weights)
    rows = slice(0, N // 2), slice(N // 2, N)
    total = [weights[own].astype(np.float32).sum(dtype=np.float64) for own in rows]
    for _ in range(2):
        start = copy.deepcopy(twins[0]._random.generator)
        twins[1]._random.generator = np.random.Generator(start.bit_generator.jumped(1))
        for twin, own in zip(twins, rows, strict=True):
            twin.fit(X[own], y[own], epochs=1, batch_size=16, sample_weight=weights[own])
        for a, b in zip(*map(parameters, twins), strict=True):
            first = a.astype(np.float64)
            a[...] = b[...] = first + (b - first) * (total[1] / sum(total))
    assert_same(net, twins[0])


@pytest.mark.parametrize(
    ("settings", "fit"),
    [
        ({}, {}),
        ({"l2": 1e-2}, {"optimizer": Adam(learning_rate=0.01), "clip_norm": 0.5}),
        ({}, {"optimizer": "adam", "sample_weight": np.arange(N) % 3, "clip_value": 0.01}),
    ],
)
def test_averaging_at_each_step_is_fit_up_to_rounding(client, data, settings, fit):
    nets = [MLP(LAYERS, **settings) for _ in range(3)]
    fit = {"epochs": 2, "batch_size": 64, **fit}
    expected = nets[0].fit(*data, **fit)
    for net, n_shards in zip(nets[1:], (2, 3), strict=True):
        history = fastmlp.dask.fit(client, net, *data, average_every="step", n_shards=n_shards, **fit)
        for a, b in zip(parameters(net), parameters(nets[0]), strict=True):
            assert_allclose(a, b, rtol=1e-4, atol=1e-6)
        assert_allclose(history.loss, expected.loss, rtol=1e-5)
        assert history.accuracy == expected.accuracy


@pytest.mark.parametrize("average_every", ["epoch", "step"])
def test_same_bits_on_a_cluster_of_threads(client, data, average_every):
    """There, arguments are not copied, and neither is this client the current one."""
    nets = [MLP(LAYERS) for _ in range(2)]
    fastmlp.dask.fit(client, nets[0], *data, average_every=average_every, n_shards=4, epochs=3)
    with (
        LocalCluster(n_workers=2, threads_per_worker=2, processes=False, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as threads,
    ):
        fastmlp.dask.fit(threads, nets[1], *data, average_every=average_every, n_shards=4, epochs=3)
    assert_same(*nets)


@pytest.mark.parametrize("average_every", ["epoch", 2, "step"])
def test_same_bits_whatever_form_the_data_have(client, data, average_every):
    X, y = data
    frame, labels = pd.DataFrame(X, columns=[f"x{i}" for i in range(LAYERS[0])]), pd.Series(y)
    ends = [0, 100, 170, N]
    blocks = [(X[a:b], y[a:b]) for a, b in itertools.pairwise(ends)]
    chunks = tuple(np.diff(ends).tolist())
    frames = dd.from_delayed([dask.delayed(frame.iloc[a:b]) for a, b in itertools.pairwise(ends)])
    columns = dd.from_delayed([dask.delayed(labels.iloc[a:b]) for a, b in itertools.pairwise(ends)])
    array = da.from_array(X, chunks=(chunks, (15, 5)))
    forms = [
        ([x for x, _ in blocks], [y for _, y in blocks]),
        ([dask.delayed(x) for x, _ in blocks], [dask.delayed(y) for _, y in blocks]),
        (array, da.from_array(y, chunks=50)),
        (array, y),
        (client.scatter([x for x, _ in blocks]), client.scatter([y for _, y in blocks])),
        (frames, columns),
        (frames.to_dask_array(), columns.to_dask_array()),
        ([x for x, _ in blocks], y),
    ]
    nets = [MLP(LAYERS) for _ in forms]
    for net, (X_, y_) in zip(nets, forms, strict=True):
        fastmlp.dask.fit(client, net, X_, y_, average_every=average_every, n_shards=2, epochs=2)
        assert_same(net, nets[0])
    assert nets[5].feature_names == list(frame.columns)


def test_the_blocks_of_an_array_are_sent_once(client, data, recwarn):
    """They share one graph, which has all rows of an array in memory."""
    X, y = data
    blocks, labels = da.from_array(X, chunks=(50, 20)), da.from_array(y, chunks=50)
    validation = list(blocks.to_delayed().ravel()), list(labels.to_delayed())
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": X.nbytes}):
        warnings.simplefilter("always")
        fastmlp.dask.fit(client, MLP(LAYERS), blocks, labels, epochs=1, validation_data=validation)
    assert [str(warning.message).partition(" graph")[0] for warning in recwarn] == ["Sending large"] * 2


def test_partitions_may_be_empty_uneven_and_fewer_than_workers(client, data):
    X, y = data
    nets = [MLP(LAYERS) for _ in range(3)]
    rows = [slice(0, 0), slice(0, 7), slice(7, 7), slice(7, 222), slice(222, N), slice(N, N)]
    fastmlp.dask.fit(client, nets[0], [X[r] for r in rows], [y[r] for r in rows], n_shards=5, epochs=2)
    fastmlp.dask.fit(client, nets[1], [X], [y], epochs=2)  # one partition is one shard
    nets[2].fit(X, y, epochs=2)
    assert_same(nets[1], nets[2])
    assert np.isfinite(nets[0].weights[0]).all()
    assert nets[0].history.steps == 2 * -(-N // 64)


def test_classes_and_columns_are_learned_from_all_partitions(client, data):
    X, y = data
    order = np.argsort(y, kind="stable")  # no partition has all classes
    names = np.array(["ant", "bee", "cat"])
    labels = pd.Series(pd.Categorical(names[y[order]]))
    y_ = dd.from_delayed([dask.delayed(part) for part in (labels[:80], labels[80:170], labels[170:])])
    net, numbered = MLP(LAYERS), MLP(LAYERS)
    chunks = ((80, 90, 60), -1)
    fastmlp.dask.fit(client, net, da.from_array(X[order], chunks=chunks), y_, epochs=2, class_weight={"bee": 2.0})
    fastmlp.dask.fit(
        client, numbered, da.from_array(X[order], chunks=chunks), y[order], epochs=2, class_weight={1: 2.0}
    )
    assert_same(net, numbered)
    assert net.classes.tolist() == names.tolist()
    assert set(net.predict(X)) <= set(names)


def test_bytes_and_sparse_blocks(client):
    generator = np.random.default_rng(0)
    X, y = generator.integers(0, 255, (120, 20), np.uint8) * (generator.random((120, 20)) < 0.2), np.arange(120) % 3
    nets = [MLP(LAYERS, input_scale=1 / 255) for _ in range(2)]
    mixed = [X[:50], X[50:].astype(np.float32)]
    fastmlp.dask.fit(client, nets[0], mixed, [y[:50], y[50:]], n_shards=1, epochs=2)
    nets[1].fit(X.astype(np.float32), y, epochs=2)
    assert_same(*nets)
    nets = [MLP(LAYERS) for _ in range(2)]
    sparse = [csr_array(X[:50], dtype=np.float32), csr_array(X[50:], dtype=np.float32)]
    fastmlp.dask.fit(client, nets[0], sparse, [y[:50], y[50:]], n_shards=1, epochs=2, learning_rate=1e-4)
    nets[1].fit(csr_array(X, dtype=np.float32), y, epochs=2, learning_rate=1e-4)
    assert_same(*nets)


# --- what the client decides ------------------------------------------------------------------------------------------


def test_validation_and_early_stopping_are_central(client, data):
    X, y = data
    net = MLP(LAYERS)
    seen = []

    class Watch:
        def on_epoch_end(self, net, fit):
            seen.append((fit.epoch, net.evaluate(X, y)["loss"]))

    validation = da.from_array(X, chunks=100), da.from_array(y, chunks=100)
    history = fastmlp.dask.fit(
        client, net, X, y, epochs=50, learning_rate=1e-6, validation_data=validation, metrics=["f1_macro"],
        callbacks=[Watch(), EarlyStopping("val_loss", patience=2, min_delta=0.1)],
    )  # fmt: skip
    assert len(history.loss) == 3
    assert [loss for _, loss in seen] == history.val_loss
    assert len(history["val_f1_macro"]) == 3
    assert net.history is history


@pytest.mark.parametrize("average_every", ["epoch", 3, "step"])
def test_resume_is_bit_identical_to_one_long_fit(client, data, average_every):
    nets = [MLP(LAYERS, dropout=0.1) for _ in range(2)]
    fit = {"optimizer": "adam", "n_shards": 2, "average_every": average_every, "batch_size": 100}
    fastmlp.dask.fit(client, nets[0], *data, epochs=4, **fit)
    fastmlp.dask.fit(client, nets[1], *data, epochs=2, **fit)
    fastmlp.dask.fit(client, nets[1], *data, epochs=4, resume=True, **fit)
    assert_same(*nets)
    assert nets[0].history.loss == nets[1].history.loss


def shards_left(client):
    """Shards that the cluster still has after a while."""
    end = time.monotonic() + 60
    while keys := client.run_on_scheduler(
        lambda dask_scheduler: [k for k in dask_scheduler.tasks if "shard" in str(k)]
    ):
        if time.monotonic() > end:
            break
        time.sleep(0.05)
    return keys


def test_a_callback_that_raises_ends_the_fit_and_frees_the_workers(client, data):
    net = MLP(LAYERS)

    class Bad:
        def on_epoch_end(self, net, fit):
            if fit.epoch == 2:
                raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fastmlp.dask.fit(client, net, *data, epochs=5, callbacks=[Bad()])
    assert len(net.history.loss) == 2
    assert shards_left(client) == []
    net.fit(*data, epochs=1)


@pytest.mark.parametrize("average_every", ["epoch", "step"])
def test_ctrl_c_ends_the_fit_after_the_current_step(client, data, average_every):
    net = MLP(LAYERS)
    main = threading.main_thread().ident

    class Press:
        def on_step(self, net, fit):
            if fit.epoch == 2:
                signal.pthread_kill(main, signal.SIGINT)

    with pytest.warns(UserWarning, match="Ctrl-C stopped training"):
        history = fastmlp.dask.fit(client, net, *data, epochs=10**6, average_every=average_every, callbacks=[Press()])
    assert history.interrupted
    assert 2 <= len(history.loss) <= 3
    assert shards_left(client) == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    fastmlp.dask.fit(client, net, *data, epochs=4, resume=True, average_every=average_every)


@pytest.mark.parametrize("n_shards", [1, 2])
def test_ctrl_c_without_callbacks(client, data, rounds, n_shards):
    """Then there are many epochs in a call."""
    net, main = MLP(LAYERS), threading.main_thread().ident

    def press():
        wait_for(lambda: len(rounds) > 5)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.warns(UserWarning, match="Ctrl-C stopped training"):
        history = fastmlp.dask.fit(client, net, *data, epochs=10**6, n_shards=n_shards)
    thread.join()
    assert history.interrupted
    assert 5 <= len(history.loss) == history.steps // 4
    assert shards_left(client) == []


def test_a_loss_that_is_not_finite(client, data):
    X, y = data
    for average_every in ("epoch", "step"):
        net = MLP(LAYERS)
        with pytest.raises(FloatingPointError, match="lower learning_rate"):
            fastmlp.dask.fit(
                client, net, X, y, learning_rate=1e30, epochs=3, average_every=average_every, batch_size=16
            )
        assert all(np.isfinite(p).all() for p in parameters(net)) or average_every == "step"


def test_a_fit_that_has_learned_nothing_warns(client, data):
    X, y = data
    with pytest.warns(ConvergenceWarning, match="learning_rate=1e-08 may be too low"):
        fastmlp.dask.fit(client, MLP(LAYERS), X, y[::-1], epochs=10, learning_rate=1e-8, batch_size=16)


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": np.ones((N, 3), np.float32)}, "partition 0: X has 3 features, but the network has 20 inputs"),
        ({"y": np.full(N, 7)}, "partition 0: y has label 7"),
        ({"y": np.zeros(N - 1, int)}, "X has 230 rows, but y has 229"),
        ({"y": da.zeros(N - 1, dtype=int)}, "y has 229 rows, but X has 230"),
        ({"X": [np.zeros((5, 20))] * 3, "y": [np.zeros(5, int)] * 2}, "X has 3 partitions, but y has 2"),
        ({"X": [dask.delayed(np.zeros)((5, 20))], "y": [np.zeros(4, int)]}, "partition 0: X has 5 rows, but y has 4"),
        ({"X": [dask.delayed(np.zeros)((N, 20))]}, "y is in memory, but the other partitions have unknown lengths"),
        ({"X": da.zeros((5, 5, 5)), "y": np.zeros(5)}, "X must have two dimensions"),
        ({"X": np.zeros((0, 20)), "y": np.zeros(0)}, "X is empty"),
        ({"sample_weight": np.zeros(N)}, "add up to 0.0; some must be more than 0"),
        ({"sample_weight": -np.ones(N)}, "partition 0: sample_weight has -1.0 in row 0"),
        ({"class_weight": {7: 1.0}}, "class_weight has class 7"),
        ({"average_every": 0}, "average_every"),
        ({"average_every": "epochs"}, "average_every"),
        ({"n_shards": 0}, "n_shards"),
        ({"batch_size": 0}, "batch_size"),
        ({"metrics": ["f1_macro"]}, "metrics need validation data"),
        ({"validation_data": 3}, "validation_data must be a pair"),
        ({"resume": True}, "resume=True needs an earlier fit"),
        ({"lr": 0.1}, "did you mean 'learning_rate'"),
        ({"validation_fraction": 0.1}, "did you mean 'validation_data'"),
        ({"client": 3}, "client must be a synchronous"),
        ({"net": 3}, "net must be a network"),
    ],
)
def test_errors_name_what_is_wrong_and_change_nothing(client, data, change, message):
    X, y = data
    net = MLP(LAYERS)
    before = copy.deepcopy(net)
    with pytest.raises((TypeError, ValueError), match=message):
        fastmlp.dask.fit(**{"client": client, "net": net, "X": X, "y": y, "epochs": 1, "n_shards": 2, **change})
    assert_same(net, before)
    assert net.history.loss == []
    assert shards_left(client) == []


def test_nan_is_found_in_its_partition(client, data):
    X, y = data
    X = X.copy()
    X[205, 3] = np.nan
    with pytest.raises(ValueError, match="partition 2: X has nan in row 5, column 3"):
        fastmlp.dask.fit(client, MLP(LAYERS), da.from_array(X, chunks=(100, 20)), y, epochs=1)

"""`fastmlp.dask.fit_many` on a cluster of two worker processes."""

import asyncio
import copy
import os
import signal
import threading
import warnings

import numpy as np
import pytest

pytest.importorskip("distributed")
pytest.importorskip("dask.array")

import dask.array as da
import dask.dataframe as dd
import pandas as pd
from distributed import Client
from scipy import sparse
from support.nets import assert_bits, assert_same_training, data, parameters, plain, refused, snapshot
from support.remote import Hold, Nested, Raise, count_calls, fit_in_a_task, wait_for

import fastmlp
import fastmlp.dask
from fastmlp import MLP, reference
from fastmlp.callbacks import EarlyStopping
from fastmlp.dask.driver import in_tasks
from fastmlp.diagnosis import ConvergenceWarning

N_ROWS = 300
X, Y = data(N_ROWS)
FIT = {"epochs": 3, "batch_size": 50}

pytestmark = pytest.mark.filterwarnings("ignore:.*learned nothing:fastmlp.diagnosis.ConvergenceWarning")


def assert_same_as_local(client, nets, X, y, local=None, **fit):
    """Train networks on the cluster, and copies of them here; compare everything but the seconds."""
    same, own = copy.deepcopy(nets), copy.deepcopy(fit)
    histories = fastmlp.dask.fit_many(client, nets, X, y, **fit)
    expected = fastmlp.fit_many(same, *(local or (X, y)), **own)
    for net, other, history, as_local in zip(nets, same, histories, expected, strict=True):
        assert_same_training(net, other)
        assert history is net.history
        assert history.loss == as_local.loss
    return same


# --- the same bits ----------------------------------------------------------------------------------------------------


def test_a_mixture_of_networks_and_fits(client):
    nets = [MLP([4, 32, 3], seed=1), *plain(4), reference.MLP([4, 5, 3], dtype="float64", dropout=0.3)]
    weights = np.linspace(0, 1, N_ROWS)
    fits = [
        {"epochs": 5},
        {"rows": np.arange(0, 200), "optimizer": "adam"},
        {"sample_weight": weights, "validation_data": (X[:50], Y[:50])},
        {"sample_weight": weights, "schedule": "cosine"},
        {"validation_fraction": 0.3, "callbacks": [EarlyStopping(patience=1)]},
        {"batch_size": 7, "class_weight": "balanced", "rows": Y != 1},
    ]
    assert_same_as_local(client, nets, X, Y, fits=fits, epochs=3, batch_size=50)


def test_fits_resume_on_the_cluster_and_here(client):
    nets = plain()
    whole = copy.deepcopy(nets)
    fastmlp.fit_many(whole, X, Y, epochs=6, optimizer="adam")
    fastmlp.dask.fit_many(client, nets, X, Y, epochs=2, optimizer="adam")
    fastmlp.dask.fit_many(client, nets, X, Y, epochs=4, resume=True)
    fastmlp.fit_many(nets, X, Y, epochs=6, resume=True)
    for net, other in zip(nets, whole, strict=True):
        assert_same_training(net, other)


def test_x_and_y_that_the_cluster_has(client):
    names = np.array(["ant", "bee", "cat"])[Y]
    weights = np.linspace(0, 1, N_ROWS)
    x_, y_, weights_ = da.from_array(X, chunks=(70, 2)), da.from_array(names, chunks=100), da.from_array(weights)
    nets = plain()
    assert_same_as_local(client, nets, X, names, epochs=2)
    assert nets[0].classes.tolist() == ["ant", "bee", "cat"]
    fit = {"epochs": 2, "sample_weight": weights_, "validation_data": (x_[:50], client.scatter(names[:50]))}
    on_cluster, here = plain(), plain()
    fastmlp.dask.fit_many(client, on_cluster, x_, y_, **fit)
    fastmlp.fit_many(here, X, names, epochs=2, sample_weight=weights, validation_data=(X[:50], names[:50]))
    for net, other in zip(on_cluster, here, strict=True):
        assert_same_training(net, other)
    assert_same_as_local(client, plain(), client.scatter(X), client.scatter(Y), (X, Y), epochs=2)


def test_tables_and_sparse_matrices(client):
    table = pd.DataFrame(X, columns=list("abcd"))
    nets = plain()
    assert_same_as_local(client, nets, dd.from_pandas(table, 3), Y, (table, Y), epochs=2)
    assert nets[1].feature_names == ["a", "b", "c", "d"]
    assert_same_as_local(client, plain(), sparse.csr_array(np.maximum(X, 0)), Y, epochs=2)


def test_x_arrives_and_is_packed_once_for_each_worker(client, tmp_path):
    x = np.where(np.random.default_rng(0).random((200, 40)) < 0.1, 1.0, 0.0)
    client.run(count_calls, tmp_path)
    nets = [MLP([40, 16, 3], seed=seed, first_layer="sparse") for seed in range(12)]
    rows = [{"rows": np.arange(i, 200)} for i in range(12)]
    fastmlp.dask.fit_many(client, nets, x, np.arange(200) % 3, epochs=1, fits=rows, validation_data=(x, x[:, 0] > 0))
    processes = [path.name.split(".")[:2] for path in tmp_path.iterdir()]
    for pid in {pid for _, pid in processes}:
        assert processes.count(["arrived", pid]) == 1
        assert processes.count(["packed", pid]) <= 2  # X, and the validation data


def test_two_calls_at_the_same_time(client):
    nets, others = plain(6), plain(6)
    thread = threading.Thread(target=fastmlp.dask.fit_many, args=(client, nets, X, Y), kwargs={"epochs": 3})
    thread.start()
    fastmlp.dask.fit_many(client, others, X, Y, epochs=3)
    thread.join()
    for net, other in zip(nets, others, strict=True):
        assert_same_training(net, other)


def test_within_a_task(client):
    nets = plain()
    trained = client.submit(fit_in_a_task, nets, X, Y, epochs=2).result()
    fastmlp.dask.fit_many(None, nets, X, Y, epochs=2)  # by the current client
    for net, other in zip(nets, trained, strict=True):
        assert_same_training(net, other)


def test_tasks_are_small_at_the_end_and_few():
    for costs in ([1.0] * 64, [1.0] * 1000, [100.0, *[1.0] * 50], [3.0, 1.0, 2.0], [0.0] * 5, [1.0]):
        tasks = in_tasks(costs, 2)
        order = [i for task in tasks for i in task]
        assert sorted(order) == list(range(len(costs)))
        assert [costs[i] for i in order] == sorted(costs, reverse=True)
        totals = [sum(costs[i] for i in task) for task in tasks]
        assert max(totals) <= max(sum(costs) / 8 + 1, max(costs))
        assert len(tasks) <= 10 + 8 * np.log(len(costs) + 1)
        assert len(tasks[-1]) == 1 or not any(costs)


# --- networks that fail, warnings, progress ---------------------------------------------------------------------------


def test_networks_that_fail_do_not_stop_the_others(client):
    nets = plain(5, output="identity")
    fits = [{}, {"learning_rate": 1e30}, {"callbacks": [Raise()]}, {"callbacks": [Raise(plain=False)]}, {}]
    with pytest.raises(ExceptionGroup, match="3 of 5 networks failed; the others are trained") as info:
        fastmlp.dask.fit_many(client, nets, X, X[:, :3], fits=fits, epochs=4)
    diverged, broken, other = info.value.exceptions
    assert isinstance(diverged, FloatingPointError)
    assert isinstance(broken, ZeroDivisionError)
    assert "raise ZeroDivisionError" in str(broken.__cause__)  # the traceback of the worker
    assert type(other) is RuntimeError
    assert str(other) == "OSError: broken, too"
    assert [error.__notes__ for error in info.value.exceptions] == [[f"in the fit of nets[{i}]"] for i in (1, 2, 3)]
    assert [len(net.history.loss) for net in nets] == [4, 0, 2, 2, 4]
    same = plain(5, output="identity")
    found = fastmlp.dask.fit_many(client, same, X, X[:, :3], fits=fits, epochs=4, return_exceptions=True)
    assert [isinstance(one, Exception) for one in found] == [False, True, True, True, False]
    assert found[4] is same[4].history
    for net, other in zip(nets, same, strict=True):
        assert_bits(net, parameters(other))


def test_warnings_appear_here(client):
    with pytest.warns(ConvergenceWarning, match=r"nets\[1\]: this fit has learned nothing") as found:
        fastmlp.dask.fit_many(client, plain(), 1e6 * X, Y, epochs=20, learning_rate=1e-12)
    assert [warning.filename for warning in found] == [__file__] * 3


def test_progress(client, capsys):
    fastmlp.dask.fit_many(client, plain(4), X, Y, epochs=2, progress=True)
    assert capsys.readouterr().err.splitlines()[-1].startswith("4/4 networks, ")


# --- wrong arguments --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"epoch": 3}, TypeError, "unknown argument 'epoch'; did you mean 'epochs'?"),
        ({"n_jobs": 2}, TypeError, "unknown argument 'n_jobs'"),
        ({"fits": [{}]}, ValueError, "fits has 1 dicts for 3 networks"),
        ({"fits": [{}, {}, {"rows": [300]}]}, ValueError, "rows[0] is 300, but X has 300 rows"),
        ({"resume": True}, ValueError, "resume=True needs an earlier fit"),
        ({"progress": 1}, TypeError, "progress"),
        ({"X": np.full((N_ROWS, 4), np.nan)}, ValueError, "X has nan in row 0, column 0"),
        ({"y": Y[:5]}, ValueError, "y"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(client, monkeypatch, given, error, message):
    monkeypatch.setattr("fastmlp.dask.many.Driver", None)
    nets = plain()
    with refused(error, message):
        fastmlp.dask.fit_many(client, nets, **{"X": X, "y": Y} | given)
    assert all(net.history.steps == 0 and not net._trained_by for net in nets)


def test_wrong_data_of_the_cluster_change_nothing(client):
    bad = X.copy()
    bad[7, 2] = np.inf
    for x, message in ((da.from_array(bad), "X has inf in row 7, column 2"), (da.from_array(X[:, :3]), "X has 3 feat")):
        nets = plain()
        before = [snapshot(net) for net in nets]
        with refused(ValueError, message) as info:
            fastmlp.dask.fit_many(client, nets, x, Y)
        assert info.value.__notes__ == ["in the fit of nets[0]"]
        for net, as_before in zip(nets, before, strict=True):
            assert_bits(net, as_before)
    broken = da.from_array(X).map_blocks(lambda block: block[1 // 0], dtype=X.dtype, meta=X[:0])
    with pytest.raises(ZeroDivisionError):
        fastmlp.dask.fit_many(client, plain(), broken, Y)


def test_data_that_are_lost(client):
    future = client.scatter(X)
    client.cancel([future], force=True)
    with pytest.raises(RuntimeError, match="the data of ndarray-.* are lost"):
        fastmlp.dask.fit_many(client, plain(), future, Y)


def test_nothing_is_left_on_the_cluster(client):
    """Not even after an error, whose traceback refers to the call."""
    left = set(client.futures)
    fastmlp.dask.fit_many(client, plain(), X, Y, epochs=1)
    with pytest.raises(ValueError, match="X has inf"):
        fastmlp.dask.fit_many(client, plain(), da.from_array(np.full((N_ROWS, 4), np.inf)), Y)
    wait_for(lambda: set(client.futures) <= left)


def test_wrong_clients():
    with refused(TypeError, "client must be a distributed.Client or None, not 'tcp://127.0.0.1:8786'"):
        fastmlp.dask.fit_many("tcp://127.0.0.1:8786", plain(), X, Y)

    async def call():
        async with Client(processes=False, n_workers=1, asynchronous=True, dashboard_address=":0") as client:
            fastmlp.dask.fit_many(client, plain(), X, Y)

    with refused(TypeError, "client is asynchronous, but fit_many waits"):
        asyncio.run(call())


def test_networks_that_cannot_be_sent_or_are_being_trained(client):
    nets = plain()
    nets[1].lock = threading.Lock()
    with pytest.raises(TypeError, match="pickle") as info:
        fastmlp.dask.fit_many(client, nets, X, Y)
    assert info.value.__notes__ == ["nets[1], or an argument of its fit, cannot be pickled for the workers"]
    del nets[1].lock
    with pytest.raises(RuntimeError, match="being trained already"):
        nets[2]._alone(lambda: fastmlp.dask.fit_many(client, nets, X, Y))
    assert fastmlp.dask.fit_many(client, nets, X, Y, epochs=1)[2] is nets[2].history
    assert fastmlp.dask.fit_many(client, [], X, Y) == []


def test_a_callback_cannot_call_it(client):
    with pytest.raises(ExceptionGroup) as info:
        fastmlp.dask.fit_many(client, plain(1), X, Y, callbacks=[Nested(plain(1)[0])])
    assert "fit_many is training already" in str(info.value.exceptions[0])


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


def press_once_held(folder, n_held, n_presses=1):
    """Press Ctrl-C once networks are held."""

    def press():
        wait_for(lambda: len(list(folder.glob("held.*"))) == n_held)
        os.kill(os.getpid(), signal.SIGINT)
        if n_presses == 1:
            (folder / "go on").touch()
        else:
            wait_for(lambda: threading.main_thread().is_alive())
            threading.Event().wait(0.5)
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    return thread


def test_ctrl_c_stops_all_networks(client, tmp_path):
    nets = plain(6)
    thread = press_once_held(tmp_path, 2)
    message = r"Ctrl-C stopped training: 0 of 6 networks are trained, 2 in part and 4 not at all; steps taken so far"
    with pytest.warns(UserWarning, match=message):
        histories = fastmlp.dask.fit_many(client, nets, X, Y, batch_size=50, epochs=10**6, callbacks=[Hold(tmp_path)])
    thread.join()
    assert all(history.interrupted for history in histories)
    assert sorted(history.steps > 0 for history in histories) == [False] * 4 + [True] * 2
    for net, other in zip(nets, plain(6), strict=True):
        if net.history.steps:  # it resumes to the bits of a fit that was never stopped
            fastmlp.fit_many([net], X, Y, batch_size=50, epochs=len(net.history.loss) + 1, resume=True)
        else:
            assert_bits(net, parameters(other))


def test_a_second_ctrl_c_does_not_wait(client, tmp_path):
    nets = plain(2)
    thread = press_once_held(tmp_path, 2, n_presses=2)
    with warnings.catch_warnings(), pytest.raises(KeyboardInterrupt):
        fastmlp.dask.fit_many(client, nets, X, Y, callbacks=[Hold(tmp_path)], **FIT)
    thread.join()
    assert all(net.history.steps == 0 and not net._trained_by for net in nets)
    (tmp_path / "go on").touch()
    assert len(fastmlp.dask.fit_many(client, nets, X, Y, epochs=1)) == 2

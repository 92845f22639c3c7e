"""`fastmlp.dask.fit_many` on clusters of worker processes, some of which are killed."""

import asyncio
import contextlib
import copy
import os
import signal
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest

pytest.importorskip("distributed")
pytest.importorskip("dask.array")

import dask.array as da
import dask.dataframe as dd
import pandas as pd
from distributed import Client, KilledWorker
from scipy import sparse
from support.clusters import local_cluster
from support.nets import ROOT, assert_bits, data, parameters, refused, snapshot
from support.remote import SECONDS, Hold, Kill, Nested, Note, Raise, count_calls, fit_in_a_task, wait_for

import fastmlp
import fastmlp.dask
from fastmlp import MLP, reference
from fastmlp.callbacks import EarlyStopping
from fastmlp.dask import driver
from fastmlp.dask.driver import in_tasks
from fastmlp.diagnosis import ConvergenceWarning

N_ROWS = 300
X, Y = data(N_ROWS)
FIT = {"epochs": 3, "batch_size": 50}

pytestmark = pytest.mark.filterwarnings("ignore:.*learned nothing:fastmlp.diagnosis.ConvergenceWarning")


def plain(n=3, **settings):
    """Networks that need no compiler."""
    return [reference.MLP([4, 8, 3], seed=seed, **settings) for seed in range(n)]


def assert_same_as_local(client, nets, X, y, local=None, **fit):
    """Train networks on the cluster, and copies of them here; compare everything but the seconds."""
    same, own = copy.deepcopy(nets), copy.deepcopy(fit)
    histories = fastmlp.dask.fit_many(client, nets, X, y, **fit)
    expected = fastmlp.fit_many(same, *(local or (X, y)), **own)
    for net, other, history, as_local in zip(nets, same, histories, expected, strict=True):
        assert_same(net, other)
        assert history is net.history
        assert history.loss == as_local.loss
    return same


def assert_same(net, other):
    assert_bits(net, parameters(other))
    assert net.history.loss == other.history.loss
    assert net.history.val_loss == other.history.val_loss
    assert net.history.steps == other.history.steps
    assert net.feature_names == other.feature_names
    assert net._random.generator.bit_generator.state == other._random.generator.bit_generator.state
    for slots, others in zip(net._training_state.optimizer_state, other._training_state.optimizer_state, strict=True):
        for slot, of_other in zip(slots, others, strict=True):
            np.testing.assert_array_equal(slot, of_other)


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
        assert_same(net, other)


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
        assert_same(net, other)
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
        assert_same(net, other)


def test_within_a_task(client):
    nets = plain()
    trained = client.submit(fit_in_a_task, nets, X, Y, epochs=2).result()
    fastmlp.dask.fit_many(None, nets, X, Y, epochs=2)  # by the current client
    for net, other in zip(nets, trained, strict=True):
        assert_same(net, other)


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


# --- workers come, go and die -----------------------------------------------------------------------------------------


def workers_of(client):
    return [nanny.process.pid for nanny in client.cluster.workers.values() if nanny.process is not None]


def in_background(client, nets, **fit):
    """Train in a thread; return what gives its result, or raises its error."""
    done = []

    def run():
        try:
            done.append(fastmlp.dask.fit_many(client, nets, X, Y, **FIT | fit))
        except BaseException as error:
            done.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def result():
        thread.join()
        if isinstance(done[0], BaseException):
            raise done[0]
        return done[0]

    return result


def trained_here(n=4):
    nets = plain(n)
    fastmlp.fit_many(nets, X, Y, **FIT)
    return nets


def test_a_worker_is_killed_in_the_middle_of_an_epoch(client, tmp_path):
    nets, same = plain(4), trained_here()
    fits = [{"callbacks": [Kill(tmp_path)]}, {}, {}, {}]
    fastmlp.dask.fit_many(client, nets, X, Y, fits=fits, **FIT)
    assert len(list(tmp_path.iterdir())) == 1
    for net, other in zip(nets, same, strict=True):
        assert_same(net, other)


def test_all_workers_are_killed_and_x_with_them(client, tmp_path):
    nets, same = plain(4), trained_here()
    result = in_background(client, nets, fits=[{"callbacks": [Hold(tmp_path)]}, {}, {}, {}])
    wait_for(lambda: list(tmp_path.glob("held.*")))
    for pid in workers_of(client):
        os.kill(pid, signal.SIGKILL)
    (tmp_path / "go on").touch()
    result()
    for net, other in zip(nets, same, strict=True):
        assert_same(net, other)


def test_a_worker_that_dies_while_it_gets_x(client, monkeypatch):
    """`Client.scatter` may wait for it much longer than the scheduler needs to see that it is lost."""
    nets, same, killed, ended, over = plain(4), trained_here(), [], [], threading.Event()
    pids, scatter = client.run(os.getpid), client.scatter

    def deadly(values, workers, **options):
        if killed:
            return scatter(values, workers=workers, **options)
        killed.extend(workers)
        os.kill(pids[workers[0]], signal.SIGKILL)
        over.wait(SECONDS)
        ended.append(True)
        raise OSError("no answer")

    monkeypatch.setattr(client, "scatter", deadly)
    try:
        fastmlp.dask.fit_many(client, nets, X, Y, **FIT)
        assert killed
        assert not ended
    finally:
        over.set()
    for net, other in zip(nets, same, strict=True):
        assert_same(net, other)


def test_the_cluster_grows_and_shrinks(tmp_path):
    with local_cluster(1) as client:
        cluster, nets, same = client.cluster, plain(8), trained_here(8)
        grow, shrink = tmp_path / "grow", tmp_path / "shrink"
        grow.mkdir()
        shrink.mkdir()
        result = in_background(client, nets, callbacks=[Note(grow, 2)])
        wait_for(lambda: list(grow.iterdir()))
        cluster.scale(2)  # the networks wait for a second worker
        result()
        for net, other in zip(nets, same, strict=True):
            assert_same(net, other)
        nets = plain(8)
        result = in_background(client, nets, callbacks=[Hold(shrink)])
        wait_for(lambda: len(list(shrink.iterdir())) == 2)
        cluster.scale(1)
        (shrink / "go on").touch()
        result()
        for net, other in zip(nets, same, strict=True):
            assert_same(net, other)


def test_a_network_that_kills_its_workers(tmp_path):
    with local_cluster(2) as client:
        client.cluster.scheduler.allowed_failures = 0
        nets, same = plain(6), trained_here(6)
        fits = [{}, {"callbacks": [Kill(tmp_path, 100)]}, {}, {}, {}, {}]
        with pytest.raises(ExceptionGroup, match="1 of 6 networks failed; the others are trained") as info:
            fastmlp.dask.fit_many(client, nets, X, Y, fits=fits, **FIT)
        assert isinstance(info.value.exceptions[0], KilledWorker)
        assert info.value.exceptions[0].__notes__ == ["in the fit of nets[1]"]
        assert nets.pop(1).history.steps == 0
        del same[1]
        for net, other in zip(nets, same, strict=True):
            assert_same(net, other)


@contextlib.contextmanager
def process_of(*arguments):
    """Start a Python process that finds what tests share, and kill it in the end."""
    path = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, *map(str, arguments)]
    settings = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, **settings) as process:
        try:
            yield process
        finally:
            process.kill()


def test_all_workers_are_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "_PATIENCE", 2.0)
    with local_cluster(0) as client:
        with process_of("-m", "distributed.cli.dask_worker", client.scheduler.address, "--no-nanny") as worker:
            client.wait_for_workers(1, timeout=SECONDS)
            nets = plain(2)
            result = in_background(client, nets, callbacks=[Hold(tmp_path)])
            wait_for(lambda: list(tmp_path.glob("held.*")))
            worker.kill()
            with refused(TimeoutError, "for 2 seconds there has been no worker"):
                result()
        with refused(TimeoutError, "for 2 seconds there has been no worker"):
            fastmlp.dask.fit_many(client, nets, X, Y)
        assert all(net.history.steps == 0 and not net._trained_by for net in nets)


SCHEDULER = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    cluster = LocalCluster(n_workers=1, processes=False, dashboard_address=":0", protocol="tcp")
    print(cluster.scheduler_address, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("kill_signal", ["SIGKILL", "SIGSTOP"])
def test_the_scheduler_is_lost(tmp_path, monkeypatch, kill_signal):
    (tmp_path / "scheduler.py").write_text(SCHEDULER)
    with process_of(tmp_path / "scheduler.py") as process, Client(process.stdout.readline().strip()) as client:
        nets = plain(2)
        result = in_background(client, nets, callbacks=[Hold(tmp_path)])
        wait_for(lambda: list(tmp_path.glob("held.*")))
        monkeypatch.setattr(driver, "_PATIENCE", 2.0)
        process.send_signal(getattr(signal, kill_signal))
        with pytest.raises(OSError, match="the scheduler") as info:
            result()
        assert type(info.value) is (ConnectionError if kill_signal == "SIGKILL" else TimeoutError)
        process.kill()
        assert all(net.history.steps == 0 and not net._trained_by for net in nets)


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

"""`fastmlp.dask.fit_many` while workers come, go and die, and without a scheduler."""

import contextlib
import os
import signal
import subprocess
import sys
import threading

import pytest

pytest.importorskip("distributed")
pytest.importorskip("dask.array")

from distributed import Client, KilledWorker
from support.clusters import local_cluster
from support.nets import ROOT, assert_same_training, data, plain, refused
from support.remote import SECONDS, Hold, Kill, Note, wait_for

import fastmlp
import fastmlp.dask
from fastmlp.dask import driver

X, Y = data(300)
FIT = {"epochs": 3, "batch_size": 50}

pytestmark = pytest.mark.filterwarnings("ignore:.*learned nothing:fastmlp.diagnosis.ConvergenceWarning")


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
        assert_same_training(net, other)


def test_all_workers_are_killed_and_x_with_them(client, tmp_path):
    nets, same = plain(4), trained_here()
    result = in_background(client, nets, fits=[{"callbacks": [Hold(tmp_path)]}, {}, {}, {}])
    wait_for(lambda: list(tmp_path.glob("held.*")))
    for pid in workers_of(client):
        os.kill(pid, signal.SIGKILL)
    (tmp_path / "go on").touch()
    result()
    for net, other in zip(nets, same, strict=True):
        assert_same_training(net, other)


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
        assert_same_training(net, other)


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
            assert_same_training(net, other)
        nets = plain(8)
        result = in_background(client, nets, callbacks=[Hold(shrink)])
        wait_for(lambda: len(list(shrink.iterdir())) == 2)
        cluster.scale(1)
        (shrink / "go on").touch()
        result()
        for net, other in zip(nets, same, strict=True):
            assert_same_training(net, other)


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
            assert_same_training(net, other)


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

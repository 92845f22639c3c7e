"""`fastmlp.dask.fit` while workers come, go and die, and without a scheduler."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

pytest.importorskip("distributed")

import dask.array as da
from distributed import Client
from support.nets import assert_same
from support.remote import wait_for

import fastmlp.dask
from fastmlp import MLP

N, LAYERS = 30_000, [20, 64, 3]  # so that an epoch takes longer than the client waits before it looks around


@pytest.fixture(scope="module")
def undisturbed(client, data):
    """The network that every fit below must give."""
    return trained(client, *data)


def trained(client, X, y, **fit):
    net = MLP(LAYERS)
    fastmlp.dask.fit(client, net, X, y, **{"epochs": 4, "batch_size": 16, "n_shards": 2, **fit})
    return net


class InEpoch:
    """Does something once, while the workers train for the third epoch."""

    def __init__(self, action):
        self.action, self.done = action, False

    def on_step(self, net, fit):
        if fit.epoch == 2 and not self.done:
            self.done = True
            self.action()


def wait_for_two(client):
    """Wait for the workers that take the place of killed ones; now and then, a nanny does not start one again."""
    try:
        client.wait_for_workers(2, timeout=30)
    except TimeoutError:
        client.cluster.scale(0)
        client.cluster.scale(2)
        client.wait_for_workers(2, timeout=120)
    wait_for(lambda: len(client.nthreads()) == 2)  # one may still be about to leave


def pids(client):
    return list(client.run(os.getpid).values())


@pytest.mark.parametrize("n_killed", [1, 2])
@pytest.mark.parametrize("form", ["array", "collection"])
def test_killed_workers_change_no_bit(client, data, undisturbed, n_killed, form):
    X, y = data
    wait_for_two(client)
    killed = pids(client)[:n_killed]
    kill = InEpoch(lambda: [os.kill(pid, signal.SIGKILL) for pid in killed])
    X_ = X if form == "array" else da.from_array(X, chunks=(N // 2, -1))
    assert_same(trained(client, X_, y, callbacks=[kill]), undisturbed)
    assert kill.done


def test_a_worker_is_killed_while_the_workers_average_among_themselves(client, data):
    """The first one has brought them together."""
    fit, nets = {"average_every": 25}, []
    wait_for_two(client)
    for killed in (None, 0, 1):
        wait_for_two(client)
        victims = [] if killed is None else [pids(client)[killed]]
        kill = InEpoch(lambda victims=victims: [os.kill(pid, signal.SIGKILL) for pid in victims])
        nets.append(trained(client, *data, callbacks=[kill], **fit))
        assert kill.done
    assert_same(nets[0], nets[1])
    assert_same(nets[0], nets[2])


def test_a_worker_that_dies_while_it_gets_rows(client, data, undisturbed, monkeypatch):
    """`Client.scatter` may wait for it much longer than the scheduler needs to see that it is lost."""
    wait_for_two(client)
    processes, scatter, killed = client.run(os.getpid), client.scatter, []

    async def waits():
        await asyncio.sleep(5)
        raise OSError("no answer")

    def deadly(rows, workers, **options):
        if killed:
            return scatter(rows, workers=workers, **options)
        killed.extend(workers)
        os.kill(processes[workers[0]], signal.SIGKILL)
        return waits()

    monkeypatch.setattr(client, "scatter", deadly)
    assert_same(trained(client, *data), undisturbed)
    assert killed


def test_killed_worker_with_averages_at_each_step(client, data):
    X, y = data
    fit = {"average_every": "step", "batch_size": 6000}
    wait_for_two(client)
    killed = pids(client)[1]
    kill = InEpoch(lambda: os.kill(killed, signal.SIGKILL))
    assert_same(trained(client, X, y, callbacks=[kill], **fit), trained(client, X, y, **fit))
    assert kill.done


def test_workers_may_leave_and_join(client, data, undisturbed):
    wait_for_two(client)
    leave, join = InEpoch(lambda: client.cluster.scale(1)), InEpoch(lambda: client.cluster.scale(3))
    assert_same(trained(client, *data, callbacks=[leave]), undisturbed)
    assert_same(trained(client, *data, callbacks=[join]), undisturbed)
    client.cluster.scale(2)
    wait_for_two(client)


def test_data_that_only_a_lost_worker_had(client, data):
    X, y = data
    wait_for_two(client)
    address, pid = next(iter(client.run(os.getpid).items()))
    futures = client.scatter([X[: N // 2], X[N // 2 :]], workers=[address])
    kill = InEpoch(lambda: os.kill(pid, signal.SIGKILL))
    with pytest.raises(RuntimeError, match="shard . of 2 was lost 4 times"):
        trained(client, futures, [y[: N // 2], y[N // 2 :]], callbacks=[kill])


SCHEDULER = """
from distributed import LocalCluster
if __name__ == "__main__":
    cluster = LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0", protocol="tcp")
    print(cluster.scheduler_address, flush=True)
    input()
"""


def test_a_lost_scheduler_is_an_error(data, tmp_path):
    script = tmp_path / "scheduler.py"
    script.write_text(SCHEDULER)
    process = subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().strip()
        net = MLP(LAYERS)
        with Client(address) as client:
            kill = InEpoch(process.kill)
            with pytest.raises(ConnectionError, match="the scheduler is lost"):
                fastmlp.dask.fit(client, net, *data, epochs=1000, batch_size=16, callbacks=[kill])
        assert kill.done
        assert 2 <= len(net.history.loss) < 1000
    finally:
        process.kill()
        process.communicate()

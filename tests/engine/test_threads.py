"""Where the threads of a team run, and what they share with the threads and processes of the program around them."""

import _thread
import os
import signal
import threading
import time

import pytest
from support.nets import data
from support.scripts import printed

from fastmlp import MLP
from fastmlp.engine import threads
from fastmlp.engine.cores import affinity
from fastmlp.engine.threads import run_in_thread

# --- where ------------------------------------------------------------------------------------------------------------


has_affinity = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
each_team = pytest.mark.parametrize("run", [threads.run_team, threads.run_brief_team])


@has_affinity
@each_team
@pytest.mark.parametrize("more", [0, 1])
def test_threads_of_a_team_may_use_the_cores_that_the_caller_may(run, more):
    mine = os.sched_getaffinity(0)
    seen = [set()] * (len(mine) + more)
    run(len(seen), lambda rank: seen.__setitem__(rank, os.sched_getaffinity(0)))
    assert seen == [mine] * len(seen)
    assert os.sched_getaffinity(0) == mine


@pytest.mark.skipif(len(affinity()) < 2, reason="there is no other core")
@pytest.mark.parametrize("n_threads", [1, len(affinity()) - 1])
def test_new_threads_begin_on_other_cores(n_threads):
    """Or else they may wait until Linux notices that one core is idle."""
    gate, allowed, ended = threading.Lock(), [set()] * n_threads, [threading.Event() for _ in range(n_threads)]

    def wait(i):
        with gate:
            allowed[i] = os.sched_getaffinity(0)
        ended[i].set()

    with gate:
        threads._move_away([_thread.start_new_thread(wait, (i,)) for i in range(n_threads)], affinity())
    assert all(event.wait(10) for event in ended)
    assert len(set().union(*allowed)) == len(affinity()) - 1
    if n_threads == len(affinity()) - 1:  # each has a core of its own
        assert all(len(cores) == 1 for cores in allowed)


class Libc:
    """Notes the cores that each thread is allowed."""

    def __init__(self, here):
        self.here, self.allowed = here, []

    def sched_getcpu(self):
        return self.here

    def pthread_setaffinity_np(self, thread, n_bytes, mask):
        assert n_bytes.value == len(mask)
        assert len(mask) % 8 == 0  # a mask is made of words of 64 bits
        bits = int.from_bytes(mask, "little")
        self.allowed.append({core for core in range(8 * len(mask)) if bits >> core & 1})


@pytest.mark.parametrize("cores", [[3, 63], [0, 64], [5, 1029], [*range(64)], [*range(1, 66)], [*range(2048)]])
def test_threads_are_moved_among_any_cores(monkeypatch, cores):
    here, others = cores[0], set(cores[1:])
    for n_threads in (2, len(others), len(cores)):
        monkeypatch.setattr(threads, "_LIBC", Libc(here))
        threads._move_away([7] * n_threads, cores)
        each = [{core} for core in cores[1:]] if n_threads == len(others) else [others] * n_threads
        assert threads._LIBC.allowed == each


@each_team
@pytest.mark.parametrize("lacking", ["another core", "the system's word", "a function of libc"])
def test_a_team_runs_where_nothing_says_how_to_move_threads(monkeypatch, run, lacking):
    if lacking == "a function of libc":
        monkeypatch.setattr(threads, "_LIBC", object())
    else:
        monkeypatch.setattr(threads, "affinity", affinity()[:1].copy if lacking == "another core" else list)
    called = [False] * 3
    run(3, lambda rank: called.__setitem__(rank, True))
    assert all(called)


@each_team
def test_each_team_moves_its_threads_away(monkeypatch, run):
    moved = []
    monkeypatch.setattr(threads, "_move_away", lambda started, cores: moved.append((len(started), cores)))
    run(3, lambda rank: None)
    assert moved == [(2, affinity())]


@has_affinity
@each_team
def test_a_team_runs_where_no_thread_may_be_moved(monkeypatch, run):
    def forbidden(thread, to):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", forbidden)
    called = [False] * len(os.sched_getaffinity(0))
    run(len(called), lambda rank: called.__setitem__(rank, True))
    assert all(called)


# --- what is left after a fit -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_nothing_runs_after_a_fit(n_threads):
    X, y = data(2000)
    n_before = _thread._count()
    net = MLP([4, 40, 3], n_threads=n_threads)
    net.fit(X, y, epochs=2, validation_data=(X, y))
    net.predict(X)
    net.evaluate(X, y)
    before = time.process_time()
    time.sleep(0.3)
    assert _thread._count() <= n_before
    assert time.process_time() - before < 0.05


# --- fits at once, in threads and in processes ------------------------------------------------------------------------

COLD = """
import faulthandler, gc, json, threading
faulthandler.dump_traceback_later(250, exit=True)
import numpy as np
from fastmlp import MLP

X = np.random.default_rng(0).random((300, 8), np.float32)
nets = [MLP([8, n_hidden, 3], n_threads=n_threads, seed=1) for n_hidden, n_threads in ((40, 1), (40, 2), (150, 3))]
start, answers = threading.Barrier(len(nets)), {}

def predict(net):
    start.wait()
    answers[net] = net.predict_proba(X)

at_once = [threading.Thread(target=predict, args=(net,)) for net in nets]
for thread in at_once:
    thread.start()
for thread in at_once:
    thread.join()
same = [MLP(net.layers, n_threads=1, seed=1).predict_proba(X).tobytes() == answers[net].tobytes() for net in nets]
print(json.dumps([all(same), gc.isenabled()]))
"""


def test_first_calls_of_a_process_at_once(tmp_path):
    """The compiler is entered by several threads at once, and Python's collector is on again after it."""
    assert printed("-c", COLD, NUMBA_CACHE_DIR=str(tmp_path)) == [True, True]


FORK = """
import json, os, signal, sys
import numpy as np
from fastmlp import MLP

n_threads = json.loads(sys.argv[1])
X, y = np.random.default_rng(0).random((600, 30), np.float32), np.arange(600) % 3

def results(net):
    net.fit(X, y, epochs=2, batch_size=100)
    return b"".join(p.tobytes() for p in [*net.weights, *net.biases, net.predict_proba(X)])

class Fork:  # also in the midst of a fit
    def on_epoch_end(self, net, fit):
        if fit.epoch == 1:
            in_a_child()

def in_a_child():
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(120)
            got = results(MLP([30, 256, 3], seed=1, n_threads=n_threads)), results(old)
            os.write(into, b"1" if got == expected else b"0")
        finally:
            os._exit(0)
    os.close(into)
    said.append(os.read(out, 1).decode())
    os.waitpid(child, 0)

said = []
old, same = (MLP([30, 256, 3], seed=2, n_threads=n_threads) for _ in range(2))
results(old), results(same)
expected = results(MLP([30, 256, 3], seed=1, n_threads=1)), results(same)
in_a_child()
MLP([30, 256, 3], n_threads=n_threads).fit(X, y, epochs=2, batch_size=100, callbacks=[Fork()])
said.append("1" if results(old) == expected[1] else "0")  # the parent goes on too
print(json.dumps(said))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("n_threads", ["null", "2", "5"])
def test_fits_after_a_fork(n_threads):
    """Of a new network and of one that its parent has trained, between fits of the parent and in the midst of one."""
    assert printed("-c", FORK, n_threads) == ["1", "1", "1"]


def test_a_press_while_a_call_ends_is_heard():
    """The call ends before anybody looks again whether Ctrl-C was pressed."""

    def call():
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_in_thread(call)


# --- waits after a signal ---------------------------------------------------------------------------------------------


@pytest.fixture
def interrupt(monkeypatch):
    """Return a function with which another thread sends a signal whose handler takes longer than a wait."""
    if not hasattr(signal, "pthread_kill"):
        pytest.skip("this system sends no signal to a thread")
    wait = 3 * threads._POLL_SECONDS
    before = signal.signal(signal.SIGUSR1, lambda *_: time.sleep(wait))

    def send():
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
        time.sleep(3 * wait)

    yield send
    signal.signal(signal.SIGUSR1, before)


def comes_true(condition):
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return condition()


def test_a_team_is_watched_after_a_slow_signal_handler(interrupt):
    """Up to CPython 3.11, `SimpleQueue.get` waits for ever if a handler returns after the deadline."""
    looked, said = [], []

    def call(rank):
        for _ in range(3):
            interrupt()
            seen = len(looked)
            said.append(comes_true(lambda seen=seen: len(looked) > seen))

    threads.run_team(1, call, go_on=lambda: looked.append(True) or True)
    assert said == [True] * 3


def test_ctrl_c_is_heard_after_a_slow_signal_handler(interrupt):
    raised, said, before = [], [], _thread._count()

    def call():
        interrupt()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        said.append(comes_true(lambda: raised))

    with pytest.raises(KeyboardInterrupt):
        run_in_thread(call)
    raised.append(True)
    assert comes_true(lambda: _thread._count() <= before)
    assert said == [[True]]

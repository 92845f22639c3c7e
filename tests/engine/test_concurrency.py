"""Fits in several threads and processes, and calls of a team that fail."""

import _thread
import contextlib
import copy
import functools
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest
from support.nets import (
    LONG,
    ROOT,
    AtEpochEnd,
    X,
    Y,
    assert_bits,
    data,
    parameters,
    raise_broken,
    refused,
    snapshot,
)

from fastmlp import MLP, reference
from fastmlp.engine import threads
from fastmlp.engine.threads import run_brief_team, run_in_thread, run_team

# --- threads and processes --------------------------------------------------------------------------------------------


def in_threads(*functions):
    """Run functions at once, each in a thread of its own; give what they return."""
    results = [None] * len(functions)

    def run(i):
        try:
            results[i] = functions[i]()
        except BaseException as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


@pytest.mark.parametrize("n_threads", [None, 1, 2])
def test_fit_in_another_thread(n_threads):
    X, y = data(50)
    net, expected = MLP([4, 8, 3], n_threads=n_threads), MLP([4, 8, 3])
    expected.fit(X, y, epochs=3)
    (history,) = in_threads(lambda: net.fit(X, y, epochs=3))
    assert_bits(net, parameters(expected))
    assert history.loss == expected.history.loss


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("batch_size", [16, LONG])
def test_two_networks_train_at_once(n_threads, batch_size):
    nets = [MLP([4, 40, 3], seed=seed, n_threads=n_threads) for seed in (1, 2)]
    alone = [MLP([4, 40, 3], seed=seed) for seed in (1, 2)]
    X, y = data(2 * LONG)
    for net in alone:
        net.fit(X, y, epochs=5, batch_size=batch_size)
    in_threads(*[lambda net=net: net.fit(X, y, epochs=5, batch_size=batch_size) for net in nets])
    for net, expected in zip(nets, alone, strict=True):
        assert_bits(net, parameters(expected))
        assert net.history.loss == expected.history.loss


@pytest.mark.parametrize("n_threads", [1, 2])
def test_several_threads_predict_with_one_network(n_threads):
    net = MLP([4, 40, 3], n_threads=n_threads)
    X, y = data(1000)
    proba, labels, measured = net.predict_proba(X), net.predict(X), net.evaluate(X, y)

    def predict():
        for _ in range(30):
            np.testing.assert_array_equal(net.predict_proba(X), proba)
            np.testing.assert_array_equal(net.predict(X), labels)
            assert net.evaluate(X, y) == measured

    in_threads(*[predict] * 4)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:os.fork")  # what other packages of this process have to say about it
@pytest.mark.parametrize("n_threads", [1, 2])
def test_fit_after_fork(n_threads):
    X, y = data(600)
    net, expected = (MLP([4, 40, 3], n_threads=n_threads) for _ in range(2))
    for n in (net, expected):
        n.fit(X, y, epochs=1, batch_size=20)
    expected.fit(X, y, epochs=2, batch_size=20)
    child = os.fork()
    if child == 0:  # nothing of pytest may run here
        status = 1
        with contextlib.suppress(BaseException):
            signal.alarm(120)
            net.fit(X, y, epochs=2, batch_size=20)
            same = [np.array_equal(p, q) for p, q in zip(parameters(net), parameters(expected), strict=True)]
            proba = np.array_equal(net.predict_proba(X), expected.predict_proba(X))
            status = 0 if all(same) and proba else 2
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    net.fit(X, y, epochs=2, batch_size=20)
    assert_bits(net, parameters(expected))


AFTER_MAIN = """
import threading, time
import numpy as np
from fastmlp import MLP

X, y = np.random.default_rng(0).random((2000, 8), np.float32), np.arange(2000) % 3
main = threading.current_thread()

def fit():
    main.join()
    net = MLP([8, 20, 3], n_threads=2)
    net.fit(X, y, epochs=3, validation_data=(X, y))
    print(len(net.history.loss), len(net.predict(X)))

threading.Thread(target=fit).start()
"""


def test_fit_after_the_main_thread_has_ended():
    ran = subprocess.run(
        [sys.executable, "-c", AFTER_MAIN],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "3 2000\n", "")


@pytest.mark.parametrize("run", [run_team, run_brief_team])
@pytest.mark.parametrize("failing", [0, 2])
def test_a_call_that_fails_stops_and_frees_the_others(run, failing):
    stopped, released = threading.Event(), threading.Event()

    def call(rank):
        if rank == failing:
            raise ValueError("broken")
        assert stopped.wait(10)
        assert released.wait(10)

    before = _thread._count()
    with refused(ValueError, "broken"):
        run(3, call, stop=stopped.set, release=released.set)
    assert _thread._count() <= before


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(
    "run", [run_in_thread, functools.partial(run_team, 1), functools.partial(run_team, 2)], ids=["apart", "one", "two"]
)
def test_a_call_is_forgotten_when_it_has_ended(run, fails):
    """Also if it has failed, and the garbage collector does not run: a call keeps X alive."""

    class Call:
        def __call__(self, *rank):
            if fails:
                raise ValueError("broken")

    call, before = Call(), _thread._count()
    known = weakref.ref(call)
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            run(call)
        while _thread._count() > before:
            time.sleep(0.001)
        del call
        assert known() is None
    finally:
        gc.enable()


def test_a_brief_team_is_waited_for_whatever_handlers_of_signals_raise():
    ended, go = [], threading.Event()

    def call(rank):
        if rank == 0:
            raise KeyboardInterrupt("pressed")
        go.wait(10)
        time.sleep(0.05)
        ended.append(rank)

    with refused(KeyboardInterrupt, "pressed"):
        run_brief_team(3, call, stop=go.set)
    assert sorted(ended) == [1, 2]


class SlowLock:
    """Lets other threads run before the one that has acquired it."""

    def __init__(self):
        self.lock = _thread.allocate_lock()
        self.locked, self.release = self.lock.locked, self.lock.release

    def acquire(self, **timeout):
        acquired = self.lock.acquire(**timeout)
        time.sleep(0.05)
        return acquired

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *error):
        self.release()


@pytest.mark.parametrize("run", [run_team, run_brief_team])
def test_a_team_ends_wherever_python_switches_between_threads(monkeypatch, run):
    """As when the caller has ended its part before the others begin theirs."""
    monkeypatch.setattr(threads, "allocate_lock", SlowLock)
    calls = []
    in_threads(lambda: run(3, calls.append))
    assert sorted(calls) == [0, 1, 2]


def test_run_in_thread_passes_on_errors():
    with refused(RuntimeError, "broken"):
        run_in_thread(raise_broken)


# --- one network, trained twice at once -------------------------------------------------------------------------------


@pytest.mark.parametrize("train", ["fit", "train_batch"])
@pytest.mark.parametrize("kind", [MLP, reference.MLP])
def test_a_callback_cannot_train_the_network_of_the_fit(kind, train):
    net, expected = kind([4, 8, 3]), kind([4, 8, 3])
    expected.fit(X, Y, epochs=3, batch_size=4)

    def again(net, fit):
        history, before = net.history, snapshot(net)
        with refused(RuntimeError, "this network is being trained already"):
            getattr(net, train)(X, Y)
        assert net.history is history
        assert_bits(net, before)
        net.evaluate(X, Y)
        copy.deepcopy(net).fit(X, Y, epochs=1)  # another network

    history = net.fit(X, Y, epochs=3, batch_size=4, callbacks=[AtEpochEnd(again)])
    assert net.history is history
    assert_bits(net, parameters(expected))
    net.train_batch(X, Y)  # it is free again


def test_another_thread_cannot_train_the_network_of_a_fit():
    net, expected = MLP([4, 8, 3]), MLP([4, 8, 3])
    expected.fit(X, Y, epochs=2, batch_size=4)

    def again(net, fit):
        with refused(RuntimeError, "this network is being trained already"):
            in_threads(lambda: net.fit(X, Y))

    net.fit(X, Y, epochs=2, batch_size=4, callbacks=[AtEpochEnd(again)])
    assert_bits(net, parameters(expected))


def test_a_fit_that_fails_frees_the_network():
    net = MLP([4, 8, 3])
    for _ in range(2):
        with refused(RuntimeError, "broken"):
            net.fit(X, Y, callbacks=[AtEpochEnd(raise_broken)])


NO_THREADS = """
import numpy as np
from fastmlp import MLP
from fastmlp.engine import threads

X, y = np.random.default_rng(0).random((200, 8), np.float32), np.arange(200) % 3
net = MLP([8, 200, 200, 3], n_threads=3)
net.fit(X, y, epochs=1)
before = [p.copy() for p in net.weights + net.biases]
start, started = threads.start_new_thread, []

def refuse(run, arguments):
    if len(started) == ALLOWED:
        raise RuntimeError("can't start new thread")
    started.append(run)
    start(run, arguments)

threads.start_new_thread = refuse
try:
    net.fit(X, y, epochs=EPOCHS)
except RuntimeError as error:
    print(error)
threads.start_new_thread = start
print(all(np.array_equal(p, q) for p, q in zip(before, net.weights + net.biases)))
net.fit(X, y, epochs=1)
"""


@pytest.mark.parametrize(("allowed", "epochs"), [(0, 5), (1, 5), (0, 100), (2, 100)], ids=str)
def test_threads_that_cannot_be_started_leave_nobody_waiting(allowed, epochs):
    """In a short fit, for which the calling thread works itself, and in a long one."""
    program = NO_THREADS.replace("ALLOWED", str(allowed)).replace("EPOCHS", str(epochs))
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "can't start new thread\nTrue\n"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_ctrl_c_as_a_team_starts(monkeypatch, n_threads, when):
    """Nobody waits for a thread that does not come, and none is left behind."""
    start, before, calls = threads.start_new_thread, _thread._count(), []

    def pressed(run, arguments):
        if threading.current_thread() is not threading.main_thread():
            return start(run, arguments)
        if when == "before":
            signal.raise_signal(signal.SIGINT)
        start(run, arguments)
        return signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(threads, "start_new_thread", pressed)
    stopped = []
    with pytest.raises(KeyboardInterrupt):
        run_team(n_threads, calls.append, stop=lambda: stopped.append(True))
    end = time.monotonic() + 20
    while _thread._count() > before and time.monotonic() < end:
        time.sleep(0.001)
    assert _thread._count() <= before
    assert sorted(calls) in ([], list(range(n_threads)))
    assert calls == [] or when == "after"

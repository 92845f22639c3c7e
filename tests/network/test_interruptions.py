"""What ends a fit before its time, and the threads and processes around it."""

import contextlib
import copy
import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from support.nets import (
    DTYPES,
    LONG,
    ROOT,
    AtEpochEnd,
    X,
    Y,
    assert_bits,
    assert_close,
    data,
    data_for,
    parameters,
    raise_broken,
    refused,
    snapshot,
)

from fastmlp import MLP, reference, training
from fastmlp.engine.threads import run_apart, run_together
from fastmlp.random import permutations

# --- a loss that is not finite ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(("batch_size", "n_rows", "step"), [(4, 30, 3), (600, 2000, 2)])
def test_the_step_that_fails_is_not_taken(dtype, n_threads, batch_size, n_rows, step):
    settings = {"dtype": dtype, "seed": 1}
    net, plain, same = (
        MLP([4, 8, 3], n_threads=n_threads, **settings),
        reference.MLP([4, 8, 3], **settings),
        MLP([4, 8, 3], **settings),
    )
    X, y = data_for(net, n_rows)
    good = X.copy()

    def spoil(net, fit):
        X[batch_size * step - 1, 2] = np.nan  # behind the checks; the last row of a batch in the second epoch

    with refused(FloatingPointError, f"loss is nan at epoch 2, step {step}; lower learning_rate"):
        net.fit(X, y, epochs=4, batch_size=batch_size, shuffle=False, callbacks=[AtEpochEnd(spoil)])
    n_batches = -(-n_rows // batch_size)
    for other in (plain, same):
        for taken in [*range(n_batches), *range(step - 1)]:
            rows = slice(taken * batch_size, (taken + 1) * batch_size)
            other.train_batch(good[rows], y[rows])
    assert_bits(net, parameters(same))
    assert_close(parameters(net), parameters(plain), dtype)
    assert all(np.isfinite(p).all() for p in parameters(net))
    assert len(net.history.loss) == len(net.history.seconds) == 1
    net.fit(good, y, epochs=1)  # it can go on


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch_size", [4, LONG])
def test_divergence_is_told(dtype, batch_size):
    X, y = data(2 * LONG, dtype=dtype)
    net = MLP([4, 8, 8, 3], activation="logistic", dtype=dtype)
    net.weights[-1][:] = 0.9 * np.finfo(dtype).max
    net.weights[-1][:, 0] *= -1
    with pytest.raises(FloatingPointError, match=r"^loss is (nan|inf) at epoch 1, step 1; lower learning_rate$"):
        net.fit(X, y, batch_size=batch_size)
    before = snapshot(net)
    with pytest.raises(FloatingPointError, match=r"^loss is (nan|inf); lower learning_rate$"):
        net.train_batch(X, y)
    assert_bits(net, before)


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------

INTERRUPTED = """
import sys, warnings
import numpy as np
from fastmlp import MLP

batch_size, n_threads, watched, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "watched", sys.argv[4]
generator = np.random.default_rng(0)
X, y = generator.standard_normal((3000, 30)).astype(np.float32), generator.integers(0, 5, 3000)

class Watch:
    def on_step(self, net, fit):
        pass

net = MLP([30, 40, 5], n_threads=n_threads)
MLP([30, 40, 5]).fit(X, y, epochs=1)
print("go", flush=True)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    callbacks = [Watch()] if watched else []
    history = net.fit(X, y, epochs=10**8, batch_size=batch_size, learning_rate=0.01, callbacks=callbacks)
print("stopped", flush=True)
assert history.interrupted
assert [w.category for w in caught] == [UserWarning], caught
assert caught[0].filename == "<string>"
print(len(history.loss), len(history.accuracy), len(history.seconds))
print(caught[0].message)
np.savez(path, *net.weights, *net.biases)
net.fit(X, y, epochs=1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
@pytest.mark.parametrize("watched", [False, True], ids=["alone", "watched"])
@pytest.mark.parametrize(("batch_size", "n_threads"), [(20, 1), (20, 2), (700, 1), (700, 2), (3000, 1)])
def test_ctrl_c(batch_size, n_threads, watched, tmp_path):
    command = [sys.executable, "-c", INTERRUPTED, str(batch_size), str(n_threads), "watched" if watched else "alone"]
    with subprocess.Popen(
        [*command, str(tmp_path / "net.npz")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        killer = threading.Timer(60, process.kill)
        killer.start()
        assert process.stdout.readline() == "go\n", process.stderr.read()
        time.sleep(0.2 + 0.01 * np.random.default_rng().random())
        process.send_signal(signal.SIGINT)
        pressed = time.monotonic()
        assert process.stdout.readline() == "stopped\n", process.stderr.read()
        assert time.monotonic() - pressed < 2
        out, err = process.stdout.read(), process.stderr.read()
        process.wait()
        killer.cancel()
    assert process.returncode == 0, err
    assert err == ""
    entries, message = out.strip().split("\n")
    found = re.match(
        r"Ctrl-C stopped training (?:after epoch (\d+)|in epoch (\d+)) of 100000000(?:, after step (\d+) of (\d+))?;",
        message,
    )
    assert found, message
    finished, present, step, n_batches = (int(group) if group else 0 for group in found.groups())
    epochs = present - 1 if present else finished  # on a busy machine it may come before the first step
    assert entries == f"{epochs} {epochs} {epochs}"

    generator = np.random.default_rng(0)
    X, y = generator.standard_normal((3000, 30)).astype(np.float32), generator.integers(0, 5, 3000)
    net = MLP([30, 40, 5])
    if epochs:
        net.fit(X, y, epochs=epochs, batch_size=batch_size, learning_rate=0.01)
    if step:
        assert n_batches == -(-3000 // batch_size)
        (order,) = permutations(net._random.generator, 1, 3000, shuffle=batch_size < 3000)
        for start in range(0, step * batch_size, batch_size):
            rows = order[start : start + batch_size]
            net.train_batch(X[rows], y[rows], learning_rate=0.01)
    with np.load(tmp_path / "net.npz") as saved:
        assert_bits(net, [saved[name] for name in saved.files])


def press_ctrl_c(*_):
    signal.raise_signal(signal.SIGINT)


class Pressing:
    """Presses Ctrl-C in one of the methods of a callback."""

    def __init__(self, hook):
        setattr(self, hook, press_ctrl_c)


@pytest.mark.parametrize(("hook", "epochs"), [("on_fit_begin", 0), ("on_epoch_end", 1)])
def test_ctrl_c_in_a_callback(hook, epochs):
    net = MLP([4, 8, 3])
    with pytest.warns(UserWarning, match=f"^Ctrl-C stopped training after epoch {epochs} of 9; the network keeps"):
        history = net.fit(X, Y, epochs=9, batch_size=4, callbacks=[Pressing(hook)])
    assert history.interrupted
    assert len(history.loss) == epochs
    expected = MLP([4, 8, 3])
    if epochs:
        expected.fit(X, Y, epochs=epochs, batch_size=4)
    assert_bits(net, parameters(expected))


def test_ctrl_c_while_validation_is_measured(monkeypatch):
    net, expected = MLP([4, 8, 3]), MLP([4, 8, 3])
    measure = training.measure

    def pressed(*arguments):
        press_ctrl_c()
        return measure(*arguments)

    monkeypatch.setattr(training, "measure", pressed)
    with pytest.warns(UserWarning, match="^Ctrl-C stopped training after epoch 1 of 9;"):
        history = net.fit(X, Y, epochs=9, batch_size=4, validation_data=(X, Y))
    assert len(history.loss) == len(history.val_loss) == 1
    expected.fit(X, Y, epochs=1, batch_size=4)
    assert_bits(net, parameters(expected))


def test_ctrl_c_is_heard_as_before_after_a_fit():
    handler = signal.getsignal(signal.SIGINT)
    net = MLP([4, 8, 3])
    net.fit(X, Y, epochs=1)
    assert signal.getsignal(signal.SIGINT) is handler
    with pytest.raises(RuntimeError, match="broken"):
        net.fit(X, Y, epochs=1, callbacks=[AtEpochEnd(raise_broken)])
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("method", ["predict", "predict_proba", "evaluate", "gradients", "train_batch"])
def test_ctrl_c_is_heard_in_the_midst_of_a_long_call(method, n_threads):
    net = MLP([30, 1000, 500, 3], n_threads=n_threads)
    X, y = data(1000, 30)
    given = (X,) if method.startswith("predict") else (X, y)
    getattr(net, method)(*given)  # compiles
    X, y = data(150_000, 30)
    given = (X,) if method.startswith("predict") else (X, y)
    timer = threading.Timer(0.1, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        getattr(net, method)(*given)
    timer.join()
    net.fit(X[:100], y[:100], epochs=1)  # it is free


def test_a_program_that_handles_ctrl_c_keeps_its_way():
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(True))
    try:
        history = MLP([4, 8, 3]).fit(X, Y, epochs=3, callbacks=[Pressing("on_epoch_end")])
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(heard) == len(history.loss) == 3
    assert not history.interrupted


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
            signal.alarm(30)
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
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "3 2000\n", "")


@pytest.mark.parametrize("failing", [0, 2])
def test_a_call_that_fails_stops_and_frees_the_others(failing):
    stopped, released = threading.Event(), threading.Event()

    def call(rank):
        if rank == failing:
            raise ValueError("broken")
        assert stopped.wait(10)
        assert released.wait(10)

    before = threading.active_count()
    with refused(ValueError, "broken"):
        run_together(3, call, stop=stopped.set, release=released.set)
    assert threading.active_count() == before


def test_run_apart_passes_on_errors():
    with refused(RuntimeError, "broken"):
        run_apart(raise_broken)


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
import threading
import numpy as np
from fastmlp import MLP

X, y = np.random.default_rng(0).random((200, 8), np.float32), np.arange(200) % 3
net = MLP([8, 200, 200, 3], n_threads=3)
net.fit(X, y, epochs=1)
before = [p.copy() for p in net.weights + net.biases]
start, started = threading.Thread.start, []

def refuse(thread):
    if len(started) == ALLOWED:
        raise RuntimeError("can't start new thread")
    started.append(thread)
    start(thread)

threading.Thread.start = refuse
try:
    net.fit(X, y, epochs=5)
except RuntimeError as error:
    print(error)
threading.Thread.start = start
print(all(np.array_equal(p, q) for p, q in zip(before, net.weights + net.biases)))
net.fit(X, y, epochs=1)
"""


@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_threads_that_cannot_be_started_leave_nobody_waiting(allowed):
    ran = subprocess.run(
        [sys.executable, "-c", NO_THREADS.replace("ALLOWED", str(allowed))],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "can't start new thread\nTrue\n"

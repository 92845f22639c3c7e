"""What ends a fit early: a loss that is not finite, and Ctrl-C."""

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
    with pytest.raises(FloatingPointError, match=r"^loss is (nan|inf) at epoch 1, step 1; make a new network: param"):
        net.fit(X, y, batch_size=batch_size)
    before = snapshot(net)
    with pytest.raises(FloatingPointError, match=r"^loss is (nan|inf); make a new network: parameters of this one are"):
        net.train_batch(X, y)
    assert_bits(net, before)


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------

INTERRUPTED = """
import sys, warnings
import numpy as np
from fastmlp import MLP

batch_size, n_threads, watched, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "watched", sys.argv[4]
generator = np.random.default_rng(0)
X = generator.standard_normal((3000, 30)).astype(np.float32)
y = np.digitize(X[:, 0], [-1, -0.3, 0.3, 1])

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
@pytest.mark.filterwarnings("ignore:this fit has learned nothing")  # if it is stopped early
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
    X = generator.standard_normal((3000, 30)).astype(np.float32)
    y = np.digitize(X[:, 0], [-1, -0.3, 0.3, 1])
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
    with pytest.warns(UserWarning, match=f"^Ctrl-C stopped training after epoch {epochs} of 9; steps taken so far"):
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

    def pressed(*arguments, **more):
        press_ctrl_c()
        return measure(*arguments, **more)

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

"""Callbacks, the progress bar and the history, on the plain network."""

import io
import os
import re
import signal

import numpy as np
import pytest

from fastmlp import callbacks, reference
from fastmlp.callbacks import ProgressBar, gather_callbacks
from fastmlp.history import History

X = np.random.default_rng(0).random((10, 4))
Y = np.arange(10) % 3


@pytest.fixture
def net():
    return reference.MLP([4, 5, 3])


@pytest.fixture
def every_step(monkeypatch):
    """Let on_step be called after each step, not only every 0.05 s."""
    monkeypatch.setattr(reference, "_SECONDS_PER_HOOK", 0)


class Recorder:
    """Notes each call: the method, fit.epoch and fit.step."""

    def __init__(self):
        self.calls = []

    def on_fit_begin(self, net, fit):
        self.calls.append(("fit_begin", fit.epoch, fit.step))

    def on_step(self, net, fit):
        self.calls.append(("step", fit.epoch, fit.step))

    def on_epoch_end(self, net, fit):
        self.calls.append(("epoch_end", fit.epoch, fit.step))

    def on_fit_end(self, net, fit):
        self.calls.append(("fit_end", fit.epoch, fit.step))


class AtEpochEnd:
    """Calls a function at the end of each epoch; has no other method."""

    def __init__(self, function):
        self.on_epoch_end = function


def test_order_of_calls(net, every_step):
    recorder = Recorder()
    net.fit(X, Y, epochs=2, batch_size=4, callbacks=[recorder])
    assert recorder.calls == [
        ("fit_begin", 0, 0),
        ("step", 0, 1),
        ("step", 0, 2),
        ("step", 0, 3),
        ("epoch_end", 1, 0),
        ("step", 1, 1),
        ("step", 1, 2),
        ("step", 1, 3),
        ("epoch_end", 2, 0),
        ("fit_end", 2, 0),
    ]


def test_callbacks_see_the_network_and_the_history(net):
    seen = []
    function = AtEpochEnd(lambda net, fit: seen.append((net, fit.epochs, fit.n_batches, len(fit.history.loss))))
    history = net.fit(X, Y, epochs=2, batch_size=4, callbacks=(function,))
    assert seen == [(net, 2, 3, 1), (net, 2, 3, 2)]
    assert history is net.history


def test_stop_ends_the_fit(net):
    def stop(net, fit):
        fit.stop = fit.epoch == 3

    history = net.fit(X, Y, epochs=9, callbacks=[AtEpochEnd(stop)])
    assert len(history.loss) == 3
    assert not history.interrupted


def test_ctrl_c_warns_and_returns_what_is_there(net):
    def press(net, fit):
        if fit.epoch == 2:
            signal.raise_signal(signal.SIGINT)

    recorder = Recorder()
    with pytest.warns(UserWarning, match="stopped training after epoch 2 of 9;"):
        history = net.fit(X, Y, epochs=9, callbacks=[AtEpochEnd(press), recorder])
    assert history.interrupted
    assert len(history.loss) == len(history.seconds) == 2
    assert recorder.calls[-1] == ("fit_end", 2, 0)


def test_fit_end_is_called_after_an_error(net):
    def fail(net, fit):
        raise RuntimeError("no more disk")

    recorder = Recorder()
    with pytest.raises(RuntimeError, match="no more disk"):
        net.fit(X, Y, callbacks=[AtEpochEnd(fail), recorder])
    assert recorder.calls == [("fit_begin", 0, 0), ("fit_end", 1, 0)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Recorder(), "callbacks must be a list of callbacks, not Recorder"),
        ([Recorder], "callback Recorder is a class; pass an object of it: Recorder()"),
        ([AtEpochEnd(3)], "must be a method, not 3"),
        (["bar"], "callback 'bar' has none of the methods on_fit_begin, on_step, on_epoch_end, on_fit_end"),
    ],
)
def test_wrong_callbacks(net, given, message):
    before = [w.copy() for w in net.weights]
    with pytest.raises(TypeError, match=re.escape(message)):
        net.fit(X, Y, callbacks=given)
    for w, w_before in zip(net.weights, before, strict=True):
        np.testing.assert_array_equal(w, w_before)


def test_progress_adds_a_bar():
    recorder = Recorder()
    bar, other = gather_callbacks([recorder], progress=True)
    assert isinstance(bar, ProgressBar)
    assert other is recorder
    assert gather_callbacks(iter([recorder])) == [recorder]


# --- progress bar -----------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_bar_prints_plain_lines_where_there_is_no_terminal(net, capsys):
    net.fit(X, Y, epochs=2, batch_size=4, validation_data=(X, Y), progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 2
    number = r"\d+\.\d{4}"
    measured = f"loss {number}, accuracy {number}, val_loss {number}, val_accuracy {number}"
    assert re.fullmatch(rf"epoch 2/2: {measured}, \d+\.\d\d s", lines[1])


def test_bar_on_a_terminal(net, every_step, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    net.fit(X, Y, epochs=2, batch_size=4, progress=True)
    shown = terminal.getvalue()
    assert "epoch 1/2" in shown
    assert shown.endswith("\n")  # the bar is closed
    last = shown.rstrip().split("\r")[-1]
    assert "6/6" in last
    assert f"loss {net.history.loss[-1]:.4f}, accuracy {net.history.accuracy[-1]:.4f}" in last


def test_bar_without_stderr(net, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr", None)
    assert len(net.fit(X, Y, epochs=2, progress=True).loss) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_bar_on_a_terminal_that_does_not_know_its_size(net, monkeypatch):
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
    with open(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        net.fit(X, Y, epochs=2, batch_size=4, progress=True)
        terminal.flush()
        shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "6/6" in shown
    assert f"loss {net.history.loss[-1]:.4f}" in shown


def test_bar_of_an_interrupted_fit_stays_where_it_stands(net, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    press = AtEpochEnd(lambda net, fit: signal.raise_signal(signal.SIGINT))
    with pytest.warns(UserWarning, match="stopped training after epoch 1 of 2;"):
        net.fit(X, Y, epochs=2, batch_size=4, progress=True, callbacks=[press])
    assert "3/6" in terminal.getvalue().split("\r")[-1]


def test_bar_serves_a_second_fit(net, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    bar = ProgressBar()
    for epochs in (1, 2):
        net.fit(X, Y, epochs=epochs, batch_size=4, callbacks=[bar])
    assert "3/3" in terminal.getvalue()
    assert "6/6" in terminal.getvalue()


def test_hooks_are_those_that_the_bar_has():
    assert all(hasattr(ProgressBar, hook) for hook in callbacks.HOOKS)


# --- history ----------------------------------------------------------------------------------------------------------


def test_history():
    history = History()
    history.append(loss=1.0, accuracy=0.5, seconds=0.1)
    assert (history.loss, history.accuracy, history.seconds) == ([1.0], [0.5], [0.1])
    assert history.val_loss == history.val_accuracy == []
    history.append(loss=1.0, accuracy=0.5, seconds=0.1, val_loss=2.0, val_accuracy=0.25)
    assert (history.val_loss, history.val_accuracy) == ([2.0], [0.25])
    assert not history.interrupted

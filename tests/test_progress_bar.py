"""The progress bar, on the plain network."""

import contextlib
import io
import os
import re
import signal
import sys
import threading

import pytest
from support.nets import AtEpochEnd, Recorder, X, Y

from fastmlp import reference
from fastmlp.callbacks import FitState, ProgressBar, gather_callbacks
from fastmlp.hooks import HOOKS


@pytest.fixture
def net():
    return reference.MLP([4, 5, 3])


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminal_for(monkeypatch):
    """Have a terminal as stderr."""
    monkeypatch.setattr("sys.stderr", Terminal())
    return sys.stderr


def test_progress_adds_a_bar():
    recorder = Recorder()
    bar, other = gather_callbacks([recorder], progress=True)
    assert isinstance(bar, ProgressBar)
    assert other is recorder


def test_hooks_are_those_that_the_bar_has():
    assert all(hasattr(ProgressBar, hook) for hook in HOOKS if hook != "on_mix_end")  # steps show as much


def test_bar_prints_plain_lines_where_there_is_no_terminal(net, capsys):
    net.fit(X, Y, epochs=2, batch_size=4, validation_data=(X, Y), progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 2
    number = r"\d+\.\d{4}"
    measured = f"loss {number}, accuracy {number}, val_loss {number}, val_accuracy {number}"
    assert re.fullmatch(rf"epoch 2/2: {measured}, \d+\.\d\d s", lines[1])


def test_the_last_line_is_that_of_the_last_epoch(net, capsys):
    def stop(net, fit):
        fit.stop = fit.epoch == 53

    net.fit(X, Y, epochs=100, callbacks=[AtEpochEnd(stop)], progress=True)
    net.fit(X, Y, epochs=60, resume=True, progress=True)
    shown = [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()]
    first = [f"epoch {epoch}/100" for epoch in (*range(5, 51, 5), 53)]
    assert shown == [*first, "epoch 54/60", "epoch 57/60", "epoch 60/60"]


def test_bar_on_a_terminal(net, every_step, monkeypatch):
    terminal = terminal_for(monkeypatch)
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
    shown = b""
    with contextlib.suppress(OSError):  # at the end of what was written
        while some := os.read(ours, 10_000):  # a busy machine gives it in pieces
            shown += some
    os.close(ours)
    shown = shown.decode()
    assert "6/6" in shown
    assert f"loss {net.history.loss[-1]:.4f}" in shown


def test_bar_of_an_interrupted_fit_stays_where_it_stands(net, monkeypatch):
    terminal = terminal_for(monkeypatch)
    press = AtEpochEnd(lambda net, fit: signal.raise_signal(signal.SIGINT))
    with pytest.warns(UserWarning, match="stopped training after epoch 1 of 2;"):
        net.fit(X, Y, epochs=2, batch_size=4, progress=True, callbacks=[press])
    assert "3/6" in terminal.getvalue().split("\r")[-1]


def test_bar_of_a_stopped_fit_names_its_last_epoch(net, monkeypatch):
    terminal = terminal_for(monkeypatch)

    def stop(net, fit):
        fit.stop = fit.epoch == 2

    net.fit(X, Y, epochs=5, batch_size=4, progress=True, callbacks=[AtEpochEnd(stop)])
    last = terminal.getvalue().rstrip().split("\r")[-1]
    assert last.startswith("epoch 2/5: ")
    assert "6/15" in last


def test_bar_serves_a_second_fit(net, monkeypatch):
    terminal = terminal_for(monkeypatch)
    bar = ProgressBar()
    for epochs in (1, 2):
        net.fit(X, Y, epochs=epochs, batch_size=4, callbacks=[bar])
    assert "3/3" in terminal.getvalue()
    assert "6/6" in terminal.getvalue()


def test_bar_of_a_regression(monkeypatch):
    terminal = terminal_for(monkeypatch)
    net = reference.MLP([4, 5, 1], output="identity")
    history = net.fit(X, X[:, 0], epochs=2, batch_size=4, progress=True, validation_data=(X, X[:, 0]))
    last = terminal.getvalue().rstrip().split("\r")[-1]
    assert f"loss {history.loss[-1]:.4f}, val_loss {history.val_loss[-1]:.4f}" in last


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("columns", [20, 40, 60, 80, 100, 140])
def test_bar_never_cuts_a_name(net, every_step, monkeypatch, columns):
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    chunks = []

    def read():
        with contextlib.suppress(OSError):  # the other side is closed
            while chunk := os.read(ours, 4096):
                chunks.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    with open(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        history = net.fit(X, Y, epochs=5, batch_size=4, validation_data=(X, Y), progress=True)
    monkeypatch.undo()
    reader.join()
    os.close(ours)
    shown = b"".join(chunks).decode().replace("\r\n", "\r").split("\r")
    shown = [line.rstrip() for line in shown if line.strip()]
    assert max(map(len, shown)) < columns
    for line in shown:
        assert not re.search(r"[a-z_]+$", line), line  # a name is followed by its number
        assert re.fullmatch(r"epoch \d/5: +\d+%.*", line)
    words = f"loss {history.loss[-1]:.4f}", f"val_accuracy {history.val_accuracy[-1]:.4f}"
    assert [word in shown[-1] for word in words] == [columns > 20, columns > 40]


def test_bar_of_large_numbers_stays_in_its_line(monkeypatch):
    terminal_for(monkeypatch)
    bar, fit = ProgressBar(), FitState(1000, 10**6, epoch=999)
    fit.history.append(loss=123456.789, val_accuracy=1.0)
    bar.on_fit_begin(None, fit)
    tqdm = bar._bar._bar
    tqdm.dynamic_ncols, tqdm.ncols = None, 79
    bar.on_step(None, fit)
    line = str(tqdm)
    tqdm.close()
    assert line.endswith(("val_accuracy 1.0000]", "val_accuracy 1.0000"))
    assert len(line) <= 79


# --- a notebook -------------------------------------------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch):
    """Pretend to be the kernel of a notebook, and give the messages to it."""
    display, messages = pytest.importorskip("IPython.display"), []
    monkeypatch.setattr("fastmlp.bars.in_notebook", lambda: True)
    monkeypatch.setattr(display, "display", lambda data, **how: messages.append((data, how)))
    return messages


def test_messages_to_a_notebook_change_one_output_now_and_then(net, every_step, shown, capsys):
    net.fit(X, Y, epochs=500, batch_size=4, progress=True)
    assert [how["update"] for _, how in shown] == [False] + [True] * (len(shown) - 1)
    assert len({how["display_id"] for _, how in shown}) == 1
    assert len(shown) < 100  # of 1,500 steps; each needs 0.2 s
    assert shown[-1][0]["text/plain"].startswith("epoch 500/500: 100%")
    assert capsys.readouterr() == ("", "")


def test_names_in_a_notebook_are_shown_and_not_run(net, shown):
    def metric(y, p):
        return 0.5

    metric.__name__ = '<script>"&'
    net.fit(X, Y, epochs=1, progress=True, validation_data=(X, Y), metrics=[metric])
    (first, *_, last) = (data for data, _ in shown)
    assert 'val_<script>"& 0.5' in last["text/plain"]
    assert "val_&lt;script&gt;&quot;&amp; 0.5" in last["text/html"]
    assert "<script" not in first["text/html"] + last["text/html"]

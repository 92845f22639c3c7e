"""The command line and what is around it: terminals, pipes, full disks, Ctrl-C."""

import io
import itertools
import json
import os
import re
import select
import signal
import subprocess
import time

import pytest
from support.command_line import QUICK, epoch_lines, last_accuracy, posix, run, started

import fastmlp
from fastmlp import datasets
from fastmlp.cli import main
from fastmlp.cli.output import say, tell

pytestmark = pytest.mark.loops("command line")


def read_terminal(process, terminal):
    """All that `process` writes to its pseudo-terminal until it ends."""
    output = b""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.05)[0]:
            try:
                output += os.read(terminal, 65536)
            except OSError:  # Linux says so when the other end is closed
                break
        elif process.poll() is not None:
            break
    assert process.wait(timeout=120) == 0
    return output.decode().replace("\r\n", "\n")


@pytest.fixture
def pseudo_terminal():
    ours, theirs = pytest.importorskip("pty").openpty()
    pytest.importorskip("termios").tcsetwinsize(theirs, (40, 120))
    yield ours, theirs
    os.close(ours)


@posix
def test_bar_and_table_on_a_terminal(pseudo_terminal):
    ours, theirs = pseudo_terminal
    with started("train", "--data", "digits", "--epochs", 3, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        output = read_terminal(process, ours)
    assert "\r" in output
    assert "epoch 3/3: 100%" in output
    # What stands on a line in the end is what came after its last carriage return.
    shown = [line.rpartition("\r")[2] for line in output.split("\n")]
    assert [line.split()[0] for line in shown if epoch_lines(line)] == ["1", "2", "3"]
    assert shown[1] == "epoch      loss  train accuracy  test accuracy   seconds"
    last_accuracy("\n".join(shown))


@posix
@pytest.mark.parametrize("piped", ["stdout", "stderr"])
def test_no_carriage_return_unless_both_are_terminals(piped, pseudo_terminal):
    ours, theirs = pseudo_terminal
    streams = {"stdout": theirs, "stderr": theirs, piped: subprocess.PIPE}
    with started(*QUICK, **streams) as process:
        os.close(theirs)
        output = read_terminal(process, ours) + getattr(process, piped).read()
    assert "\r" not in output
    last_accuracy(output)


@pytest.fixture
def ctrl_c_is_heard():
    """Children inherit an ignored Ctrl-C, which jobs in the background have, but not a handled one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@posix
def test_ctrl_c_reports_and_saves_what_is_trained(tmp_path, ctrl_c_is_heard):
    with started("train", "--epochs", 1000, "--save", tmp_path / "net.npz") as process:
        first = [process.stdout.readline() for _ in range(3)]  # the plan, the heading, the first epoch
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=120)
    output = "".join(first) + output
    assert process.returncode == 130
    assert last_accuracy(output) > 0.9
    n_epochs = len(epoch_lines(output))
    assert errors == (
        f"fastmlp train: interrupted after {n_epochs} of 1000 epochs; the results are those so far\n"
        f"saved {tmp_path / 'net.npz'}\n"
    )
    assert fastmlp.MLP.load(tmp_path / "net.npz").layers == (784, 128, 10)


@posix
def test_a_bench_shows_its_turns_at_once_and_keeps_them_after_ctrl_c(tmp_path, ctrl_c_is_heard):
    options = ("--data", "xor", "--layers", 4, "--peers", "numpy", "--runs", 1000, "--json", tmp_path / "b.json")
    with started("bench", *options) as process:
        lines = iter(process.stdout.readline, "")
        before = list(itertools.takewhile(lambda line: not line.startswith("turn 2 of 1000"), lines))
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=240)
    assert process.returncode == 130
    assert [line for line in before if line.startswith("loss after 1 epoch: fastmlp ")]
    assert re.search(r"^fastmlp +[\d.,]+ +[\d.,]+ ", output, re.MULTILINE)
    n_turns = len(json.loads((tmp_path / "b.json").read_text())["results"][0]["seconds"])
    assert 2 <= n_turns < 1000
    assert errors == f"fastmlp bench: interrupted after {n_turns} of 1000 turns; the results are those so far\n"


def test_a_line_is_printed_on_a_terminal_that_lacks_its_characters(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    say("turn 1, µs: é \udcff")
    assert raw.getvalue() == rb"turn 1, us: \xe9 \udcff" + b"\n"


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_without_stdout_or_stderr(closed, monkeypatch, capfd):
    monkeypatch.setattr(f"sys.{closed}", None)
    assert main(["train", "--epochs", "0"]) == 2
    assert main([*QUICK, "--save", ""]) == 2
    say("line")
    tell("line")
    output, errors = capfd.readouterr()
    assert (output, errors.count("\n")) == (("", 3) if closed == "stdout" else ("line\n", 0))


def test_ctrl_c_while_data_are_loaded(capsys, monkeypatch):
    def load():
        raise KeyboardInterrupt

    monkeypatch.setattr(datasets, "load_xor", load)
    assert main(QUICK) == 130
    assert capsys.readouterr().err == "fastmlp: interrupted\n"


@posix
def test_a_reader_who_leaves_ends_it_silently():
    with started("train", "--data", "digits", "--epochs", 100000) as process:
        assert process.stdout.readline().startswith("64-128-10 relu")
        process.stdout.close()
        errors = process.stderr.read()
        assert (process.wait(timeout=120), errors) == (141, "")


@posix
def test_help_for_a_reader_who_has_left():
    read, write = os.pipe()
    os.close(read)
    with started("train", "--help", stdout=write) as process:
        os.close(write)
        assert process.stderr.read() == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk():
    with open("/dev/full", "w") as full:
        done = run(*QUICK, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (2, "fastmlp train: error: No space left on device\n")


@posix
def test_names_beyond_ascii_on_an_ascii_terminal(tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"}
    done = run(*QUICK, "--save", tmp_path / "né\udcff.npz", env=environment)
    assert done.returncode == 0
    assert done.stderr.endswith("n\\xe9\\udcff.npz\n")
    assert done.stdout.isascii()
    done = run("train", "--data", tmp_path / "né\udcff", env=environment)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_ctrl_c_before_the_first_step_saves_nothing(tmp_path, monkeypatch, capsys):
    def press(self, *_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(fastmlp.MLP._engine_class, "prepare", press)
    target = tmp_path / "net.npz"
    assert main(["train", "--data", "xor", "--save", str(target)]) == 130
    assert not target.exists()
    assert capsys.readouterr().err == "fastmlp: interrupted\n"

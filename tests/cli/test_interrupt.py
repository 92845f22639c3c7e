"""Ctrl-C while the command line starts: the process ends with 130, and Python prints no traceback."""

import signal
import subprocess
import sys
import tomllib

import pytest
from support.nets import ROOT

# Sends SIGINT when a module is imported, and then whatever is asked for last.
PROGRAM = """
import os, signal, sys

class Press:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Press())
signal.signal(signal.SIGINT, signal.{handler})
sys.argv = ["fastmlp", *{arguments!r}]
from fastmlp.__main__ import main
sys.exit(main())
"""


def started(module, arguments=("--help",), handler="default_int_handler"):
    program = PROGRAM.format(module=module, arguments=list(arguments), handler=handler)
    command = (sys.executable, "-c", program)
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)


@pytest.mark.parametrize("module", ["fastmlp.cli", "fastmlp.cli.entry", "argparse", "fastmlp.cli.values"])
def test_while_the_command_line_is_imported(module):
    done = started(module)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_while_numba_is_imported():
    done = started("numba", ["train", "--data", "xor"])
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "fastmlp: interrupted\n")


def test_ctrl_c_that_is_ignored():  # as in the background of a shell script
    done = started("argparse", handler="SIG_IGN")
    assert (done.returncode, done.stderr) == (0, "")
    assert "fastmlp train" in done.stdout


def test_every_line_between_the_imports_and_the_command(monkeypatch):
    """Press at each line of `main`, traced; whatever the line, there is an exit status and no exception."""
    from fastmlp import __main__, cli

    class Left(Exception):
        pass

    def leave(*_):
        raise Left

    monkeypatch.setattr(__main__, "_leave", leave)
    monkeypatch.setattr(cli, "main", lambda: 7)
    first = __main__.main.__code__.co_firstlineno
    outcomes = {}
    for line in range(first + 1, first + 30):

        def trace(frame, event, argument, line=line):
            if frame.f_code is not __main__.main.__code__:
                return None
            if event == "line" and frame.f_lineno == line and line not in outcomes:
                outcomes[line] = "pressed"
                signal.raise_signal(signal.SIGINT)
            return trace

        signal.signal(signal.SIGINT, signal.default_int_handler)
        tracer = sys.gettrace()
        sys.settrace(trace)
        try:
            status = __main__.main()
        except Left:
            status = 130
        except KeyboardInterrupt:
            status = "KeyboardInterrupt"
        finally:
            sys.settrace(tracer)
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if line in outcomes:
            outcomes[line] = status
    assert len(outcomes) > 6
    early = [line for line, status in outcomes.items() if status == "KeyboardInterrupt"]
    assert len(early) <= 3, early  # before the handler is set
    assert set(outcomes.values()) <= {130, "KeyboardInterrupt"}


def test_the_script_begins_there():
    with open(ROOT / "pyproject.toml", "rb") as file:
        assert tomllib.load(file)["project"]["scripts"] == {"fastmlp": "fastmlp.__main__:main"}
    assert "fastmlp = fastmlp.__main__:main" in (ROOT / "recipe" / "recipe.yaml").read_text()

"""What the tests of the command line share: how it is run, and what is read from its output."""

import contextlib
import os
import re
import subprocess
import sys

import pytest
from support.nets import ROOT

from fastmlp.cli import main

COMMAND = [sys.executable, "-W", "error", "-m", "fastmlp"]
QUICK = ["train", "--data", "xor", "--layers", "4", "--epochs", "2"]

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals and pipes")


def run(*arguments, **settings):
    """Run the command line in a process of its own."""
    settings = {"capture_output": True, "encoding": "utf-8", "timeout": 120, "cwd": ROOT} | settings
    return subprocess.run([*COMMAND, *map(str, arguments)], **settings)


@contextlib.contextmanager
def started(*arguments, **settings):
    """Start the command line in a process of its own, which does not outlive the test."""
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8", "cwd": ROOT} | settings
    with subprocess.Popen([*COMMAND, *map(str, arguments)], **settings) as process:
        try:
            yield process
        finally:
            process.kill()


def error_line(arguments, capsys, status=2, program=None, quiet=True):
    """Run `arguments`, which are wrong, and return the one line that says so; if `quiet`, nothing else is printed."""
    assert main([str(argument) for argument in arguments]) == status
    output, error = capsys.readouterr()
    assert not (quiet and output)
    assert error.startswith(f"{program or f'fastmlp {arguments[0]}'}: error: ")
    assert error.endswith("\n")
    assert error.count("\n") == 1
    return error


def epoch_lines(output):
    return [line for line in output.splitlines() if re.fullmatch(r" *\d+( +\d+\.\d{4}){4}", line)]


def last_accuracy(output):
    assert output.endswith("\n")
    match = re.fullmatch(r"test accuracy ([01]\.\d{4})", output.splitlines()[-1])
    assert match, output
    return float(match[1])

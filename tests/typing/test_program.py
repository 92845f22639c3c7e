"""A program that uses the whole public interface passes type checkers."""

import ast
import subprocess
import sys
from importlib.util import find_spec

import pytest
from support.nets import ROOT

import fastmlp

PROGRAM = ROOT / "tests/typing/program.py"


def test_the_program_uses_every_public_name():
    used = {node.attr for node in ast.walk(ast.parse(PROGRAM.read_text())) if isinstance(node, ast.Attribute)}
    used |= {node.id for node in ast.walk(ast.parse(PROGRAM.read_text())) if isinstance(node, ast.Name)}
    assert set(fastmlp.__all__) <= used


@pytest.mark.slow  # a type checker reads the whole package
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_the_program_passes(checker, tmp_path):
    name, *options = checker.split()
    if find_spec(name) is None:
        pytest.skip(f"needs {name}")
    cache = ["--cache-dir", str(tmp_path)] if name == "mypy" else []
    done = subprocess.run(
        [sys.executable, "-m", name, *options, *cache, str(PROGRAM)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout

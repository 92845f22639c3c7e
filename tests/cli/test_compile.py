"""``fastmlp compile``: what it compiles, what it says, and how it ends."""

import os
import re
import signal
import time

import pytest
from support.command_line import posix, run, started

import fastmlp
from fastmlp.cli import arguments, compile, compile_arguments, compile_worker, main
from fastmlp.engine.compiled import CompiledEngine
from fastmlp.kernels.optimizers import FORMULAS
from fastmlp.losses import LOSSES

pytestmark = pytest.mark.loops("command line")

SOME = ["compile", "--optimizer", "sgd", "--output", "softmax"]
"""Five kernels, which other tests need too."""


def kinds(*options):
    return compile.kinds_of(arguments.parsers()[0].parse_args(["compile", *options]))


def test_kernels_are_there_afterwards():
    for _ in range(2):
        ran = run(*SOME)
        assert (ran.returncode, ran.stderr) == (0, "")
        first, *kernels, last = ran.stdout.splitlines()
        assert first.startswith("5 kernels for ")
        assert {line.split(",")[0] for line in kernels} == {
            f"{name} float32" for name in ("train_dense", "infer_dense", "train_packed", "infer_packed", "pack_rows")
        }
    assert all(line.endswith("kB, there already") for line in kernels)
    assert re.fullmatch(r"0 compiled, 5 there already, \d\.\d MB in .*, \d+ s", last)
    ran = run("train", "--data", "digits", "--epochs", 1, env=os.environ | {"FASTMLP_QUIET": ""})
    assert (ran.returncode, ran.stderr) == (0, "")  # nothing was compiled


@posix
def test_ctrl_c_ends_it_at_once_and_leaves_no_lock(tmp_path):
    folder = tmp_path / "cache"
    with started(*SOME, "--jobs", 1, env=os.environ | {"NUMBA_CACHE_DIR": str(folder)}) as process:
        wait_until(lambda: folder.exists() and list(folder.glob("*.lock")))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err == "fastmlp compile: interrupted; the kernels so far are kept\n"
    assert out.splitlines()[-1].startswith("0 compiled, 0 there already, 0.0 MB in ")
    assert list(folder.iterdir()) == []


def wait_until(is_so):
    deadline = time.monotonic() + 120
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert is_so()


# --- which kernels ----------------------------------------------------------------------------------------------------


class _NotCompiled(Exception):
    pass


def test_the_count_is_that_of_the_loops_that_networks_need(monkeypatch):
    """Every kind of the list needs the loops that the count takes for different ones, and no others."""
    needed = []

    def note(engine, entry, call):
        needed.append((entry, engine.settings.dtype))
        raise _NotCompiled

    def noting(method):
        def noted(*arguments):
            with pytest.raises(_NotCompiled):
                method(*arguments)

        return noted

    monkeypatch.setattr(CompiledEngine, "_compile", note)
    for method in ("prepare", "prepare_inference"):
        monkeypatch.setattr(CompiledEngine, method, noting(getattr(CompiledEngine, method)))
    loops = {}
    chosen = kinds("--all", "--dtype", "float32", "--output", "softmax", "--optimizer", "sgd", "rmsprop-centered")
    chosen += kinds("--output", *compile_arguments.OUTPUTS, "--dtype", "float32", "float64")
    for kind in chosen:
        needed.clear()
        fastmlp.warm_up([16, 16, 2], **compile_worker.settings_of(compile.asdict(kind)))
        for name, loop in zip(kind.kernels(), needed, strict=False):  # without the one that packs rows
            assert loops.setdefault(name, loop) == loop, kind
        assert len(needed) == 2
    assert len(set(loops.values())) == len(loops) > 150


def test_all_is_everything():
    everything = kinds("--all")
    kernels = compile.kernels_of(everything)
    assert f"{len(kernels):,} kernels" in compile_arguments.COMPILE[2]
    assert {kind.optimizer for kind in everything} == set(compile_arguments.ALL_OPTIMIZERS)
    formulas = {compile_worker._optimizer(name) for name in compile_arguments.ALL_OPTIMIZERS}
    assert {fastmlp.optimizers.get_optimizer(each, None).formula for each in formulas} == set(FORMULAS)
    assert {kind.output for kind in everything} == set(compile_arguments.OUTPUTS)
    assert {fastmlp.MLP([2, 2], output=name)._engine.settings.loss.name for name in compile_arguments.OUTPUTS} == set(
        LOSSES
    )


@pytest.mark.parametrize(
    ("options", "n_kernels"),
    [
        ("", 13),
        ("--optimizer sgd --optimizer adam --activation relu identity --output softmax identity softmax", 13),
        ("--activation relu tanh gelu", 25),
        ("--dropout", 13),
        ("--l2", 13),
        ("--rows csr --optimizer adam --output logistic", 2),
        ("--rows sparse --input-noise --output softmax --optimizer sgd", 2),  # noise leaves nothing to pack
        ("--all --rows csr --optimizer adam --output exp --dtype float64", 8),
    ],
)
def test_options_multiply(options, n_kernels):
    assert len(compile.kernels_of(kinds(*options.split()))) == n_kernels


# --- processes that do something else ---------------------------------------------------------------------------------


@pytest.fixture
def worker(monkeypatch, tmp_path):
    """Return a function that sets what the processes run in place of the compiler."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))

    def run_instead(program):
        monkeypatch.setattr(compile, "_START", f"import json, os, sys\nfolder = {str(tmp_path)!r}\n{program}")

    return run_instead


ANSWER = """
for line in sys.stdin:
    name = json.loads(line)["rows"]
    path = os.path.join(folder, name)
    is_new = not os.path.exists(path)
    open(path, "w").write("x" * 2000)
    print(json.dumps([[name, "float32", path, is_new], [str(os.getpid()), "float32", folder, False]]), flush=True)
"""


def test_processes_share_the_kinds_and_are_replaced(worker, monkeypatch, capsys, tmp_path):
    worker(ANSWER)
    monkeypatch.setattr(compile, "_PER_WORKER", 2)
    (tmp_path / "dense").touch()
    assert main(["compile", "--jobs", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("13 kernels for ")
    assert [lines[1], lines[3]] == ["dense float32, 2 kB, there already", "sparse float32, 2 kB, compiled"]
    assert lines[-1].startswith("1 compiled, 2 there already, ")


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("sys.exit(3)", "a process that compiles has ended with status 3"),
        ("print('not JSON'); sys.exit(4)", "a process that compiles has ended with status 4"),
        ("sys.stdin.readline(); print(json.dumps([['train', 'float32', None, True]]))", "train cannot be written to "),
    ],
)
def test_a_process_that_fails(worker, capsys, program, error):
    worker(program)
    assert main(["compile", "--jobs", "2"]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"fastmlp compile: error: {error}")
    assert err.count("\n") == 1


def test_no_folder(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "below"))
    assert main(["compile"]) == 1
    assert "no folder for kernels can be written by you alone; name one with NUMBA_CACHE_DIR" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ("--optimizer adamm", "--optimizer: must be one of sgd, "),
        ("--rows dence", "did you mean dense?"),
        ("--jobs 0", "--jobs: '0' is not a whole number from 1"),
        ("--layers 128", "unrecognized arguments: --layers 128"),
        ("--optimizer", "--optimizer: expected at least one argument"),
    ],
)
def test_wrong_usage(options, error, capsys):
    assert main(["compile", *options.split()]) == 2
    assert error in capsys.readouterr().err

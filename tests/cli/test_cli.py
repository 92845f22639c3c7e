"""The command line: wrong use, help, and how it ends."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.command_line import QUICK, error_line, last_accuracy, posix, run
from support.nets import ROOT

import fastmlp
from fastmlp import datasets, schedules
from fastmlp.activations import ACTIVATIONS
from fastmlp.cli import arguments, main, values
from fastmlp.cli.presets import PRESETS
from fastmlp.optimizers import OPTIMIZERS
from fastmlp.random import INITS

pytestmark = pytest.mark.loops("command line")


# --- wrong use --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--layers", "--layers: expected at least one argument"),
        ("--layers 0", "--layers: '0' is not a whole number from 1 to 1000000"),
        ("--layers 128 -5", "--layers: '-5' is not a whole number"),
        ("--layers 128,64", "--layers: '128,64' is not a whole number"),
        ("--layers 784-128-10", "give the sizes of the hidden layers with spaces between, as in --layers 128 64"),
        ("--layers wide", "--layers: 'wide' is not a whole number"),
        ("--epochs 0", "--epochs: '0' is not a whole number of 1 or more"),
        ("--epochs 1.5", "--epochs: '1.5' is not"),
        ("--epochs", "--epochs: expected one argument"),
        ("--batch-size 0", "--batch-size: '0' is not"),
        ("--learning-rate 0", "--learning-rate: '0' is not a positive number"),
        ("--learning-rate -1", "--learning-rate: '-1' is not a positive number"),
        ("--learning-rate nan", "--learning-rate: 'nan' is not"),
        ("--learning-rate inf", "--learning-rate: 'inf' is not"),
        ("--learning-rate 1e-60 --data xor", "--learning-rate 1e-60 is too small"),
        ("--seed -1", "--seed: '-1' is not a whole number of 0 or more"),
        ("--seed x", "--seed: 'x' is not"),
        ("--threads 0", "--threads: '0' is not"),
        (
            "--activation swish",
            "--activation: must be one of relu, leaky_relu, elu, gelu, silu, tanh, "
            "logistic, identity, not 'swish'; did you mean silu?",
        ),
        ("--init zeros", "--init: must be one of he, xavier, normal, not 'zeros'"),
        (
            "--optimizer adm",
            "must be one of sgd, momentum, nesterov, adam, adamw, rmsprop, adagrad, not 'adm'; did you mean adam?",
        ),
        ("--schedule onecycle", "not 'onecycle'; did you mean one_cycle?"),
        ("--schedule step", "--schedule: 'step' needs settings; in Python: fit(schedule=Step(every=10))"),
        ("--preset acurate", "--preset: must be one of fast, accurate, not 'acurate'; did you mean accurate?"),
        ("--dropout 1", "--dropout: '1' is not a number of 0 or more, and below 1"),
        ("--dropout 0.1 0.2 --data xor", "--dropout has 2 entries, but the network has 1 hidden layers"),
        ("--l2 -1", "--l2: '-1' is not a number of 0 or more"),
        (
            "--class-weight balancd",
            "'balancd' is not balanced, a number of 0 or more, or CLASS=NUMBER, such as 3=0.5; did you mean balanced?",
        ),
        (
            "--class-weight 1 1=2 --data xor",
            "--class-weight takes balanced, or numbers, or CLASS=NUMBER, but not a mixture",
        ),
        ("--class-weight 1 2 3 --data xor", "--class-weight has 3 numbers, but there are 2 classes"),
        ("--class-weight 2=1 --data xor", "--class-weight has class 2, but classes are 0 to 1"),
        ("--class-weight 0 0 --data xor", "--class-weight is 0 for every training row"),
        ("--validation-fraction 1", "--validation-fraction: '1' is not a number between 0 and 1"),
        ("--validation-fraction 0", "--validation-fraction: '0' is not a number between 0 and 1"),
        ("--patience 0", "--patience: '0' is not a whole number of 1 or more"),
        ("--lr 0.1", "unrecognized arguments: --lr 0.1; did you mean --learning-rate?"),
        ("--optimiser=adam", "unrecognized arguments: --optimiser=adam; did you mean --optimizer?"),
        (
            "--data digts",
            "No such file or directory (nor is it mnist, digits or xor; did you mean digits?)",
        ),
        ("--data no-such.npz", "cannot read --data 'no-such.npz': No such file"),
        ("--data .", "cannot read --data '.': . holds no idx files"),
        ("--save .", "cannot save .: it is a folder"),
        ("--save no-such-folder/net.npz", "there is no folder no-such-folder"),
        ("--layer 5", "unrecognized arguments: --layer 5"),
        ("digits", "unrecognized arguments: digits"),
    ],
)
def test_wrong_value(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert words in error_line(["train", *arguments.split()], capsys)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"y_test": None}, "y_test"),
        ({"X_train": np.zeros((5, 3))}, "X_train has 5 rows, but y_train has 60"),
        ({"X_test": np.zeros((30, 4))}, "X_train has 3 features, but X_test has 4"),
        ({"X_train": np.full((60, 3), np.nan)}, "X_train has nan in row 0, column 0"),
        ({"X_test": np.full((30, 3), np.inf)}, "X_test has inf in row 0, column 0"),
        ({"X_train": np.full((60, 3), "x")}, "X_train is <U1"),
        ({"y_train": np.full(60, 0.5)}, "y_train has 0.5 in row 0, but labels are integers"),
        ({"y_train": np.repeat([0, -3], 30)}, "y_train has label -3"),
        ({"y_train": np.full(60, 10**9)}, "y_train has label 1000000000"),
        ({"y_test": np.full(30, 12)}, "y_test has label 12, but y_train only labels up to 1"),
        ({"y_test": np.full(30, -1)}, "y_test has label -1"),
        ({"X_train": np.zeros((0, 3)), "y_train": np.zeros(0, int)}, "X_train"),
    ],
)
def test_wrong_data(changes, words, archive, capsys):
    assert words in error_line(["train", "--data", archive(**changes)], capsys, quiet=False)


@pytest.mark.parametrize("content", [b"", b"no archive\n", b"PK\x03\x04 cut off"])
def test_file_that_is_no_archive(content, tmp_path, capsys):
    path = tmp_path / "mine.npz"
    path.write_bytes(content)
    assert str(path) in error_line(["train", "--data", path], capsys)


def test_pickled_data_are_refused(archive, capsys):
    error_line(["train", "--data", archive(X_train=np.full((60, 3), None))], capsys)


def test_too_little_memory(capsys, monkeypatch):
    def load():
        raise MemoryError

    monkeypatch.setattr(datasets, "load_xor", load)
    assert error_line(QUICK, capsys) == "fastmlp train: error: not enough memory\n"


@pytest.mark.parametrize(("option", "status"), [("batch-size", 0), ("seed", 0), ("layers", 2), ("threads", 2)])
def test_giant_numbers_are_taken_or_refused(option, status, capsys):
    assert main([*QUICK, f"--{option}", "1" + "0" * 30]) == status
    assert capsys.readouterr().err.count("\n") == (status == 2)


def test_target_is_checked_before_the_training(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(datasets, "load_xor", lambda: pytest.fail("it is loaded already"))
    error_line([*QUICK, "--save", tmp_path], capsys)
    error_line([*QUICK, "--save", f"{tmp_path / 'new'}{os.sep}"], capsys)
    error_line([*QUICK, "--save", ""], capsys)
    error_line([*QUICK, "--save", tmp_path / ("n" * 300)], capsys)
    assert list(tmp_path.iterdir()) == []


@posix
def test_target_that_is_no_plain_file(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    assert "not a plain file" in error_line([*QUICK, "--save", tmp_path / "pipe"], capsys)


@posix
def test_unwritable_folder(tmp_path, capsys):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):  # the superuser may write everywhere, but not there
        folder = Path("/proc")
        if not folder.is_dir():
            pytest.skip("no folder is closed to the superuser")
    assert f"{folder / 'net.npz'}: " in error_line([*QUICK, "--save", folder / "net.npz"], capsys)


def test_saving_does_not_overwrite_the_data(archive, capsys):
    path = archive()
    before = path.read_bytes()
    assert " would overwrite " in error_line(["train", "--data", path, "--save", path], capsys)
    assert path.read_bytes() == before


def test_results_are_printed_even_if_saving_fails(tmp_path, capsys, monkeypatch):
    def save(self, path):
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(fastmlp.MLP, "save", save)
    path = tmp_path / "net.npz"
    assert main([*QUICK, "--save", str(path)]) == 2
    output, errors = capsys.readouterr()
    last_accuracy(output)
    assert errors == f"fastmlp train: error: {path}: No space left on device\n"


def test_diverged(capsys):
    line = error_line(["train", "--data", "digits", "--learning-rate", "1e30"], capsys, status=1, quiet=False)
    assert re.search(r"loss is (nan|inf) at epoch 1, step \d+; lower --learning-rate$", line)


@pytest.mark.parametrize(("rate", "hints"), [("20", 1), ("0.1", 0)])
def test_a_fit_that_learned_nothing_gets_a_hint(rate, hints, capsys):
    assert main(["train", "--data", "digits", "--learning-rate", rate]) == 0
    output, errors = capsys.readouterr()
    last_accuracy(output)
    assert errors.count("\n") == hints
    if hints:
        assert errors.startswith("fastmlp train: this fit has learned nothing: ")
        assert errors.endswith("; --learning-rate 20 may be too high\n")


def test_no_hint_after_a_few_steps(capsys):
    assert main(QUICK) == 0
    assert capsys.readouterr().err == ""


def test_threads_that_cannot_be_started_are_told(capsys, monkeypatch):
    def fit(*_, **settings):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(fastmlp.MLP, "fit", fit)
    error = error_line(QUICK, capsys, quiet=False)
    assert error == "fastmlp train: error: can't start new thread\n"


def test_without_the_compiler():
    done = run(*QUICK, env=os.environ | {"NUMBA_DISABLE_JIT": "1"})
    assert done.returncode == 2
    assert done.stderr == (
        "fastmlp train: error: cannot import fastmlp.MLP: its kernels need Numba's compiler; unset NUMBA_DISABLE_JIT\n"
    )


@posix
def test_saving_through_a_link(tmp_path, capsys):
    folder, link = tmp_path / "there", tmp_path / "link.npz"
    folder.mkdir()
    link.symlink_to(folder / "net.npz")
    for _ in range(2):  # the file is new, then an old one
        assert main([*QUICK, "--save", str(link)]) == 0
        assert link.is_symlink()
        assert fastmlp.MLP.load(folder / "net.npz").layers == (2, 4, 2)
    capsys.readouterr()
    link.unlink()
    link.symlink_to(tmp_path / "missing" / "net.npz")
    assert "there is no folder" in error_line([*QUICK, "--save", link], capsys)


def test_no_command_and_wrong_command(capsys):
    assert "fastmlp train" in error_line([], capsys, program="fastmlp")
    assert "'fit'" in error_line(["fit"], capsys, program="fastmlp")
    assert error_line(["trian"], capsys, program="fastmlp").endswith("not 'trian'; did you mean train?\n")


# --- help -------------------------------------------------------------------------------------------------------------


def test_help_needs_nothing_heavy():
    program = (
        "import sys\nsys.modules['numba'] = sys.modules['numpy'] = None\nfrom fastmlp.cli import main\n"
        "statuses = [main([*command, '--help']) for command in ([], ['train'], ['predict'], ['export'])]\n"
        "sys.exit(any([*statuses, main(['--version'])]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    version = done.stdout.rpartition(f"fastmlp {fastmlp.__version__}\n")[2]
    assert "vectors       unknown (" in version


@pytest.mark.parametrize("command", ["", *arguments.parsers()[1]])
def test_help_begins_with_examples(command, capsys):
    assert main([*command.split(), "--help"]) == 0
    usage, _, text = capsys.readouterr().out.partition("\n\n")
    assert usage.startswith(f"usage: fastmlp {command}".rstrip())
    assert text.startswith("examples:\n  fastmlp ")
    assert f"\n  fastmlp {command}" in text.partition("\n\n")[0]
    assert text.count("examples:") == 1


@pytest.mark.parametrize("command", ["train", "predict", "export", "bench", "doctor"])
def test_help_fits_80_columns(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([command, "--help"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_help_says_what_files_hold_and_every_default(capsys):
    assert main(["train", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for name in ("X_train", "y_train", "X_test", "y_test", "fastmlp.MLP.load"):
        assert name in text
    for default in ("mnist", "128", "relu", "he", "10", "64", "sgd", "constant", "0"):
        assert f"(default: {default})" in text


def test_names_in_the_help_are_those_of_the_library():
    assert tuple(ACTIVATIONS) == values.ACTIVATIONS
    assert tuple(OPTIMIZERS) == values.OPTIMIZERS
    assert tuple(schedules._NAMES) == values.SCHEDULES
    assert values.NEED_SETTINGS == schedules._NEED_SETTINGS
    assert tuple(PRESETS) == values.PRESETS
    assert tuple(INITS) == values.INITS
    rates = {"0.1": "sgd, momentum and nesterov", "0.01": "rmsprop and adagrad", "0.001": "adam and adamw"}
    for rate, names in rates.items():
        assert {OPTIMIZERS[name].learning_rate for name in re.findall(r"\b(?!and\b)\w+", names)} == {float(rate)}
    text = " ".join(arguments.parsers()[1]["train"].format_help().split())
    assert f"(default: {', '.join(f'{rate} for {names}' for rate, names in rates.items())})" in text


def test_arguments_of_the_process(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fastmlp", "--version"])
    assert main() == 0
    assert capsys.readouterr().out.startswith(f"fastmlp {fastmlp.__version__}\n")

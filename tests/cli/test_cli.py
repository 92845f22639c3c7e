"""The command line: what it takes, what it prints, and how it ends."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.command_line import QUICK, epoch_lines, last_accuracy, posix, run
from support.nets import ROOT

import fastmlp
from fastmlp import datasets
from fastmlp.activations import ACTIVATIONS
from fastmlp.cli import main
from fastmlp.cli.presets import PRESETS
from fastmlp.optimizers import SGD

pytestmark = pytest.mark.loops("command line")


def samples(output):
    """Rows of the samples: (row, label, predicted, confidence, whether it is marked as wrong)."""
    found = re.findall(r"^ *(\d+) +(\d+) +(\d+) +([01]\.\d{4})(  wrong)?$", output, re.MULTILINE)
    return [
        (int(row), int(label), int(predicted), float(sure), bool(mark)) for row, label, predicted, sure, mark in found
    ]


@pytest.fixture
def archive(tmp_path):
    """A file of user's data: two classes, told apart by the first of three columns."""
    X = np.random.default_rng(0).standard_normal((90, 3)).astype(np.float32)
    arrays = {"X_train": X[:60], "X_test": X[60:], "y_train": X[:60, 0] > 0, "y_test": X[60:, 0] > 0}

    def write(name="mine.npz", **changes):
        held = {key: value.astype(np.int64) if value.dtype == bool else value for key, value in arrays.items()}
        held = {key: value for key, value in (held | changes).items() if value is not None}
        np.savez(tmp_path / name, **held)
        return tmp_path / name

    return write


# --- what is trained --------------------------------------------------------------------------------------------------


@pytest.fixture
def recorded(monkeypatch):
    """What the command line hands to the network."""
    seen = {}

    class Recorder(fastmlp.MLP):
        def __init__(self, layers, **settings):
            seen.update(settings, layers=list(layers))
            super().__init__(layers, **settings)
            seen["dtype"] = str(self.dtype)

        def fit(self, X, y, **settings):
            seen.update(settings)
            return super().fit(X, y, **settings)

    monkeypatch.setattr(fastmlp, "MLP", Recorder, raising=False)
    return seen


def test_defaults(recorded, capsys):
    assert main(["train", "--data", "xor"]) == 0
    expected = {
        "layers": [2, 128, 2],
        "activation": "relu",
        "init": "he",
        "seed": 0,
        "n_threads": None,
        "dtype": "float32",
        "epochs": 10,
        "batch_size": 64,
        "optimizer": SGD(learning_rate=0.1),
    }
    assert {name: recorded[name] for name in expected} == expected
    assert len(epoch_lines(capsys.readouterr().out)) == 10


def test_a_preset_says_what_options_do_not(recorded, capsys):
    assert main(["train", "--data", "digits", "--preset", "fast", "--epochs", "2"]) == 0
    fast = PRESETS["fast"]
    assert recorded["layers"] == [64, *fast.hidden, 10]
    assert recorded["epochs"] == 2
    assert (recorded["optimizer"], recorded["schedule"]) == (fast.optimizer, fast.schedule)
    assert f"batch {fast.batch_size}, SGD {fast.optimizer.learning_rate}" in capsys.readouterr().out


def test_an_unknown_preset_is_an_error(capsys):
    assert main(["train", "--preset", "best"]) == 2
    assert "'best'" in capsys.readouterr().err


def test_options_reach_the_network(recorded, capsys):
    options = (
        "--data digits --layers 16 8 --activation logistic --init xavier --epochs 3 --batch-size 100 "
        "--learning-rate 0.5 --seed 7 --threads 1"
    )
    assert main(["train", *options.split()]) == 0
    expected = {
        "layers": [64, 16, 8, 10],
        "activation": "logistic",
        "init": "xavier",
        "seed": 7,
        "n_threads": 1,
        "epochs": 3,
        "batch_size": 100,
        "optimizer": SGD(learning_rate=0.5),
    }
    assert {name: recorded[name] for name in expected} == expected
    plan = "64-16-8-10 logistic, 1,437 training and 360 test rows, batch 100, SGD 0.5, seed 7, 1 thread"
    assert capsys.readouterr().out.splitlines()[0] == plan


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_can_be_trained(activation, recorded):
    assert main([*QUICK, "--activation", activation]) == 0
    assert recorded["activation"] == activation


def test_mnist_is_trained_by_default():
    done = run("train", "--epochs", 1)
    assert (done.returncode, done.stderr) == (0, "")
    plan, threads = done.stdout.splitlines()[0].rsplit(", ", 1)
    assert plan == "784-128-10 relu, 60,000 training and 10,000 test rows, batch 64, SGD 0.1, seed 0"
    assert re.fullmatch(r"1 thread|up to \d+ threads", threads)
    assert len(epoch_lines(done.stdout)) == 1
    assert len(samples(done.stdout)) == 5
    assert last_accuracy(done.stdout) > 0.9
    assert "\r" not in done.stdout


def test_digits(capsys):
    assert main(["train", "--data", "digits"]) == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    assert len(epoch_lines(output)) == 10
    assert float(epoch_lines(output)[-1].split()[3]) == last_accuracy(output) > 0.9


def test_samples_are_test_rows_and_wrong_guesses_are_marked(capsys):
    assert main(["train", "--data", "digits", "--layers", "2", "--epochs", "1"]) == 0
    found = samples(capsys.readouterr().out)
    labels = datasets.load_digits()[3]
    assert [label for _, label, *_ in found] == [labels[row] for row, *_ in found]
    assert [wrong for *_, wrong in found] == [predicted != label for _, label, predicted, *_ in found]
    assert any(wrong for *_, wrong in found)


def test_xor_is_learnt_and_has_four_samples(capsys):
    assert main(["train", "--data", "xor", "--layers", "8", "--epochs", "500"]) == 0
    output = capsys.readouterr().out
    assert last_accuracy(output) == 1
    assert [(row, label) for row, label, *_ in samples(output)] == [(0, 0), (1, 1), (2, 1), (3, 0)]


def test_data_of_a_file(archive, capsys):
    assert main(["train", "--data", str(archive()), "--batch-size", "10"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("3-128-2 relu, 60 training and 30 test rows, batch 10,")
    assert last_accuracy(output) > 0.8


def test_a_saved_network_predicts_the_same(tmp_path, capsys):
    path = tmp_path / "net.npz"
    assert main(["train", "--data", "digits", "--save", str(path)]) == 0
    output, errors = capsys.readouterr()
    assert errors == f"saved {path}\n"
    assert list(tmp_path.iterdir()) == [path]
    net = fastmlp.MLP.load(path)
    _, _, X_test, y_test = datasets.load_digits()
    assert f"{net.score(X_test, y_test):.4f}" == f"{last_accuracy(output):.4f}"
    found = samples(output)
    probabilities = net.predict_proba(X_test[[row for row, *_ in found]])
    assert probabilities.argmax(axis=1).tolist() == [predicted for _, _, predicted, *_ in found]
    assert probabilities.max(axis=1) == pytest.approx([sure for *_, sure, _ in found], abs=1e-4)


def test_the_same_seed_prints_the_same(capsys):
    outputs = []
    for _ in range(2):
        main(["train", "--data", "digits", "--epochs", "2", "--threads", "1"])
        outputs.append(re.sub(r"\d+\.\d{3}$", "", capsys.readouterr().out, flags=re.MULTILINE))  # but for the seconds
    assert outputs[0] == outputs[1]


# --- wrong use --------------------------------------------------------------------------------------------------------


def error_line(arguments, capsys, status=2, program="fastmlp train"):
    """Run `arguments`, which are wrong, and return the one line that says so."""
    assert main(list(map(str, arguments))) == status
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith(f"{program}: error: ")
    assert error.endswith("\n")
    return error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--layers", "--layers: expected at least one argument"),
        ("--layers 0", "--layers: '0' is not a whole number from 1 to 1000000"),
        ("--layers 128 -5", "--layers: '-5' is not a whole number"),
        ("--layers 128,64", "--layers: '128,64' is not a whole number"),
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
        ("--activation swish", "--activation: invalid choice: 'swish'"),
        ("--init zeros", "--init: invalid choice: 'zeros'"),
        ("--data no-such.npz", "cannot read --data 'no-such.npz': No such file"),
        ("--data .", "cannot read --data '.': "),
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
        ({"y_test": np.full(30, 12)}, "y_test has label 12, but the network has 2 outputs"),
        ({"y_test": np.full(30, -1)}, "y_test has label -1"),
        ({"X_train": np.zeros((0, 3)), "y_train": np.zeros(0, int)}, "X_train"),
    ],
)
def test_wrong_data(changes, words, archive, capsys):
    assert words in error_line(["train", "--data", archive(**changes)], capsys)


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
    assert "would overwrite the data" in error_line(["train", "--data", path, "--save", path], capsys)
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
    line = error_line(["train", "--data", "digits", "--learning-rate", "1e30"], capsys, status=1)
    assert re.search(r"loss is (nan|inf) at epoch 1, step \d+; lower --learning-rate$", line)


@pytest.mark.parametrize(("rate", "hints"), [("20", 1), ("0.1", 0)])
def test_a_loss_worse_than_a_guess_gets_a_hint(rate, hints, capsys):
    assert main(["train", "--data", "digits", "--learning-rate", rate]) == 0
    output, errors = capsys.readouterr()
    last_accuracy(output)
    assert errors.count("\n") == hints
    if hints:
        assert re.match(r"fastmlp train: the loss is worse than that of a guess, 2\.30\d\d; lower --learning", errors)


def test_no_hint_after_a_few_steps(capsys):
    assert main(QUICK) == 0
    assert capsys.readouterr().err == ""


def test_threads_that_cannot_be_started_are_told(capsys, monkeypatch):
    def fit(*_, **settings):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(fastmlp.MLP, "fit", fit)
    assert error_line(QUICK, capsys) == "fastmlp train: error: can't start new thread\n"


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


# --- help -------------------------------------------------------------------------------------------------------------


def test_help_needs_nothing_heavy():
    program = (
        "import sys\nsys.modules['numba'] = sys.modules['numpy'] = None\nfrom fastmlp.cli import main\n"
        "statuses = main(['--help']), main(['train', '--help']), main(['--version'])\n"
        "sys.exit(statuses != (0, 0, 0))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert done.stdout.endswith(f"fastmlp {fastmlp.__version__}\n")


def test_help_says_what_files_hold_and_every_default(capsys):
    assert main(["train", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for name in ("X_train", "y_train", "X_test", "y_test", "fastmlp.MLP.load"):
        assert name in text
    for default in ("mnist", "128", "relu", "he", "10", "64", "0.1", "0"):
        assert f"(default: {default})" in text


def test_arguments_of_the_process(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fastmlp", "--version"])
    assert main() == 0
    assert capsys.readouterr().out == f"fastmlp {fastmlp.__version__}\n"

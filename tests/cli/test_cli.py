"""The command line: what it takes, what it prints, and how it ends."""

import gzip
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
from fastmlp import datasets, schedules
from fastmlp.activations import ACTIVATIONS
from fastmlp.callbacks import EarlyStopping
from fastmlp.cli import arguments, main, values
from fastmlp.cli.presets import PRESETS
from fastmlp.optimizers import OPTIMIZERS, SGD
from fastmlp.random import INITS
from fastmlp.schedules import Constant, Cosine

pytestmark = pytest.mark.loops("command line")


def samples(output):
    """Rows of the samples: (row, label, predicted, confidence, whether it is marked as wrong)."""
    found = re.findall(r"^ *(\d+) +(\d+) +(\d+) +([01]\.\d{4})(  wrong)?$", output, re.MULTILINE)
    return [
        (int(row), int(label), int(predicted), float(sure), bool(mark)) for row, label, predicted, sure, mark in found
    ]


def without_seconds(output):
    """The output but for the times, which are the last column of the table."""
    return re.sub(r"^( *\d+(?: +\d+\.\d{4}){3}) +\d+\.\d{4}$", r"\1", output, flags=re.MULTILINE)


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


@pytest.fixture
def only_recorded(recorded, monkeypatch):
    """The same, where nothing is trained, so that no kernel has to be compiled."""

    def fit(self, X, y, **settings):
        recorded.update(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(fastmlp.MLP, "fit", fit)
    return recorded


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


def test_more_options_reach_the_network(only_recorded, capsys):
    options = (
        "--data digits --layers 16 8 --optimizer nesterov --schedule cosine --dropout 0.1 0.2 --l2 1e-4 --epochs 3 "
        "--class-weight 3=2 4=0.5 --validation-fraction 0.2 --patience 2"
    )
    assert main(["train", *options.split()]) == 130
    expected = {
        "optimizer": OPTIMIZERS["nesterov"],
        "schedule": Cosine(),
        "dropout": [0.1, 0.2],
        "l2": 1e-4,
        "class_weight": {3: 2.0, 4: 0.5},
        "validation_fraction": 0.2,
    }
    assert {name: only_recorded[name] for name in expected} == expected
    assert "validation_data" not in only_recorded
    (stopping,) = [callback for callback in only_recorded["callbacks"] if isinstance(callback, EarlyStopping)]
    assert (stopping.monitor, stopping.patience, stopping.restore_best) == ("val_loss", 2, True)
    output = capsys.readouterr().out
    assert output.startswith(
        "64-16-8-10 relu, dropout 0.1 0.2, l2 0.0001, 1,437 training rows, 0.2 of them for validation, 360 test rows, "
        "batch 64, SGD 0.1 with Nesterov momentum 0.9, schedule Cosine, class weights 3=2 4=0.5, seed 0, "
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_optimizer_has_its_own_learning_rate(optimizer, only_recorded):
    assert main([*QUICK, "--optimizer", optimizer]) == 130
    assert only_recorded["optimizer"] == OPTIMIZERS[optimizer]


def test_options_override_a_preset(only_recorded):
    options = "--data digits --preset accurate --layers 8 4 --epochs 1 --optimizer sgd --schedule constant --dropout 0"
    assert main(["train", *options.split()]) == 130
    assert (only_recorded["optimizer"], only_recorded["schedule"], only_recorded["dropout"]) == (SGD(), Constant(), 0.0)
    assert (only_recorded["input_dropout"], only_recorded["label_smoothing"]) == (0.1, 0.03)
    assert (only_recorded["layers"], only_recorded["activation"], only_recorded["batch_size"]) == (
        [64, 8, 4, 10],
        "gelu",
        128,
    )


def test_class_weights(only_recorded):
    for given, expected in ((["balanced"], "balanced"), (["1", "2.5"], [1.0, 2.5]), (["1=3"], {1: 3.0})):
        assert main([*QUICK, "--class-weight", *given]) == 130
        assert only_recorded["class_weight"] == expected


def test_patience_stops_on_rows_held_out(recorded, capsys):
    assert main(["train", "--data", "digits", "--patience", "1", "--epochs", "200", "--learning-rate", "1"]) == 0
    assert recorded["validation_fraction"] == 0.1
    output = capsys.readouterr().out
    n_epochs = len(epoch_lines(output))
    stopped = f"stopped after epoch {n_epochs}: the validation loss was best in epoch {n_epochs - 1}, whose parameters"
    assert n_epochs < 200
    assert stopped in output
    assert output.splitlines()[1] == "epoch      loss  train accuracy  validation accuracy   seconds"


def test_folders_of_idx_files(tmp_path, capsys):
    X, y = np.arange(24, dtype=np.uint8).reshape(6, 2, 2) * 10, np.array([0, 1, 2, 0, 1, 2], np.uint8)
    outputs = []
    for folder, opened, ending, prefix in (
        ("plain", open, "", ""), ("zipped", gzip.open, ".gz", ""), ("emnist", gzip.open, ".gz", "emnist-letters-"),
    ):  # fmt: skip
        (tmp_path / folder).mkdir()
        for part in ("train", "t10k"):
            for kind, array in (("images-idx3", X), ("labels-idx1", y)):
                header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
                with opened(tmp_path / folder / f"{prefix}{part}-{kind}-ubyte{ending}", "wb") as file:
                    file.write(header + array.tobytes())
        assert main(["train", "--data", str(tmp_path / folder), "--layers", "4", "--epochs", "1"]) == 0
        outputs.append(without_seconds(capsys.readouterr().out))
    assert outputs[0].startswith("4-4-3 relu, 6 training and 6 test rows")
    assert outputs[1:] == outputs[:1] * 2
    assert main(["train", "--data", str(tmp_path / "emnist" / "letters"), "--layers", "4", "--epochs", "1"]) == 0
    capsys.readouterr()
    error = error_line(["train", "--data", tmp_path / "emnist" / "digits"], capsys)
    assert "holds no data set 'digits', but 'letters'" in error
    images = tmp_path / "plain" / "train-images-idx3-ubyte"
    assert "would overwrite the data" in error_line(["train", "--data", tmp_path / "plain", "--save", images], capsys)


def test_labels_may_be_whole_floats_or_one_hot(archive, capsys):
    y = np.arange(60) % 2
    outputs = []
    for labels in (y, y.astype(np.float32), np.eye(2)[y]):
        test = labels[:30]
        assert (
            main(["train", "--data", str(archive(y_train=labels, y_test=test)), "--layers", "4", "--epochs", "1"]) == 0
        )
        outputs.append(without_seconds(capsys.readouterr().out))
    assert outputs[1:] == outputs[:1] * 2


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
        outputs.append(without_seconds(capsys.readouterr().out))
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


def test_arguments_of_the_process(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fastmlp", "--version"])
    assert main() == 0
    assert capsys.readouterr().out.startswith(f"fastmlp {fastmlp.__version__}\n")

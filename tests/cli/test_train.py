"""`fastmlp train`: what is trained, and what it prints."""

import gzip
import re

import numpy as np
import pytest
from support.command_line import QUICK, epoch_lines, error_line, last_accuracy, run

import fastmlp
from fastmlp import datasets
from fastmlp.activations import ACTIVATIONS
from fastmlp.callbacks import EarlyStopping
from fastmlp.cli import main
from fastmlp.cli.presets import PRESETS
from fastmlp.optimizers import OPTIMIZERS, SGD
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
    assert " would overwrite " in error_line(["train", "--data", tmp_path / "plain", "--save", images], capsys)


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

"""Wrong command lines, drawn with a seed: each ends in one line on stderr and status 2, and writes nothing."""

import random

import pytest
from support.command_line import QUICK

import fastmlp
from fastmlp.bench import command
from fastmlp.cli import arguments, compile, main

N = 1500
WORDS = [
    "", " ", "-", "--", "-1", "0", "1", "2", "0.5", "1.5", "1e400", "-0", "nan", "inf", "-inf", "1_000", "0x10", "½",
    "١", "9" * 40, "xor", "digits", "mnist", ".", "..", "/", "/dev/null", "no-such", "no/such.npz", "a\0b", "é",
    "relu", "sgd", "adam", "cosine", "step", "balanced", "balanced=1", "0=1", "1=", "=", "1=nan", "-1=2", "he", "fast",
    "numpy", "jax", "train", "bench", "fit", "=5", "net.npz", "b.json", "c.svg", "c.gif", "\n", "%s",
    "%(default)s", "{}",
]  # fmt: skip
RIGHT = {
    "--activation": "relu", "--batch-size": "2", "--class-weight": "balanced", "--data": "xor", "--dropout": "0.5",
    "--epochs": "1", "--init": "he", "--l2": "0", "--layers": "1", "--learning-rate": "0.5", "--optimizer": "adam",
    "--patience": "2", "--peers": "numpy", "--preset": "fast", "--runs": "1", "--save": "net.npz",
    "--schedule": "cosine", "--seed": "2", "--threads": "1", "--validation-fraction": "0.5", "--json": "b.json",
    "--chart": "c.svg", "--output": "out.npz", "-o": "out.npz", "--to": "npz", "--rows": "csr",
    "--dtype": "float64", "--jobs": "1", "--task": "regression",
}  # fmt: skip


@pytest.fixture
def only_parsed(monkeypatch, tmp_path):
    """Nothing is trained or measured: what gets so far is right, or is refused by the library without a crash."""
    monkeypatch.chdir(tmp_path)
    passed = []

    def fit(self, X, y, **settings):
        passed.append("fit")
        raise ValueError("a right command line")

    def measure(*given, **settings):
        passed.append("measure")
        raise ValueError("a right command line")

    monkeypatch.setattr(fastmlp.MLP, "fit", fit)
    monkeypatch.setattr(command, "measure", measure)
    monkeypatch.setattr(compile, "_compiled", measure)
    return passed


def drawn(draw, options):
    """A command line with some options right, some wrong."""
    line = [draw.choice(["train", "bench"] * 10 + ["predict", "export", "compile"] * 2 + WORDS)]
    if line[0] in options and line[0] != "compile":
        line += ["--data", draw.choice(["xor"] * 6 + WORDS)]
    for _ in range(draw.randint(0, 5)):
        if draw.random() < 0.7 and line[0] in options:
            name = draw.choice(options[line[0]])
            line += [name, *RIGHT.get(name, "").split()]
            continue
        name = draw.choice([*options.get(line[0], ["--data"]), "--nothing", "-x"])
        if draw.random() < 0.1:
            name = name[: draw.randint(1, len(name))] + draw.choice(["", "x"])
        values = [draw.choice(WORDS) for _ in range(draw.choice([0, 1, 1, 1, 1, 2, 3]))]
        line += [f"{name}={values[0]}"] if values and draw.random() < 0.2 else [name, *values]
    return line


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(3))
def test_wrong_command_lines_are_refused_in_one_line(seed, only_parsed, tmp_path, capsys):
    draw = random.Random(seed)
    ignored = ("-h", "--help", "--version")
    options = {
        name: sorted(option for option in parser._option_string_actions if option not in ignored)
        for name, parser in arguments.parsers()[1].items()
    }
    refused = 0
    for _ in range(N):
        line = drawn(draw, options)
        if any(word in ignored for word in line):
            continue
        status = main(line)
        output, error = capsys.readouterr()
        assert (status, error.count("\n")) == (2, 1), (line, status, error)
        assert error.startswith("fastmlp"), (line, error)
        assert ": error: " in error, (line, error)
        for word in ("Traceback", "argparse", "Network", "Error(", "object at 0x"):
            assert word not in error, (line, error)
        if "a right command line" in error:
            continue
        refused += 1
        assert output.count("\n") <= 1, (line, output)  # what will be trained
        assert list(tmp_path.iterdir()) == [], line
    assert refused > N / 2
    assert only_parsed.count("fit") > N / 100
    assert only_parsed.count("measure") > N / 100


def test_the_quick_command_line_is_right(only_parsed, capsys):
    assert main(QUICK) == 2
    assert only_parsed == ["fit"]
    assert "a right command line" in capsys.readouterr().err

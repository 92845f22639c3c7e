"""``fastmlp report`` and ``fastmlp train --report``."""

import json
import re

import numpy as np
import pytest
from support.command_line import error_line
from support.nets import data, filled

import fastmlp
from fastmlp import Ensemble, reference
from fastmlp.cli import main

X, Y = data(20)


@pytest.fixture(autouse=True)
def plain(monkeypatch, tmp_path):
    """The network in NumPy, which compiles nothing; files lie in the working directory."""
    monkeypatch.setattr(fastmlp, "MLP", reference.MLP, raising=False)
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", X_train=X, y_train=Y, X_test=X[:9], y_test=Y[:9])


def content(path):
    with open(path) as file:
        return json.loads(re.search(r'id="content">(.*?)</script>', file.read())[1])


@pytest.mark.parametrize("kind", ["network", "ensemble"])
def test_a_saved_model_becomes_a_page(kind, capsys, monkeypatch):
    if kind == "network":
        filled([4, 5, 3]).save("net.npz")
    else:
        Ensemble(reference.MLP([4, 5, 3]), n=2).save("net.npz")
        monkeypatch.setattr("fastmlp.mlp.MLP", reference.MLP)
    assert main(["report", "net.npz", "--data", "data.npz", "-o", "page.html"]) == 0
    output, error = capsys.readouterr()
    assert output == ""
    assert re.fullmatch(r"saved page\.html \([\d,]+ bytes\)\n", error)
    page = content("page.html")
    assert (page["n_rows"], page["network"]["members"]) == (9, 1 if kind == "network" else 2)


def test_train_writes_a_page_with_its_command(capsys):
    arguments = ["train", "--data", "data.npz", "--layers", "5", "--epochs", "3", "--report", "my page.html"]
    assert main([*arguments, "--save", "net.npz"]) == 0
    page = content("my page.html")
    assert page["trained"]["command"] == (
        "fastmlp train --data data.npz --layers 5 --epochs 3 --report 'my page.html' --save net.npz"
    )
    assert page["curves"]["epochs"] == [1, 2, 3]
    assert {line["kind"] for line in page["curves"]["panels"][0]["lines"]} == {"training", "validation"}
    assert "saved my page.html" in capsys.readouterr().err


def test_what_is_refused_before_anything_is_done(capsys, tmp_path):
    filled([4, 5, 3]).save("net.npz")
    filled([7, 3]).save("other.npz")
    before = sorted(each.name for each in tmp_path.iterdir())
    for arguments, message in (
        (["report", "net.npz", "--data", "data.npz"], "required: -o/--output"),
        (["report", "net.npz", "--data", "data.npz", "-o", "page.txt"], "must end in .html or .htm"),
        (["report", "none.npz", "--data", "data.npz", "-o", "page.html"], "cannot read the network 'none.npz'"),
        (["report", "data.npz", "--data", "data.npz", "-o", "page.html"], "no network"),
        (["report", "net.npz", "--data", "none.npz", "-o", "page.html"], "cannot read --data 'none.npz'"),
        (["report", "other.npz", "--data", "data.npz", "-o", "page.html"], "X_test has 4 features"),
        (["report", "net.npz", "--data", "data.npz", "-o", "none/page.html"], "there is no folder none"),
        (["train", "--data", "data.npz", "--report", "page.png"], "--report 'page.png' must end in"),
        (["train", "--data", "data.npz", "--report", "none/page.html"], "there is no folder none"),
    ):
        assert message in error_line(arguments, capsys)
    assert sorted(each.name for each in tmp_path.iterdir()) == before

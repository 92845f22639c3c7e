"""The examples in docs/many.md run; digits stand in for MNIST."""

import numpy as np
import pytest
from support.docs import examples

import fastmlp
from fastmlp import datasets

pytestmark = pytest.mark.loops("many")


@pytest.fixture(autouse=True)
def digits(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "load_mnist", datasets.load_digits)
    monkeypatch.chdir(tmp_path)


def run(code):
    """Run a program for MNIST on digits, and return its names."""
    names = {}
    exec(code.replace("784", "64"), names)
    return names


def test_the_examples_of_fit_many():
    names = run(examples("fit_many", file="docs/many.md"))
    assert [len(history.loss) for history in names["histories"]] == [20] * 4
    losses = [history.loss[-1] for history in names["histories"]]
    assert losses == sorted(losses, reverse=True)  # the larger the rate, the further after 20 epochs
    assert len(names["scores"]) == 5
    assert min(names["scores"]) > 0.9


def test_the_example_of_search(capsys):
    pytest.importorskip("pandas")
    pytest.importorskip("matplotlib")
    pytest.importorskip("scipy")
    names = run(examples("search", file="docs/many.md"))
    result, out = names["result"], capsys.readouterr().out
    assert "<SearchResult of 16 trials: best val_accuracy" in out
    assert set(result.best_settings) == {"layers", "learning_rate", "batch_size", "dropout"}
    assert len(result.to_pandas()) == 16
    assert result.best_net.score(names["X_test"], names["y_test"]) > 0.93


def test_the_example_of_an_ensemble():
    names = run(examples("Ensembles", file="docs/many.md"))
    ensemble, X, y = names["ensemble"], names["X_test"], names["y_test"]
    assert ensemble.score(X, y) > np.mean([net.score(X, y) for net in ensemble]) > 0.9
    np.testing.assert_array_equal(fastmlp.Ensemble.load("nets.npz").spread(X), ensemble.spread(X))

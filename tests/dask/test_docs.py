"""The examples in docs/cluster.md run; digits stand in for MNIST."""

import pytest
from support.docs import examples

from fastmlp import datasets

pytest.importorskip("distributed")

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:Stochastic Optimizer"),
]


@pytest.fixture
def run(monkeypatch):
    """Run the program of a section on digits, and return its names."""
    monkeypatch.setattr(datasets, "load_mnist", datasets.load_digits)
    names = {}

    def run(title):
        code = examples(title, file="docs/cluster.md").replace("784", "64").replace("10_000", "400")
        if "client" in names:  # the beginning has run
            code = code.partition("load_mnist()\n")[2]
        exec(code, names)
        return names

    yield run
    names["client"].cluster.close()
    names["client"].close()


def test_many_networks(run):
    assert [len(history.loss) for history in run("Many networks")["histories"]] == [5] * 8


def test_one_network(run):
    names = run("One network")
    assert len(names["history"].val_accuracy) == 5
    assert names["net"].score(names["X_test"], names["y_test"]) > 0.85


def test_estimators(run):
    run("One network")
    names = run("Estimators")
    assert names["labels"].compute().shape == names["y_train"].shape
    assert names["model"].to_local().score(names["X_test"], names["y_test"]) > 0.85


@pytest.mark.parametrize("title", ["Ray: a search", "Ray: one network"])
def test_ray(run, title):
    pytest.importorskip("ray")
    names = run(title)
    net = names.get("best", names.get("net"))
    assert net.score(names["X_test"], names["y_test"]) > 0.85

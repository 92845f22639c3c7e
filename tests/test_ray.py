"""The recipes in docs/ray.md run."""

import contextlib
import io
import re
import sys

import pytest
from support.docs import examples
from support.nets import assert_bits, parameters

from fastmlp import MLP, fit_many

ray = pytest.importorskip("ray")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of Ray itself
]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that runs the examples of a section on a new Ray, and returns their names and output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))  # for the processes of Ray
    monkeypatch.setenv("RAY_AIR_NEW_OUTPUT", "0")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)

    def run(title):
        names = {"__name__": "__main__"}
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(examples(title, file="ray.md"), names)
        return names, output.getvalue()

    yield run
    ray.shutdown()


def test_a_search(run):
    pytest.importorskip("ray.tune")
    names, _ = run("A search")
    assert len(names["results"]) == 8
    assert names["results"].num_errors == 0
    assert names["best"].metrics["val_accuracy"] > 0.93
    here = [MLP([64, 32, 10], seed=seed) for seed in range(32)]
    fit_many(here, names["X_train"], names["y_train"], epochs=20)
    for net, other in zip(names["nets"], here, strict=True):
        assert_bits(net, parameters(other))


def test_data_parallel_training(run):
    _, output = run("Data-parallel training")
    found = re.findall(r"epoch \d: test accuracy (0\.\d{4})", output)
    assert len(found) == 5
    assert abs(float(found[-1]) - 0.9725) < 0.002  # as the text says

"""The examples in docstrings run. Those that begin with `net`, `X` and `y` continue the first one of the interface."""

import contextlib
import doctest
import importlib
import warnings

import pytest
from support.docs import lacking
from support.nets import ROOT

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "fastmlp").rglob("*.py"))
    if "kernels" not in path.parts and ">>>" in path.read_text(encoding="utf-8")
]
BEFORE = """
from fastmlp import MLP, callbacks, datasets
X, y, X_test, y_test = datasets.load_digits()
net = MLP([64, 32, 10], seed=0)
net.fit(X, y, epochs=20)
"""


class Runner(doctest.DocTestRunner):
    """Ends an example whose package is not here, and notes the package."""

    def __init__(self):
        super().__init__(optionflags=FLAGS)
        self.missing, self.failed = set(), []

    def report_unexpected_exception(self, out, test, example, exc_info):
        if isinstance(exc_info[1], ImportError):
            self.missing.add(lacking(exc_info[1]))
            raise StopIteration
        super().report_unexpected_exception(out, test, example, exc_info)

    def run_all(self, tests):
        for test in tests:
            test.globs = {}
            exec(BEFORE, test.globs)
            with contextlib.suppress(StopIteration):
                self.run(test, out=self.failed.append)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        pytest.skip(f"needs {lacking(error)}")
    tests = [test for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]
    assert tests
    runner = Runner()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runner.run_all(tests)
    assert not runner.failed, "".join(runner.failed)
    if runner.missing:
        pytest.skip(f"some examples need {', '.join(sorted(runner.missing))}")

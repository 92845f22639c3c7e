"""The examples in docstrings run."""

import doctest
import importlib
import warnings

import pytest
from support.nets import ROOT

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "fastmlp").rglob("*.py"))
    if "kernels" not in path.parts and ">>>" in path.read_text(encoding="utf-8")
]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        pytest.skip(f"needs {error.name}")
    tests = [test for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]
    assert tests
    failed = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for test in tests:
            test.globs = dict(vars(module))
            doctest.DocTestRunner(optionflags=FLAGS).run(test, out=failed.append)
    assert not failed, "".join(failed)

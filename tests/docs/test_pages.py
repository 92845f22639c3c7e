"""Each block of Python in README.md and docs/ runs, with the first rows of MNIST in place of all."""

import warnings

import pytest
from support.docs import run_page
from support.nets import ROOT

from fastmlp import datasets

ELSEWHERE = {"cluster": "tests/dask/test_docs.py"}  # it starts clusters, and closes them
CONTINUES = {"report": "from fastmlp import MLP, datasets\nX_train, y_train, X_test, y_test = datasets.load_mnist()\n"
             "net = MLP([784, 128, 10])\n"}  # fmt: skip
PAGES = {
    path.stem: path
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    if "```python" in path.read_text(encoding="utf-8") and path.stem not in ELSEWHERE
}


@pytest.fixture
def names(monkeypatch, tmp_path):
    """Give the names that a page begins with, in a folder of its own."""
    X_train, y_train, X_test, y_test = datasets.load_mnist()
    monkeypatch.setattr(datasets, "load_mnist", lambda: (X_train[:6000], y_train[:6000], X_test[:500], y_test[:500]))
    monkeypatch.chdir(tmp_path)
    try:
        import matplotlib
    except ImportError:
        pass
    else:
        matplotlib.use("agg")
        monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    return {"__name__": "page"}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs(page, names):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fits that are too short, and of other packages
        exec(CONTINUES.get(page, ""), names)
        missing = run_page(PAGES[page], names)
    if missing:
        pytest.skip(f"some sections need {', '.join(sorted(missing))}")


def test_a_page_is_one_program(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nseen = [first]\n```\n"
        "## One\n```python\nimport no_such_package\n```\n```python\nseen.append(1)\n```\n"
        "## Two\n```python\nseen.append(2)\n```\n```python skip\nfail\n```\n```python setup\nfirst = 0\n```\n"
    )
    names = {}
    assert run_page(page, names) == {"no_such_package"}
    assert names["seen"] == [0, 2]
    page.write_text("text\n```python\nx = 1\ny = unknown\n```\n")
    with pytest.raises(NameError) as caught:
        run_page(page, {})
    assert caught.traceback[-1].lineno == 3


@pytest.mark.parametrize("page", ELSEWHERE)
def test_other_pages_have_a_test_of_their_own(page):
    assert f"docs/{page}.md" in (ROOT / ELSEWHERE[page]).read_text(encoding="utf-8")

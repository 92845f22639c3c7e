"""Every public name has a page in the reference, and links lead somewhere."""

import importlib
import re
from pathlib import Path

import pytest
from support.nets import ROOT

import fastmlp

MODULES = ["fastmlp", *(f"fastmlp.{name}" for name in fastmlp.__all__ if name.islower())]
PUBLIC = [name for name in MODULES if not callable(getattr(fastmlp, name.removeprefix("fastmlp."), None))]
PUBLIC += ["fastmlp.data", "fastmlp.dask"]
DOCS = ROOT / "docs"
LINKED = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted((DOCS / "reference").glob("*.md"))]


def listed():
    """The names that the pages of the reference list, in full."""
    found = []
    for path in sorted((DOCS / "reference").glob("*.md")):
        for block in re.findall(r"```\{eval-rst\}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
            if ".. autosummary::" in block:
                (module,) = re.findall(r"currentmodule:: (\S+)", block)
                found += [f"{module}.{name}" for name in re.findall(r"^   ([A-Za-z]\w*)$", block, re.MULTILINE)]
    return found


def test_the_modules_that_are_public():
    assert {"fastmlp", "fastmlp.callbacks", "fastmlp.plots", "fastmlp.reference"} <= set(PUBLIC)
    assert "fastmlp.search" not in PUBLIC


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_has_a_page(module):
    try:
        names = importlib.import_module(module).__all__
    except ImportError as error:
        pytest.skip(str(error))
    assert {f"{module}.{name}" for name in names} - set(PUBLIC) - set(listed()) == set()


def test_no_name_has_two_pages_or_is_not_public():
    names = listed()
    assert len(names) == len(set(names)) > 80
    for module in PUBLIC:
        if module != "fastmlp.dask":
            public = importlib.import_module(module).__all__
            own = [name.rpartition(".")[2] for name in names if name.rpartition(".")[0] == module]
            assert set(own) <= set(public)


def anchors(path):
    """The anchors of the headings in a file, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", LINKED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path):
    text = re.sub(r"^```(?!\{eval).*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(\s*([^)\s]+)\s*\)", text):
        if "://" not in link and not link.startswith("mailto:"):
            file, _, anchor = link.partition("#")
            target = (path.parent / file).resolve() if file else path
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link
            assert target.is_relative_to(Path(ROOT).resolve()), link

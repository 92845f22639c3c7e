"""The documentation as Sphinx builds it: it opens from a disk, searches, and asks for nothing elsewhere.

``FASTMLP_SITE=site/html pytest tests/docs`` tests what ``sphinx-build docs site/html`` has built.
"""

import html
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from support.browser import CHROMIUM, Browser

SITE = Path(os.environ["FASTMLP_SITE"]).resolve() if "FASTMLP_SITE" in os.environ else None
PAGES = ["index", "reference/generated/fastmlp.MLP", "gallery/mnist_from_scratch", "gallery", "benchmarks"]
LOOKS = {"desktop": {}, "dark": {"dark": True}, "phone": {"width": 390, "height": 844, "mobile": True}}

pytestmark = pytest.mark.skipif(SITE is None, reason="needs FASTMLP_SITE, the folder of the built documentation")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")


@pytest.fixture
def browser(tmp_path):
    """Give a browser, whose pages must not have asked for anything but files."""
    with Browser(tmp_path) as browser:
        yield browser
    assert browser.failed == []
    assert [address for address in browser.asked if not address.startswith((SITE.as_uri(), "data:"))] == []


def pages():
    """Each page of Sphinx, as a path and its text; those of asv have tests of their own."""
    for path in sorted(SITE.rglob("*.html")):
        if "asv" not in path.relative_to(SITE).parts:
            yield path, path.read_text(encoding="utf-8")


def test_pages_load_nothing_from_elsewhere():
    loaded = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*?\s(?:src|href)=\"((?:https?:)?//[^\"]*)\"")
    assert {path.name: found for path, text in pages() if (found := loaded.findall(text))} == {}
    for path in SITE.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import\s+)[\"']?(?:https?:)?//", path.read_text(encoding="utf-8")), path


def test_links_between_pages_lead_somewhere():
    found = dict(pages())
    ids = {path: set(re.findall(r"\sid=\"([^\"]+)\"", text)) for path, text in found.items()}
    wrong = []
    for path, text in found.items():
        for link in set(re.findall(r"<a\b[^>]*?\shref=\"([^\"]+)\"", text)):
            address = urlsplit(html.unescape(link))
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            known = ids.get(target, set()) | {""}
            if not address.scheme and not (target.exists() and unquote(address.fragment) in known):
                wrong.append((path.relative_to(SITE).as_posix(), link))
    assert len(found) > 100
    assert wrong == []


def test_links_show_titles_and_not_names_of_files():
    shown = re.compile(r"<a\b[^>]*?\shref=\"[^\":]+\.html[^>]*>([^<]*(?:<[^/][^>]*>[^<]*)*\.md)</")
    assert {path.name: found for path, text in pages() if (found := shown.findall(text))} == {}


def test_initials_of_authors_and_ends_of_sentences_are_no_lists():
    lists = re.compile(r"<ol class=\"(?:upper|lower)[^>]*>|<ol[^>]*>\s*<li>(?:(?!<li>|<ol).)*</ol>", re.DOTALL)
    assert {path.name: found for path, text in pages() if (found := lists.findall(text))} == {}


@needs_chromium
@pytest.mark.parametrize("look", LOOKS)
def test_pages_open_from_a_disk(browser, look):
    browser.look(**LOOKS[look])
    for page in PAGES:
        browser.open((SITE / f"{page}.html").as_uri())
        browser.wait_for(f"document.readyState === 'complete' && location.href.endsWith('{page}.html')")
        assert browser.value("document.querySelector('h1') !== null")
        assert browser.value("document.documentElement.scrollWidth") <= LOOKS[look].get("width", 1200)
        assert browser.value("[...document.images].filter((each) => !each.naturalWidth).map((each) => each.src)") == []
        theme = browser.value("document.documentElement.dataset.theme")
        assert theme == ("dark" if look == "dark" else "light")


@needs_chromium
@pytest.mark.parametrize(("words", "page"), [("early stopping", "EarlyStopping"), ("categories", "tables")])
def test_search_works_from_a_disk(browser, words, page):
    browser.open(f"{(SITE / 'search.html').as_uri()}?q={words.replace(' ', '+')}")
    browser.wait_for(f"[...document.querySelectorAll('#search-results a')].some((a) => a.href.includes('{page}'))")


@needs_chromium
def test_the_pages_of_asv_are_part_of_the_site(browser):
    if not (SITE / "asv").exists():
        pytest.skip("asv has no results")
    browser.open((SITE / "benchmarks.html").as_uri())
    link = 'a[href="asv/index.html"]'
    browser.wait_for(f"document.readyState === 'complete' && document.querySelector('{link}') !== null")
    browser.click(link)
    browser.wait_for("location.href.includes('/asv/index.html') && document.body.innerText.includes('bench_')")

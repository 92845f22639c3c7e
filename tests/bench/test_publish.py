"""Publish pages of benchmark results, and open them in a browser without a network."""

import functools
import http.server
import json
import re
import shutil
import sys
import threading
import time
from pathlib import Path

import pytest
from support.asv import NAME, commits, project, results, run
from support.browser import CHROMIUM, Browser

from benchmarks import publish

ROOT = Path(__file__).resolve().parents[2]
SECONDS_OF_EPOCH = [0.14, 0.13, 0.12, 0.11, 0.1]  # one for each commit

pytest.importorskip("asv", reason="needs asv, which the bench extra brings")
needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")

# Number of saturated colours in the visible plots.
COLOURS = """(() => {
    const colours = new Set();
    for (const canvas of document.querySelectorAll("canvas")) {
        if (!canvas.width || !canvas.offsetParent) continue;
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        for (let i = 0; i < pixels.length; i += 4) {
            const [red, green, blue, alpha] = pixels.slice(i, i + 4);
            if (alpha == 255 && Math.max(red, green, blue) - Math.min(red, green, blue) > 60)
                colours.add([red, green, blue].join());
        }
    }
    return colours.size;
})()"""
SECONDS = 30  # in which the page must be drawn, on a busy machine


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Return the folder with published pages of made-up results."""
    folder = tmp_path_factory.mktemp("asv")
    config, _ = project(folder, SECONDS_OF_EPOCH)
    run(sys.executable, "-m", "benchmarks.publish", "--config", str(config), cwd=ROOT)
    return folder / "html"


@pytest.fixture
def server(pages):
    """Serve the pages; return the address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=pages)) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def test_results_of_all_environments_are_one_curve(tmp_path):
    results(tmp_path / "results", commits(tmp_path / "repo", len(SECONDS_OF_EPOCH)), SECONDS_OF_EPOCH)
    before = {path: path.read_text() for path in (tmp_path / "results").rglob("*.json")}
    busy = publish.one_curve(tmp_path / "results", tmp_path / "copy")
    kept = [json.loads(path.read_text()) for path in (tmp_path / "copy" / "m").glob("*-e.json")]
    assert len(kept) == len(SECONDS_OF_EPOCH)
    assert {json.dumps([each["params"], each["requirements"]], sort_keys=True) for each in kept} == {
        json.dumps([kept[0]["params"], {}], sort_keys=True)
    }
    (line,) = busy
    assert line.endswith(f" {NAME}: 1.3")
    assert {path: path.read_text() for path in before} == before  # the results themselves stay as they are


@needs_npm
def test_the_pages_have_one_curve_for_each_implementation(pages):
    index = json.loads((pages / "index.json").read_text())
    assert len(index["graph_param_list"]) == 1
    assert "build" not in index["params"]


@needs_npm
def test_the_scale_is_logarithmic_at_first(pages):
    assert "var log_scale = true;" in (pages / "graphdisplay.js").read_text()
    assert 'id="log-scale" class="active btn' in (pages / "index.html").read_text()


@needs_npm
def test_pages_name_nothing_elsewhere(pages):
    text = (pages / "index.html").read_text()
    loaded = re.findall(r'<(?:script|link)\b[^>]*?(?:src|href)="([^"]+)"', text)
    assert len(loaded) > 20
    assert [name for name in loaded if "//" in name] == []
    assert [name for name in loaded if not (pages / name).exists()] == []
    assert "integrity" not in text


@needs_npm
@needs_chromium
@pytest.mark.parametrize("place", ["disk", "server"])
def test_browser_draws_the_epoch_of_mnist_and_asks_for_nothing_elsewhere(pages, server, place, tmp_path):
    base = pages.as_uri() if place == "disk" else server
    with Browser(tmp_path) as browser:
        browser.open(f"{base}/index.html#{NAME}")
        deadline = time.monotonic() + SECONDS
        while not (colours := browser.value(COLOURS)) and time.monotonic() < deadline:
            time.sleep(0.2)
        text = browser.value("document.body.innerText")
    assert browser.failed == []
    assert colours > 0, "no line is drawn"
    assert "batch size" in text
    assert NAME in text
    asked = [address for address in browser.asked if not address.startswith("data:")]
    assert len(asked) > 20
    assert [address for address in asked if not address.startswith(base)] == []


@needs_npm
def test_locked_libraries_have_checksums():
    lock = json.loads((ROOT / "benchmarks" / "web" / "package-lock.json").read_text())
    wanted = json.loads((ROOT / "benchmarks" / "web" / "package.json").read_text())["dependencies"]
    packages = {name.removeprefix("node_modules/"): held for name, held in lock["packages"].items() if name}
    assert {name: held["version"] for name, held in packages.items()} == wanted
    assert all(held["integrity"].startswith("sha512-") for held in packages.values())

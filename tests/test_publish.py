"""The pages of the benchmarks' results, published and opened in a browser that has no network."""

import functools
import http.server
import itertools
import json
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NAME = "bench_training.BatchSize.track_epoch"
PARAMS = [["'fastmlp'", "'numpy'"], ["16", "64", "256", "1024"]]
N_COMMITS = 5

pytest.importorskip("asv", reason="needs asv, which the bench extra brings")
needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")

# Listens from before anything is loaded, and writes what it saw at the end of the page.
PROBE = """<script>
var failed = [];
window.addEventListener("error", function (e) { failed.push(e.target.src || e.target.href || e.message); }, true);
window.addEventListener("load", function () {
    jQuery(document).ajaxError(function (e, request, options) { failed.push(options.url); });
    setTimeout(function () {
        var colours = new Set();
        document.querySelectorAll("canvas").forEach(function (canvas) {
            if (!canvas.width || !canvas.offsetParent) return;
            var pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            for (var i = 0; i < pixels.length; i += 4)
                if (pixels[i + 3] == 255 && Math.max(pixels[i], pixels[i + 1], pixels[i + 2])
                    - Math.min(pixels[i], pixels[i + 1], pixels[i + 2]) > 60)
                    colours.add([pixels[i], pixels[i + 1], pixels[i + 2]].join());
        });
        var report = document.createElement("pre");
        report.id = "report";
        report.textContent = JSON.stringify({
            failed: failed,
            loaded: performance.getEntriesByType("resource").map(function (entry) { return entry.name; }),
            colours: colours.size
        });
        document.body.appendChild(report);
    }, 4000);
});
</script>"""


def run(*command, cwd):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def commits(folder):
    """Make a repository of some commits; return their hashes and dates in milliseconds."""
    git = functools.partial(run, "git", "-c", "user.name=a", "-c", "user.email=a@b", cwd=folder)
    git("init", "-q", "-b", "main")
    for number in range(N_COMMITS):
        git("commit", "-q", "--allow-empty", "-m", f"commit {number}", f"--date=2026-01-0{number + 1}T12:00:00")
    return [line.split() for line in git("log", "--format=%H %at").splitlines()]


def results(folder, hashes):
    """Write what asv would have found for the MNIST epoch in each commit, by a machine that never was."""
    machine = {"machine": "m", "os": "Linux", "arch": "x86_64", "cpu": "c", "num_cpu": "2", "ram": "1"}
    (folder / "m").mkdir(parents=True)
    (folder / "m" / "machine.json").write_text(json.dumps(machine | {"version": 1}))
    for number, (commit, date) in enumerate(hashes):
        seconds = [(0.1 + 0.01 * number) * factor for factor, _ in itertools.product((1, 4), PARAMS[1])]
        content = {
            "version": 2, "commit_hash": commit, "date": 1000 * int(date), "env_name": "e", "env_vars": {},
            "python": "3.12", "requirements": {}, "durations": {}, "params": machine | {"python": "3.12"},
            "result_columns": ["result", "params", "version"], "results": {NAME: [seconds, PARAMS, "1"]},
        }  # fmt: skip
        (folder / "m" / f"{commit[:8]}-e.json").write_text(json.dumps(content))
    benchmark = {
        "name": NAME, "type": "track", "unit": "seconds", "version": "1", "code": "", "params": PARAMS, "timeout": 120,
        "param_names": ["implementation", "batch size"], "pretty_name": NAME, "pretty_source": "",
    }  # fmt: skip
    (folder / "benchmarks.json").write_text(json.dumps({"version": 2, NAME: benchmark}))


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Give the folder of published pages of made-up results."""
    folder = tmp_path_factory.mktemp("asv")
    (folder / "repo").mkdir()
    results(folder / "results", commits(folder / "repo"))
    (folder / "benchmarks").mkdir()
    (folder / "benchmarks" / "__init__.py").touch()
    config = {"version": 1, "project": "fastmlp", "repo": "repo", "branches": ["main"], "html_dir": "html"}
    (folder / "asv.conf.json").write_text(json.dumps(config | {"results_dir": "results"}))
    run(sys.executable, "-m", "benchmarks.publish", "--config", str(folder / "asv.conf.json"), cwd=ROOT)
    return folder / "html"


@pytest.fixture
def server(pages):
    """Give the address of a server of the pages."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=pages)) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def opened(address, profile, *flags):
    """Open a page in a browser without a network, and return what is printed."""
    quiet = "--disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", *quiet.split(), f"--user-data-dir={profile}"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--virtual-time-budget=20000", *flags]
    return run(*command, address, cwd=profile)


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
    text = (pages / "index.html").read_text()
    (pages / "probe.html").write_text(text.replace("<head>", f"<head>{PROBE}", 1))
    base = pages.as_uri() if place == "disk" else server
    dom = opened(f"{base}/probe.html#{NAME}", tmp_path, "--window-size=1200,900", "--dump-dom")
    found = re.search(r'<pre id="report">(.*?)</pre>', dom, re.DOTALL)
    assert found, dom[-2000:]
    report = json.loads(found[1].replace("&amp;", "&"))
    assert report["failed"] == []
    assert report["colours"] > 0, "no line is drawn"
    assert all(name.startswith(base) for name in report["loaded"]), report["loaded"]
    assert "batch size" in dom


@needs_npm
def test_locked_libraries_have_checksums():
    lock = json.loads((ROOT / "benchmarks" / "web" / "package-lock.json").read_text())
    wanted = json.loads((ROOT / "benchmarks" / "web" / "package.json").read_text())["dependencies"]
    packages = {name.removeprefix("node_modules/"): held for name, held in lock["packages"].items() if name}
    assert {name: held["version"] for name, held in packages.items()} == wanted
    assert all(held["integrity"].startswith("sha512-") for held in packages.values())

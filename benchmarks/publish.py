"""Publish the results of the asv suite as pages that work offline, from a disk or from a server.

python -m benchmarks.publish [--config FILE] [--html FOLDER]

Results of one machine and one version of Python are one curve, whether asv measured them in an environment of its own
or in the one that is active. The scale is logarithmic at first, because curves differ by a factor of ten.

The pages that asv makes load their libraries from content networks. They request their data over HTTP, which browsers
refuse to pages on a disk. So this puts the libraries next to the pages, in the versions and with the checksums of
web/package-lock.json, and the data too, as a script that answers those requests. Needs npm.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIBRARIES = {  # name on the page of asv -> path in the package
    "jquery-3.3.1.min.js": "jquery/dist/jquery.min.js",
    "jquery.flot.min.js": "flot/jquery.flot.js",
    "jquery.flot.time.min.js": "flot/jquery.flot.time.js",
    "jquery.flot.selection.min.js": "flot/jquery.flot.selection.js",
    "jquery.flot.categories.min.js": "flot/jquery.flot.categories.js",
    "jquery.flot.orderBars.js": "flot-orderbars/js/jquery.flot.orderBars.js",
    "stupidtable.min.js": "stupid-table-plugin/stupidtable.min.js",
    "md5.min.js": "blueimp-md5/js/md5.min.js",
    "bootstrap.min.js": "bootstrap/dist/js/bootstrap.min.js",
    "bootstrap.min.css": "bootstrap/dist/css/bootstrap.min.css",
}
PARAMS = ("machine", "arch", "cpu", "num_cpu", "os", "ram", "python")  # what tells curves apart
BUSY = 0.5  # cores that other programs used
FONTS = "bootstrap/dist/fonts"  # the style sheet loads them
ELSEWHERE = re.compile(r'<(?:script|link)\b[^>]*?\b(?:src|href)="((?:https?:)?//[^"]+)"[^>]*>')
DATA_SCRIPT = """\
// The data of these pages, by the address that they request.
(function () {
    var files = %s;
    jQuery.ajaxTransport("+*", function (options) {
        var text = files[decodeURIComponent(options.url.split("?")[0])];
        if (text !== undefined) {
            return {
                send: function (headers, complete) {
                    setTimeout(complete, 0, 200, "OK", {text: text});  // later, as any response
                },
                abort: function () {}
            };
        }
    });
})();
"""


def fetch(folder):
    """Install the locked libraries with npm, which verifies their checksums; return their folder."""
    if shutil.which("npm") is None:
        sys.exit("publishing needs npm, which installs the libraries of the pages")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / "web" / name, folder)
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(["npm", "ci", *quiet], cwd=folder, check=True, stdout=sys.stderr)
    return Path(folder) / "node_modules"


def make_local(html, modules):
    """Copy the libraries and the data next to the pages, and make the pages load them from there."""
    page = html / "index.html"
    text = page.read_text(encoding="utf-8")

    def local(match):
        tag, name = match[0], match[1].rpartition("/")[2]
        if name not in LIBRARIES:
            sys.exit(f"asv's page loads {name}, which benchmarks/publish.py does not know. Has asv changed?")
        place = html / "vendor" / LIBRARIES[name]
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(modules / LIBRARIES[name], place)
        tag = re.sub(r'\s(?:integrity|crossorigin|referrerpolicy)="[^"]*"', "", tag)
        return tag.replace(match[1], f"vendor/{LIBRARIES[name]}")

    text = ELSEWHERE.sub(local, text)
    shutil.copytree(modules / FONTS, html / "vendor" / FONTS, dirs_exist_ok=True)
    files = {path.relative_to(html).as_posix(): path.read_text(encoding="utf-8") for path in html.rglob("*.json")}
    files["swallow.ico"] = ""  # requested to check that the server responds
    script = DATA_SCRIPT % json.dumps(files).replace("</", "<\\/")
    (html / "vendor" / "data.js").write_text(script, encoding="utf-8")
    text = text.replace("</head>", '  <script src="vendor/data.js"></script>\n  </head>', 1)
    page.write_text(text, encoding="utf-8")


def one_curve(results, folder):
    """Copy results without what tells environments apart; return the names of those measured on a busy machine."""
    if not results.is_dir():
        sys.exit(f"there are no results in {results.resolve()}; run the suite first, see benchmarks/README.md")
    busy = []
    shutil.copytree(results, folder)
    for path in sorted(folder.glob("*/*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if "results" in content:
            content["params"] = {key: content["params"].get(key) for key in PARAMS if key in content["params"]}
            content |= {"requirements": {}, "env_vars": {}}
            path.write_text(json.dumps(content), encoding="utf-8")
            used = content.get("load", {}).items()
            busy += [f"{content['commit_hash'][:8]} {name}: {n:.1f}" for name, n in used if (n or 0) >= BUSY]
    return busy


def logarithmic(html):
    """Make the scale of the pages logarithmic at first."""
    for name, old, new in (
        ("graphdisplay.js", "var log_scale = false;", "var log_scale = true;"),
        ("index.html", '<a id="log-scale" class="btn ', '<a id="log-scale" class="active btn '),
    ):
        text = (html / name).read_text(encoding="utf-8")
        if old not in text:
            sys.exit(f"{name} of asv has no {old!r}, which benchmarks/publish.py replaces. Has asv changed?")
        (html / name).write_text(text.replace(old, new, 1), encoding="utf-8")


def asv_pages(config, html):
    """Write the pages as asv makes them; return what was measured on a busy machine, a line each."""
    from asv.config import Config

    settings = Config.load(config)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        busy = one_curve(config.parent / settings.results_dir, folder / "results")
        places = {name: getattr(settings, name) for name in ("repo", "benchmark_dir", "env_dir")}
        local = {name: config.parent / place for name, place in places.items() if (config.parent / place).exists()}
        changed = {name: str(place.resolve()) for name, place in local.items()} | {
            "results_dir": str(folder / "results")
        }
        mine = {key: value for key, value in vars(settings).items() if value is not None and key != "plugins"}
        (folder / "asv.conf.json").write_text(json.dumps(mine | {"version": 1} | changed), encoding="utf-8")
        command = [sys.executable, "-m", "asv", "publish", "--config", folder / "asv.conf.json", "--html-dir", html]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return busy


def publish(config, html=None):
    """Write the pages; return their folder."""
    from asv.config import Config

    config = Path(config).resolve()
    html = Path(html or config.parent / Config.load(config).html_dir).resolve()
    busy = asv_pages(config, html)
    logarithmic(html)
    with tempfile.TemporaryDirectory() as folder:
        make_local(html, fetch(folder))
    if busy:
        print(f"measured while other programs used {BUSY} cores or more:", *busy, sep="\n    ", file=sys.stderr)
    return html


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=HERE / "asv.conf.json", help="of asv (default: the one in this folder)")
    parser.add_argument("--html", help="folder for the pages (default: .asv/html, from the configuration)")
    options = parser.parse_args()
    print(publish(options.config, options.html) / "index.html")


if __name__ == "__main__":
    main()

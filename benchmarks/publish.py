"""Pages of the asv suite's results that open without a network, from a disk or from a server.

python -m benchmarks.publish [--config FILE] [--html FOLDER]

asv makes them; its page loads its libraries from content networks, and its data by requests that browsers refuse to
pages on a disk. Here the libraries come from the npm registry, once, as web/package-lock.json names them, by version
and checksum, and are put beside the pages; so is all data, as a script that answers those requests. Needs npm.
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
LIBRARIES = {  # what asv's page names -> where it is in the registry's packages
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
FONTS = "bootstrap/dist/fonts"  # named by that style sheet
ELSEWHERE = re.compile(r'<(?:script|link)\b[^>]*?\b(?:src|href)="((?:https?:)?//[^"]+)"[^>]*>')
DATA_SCRIPT = """\
// All data of these pages, by the names under which they ask for it.
(function () {
    var files = %s;
    jQuery.ajaxTransport("+*", function (options) {
        var text = files[decodeURIComponent(options.url.split("?")[0])];
        if (text !== undefined) {
            return {
                send: function (headers, complete) {
                    setTimeout(complete, 0, 200, "OK", {text: text});  // when all scripts are ready, like any answer
                },
                abort: function () {}
            };
        }
    });
})();
"""


def fetch(folder):
    """Bring the locked libraries from the npm registry, each held against its checksum; return where they are."""
    if shutil.which("npm") is None:
        sys.exit("publishing needs npm, which brings the libraries of the pages")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / "web" / name, folder)
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(["npm", "ci", *quiet], cwd=folder, check=True, stdout=sys.stderr)
    return Path(folder) / "node_modules"


def bring_home(html, modules):
    """Put the libraries beside the pages, and make the page load them and the data from there."""
    page = html / "index.html"
    text = page.read_text(encoding="utf-8")

    def local(match):
        tag, name = match[0], match[1].rpartition("/")[2]
        if name not in LIBRARIES:
            sys.exit(f"asv's page loads {name}, which benchmarks/publish.py does not know: has asv changed?")
        place = html / "vendor" / LIBRARIES[name]
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(modules / LIBRARIES[name], place)
        tag = re.sub(r'\s(?:integrity|crossorigin|referrerpolicy)="[^"]*"', "", tag)
        return tag.replace(match[1], f"vendor/{LIBRARIES[name]}")

    text = ELSEWHERE.sub(local, text)
    shutil.copytree(modules / FONTS, html / "vendor" / FONTS, dirs_exist_ok=True)
    files = {path.relative_to(html).as_posix(): path.read_text(encoding="utf-8") for path in html.rglob("*.json")}
    files["swallow.ico"] = ""  # by which the page asks whether its server is there
    script = DATA_SCRIPT % json.dumps(files).replace("</", "<\\/")
    (html / "vendor" / "data.js").write_text(script, encoding="utf-8")
    text = text.replace("</head>", '  <script src="vendor/data.js"></script>\n  </head>', 1)
    page.write_text(text, encoding="utf-8")


def publish(config, html=None):
    """Make the pages; return their folder."""
    from asv.config import Config

    config = Path(config).resolve()
    html = Path(html or config.parent / Config.load(config).html_dir).resolve()
    command = [sys.executable, "-m", "asv", "publish", "--config", config, "--html-dir", html]
    subprocess.run(command, check=True)
    with tempfile.TemporaryDirectory() as folder:
        bring_home(html, fetch(folder))
    return html


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=HERE / "asv.conf.json", help="default: that of this folder")
    parser.add_argument("--html", help="folder of the pages (default: that of the configuration, .asv/html)")
    options = parser.parse_args()
    print(publish(options.config, options.html) / "index.html")


if __name__ == "__main__":
    main()

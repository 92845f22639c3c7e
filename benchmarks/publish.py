"""Publish the results of the asv suite as pages that work offline, from a disk or from a server.

python -m benchmarks.publish [--config FILE] [--html FOLDER]

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


def publish(config, html=None):
    """Write the pages; return their folder."""
    from asv.config import Config

    config = Path(config).resolve()
    html = Path(html or config.parent / Config.load(config).html_dir).resolve()
    command = [sys.executable, "-m", "asv", "publish", "--config", config, "--html-dir", html]
    subprocess.run(command, check=True)
    with tempfile.TemporaryDirectory() as folder:
        make_local(html, fetch(folder))
    return html


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=HERE / "asv.conf.json", help="of asv (default: the one in this folder)")
    parser.add_argument("--html", help="folder for the pages (default: .asv/html, from the configuration)")
    options = parser.parse_args()
    print(publish(options.config, options.html) / "index.html")


if __name__ == "__main__":
    main()

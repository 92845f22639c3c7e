"""The pages of asv, which show how the speed has changed, become part of the site, in the folder asv/.

They are made of the results in .asv/results, see benchmarks/README.md. Without results or npm there are no such pages,
and without the tag "asv" the text does not link to them.
"""

import shutil
from pathlib import Path

from sphinx.util import logging

CONFIG = Path(__file__).resolve().parents[2] / "benchmarks" / "asv.conf.json"


def can_publish():
    """Tell whether asv has measured something, and npm can bring the libraries of the pages."""
    files = (CONFIG.parents[1] / ".asv" / "results").glob("*/*.json")
    return any(path.name != "machine.json" for path in files) and shutil.which("npm") is not None


def publish(app, exception):
    """Write the pages beside those of Sphinx."""
    if exception is None and app.builder.name == "html" and app.tags.has("asv"):
        from benchmarks.publish import publish

        publish(CONFIG, app.outdir / "asv")


def setup(app):
    """Connect to Sphinx."""
    if can_publish():
        app.tags.add("asv")
    else:
        logging.getLogger(__name__).info("no pages of asv: they need results and npm")
    app.connect("build-finished", publish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

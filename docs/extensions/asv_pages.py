"""The pages of asv, which show how the speed has changed, become part of the site, in the folder asv/.

They are made of the results of this machine in .asv/results, see benchmarks/README.md. Without results there are no
such pages, and the tag "asv" tells the text not to link to them.
"""

from pathlib import Path

from sphinx.util import logging

CONFIG = Path(__file__).resolve().parents[2] / "benchmarks" / "asv.conf.json"


def has_results():
    """Tell whether asv has measured something."""
    return any((CONFIG.parents[1] / ".asv" / "results").glob("*/*.json"))


def publish(app, exception):
    """Write the pages beside those of Sphinx."""
    if exception is None and app.builder.name == "html" and app.tags.has("asv"):
        from benchmarks.publish import publish

        publish(CONFIG, app.outdir / "asv")


def setup(app):
    """Connect to Sphinx."""
    if has_results():
        app.tags.add("asv")
    else:
        logging.getLogger(__name__).info("no results of asv, hence no pages of them")
    app.connect("build-finished", publish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

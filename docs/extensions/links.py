"""Links that readers of the files in the repository do not need, or that lead elsewhere there.

- `MLP` or `fastmlp.search` in Markdown becomes a link to its page of the reference.
- A link to a README of the repository becomes one to the page that includes it.
"""

import re

from docutils import nodes
from sphinx.util.nodes import make_refnode

PAGES = {"../README.md": "index.md", "../kernels/README.md": "kernels.md", "../benchmarks/README.md": "benchmarks.md"}
PAGES |= {"../CHANGELOG.md": "changelog.md"}
NAME = re.compile(r"(?:fastmlp\.)?([A-Za-z_][\w.]*)(?:\(\))?")


def to_pages(app, docname, source):
    """Replace links to files outside of docs/ that are pages here."""
    for file, page in PAGES.items():
        source[0] = source[0].replace(f"]({file}", f"]({page}")


def link_names(app, doctree, docname):
    """Make links of the names of the interface in the text of a page."""
    if docname.startswith("reference/"):  # docstrings have their own links
        return
    objects = app.env.get_domain("py").objects
    for node in list(doctree.findall(nodes.literal)):
        match = NAME.fullmatch(node.astext())
        name = match and f"fastmlp.{match[1]}"
        found = objects.get(name)
        if found and not isinstance(node.parent, nodes.reference | nodes.title):
            link = make_refnode(app.builder, docname, found.docname, found.node_id, node.deepcopy(), name)
            node.replace_self(link)


def setup(app):
    """Connect to Sphinx."""
    app.connect("source-read", to_pages)
    app.connect("doctree-resolved", link_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Files of the repository that are pages here, and links that readers of the files do not need.

- ``{include} ../FILE.md`` brings the text of a file outside of docs/. A link to that file becomes one to its page.
- A link that shows the name of a file, such as [speed.md](speed.md), shows the title of the page.
- `MLP` or `fastmlp.search` in Markdown becomes a link to its page of the reference.
"""

import os
import re
from pathlib import Path

from docutils import nodes
from sphinx.util.nodes import make_refnode

DOCS = Path(__file__).resolve().parents[1]
INCLUDE = re.compile(r"```\{include\} (\S+)\n```\n")
PAGES = {
    (DOCS / match[1]).resolve(): path
    for path in sorted(DOCS.glob("*.md"))
    for match in INCLUDE.finditer(path.read_text(encoding="utf-8"))
}
PAGES |= {DOCS.parent / "README.md": DOCS / "index.md"}
LINK = re.compile(r"\]\(\s*([^)\s#:]+)(?=[)\s#])")
NAME = re.compile(r"(?:fastmlp\.)?([A-Za-z_][\w.]*)(?:\(\))?")


def linked(text, old, new):
    """Return the text of a file in the folder `old` as that of a page in the folder `new`: its links lead to pages."""

    def replaced(match):
        target = (old / match[1]).resolve()
        return f"]({os.path.relpath(PAGES.get(target, target), new)}" if target.exists() else match[0]

    return LINK.sub(replaced, text)


def to_pages(app, docname, source):
    """Include files, and lead links to pages."""
    folder = (DOCS / docname).parent

    def included(match):
        file = (folder / match[1]).resolve()
        app.env.note_dependency(str(file))
        return linked(file.read_text(encoding="utf-8"), file.parent, folder)

    if str(app.env.doc2path(docname)).endswith(".md"):
        source[0] = INCLUDE.sub(included, linked(source[0], folder, folder))


def show_titles(app, doctree, docname):
    """Show the title of a page where a link shows the name of its file."""
    for link in doctree.findall(nodes.reference):
        if link.get("internal") and link.astext().endswith(".md"):
            page = os.path.join(os.path.dirname(docname), link["refuri"].partition("#")[0])
            title = app.env.titles[os.path.normpath(page).removesuffix(".html")]
            link.children = [nodes.emphasis("", title.astext())]


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
    app.connect("doctree-resolved", show_titles)
    app.connect("doctree-resolved", link_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

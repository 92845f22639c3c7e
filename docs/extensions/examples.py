"""The gallery: each script in examples/ becomes a page in docs/gallery/, which git ignores.

A notebook is executed, and executed again when its text has changed; delete docs/gallery/ after other changes. One of
its pictures illustrates the gallery. Other scripts are shown as they are.
"""

import ast
import base64
import hashlib
import os
import runpy
from pathlib import Path

import nbformat
from sphinx.util import logging

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PICTURES = {"first_network": 2, "digits_and_its_pytorch_twin": 3, "mnist_from_scratch": 4, "xor": 0}  # which one
LISTINGS = {"gradient_check": "Gradient check", "infinite": "Infinite MNIST"}
LISTING = """\
# {title}

{text}

```{{literalinclude}} {script}
:language: python
:start-at: "import "
```
"""


def pictures(notebook):
    """Return the pictures of an executed notebook, as PNG."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [base64.b64decode(output.data["image/png"]) for output in outputs if "image/png" in output.get("data", {})]


def write_notebook(maker, name, folder):
    """Write the executed notebook of an example and its picture, if its text is new."""
    text, path = maker["text"](name), folder / f"{name}.ipynb"
    seen = hashlib.sha256(text.encode()).hexdigest()
    if path.exists() and nbformat.read(path, as_version=4).metadata.get("made_of") == seen:
        return
    logging.getLogger(__name__).info("executing examples/%s.py", name)
    notebook = maker["execute"](name)
    notebook.metadata["made_of"] = seen
    for cell in notebook.cells:
        if pictures(nbformat.v4.new_notebook(cells=[cell])):  # a display need not be named beside its picture
            cell.outputs = [output for output in cell.outputs if output.output_type != "execute_result"]
    (folder / f"{name}.png").write_bytes(pictures(notebook)[PICTURES[name]])
    nbformat.write(notebook, path)


def write_listing(name, title, folder):
    """Write the page of a script that is no notebook."""
    script = EXAMPLES / f"{name}.py"
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8")))
    page = LISTING.format(title=title, text=text, script=f"../../examples/{script.name}")
    path = folder / f"{name}.md"
    if not path.exists() or path.read_text(encoding="utf-8") != page:
        path.write_text(page, encoding="utf-8")


def write_gallery(app):
    """Write the pages that are new, before Sphinx looks for pages."""
    os.environ.setdefault("FASTMLP_QUIET", "1")  # the pages need not tell who waited for the compiler
    folder = Path(app.srcdir) / "gallery"
    folder.mkdir(exist_ok=True)
    maker = runpy.run_path(str(EXAMPLES / "make_notebooks.py"))
    for name in maker["NAMES"]:
        write_notebook(maker, name, folder)
    for name, title in LISTINGS.items():
        write_listing(name, title, folder)


def setup(app):
    """Connect to Sphinx."""
    app.connect("builder-inited", write_gallery, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

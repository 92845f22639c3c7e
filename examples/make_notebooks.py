"""Write the notebooks from the scripts beside this one: ``python examples/make_notebooks.py``.

A script is the source of its notebook: ``# %%`` begins a cell of code, and ``# %% [markdown]`` one of text, as in VS
Code, Spyder and jupytext. The notebooks are kept without outputs. ``python examples/make_notebooks.py FOLDER`` also
executes them, and writes them with their outputs to that folder. It needs ``pip install "fastmlp[notebook]"``.
"""

import json
import re
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent
NAMES = ("first_network", "digits_and_its_pytorch_twin", "mnist_from_scratch", "xor")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def notebook(script: str) -> dict[str, object]:
    """Return the notebook, in format 4.5, of a script."""
    parts = re.split(r"^# %%(.*)\n", script, flags=re.MULTILINE)
    if parts[0].strip():
        raise ValueError(f"the script begins with {parts[0].strip()[:40]!r}, not with # %%")
    cells = []
    for kind, part in zip(parts[1::2], parts[2::2], strict=True):
        cell = {"id": f"cell-{len(cells)}", "metadata": {}}
        if kind.strip() == "[markdown]":
            text = re.sub(r"^# ?", "", part.strip(), flags=re.MULTILINE)
            cells.append(cell | {"cell_type": "markdown", "source": text.splitlines(keepends=True)})
        else:
            code = re.sub(r"  # fmt: skip$", "", part.strip(), flags=re.MULTILINE)
            cells.append(
                cell
                | {"cell_type": "code", "execution_count": None, "outputs": []}
                | {"source": code.splitlines(keepends=True)}
            )
    return {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}


def text(name: str) -> str:
    """Return the file of a notebook."""
    script = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    return json.dumps(notebook(script), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def execute(name: str, timeout: float = 600) -> object:
    """Return a notebook, as nbformat knows it, with its outputs."""
    import nbclient
    import nbformat

    executed = nbformat.reads(text(name), as_version=4)
    nbclient.NotebookClient(executed, timeout=timeout).execute()
    return executed


def main(folder: str | None = None) -> None:
    """Write all notebooks, and executed ones to a folder."""
    for name in NAMES:
        (EXAMPLES / "notebooks" / f"{name}.ipynb").write_text(text(name), encoding="utf-8")
    if folder is not None:
        import nbformat

        Path(folder).mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            nbformat.write(execute(name), Path(folder) / f"{name}.ipynb")


if __name__ == "__main__":
    main(*sys.argv[1:])

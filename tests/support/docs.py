"""The examples in the documentation: blocks of Python in Markdown, and docstrings.

All blocks of a page are one program. The first word after ``python`` may say more:

- ``python setup``: it runs first, wherever it stands;
- ``python skip``: it needs what no test has, such as an account, and does not run.
"""

import re

from support.nets import ROOT


def examples(title, language="python", file="docs/interchange.md"):
    """The code of one section, all of it one program, after the code at the beginning that all sections continue."""
    text = (ROOT / file).read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    beginning = text.partition("\n## ")[0]
    return "\n".join(code_blocks(beginning + section, language))


def code_blocks(text, language="python"):
    """Each block of code in a text."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def run_page(path, names):
    """Run the blocks of a page in order, with some names; return the packages that some of them lack here.

    A block without its package, and the rest of its section, are left out. An error names the line of the page.
    """
    text, missing, left_out = path.read_text(encoding="utf-8"), set(), None
    found = list(re.finditer(r"^```python( \w+)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    for match in sorted(found, key=lambda match: match[1] != " setup"):
        section = text.count("\n## ", 0, match.start())
        if match[1] != " skip" and section != left_out:
            blank = "\n" * (text.count("\n", 0, match.start()) + 1)
            try:
                exec(compile(blank + match[2], path, "exec"), names)
            except ImportError as error:
                missing.add(lacking(error))
                left_out = section
    return missing


def lacking(error):
    """Return the name of the package whose import has failed; raise the error if it is another one, or fastmlp's."""
    cause = error.__cause__ or error
    if not isinstance(cause, ModuleNotFoundError) or cause.name.startswith(("fastmlp", "kernels")):
        raise error
    return cause.name

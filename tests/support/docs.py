"""The examples in the documentation."""

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

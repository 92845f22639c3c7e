"""The examples in the documentation."""

import re

from support.nets import ROOT


def examples(title, language="python", file="interchange.md"):
    """The code of one section, all of it one program, after the code at the beginning that all sections continue."""
    text = (ROOT / "docs" / file).read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    beginning = text.partition("\n## ")[0]
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", beginning + section, re.DOTALL))

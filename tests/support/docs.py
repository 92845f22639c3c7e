"""The examples in docs/interchange.md."""

import re

from support.nets import ROOT


def examples(title, language="python"):
    """The code in the section of this title, all of it one program."""
    text = (ROOT / "docs" / "interchange.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL))

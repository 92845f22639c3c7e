"""docs/cli.md names every command, and no option that does not exist."""

import re

from support.nets import ROOT

from fastmlp.cli.arguments import parsers

TEXT = (ROOT / "docs/cli.md").read_text(encoding="utf-8")


def test_every_command_is_there():
    assert re.findall(r"^\| `fastmlp (\w+)`", TEXT, re.MULTILINE) == list(parsers()[1])


def test_options_exist():
    parser, commands = parsers()
    known = {option for each in (parser, *commands.values()) for option in each._option_string_actions}
    assert set(re.findall(r"--[a-z][a-z-]*", TEXT)) <= known

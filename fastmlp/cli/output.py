"""Common parts of all commands: exit statuses, printing, and the words of messages."""

import re
import sys

__all__ = ["FAILED", "INTERRUPTED", "in_options", "say", "tell"]

FAILED, INTERRUPTED = 1, 130  # 2 is wrong usage; 130 as shells count signals

_WORDS = (  # names in messages of the library -> names on the command line
    # Names in quotes are those of columns and files.
    (
        r"(?<![\w'./-])(learning_rate|class_weight|validation_fraction|batch_size)(?![\w'/-]|\.\w)(=?)",
        lambda m: _option(m[1]) + " " * len(m[2]),
    ),
    (r"^(dropout|l2|epochs)(?=[ =:\[])", lambda m: _option(m[1])),
    (r"\bvalidation ([Xy])\b", lambda m: f"{m[1]}_test"),
    (r"^([Xy])(?=[ :\[])", lambda m: f"{m[1]}_train"),
    (r"say which by split=, one of", lambda m: "say which by --data FOLDER/NAME, where NAME is one of"),
)


def say(line: str) -> None:
    """Print a line at once, also into a pipe, and on a terminal that lacks some of its characters."""
    try:
        print(line, flush=True)
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding
        print(line.replace("µ", "u").encode(encoding, "backslashreplace").decode(encoding), flush=True)


def tell(line: str) -> None:
    """Print a line to stderr, if there is one: `print` would take stdout in its place."""
    if sys.stderr is not None:
        print(line, file=sys.stderr, flush=True)


def in_options(message: str) -> str:
    """Return a message of the library with the names that things have on the command line."""
    for pattern, words in _WORDS:
        message = re.sub(pattern, words, message)
    return message.strip()


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"

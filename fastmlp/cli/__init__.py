"""The command line, ``fastmlp train`` and ``fastmlp bench``.

Slow imports are inside the commands, so that ``--help`` is fast.
"""

from fastmlp.cli.entry import main

__all__ = ["main"]

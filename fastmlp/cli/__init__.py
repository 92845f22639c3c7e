"""The command line, ``fastmlp train``, ``predict``, ``report``, ``export``, ``compile`` and ``bench``.

Slow imports are inside the commands, so that ``--help`` is fast.
"""

from fastmlp.cli.entry import main

__all__ = ["main"]

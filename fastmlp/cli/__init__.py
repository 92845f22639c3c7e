"""The command line, ``fastmlp train``, ``predict``, ``report``, ``export``, ``compile``, ``bench`` and ``doctor``.

Slow imports are inside the commands, so that ``--help`` is fast.
"""

from fastmlp.cli.entry import main

__all__ = ["main"]

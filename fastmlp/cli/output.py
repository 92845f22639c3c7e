"""What all commands share: exit statuses and printing."""

import functools

__all__ = ["FAILED", "INTERRUPTED", "say"]

FAILED, INTERRUPTED = 1, 130  # 2 is wrong usage; 130 as shells count signals

say = functools.partial(print, flush=True)
"""Print a line at once, also into a pipe."""

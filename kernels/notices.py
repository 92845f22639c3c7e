"""Messages while kernels are compiled: one line on stderr, beside a progress bar if there is one."""

import math
import os
import sys
import threading
import time
from _thread import start_new_thread
from contextlib import contextmanager, suppress
from functools import cache

COMPILING = "compiling kernels for this machine (once, about 8 s) ..."
WAITING = "waiting for another process that compiles the kernels (once, about 8 s) ..."


def say(message: str) -> None:
    """Print a line to stderr, unless FASTMLP_QUIET is set."""
    if os.environ.get("FASTMLP_QUIET", "") not in ("", "0") or sys.stderr is None:
        return
    line, bars = f"fastmlp: {message}", getattr(sys.modules.get("tqdm"), "tqdm", None)
    try:
        if bars is not None:
            bars.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError):  # closed
        pass


@cache
def say_once(message: str) -> None:
    """Print a line, the first time."""
    say(message)


class Notices:
    """Announces what takes long, once for a series of kernels."""

    patience, gap = 0.3, 3.0
    """Seconds that a kernel may take without a word, and seconds after the last one until the next needs a new line."""

    def __init__(self) -> None:
        self._last = -math.inf
        self._said: set[str] = set()
        self._lock = threading.Lock()

    @contextmanager
    def during(self, message: str):
        """Announce the work in this context if it takes long."""
        ended = threading.Event()
        if time.monotonic() > self._last + self.gap:
            self._said.clear()
        try:
            if message not in self._said:
                with suppress(RuntimeError):  # no thread can be started
                    start_new_thread(self._say_if_long, (message, ended))
            yield
        finally:
            ended.set()
            self._last = time.monotonic()

    def _say_if_long(self, message: str, ended: threading.Event) -> None:
        if ended.wait(self.patience):
            return
        with self._lock:  # several threads may wait for the same
            is_new = message not in self._said
            self._said.add(message)
        if is_new:
            say(message)


notices = Notices()

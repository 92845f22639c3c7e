"""Calls that stay whole when a signal handler raises in the middle of them: Ctrl-C, a time limit by SIGALRM.

Python runs signal handlers between any two instructions of the main thread, in ``finally`` blocks too. Two rules follow
for whatever must not be left half done:

- It is set by an action that may be repeated, and `finish` calls it again if it was interrupted.
- It begins inside of what ends it: a context manager that is interrupted as it is entered is never left.
"""

from __future__ import annotations

import threading
from _signal import getsignal, signal  # type: ignore[import-not-found]  # those of `signal` are slow: they make enums
from collections.abc import Callable
from signal import SIGINT, default_int_handler
from typing import TypeVar

__all__ = ["CtrlC", "complete", "finish"]

T = TypeVar("T")


def finish(work: Callable[[], T], settle: Callable[[], object]) -> T:
    """Call `work`, and then `settle`, even if a signal handler raises an exception at any line of the two.

    A ``finally`` block alone is not enough: what is raised at its first line skips the others. So `settle` is called
    again if its first call was interrupted.
    """
    settled = False
    try:
        try:
            return work()
        finally:
            settle()
            settled = True
    finally:
        if not settled:
            settle()


def complete(action: Callable[[], object]) -> None:
    """Call an action that may be repeated. If a signal handler raises meanwhile, call it again; then pass that on.

    So it is done as a whole, or nothing of it.
    """
    try:
        action()
    except BaseException:
        action()
        raise


def _in_main_thread() -> bool:
    # `current_thread` would list a thread that Python did not start for ever, as one that lives
    return threading.get_ident() == threading.main_thread().ident


class CtrlC:
    """Within `run`, Ctrl-C sets `pressed` and raises nothing, so that no work is left half done.

    It does nothing outside the main thread, or if the program has its own handler for SIGINT. But threads may share the
    one of the main thread, to see whether it is pressed.

    Attributes
    ----------
    pressed : bool
    """

    def __init__(self) -> None:
        self.pressed = False

    def run(self, work: Callable[[], T]) -> T:
        """Call `work`; return what it returns."""

        def listen_and_work() -> T:
            if _in_main_thread() and getsignal(SIGINT) is default_int_handler:
                signal(SIGINT, self._note)
            return work()

        return finish(listen_and_work, self._restore)

    def _note(self, *_: object) -> None:
        self.pressed = True

    def _restore(self) -> None:
        if _in_main_thread() and getsignal(SIGINT) == self._note:
            signal(SIGINT, default_int_handler)

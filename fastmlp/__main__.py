"""The command line as a program: ``python -m fastmlp``, and the script ``fastmlp``.

It imports little, so that Ctrl-C prints no traceback from nearly the first line on.
"""

import os
import sys
from _signal import SIGINT, default_int_handler, getsignal, signal  # type: ignore[import-not-found]  # `signal` is slow

__all__ = ["main"]

_INTERRUPTED = 130  # as shells count signals


def main() -> int:
    """Run the command line and return its exit status; Ctrl-C ends the process with 130 while nothing is done."""
    if getsignal(SIGINT) is not default_int_handler:  # it is ignored, as in the background of a shell script
        from fastmlp.cli import main as run

        return run()
    signal(SIGINT, _leave)
    from fastmlp.cli import main as run  # takes a tenth of a second

    try:
        signal(SIGINT, default_int_handler)
        status = run()
        signal(SIGINT, _leave)
    except KeyboardInterrupt:  # before `run` listens, or after
        signal(SIGINT, _leave)
        status = _INTERRUPTED
    return status


def _leave(*_: object) -> None:
    os._exit(_INTERRUPTED)  # at once: an exception would be printed with the lines of whatever is being imported


if __name__ == "__main__":
    sys.exit(main())

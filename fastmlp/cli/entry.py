"""The entry point: parses the arguments, runs a command and reports errors."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import traceback
from collections.abc import Sequence

from fastmlp.cli.arguments import parsers
from fastmlp.cli.bench import bench
from fastmlp.cli.compile import compile_kernels
from fastmlp.cli.doctor import doctor
from fastmlp.cli.export import export
from fastmlp.cli.output import FAILED, INTERRUPTED, in_options, tell
from fastmlp.cli.predict import predict
from fastmlp.cli.report import report
from fastmlp.cli.train import train

__all__ = ["main"]

_COMMANDS = {
    "train": train,
    "predict": predict,
    "report": report,
    "export": export,
    "compile": compile_kernels,
    "bench": bench,
    "doctor": doctor,
}
_BROKEN_PIPE = 141  # as shells count signals
_CANNOT_WRITE = 2
_DOCTOR = "; fastmlp doctor says what to do"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    argv
        Arguments without the program's name; None uses those of the process.

    Returns
    -------
    int
        0 done, 1 the loss is not finite or a peer failed, 2 wrong usage, 130 Ctrl-C, 141 nobody reads the output.
    """
    try:
        status = _run(argv)
    except BrokenPipeError:
        status = _BROKEN_PIPE
    except KeyboardInterrupt:
        tell("fastmlp: interrupted")
        status = INTERRUPTED
    except OSError as error:  # of --help or --version, if the disk is full
        tell(f"fastmlp: error: {_message(error)}")
        status = _CANNOT_WRITE
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        # Python flushes again at exit; give it a place to write, so that it reports no error.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = status or _BROKEN_PIPE
    return status


def _run(argv: Sequence[str] | None) -> int:
    """Parse the arguments and run the command. Every error is one line."""
    parser, commands = parsers()
    try:
        arguments, unknown = parser.parse_known_args(argv)
        if arguments.command is None:
            parser.error(f"a command is missing: fastmlp {', '.join(commands)}, or fastmlp --help")
        command = commands[arguments.command]
        arguments.command_line = shlex.join(["fastmlp", *(sys.argv[1:] if argv is None else argv)])
        if unknown:
            command.unrecognized(unknown)
        try:
            return _COMMANDS[arguments.command](arguments)
        except FloatingPointError as error:
            command.exit(FAILED, f"{command.prog}: error: {_message(error)}\n")
        except BrokenPipeError:
            raise
        except (ValueError, TypeError, OSError, OverflowError, MemoryError, RuntimeError, ImportError) as error:
            command.error(_message(error) + _DOCTOR * _is_of_import(error))
        except Exception as error:
            if not _is_of_import(error):
                raise
            command.error(f"Numba cannot be imported: {error}{_DOCTOR}")
    except SystemExit as end:  # from argparse: an error, --help or --version
        return int(end.code or 0)


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}".removesuffix(": ")
    if _is_of_commands(error):  # so it has the words of the command line, and may begin with the name of a file
        return str(error)
    return in_options(str(error))


def _is_of_import(error: Exception) -> bool:
    """Return whether Numba has raised an error while it was imported; its settings can be wrong."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(
        frame.f_code.co_name == "<module>" and str(frame.f_globals.get("__name__")).startswith("numba.")
        for frame in frames
    )


def _is_of_commands(error: Exception) -> bool:
    """Return whether a module of the command line has raised an error, and not the library."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).startswith("fastmlp.cli.")

"""The memory that this process can still allocate, by the machine, its control groups and its own limits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fastmlp.engine.containers import groups

__all__ = ["free_memory", "memory_limit"]

_LIMITS = (("memory.max", "memory.current"), ("memory.high", "memory.current"),
           ("memory.limit_in_bytes", "memory.usage_in_bytes"))  # fmt: skip
_NO_LIMIT = 1 << 60  # version 1 writes a number near 2**63 where there is no limit
_CACHE = ("inactive_file", "total_inactive_file")
"""What a group uses, but gives back when memory is short, by its names in version 2 and 1."""


def free_memory(root: str = "/") -> int:
    """Return the bytes; 2**62 where nothing is known. `root` is where /proc and /sys are."""
    return min(_amounts(Path(root)), default=1 << 62)


def memory_limit(root: str = "/") -> int | None:
    """Return the bytes that control groups and own limits allow this process; None without a limit."""
    return min((limit for limit in _all_limits(Path(root)) if limit < _NO_LIMIT), default=None)


def _all_limits(root: Path) -> Iterator[int]:
    with suppress(OSError, ValueError):
        for folder in groups(root, "memory"):
            for name, _ in _LIMITS:
                with suppress(OSError, ValueError):  # "max" is none
                    yield int((folder / name).read_text())
    with suppress(ImportError, OSError, ValueError):
        import resource

        for limit in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
            most, _ = resource.getrlimit(limit)
            if most != resource.RLIM_INFINITY:
                yield most


def _amounts(root: Path) -> Iterator[int]:
    with suppress(OSError, ValueError):  # not Linux
        yield 1024 * _numbers(root / "proc/meminfo")["MemAvailable:"]
    with suppress(OSError, ValueError):
        for folder in groups(root, "memory"):
            for limit, usage in _LIMITS:
                with suppress(OSError, ValueError):
                    most, used = int((folder / limit).read_text()), int((folder / usage).read_text())
                    found = _numbers(folder / "memory.stat")
                    yield max(0, most - used + max(found.get(name, 0) for name in _CACHE))
    yield from _within_own_limits(root)


def _within_own_limits(root: Path) -> Iterator[int]:
    with suppress(ImportError, OSError, ValueError, KeyError):  # not Unix
        import resource

        used = _numbers(root / "proc" / str(os.getpid()) / "status")
        for limit, name in ((resource.RLIMIT_AS, "VmSize:"), (resource.RLIMIT_DATA, "VmData:")):
            most, _ = resource.getrlimit(limit)
            if most != resource.RLIM_INFINITY:
                yield max(0, most - 1024 * used[name])


def _numbers(path: Path) -> dict[str, int]:
    """Return the numbers of a file whose lines are a name and a number."""
    lines = (line.split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}

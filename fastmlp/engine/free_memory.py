"""How much memory this process can still take: of the machine, its control groups and its own limits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fastmlp.engine.containers import groups

__all__ = ["free_memory"]

_LIMITS = (("memory.max", "memory.current"), ("memory.high", "memory.current"),
           ("memory.limit_in_bytes", "memory.usage_in_bytes"))  # fmt: skip
_CACHE = ("inactive_file", "total_inactive_file")
"""What a group uses, but gives back when memory is short, by its names in version 2 and 1."""


def free_memory(root: str = "/") -> int:
    """Return the bytes; 2**62 where nothing is known. `root` is where /proc and /sys are."""
    return min(_amounts(Path(root)), default=1 << 62)


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
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}

"""How many cores a container may use: the limits of Linux control groups, version 1 and 2."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path, PurePosixPath
from typing import TypeAlias

__all__ = ["container_cores", "cores_granted"]

Limit: TypeAlias = tuple[Path, ...]
"""The file cpu.max of version 2, or quota and period of version 1."""


def container_cores() -> int:
    """Return the whole cores that the control groups of this process grant, at least 1; 0 if they set no limit."""
    return _container_cores(int(time.monotonic()))


@lru_cache(maxsize=1)
def _container_cores(second: int) -> int:
    return cores_granted()  # reading the files takes as long as a fit of XOR, so it is done once a second


def cores_granted(root: str = "/") -> int:
    """Return the same from the files as they are now. `root` is where /proc and /sys are.

    The group in which the process is and all groups around it have limits.
    """
    granted = []
    for files in _limits(root):
        with suppress(OSError, ValueError):
            quota, period = " ".join(file.read_text() for file in files).split()
            if quota != "max" and int(quota) > 0 and int(period) > 0:
                granted.append(max(1, int(quota) // int(period)))
    return min(granted, default=0)


@cache
def _limits(root: str) -> list[Limit]:
    """Return where the limits of this process are. Their values may change, but they are looked for only once."""
    found: list[Limit] = []
    with suppress(OSError, ValueError):  # not Linux
        for folder in _groups(Path(root)):
            for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
                files = tuple(folder / name for name in names)
                if all(file.is_file() for file in files):
                    found.append(files)
    return found


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folder of each control group that contains this process and may limit its time on the cores."""
    paths = {}  # of the group in the hierarchy of version 2, "", and in that of version 1 with the cpu controller
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "" or "cpu" in controllers.split(","):
            paths[controllers and "cpu"] = PurePosixPath(path)
    for line in (root / "proc/self/mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")
        top, point = mount.split()[3:5]  # the group that the mount shows, and where
        kind, *_, options = source.split()
        hierarchy = {"cgroup2": "", "cgroup": "cpu" if "cpu" in options.split(",") else None}.get(kind)
        if hierarchy not in paths:
            continue
        group = paths[hierarchy]
        if ".." in (*group.parts, *PurePosixPath(top).parts):
            group = PurePosixPath(top)  # outside of the namespace: the mount shows what can be seen
        if group.is_relative_to(top):
            below = group.relative_to(top)
            point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), point)  # a space is \040 there
            yield from (root / point.lstrip("/") / path for path in (below, *below.parents))

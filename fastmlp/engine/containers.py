"""How many cores a container may use: the quotas of Linux control groups, version 1 and 2.

A group may also be bound to some cores (cpuset). That needs no reading: the kernel takes the others out of the affinity
of every process in the group.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

__all__ = ["NO_QUOTA", "Quota", "container_quota", "cores_granted", "groups", "quota_granted"]

_FILES = ("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")  # of version 2 and 1; each holds quota and period


class Quota(NamedTuple):
    """Whole cores, at least 1, and the group whose processes share them, by device and inode of its folder."""

    n_cores: int
    group: tuple[int, int]


NO_QUOTA = Quota(1 << 20, (0, 0))


def container_quota() -> Quota:
    """Return the smallest quota of the control groups around this process."""
    return _container_quota(int(time.monotonic()))


@lru_cache(maxsize=1)
def _container_quota(second: int) -> Quota:
    return quota_granted()  # reading the files takes longer than a fit of XOR, so it is done once a second


def quota_granted(root: str = "/") -> Quota:
    """Return the same from the files as they are now. `root` is where /proc and /sys are."""
    smallest = NO_QUOTA
    for quota, period, folder in _granted(Path(root)):
        with suppress(OSError):
            status = folder.stat()
            n_cores = max(1, quota // period)  # a part of a core would let a whole team wait
            smallest = min(smallest, Quota(n_cores, (status.st_dev, status.st_ino)))
    return smallest


def cores_granted(root: str = "/") -> float | None:
    """Return the same in cores and parts of them; None without a quota."""
    return min((quota / period for quota, period, _ in _granted(Path(root))), default=None)


def _granted(root: Path) -> Iterator[tuple[int, int, Path]]:
    """Yield the microseconds that each control group grants, of how many, and its folder."""
    with suppress(OSError, ValueError):  # not Linux
        for folder in groups(root, "cpu"):
            for names in _FILES:
                with suppress(OSError, ValueError):
                    quota, period = " ".join((folder / name).read_text() for name in names).split()
                    if quota != "max" and int(quota) > 0 and int(period) > 0:
                        yield int(quota), int(period), folder


def groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folder of each control group that contains this process and may limit it in one way.

    `controller` is that of version 1, such as "cpu" for its time on the cores. `root` is where /proc and /sys are.
    """
    paths = {}  # of the group in the hierarchy of version 2, "", and in that of version 1 with the controller
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "" or controller in controllers.split(","):
            paths[controllers and controller] = PurePosixPath(path)
    for line in _lines(root / "proc/self/mountinfo"):
        mount, _, source = line.partition(" - ")
        top, point = (_unescaped(path) for path in mount.split()[3:5])  # the group that the mount shows, and where
        kind, *_, options = source.split()
        hierarchy = {"cgroup2": "", "cgroup": controller if controller in options.split(",") else None}.get(kind)
        if hierarchy not in paths:
            continue
        group = paths[hierarchy]
        if ".." in (*group.parts, *PurePosixPath(top).parts):
            group = PurePosixPath(top)  # outside of the namespace: the mount shows what can be seen
        if group.is_relative_to(top):
            below = group.relative_to(top)
            yield from (root / point.lstrip("/") / path for path in (below, *below.parents))


def _lines(path: Path) -> list[str]:
    """Return the lines of a file with paths, which may be of any bytes."""
    return path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")[:-1]


def _unescaped(path: str) -> str:
    """Return a path of mountinfo, where a space is written as an octal number, as it is."""
    return re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), path)

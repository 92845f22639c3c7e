"""Checks of the files that a command reads and writes, before it does anything that takes long."""

from __future__ import annotations

import os
from collections.abc import Mapping

__all__ = ["refuse_overwriting", "refuse_same_output"]


def refuse_overwriting(path: str, *sources: str, option: str = "--output") -> None:
    """Refuse an output that is one of the inputs, or an idx file in a folder that is one."""
    for source in sources:
        is_idx_file = os.path.isdir(source) and "-ubyte" in path and os.path.exists(path)
        if os.path.exists(source) and _is_same(os.path.dirname(path) or "." if is_idx_file else path, source):
            raise ValueError(f"{option} {path!r} would overwrite {source!r}")


def refuse_same_output(outputs: Mapping[str, str | None]) -> None:
    """Refuse two outputs that are one file or folder. `outputs` has paths by option; None is not written."""
    paths: dict[str, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        for other, its in paths.items():
            if _is_same(path, its):
                raise ValueError(f"{option} {path!r} would overwrite {other} {its!r}")
        paths[option] = path


def _is_same(path: str, other: str) -> bool:
    """Return whether two paths lead to one file, which need not be there yet."""
    if os.path.exists(path) and os.path.exists(other):
        return os.path.samefile(path, other)
    return os.path.realpath(path) == os.path.realpath(other)

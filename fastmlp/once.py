"""`Once`: what several networks make of the same data is made once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeVar

__all__ = ["Once", "Sharing", "each_time"]

T = TypeVar("T")


class Sharing(Protocol):
    """Says whether something is made or taken from another network."""

    def __call__(self, make: Callable[[], T], source: object, *key: Hashable) -> T:
        """Return what `make` returns, or what it returned earlier for the same object `source` and an equal `key`."""


def each_time(make: Callable[[], T], source: object, *key: Hashable) -> T:
    """Make it: nothing is shared."""
    return make()


class Once:
    """Remembers what was made, and keeps it and its sources alive."""

    def __init__(self) -> None:
        self._made: dict[Hashable, tuple[object, Any]] = {}

    def __call__(self, make: Callable[[], T], source: object, *key: Hashable) -> T:
        """Return what `make` returns, or what it returned earlier for the same object `source` and an equal `key`."""
        full_key = (id(source), *key)
        if full_key not in self._made:
            self._made[full_key] = source, make()
        made: T = self._made[full_key][1]
        return made

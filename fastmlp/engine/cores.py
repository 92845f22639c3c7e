"""Cores are counted once: how many each of the calls that run at the same time may use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ["Group"]

T = TypeVar("T")


class Group:
    """Calls that share some cores, such as those of one `fit_many`.

    Parameters
    ----------
    n_cores : int
        For all of them.
    """

    def __init__(self, n_cores: int) -> None:
        self.n_cores = n_cores

    def run(self, work: Callable[[], T]) -> T:
        """Call `work`; the calls that this thread makes meanwhile belong to the group."""
        return work()

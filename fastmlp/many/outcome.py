"""`Outcome`: the results of many fits, with their errors and warnings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fastmlp.history import History
from fastmlp.validation.calls import warn

__all__ = ["Outcome"]

_SHOWN = 5  # of the networks that have the same warning


@dataclass
class Outcome:
    """What has become of some of many fits, each known by the number of its network.

    Attributes
    ----------
    histories : dict of int to History
    errors : dict of int to exceptions
        Of the fits that have failed.
    warnings : dict of (str, type) to list of int
        The words and the kind of each warning, and which fits it is about.
    waiting : set of int
        Fits that had not begun when all were stopped.
    place : str
        Where the networks are, for messages.
    """

    histories: dict[int, History] = field(default_factory=dict)
    errors: dict[int, BaseException] = field(default_factory=dict)
    warnings: dict[tuple[str, type[Warning]], list[int]] = field(default_factory=dict)
    waiting: set[int] = field(default_factory=set)
    place: str = "nets"

    def add(self, other: Outcome) -> None:
        """Add other fits."""
        self.histories |= other.histories
        self.errors |= other.errors
        self.waiting |= other.waiting
        for warning, numbers in other.warnings.items():
            self.warnings.setdefault(warning, []).extend(numbers)

    def report(self, return_exceptions: bool) -> list[Any]:
        """Warn of what is to be known; return the history of each fit in order, or its error.

        Raises
        ------
        ExceptionGroup
            If fits have failed, and `return_exceptions` is False.
        """
        numbers, errors = sorted(self.histories), self.errors
        self.errors = {}  # whose frames keep this object alive
        try:
            self._warn()
        finally:  # a warning may be an error
            if errors and not return_exceptions:
                some = f"{len(errors)} of {len(numbers)} networks failed; the others are trained"
                message = some if len(errors) < len(numbers) else "all networks failed"
                raise BaseExceptionGroup(message, [errors[i] for i in sorted(errors)])
        return [errors.get(i, self.histories[i]) for i in numbers]

    def _warn(self) -> None:
        """Warn of what single fits would warn of, and if Ctrl-C has stopped some."""
        n_fits, n_waiting = len(self.histories), len(self.waiting)
        for i in self.waiting:
            self.histories[i].interrupted = True
        n_stopped = sum(history.interrupted for history in self.histories.values())
        if n_stopped:
            warn(
                f"Ctrl-C stopped training: {n_fits - n_stopped} of {n_fits} networks are trained, "
                f"{n_stopped - n_waiting} in part and {n_waiting} not at all; steps taken so far are kept"
            )
        for (message, category), numbers in sorted(self.warnings.items(), key=lambda warning: sorted(warning[1])):
            shown = ", ".join(f"{self.place}[{i}]" for i in sorted(numbers)[:_SHOWN])
            more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
            warn(f"{shown}{more}: {message}", category)

"""`fit_many` trains many networks at the same time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastmlp.history import History
from fastmlp.network import Network

__all__ = ["fit_many"]


def fit_many(
    nets: Iterable[Network],
    X: Any,
    y: Any,
    *,
    n_jobs: int | None = None,
    progress: bool = False,
    fits: Iterable[Mapping[str, Any]] | None = None,
    return_exceptions: bool = False,
    **fit: Any,
) -> list[History]:
    """Train many networks."""
    nets = list(nets)
    histories = []
    for net, own in zip(nets, fits or [{}] * len(nets), strict=True):
        arguments = fit | dict(own)
        rows = arguments.pop("rows", slice(None))
        histories.append(net.fit(X[rows], y[rows], **arguments))
    return histories

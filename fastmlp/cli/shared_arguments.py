"""The options that several commands have."""

from __future__ import annotations

from typing import Any

from fastmlp.cli.values import MOST_THREADS, size, whole_number

__all__ = ["add_data_options", "add_layers", "add_threads"]


def add_data_options(group: Any) -> None:
    """Add --data."""
    group.add_argument(
        "--data",
        default="mnist",
        metavar="mnist|digits|xor|FILE|FOLDER",
        help="data set (default: %(default)s)",
    )


def add_layers(group: Any) -> None:
    """Add --layers."""
    group.add_argument("--layers", nargs="+", type=size, metavar="N", help="sizes of the hidden layers (default: 128)")


def add_threads(group: Any, help: str) -> None:
    """Add --threads."""
    group.add_argument("--threads", type=whole_number(1, MOST_THREADS), metavar="N", help=help)

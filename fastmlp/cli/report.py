"""``fastmlp report``, and the page of ``fastmlp train --report``."""

from __future__ import annotations

import argparse
import os
import re
from typing import Any

import fastmlp
from fastmlp.cli.data import is_table, load
from fastmlp.cli.export import load_network
from fastmlp.cli.files import refuse_overwriting
from fastmlp.cli.output import tell

__all__ = ["check_page", "report", "write_page"]

_SUFFIXES = (".html", ".htm")


def report(arguments: argparse.Namespace) -> int:
    """Load network and data, and write the page; return the exit status."""
    check_page(arguments.output, "--output", arguments.data, arguments.network)
    net = _load(arguments.network)
    write_page(net, *_test_rows(net, arguments.data, arguments.target), arguments.output)
    return 0


def _test_rows(net: Any, data: str, target: str | None) -> tuple[Any, Any]:
    """Return X and y of the test rows."""
    if not is_table(data):
        return load(data)[2:]
    from fastmlp.cli.table_data import features_of_network, split_rows, target_of_network
    from fastmlp.cli.tables import read_table

    try:
        table = read_table(data)
    except OSError as error:
        raise ValueError(f"cannot read --data {data!r}: {error.strerror or error}") from error
    X, y = features_of_network(table, net, target or "-1"), target_of_network(table, net, target)
    _, test = split_rows(table, len(y), None if net.output == "identity" else y)
    return X[test], y[test]


def check_page(path: str, option: str, *sources: str) -> None:
    """Refuse a path to which the page cannot be written, before anything that takes long."""
    from fastmlp.storage import check_writable

    if os.path.splitext(path)[1].lower() not in _SUFFIXES:
        raise ValueError(f"{option} {path!r} must end in {' or '.join(_SUFFIXES)}")
    refuse_overwriting(path, *sources, option=option)
    check_writable(path)


def write_page(net: Any, X_test: Any, y_test: Any, path: str, command: str | None = None) -> None:
    """Write the page and say so."""
    try:
        fastmlp.report(net, X_test, y_test, path, command=command)
    except (TypeError, ValueError) as error:
        raise ValueError(re.sub(r"^([Xy])\b", r"\1_test", str(error))) from error
    tell(f"saved {path} ({os.path.getsize(path):,} bytes)")


def _load(path: str) -> Any:
    """Return the network or the ensemble of a file."""
    from fastmlp import checkpoint
    from fastmlp.model import read_file

    try:
        is_ensemble = str(read_file(path).get("format")) == checkpoint.ENSEMBLE
    except OSError as error:
        raise ValueError(f"cannot read the network {path!r}: {error.strerror or error}") from error
    return load_network(path, fastmlp.Ensemble if is_ensemble else None)

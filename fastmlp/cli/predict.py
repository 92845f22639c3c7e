"""``fastmlp predict``."""

from __future__ import annotations

import argparse
import csv
import io
import os
import re
from typing import Any

from fastmlp.cli.export import load_network
from fastmlp.cli.files import refuse_overwriting
from fastmlp.cli.output import say, tell

__all__ = ["predict"]

_OUTPUTS = (".csv", ".npz")


def predict(arguments: argparse.Namespace) -> int:
    """Load network and rows, predict, and write the predictions; return the exit status."""
    from fastmlp.cli.rows import read_rows
    from fastmlp.storage import check_writable, save_npz, written_whole

    path, data = arguments.output, arguments.data
    if path is not None:
        if os.path.splitext(path)[1].lower() not in _OUTPUTS:
            raise ValueError(f"--output {path!r} must end in {' or '.join(_OUTPUTS)}")
        refuse_overwriting(path, arguments.network, data)
        check_writable(path)
    net = load_network(arguments.network)
    net.n_threads = arguments.threads
    columns = _predicted(net, read_rows(data, net, arguments.target), data)
    if path is None:
        say(_as_csv(columns, net).rstrip("\n"))
        return 0
    if path.lower().endswith(".npz"):
        save_npz(path, **columns)
    else:
        with written_whole(path) as file:
            file.write(_as_csv(columns, net).encode())
    tell(f"saved {path}")
    return 0


def _predicted(net: Any, X: Any, data: str) -> dict[str, Any]:
    """Return labels and probabilities, or the predictions of a regression."""
    try:
        predicted = net.predict(X)
        if net.output not in ("softmax", "logistic"):
            return {"prediction": predicted}
        return {"label": predicted, "probability": net.predict_proba(X)}
    except (TypeError, ValueError) as error:
        raise ValueError(re.sub(r"^X\b", data.replace("\\", r"\\"), str(error))) from error


def _as_csv(columns: dict[str, Any], net: Any) -> str:
    """Return a table with a line of names; numbers have all the digits that tell them apart."""
    import numpy as np

    names, fields = [], []
    for name, values in columns.items():
        if values.ndim == 1:
            names.append(name)
        else:
            of_classes = name == "probability" and net.classes is not None
            names += [f"{name}_{which}" for which in (net.classes if of_classes else range(values.shape[1]))]
        fields.append(values.reshape(len(values), -1).astype(str))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(np.concatenate([each.astype(object) for each in fields], axis=1))
    return table.getvalue()

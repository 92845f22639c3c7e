"""A process of ``fastmlp compile``: it reads kinds of networks, a JSON object per line, and compiles their kernels."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import fastmlp
from fastmlp.engine.kernel_files import ready, release_all
from fastmlp.optimizers import Optimizer, RMSprop

__all__ = ["settings_of", "work"]

_LAYERS = [16, 16, 2]  # sizes do not matter
_RATE = 0.1


def work() -> None:
    """Answer each line with a list of the kernels that the network needs: name, dtype, file, and whether it is new."""
    signal.signal(signal.SIGTERM, _end)
    for line in sys.stdin:
        first = len(ready)
        fastmlp.warm_up(_LAYERS, **settings_of(json.loads(line)))
        found = [
            (kernel.kernel, kernel.dtype, kernel.path and str(kernel.path), kernel.is_new) for kernel in ready[first:]
        ]
        print(json.dumps(found), flush=True)


def settings_of(kind: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `warm_up` for what `fastmlp.cli.compile.Kind` says."""
    settings: dict[str, Any] = {"rows": kind["rows"], "optimizer": _optimizer(kind["optimizer"])}
    settings |= {name: kind[name] for name in ("activation", "output", "dtype")}
    rates = ("dropout", "input_dropout", "input_noise", "label_smoothing", "l2")
    return settings | {name: _RATE for name in rates if kind[name]}


def _optimizer(name: str) -> str | Optimizer:
    variants = name.split("-")[1:]
    if not variants:
        return name
    return RMSprop(momentum=0.9 * ("momentum" in variants), centered="centered" in variants)


def _end(*_: object) -> None:
    """End at once, in the midst of a kernel, but leave no lock."""
    release_all()
    os._exit(128 + signal.SIGTERM)

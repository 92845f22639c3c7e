"""``fastmlp export``."""

from __future__ import annotations

import argparse
import os
from typing import Any

import fastmlp
from fastmlp.cli.files import refuse_overwriting
from fastmlp.cli.network_arguments import FORMS
from fastmlp.cli.output import tell

__all__ = ["export", "load_network"]


def export(arguments: argparse.Namespace) -> int:
    """Load the network and write it; return the exit status."""
    from fastmlp.interchange.c import test_program
    from fastmlp.storage import check_writable

    path = arguments.output
    form = _form(arguments.to, path)
    refuse_overwriting(path, arguments.network)
    net = load_network(arguments.network)
    check_writable(path)
    _WRITERS[form](net, path)
    for written in (path, test_program(path)) if form == "c" else (path,):
        tell(f"saved {written} ({os.path.getsize(written):,} bytes)")
    return 0


def load_network(path: str, kind: Any = None) -> Any:
    """Return the network of a file, or an Ensemble if that is the kind."""
    kind = fastmlp.MLP if kind is None else kind
    try:
        return kind.load(path)
    except OSError as error:
        raise ValueError(f"cannot read the network {path!r}: {error.strerror or error}") from error


def _form(to: str | None, path: str) -> str:
    """Return the form that --to or the suffix says; they must not contradict each other."""
    suffix = os.path.splitext(path)[1].lower()
    named = next((form for form, suffixes in FORMS.items() if suffix in suffixes), None)
    form = to or named
    if form is None:
        raise ValueError(f"--output {path!r} does not determine the format; give --to, one of {', '.join(FORMS)}")
    if form != named and (named or form in ("safetensors", "keras")):  # these two are known by their suffix
        raise ValueError(f"--output {path!r} must end in {' or '.join(FORMS[form])}")
    return form


def _save_torch(net: Any, path: str) -> None:
    from fastmlp.interchange.torch import save_state_dict

    save_state_dict(net, path)


def _save_keras(net: Any, path: str) -> None:
    from fastmlp.interchange.keras import save_keras

    save_keras(net, path)


_WRITERS: dict[str, Any] = {
    "onnx": lambda net, path: net.to_onnx(path),
    "safetensors": lambda net, path: net.save(path),
    "npz": lambda net, path: net.save(path),
    "c": lambda net, path: net.to_c(path),
    "torch": _save_torch,
    "keras": _save_keras,
}

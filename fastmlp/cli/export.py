"""``fastmlp export``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

import fastmlp
from fastmlp.cli.network_arguments import FORMS
from fastmlp.cli.output import tell

__all__ = ["export", "load_network", "refuse_overwriting"]


def export(arguments: argparse.Namespace) -> int:
    """Load the network and write it; return the exit status."""
    from fastmlp.storage import check_writable

    path = arguments.output
    form = arguments.to or _form_of(path)
    refuse_overwriting(path, arguments.network)
    net = load_network(arguments.network)
    check_writable(path)
    _WRITERS[form](net, path)
    tell(f"saved {path} ({os.path.getsize(path):,} bytes)")
    return 0


def load_network(path: str) -> Any:
    """Return the network of a file."""
    try:
        return fastmlp.MLP.load(path)
    except OSError as error:
        raise ValueError(f"cannot read the network {path!r}: {error.strerror or error}") from error


def refuse_overwriting(path: str, *sources: str) -> None:
    """Refuse an output that is one of the inputs."""
    for source in sources:
        if os.path.exists(path) and os.path.exists(source) and os.path.samefile(path, source):
            raise ValueError(f"--output {path!r} would overwrite {source!r}")


def _form_of(path: str) -> str:
    suffix = os.path.splitext(path)[1].lower()
    for form, suffixes in FORMS.items():
        if suffix in suffixes:
            return form
    raise ValueError(f"--output {path!r} does not say in which form; give --to, one of {', '.join(FORMS)}")


def _save(suffix: str) -> Callable[[Any, str], None]:
    """Return a function that saves a network where `MLP.save` goes by the suffix."""

    def save(net: Any, path: str) -> None:
        if os.path.splitext(path)[1].lower() != suffix:
            raise ValueError(f"--output {path!r} must end in {suffix}")
        net.save(path)

    return save


def _to_torch(net: Any, path: str) -> None:
    state_dict = net.to_torch().state_dict()
    import torch

    from fastmlp.storage import written_whole

    with written_whole(path) as file:
        torch.save(state_dict, file)


def _to_keras(net: Any, path: str) -> None:
    if not path.endswith(".keras"):  # or Keras would refuse it
        raise ValueError(f"--output {path!r} must end in .keras")
    net.to_keras().save(path)


_WRITERS: dict[str, Callable[[Any, str], None]] = {
    "onnx": lambda net, path: net.to_onnx(path),
    "safetensors": _save(".safetensors"),
    "npz": _save(".npz"),
    "c": lambda net, path: net.to_c(path),
    "torch": _to_torch,
    "keras": _to_keras,
}

"""Networks in .safetensors files.

The tensors are the parameters, and with the training state the arrays of the optimizer. The metadata has ``format``,
``settings``, which is JSON of everything else, and ``sha256``, because the format itself has no checksum: a wrong bit
in a weight would load as another number.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.storage import check_writable, checksum, written_whole

__all__ = ["check_suffix", "check_target", "is_safetensors", "load_safetensors", "save_safetensors"]

_TENSORS = ("weights_", "biases_", "memory_", "classes")
"""How the names of arrays begin, in an ensemble after "members.0."; everything else is JSON, as are classes that are
strings."""

_OTHER_FORMS = {".onnx": "to_onnx", ".c": "to_c", ".pt": "to_torch", ".pth": "to_torch", ".keras": "to_keras"}
"""Suffixes of files that other methods write."""


def is_safetensors(path: str) -> bool:
    """Return whether a file of this name is a .safetensors file."""
    return path.lower().endswith(".safetensors")


def check_suffix(path: str) -> str:
    """Return the name of a file, unless its suffix says another form."""
    method = _OTHER_FORMS.get(os.path.splitext(path)[1].lower())
    if method:
        raise ValueError(f"save writes .npz and .safetensors files, not {path!r}; for that there is {method}")
    return path


def check_target(path: str) -> None:
    """Refuse a path to which `Model.save` could not write, before training begins."""
    check_suffix(path)
    if is_safetensors(path):
        _safetensors()
    check_writable(path)


def save_safetensors(path: str | os.PathLike[str], **state: Any) -> None:
    """Write a state of `fastmlp.checkpoint`; an older file is replaced as a whole or not at all.

    Raises
    ------
    ImportError
        If safetensors is not installed.
    FileNotFoundError
        If the folder does not exist.
    """
    safetensors = _safetensors()
    # Copies in C order: safetensors 0.8 reads the memory of an array as if it were contiguous, and the weights of a
    # network are views with padding between their rows.
    tensors = {name: np.array(value, order="C") for name, value in state.items() if _is_tensor(name, value)}
    others = {name: np.asarray(value).tolist() for name, value in state.items() if name not in tensors}
    settings = json.dumps(others)
    metadata = {
        "format": others["format"],
        "settings": settings,
        "sha256": _checksum(tensors, settings),
    }
    written = safetensors.numpy.save(tensors, metadata)
    with written_whole(path) as file:
        file.write(written)


def load_safetensors(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the state that `save_safetensors` has written.

    Raises
    ------
    ImportError
        If safetensors is not installed.
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, or not written by fastmlp.
    """
    safetensors, source = _safetensors(), os.fspath(path)
    with open(path, "rb"):  # raises errors that name the file
        pass
    try:
        with safetensors.safe_open(source, "np") as file:
            metadata = dict(file.metadata() or {})
            ours = metadata.keys() == {"format", "settings", "sha256"}
            tensors = {name: file.get_tensor(name) for name in file.keys()} if ours else {}  # noqa: SIM118
    except Exception as error:  # safetensors and NumPy raise many kinds
        raise ValueError(f"{source} cannot be read: {error}") from error
    if not ours:
        raise ValueError(
            f"{source} holds no network saved by fastmlp; for weights of PyTorch there is MLP.from_torch, which takes "
            "what safetensors.torch.load_file returns"
        )
    if metadata["sha256"] != _checksum(tensors, metadata["settings"]):
        raise ValueError(f"{source} is damaged: its checksum is that of another content")
    try:
        settings = json.loads(metadata["settings"])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source} is damaged: {error}") from error
    if not isinstance(settings, dict) or settings.get("format") != metadata["format"] or settings.keys() & tensors:
        raise ValueError(f"{source} is damaged: its settings do not fit its tensors")
    return settings | tensors


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(".safetensors files need safetensors: pip install 'fastmlp[safetensors]'") from error
    return safetensors


def _is_tensor(name: str, value: Any) -> bool:
    """Return whether a value is an array of numbers, and no setting such as the sizes of the layers."""
    return name.rpartition(".")[2].startswith(_TENSORS) and np.asarray(value).dtype.kind in "fiub"


def _checksum(tensors: Mapping[str, npt.NDArray[Any]], settings: str) -> str:
    return checksum({**tensors, "settings": np.frombuffer(settings.encode(), np.uint8)})

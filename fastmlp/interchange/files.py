"""Files of PyTorch and Keras, for ``fastmlp export``; in Python, methods of the network give the models themselves."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from typing import Any

from fastmlp.storage import written_whole

__all__ = ["save_keras", "save_torch"]


def save_torch(net: Any, path: str) -> None:
    """Write the state_dict of ``net.to_torch()``, which ``torch.load`` reads without pickles of code."""
    state_dict = net.to_torch().state_dict()
    import torch

    content = io.BytesIO()  # torch.save hides the errors of a file
    torch.save(state_dict, content)
    with written_whole(path) as file:
        file.write(content.getbuffer())


def save_keras(net: Any, path: str) -> None:
    """Write ``net.to_keras()``, which ``keras.saving.load_model`` reads.

    Raises
    ------
    ValueError
        If `path` does not end in .keras, as Keras demands.
    """
    if not path.endswith(".keras"):
        raise ValueError(f"--output {path!r} must end in .keras")
    model = net.to_keras()
    with tempfile.TemporaryDirectory() as folder, written_whole(path) as file:  # Keras writes into the file itself
        model.save(written := os.path.join(folder, "net.keras"))
        with open(written, "rb") as source:
            shutil.copyfileobj(source, file)

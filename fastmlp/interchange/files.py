"""Files of PyTorch and Keras, for ``fastmlp export``; in Python, methods of the network give the models themselves."""

from __future__ import annotations

from typing import Any

from fastmlp.storage import written_whole

__all__ = ["save_keras", "save_torch"]


def save_torch(net: Any, path: str) -> None:
    """Write the state_dict of ``net.to_torch()``, which ``torch.load`` reads without pickles of code."""
    state_dict = net.to_torch().state_dict()
    import torch

    with written_whole(path) as file:
        torch.save(state_dict, file)


def save_keras(net: Any, path: str) -> None:
    """Write ``net.to_keras()``, which ``keras.saving.load_model`` reads."""
    net.to_keras().save(path)

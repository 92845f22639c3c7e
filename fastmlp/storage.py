"""Networks in files: .npz, written whole or not at all, the same for `fastmlp.MLP` and `fastmlp.reference.MLP`."""

from __future__ import annotations

import itertools
import os
import secrets
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["load_network", "load_npz", "save_network", "save_npz"]

_FORMAT = "fastmlp 1"


def save_npz(path: str | os.PathLike[str], **arrays: npt.ArrayLike) -> None:
    """Write `arrays` to exactly `path` (no suffix is added); an older file is replaced only when all is written.

    Of a symbolic link the file that it names is written.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    """
    target = Path(os.path.realpath(path) if os.path.islink(path) else path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot save {target}: there is no folder {target.parent}")
    if target.is_dir():
        raise IsADirectoryError(f"cannot save {target}: it is a folder")
    if target.exists() and not target.is_file():
        raise OSError(f"cannot save {target}: it is not a plain file")
    # beside the target, for a rename works only within one file system
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())  # the bytes come before the name
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def load_npz(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[Any]]:
    """Read all arrays of a .npz file; nothing pickled is ever loaded.

    Raises
    ------
    ValueError
        If the file is no .npz file, or a damaged one.
    """
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError(f"{os.fspath(path)} is not a whole .npz file")
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as archive:
                return dict(archive)
        except Exception as error:  # a damaged file makes zipfile, zlib, tokenize and NumPy raise all kinds
            why = "it holds Python objects, not numbers" if "allow_pickle" in str(error) else str(error)
            raise ValueError(f"{os.fspath(path)} cannot be read: {why}") from error


def save_network(
    path: str | os.PathLike[str],
    arguments: dict[str, Any],
    weights: Sequence[npt.NDArray[Any]],
    biases: Sequence[npt.NDArray[Any]],
) -> None:
    """Write a network to `path`; `load_network` says what the arguments are."""
    seed = "" if arguments["seed"] is None else str(arguments["seed"])  # as text: a seed may be of any size
    parameters = {f"weights_{i}": w for i, w in enumerate(weights)} | {f"biases_{i}": b for i, b in enumerate(biases)}
    save_npz(path, format=_FORMAT, **(arguments | {"seed": seed}), **parameters)


def load_network(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Any], list[npt.NDArray[Any]], list[npt.NDArray[Any]]]:
    """Read what `save_network` wrote.

    Returns
    -------
    arguments : dict
        layers, activation, init, seed, dtype and input_scale: what makes the network.
    weights : list of (I, O) arrays
    biases : list of (O,) arrays

    Raises
    ------
    ValueError
        If the file holds no network, or its parameters do not fit its layers and dtype, or are not finite.
    """
    arrays, file = load_npz(path), os.fspath(path)
    if str(arrays.get("format")) != _FORMAT:
        raise ValueError(f"{file} holds no network saved by fastmlp")
    try:
        sizes = arrays["layers"]
        weights = [arrays[f"weights_{i}"] for i in range(sizes.size - 1)]
        biases = [arrays[f"biases_{i}"] for i in range(sizes.size - 1)]
        arguments: dict[str, Any] = {name: str(arrays[name]) for name in ("activation", "init", "dtype")}
        arguments["input_scale"] = arrays.get("input_scale", np.float64(1)).tolist()
        seed = str(arrays["seed"])
    except KeyError as error:
        raise ValueError(f"{file} is incomplete: it has no {error}") from error
    if sizes.ndim != 1 or sizes.dtype.kind not in "iu":
        raise ValueError(f"{file} is damaged: its layers are {sizes.tolist()}")
    if seed and not (seed.isascii() and seed.isdecimal()):
        raise ValueError(f"{file} is damaged: its seed is {seed!r}")
    layers = sizes.tolist()
    shapes = [(w.shape, b.shape) for w, b in zip(weights, biases, strict=True)]
    if shapes != [((i, o), (o,)) for i, o in itertools.pairwise(layers)]:
        raise ValueError(f"{file} has parameters that do not fit its layers {layers}")
    for parameters in (*weights, *biases):
        if parameters.dtype.name != arguments["dtype"] or not np.isfinite(parameters).all():
            raise ValueError(f"{file} is damaged: its parameters are not all finite numbers of {arguments['dtype']}")
    return arguments | {"layers": layers, "seed": int(seed) if seed else None}, weights, biases

"""Data sets as four arrays: ``X_train, y_train, X_test, y_test``.

X is float32 (n, features), scaled to 0..1, and y is int64 (n,); all are C-contiguous. Only `load_openml` downloads.
"""

from __future__ import annotations

import gzip
import importlib.resources
import importlib.util
import math
import re
import zlib
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastmlp import storage
from fastmlp.storage import StrPath
from fastmlp.validation.calls import advised
from fastmlp.validation.inputs import check_finite
from fastmlp.validation.settings import check_int, check_seed

__all__ = ["load_digits", "load_idx", "load_mnist", "load_npz", "load_openml", "load_xor"]

Rows: TypeAlias = NDArray[np.float32]  # (n, features)
Labels: TypeAlias = NDArray[np.int64]  # (n,)
Dataset: TypeAlias = tuple[Rows, Labels, Rows, Labels]

_LARGEST_LABEL = 2**31 - 1
_SPLIT_SEED = 42  # of every 80/20 split in this module

# train-images-idx3-ubyte, t10k-labels.idx1-ubyte, emnist-letters-test-images-idx3-ubyte.gz, ...
_IDX_NAME = re.compile(
    r"(?:(?P<split>.+)-)?(?P<part>train|t10k|test)-(?P<kind>images|labels)[-.]idx[13]-ubyte(?:\.gz)?"
)
_IDX_UINT8 = 0x08  # third byte of the magic number; the fourth is the number of dimensions
_CORRUPT = (EOFError, OSError, zlib.error)  # raised by gzip and zipfile for damaged files


@advised
def load_mnist(*, n_samples: int | None = None, seed: int | None = 0) -> Dataset:
    """Load MNIST, which is part of the package.

    Parameters
    ----------
    n_samples : int or None, default=None
        Number of training rows, drawn at random without replacement. None is all. All test rows are always returned.
    seed : int or None, default=0
        Seed of the draw: the same seed gives the same rows in the same order. With None each draw is different.

    Returns
    -------
    X_train, y_train, X_test, y_test
        float32 (60000, 784), int64 (60000,), float32 (10000, 784) and int64 (10000,), in the published order, pixels
        divided by 255.

    Raises
    ------
    TypeError, ValueError
        If `n_samples` is not an integer from 1 to 60,000.

    Notes
    -----
    Published by Yann LeCun, Corinna Cortes and Christopher J.C. Burges under CC BY-SA 3.0.
    """
    n_samples = None if n_samples is None else check_int("n_samples", n_samples, 1, "an integer or None")
    seed = check_seed(seed)
    with importlib.resources.as_file(importlib.resources.files("fastmlp") / "data" / "mnist.npz") as path:
        X_train, y_train, X_test, y_test = load_npz(path)
    if n_samples is None:
        return X_train, y_train, X_test, y_test
    if n_samples > len(y_train):
        raise ValueError(f"n_samples must be at most {len(y_train)}, not {n_samples}")
    rows = np.random.default_rng(seed).permutation(len(y_train))[:n_samples]
    return X_train[rows], y_train[rows], X_test, y_test


@advised
def load_digits() -> Dataset:
    """Load scikit-learn's 1,797 images of digits with 8x8 pixels, split 80/20 with ``random_state=42``.

    Returns
    -------
    X_train, y_train, X_test, y_test
        float32 (1437, 64), int64 (1437,), float32 (360, 64) and int64 (360,), pixels divided by 16.
    """
    from sklearn.datasets import load_digits as sklearn_digits

    images, labels = sklearn_digits(return_X_y=True)
    return _split((images / 16).astype(np.float32), labels.astype(np.int64))


@advised
def load_xor() -> Dataset:
    """Return the four points of exclusive or, both as training and as test data.

    Returns
    -------
    X_train, y_train, X_test, y_test
        float32 (4, 2) and int64 (4,), twice; separate copies.
    """
    points = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)
    labels = np.array([0, 1, 1, 0], dtype=np.int64)
    return points, labels, points.copy(), labels.copy()


@advised
def load_npz(path: StrPath) -> Dataset:
    """Load a NumPy archive that holds X_train, y_train, X_test and y_test.

    Keras's names ``x_train`` and ``x_test`` work too. Images (n, ...) are flattened to rows. uint8 is divided by 255;
    floating point is used as it is. Labels are whole numbers of any type, (n,) or (n, 1), or one-hot rows (n, C).

    Parameters
    ----------
    path : str or path
        Name of the ``.npz`` file. Pickled objects are refused.

    Returns
    -------
    X_train, y_train, X_test, y_test
        float32 (n, features) and int64 (n,), for both parts.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is corrupt or no archive, lacks an array, or holds arrays that do not fit together; if a number is
        not finite in float32.
    """
    path = Path(path)
    arrays = _read_npz(path)
    try:
        x_train, x_test = (_as_rows(arrays[name], name) for name in ("X_train", "X_test"))
        y_train, y_test = (_as_labels(arrays[name], name) for name in ("y_train", "y_test"))
        for part, rows, labels in (("train", x_train, y_train), ("test", x_test, y_test)):
            if len(rows) != len(labels):
                raise ValueError(f"X_{part} has {len(rows)} rows, but y_{part} has {len(labels)} labels")
        if x_train.shape[1] != x_test.shape[1]:
            raise ValueError(f"X_train has {x_train.shape[1]} features, but X_test has {x_test.shape[1]}")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return x_train, y_train, x_test, y_test


@advised
def load_idx(folder: StrPath, *, split: str | None = None) -> Dataset:
    """Load a folder of idx files, as MNIST, Fashion-MNIST, KMNIST and EMNIST are published.

    Parameters
    ----------
    folder : str or path
        Folder with four files, gzipped or not: ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
        ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``. Names may have a dot before ``idx``, ``test`` for
        ``t10k``, and a prefix such as ``emnist-letters-``. If a file exists with and without ``.gz``, the latter is
        read.
    split : str or None, default=None
        Data set to read if the folder holds several: the prefix of its files, with or without ``emnist-``, such as
        ``"letters"``; ``""`` for files without a prefix.

    Returns
    -------
    X_train, y_train, X_test, y_test
        float32 (n, pixels), divided by 255, and int64 (n,), for both parts, in the published order.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or a file is missing in it.
    ValueError
        If the folder holds several data sets and `split` names none of them; if a file is corrupt, truncated or of
        another format; if the numbers of images and labels differ.

    Notes
    -----
    Labels are not changed. Those of EMNIST letters are 1 to 26: subtract 1, or give the network 27 outputs. EMNIST's
    images are transposed: plot ``X.reshape(-1, 28, 28).transpose(0, 2, 1)``. Training does not depend on it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    files = _choose_split(folder, _find_idx_files(folder), split)
    x_train, y_train = _read_idx_pair(folder, files, "train")
    x_test, y_test = _read_idx_pair(folder, files, "test")
    if x_train.shape[1] != x_test.shape[1]:
        raise ValueError(
            f"{files['train', 'images']} holds images of {x_train.shape[1]} pixels, "
            f"but {files['test', 'images']} holds images of {x_test.shape[1]}"
        )
    return x_train, y_train, x_test, y_test


@advised
def load_openml(name: str, *, version: int | str = "active") -> Dataset:
    """Download a classification data set from openml.org with scikit-learn's ``fetch_openml``, which caches it.

    Parameters
    ----------
    name : str
        Name of the data set on openml.org, such as ``"mnist_784"``, ``"Fashion-MNIST"`` or ``"letter"``.
    version : int or "active", default="active"
        Version of the data set; ``"active"`` is the oldest version that is still active.

    Returns
    -------
    X_train, y_train, X_test, y_test
        float32 (n, features) and int64 (n,), for both parts. Data sets of 70,000 rows of 784 pixels (MNIST and its
        successors) are split as published, 60,000 to 10,000; all others 80/20 with ``random_state=42``.

    Raises
    ------
    ValueError
        If a feature is not a number, values or labels are missing, or the target is not a class. scikit-learn raises
        its own errors if the name is unknown or openml.org cannot be reached.

    Notes
    -----
    Labels become 0, 1, 2, ... in the order of ``np.unique``, which sorts strings (``"10"`` before ``"2"``). Values
    outside 0..1 are scaled by the minimum and maximum of the whole data set. That suits pixels; features with units of
    their own are better scaled one by one.
    """
    from sklearn.datasets import fetch_openml

    # scikit-learn's faster parser needs pandas, which may be absent.
    parser = "auto" if importlib.util.find_spec("pandas") else "liac-arff"
    try:
        bunch = fetch_openml(name, version=version, as_frame=False, parser=parser)
        rows = _scaled(_openml_features(bunch))
        labels = _openml_labels(bunch.target)
        if len(rows) != len(labels):
            raise ValueError(f"it has {len(rows)} rows, but {len(labels)} labels")
    except ValueError as error:
        # The message of the parser about text columns gives advice that does not apply here.
        text = "STRING attributes" in str(error)
        raise ValueError(f"OpenML data set {name!r}: {'it has columns of text' if text else error}") from error
    if rows.shape == (70_000, 784):
        return rows[:60_000], labels[:60_000], rows[60_000:], labels[60_000:]
    return _split(rows, labels)


def _split(rows: Rows, labels: Labels) -> Dataset:
    """Split 80/20 with a fixed seed."""
    from sklearn.model_selection import train_test_split

    x_train, x_test, y_train, y_test = train_test_split(rows, labels, test_size=0.2, random_state=_SPLIT_SEED)
    return x_train, y_train, x_test, y_test


def _as_rows(data: NDArray[Any], name: str) -> Rows:
    """Flatten (n, ...) to (n, features) float32; uint8 is divided by 255."""
    if data.ndim < 2 or data.size == 0:
        raise ValueError(f"{name} has the shape {data.shape}, not (n, features) or (n, height, width)")
    rows = data.reshape(len(data), -1)
    if data.dtype == np.uint8:
        scaled: Rows = np.divide(rows, np.float32(255), dtype=np.float32, order="C")
        return scaled
    if data.dtype.kind != "f":
        raise ValueError(
            f"{name} is {data.dtype}, not uint8 (0 to 255) or floating point; scale it first, e.g. "
            f"({name} / {name}.max()).astype(np.float32)"
        )
    with np.errstate(over="ignore", under="ignore"):
        numbers = np.ascontiguousarray(rows, dtype=np.float32)
    check_finite(numbers, rows, name)
    return numbers


def _as_labels(data: NDArray[Any], name: str) -> Labels:
    """Return whole numbers (n,) or (n, 1), or one-hot rows (n, C), as int64 (n,)."""
    if data.dtype.kind not in "fiub":
        raise ValueError(f"{name} is {data.dtype}, not integers; number the classes first: 0, 1, 2, ...")
    if data.ndim == 2 and data.shape[1] == 1:
        data = data[:, 0]
    if data.ndim == 2 and np.isin(data, (0, 1)).all() and (data.sum(axis=1) == 1).all():
        data = data.argmax(axis=1)
    if data.ndim != 1:
        raise ValueError(f"{name} has the shape {data.shape}, not (n,)")
    bad = np.flatnonzero(~((data >= -_LARGEST_LABEL) & (data <= _LARGEST_LABEL)) | (data != np.floor(data)))
    if len(bad):
        raise ValueError(f"{name} has {data[bad[0]]} in row {bad[0]}, but labels are integers below 2**31")
    return np.ascontiguousarray(data, dtype=np.int64)


# .npz


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Read the four arrays by the names X_train, y_train, X_test, y_test."""
    wanted = ("X_train", "y_train", "X_test", "y_test")
    arrays = storage.load_npz(path)
    # Keras writes x_train for X_train; y is y for both.
    names = {name: name if name in arrays else name.lower() for name in wanted}
    missing = [name for name in wanted if names[name] not in arrays]
    if missing:
        raise ValueError(f"{path} has no {' and no '.join(missing)}; it holds {', '.join(arrays) or 'nothing'}")
    return {name: arrays[names[name]] for name in wanted}


# idx


def _find_idx_files(folder: Path) -> dict[str, dict[tuple[str, str], Path]]:
    """Find the idx files: prefix -> (part, kind) -> path."""
    found: dict[str, dict[tuple[str, str], Path]] = {}
    # Unpacked files come last, to override their .gz. Folders can have such names, too: some tools unpack into one.
    for path in sorted(folder.iterdir(), key=lambda path: (path.suffix != ".gz", path.name)):
        name = _IDX_NAME.fullmatch(path.name)
        if name and path.is_file():
            part = "train" if name["part"] == "train" else "test"
            found.setdefault(name["split"] or "", {})[part, name["kind"]] = path
    return found


def _choose_split(
    folder: Path, found: dict[str, dict[tuple[str, str], Path]], split: str | None
) -> dict[tuple[str, str], Path]:
    if not found:
        raise FileNotFoundError(f"{folder} holds no idx files, such as train-images-idx3-ubyte.gz")
    if split is None and len(found) == 1:
        return next(iter(found.values()))
    if split in found:
        return found[split]
    if f"emnist-{split}" in found:
        return found[f"emnist-{split}"]
    names = ", ".join(repr(name.removeprefix("emnist-")) for name in sorted(found))
    if split is None:
        raise ValueError(f"{folder} holds several data sets: say which by split=, one of {names}")
    raise ValueError(f"{folder} holds no data set {split!r}, but {names}")


def _read_idx_pair(folder: Path, files: dict[tuple[str, str], Path], part: str) -> tuple[Rows, Labels]:
    """Read the images and the labels of one part, "train" or "test"."""
    for kind in ("images", "labels"):
        if (part, kind) not in files:
            raise FileNotFoundError(
                f"{folder} has no {part} {kind}; published names are {'t10k' if part == 'test' else part}-{kind}-"
                f"idx{3 if kind == 'images' else 1}-ubyte.gz and the like"
            )
    images = read_idx(files[part, "images"], dimensions=3)
    labels = read_idx(files[part, "labels"], dimensions=1)
    if len(images) != len(labels):
        raise ValueError(
            f"{files[part, 'images']} holds {len(images)} images, "
            f"but {files[part, 'labels']} holds {len(labels)} labels"
        )
    return _as_rows(images, "images"), _as_labels(labels, "labels")


def read_idx(path: StrPath, dimensions: int) -> NDArray[np.uint8]:
    """Read an idx file of uint8 with this number of dimensions."""
    data = Path(path).read_bytes()
    if data[:2] == b"\x1f\x8b":  # gzip, whatever its suffix
        try:
            data = gzip.decompress(data)
        except _CORRUPT as error:
            raise ValueError(f"{path} is corrupt or truncated: {error}") from error
    start = 4 + 4 * dimensions
    if data[:4] != bytes([0, 0, _IDX_UINT8, dimensions]):
        raise ValueError(
            f"{path} is not an idx file of {dimensions}-dimensional uint8: it starts with 0x{data[:4].hex()}, "
            f"not with 0x0000{_IDX_UINT8:02x}{dimensions:02x}"
        )
    if len(data) < start:
        raise ValueError(f"{path} is truncated: its header has {len(data)} bytes, not {start}")
    shape = tuple(int(size) for size in np.frombuffer(data, dtype=">u4", count=dimensions, offset=4))
    if math.prod(shape) != len(data) - start:
        raise ValueError(
            f"{path} is corrupt or truncated: its header announces {math.prod(shape)} bytes "
            f"({' x '.join(map(str, shape))}), but {len(data) - start} follow"
        )
    if math.prod(shape) == 0:
        raise ValueError(f"{path} is empty: its header says {' x '.join(map(str, shape))}")
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)


# OpenML


def _openml_features(bunch: Any) -> NDArray[np.float64]:
    """Return the features as a dense, finite float64 array (n, features)."""
    data = bunch.data.toarray() if hasattr(bunch.data, "toarray") else np.asarray(bunch.data)
    # One parser returns categories as strings, the other as codes; neither is a quantity.
    categories = [str(name) for name in bunch.feature_names if name in (bunch.categories or {})]
    if categories:
        raise ValueError(f"its features are not all numbers: {', '.join(categories)}")
    try:
        numbers = data.astype(np.float64, copy=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"its features are not all numbers: {error}") from None
    n_missing = np.count_nonzero(~np.isfinite(numbers))
    if n_missing:
        raise ValueError(f"{n_missing} of its feature values are missing or not finite")
    return numbers


def _openml_labels(target: Any) -> Labels:
    """Turn classes into 0, 1, 2, ... in the order of np.unique."""
    if target is None or np.ndim(target) != 1:
        raise ValueError("it has no single target column")
    target = np.asarray(target)
    if target.dtype == object:
        kind = str if all(isinstance(label, str) for label in target) else np.float64
        try:
            target = target.astype(kind)
        except (TypeError, ValueError):
            raise ValueError("some of its labels are missing") from None
    # A missing label is nan, which is not equal to itself.
    if target.dtype.kind == "f" and not np.array_equal(target, np.rint(target)):
        raise ValueError("its target is not a class, but a number with fractions or gaps")
    return np.unique(target, return_inverse=True)[1].astype(np.int64)


def _scaled(numbers: NDArray[np.float64]) -> Rows:
    """Scale all values to 0..1 by the same shift and factor."""
    low, high = numbers.min(), numbers.max()
    if low >= 0 and high <= 1:
        return numbers.astype(np.float32)
    if low == high:
        raise ValueError(f"all its feature values are {low:g}")
    scaled: NDArray[np.float64] = numbers - low
    scaled /= high - low
    return scaled.astype(np.float32)

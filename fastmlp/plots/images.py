"""Rows of X as images, and many images as one. Nothing here needs matplotlib."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.validation.frames import column_names
from fastmlp.validation.settings import check_int, is_list

__all__ = ["as_images", "evenly", "image_shape", "rows_as_images", "take_rows", "tiled"]

_LEAST = 5  # pixels on a side, where nothing says that it is an image: 4 and 16 features are mostly a table
_CHANNELS = (1, 3, 4)


def image_shape(
    n_features: int, shape: Sequence[int] | None = None, feature_names: Sequence[str] | None = None, what: str = "X"
) -> tuple[int, ...]:
    """Return the shape of images with so many numbers: (height, width), or (height, width, channels).

    Parameters
    ----------
    n_features : int
    shape : sequence of int or None
        As given by a user; Shape of the images. None is a grayscale square.
    feature_names : sequence of str or None
        If they differ by more than numbers, as "pixel1" and "pixel2" do, X is a table and no image.
    what : str
        What has the features, for messages.

    Raises
    ------
    TypeError, ValueError
        If the shape is wrong, or there is none and these are no square images.
    """
    if shape is None:
        side = math.isqrt(n_features)
        kinds = {re.sub(r"\d+", "", str(name)) for name in feature_names or ()}
        if len(kinds) > 1:
            shown = ", ".join(map(repr, list(feature_names or ())[:3]))
            raise ValueError(
                f"{what} is a table with the columns {shown}, ..., not images; if its rows are images, give "
                "shape=(height, width)"
            )
        if side * side != n_features or side < _LEAST:
            raise ValueError(
                f"{what} has {n_features} features, not a square image of at least {_LEAST} x {_LEAST}; if its "
                "rows are images, give shape=(height, width)"
            )
        return side, side
    if not is_list(shape) or len(shape) not in (2, 3):
        raise TypeError(f"shape must be (height, width) or (height, width, channels), not {shape!r}")
    sizes = tuple(check_int(f"shape[{i}]", size, 1) for i, size in enumerate(shape))
    if math.prod(sizes) != n_features:
        raise ValueError(f"shape {sizes} has {math.prod(sizes)} numbers, but {what} has {n_features} features")
    if len(sizes) == 3 and not {sizes[0], sizes[2]} & set(_CHANNELS):
        raise ValueError(f"shape {sizes} has {sizes[2]} channels; an image has 1, 3 or 4")
    return sizes


def rows_as_images(X: Any, rows: npt.NDArray[np.int64], shape: Sequence[int] | None = None) -> npt.NDArray[Any]:
    """Return some rows of X as images (k, height, width), or (k, height, width, channels).

    Parameters
    ----------
    X : (n, I) array_like, table, or sparse matrix; or images (n, height, width), or with channels
    rows : (k,) array
    shape : sequence of int or None
        See `image_shape`.

    Raises
    ------
    TypeError, ValueError
        If the rows are not images.
    """
    taken = take_rows(X, rows)
    if taken.dtype.kind not in "fiub":
        raise TypeError(f"X holds values of dtype {taken.dtype}, not numbers; images need pixels")
    if taken.ndim < 2:
        raise ValueError(f"X must have two dimensions (rows, features), but its shape is {np.shape(X)}")
    if taken.ndim > 2 and shape is None:
        shape = taken.shape[1:]
    n_features = math.prod(taken.shape[1:])
    sizes = image_shape(n_features, shape, column_names(X))
    return as_images(taken.reshape(len(taken), n_features), sizes)


def as_images(rows: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return rows (k, I) as images, the channels last; one channel is dropped."""
    images = rows.reshape(len(rows), *shape)
    if len(shape) == 3 and shape[2] not in _CHANNELS:  # (channels, height, width), as PyTorch has them
        images = images.transpose(0, 2, 3, 1)
    return images[..., 0] if images.ndim == 4 and images.shape[-1] == 1 else images


def take_rows(X: Any, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Return some rows as an array. Nothing else of X is copied."""
    if hasattr(X, "iloc"):
        return np.asarray(X.iloc[rows])
    if hasattr(X, "tocsr"):
        return np.asarray(X.tocsr()[rows].toarray())
    if hasattr(X, "to_numpy"):  # polars
        return np.asarray(X[rows].to_numpy())
    return np.asarray(np.asarray(X)[rows])


def evenly(n_rows: int, most: int) -> npt.NDArray[np.int64]:
    """Return the positions of evenly spaced rows, all if there are few."""
    return np.unique(np.linspace(0, n_rows - 1, min(n_rows, most)).astype(np.int64))


def tiled(images: npt.NDArray[Any], columns: int, gap: tuple[int, int] = (1, 1)) -> npt.NDArray[np.float32]:
    """Return one image of all, in rows of `columns`; what lies between them is nan.

    Parameters
    ----------
    images : (k, height, width) or (k, height, width, channels) array
    columns : int
    gap : (int, int)
        Pixels above each row of images, and to the left of each column but the first.

    Returns
    -------
    array (rows * (height + gap[0]), columns * (width + gap[1]) - gap[1]) or with channels, float32
    """
    k, height, width = images.shape[:3]
    n_rows = -(-k // columns)
    page = np.full((n_rows, height + gap[0], columns, width + gap[1], *images.shape[3:]), np.nan, np.float32)
    for i, image in enumerate(images):
        page[i // columns, gap[0] :, i % columns, :width] = image
    whole = page.reshape(n_rows * (height + gap[0]), columns * (width + gap[1]), *images.shape[3:])
    return whole[:, : whole.shape[1] - gap[1]]

"""What the images of X are like: their shape, what is paper and what is ink, and where drawings go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.plots.images import as_images, image_shape

__all__ = ["Image", "find_images"]

_INK = 0.25  # what is part of a drawing, between paper at 0 and ink at 1; web/ink.js has the same
_LEAST = 0.1  # of the numbers of X that are paper, if it is to be images


@dataclass(frozen=True)
class Image:
    """What the images of a data set are like.

    Attributes
    ----------
    shape : tuple of int
        (height, width), or with channels.
    low, high : float
        Values of paper and ink; ink may be the smaller one.
    fit : float
        Side of the box that drawings fill: 20 for MNIST.
    centre : (float, float)
        Where the centre of mass is, from the left and from the top.
    """

    shape: tuple[int, ...]
    low: float
    high: float
    fit: float
    centre: tuple[float, float]

    @property
    def channels(self) -> int:
        """How many numbers a pixel has."""
        return 1 if len(self.shape) == 2 else int(min(self.shape[0], self.shape[2]))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = as_images(np.zeros((1, math.prod(self.shape))), self.shape).shape[1:3]
        return height, width

    def levels(self, rows: Floats) -> npt.NDArray[np.uint8]:
        """Return rows (k, I) as images of numbers from 0, paper, to 255, ink; of colours, as they are."""
        low, high = (self.low, self.high) if self.channels == 1 else sorted((self.low, self.high))
        share = (np.asarray(rows, np.float64) - low) / ((high - low) or 1)
        return as_images(np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8), self.shape)

    def in_page(self) -> dict[str, Any]:
        """Return what the page needs to know."""
        (height, width), (x, y) = self.size, self.centre
        known = {"height": height, "width": width, "channels": self.channels, "low": self.low, "high": self.high}
        return known | {"fit": self.fit, "centre": [x, y]}


def find_images(
    rows: Floats | None, n_features: int, shape: Sequence[int] | None, names: Sequence[str] | None
) -> Image | None:
    """Return what some rows (n, I) of X are like as images, or None if X holds no images.

    Raises
    ------
    TypeError, ValueError
        If the shape is given and wrong.
    """
    try:
        sizes = image_shape(n_features, shape, names)
    except ValueError:
        if shape is not None:
            raise
        return None
    if rows is None or not np.isfinite(rows).all():
        return None
    values, counts = np.unique(rows, return_counts=True)
    low, high = float(values[0]), float(values[-1])
    if shape is None and low < 0 and counts.max() < _LEAST * rows.size:
        return None  # numbers of a table that happen to be as many as the pixels of a square
    height, width = as_images(rows[:1], sizes).shape[1:3]
    image = Image(sizes, low, high, max(height, width), (width / 2, height / 2))
    if image.channels > 1:
        return image
    pixels = rows.reshape(-1, height, width)
    border = np.concatenate([pixels[:, [0, -1]].ravel(), pixels[:, :, [0, -1]].ravel()])
    if np.median(border) - low > high - np.median(border):
        low, high = high, low
    return _placed(pixels, Image(sizes, low, high, image.fit, image.centre))


def _placed(pixels: Floats, image: Image) -> Image:
    """Return `image` with the box and the centre of mass that most of these images have."""
    ink = (pixels - image.low) / ((image.high - image.low) or 1)
    ink = ink[(ink >= _INK).any(axis=(1, 2))]
    if not len(ink):
        return image
    sides = np.maximum(*(_extent(np.any(ink >= _INK, axis=axis)) for axis in (1, 2)))
    mass = ink.sum(axis=(1, 2))
    x, y = ((ink.sum(axis=axis) @ (np.arange(n) + 0.5) / mass) for axis, n in ((1, ink.shape[2]), (2, ink.shape[1])))
    return Image(image.shape, image.low, image.high, float(np.median(sides)), (float(x.mean()), float(y.mean())))


def _extent(taken: Any) -> npt.NDArray[np.int64]:
    """Return the distance from the first to the last True of each row, both included."""
    return np.asarray(taken.shape[1] - taken.argmax(axis=1) - taken[:, ::-1].argmax(axis=1))

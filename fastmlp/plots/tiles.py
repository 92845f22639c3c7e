"""Many images in one picture, with captions above them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.plots.colors import Colors, finite
from fastmlp.plots.images import tiled
from fastmlp.plots.text import INSIDE, PLAIN, shown, size_in_points

__all__ = ["draw_tiles", "fitting_columns", "page_size"]

_TILE, _WIDEST = 1.1, 12.0  # inches
_FONT, _LEAST_FONT = 8.5, 4.0  # points
_WIDTH = 0.56  # of a letter, relative to the size of the font


def page_size(n: int, shape: Sequence[int], n_lines: int) -> tuple[float, float]:
    """Return the size in inches of a figure with `n` images and so many lines above each."""
    height, width = shape[:2]
    columns = _n_columns(n)
    n_rows, tile = -(-max(n, 1) // columns), min(_TILE, _WIDEST / columns)
    font = _font(tile * 72)
    lines = n_lines * 1.3 * font / 72 if font >= _LEAST_FONT else 0.1 * tile
    return max(columns * tile, 3.2), max(n_rows * (tile * height / width + lines) + 0.4, 1.6)


def _n_columns(n: int) -> int:
    """Return in how many columns `n` images look best: on a wide page, and if possible with a full last row."""
    ideal = math.sqrt(2.5 * max(n, 1))
    choices = range(max(1, math.ceil(0.75 * ideal)), max(1, math.floor(1.3 * ideal)) + 1)
    return min(choices, key=lambda columns: (-n % columns, abs(columns - ideal))) if n > 5 else max(n, 1)


def fitting_columns(ax: Any, n: int, shape: Sequence[int], lines: float = 0.0) -> tuple[int, float]:
    """Return the number of columns that makes images largest, and points per pixel then.

    Parameters
    ----------
    ax : Axes
    n : int
        Number of images.
    shape : sequence of int
        Of an image.
    lines : float
        Points above each image.
    """
    (wide, high), (height, width) = size_in_points(ax), shape[:2]
    columns = np.arange(1, n + 1)
    rows = -(-n // columns)
    scales = np.maximum(np.minimum(wide / (columns * 1.08 * width), (high / rows - lines) / height), 0.0)
    best = int(scales.argmax())
    return best + 1, float(scales[best])


def draw_tiles(
    ax: Any, images: npt.NDArray[Any], captions: Sequence[Sequence[tuple[str, Any]]]
) -> tuple[Any, list[Any]]:
    """Draw images as large as they can be, and return the AxesImage and the texts.

    Parameters
    ----------
    ax : Axes
    images : (k, height, width) or (k, height, width, channels) array, k > 0
    captions : list of (str, color) for each image
        Its lines from top to bottom; they are shortened to the room there is, and left out if they would be too small.
    """
    k, height, width = images.shape[:3]
    n_lines = max(map(len, captions), default=0)
    ax.set_axis_off()
    font, lines = _FONT, 0.0
    for _ in range(3):  # the size of the images depends on that of the captions
        lines = n_lines * 1.3 * font
        columns, scale = fitting_columns(ax, k, (height, width), lines)
        font = _font(width * scale)
    readable = font >= _LEAST_FONT
    side = max(1, round(0.08 * width))
    above = max(side, math.ceil(lines / max(scale, 1e-9))) if readable and n_lines else side
    page = tiled(images, columns, (above, side))
    image = ax.imshow(_colored(page, images), cmap=Colors.of(ax).ink(images), interpolation="nearest")
    texts = []
    if readable:
        letters = int((width + side) * scale / (_WIDTH * font))
        for i, of_image in enumerate(captions):
            x, bottom = (i % columns) * (width + side) + width / 2 - 0.5, (i // columns + 1) * (height + above) - height
            for line, (caption, color) in enumerate(reversed(of_image)):
                y = bottom - 0.5 - (line + 0.12) * above / n_lines
                place = {"ha": "center", "va": "bottom", "fontsize": font, "color": color}
                texts.append(ax.text(x, y, shown(caption, letters), **place, **PLAIN, **INSIDE))
    return image, texts


def _font(width: float) -> float:
    """Return the size of the font above an image of this width, in points."""
    return min(_FONT, 0.16 * width)


def _colored(page: npt.NDArray[np.float32], images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return the page as imshow takes it: colours are scaled to 0..1, and transparent between the images."""
    if page.ndim == 2:
        return page
    pixels = finite(images)
    low, high = float(pixels.min()), float(pixels.max())
    if low >= 0 and high <= 255:
        low, high = 0.0, 1.0 if high <= 1 else 255.0
    scaled = np.clip((page - low) / (high - low or 1.0), 0, 1)
    alpha = np.where(np.isnan(scaled[..., :1]), 0, scaled[..., 3:] if scaled.shape[2] == 4 else 1)
    return np.concatenate([np.nan_to_num(scaled[..., :3]), alpha], axis=2).astype(np.float32)

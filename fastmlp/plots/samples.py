"""`samples`: images from the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.plots.colors import Colors
from fastmlp.plots.display import Display, check_axes
from fastmlp.plots.images import rows_as_images
from fastmlp.plots.tiles import draw_tiles, page_size
from fastmlp.validation.calls import advised
from fastmlp.validation.frames import is_frame
from fastmlp.validation.settings import check_int

__all__ = ["SamplesDisplay", "samples"]


@dataclass(eq=False, repr=False)
class SamplesDisplay(Display):
    """Images of some rows, with their classes.

    Attributes
    ----------
    rows : (k,) int array
        Indices of the rows in X.
    images : (k, height, width) or (k, height, width, channels) array
        The images.
    labels : list
        Class or number of each image; empty without y.
    im_ : AxesImage
        One picture of all images.
    text_ : list of Text
        The captions.
    ax_, figure_ : Axes, Figure
        Where the plot was drawn last.
    """

    rows: npt.NDArray[np.int64]
    images: npt.NDArray[Any]
    labels: list[Any]

    @property
    def _size(self) -> tuple[float, float]:
        return page_size(len(self.rows), self.images.shape[1:3], bool(self.labels))

    def _draw(self, ax: Any) -> None:
        color = Colors.of(ax).text
        captions = [[(_caption(label), color)] for label in self.labels]
        self.im_, self.text_ = draw_tiles(ax, self.images, captions)


@advised
def samples(
    X: Any, y: npt.ArrayLike | None = None, n: int = 10, shape: Sequence[int] | None = None, *, ax: Any = None
) -> SamplesDisplay:
    """Plot the first images of each class, one class after the other in turn.

    Parameters
    ----------
    X : (n_rows, I) array_like, table or sparse matrix; or images (n_rows, height, width), or with channels
    y : (n_rows,) or one-hot (n_rows, C) array_like, or None, default=None
        Classes. Without y, or if y holds numbers other than classes, the first rows are shown.
    n : int, default=10
        Number of images.
    shape : (height, width), (height, width, channels), (channels, height, width) or None, default=None
        Shape of the images. None is a grayscale square.
    ax : matplotlib Axes, None or False, default=None
        Where to draw. None makes a new pyplot figure; with False, nothing is drawn yet.

    Returns
    -------
    SamplesDisplay
        The plot, drawn unless ``ax=False``.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong, or the rows are not images.
    """
    n = check_int("n", n, 1)
    check_axes(ax)
    n_rows = X.shape[0] if hasattr(X, "shape") else len(X)
    if n_rows == 0:
        raise ValueError("X is empty")
    labels = None if y is None else _labels(y, n_rows)
    rows = np.arange(min(n, n_rows)) if labels is None else _in_turns(labels, n)
    images = rows_as_images(X, rows, shape)
    return SamplesDisplay(rows, images, [] if labels is None else labels[rows].tolist()).plot(ax)


def _labels(y: Any, n_rows: int) -> npt.NDArray[Any]:
    """Return the class or the number of each row, (n,)."""
    labels: npt.NDArray[Any]
    if is_frame(y) and len(y.columns) > 1:
        labels = np.array(list(y.columns))[np.asarray(y).argmax(axis=1)]
    else:
        labels = np.asarray(y)
        if labels.ndim == 2:
            labels = labels[:, 0] if labels.shape[1] == 1 else labels.argmax(axis=1)
    if labels.shape != (n_rows,):
        raise ValueError(f"y must hold a class for each of the {n_rows} rows of X, but its shape is {np.shape(y)}")
    return labels


def _in_turns(labels: npt.NDArray[Any], n: int) -> npt.NDArray[np.int64]:
    """Return the first row of each class, then the second of each, and so on, `n` rows in all."""
    if labels.dtype.kind == "f" and not (labels == np.round(labels)).all():
        return np.arange(min(n, len(labels)))
    if labels.dtype == object:
        labels = labels.astype(str)
    codes, counts = np.unique(labels, return_inverse=True, return_counts=True)[1:]
    order = np.argsort(codes, kind="stable")
    turn = np.empty(len(labels), np.int64)
    turn[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.asarray(np.lexsort((codes, turn))[:n])


def _caption(label: Any) -> str:
    return f"{label:.4g}" if isinstance(label, float) else str(label)

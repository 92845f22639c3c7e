"""`confusion_matrix`: true and predicted classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastmlp.mistakes import Confusion, confusions
from fastmlp.plots.colors import Colors
from fastmlp.plots.display import Display, check_axes
from fastmlp.plots.subject import Subject
from fastmlp.plots.text import INSIDE, PLAIN, shown, size_in_points, ticks
from fastmlp.validation.calls import advised
from fastmlp.validation.settings import check_choice, check_int

__all__ = ["ConfusionMatrixDisplay", "confusion_matrix"]

_MOST_WITH_NUMBERS = 25  # classes
_FONT, _LEAST_FONT = 8.3, 4.0  # points, of the words and of the smallest numbers


@dataclass(eq=False, repr=False)
class ConfusionMatrixDisplay(Display):
    """Confusion matrix, with a color scale of its own for the diagonal, so that rare mistakes can be seen.

    Attributes
    ----------
    confusion_matrix : (C, C) array
        Number of rows of class i that are predicted as class j, or what `normalize` makes of it.
    display_labels : list of str
        Names of the classes.
    normalize : {"true", "pred", "all"} or None
    top : list of Confusion(true, predicted, n_rows)
        The most common confusions, as of `MLP.most_confused`.
    words : list of str
        The same in words. They are drawn if there is room beside the matrix.
    n_rows : int
        Number of rows.
    accuracy : float
        Accuracy of the predictions.
    im_, diagonal_ : AxesImage
        The cells off the diagonal, and those on it.
    text_ : (C, C) array of Text or None
        The numbers in the cells, if there are at most 25 classes and they can be read; None in cells that are 0.
    ax_, figure_ : Axes, Figure
    """

    confusion_matrix: npt.NDArray[Any]
    display_labels: list[str]
    normalize: str | None
    top: list[Confusion]
    words: list[str]
    n_rows: int
    accuracy: float

    @property
    def _size(self) -> tuple[float, float]:
        n = len(self.display_labels)
        side = min(max(1.8 + 0.42 * min(n, 12) + 0.28 * max(n - 12, 0), 3.2), 13.0)
        longest = max((len(line) for line in self.words), default=0)
        return side + 0.6 + 0.08 * longest, side + 0.2

    def _draw(self, ax: Any) -> None:
        colors, cells, size = Colors.of(ax), self.confusion_matrix, size_in_points(ax)
        diagonal = np.eye(len(cells), dtype=bool)
        layers = []
        for name, hidden in (("wrong", diagonal), ("right", ~diagonal)):
            visible = np.ma.masked_array(cells, hidden)
            most = float(visible.max()) if visible.count() else 0.0
            layers.append(ax.imshow(visible, cmap=colors.sequential(name), vmin=0, vmax=most or 1.0))
        self.im_, self.diagonal_ = layers
        self.text_ = np.full(cells.shape, None, object)
        if len(cells) <= _MOST_WITH_NUMBERS:
            self._number(ax, colors, min(size) / len(cells))
        else:
            place = {"location": "bottom" if self._have_room(ax, size) else "right", "shrink": 0.5, "aspect": 30}
            ax.figure.colorbar(self.im_, ax=ax, pad=0.02, label=self._counted, **place)
        ax.set_anchor("W")
        ticks(ax, self.display_labels, min(size))
        ax.set(xlabel="predicted class", ylabel="true class")
        ax.set_title(f"{self.accuracy:.2%} of {self.n_rows:,} rows right", fontsize="medium", **PLAIN)
        if self._have_room(ax, size):
            words = "\n".join(["Most common confusions", *self.words])
            style = {"transform": ax.transAxes, "va": "top", "fontsize": _FONT, "linespacing": 1.6}
            ax.text(1.03, 1, words, **style, **PLAIN)

    def _have_room(self, ax: Any, size: tuple[float, float]) -> bool:
        """Return whether there are words, and room for them beside the matrix, in Axes of this size."""
        if not self.words:
            return False
        width = 0.58 * _FONT * max(map(len, self.words))
        if ax.figure.get_layout_engine() is not None:  # makes the matrix smaller
            return width < 0.6 * size[0]
        return width < size[0] - size[1]

    def _number(self, ax: Any, colors: Colors, room: float) -> None:
        """Write the number into each cell that is not 0, if it can be read in a cell of so many points."""
        form = "{:,}" if self.normalize is None else "{:.1%}"
        longest = max(len(form.format(value)) for value in self.confusion_matrix.ravel().tolist())
        font = min(9.0, room / (0.7 * longest))
        if font < _LEAST_FONT:
            return
        for i, j in np.argwhere(self.confusion_matrix):
            layer, value = self.diagonal_ if i == j else self.im_, self.confusion_matrix[i, j]
            style = {
                "ha": "center",
                "va": "center",
                "fontsize": font,
                "color": colors.on(layer.cmap(layer.norm(value))),
            }
            self.text_[i, j] = ax.text(j, i, form.format(value), **style, **PLAIN, **INSIDE)

    @property
    def _counted(self) -> str:
        parts = {None: "rows", "true": "share of the true class", "pred": "share of the predicted class"}
        return f"confusions: {parts.get(self.normalize, 'share of all rows')}"


@advised
def confusion_matrix(
    net: Any,
    X: Any,
    y: npt.ArrayLike,
    normalize: Literal["true", "pred", "all"] | None = None,
    top: int = 5,
    *,
    display_labels: Sequence[Any] | None = None,
    ax: Any = None,
) -> ConfusionMatrixDisplay:
    """Plot the confusion matrix, and the most common confusions in words.

    Parameters
    ----------
    net : MLP, Ensemble, estimator, or pipeline that ends in one
        The trained model.
    X, y : array_like
        Rows and their true classes, as for `MLP.score`.
    normalize : {"true", "pred", "all"} or None, default=None
        Whether to normalize over the true classes (rows), the predicted classes (columns) or all rows of X.
    top : int, default=5
        Maximum number of confusions to list.
    display_labels : sequence of C names or None, default=None
        Class names to show in place of those in y.
    ax : matplotlib Axes, None or False, default=None
        Where to draw. None makes a new pyplot figure; with False, nothing is drawn yet.

    Returns
    -------
    ConfusionMatrixDisplay
        The plot, drawn unless ``ax=False``.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong, or the model predicts several labels or numbers.
    """
    if normalize is not None:
        normalize = check_choice(  # type: ignore[assignment]
            "normalize", normalize, ("true", "pred", "all"), others=["None"]
        )
    top = check_int("top", top, 0)
    check_axes(ax)
    subject = Subject.of(net)
    if subject.task != "classes":
        raise TypeError(f"confusion_matrix needs rows of one class each; this model predicts {subject.task}")
    p = subject.predictions(X, y, display_labels)
    counts = count_pairs(p.true, p.predicted, len(p.classes))
    pairs = confusions(p.true, p.predicted, top) if top else []
    named = [Confusion(p.classes[i].item(), p.classes[j].item(), n) for i, j, n in pairs]
    words = [in_words(p.names[i], p.names[j], n, int(counts[i].sum())) for i, j, n in pairs]
    display = ConfusionMatrixDisplay(
        normalized(counts, normalize), p.names, normalize, named, words, len(p.true), float(p.right.mean())
    )
    return display.plot(ax)


def count_pairs(true: npt.NDArray[Any], predicted: npt.NDArray[Any], n_classes: int) -> npt.NDArray[np.int64]:
    """Return the confusion matrix (C, C) of the classes (n,), rows for what is true."""
    counts = np.bincount(true * np.int64(n_classes) + predicted, minlength=n_classes**2)
    return counts.astype(np.int64).reshape(n_classes, n_classes)


def normalized(counts: npt.NDArray[np.int64], normalize: str | None) -> npt.NDArray[Any]:
    """Return the confusion matrix divided by sums; 0 / 0 is 0."""
    if normalize is None:
        return counts
    axis = {"true": 1, "pred": 0, "all": None}[normalize]
    total = counts.sum(axis=axis, keepdims=True)
    return np.asarray(counts / np.maximum(total, 1))


def in_words(true: str, predicted: str, n_rows: int, n_true: int) -> str:
    """Return a sentence about rows of one class that are predicted as another."""
    return f"{shown(true)} taken for {shown(predicted)}: {n_rows:,} of {n_true:,} ({n_rows / n_true:.1%})"

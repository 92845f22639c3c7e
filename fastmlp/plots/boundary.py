"""`decision_boundary`: what a model predicts for each point of a plane."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.plots.colors import Colors, class_colors, finite
from fastmlp.plots.display import Display, check_axes
from fastmlp.plots.images import evenly
from fastmlp.plots.plane import Plane
from fastmlp.plots.subject import Subject
from fastmlp.plots.text import INSIDE, PLAIN, label_set, legend, shown, size_in_points
from fastmlp.validation.calls import advised
from fastmlp.validation.settings import check_int, check_number

__all__ = ["DecisionBoundaryDisplay", "decision_boundary"]

_MOST_POINTS = 2000  # more would cover the picture
_MOST_IN_LEGEND = 10  # classes
_FONT = 7  # points, of names on regions


@dataclass(eq=False, repr=False)
class DecisionBoundaryDisplay(Display):
    """Decision boundary: the predictions of a model in the plane of two features, and rows of X as points.

    Attributes
    ----------
    xx0, xx1 : (k, k) float64 arrays
        The two features at each point of a grid.
    response : (k, k) array
        Prediction at each point: the index of a class, or of a set of labels, in `display_labels`; or a number.
    probability : (k, k) array or None
        Probability of the predicted class.
    display_labels : list of str
        Names of the classes, or of the sets of labels that are predicted or true somewhere. Empty for regression.
    feature_names : (str, str)
    points : (m, 2) array
        The two features of the rows that are shown: at most 2,000, spread evenly over X.
    targets : (m,) array
        True targets of these rows, in the form of `response`.
    surface_, points_ : AxesImage, PathCollection
    labels_ : Legend, list of Text, or Colorbar
        Legend, or names on the regions if there are more than ten classes, or color bar for regression.
    ax_, figure_ : Axes, Figure
    """

    xx0: npt.NDArray[np.float64]
    xx1: npt.NDArray[np.float64]
    response: npt.NDArray[Any]
    probability: Any
    display_labels: list[str]
    feature_names: tuple[str, str]
    points: npt.NDArray[Any]
    targets: npt.NDArray[Any]

    @property
    def _size(self) -> tuple[float, float]:
        return 5.6, 4.4

    def _draw(self, ax: Any) -> None:
        colors = Colors.of(ax)
        edges = [float(edge) for xx in (self.xx0, self.xx1) for edge in (xx.min(), xx.max())]
        settings = {"extent": edges, "origin": "lower", "aspect": "auto", "interpolation": "nearest"}
        edge = {
            "edgecolors": [colors.background],
            "linewidths": 0.6,
            "s": float(np.clip(1000 / len(self.points) ** 0.7, 12, 90)),
        }
        if len(self.display_labels) > _MOST_IN_LEGEND:
            edge |= {"s": 5, "linewidths": 0.2}
        if self.display_labels:
            palette = class_colors(len(self.display_labels))
            self.surface_ = ax.imshow(self._shaded(palette, colors), **settings)
            self._draw_lines(ax, colors)
            self.points_ = ax.scatter(*self.points.T, c=palette[self.targets], zorder=3, **edge)
            self.labels_ = self._name(ax, palette, colors)
        else:
            both = finite(np.concatenate([self.response.ravel(), self.targets]))
            scale = {"cmap": "cividis", "vmin": both.min(), "vmax": both.max()}
            self.surface_ = ax.imshow(self.response, **scale, **settings)
            self.points_ = ax.scatter(*self.points.T, c=self.targets, zorder=3, **scale, **edge)
            self.labels_ = ax.figure.colorbar(self.surface_, ax=ax, label="prediction; points: y")
        ax.set_xlabel(shown(self.feature_names[0]), **PLAIN)
        ax.set_ylabel(shown(self.feature_names[1]), **PLAIN)

    def _shaded(self, palette: npt.NDArray[Any], colors: Colors) -> npt.NDArray[Any]:
        """Return RGB (k, k, 3): the color of the class, the paler the less probable it is."""
        sure = np.full(self.response.shape, 0.5)
        if self.probability is not None:
            least = 1 / max(len(self.display_labels), 2)
            sure = 0.15 + 0.45 * np.clip((self.probability - least) / (1 - least), 0, 1)
        shaded = np.asarray(colors.background) * (1 - sure[..., None]) + palette[self.response] * sure[..., None]
        return np.asarray(np.clip(shaded, 0, 1))

    def _draw_lines(self, ax: Any, colors: Colors) -> None:
        """Draw a line around each class."""
        style = {"colors": [colors.text], "linewidths": 0.8, "alpha": 0.7}
        for code in np.unique(self.response)[1 if len(np.unique(self.response)) == 2 else 0 :]:
            mask = (self.response == code).astype(float)
            if 0 < mask.mean() < 1:
                ax.contour(self.xx0, self.xx1, mask, levels=[0.5], **style)

    def _name(self, ax: Any, palette: npt.NDArray[Any], colors: Colors) -> Any:
        """Write the names of classes into a legend; many classes have theirs on their regions."""
        if len(self.display_labels) <= _MOST_IN_LEGEND:
            places = [ax.scatter([], [], color=[color], s=30) for color in palette]
            return legend(
                ax, places, self.display_labels, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False,
            )  # fmt: skip
        box = {"facecolor": colors.background, "alpha": 0.75, "linewidth": 0, "pad": 1.0}
        style = {"ha": "center", "va": "center", "fontsize": _FONT, "bbox": box, "clip_on": True, "zorder": 4}
        return [
            ax.text(*place, name, **style, **PLAIN, **INSIDE) for place, name in self._on_regions(size_in_points(ax))
        ]

    def _on_regions(self, size: tuple[float, float]) -> Iterator[tuple[tuple[float, float], str]]:
        """Yield place and name of the classes of the largest regions, as many as do not cover each other."""
        codes, counts = np.unique(self.response, return_counts=True)
        k = len(self.response)
        boxes: list[tuple[float, float, float]] = []
        for code in codes[np.argsort(-counts, kind="stable")].tolist():
            rows, columns = np.nonzero(self.response == code)
            inner = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
            row, column = rows[inner], columns[inner]
            name = shown(self.display_labels[code], 16)
            x, y = column / k * size[0], row / k * size[1]
            half = 0.3 * _FONT * len(name) + 2
            if not half < x < size[0] - half:
                continue
            if all(abs(x - a) > half + b or abs(y - c) > 1.6 * _FONT for a, b, c in boxes):
                boxes.append((x, half, y))
                yield (self.xx0[row, column], self.xx1[row, column]), name


@advised
def decision_boundary(
    net: Any,
    X: Any,
    y: npt.ArrayLike,
    features: Sequence[int | str] | None = None,
    *,
    fixed: Mapping[Any, Any] | None = None,
    grid_resolution: int = 200,
    eps: float | None = None,
    display_labels: Sequence[Any] | None = None,
    ax: Any = None,
) -> DecisionBoundaryDisplay:
    """Plot the predictions of a model in the plane of two features, with the rows of X as points.

    Each class has a color, which is paler where the class is less probable. For regression, colors show numbers.

    Parameters
    ----------
    net : MLP, Ensemble, estimator, or pipeline that ends in one
        The trained model.
    X : (n, I) array_like or table
        Rows that set the range of the plane, and are shown in it.
    y : array_like
        True targets, as for `MLP.score`.
    features : two integers or names of columns, or None, default=None
        The two features to plot. None requires that X has only two.
    fixed : mapping of integers or names to values, or None, default=None
        Values of the other features. By default these are the median, or the most frequent value if a feature is not
        numeric.
    grid_resolution : int, default=200
        Number of grid points in each direction.
    eps : float or None, default=None
        Margin of the plane around the rows of X. None is 8 % of their range.
    display_labels : sequence of C names or None, default=None
        Class names to show in place of those in y.
    ax : matplotlib Axes, None or False, default=None
        Where to draw. None makes a new pyplot figure; with False, nothing is drawn yet.

    Returns
    -------
    DecisionBoundaryDisplay
        The plot, drawn unless ``ax=False``.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong, or the model predicts several numbers.
    """
    k = check_int("grid_resolution", grid_resolution, 2)
    eps = None if eps is None else check_number("eps", eps)
    check_axes(ax)
    subject = Subject.of(net)
    plane = Plane.of(X, features, fixed)
    rows = evenly(len(plane.columns[0]), _MOST_POINTS)
    known = subject.predictions(X, y, display_labels)
    if known.task == "numbers" and known.predicted.ndim > 1:
        raise TypeError(f"decision_boundary shows one number; this model predicts {known.predicted.shape[1]}")
    xx0, xx1 = plane.grid(k, eps)
    response, probability = _predicted(subject, plane, xx0, xx1)
    targets, labels = known.true[rows], known.names
    if known.task == "labels":
        response, targets, labels = _as_sets(response, targets, labels)
    points = np.stack([plane.columns[0][rows], plane.columns[1][rows]], axis=1)
    response = response.reshape(k, k)
    probability = None if probability is None else probability.reshape(k, k)
    display = DecisionBoundaryDisplay(xx0, xx1, response, probability, labels, plane.names, points, targets)
    return display.plot(ax)


def _predicted(
    subject: Subject, plane: Plane, xx0: npt.NDArray[Any], xx1: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], Any]:
    """Return what is predicted for the points of a grid, and the probability of each class."""
    parts = [subject.answers(rows) for rows in plane.rows(xx0.ravel(), xx1.ravel())]
    predicted = np.concatenate([part.predicted for part in parts])
    if parts[0].task != "classes" or parts[0].probabilities is None:
        return predicted, None
    return predicted, np.concatenate([part.confidence for part in parts])


def _as_sets(
    response: npt.NDArray[Any], targets: npt.NDArray[Any], names: list[str]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], list[str]]:
    """Return rows of labels as numbers of sets, and the names of the sets."""
    sets, codes = np.unique(np.concatenate([response, targets]), axis=0, return_inverse=True)
    codes = codes.ravel()
    return codes[: len(response)], codes[len(response) :], [label_set(row, names) for row in sets]

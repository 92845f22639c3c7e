"""`weights`: the weights of a layer, as images or as a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.plots.colors import Colors, finite
from fastmlp.plots.display import Display, check_axes
from fastmlp.plots.images import as_images, image_shape, tiled
from fastmlp.plots.subject import Subject
from fastmlp.plots.text import PLAIN, shown
from fastmlp.plots.tiles import fitting_columns, page_size
from fastmlp.validation.calls import advised
from fastmlp.validation.settings import check_index, check_int

__all__ = ["WeightsDisplay", "weights"]

_MOST_UNITS = 400  # more would be a few pixels each
_MOST_NAMES = 60  # below a matrix


@dataclass(eq=False, repr=False)
class WeightsDisplay(Display):
    """The weights of a layer, as an image for each unit, or as a matrix.

    Attributes
    ----------
    weights : (I, k) array
        A column for each unit that is shown.
    images : (k, height, width) or (k, height, width, channels) array, or None
        The same as images; None if they are shown as a matrix.
    layer, n_units : int
        The layer, and how many units it has.
    member, n_networks : int
        Which network it is, and of how many.
    feature_names : list of str or None
        Names of the inputs of the first layer, if X was a table.
    limit : float
        Absolute weight from which on the color is saturated; 99.7 % of the weights are below.
    im_ : AxesImage
        One picture of all units. Color images are shown as the mean over their channels.
    colorbar_ : Colorbar
    ax_, figure_ : Axes, Figure
    """

    weights: npt.NDArray[Any]
    images: Any
    layer: int
    n_units: int
    member: int
    n_networks: int
    feature_names: list[str] | None = None

    @property
    def limit(self) -> float:
        """Absolute weight from which on the color is saturated."""
        return float(np.quantile(np.abs(finite(self.weights)), 0.997)) or 1.0

    @property
    def _size(self) -> tuple[float, float]:
        n_inputs, k = self.weights.shape
        if self.images is None:
            width, height = min(2.5 + 0.06 * n_inputs, 10.0), min(1.6 + 0.1 * k, 8.0)
            return (max(width, 2 + 0.2 * n_inputs), height + 1) if self._names else (width, height)
        width, height = page_size(k, self.images.shape[1:3], 0)
        return width + 0.9, height

    @property
    def _names(self) -> list[str]:
        """Names below the matrix."""
        names = self.feature_names or []
        return [shown(name) for name in names] if len(names) <= _MOST_NAMES else []

    def _draw(self, ax: Any) -> None:
        colors, k = Colors.of(ax), self.weights.shape[1]
        scale = {"cmap": colors.diverging(), "vmin": -self.limit, "vmax": self.limit, "interpolation": "nearest"}
        if self.images is None:
            self.im_ = ax.imshow(self.weights.T, aspect="auto", **scale)
            ax.set(xlabel=f"input of layer {self.layer}", ylabel="unit")
            for axis in (ax.xaxis, ax.yaxis):
                axis.get_major_locator().set_params(integer=True)
            if self._names:
                ax.set_xticks(range(len(self._names)), self._names, rotation=90, fontsize="small", **PLAIN)
                ax.set_xlabel("")
        else:
            images = self.images if self.images.ndim == 3 else self.images.mean(axis=3)
            columns, _ = fitting_columns(ax, k, images.shape[1:])
            gap = max(1, round(0.06 * images.shape[2]))
            self.im_ = ax.imshow(tiled(images, columns, (gap, gap))[gap:], **scale)
            ax.set_axis_off()
        of = f"all {k}" if k == self.n_units else f"{k} of {self.n_units}"
        network = f" (network {self.member} of {self.n_networks})" if self.n_networks > 1 else ""
        ax.set_title(f"weights of {of} units of layer {self.layer}{network}", fontsize="medium")
        self.colorbar_ = ax.figure.colorbar(self.im_, ax=ax, shrink=0.8, aspect=25, pad=0.02, extend="both")


@advised
def weights(
    net: Any,
    layer: int = 0,
    n: int | None = None,
    shape: Sequence[int] | str | None = None,
    *,
    member: int = 0,
    ax: Any = None,
) -> WeightsDisplay:
    """Plot the weights of a layer: in the first layer as an image for each unit, in others as a matrix.

    Parameters
    ----------
    net : MLP, Ensemble, estimator, or pipeline that ends in one
        The trained model.
    layer : int, default=0
        Index into `MLP.weights`; negative indices count from the last layer.
    n : int or None, default=None
        Number of units to plot, from the first. None is all, but at most 400.
    shape : (height, width), (height, width, channels), (channels, height, width), "matrix" or None, default=None
        Shape of the images, or "matrix". None is a grayscale square in the first layer and "matrix" in the others.
    member : int, default=0
        Index of the network in an ensemble, or in an estimator with `n_networks`.
    ax : matplotlib Axes, None or False, default=None
        Where to draw. None makes a new pyplot figure; with False, nothing is drawn yet.

    Returns
    -------
    WeightsDisplay
        The plot, drawn unless ``ax=False``.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong, the model is not from fastmlp, or `shape` is None and the inputs are not images.
    """
    check_axes(ax)
    subject = Subject.of(net)
    networks = subject.networks
    if not networks:
        raise TypeError(f"weights needs a model of fastmlp, not {type(subject.inner).__name__}")
    member = check_index("member", member, len(networks), "networks")
    chosen = networks[member].weights
    layer = check_index("layer", layer, len(chosen), "layers of weights")
    W = np.array(chosen[layer])
    n_inputs, n_units = W.shape
    W = W[:, : min(_MOST_UNITS, n_units) if n is None else check_int("n", n, 1)]
    if shape is None and layer > 0:
        shape = "matrix"
    changed = layer == 0 and subject.n_features not in (None, n_inputs)
    names = None if changed or layer else subject.feature_names
    images = None
    if not (isinstance(shape, str) and shape == "matrix"):
        if changed and shape is None:
            raise ValueError(
                f"the pipeline makes {n_inputs} inputs of {subject.n_features} features, so they are not images; "
                'give shape=(height, width), or shape="matrix"'
            )
        try:
            images = as_images(W.T, image_shape(n_inputs, shape, names, f"layer {layer}" if layer else "X"))  # type: ignore[arg-type]
        except ValueError as error:
            raise ValueError(f'{error}, or shape="matrix"' if shape is None else str(error)) from None
    return WeightsDisplay(W, images, layer, n_units, member, len(networks), names).plot(ax)

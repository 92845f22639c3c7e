"""Colors that the color-blind can tell apart, on light and dark backgrounds."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["CURVES", "PALETTE", "Colors", "class_colors", "finite"]

PALETTE = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
"""Ten colours for classes and curves (Petroff 2021, arXiv:2107.02270)."""

CURVES = (PALETTE[0], PALETTE[6])
"""Training and validation."""

_ON_LIGHT = {
    "right": "#08519c",
    "wrong": "#a63603",
    "low": "#1f5fa8",
    "high": "#b2182b",
    "good": "#08519c",
    "bad": "#a63603",
}
_ON_DARK = {
    "right": "#7ab8f5",
    "wrong": "#ffa94d",
    "low": "#6cb4ff",
    "high": "#ff8a65",
    "good": "#8ec5ff",
    "bad": "#ffb366",
}


_BETWEEN = (0.5, 0.5, 0.5, 0.35)  # images of weights
_BLANK = 0.3  # of the pixels of something written


class Colors(NamedTuple):
    """The colours of some Axes.

    Attributes
    ----------
    background, text : tuple of float
        RGB of the Axes and of their labels.
    is_dark : bool
        Whether the background is.
    """

    background: tuple[float, float, float]
    text: tuple[float, float, float]
    is_dark: bool

    @classmethod
    def of(cls, ax: Any) -> Colors:
        """Return those of these Axes, whatever style they have."""
        from matplotlib.colors import to_rgb, to_rgba

        below = [to_rgba(artist.get_facecolor()) for artist in (ax, ax.figure)]
        background = next((color[:3] for color in below if color[3] > 0.5), (1.0, 1.0, 1.0))
        return cls(background, to_rgb(ax.xaxis.label.get_color()), luminance(background) < 0.2)

    def named(self, name: str) -> str:
        """Return the colour for "right", "wrong", "low", "high", "good" or "bad" on this background."""
        return (_ON_DARK if self.is_dark else _ON_LIGHT)[name]

    def sequential(self, name: str) -> Any:
        """Return a colormap from the background to a named colour."""
        return _colormap([self.background, self.named(name)])

    def diverging(self) -> Any:
        """Return a colormap from blue over the background to red; nan is grey."""
        return _colormap([self.named("low"), self.background, self.named("high")]).with_extremes(bad=_BETWEEN)

    def ink(self, images: npt.NDArray[Any]) -> Any:
        """Return a colormap for grey images: written ones look as if they were on this page, photographs grey."""
        pixels = finite(images)
        written = np.quantile(pixels, _BLANK) == pixels.min()
        colormap = _colormap([self.background, self.text] if written else [(0.0, 0.0, 0.0), (1.0, 1.0, 1.0)])
        return colormap.with_extremes(bad=(0, 0, 0, 0))

    def on(self, color: Any) -> str:
        """Return black or white, whichever is easier to read on a colour."""
        return "black" if luminance(color) > 0.179 else "white"  # where both have the same contrast


def class_colors(n: int) -> npt.NDArray[np.float64]:
    """Return RGB (n, 3): one for each class."""
    from matplotlib import colormaps
    from matplotlib.colors import to_rgb

    if n <= len(PALETTE):
        return np.array([to_rgb(color) for color in PALETTE[:n]])
    shades = colormaps["turbo"](np.linspace(0.03, 0.97, n))[:, :3]
    step = next(step for step in (7, 3, 2, 1) if np.gcd(step, n) == 1)  # neighbours look different
    return np.asarray(shades[np.arange(n) * step % n])


def finite(numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the numbers, flat, that a scale of colours is made for: neither nan nor infinite; 0 if there are none."""
    kept = numbers[np.isfinite(numbers)]
    return kept if len(kept) else np.zeros(1)


def luminance(color: Any) -> float:
    """Return the relative luminance of an RGB colour, as WCAG defines it."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in color[:3]]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))


def _colormap(colors: list[Any]) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("fastmlp", colors)

"""`Display`: the data of a plot, which it draws into matplotlib Axes, as scikit-learn's displays do."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

from fastmlp.storage import written_whole
from fastmlp.validation.calls import advised_methods
from fastmlp.validation.settings import check_number, check_path

__all__ = ["Display", "check_axes", "new_axes"]

_SETTINGS = threading.Lock()  # of matplotlib, which all threads share: the first to be done must not restore another's
_MOST_PIXELS = 65_535  # on a side, as matplotlib has them
_DATES = {"svg": "Date", "pdf": "CreationDate", "ps": "CreationDate", "eps": "CreationDate"}


@advised_methods
class Display(ABC):
    """Base class of the displays, which hold the data of a plot and draw it.

    Attributes
    ----------
    ax_, figure_ : Axes, Figure
        Where the plot was drawn last.
    """

    ax_: Any
    figure_: Any

    def __repr__(self) -> str:
        """Return one line: a notebook shows it beside the picture."""
        return f"<{type(self).__name__}>"

    def plot(self, ax: Any = None) -> Self:
        """Draw the plot.

        Parameters
        ----------
        ax : matplotlib Axes, None or False, default=None
            Where to draw, without pyplot; of learning curves, only the loss is drawn there. None makes a new pyplot
            figure; with False, nothing is drawn.

        Returns
        -------
        Display
            This object.

        Raises
        ------
        TypeError
            If `ax` is not a matplotlib Axes.
        ImportError
            If matplotlib is not installed.
        """
        check_axes(ax)
        if ax is False:
            return self
        self._draw_all(new_axes(self._n_axes, self._size) if ax is None else [ax])
        return self

    def save(self, path: str | os.PathLike[str], *, dpi: float = 150) -> None:
        """Draw the plot into a file, without pyplot.

        The same data give the same bytes. An existing file is replaced as a whole or not at all.

        Parameters
        ----------
        path : str or path
            Name of the file. Its suffix determines the format, such as .png, .svg or .pdf.
        dpi : float, default=150
            Resolution in pixels per inch.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong, or matplotlib does not know the format.
        ImportError
            If matplotlib is not installed.
        """
        path, dpi = check_path(path), check_number("dpi", dpi, zero=False)
        try:
            from matplotlib import rc_context
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError(_MISSING) from error
        if dpi * max(self._size) > _MOST_PIXELS:
            raise ValueError(f"dpi {dpi:g} makes a picture of more than {_MOST_PIXELS:,} pixels on a side")
        form = os.path.splitext(path)[1][1:].lower()
        figure = Figure(figsize=self._size, layout="constrained")
        if form not in figure.canvas.get_supported_filetypes():
            raise ValueError(
                f"path {path!r} must end in the suffix of a format that matplotlib writes, such as .png or .svg"
            )
        self._draw_all(figure.subplots(1, self._n_axes, squeeze=False)[0])
        metadata = {_DATES[form]: None} if form in _DATES else None
        with _SETTINGS, rc_context({"svg.hashsalt": "fastmlp"}), written_whole(path) as file:
            figure.savefig(file, format=form, dpi=dpi, metadata=metadata)

    @property
    @abstractmethod
    def _size(self) -> tuple[float, float]:
        """Width and height of a figure of its own, in inches."""

    @abstractmethod
    def _draw(self, ax: Any) -> None:
        """Draw into these Axes, and keep the artists as attributes."""

    @property
    def _n_axes(self) -> int:
        """How many Axes a figure of its own has."""
        return 1

    def _draw_all(self, axes: Sequence[Any]) -> None:
        """Draw into all these Axes."""
        self._draw(axes[0])
        self.ax_, self.figure_ = axes[0], axes[0].figure


_MISSING = "plots need matplotlib: pip install 'fastmlp[plot]'"


def new_axes(n: int, size: tuple[float, float] | None = None) -> Any:
    """Return an array of `n` matplotlib Axes, side by side in a new figure of pyplot.

    `size` is that of the figure in inches, width first.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(_MISSING) from error
    _, axes = plt.subplots(1, n, figsize=size or (4.5 * n, 3.4), squeeze=False, layout="constrained")
    return axes[0]


def check_axes(ax: object) -> None:
    """Refuse what is no Axes."""
    if ax is not None and ax is not False and not (hasattr(ax, "imshow") and hasattr(ax, "transAxes")):
        hint = "; choose one of them: axes[0]" if hasattr(ax, "__len__") else ""
        raise TypeError(f"ax must be an Axes of matplotlib, not {type(ax).__name__}{hint}")
    kind = getattr(ax, "name", "")
    if kind in ("3d", "polar"):
        raise TypeError(f"ax must be an Axes with x and y, not {kind}")

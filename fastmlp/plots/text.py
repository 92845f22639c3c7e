"""Names of classes as text in pictures: any characters, and as many as there is room for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["INSIDE", "PLAIN", "label_set", "legend", "shown", "size_in_points", "ticks"]

INSIDE = {"in_layout": False}
"""Arguments of a text inside of its Axes, which constrained layout need not measure: that takes a millisecond."""

PLAIN = {"parse_math": False, "usetex": False}
"""Arguments of a text that is shown as it is: a dollar sign begins no formula."""

_LONGEST = 24
_WIDTH = 0.58  # of a letter, relative to the size of the font


def shown(name: str, longest: int = _LONGEST) -> str:
    """Return a name in one line of printable characters, shortened if it is longer than this."""
    name = "".join(letter if letter.isprintable() else " " for letter in name)
    return name if len(name) <= longest else name[: max(longest - 1, 1)].rstrip() + "…"


def label_set(labels: Iterable[int], names: Sequence[str]) -> str:
    """Return the names of the labels that are 1."""
    return ", ".join(name for label, name in zip(labels, names, strict=True) if label) or "none"


def size_in_points(ax: Any) -> tuple[float, float]:
    """Return width and height of Axes."""
    figure = ax.figure.canvas.figure  # of subfigures, the whole
    if figure.get_layout_engine() is not None:
        figure.get_layout_engine().execute(figure)
    box, scale = ax.get_window_extent(), 72 / ax.figure.dpi
    return box.width * scale, box.height * scale


def ticks(ax: Any, names: Sequence[str], side: float) -> None:
    """Label the ticks 0, 1, 2, ... of both axes with names, as many of them as can be read on `side` points."""
    room = side / len(names)
    fontsize = min(10.0, max(6.0, 0.8 * room))
    step = _step(math.ceil(1.2 * fontsize / room))
    places = range(0, len(names), step)
    labels = [shown(names[i]) for i in places]
    upright = max(map(len, labels)) * _WIDTH * fontsize > 0.9 * step * room
    ax.set_xticks(places, labels, rotation=90 if upright else 0, fontsize=fontsize, **PLAIN)
    ax.set_yticks(places, labels, fontsize=fontsize, **PLAIN)


def legend(ax: Any, artists: Sequence[Any], names: Sequence[str], **settings: Any) -> Any:
    """Add a legend with these names, also if they begin with the underscore that hides a name from legends."""
    box = ax.legend(artists, [str(i) for i in range(len(names))], **settings)
    for text, name in zip(box.get_texts(), names, strict=True):
        text.set(text=shown(name), **PLAIN)
    return box


def _step(least: int) -> int:
    """Return 1, 2, 5, 10, 20, ..., the first that is not below `least`."""
    power = 10 ** (len(str(least)) - 1)
    return int(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least))

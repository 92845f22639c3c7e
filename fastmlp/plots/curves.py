"""`learning_curves`: measurements of one fit or several, epoch by epoch."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastmlp.history import History
from fastmlp.plots.colors import CURVES, PALETTE, Colors
from fastmlp.plots.display import Display, check_axes
from fastmlp.plots.subject import Subject
from fastmlp.plots.text import PLAIN, legend, shown
from fastmlp.validation.calls import advised
from fastmlp.validation.settings import is_iterable

__all__ = ["LearningCurvesDisplay", "learning_curves"]

_NOT_SHOWN = ("learning_rate", "seconds")
_FEW = 30  # epochs, each of which gets a dot


@dataclass(eq=False, repr=False)
class LearningCurvesDisplay(Display):
    """Learning curves of training and validation, one panel for each measurement.

    Attributes
    ----------
    histories : list of History
        The histories.
    names : list of str
        Names of the histories.
    panels : list of str
        "loss", "accuracy" and further measurements of the histories, without the prefix "val".
    axes_ : array of Axes
        One for each panel that is drawn.
    lines_ : dict of (str, str) to Line2D
        By the name of the measurement, such as "val_loss", and the name of the history.
    ax_, figure_ : Axes, Figure
        The first Axes.
    """

    histories: list[History]
    names: list[str]

    @property
    def panels(self) -> list[str]:
        """Names of the measurements."""
        measured = [name for history in self.histories for name in history.to_dict() if name not in _NOT_SHOWN]
        return list(dict.fromkeys(name.removeprefix("val_") for name in measured))

    @property
    def _size(self) -> tuple[float, float]:
        return 4.5 * len(self.panels), 3.4

    @property
    def _n_axes(self) -> int:
        return len(self.panels)

    def _draw_all(self, axes: Sequence[Any]) -> None:
        self.axes_ = axes
        super()._draw_all(axes)
        for panel, ax in zip(self.panels[1:], axes[1:], strict=False):
            self._draw_panel(panel, ax)

    def _draw(self, ax: Any) -> None:
        self.lines_: dict[tuple[str, str], Any] = {}
        self._draw_panel(self.panels[0], ax)

    def _draw_panel(self, panel: str, ax: Any) -> None:
        names: dict[str, Any] = {}
        kinds: dict[str, Any] = {}
        several = len(self.histories) > 1
        by_color = several and len(self.histories) <= len(PALETTE)
        for i, (history, own) in enumerate(zip(self.histories, self.names, strict=True)):
            for name, rows, color in ((panel, "training", CURVES[0]), (f"val_{panel}", "validation", CURVES[1])):
                values = history.to_dict().get(name)
                if not values:
                    continue
                style: dict[str, Any] = {"marker": "." if len(values) < _FEW else "", "color": color}
                if by_color:
                    style |= {"color": PALETTE[i], "linestyle": "--" if rows == "training" else "-"}
                elif several:
                    style |= {"alpha": 0.35, "linewidth": 1, "marker": ""}
                (line,) = ax.plot(range(1, len(values) + 1), values, label=rows, **style)
                self.lines_[name, own] = line
                if by_color:
                    names[own] = line  # the last, which is solid if there is validation
                kinds.setdefault(rows, line)
        ax.set_xlabel("epoch")
        ax.set_ylabel(shown(panel.replace("_", " ")), **PLAIN)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(alpha=0.3)
        small = {"fontsize": "small"} if names else {}
        if len(kinds) == 1 and names:
            kinds = {}
        if names or kinds:
            box = legend(ax, [*names.values(), *kinds.values()], [*names, *kinds], frameon=False, **small)
            for i, line in enumerate(box.get_lines()):
                line.set_alpha(1)
                if i < len(names):
                    line.set_linestyle("-")
                elif names:
                    line.set_color(Colors.of(ax).text)


@advised
def learning_curves(histories: Any, *, ax: Any = None) -> LearningCurvesDisplay:
    """Plot learning curves: loss, accuracy and further metrics over the epochs.

    Parameters
    ----------
    histories : History, list of History, or mapping of names to History
        The result of `fit`, `fit_many` or `Ensemble.fit`. Networks, ensembles, estimators and pipelines may be given
        too, for their last fit.
    ax : matplotlib Axes, None or False, default=None
        Where to draw the loss, without other measurements. None makes a new pyplot figure with Axes for each
        measurement; with False, nothing is drawn yet.

    Returns
    -------
    LearningCurvesDisplay
        More than ten histories have the same colours.

    Raises
    ------
    TypeError
        If something else is given.
    ValueError
        If there is no history, or no epoch in any.
    """
    check_axes(ax)
    named: list[tuple[str, History]] = []
    if isinstance(histories, Mapping):
        for name, each in histories.items():
            found = _histories_of(each)
            named += [(str(name) if len(found) == 1 else f"{name} {i}", history) for i, history in enumerate(found)]
    else:
        is_list = is_iterable(histories) and not hasattr(histories, "fit")
        found = [history for each in (histories if is_list else [histories]) for history in _histories_of(each)]
        named = [(f"network {i}", history) for i, history in enumerate(found)]
    display = LearningCurvesDisplay([history for _, history in named], _different([name for name, _ in named]))
    if not display.panels:
        raise ValueError("there is no history; train first")
    return display.plot(ax)


def _different(names: list[str]) -> list[str]:
    """Return the names, those that were there before with a number: 1 and "1" are two curves."""
    found: dict[str, None] = {}
    for name in names:
        numbered = (name if i == 1 else f"{name} ({i})" for i in itertools.count(1))
        found[next(each for each in numbered if each not in found)] = None
    return list(found)


def _histories_of(each: Any) -> list[History]:
    if isinstance(each, History):
        return [each]
    if isinstance(each, type) or not hasattr(each, "fit"):
        raise TypeError(f"histories must be a History, which fit returns, or a list of them, not {each!r}")
    found = Subject.of(each).histories
    if not found:
        raise TypeError(f"{type(each).__name__} has no learning curve")
    return found

"""The pictures of ``fastmlp train --plot``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fastmlp.cli.output import tell

if TYPE_CHECKING:
    from fastmlp.plots import Display

__all__ = ["check_plots", "write_plots"]


def check_plots(folder: str) -> None:
    """Make the folder, and refuse what would fail after training: it cannot be made, or matplotlib is missing."""
    from fastmlp.storage import check_writable

    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError("--plot needs matplotlib: pip install 'fastmlp[plot]'") from error
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise ValueError(f"--plot {folder!r} is a file; give a folder")
    os.makedirs(folder, exist_ok=True)
    check_writable(os.path.join(folder, "learning_curves.png"))


def write_plots(folder: str, form: str, net: Any, x_test: Any, y_test: Any) -> None:
    """Write every picture that applies into a folder; `form` is the suffix."""
    names = []
    for name, display in _displays(net, x_test, y_test):
        display.save(os.path.join(folder, f"{name}.{form}"))
        names.append(name)
    tell(f"plotted into {folder}: {', '.join(names)}")


def _displays(net: Any, x_test: Any, y_test: Any) -> Iterator[tuple[str, Display]]:
    from fastmlp import plots
    from fastmlp.plots.images import image_shape

    if net.history.loss:  # unless Ctrl-C has ended the first epoch
        yield "learning_curves", plots.learning_curves(net.history, ax=False)
    yield "confusion_matrix", plots.confusion_matrix(net, x_test, y_test, ax=False)
    yield "calibration", plots.calibration(net, x_test, y_test, ax=False)
    if net.layers[0] == 2:
        yield "decision_boundary", plots.decision_boundary(net, x_test, y_test, ax=False)
    try:
        image_shape(net.layers[0])
    except ValueError:
        yield "weights", plots.weights(net, shape="matrix", ax=False)
        return
    yield "weights", plots.weights(net, ax=False)
    yield "samples", plots.samples(x_test, y_test, n=30, ax=False)
    yield "wrong_guesses", plots.wrong_guesses(net, x_test, y_test, ax=False)

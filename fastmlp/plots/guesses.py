"""`wrong_guesses`: the rows that a model predicts wrong, though it is sure of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.mistakes import Mistake, worst
from fastmlp.plots.colors import Colors
from fastmlp.plots.display import Display, check_axes
from fastmlp.plots.images import image_shape, rows_as_images
from fastmlp.plots.subject import Predictions, Subject
from fastmlp.plots.text import label_set
from fastmlp.plots.tiles import draw_tiles, page_size
from fastmlp.validation.calls import advised
from fastmlp.validation.settings import check_int

__all__ = ["WrongGuessesDisplay", "surest_mistakes", "wrong_guesses"]

_MOST_BESIDE = 4  # letters of a guess that are in one line with its probability


@dataclass(eq=False, repr=False)
class WrongGuessesDisplay(Display):
    """Images of rows that are predicted wrong, the most confident first.

    Attributes
    ----------
    mistakes : list of Mistake(row, true, predicted, probability)
        As of `MLP.wrong`. `probability` is that of the guess; for several labels, the smallest of those predicted.
    images : (k, height, width) or (k, height, width, channels) array
    labels, guesses : list of str
        Names of the classes, to be shown.
    probabilities : (k,) float64 array
    n_wrong, n_rows : int
        How many rows are wrong, and how many there are.
    im_ : AxesImage or None
        One picture of all images; None if there is no mistake.
    text_ : list of Text
    ax_, figure_ : Axes, Figure
    """

    mistakes: list[Mistake]
    images: npt.NDArray[Any]
    labels: list[str]
    guesses: list[str]
    n_wrong: int
    n_rows: int

    @property
    def probabilities(self) -> npt.NDArray[np.float64]:
        """Probability of each guess."""
        return np.array([mistake.probability for mistake in self.mistakes])

    @property
    def _size(self) -> tuple[float, float]:
        n = len(self.mistakes)
        return page_size(n, self.images.shape[1:3] if n else (1, 3), 3 if self._long else 2)

    @property
    def _long(self) -> bool:
        """Whether a guess and its probability need a line each."""
        return max(map(len, self.guesses), default=0) > _MOST_BESIDE

    def _draw(self, ax: Any) -> None:
        colors = Colors.of(ax)
        n = len(self.mistakes)
        self.im_: Any = None
        self.text_: list[Any] = []
        if n == 0:
            ax.set_axis_off()
            ax.text(0.5, 0.5, f"no wrong guess in {self.n_rows:,} rows", ha="center", transform=ax.transAxes)
            return
        captions = [
            [(label, colors.named("good")), *[(line, colors.named("bad")) for line in self._lines(guess, p)]]
            for label, guess, p in zip(self.labels, self.guesses, self.probabilities.tolist(), strict=True)
        ]
        self.im_, self.text_ = draw_tiles(ax, self.images, captions)
        which = f"the surest {n} of {self.n_wrong:,}" if n < self.n_wrong else f"all {n}"
        guesses = "wrong guesses" if self.n_wrong > 1 else "wrong guess"
        ax.set_title(f"{which} {guesses} in {self.n_rows:,} rows", fontsize="medium")

    def _lines(self, guess: str, p: float) -> list[str]:
        percent = f"{p:.1%}" if p < 0.9995 else "100%"
        return [f"→ {guess}", percent] if self._long else [f"→ {guess} {percent}"]


@advised
def wrong_guesses(
    net: Any,
    X: Any,
    y: npt.ArrayLike,
    n: int = 24,
    shape: Sequence[int] | None = None,
    *,
    display_labels: Sequence[Any] | None = None,
    ax: Any = None,
) -> WrongGuessesDisplay:
    """Plot the images that a model predicts wrong, those of the most probable guesses first.

    Above each image are its class, and the guess with its probability.

    Parameters
    ----------
    net : MLP, Ensemble, estimator, or pipeline that ends in one
    X, y
        As for `MLP.score`: images with their classes or labels.
    n : int
        Number of images at most.
    shape : (height, width), (height, width, channels), (channels, height, width) or None
        None is a square without colours.
    display_labels : sequence of C names or None
        In place of the classes in y.
    ax : Axes of matplotlib, None or False
        None makes a new figure of pyplot; with False, nothing is drawn yet.

    Returns
    -------
    WrongGuessesDisplay

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong, the rows are no images, or the model predicts numbers.
    """
    n = check_int("n", n, 1)
    check_axes(ax)
    subject = Subject.of(net)
    if subject.task == "numbers":
        raise TypeError("wrong_guesses needs classes; this model predicts numbers, which are not right or wrong")
    if subject.n_features is not None:
        image_shape(subject.n_features, shape, subject.feature_names)
    p = subject.predictions(X, y, display_labels)
    found = surest_mistakes(p, n)
    rows = np.array([mistake.row for mistake in found], np.int64)
    display = WrongGuessesDisplay(
        [_decoded(mistake, p) for mistake in found],
        rows_as_images(X, rows, shape),
        [_said(mistake.true, p.names) for mistake in found],
        [_said(mistake.predicted, p.names) for mistake in found],
        int(np.count_nonzero(~p.right)),
        len(p.right),
    )
    return display.plot(ax)


def surest_mistakes(p: Predictions, n: int) -> list[Mistake]:
    """Return the `n` wrong predictions of the largest probabilities; their classes are indices, or 0 and 1.

    Raises
    ------
    TypeError
        If the model has no probabilities.
    """
    if p.probabilities is None:
        raise TypeError("the model has no probabilities: it has no predict_proba")
    chosen = np.maximum(p.probabilities, 1 - p.probabilities)
    if p.task == "classes":
        chosen = np.take_along_axis(p.probabilities, p.predicted[:, None], axis=1)[:, 0]
    sureness = chosen.reshape(len(chosen), -1).min(axis=1)
    return worst(p.true, p.predicted, chosen, sureness, n)


def _decoded(mistake: Mistake, p: Predictions) -> Mistake:
    if p.task == "labels":
        return mistake
    true, predicted = (p.classes[code].item() for code in (mistake.true, mistake.predicted))
    return mistake._replace(true=true, predicted=predicted)


def _said(code: Any, names: list[str]) -> str:
    """Return the name of a class, or those of all labels that are 1."""
    return names[code] if np.ndim(code) == 0 else label_set(code, names)

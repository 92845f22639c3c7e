"""`wrong_guesses`: the rows that a model predicts wrong, though it is sure of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.mistakes import Mistake, worst
from fastmlp.plots.colors import Colors
from fastmlp.plots.display import Display, check_axes
from fastmlp.plots.images import image_shape, rows_as_images
from fastmlp.plots.subject import Subject
from fastmlp.plots.text import label_set
from fastmlp.plots.tiles import draw_tiles, page_size
from fastmlp.validation.calls import advised
from fastmlp.validation.settings import check_int

__all__ = ["WrongGuessesDisplay", "wrong_guesses"]

_MOST_BESIDE = 4  # letters of a guess that are in one line with its probability


@dataclass(eq=False, repr=False)
class WrongGuessesDisplay(Display):
    """Images that a model predicts wrong, the most confident predictions first.

    Attributes
    ----------
    mistakes : list of Mistake(row, true, predicted, probability)
        As from `MLP.wrong`, in another order. `probability` is that of the prediction; with several labels, the
        smallest of theirs.
    images : (k, height, width) or (k, height, width, channels) array
        The images.
    labels, guesses : list of str
        Names of the true and of the predicted classes.
    probabilities : (k,) float64 array
        Probability of each prediction.
    n_wrong, n_rows : int
        Number of wrongly predicted rows, and of all rows.
    im_ : AxesImage or None
        One picture of all images; None if there is no mistake.
    text_ : list of Text
        The captions.
    ax_, figure_ : Axes, Figure
        Where the plot was drawn last.
    """

    mistakes: list[Mistake]
    images: npt.NDArray[Any]
    labels: list[str]
    guesses: list[str]
    n_wrong: int
    n_rows: int

    @property
    def probabilities(self) -> npt.NDArray[np.float64]:
        """Probability of each prediction."""
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
    """Plot images that a model predicts wrong, the most confident predictions first.

    Above each image are the true class, and the predicted class with its probability.

    Parameters
    ----------
    net : MLP, Ensemble, estimator, or pipeline that ends in one
        The trained model.
    X, y : array_like
        Images as rows and their true classes or labels, as for `MLP.score`.
    n : int, default=24
        Maximum number of images.
    shape : (height, width), (height, width, channels), (channels, height, width) or None, default=None
        Shape of the images. None is a grayscale square.
    display_labels : sequence of C names or None, default=None
        Class names to show in place of those in y.
    ax : matplotlib Axes, None or False, default=None
        Where to draw. None makes a new pyplot figure; with False, nothing is drawn yet.

    Returns
    -------
    WrongGuessesDisplay
        The plot, drawn unless ``ax=False``.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong, the rows are not images, or the model predicts numbers.
    """
    n = check_int("n", n, 1)
    check_axes(ax)
    subject = Subject.of(net)
    if subject.task == "numbers":
        raise TypeError("wrong_guesses needs classes; this model predicts numbers, which are not right or wrong")
    if subject.n_features is not None:
        image_shape(subject.n_features, shape, subject.feature_names)
    p = subject.predictions(X, y, display_labels)
    found = worst(p.true, p.predicted, p.confidence, p.confidence, n)  # with indices in place of classes
    rows = np.array([mistake.row for mistake in found], np.int64)
    name: Callable[[Any], str] = p.names.__getitem__
    in_y: Callable[[Any], Any] = p.classes.tolist().__getitem__
    if p.task == "labels":
        name, in_y = partial(label_set, names=p.names), np.asarray
    display = WrongGuessesDisplay(
        [mistake._replace(true=in_y(mistake.true), predicted=in_y(mistake.predicted)) for mistake in found],
        rows_as_images(X, rows, shape),
        [name(mistake.true) for mistake in found],
        [name(mistake.predicted) for mistake in found],
        int(np.count_nonzero(~p.right)),
        len(p.right),
    )
    return display.plot(ax)

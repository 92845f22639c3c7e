"""`calibration`: whether a model is right as often as it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastmlp.plots.colors import PALETTE, Colors
from fastmlp.plots.display import Display, check_axes
from fastmlp.plots.subject import Predictions, Subject
from fastmlp.plots.text import PLAIN, shown
from fastmlp.validation.calls import advised
from fastmlp.validation.settings import check_choice, check_int

__all__ = ["CalibrationDisplay", "calibration"]


@dataclass(eq=False, repr=False)
class CalibrationDisplay(Display):
    """Calibration curve, also called reliability diagram: how often predictions come true, by their probability.

    Attributes
    ----------
    prob_true, prob_pred : (k,) float64 arrays
        Fraction of predictions that came true, and mean probability, in each bin that is not empty.
    counts : (k,) int64 array
        Number of predictions in each of these bins.
    edges : (n_bins + 1,) float64 array
        Edges of all bins.
    expected_calibration_error : float
        Mean of ``|prob_true - prob_pred|``, weighted by `counts`.
    what : str
        What the probabilities are of, for the labels of the axes.
    line_, bars_ : Line2D, BarContainer
        The curve, and the fraction of predictions in each bin.
    ax_, figure_ : Axes, Figure
        Where the plot was drawn last.
    """

    prob_true: npt.NDArray[np.float64]
    prob_pred: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    edges: npt.NDArray[np.float64]
    what: str

    @property
    def expected_calibration_error(self) -> float:
        """Mean distance from the diagonal."""
        return float(np.average(np.abs(self.prob_true - self.prob_pred), weights=self.counts))

    @property
    def _size(self) -> tuple[float, float]:
        return 4.6, 4.6

    def _draw(self, ax: Any) -> None:
        share = self.counts / self.counts.sum()
        bins = np.searchsorted(self.edges[1:-1], self.prob_pred)
        left, width = self.edges[bins], np.diff(self.edges)[bins]
        self.bars_ = ax.bar(
            left, share, width, align="edge", color=PALETTE[0], alpha=0.35, linewidth=0, label="share of predictions"
        )
        ax.plot([0, 1], [0, 1], "--", color=Colors.of(ax).text, alpha=0.6, linewidth=1, label="perfectly calibrated")
        (self.line_,) = ax.plot(self.prob_pred, self.prob_true, "o-", color=PALETTE[0], markersize=5, label="model")
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="how often it is true", aspect="equal")
        ax.set_xlabel(self.what, **PLAIN)
        ax.set_title(f"expected calibration error {self.expected_calibration_error:.2%}", fontsize="medium", **PLAIN)
        ax.grid(alpha=0.3)
        ax.legend(loc="best", frameon=False, fontsize="small")


@advised
def calibration(
    net: Any,
    X: Any,
    y: npt.ArrayLike,
    *,
    pos_label: Any = None,
    n_bins: int = 10,
    strategy: Literal["uniform", "quantile"] = "uniform",
    ax: Any = None,
) -> CalibrationDisplay:
    """Plot the calibration curve: how often predictions come true, by their probability.

    For two classes, the probability is that of the second, as in scikit-learn. For more classes, it is that of the
    predicted class: is the model right in 80 % of the rows of which it is 80 % sure? For several labels, the
    probabilities of all labels of all rows count.

    Parameters
    ----------
    net : MLP, Ensemble, estimator, or pipeline that ends in one
        The trained model.
    X, y : array_like
        Rows and their true classes or labels, as for `MLP.score`.
    pos_label : a class, or the number of a label, or None, default=None
        Class or label whose probabilities to use instead.
    n_bins : int, default=10
        Number of bins.
    strategy : {"uniform", "quantile"}, default="uniform"
        Whether all bins have the same width, or the same number of predictions.
    ax : matplotlib Axes, None or False, default=None
        Where to draw. None makes a new pyplot figure; with False, nothing is drawn yet.

    Returns
    -------
    CalibrationDisplay
        The plot, drawn unless ``ax=False``.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong, or the model predicts numbers or has no probabilities.
    """
    strategy = check_choice("strategy", strategy, ("uniform", "quantile"))  # type: ignore[assignment]
    n_bins = check_int("n_bins", n_bins, 1)
    check_axes(ax)
    subject = Subject.of(net)
    if subject.task == "numbers":
        raise TypeError("calibration needs probabilities of classes; this model predicts numbers")
    p = subject.predictions(X, y)
    true, probabilities, what = _event(p, pos_label)
    edges = np.linspace(0, 1, n_bins + 1)
    if strategy == "quantile":
        edges = np.percentile(probabilities, edges * 100)
    return CalibrationDisplay(*_curve(true, probabilities, edges), edges, what).plot(ax)


def _curve(
    true: npt.NDArray[np.bool_], probabilities: npt.NDArray[Any], edges: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return the fraction that is true, the mean probability and the count of each bin that is not empty.

    A number on the edge of two bins is in the lower one, as in scikit-learn.
    """
    n_bins, probabilities = len(edges) - 1, probabilities.astype(np.float64)
    bins = np.searchsorted(edges[1:-1], probabilities)
    counts = np.bincount(bins, minlength=n_bins)
    sums = [np.bincount(bins, weights=each, minlength=n_bins) for each in (true, probabilities)]
    used = counts > 0
    return sums[0][used] / counts[used], sums[1][used] / counts[used], counts[used].astype(np.int64)


def _event(p: Predictions, pos_label: Any) -> tuple[npt.NDArray[np.bool_], npt.NDArray[Any], str]:
    """Return what may come true, (k,), its probabilities and its name."""
    confidence = p.confidence  # TypeError if there are no probabilities
    if pos_label is not None:
        found = np.flatnonzero([np.ndim(pos_label) == 0 and label == pos_label for label in p.classes.tolist()])
        if len(found) == 0:
            known = ", ".join(map(repr, p.classes.tolist()[:10])) + (", ..." if len(p.classes) > 10 else "")
            raise ValueError(f"pos_label must be one of {known}, not {pos_label!r}")
    elif len(p.classes) == 2 and p.task == "classes":
        found = np.array([1])
    elif p.task == "classes":
        return p.right, confidence, "probability of the predicted class"
    else:
        return p.true.ravel() == 1, p.probabilities.ravel(), "probability of a label"
    code = int(found[0])
    true = p.true == code if p.task == "classes" else p.true[:, code] == 1
    kind = "class" if p.task == "classes" else "label"
    return true, p.probabilities[:, code], f"probability of {kind} {shown(p.names[code])}"

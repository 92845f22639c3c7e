"""Plots of what a network has learned, with matplotlib (``pip install "fastmlp[plot]"``).

Each function draws at once and returns a display, as in scikit-learn: an object with the numbers and artists as
attributes, with ``plot(ax=...)``, which draws it again elsewhere, and ``save(path)``.
"""

from fastmlp.plots.boundary import DecisionBoundaryDisplay, decision_boundary
from fastmlp.plots.calibration import CalibrationDisplay, calibration
from fastmlp.plots.confusion import ConfusionMatrixDisplay, confusion_matrix
from fastmlp.plots.curves import LearningCurvesDisplay, learning_curves
from fastmlp.plots.display import Display
from fastmlp.plots.guesses import WrongGuessesDisplay, wrong_guesses
from fastmlp.plots.samples import SamplesDisplay, samples
from fastmlp.plots.weights import WeightsDisplay, weights

__all__ = [
    "CalibrationDisplay",
    "ConfusionMatrixDisplay",
    "DecisionBoundaryDisplay",
    "Display",
    "LearningCurvesDisplay",
    "SamplesDisplay",
    "WeightsDisplay",
    "WrongGuessesDisplay",
    "calibration",
    "confusion_matrix",
    "decision_boundary",
    "learning_curves",
    "samples",
    "weights",
    "wrong_guesses",
]

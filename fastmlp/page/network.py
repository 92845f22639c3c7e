"""The network inside the page: its parameters as text, or why it is not there."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np

from fastmlp.activations import ACTIVATIONS, Floats
from fastmlp.losses import LOSSES
from fastmlp.page.images import Image
from fastmlp.page.packing import packed_floats, rounded
from fastmlp.page.rows import MOST_FEATURES
from fastmlp.plots.images import evenly, take_rows
from fastmlp.plots.subject import Predictions, Subject

__all__ = ["network_in_page"]

_CHECKED_ROWS = 500
_TOLERANCE = 1e-5  # of probabilities; of numbers, relative to the largest
_BITS = (32, 28, 26, 24)  # of a parameter; zeros at its end are compressed
_LARGEST = sys.float_info.max  # JSON has no infinity


class _LeftOut(Exception):
    """Why the page has no network, as the end of a sentence."""


class _Step(NamedTuple):
    """A step before the network: ``clip(x * factor + shift, low, high)``, feature by feature."""

    factor: Floats
    shift: Floats
    low: float = -_LARGEST
    high: float = _LARGEST


def network_in_page(
    subject: Subject, X: Any, predictions: Predictions, image: Image | None, most_bytes: int
) -> dict[str, Any]:
    """Return what the page computes with, as ``web/network.js`` reads it, or ``{"why": ...}``.

    Its answers are compared with the predictions. If they differ by more than 1e-5, the page gets no network.
    """
    try:
        steps, nets = _steps_before(subject.model, subject.n_features), subject.networks
        if not nets:
            raise _LeftOut("it is not a network of fastmlp")
        if image is not None and image.channels > 1:
            raise _LeftOut("its images have colours, and drawings have none")
        if image is None and nets[0].layers[0] > MOST_FEATURES:
            raise _LeftOut(f"its {nets[0].layers[0]:,} features are too many for a form")
        rows = evenly(len(predictions.predicted), _CHECKED_ROWS)
        expected = predictions.predicted if predictions.task == "numbers" else predictions.probabilities
        if not np.isfinite(np.asarray(expected, np.float64)).all():
            raise _LeftOut("some of its predictions are not finite")
        return _fitted(nets, steps, take_rows(X, rows), np.asarray(expected)[rows], most_bytes)
    except _LeftOut as why:
        return {"why": str(why)}


def _fitted(nets: Any, steps: list[_Step], X: Any, expected: Floats, most_bytes: int) -> dict[str, Any]:
    """Return the network with all its digits, or with as many as fit."""
    with np.errstate(over="ignore"):
        pairs = [pair for net in nets for pair in zip(net.weights, net.biases, strict=True)]
        exact = [np.asarray(parameter, np.float32) for pair in pairs for parameter in pair]
    if not all(np.isfinite(p).all() for p in exact):
        raise _LeftOut("its parameters are not finite in float32")
    net, size = nets[0], 0
    for n_bits in _BITS:
        parameters = [rounded(p, n_bits) for p in exact]
        text = packed_floats(np.concatenate([p.reshape(-1) for p in parameters]))
        size = size or len(text)
        if len(text) > most_bytes:
            continue
        with np.errstate(all="ignore"):
            away = np.abs(_answers(nets, steps, parameters, X).reshape(expected.shape) - expected)
        limit = _TOLERANCE * (1 if net.output in ("softmax", "logistic") else max(np.abs(expected).max(), 1e-30))
        if not away.max() <= limit:
            if n_bits < _BITS[0]:
                break
            raise _LeftOut(f"what it would compute differs from Python by {away.max():.1e}")
        return {
            "layers": list(net.layers),
            "activations": list(net.activations),
            "output": net.output,
            "scale": net.input_scale,
            "members": len(nets),
            "steps": [
                {"factor": s.factor.tolist(), "shift": s.shift.tolist(), "low": s.low, "high": s.high} for s in steps
            ],
            "parameters": text,
        }
    n_parameters = sum(p.size for p in exact)
    raise _LeftOut(
        f"its {n_parameters:,} parameters take {size / 1e6:.1f} MB, and the whole page is to stay below 2 MB"
    )


def _answers(nets: Any, steps: list[_Step], parameters: list[Floats], X: Any) -> Floats:
    """Return what the page will compute, the mean of the networks' outputs."""
    x0 = np.asarray(X, np.float64) * nets[0].input_scale
    for step in steps:
        x0 = np.clip(x0 * step.factor + step.shift, step.low, step.high)
    total, left = np.zeros(()), iter(parameters)
    for net in nets:
        z, loss = x0, LOSSES[net.output](net.layers[-1])
        for activation in (*net.activations, "identity"):
            z = ACTIVATIONS[activation].value(z @ next(left).astype(np.float64) + next(left))
        total = total + (loss.probabilities(z) if loss.classifies else np.exp(z) if net.output == "exp" else z)
    return np.asarray(total / len(nets))


# --- pipelines --------------------------------------------------------------------------------------------------------


def _steps_before(model: Any, n_features: int | None) -> list[_Step]:
    """Return the steps of pipelines before the network."""
    if hasattr(model, "best_estimator_"):
        return _steps_before(model.best_estimator_, n_features)
    if hasattr(model, "regressor_"):
        raise _LeftOut(f"{type(model).__name__} changes its answers")
    if not (hasattr(model, "steps") and hasattr(model, "named_steps")):
        return []
    *before, (_, last) = model.steps
    used = [transformer for _, transformer in before if transformer not in (None, "passthrough")]
    return [*(_step(transformer, n_features or 0) for transformer in used), *_steps_before(last, n_features)]


def _step(transformer: Any, n: int) -> _Step:
    """Return a scaler of scikit-learn as numbers."""
    from sklearn import preprocessing

    kind = type(transformer)
    if kind is preprocessing.MinMaxScaler:
        limits = transformer.feature_range if transformer.clip else (-_LARGEST, _LARGEST)
        return _Step(transformer.scale_, transformer.min_, *map(float, limits))
    centers = {
        preprocessing.StandardScaler: "mean_",
        preprocessing.RobustScaler: "center_",
        preprocessing.MaxAbsScaler: "",
    }
    if kind not in centers or getattr(transformer, "clip", False):
        raise _LeftOut(f"the page cannot compute the step {kind.__name__} before it")
    scale, center = transformer.scale_, getattr(transformer, centers[kind], None)
    factor = np.ones(n) if scale is None else 1 / np.asarray(scale, np.float64)
    if center is None or not getattr(transformer, "with_mean", True):  # a mean may be there, and not be used
        return _Step(factor, np.zeros(n))
    return _Step(factor, -np.asarray(center) * factor)

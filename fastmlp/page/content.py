"""The content of the page as JSON: `web/main.js` builds the page from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.history import History
from fastmlp.mistakes import confusions
from fastmlp.page.images import Image, find_images
from fastmlp.page.packing import packed, plain
from fastmlp.page.rows import MOST_FEATURES, choose_rows, numbers_in, sample_of
from fastmlp.page.training import curves_of, title_of, trained
from fastmlp.plots.confusion import count_pairs
from fastmlp.plots.images import as_images, evenly, take_rows
from fastmlp.plots.subject import Predictions, Subject
from fastmlp.validation.frames import column_names

__all__ = ["gather"]

_MOST_CLASSES, _SHOWN_CLASSES = 100, 60  # of a confusion matrix; if there are more, those with the most errors
_CONFUSIONS = 8
_MOST_UNITS, _MOST_INPUTS = 64, 40  # of pictures of weights
_MOST_FIELDS = 120
_MOST_POINTS = 1000  # of a plane or a scatter plot
_MOST_OUTPUTS = 6
_MOST_LISTED = 1000  # classes with their precision and recall; if there are more, those with the most errors
_LONGEST, _LETTERS = 400, 50_000  # of the name of a class or a feature, and of all names of classes


def gather(
    subject: Subject,
    X: Any,
    predictions: Predictions,
    histories: Sequence[History],
    shape: Sequence[int] | None,
    command: str | None,
) -> tuple[dict[str, Any], Image | None]:
    """Return the content of the page but for the network and the values of rows, and what images X has."""
    n_rows = len(predictions.predicted)
    numbers = numbers_in(X, n_rows)
    n_features = subject.n_features or take_rows(X, np.zeros(1, np.int64)).reshape(1, -1).shape[1]
    known = subject.feature_names or column_names(X)
    image = find_images(numbers, n_features, shape, known)
    features = [_short(name) for name in known] if known else [f"feature {i}" for i in range(n_features)]
    content: dict[str, Any] = {
        "kind": predictions.task,
        "title": title_of(subject),
        "subtitle": _subtitle(subject, predictions, n_rows, n_features, image),
        "asks": _what_to_do(image, n_features),
        "classes": [_short(name, _LETTERS // len(predictions.names)) for name in predictions.names],
        "n_rows": n_rows,
        "n_features": n_features,
        "n_wrong": 0 if predictions.task == "numbers" else int((~predictions.right).sum()),
        "image": None if image is None else image.in_page(),
        "shown": {**choose_rows(predictions), "columns": features},
        "curves": curves_of(histories),
        "trained": trained(subject, histories, command),
        "weights": _weights(subject, image, features),
    }
    if image is None and numbers is not None:
        content |= _fields(subject, numbers, predictions, features)
    content |= _outcomes(predictions)
    content["scores"] = [*_scores(content, predictions), *_facts_in_short(subject, histories)]
    return content, image


def _subtitle(subject: Subject, predictions: Predictions, n_rows: int, n_features: int, image: Image | None) -> str:
    kind = {"classes": "classes", "labels": "labels"}.get(predictions.task, "")
    numbers = 1 if predictions.predicted.ndim == 1 else predictions.predicted.shape[1]
    what = f"{len(predictions.names)} {kind}" if kind else f"{numbers} number{'s' * (numbers != 1)}"
    height, width = (0, 0) if image is None else image.size
    data = f"{n_features:,} feature{'s' * (n_features != 1)}" if image is None else f"images of {height} × {width}"
    name = type(subject.inner).__name__
    return f"{name}: {what} from {data}, tested on {n_rows:,} row{'s' * (n_rows != 1)}."


def _what_to_do(image: Image | None, n_features: int) -> str:
    if image is not None:
        return "Draw something."
    return "Choose a point." if n_features == 2 else "Fill in all fields."


def _facts_in_short(subject: Subject, histories: Sequence[History]) -> list[dict[str, str]]:
    n_parameters = sum(net.n_parameters for net in subject.networks)
    seconds = sum(sum(history.seconds) for history in histories)
    took = f"{seconds:.3g} s" if seconds < 100 else f"{seconds / 60:.3g} min"
    facts = {"parameters": f"{n_parameters:,}" if n_parameters else "", "training": took if seconds else ""}
    return [{"name": name, "value": value} for name, value in facts.items() if value]


def _short(name: str, longest: int = _LONGEST) -> str:
    """Return a name with at most so many letters, but at least 8."""
    longest = max(8, min(longest, _LONGEST))
    return name if len(name) <= longest else name[: longest - 1] + "…"


# --- outcomes ---------------------------------------------------------------------------------------------------------


def _outcomes(predictions: Predictions) -> dict[str, Any]:
    """Return what is particular to classes, labels and numbers."""
    true, predicted, n = predictions.true, predictions.predicted, len(predictions.names)
    if predictions.task == "numbers":
        return _numbers(true, predicted)
    content: dict[str, Any] = {"per_class": _per_class(true, predicted, n)}
    if predictions.task == "classes":
        content["matrix"] = _matrix(true, predicted, n)
        content["confusions"] = [
            {"true": pair.true, "guess": pair.predicted, "n": pair.n_rows}
            for pair in confusions(true, predicted, _CONFUSIONS)
        ]
    return content


def _per_class(true: npt.NDArray[Any], predicted: npt.NDArray[Any], n: int) -> list[dict[str, Any]]:
    """Return precision, recall and F1 of each class or label, as scikit-learn computes them; 0 where they are 0/0."""
    from sklearn.metrics import precision_recall_fscore_support

    labels = np.arange(n)
    scores = precision_recall_fscore_support(true, predicted, labels=labels, average=None, zero_division=0)
    guessed = np.bincount(predicted, minlength=n) if predicted.ndim == 1 else (predicted == 1).sum(axis=0)
    names = ("precision", "recall", "f1", "n_true", "n_predicted")
    columns = [column.tolist() for column in (*scores, guessed)]
    listed = [{"class": k} | dict(zip(names, row, strict=True)) for k, row in enumerate(zip(*columns, strict=True))]
    return [listed[k] for k in _largest(_errors(true, predicted, n), _MOST_LISTED)]


def _matrix(true: npt.NDArray[Any], predicted: npt.NDArray[Any], n: int) -> dict[str, Any]:
    """Return how many rows of each class are predicted as which, for the classes that are shown."""
    classes = _largest(_errors(true, predicted, n), n if n <= _MOST_CLASSES else _SHOWN_CLASSES)
    place = np.full(n, -1)
    place[classes] = np.arange(len(classes))
    kept = (place[true] >= 0) & (place[predicted] >= 0)
    counts = count_pairs(place[true[kept]], place[predicted[kept]], len(classes))
    return {"classes": classes.tolist(), "counts": counts.tolist()}


def _errors(true: npt.NDArray[Any], predicted: npt.NDArray[Any], n: int) -> npt.NDArray[np.int64]:
    """Return how many rows are wrong about each class or label, (n,)."""
    wrong = true != predicted
    if wrong.ndim == 2:
        return np.asarray(wrong.sum(axis=0))
    return np.bincount(true[wrong], minlength=n) + np.bincount(predicted[wrong], minlength=n)


def _largest(numbers: npt.NDArray[Any], most: int) -> npt.NDArray[np.int64]:
    """Return the positions of the largest numbers, in ascending order; of few numbers, all."""
    return np.sort(np.argsort(-numbers, kind="stable")[:most])


def _numbers(true: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> dict[str, Any]:
    """Return the truth and the predictions of some rows, and the errors of all, for each output."""
    actual, guess = (np.asarray(each, np.float64).reshape(len(true), -1) for each in (true, predicted))
    n_rows, n_outputs = actual.shape
    some = evenly(n_rows, _MOST_POINTS)
    outputs = []
    for k in range(min(n_outputs, _MOST_OUTPUTS)):
        off = guess[:, k] - actual[:, k]
        spread = np.square(actual[:, k] - actual[:, k].mean()).sum()
        outputs.append(
            {
                "name": "the output" if n_outputs == 1 else f"output {k}",
                "true": plain(actual[some, k], 5),
                "guess": plain(guess[some, k], 5),
                "r2": plain(1 - np.square(off).sum() / spread) if spread else None,
                "mae": plain(np.abs(off).mean()),
                "rmse": plain(np.sqrt(np.square(off).mean())),
            }
        )
    notes = [f"{len(some):,} of {n_rows:,} test rows."] if len(some) < n_rows else []
    notes += [f"The first {len(outputs)} of {n_outputs} outputs."] if len(outputs) < n_outputs else []
    names = [f"output {k}" for k in range(n_outputs)] if n_outputs > 1 else ["output"]
    return {"numbers": {"outputs": outputs, "note": " ".join(notes) or None}, "outputs": names}


def _scores(content: dict[str, Any], predictions: Predictions) -> list[dict[str, str]]:
    """Return the headlines."""
    if predictions.task == "numbers":
        first = content["numbers"]["outputs"][0]
        values = {"R²": first["r2"], "mean absolute error": first["mae"], "root mean square error": first["rmse"]}
        return [{"name": name, "value": "–" if value is None else f"{value:.4g}"} for name, value in values.items()]
    wrong, n = content["n_wrong"], content["n_rows"]
    name = "accuracy" if predictions.task == "classes" else "rows with all labels right"
    share = (n - wrong) / n
    return [
        {"name": name, "value": f"{100 * share:{'.0f' if share in (0, 1) else '.2f'}}%"},
        {"name": f"wrong guesses of {n:,}", "value": f"{wrong:,}"},
    ]


# --- inputs and weights -----------------------------------------------------------------------------------------------


def _fields(subject: Subject, rows: Floats, predictions: Predictions, features: list[str]) -> dict[str, Any]:
    """Return the plane of two features, or the fields of a form."""
    if len(features) == 2:
        return {"plane": _plane(rows, predictions, features)}
    if len(features) > MOST_FEATURES:
        return {}
    medians, lows, highs = np.median(rows, axis=0), rows.min(axis=0), rows.max(axis=0)
    effect = rows.std(axis=0)
    if subject.networks and subject.networks[0].layers[0] == len(features):
        effect *= np.linalg.norm(subject.networks[0].weights[0], axis=1)
    fields = [
        {
            "column": int(k),
            "name": features[k],
            "median": plain(medians[k]),
            "low": plain(lows[k]),
            "high": plain(highs[k]),
        }
        for k in _largest(effect, _MOST_FIELDS)
    ]
    return {"form": {"fields": fields, "fixed": plain(medians)}}


def _plane(rows: Floats, predictions: Predictions, features: list[str]) -> dict[str, Any]:
    """Return the frame of two features, and some test rows in it."""
    lows, highs = rows.min(axis=0), rows.max(axis=0)
    room = np.where(highs > lows, 0.12 * (highs - lows), 1.0)
    taken, some = sample_of(len(predictions.predicted)), evenly(len(rows), _MOST_POINTS)
    points: dict[str, Any] = {"x": plain(rows[some, 0]), "y": plain(rows[some, 1]), "true": None, "wrong": None}
    if predictions.task != "numbers":
        points["wrong"] = (~predictions.right)[taken[some]].tolist()
    if predictions.task == "classes":
        points["true"] = predictions.true[taken[some]].tolist()
    x, y = np.column_stack([lows - room, highs + room]).tolist()
    ends = {"x": {"low": x[0], "high": x[1]}, "y": {"low": y[0], "high": y[1]}}
    return {**ends, "names": features, "points": points}


def _weights(subject: Subject, image: Image | None, features: list[str]) -> dict[str, Any] | None:
    """Return the first-layer weights of some units, relative to the largest of each, as bytes from -127 to 127."""
    if not subject.networks:
        return None
    net = subject.networks[0]
    first = np.asarray(net.weights[0], np.float64)  # (I, O)
    if not np.isfinite(first).all():
        return None
    effect = np.linalg.norm(first, axis=0)
    if len(net.weights) > 1:
        effect *= np.linalg.norm(np.asarray(net.weights[1], np.float64), axis=1)
    units = _largest(effect, _MOST_UNITS)
    tiles, columns = first[:, units].T, []
    if image is not None and len(first) == len(features):
        tiles = as_images(tiles, image.shape)
        tiles = (tiles.mean(axis=3) if tiles.ndim == 4 else tiles).reshape(len(units), -1)
    else:
        names = features if len(features) == len(first) else [f"input {i}" for i in range(len(first))]
        rows = _largest(np.linalg.norm(first, axis=1), _MOST_INPUTS)
        tiles, columns = tiles[:, rows], [names[i] for i in rows]
    largest = np.abs(tiles).max(axis=1, keepdims=True)
    relative = np.rint(127 * tiles / np.where(largest > 0, largest, 1)).astype(np.int8)
    several = len(subject.networks) > 1
    return {
        "units": units.tolist(),
        "n_units": first.shape[1],
        "tiles": packed(relative),
        "columns": columns,
        "member": " of the first network" if several else "",
    }

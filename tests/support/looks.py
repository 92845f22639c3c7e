"""What the tests of plots and reports share: small models of every kind, with their rows."""

import functools
import warnings

import numpy as np
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastmlp import Ensemble, MLPClassifier, MLPRegressor, datasets, reference

NAMES = np.array(["zero", "$1$", "two", "a_3", "_four", "fünf", "6<b>", "seven", "שמונה", "n\nine"])


@functools.cache
def digits():
    X, y, X_test, y_test = datasets.load_digits()
    return X[:400], y[:400], X_test[:200], y_test[:200]


@functools.cache
def _trained(kind):
    X, y, _, _ = digits()
    if kind in ("MLP", "names", "two"):
        net = reference.MLP([64, 16, 2 if kind == "two" else 10])
        net.fit(X, {"MLP": y, "names": NAMES[y], "two": y % 2}[kind], epochs=4, optimizer="adam", learning_rate=0.01)
        return net
    if kind == "logistic":
        net = reference.MLP([64, 16, 1], output="logistic")
        net.fit(X, y % 2, epochs=4, optimizer="adam", learning_rate=0.01)
        return net
    if kind in ("labels", "number"):
        net = reference.MLP([64, 3 if kind == "labels" else 1], output="logistic" if kind == "labels" else "identity")
        net.fit(X, labels_of(y) if kind == "labels" else y.astype(float), epochs=2, learning_rate=0.01)
        return net
    if kind == "ensemble":
        ensemble = Ensemble(reference.MLP([64, 16, 10]), n=3)
        ensemble.fit(X, y, epochs=3, optimizer="adam", learning_rate=0.01)
        return ensemble
    clf = MLPClassifier((16,), random_state=0, max_iter=8, n_networks=2 if kind == "networks" else 1)
    if kind == "pipeline":
        clf = make_pipeline(StandardScaler(), clf)
    if kind == "search":
        clf = GridSearchCV(make_pipeline(StandardScaler(), clf), {"mlpclassifier__alpha": [1e-4]}, cv=2)
    if kind == "regressor":
        clf, y = MLPRegressor(hidden_layer_sizes=(16,), random_state=0, max_iter=8), y.astype(float)
    with warnings.catch_warnings(action="ignore"):
        return clf.fit(X, NAMES[y] if y.dtype.kind == "i" else y)


def labels_of(y):
    """Three labels for each digit."""
    return np.stack([y > 2, y % 2, y < 7], axis=1).astype(int)


def look(kind):
    """A trained model of a kind, test rows, and their y."""
    _, _, X, y = digits()
    by_number = {"MLP": y, "ensemble": y, "two": y % 2, "logistic": y % 2, "labels": labels_of(y)}
    if kind in ("number", "regressor"):
        return _trained(kind), X, y.astype(float)
    return _trained(kind), X, by_number.get(kind, NAMES[y])


CLASSIFIERS = ("MLP", "names", "two", "logistic", "ensemble", "classifier", "networks", "pipeline", "search")

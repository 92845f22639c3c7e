"""Metrics of a fit are those of scikit-learn, and can be watched."""

import functools

import numpy as np
import pytest
from sklearn import metrics as sk
from support.losses import data_for, network

from fastmlp import schedules
from fastmlp.callbacks import EarlyStopping

METRICS = {
    "softmax": {
        "balanced_accuracy": sk.balanced_accuracy_score,
        "f1_macro": functools.partial(sk.f1_score, average="macro"),
        "precision_weighted": functools.partial(sk.precision_score, average="weighted", zero_division=0),
        "recall_micro": functools.partial(sk.recall_score, average="micro"),
    },
    "two classes": {
        "balanced_accuracy": sk.balanced_accuracy_score,
        "f1_macro": functools.partial(sk.f1_score, average="macro"),
    },
    "labels": {
        "f1_macro": functools.partial(sk.f1_score, average="macro"),
        "recall_weighted": functools.partial(sk.recall_score, average="weighted"),
    },
    "number": {
        "r2": sk.r2_score,
        "mae": sk.mean_absolute_error,
        "rmse": sk.root_mean_squared_error,
        "max_error": sk.max_error,
    },
    "numbers": {"r2": sk.r2_score, "mae": sk.mean_absolute_error},
}


def largest_prediction(y_true, y_pred):
    return np.max(y_pred)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("head", METRICS)
def test_metrics_are_those_of_scikit_learn(head, dtype):
    net = network(head, dtype=dtype)
    X, y = data_for(net, 60)
    names = [*METRICS[head], largest_prediction]
    history = net.fit(X, y, epochs=3, validation_data=(X, y), metrics=names)
    assert set(history.metrics) == {f"val_{name}" for name in (*METRICS[head], "largest_prediction")}
    predicted = net.predict(X)
    for name, metric in METRICS[head].items():
        assert len(history[f"val_{name}"]) == 3
        assert history[f"val_{name}"][-1] == pytest.approx(metric(y, predicted), rel=1e-6)
    assert history["val_largest_prediction"][-1] == np.max(predicted)


def test_a_metric_can_be_watched():
    net = network(dropout=0.2)
    X, y = data_for(net, 60)
    stopping = EarlyStopping("val_f1_macro", patience=2)
    history = net.fit(
        X, y, epochs=200, validation_fraction=0.3, metrics=["f1_macro", "accuracy"], callbacks=[stopping],
        schedule=schedules.ReduceOnPlateau(monitor="val_f1_macro", patience=0),
    )  # fmt: skip
    assert len(history.loss) < 200
    assert history.learning_rate[-1] < history.learning_rate[0]
    assert len(history.val_accuracy) == len(history["val_f1_macro"])

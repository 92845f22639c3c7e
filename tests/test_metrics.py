"""Metrics are those of scikit-learn, get probabilities and weights where they need them, and can be watched."""

import functools

import numpy as np
import pytest
from sklearn import metrics as sk
from support.losses import data_for, network
from support.nets import refused

from fastmlp import reference, schedules
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


# --- probabilities ----------------------------------------------------------------------------------------------------

BINARY = {
    "roc_auc": sk.roc_auc_score,
    "average_precision": sk.average_precision_score,
    "log_loss": sk.log_loss,
    "brier": sk.brier_score_loss,
    "f1": sk.f1_score,
    "precision": sk.precision_score,
    "recall": sk.recall_score,
}


def one_against_the_others(metric):
    """The mean over the classes of a metric of scikit-learn for two classes."""
    return lambda y, p, sample_weight=None: np.mean(
        [metric(y == c, p[:, c], sample_weight=sample_weight) for c in range(p.shape[1])]
    )


MULTICLASS = {
    "roc_auc": functools.partial(sk.roc_auc_score, multi_class="ovr"),
    "average_precision": one_against_the_others(sk.average_precision_score),
    "log_loss": sk.log_loss,
    "brier": lambda y, p, sample_weight=None: np.average(((p - np.eye(3)[y]) ** 2).sum(1), weights=sample_weight),
    "f1": functools.partial(sk.f1_score, average="macro", zero_division=0),
}


def rows(n_classes=2, n=80):
    generator = np.random.default_rng(3)
    X = generator.normal(size=(n, 4)).astype(np.float32)
    return X, (X[:, 0] + generator.normal(size=n) > 0).astype(int) + (generator.random(n) > 0.7) * (n_classes - 2)


def sharp(p):
    p = p.astype(np.float64)
    return p / p.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("net", ["one output", "two outputs", "three classes"])
def test_metrics_that_need_probabilities_get_them(net, weighted):
    n_classes = 3 if net == "three classes" else 2
    X, y = rows(n_classes)
    layers, output = ([4, 1], "logistic") if net == "one output" else ([4, n_classes], "softmax")
    net, known = reference.MLP(layers, output=output), MULTICLASS if n_classes == 3 else BINARY
    weights = np.random.default_rng(0).random(len(y)) * (np.arange(len(y)) % 5 > 0) if weighted else None
    data = (X, y, weights) if weighted else (X, y)
    history = net.fit(X, y, epochs=2, validation_data=data, metrics=known)
    measured = net.evaluate(X, y, sample_weight=weights, metrics=known)
    p, labels = sharp(net.predict_proba(X)), net.predict(X)
    for name, metric in known.items():
        arguments = p if n_classes == 3 else p[:, 1]
        expected = metric(y, labels if name in ("f1", "precision", "recall") else arguments, sample_weight=weights)
        assert history[f"val_{name}"][-1] == measured[name] == pytest.approx(expected, rel=1e-9), name
    assert measured["log_loss"] == pytest.approx(measured["loss"], rel=1e-5)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_functions_of_scikit_learn_that_need_probabilities_get_them(n_classes):
    X, y = rows(n_classes)
    net = reference.MLP([4, n_classes])
    history = net.fit(
        X, y, epochs=1, validation_data=(X, y),
        metrics=[sk.roc_auc_score, sk.log_loss, functools.partial(sk.average_precision_score, average="weighted")],
    )  # fmt: skip
    p = sharp(net.predict_proba(X))
    shown = p[:, 1] if n_classes == 2 else p
    assert history["val_roc_auc_score"] == [pytest.approx(sk.roc_auc_score(y, shown, multi_class="ovr"))]
    assert history["val_log_loss"] == [pytest.approx(sk.log_loss(y, p))]
    expected = sk.average_precision_score(y, shown, average="weighted")
    assert history["val_average_precision_score"] == [pytest.approx(expected)]
    assert history["val_roc_auc_score"][0] not in (0.5, sk.roc_auc_score(y > 0, net.predict(X) > 0))


def test_a_function_may_ask_for_probabilities():
    def largest(y_true, p):
        return p.max()

    largest.response_method = "predict_proba"
    X, y = rows(3)
    net = reference.MLP([4, 3])
    assert net.evaluate(X, y, metrics=[largest])["largest"] == pytest.approx(net.predict_proba(X).max())
    with refused(ValueError, "metric 'largest' needs probabilities, but the network predicts numbers"):
        reference.MLP([4, 1], output="identity").evaluate(X, y, metrics=[largest])


def test_a_class_that_no_row_has_does_not_count():
    X, y = rows(2)
    net = reference.MLP([4, 3])
    measured = net.evaluate(X, y, metrics=["roc_auc", "log_loss"])
    p = sharp(net.predict_proba(X))
    assert measured["roc_auc"] == pytest.approx(np.mean([sk.roc_auc_score(y == c, p[:, c]) for c in (0, 1)]))
    expected = sk.log_loss(y, p, labels=[0, 1, 2])
    assert measured["log_loss"] == pytest.approx(expected)
    assert net.evaluate(X, y, metrics=[sk.log_loss])["log_loss"] == pytest.approx(expected)


def test_labels_have_metrics_of_probabilities():
    net = network("labels")
    X, y = data_for(net, 60)
    measured = net.evaluate(X, y, metrics=["roc_auc", "average_precision", "log_loss", "brier", "f1"])
    p = net.predict_proba(X).astype(np.float64)
    assert measured["roc_auc"] == pytest.approx(sk.roc_auc_score(y, p, average="macro"))
    assert measured["average_precision"] == pytest.approx(sk.average_precision_score(y, p, average="macro"))
    assert measured["log_loss"] == pytest.approx(measured["loss"], rel=1e-5)
    assert measured["brier"] == pytest.approx(np.mean((p - y) ** 2))
    assert measured["f1"] == pytest.approx(sk.f1_score(y, net.predict(X), average="macro", zero_division=0))


def test_weights_of_evaluate_score_and_validation_data():
    X, y = rows(3)
    weights = np.arange(len(y)) % 3
    repeated = np.repeat(np.arange(len(y)), weights)
    net = reference.MLP([4, 3])
    history = net.fit(X, y, epochs=1, validation_data=(X, y, weights), metrics=["balanced_accuracy"])
    expected = net.evaluate(X[repeated], y[repeated], metrics=["balanced_accuracy"])
    assert net.evaluate(X, y, sample_weight=weights, metrics=["balanced_accuracy"]) == pytest.approx(expected)
    assert {name: history[f"val_{name}"][-1] for name in expected} == pytest.approx(expected)
    assert net.score(X, y, sample_weight=weights) == pytest.approx(net.score(X[repeated], y[repeated]))
    numbers = reference.MLP([4, 1], output="identity")
    for measure in (numbers.score, lambda *a, **k: numbers.evaluate(*a, **k, metrics=["mse", "mae", "r2"])["mse"]):
        assert measure(X, y, sample_weight=weights) == pytest.approx(measure(X[repeated], y[repeated]))
    assert numbers.evaluate(X, y, metrics=["mse"])["mse"] == pytest.approx(numbers.evaluate(X, y)["loss"])


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        (["roc_auc_score"], ValueError, "did you mean 'roc_auc'?"),
        (["auc"], ValueError, "did you mean 'roc_auc'?"),
        ([sk.get_scorer("f1_macro")], TypeError, "a scorer, which takes an estimator"),
        ([sk.roc_auc_score, sk.roc_auc_score], ValueError, "metrics has two entries named 'roc_auc_score'"),
        ([largest_prediction], ValueError, "metric 'largest_prediction' takes no sample_weight, but the validation"),
    ],
    ids=lambda value: None if isinstance(value, list) else str(value),
)
def test_wrong_metrics_are_refused_before_training(metrics, error, message):
    X, y = rows(3)
    net = reference.MLP([4, 3])
    before = [w.copy() for w in net.weights]
    with refused(error, message):
        net.fit(X, y, validation_data=(X, y, np.ones(len(y))), metrics=metrics)
    np.testing.assert_array_equal(net.weights[0], before[0])


def test_a_metric_cannot_change_what_others_see():
    def vandal(y_true, y_pred):
        y_true[...] = y_pred[...] = 2**31 - 1  # as a class it would be far outside of the kernel's arrays
        return 0.0

    net = network("softmax")
    X, y = data_for(net, 60)
    history = net.fit(X, y, epochs=3, validation_data=(X, y), metrics=[vandal, "f1_macro"])
    assert history["val_f1_macro"][-1] == pytest.approx(net.evaluate(X, y, metrics=["f1_macro"])["f1_macro"])
    assert history.val_loss[-1] == pytest.approx(net.evaluate(X, y)["loss"])

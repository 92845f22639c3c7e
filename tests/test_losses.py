"""What the outputs of a network mean: y, predictions, probabilities, scores, histories; label smoothing, settings."""

import math
import pickle

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, mean_poisson_deviance, r2_score
from support.losses import ALL_ACTIVATIONS, HEADS, data_for, network
from support.nets import refused, snapshot

import fastmlp
from fastmlp.losses import LOSSES
from fastmlp.reference import MLP

X = np.random.default_rng(0).random((6, 4))
LABELS = np.array([[0, 1], [1, 1], [0, 0], [1, 0], [0, 1], [1, 1]])
YES = LABELS[:, 0]
NUMBERS = np.random.default_rng(1).normal(size=(6, 2))


def one(output, n_outputs, **settings):
    return MLP([4, 5, n_outputs], output=output, dtype="float64", **settings)


# --- y ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "n_outputs", "forms"),
    [
        ("logistic", 1, [YES, YES.tolist(), YES > 0, YES[:, None], YES.astype(np.float32), YES.astype(np.uint8)]),
        ("logistic", 2, [LABELS, LABELS > 0, LABELS.tolist(), np.asfortranarray(LABELS)]),
        ("identity", 1, [NUMBERS[:, 0], NUMBERS[:, :1], NUMBERS[:, 0].tolist()]),
        ("identity", 2, [NUMBERS, NUMBERS.tolist(), np.asfortranarray(NUMBERS)]),
    ],
)
def test_forms_of_y_train_alike(output, n_outputs, forms):
    losses = [one(output, n_outputs).fit(X, y, epochs=2, batch_size=4).loss for y in forms]
    assert all(loss == losses[0] for loss in losses)


@pytest.mark.parametrize(
    ("output", "n_outputs", "y", "error", "message"),
    [
        ("logistic", 1, YES + 1, ValueError, "y has 2 in row 1, but labels of logistic outputs are 0 or 1"),
        ("logistic", 1, YES * 0.5, ValueError, "y has 0.5 in row 1, but labels of logistic outputs are 0 or 1"),
        ("logistic", 1, np.where(YES, np.nan, 0), ValueError, "y has nan in row 1"),
        ("logistic", 2, -LABELS, ValueError, "y has -1 in row 0, column 1, but labels of logistic outputs are 0 or 1"),
        ("logistic", 1, LABELS, ValueError, "y has 2 columns, but the network has 1 output"),
        ("logistic", 2, YES, ValueError, "y has 1 column, but the network has 2 outputs"),
        ("logistic", 2, LABELS[:5], ValueError, "X has 6 rows, but y has 5"),
        ("identity", 1, NUMBERS, ValueError, "y has 2 columns, but the network has 1 output"),
        ("identity", 2, NUMBERS[:, :, None], ValueError, "y must have the shape (n, 2), but its shape is (6, 2, 1)"),
        ("identity", 1, 3.0, ValueError, "y must have the shape (n,), but its shape is ()"),
        ("identity", 2, np.where(NUMBERS > 0.9, np.inf, NUMBERS), ValueError, "y has inf in row"),
        ("identity", 1, NUMBERS[:, 0].astype(object), TypeError, "y holds object values"),
    ],
)
def test_wrong_y(output, n_outputs, y, error, message):
    net = one(output, n_outputs)
    before = snapshot(net)
    for call in (net.fit, net.train_batch, net.gradients, net.evaluate, net.score):
        with refused(error, message):
            call(X, y)
    for p, q in zip(net.weights + net.biases, before, strict=True):
        np.testing.assert_array_equal(p, q)


def test_numbers_too_large_for_float32():
    with refused(ValueError, "y has 1e+300, too large for float32, in row 2, column 0"):
        MLP([4, 1], output="identity").fit(X, np.where(np.arange(6) == 2, 1e300, 0))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (X, TypeError, "validation_data must be a pair (X, y)"),
        ((X, YES, YES[:5]), ValueError, "sample_weight must have the shape (6,)"),
        ((X[:, :3], YES), ValueError, "validation X has 3 features, but the network has 4 inputs"),
        ((X[0], YES), ValueError, "validation X must have two dimensions (rows, features), not one; use X.reshape"),
        ((X, YES[:5]), ValueError, "validation X has 6 rows, but validation y has 5"),
        ((X, YES + 1), ValueError, "validation y has"),
    ],
)
@pytest.mark.parametrize(("output", "n_outputs"), [("softmax", 2), ("logistic", 1)])
def test_wrong_validation_data(output, n_outputs, given, error, message):
    with refused(error, message):
        one(output, n_outputs).fit(X, YES, validation_data=given)


# --- what comes out ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_logistic_output(dtype):
    net = network("two classes", dtype=dtype)
    X, y = data_for(net, 30)
    p, labels = net.predict_proba(X), net.predict(X)
    assert p.shape == (30, 2)
    assert p.dtype == dtype
    assert labels.shape == (30,)
    assert labels.dtype == np.int64
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(labels, p.argmax(axis=1))
    assert 0 < net.score(X, y) == np.mean(labels == y) == net.evaluate(X, y)["accuracy"] < 1
    assert net.evaluate(X, y)["loss"] == pytest.approx(-np.log(p[np.arange(30), y]).mean(), rel=1e-5)


def test_labels():
    net = network("labels")
    X, y = data_for(net, 300)
    p, labels = net.predict_proba(X), net.predict(X)
    assert p.shape == labels.shape == (300, 4)
    np.testing.assert_array_equal(labels, p > 0.5)
    assert net.score(X, y) == accuracy_score(y, labels)  # all labels of a row must be right
    assert 0 < net.score(X, y) < 0.5
    assert net.evaluate(X, y)["loss"] == pytest.approx(-np.log(np.where(y, p, 1 - p)).mean(), rel=1e-9)


@pytest.mark.parametrize("head", ["number", "numbers"])
def test_numbers(head):
    net = network(head)
    X, y = data_for(net, 30)
    predicted = net.predict(X)
    assert predicted.shape == y.shape
    assert predicted.dtype == np.float64
    assert net.evaluate(X, y) == {"loss": pytest.approx(np.mean((predicted - y) ** 2), rel=1e-12)}
    assert net.score(X, y) == pytest.approx(r2_score(y, predicted), rel=1e-12)
    with refused(TypeError, "a network with output='identity' has no probabilities; use predict"):
        net.predict_proba(X)


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_counts(n_outputs):
    net = MLP([3, 4, n_outputs], output="exp", dtype="float64")
    X, y = np.random.default_rng(0).normal(size=(30, 3)), np.random.default_rng(1).poisson(2.0, (30, n_outputs))
    p = net.predict(X).reshape(y.shape)
    assert (p > 0).all()
    assert net.evaluate(X, y)["loss"] == pytest.approx(mean_poisson_deviance(y.ravel(), p.ravel()) / 2, rel=1e-12)
    _, (_, dw), _ = net.gradients(X, y)
    w, step = net.weights[1], 1e-6
    w[0, 0] += step
    above = net.evaluate(X, y)["loss"]
    w[0, 0] -= 2 * step
    assert dw[0, 0] == pytest.approx((above - net.evaluate(X, y)["loss"]) / (2 * step), rel=1e-6)
    w[0, 0] += step
    with refused(ValueError, "y has -1.0 in row 2, but counts are 0 or more"):
        net.evaluate(X, np.where(np.arange(30)[:, None] == 2, -1, y))
    compiled = fastmlp.MLP([3, 4, n_outputs], output="exp", dtype="float64")
    np.testing.assert_allclose(compiled.predict(X).reshape(y.shape), net.predict(X).reshape(y.shape), rtol=1e-10)


def test_large_logits_do_not_overflow():
    net = MLP([1, 1], output="logistic")
    net.weights[0][:] = 1
    with np.errstate(all="raise", under="ignore"):
        p, loss = net.predict_proba([[-1e30], [0], [1e30]]), net.evaluate([[-1e30], [1e30]], [1, 1])["loss"]
    np.testing.assert_array_equal(p, [[1, 0], [0.5, 0.5], [0, 1]])
    assert loss == pytest.approx(5e29)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_histories(head, dtype):
    net = network(head, "tanh", hidden=(16,), dtype=dtype)
    X, y = data_for(net, 60)
    history = net.fit(X, y, epochs=60, batch_size=8, learning_rate=0.1, validation_data=(X, y))
    assert history.loss[-1] < history.loss[0]
    measured = net.evaluate(X, y)
    assert history.val_loss[-1] == measured["loss"]
    if head.startswith(("number", "count")):
        assert history.accuracy == history.val_accuracy == []
        assert net.score(X, y) > 0.4
    else:
        assert history.val_accuracy[-1] == measured["accuracy"] > history.val_accuracy[0]
        assert len(history.accuracy) == 60
    assert all(p.dtype == dtype for p in net.weights + net.biases)


@pytest.mark.parametrize("activation", [name for name in ALL_ACTIVATIONS if name != "identity"])
def test_each_activation_learns_what_no_line_can(activation):
    X = np.random.default_rng(0).normal(size=(200, 2))
    y = X[:, 0] * X[:, 1] > 0
    net = MLP([2, 16, 16, 1], activation=activation, output="logistic", init="xavier")
    net.fit(X, y, epochs=60, batch_size=16, optimizer="adam", learning_rate=0.02)
    assert net.score(X, y) > 0.9


def test_identity_layers_are_one_layer():
    deep = MLP([4, 6, 5, 3], activation="identity", dtype="float64")
    flat = MLP([4, 3], dtype="float64")
    flat.weights[0] = deep.weights[0] @ deep.weights[1] @ deep.weights[2]
    np.testing.assert_allclose(deep.predict_proba(X), flat.predict_proba(X), rtol=1e-12)


# --- label smoothing --------------------------------------------------------------------------------------------------


def test_label_smoothing_is_a_mixture_of_targets():
    plain, smoothed = (one("softmax", 3, label_smoothing=s) for s in (0, 0.3))
    y = np.arange(6) % 3
    losses = [plain.evaluate(X, np.full(6, label))["loss"] for label in range(3)]
    expected = 0.7 * plain.evaluate(X, y)["loss"] + 0.3 * np.mean(losses)
    assert smoothed.evaluate(X, y)["loss"] == pytest.approx(expected, rel=1e-12)
    assert smoothed.gradients(X, y)[0] == pytest.approx(expected, rel=1e-12)
    assert smoothed.evaluate(X, y)["accuracy"] == plain.evaluate(X, y)["accuracy"]
    assert smoothed.train_batch(X, y) == pytest.approx(expected, rel=1e-12)


# --- settings ---------------------------------------------------------------------------------------------------------


def test_settings_are_kept_as_given(tmp_path):
    given = {
        "activation": ("tanh", "silu"),
        "output": "logistic",
        "l2": 0.1,
        "dropout": (0.5, 0.25),
        "input_dropout": 0.2,
        "input_noise": 0.1,
        "input_scale": 0.5,
        "first_layer": "dense",
        "seed": 3,
    }
    net = MLP([4, 6, 5, 2], **given)
    net.save(tmp_path / "net.npz")
    for twin in (net, MLP.load(tmp_path / "net.npz"), pickle.loads(pickle.dumps(net))):
        assert {name: getattr(twin, name) for name in given} == given
        assert twin.activations == ("tanh", "silu")
        assert twin.dropout_rates == (0.2, 0.5, 0.25)
        assert repr(twin) == repr(net)
        np.testing.assert_array_equal(twin.predict_proba(X), net.predict_proba(X))
        for name in [*given, "activations", "dropout_rates"]:
            with refused(AttributeError, f"{name} cannot be changed; make a new network"):
                setattr(twin, name, getattr(net, name))
    assert eval(repr(net), {"MLP": MLP}).dropout == net.dropout
    assert MLP([4, 5, 3], activation=["relu"], dropout=[0.5]).dropout_rates == (0.0, 0.5)
    assert MLP([4, 3], activation=[], dropout=[]).activations == ()
    assert repr(MLP([4, 5, 3], activation=np.array(["relu"])).activation) == "('relu',)"


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"activation": "swish"},
            ValueError,
            f"activation must be one of {str(ALL_ACTIVATIONS)[1:-1]}, or a list with one for each hidden layer, not",
        ),
        ({"activation": "swish"}, ValueError, "did you mean 'silu'?"),
        ({"activation": ["relu"]}, ValueError, "activation has 1 entries, but the network has 2 hidden layers"),
        ({"activation": ["relu", "Tanh"]}, ValueError, "activation[1] must be one of"),
        ({"activation": ["relu", None]}, TypeError, "activation[1] must be one of"),
        ({"activation": np.array("relu")}, TypeError, "activation must be one of"),
        ({"activation": None}, TypeError, "activation must be one of"),
        ({"output": "sigmoid"}, ValueError, "did you mean 'logistic'?"),
        ({"output": None}, TypeError, f"output must be one of {str(tuple(LOSSES))[1:-1]}, not None"),
        ({"label_smoothing": 1}, ValueError, "label_smoothing must be 0 or more and below 1, not 1"),
        ({"label_smoothing": 0.1, "output": "logistic"}, ValueError, "label_smoothing is for output='softmax', not"),
        ({"l2": -1}, ValueError, "l2 must be 0 or more and finite, not -1"),
        ({"l2": math.inf}, ValueError, "l2 must be 0 or more and finite, not inf"),
        ({"l2": 1e39}, ValueError, "l2 1e+39 is too large: float32 makes it inf"),
        ({"l2": "1"}, TypeError, "l2 must be a number, not '1'"),
        ({"l2": True}, TypeError, "l2 must be a number, not True"),
        ({"dropout": 1.0}, ValueError, "dropout must be 0 or more and below 1, not 1.0"),
        ({"dropout": math.nan}, ValueError, "dropout must be 0 or more and below 1, not nan"),
        ({"dropout": [0.5]}, ValueError, "dropout has 1 entries, but the network has 2 hidden layers"),
        ({"dropout": [0.5, 1]}, ValueError, "dropout[1] must be 0 or more and below 1, not 1"),
        ({"dropout": np.array(0.5)}, TypeError, "dropout must be a number, not array(0.5)"),
        ({"dropout": "0.5"}, TypeError, "dropout must be a number, not '0.5'"),
        ({"input_dropout": [0.5]}, TypeError, "input_dropout must be a number, not [0.5]"),
        ({"input_dropout": -0.1}, ValueError, "input_dropout must be 0 or more and below 1, not -0.1"),
        ({"input_noise": -0.1}, ValueError, "input_noise must be 0 or more and finite, not -0.1"),
        ({"input_noise": 1e39}, ValueError, "input_noise 1e+39 is too large: float32 makes it inf"),
    ],
)
def test_wrong_settings(settings, error, message):
    with refused(error, message):
        MLP([4, 6, 5, 3], **settings)

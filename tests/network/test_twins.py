"""The compiled network does what the plain one does, whatever is switched on; its bits depend on no thread and form."""

import numpy as np
import pytest
from scipy import sparse
from support.losses import ALL_ACTIVATIONS, HEADS, targets_for
from support.nets import DTYPES, LONG, assert_bits, assert_close, parameters, snapshot, twins

from fastmlp import MLP
from fastmlp.callbacks import EarlyStopping
from fastmlp.schedules import ReduceOnPlateau, Warmup

pytestmark = pytest.mark.loops("steps")

NETS = ([4, 3], [5, 1, 3], [6, 17, 9, 3], [13, 65, 33, 7], [20, 40, 3, 130, 5])


def data_for(net, n_rows, seed=1, zeros=0.0):
    generator = np.random.default_rng(seed)
    X, shape = generator.normal(size=(n_rows, net.layers[0])).astype(net.dtype), (n_rows, net.layers[-1])
    X[generator.random(X.shape) < zeros] = 0
    if net.output == "softmax":
        return X, generator.integers(0, shape[1], n_rows)
    y = targets_for(net.output, generator, shape)
    return X, y[:, 0] if shape[1] == 1 else y


def settings_of(head):
    output, n_outputs, smoothing = HEADS[head]
    return n_outputs, {"output": output, "label_smoothing": smoothing}


def assert_same_training(compiled, plain, X, y, *, batch_size=8, epochs=3, learning_rate=0.05, factor=1, **fit):
    """Fit both, and compare parameters, history and answers."""
    histories = [
        net.fit(X, y, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, **fit)
        for net in (compiled, plain)
    ]
    dtype = compiled.dtype
    assert_close(parameters(compiled), parameters(plain), dtype, factor)
    assert_close([histories[0].loss], [histories[1].loss], dtype, factor)
    if dtype == "float64":
        assert histories[0].accuracy == histories[1].accuracy
    assert_same_answers(compiled, plain, X, y, factor)


def assert_same_answers(compiled, plain, X, y, factor=1):
    dtype = compiled.dtype
    for net in (compiled, plain):
        net.evaluated = net.evaluate(X, y)
    assert_close([compiled.evaluated["loss"]], [plain.evaluated["loss"]], dtype, factor)
    if compiled.output in ("identity", "exp"):
        assert_close([compiled.predict(X)], [plain.predict(X)], dtype, factor)
        return
    p, q = compiled.predict_proba(X), plain.predict_proba(X)
    assert p.dtype == q.dtype
    assert_close([p], [q], dtype, factor)
    labels, expected = compiled.predict(X), plain.predict(X)
    assert (labels.dtype, labels.shape) == (expected.dtype, expected.shape)
    if dtype == "float64":
        np.testing.assert_array_equal(labels, expected)
        assert compiled.evaluated["accuracy"] == plain.evaluated["accuracy"]


# --- activations and heads --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ALL_ACTIVATIONS)
@pytest.mark.parametrize("layers", NETS, ids=str)
def test_activations(layers, activation, dtype):
    compiled, plain = twins(layers, activation=activation, dtype=dtype)
    X, y = data_for(compiled, 29)
    assert_same_training(compiled, plain, X, y)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_activation_for_each_layer(dtype):
    for activations in (ALL_ACTIVATIONS, ALL_ACTIVATIONS[::-1]):
        compiled, plain = twins([5, 9, 17, 6, 8, 33, 7, 9, 12, 3], activation=activations, dtype=dtype, init="xavier")
        X, y = data_for(compiled, 29)
        assert_same_training(compiled, plain, X, y, factor=10)


@pytest.mark.main_dtype("float64")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head", HEADS)
def test_heads(head, dtype):
    n_outputs, settings = settings_of(head)
    for n in {n_outputs, n_outputs if n_outputs == 1 else 19}:
        compiled, plain = twins([7, 12, n], dtype=dtype, **settings)
        X, y = data_for(compiled, 29)
        assert_same_training(compiled, plain, X, y)
        (loss, dw, db), (plain_loss, plain_dw, plain_db) = compiled.gradients(X, y), plain.gradients(X, y)
        for got, expected in (([loss], [plain_loss]), (dw, plain_dw), (db, plain_db)):
            assert_close(got, expected, dtype)


@pytest.mark.parametrize("head", HEADS)
def test_heads_of_long_batches(head):
    n_outputs, settings = settings_of(head)
    compiled, plain = twins([7, 12, n_outputs], dtype="float64", **settings)
    X, y = data_for(compiled, LONG + 100)
    assert_same_training(compiled, plain, X, y, batch_size=LONG)


# --- weights ----------------------------------------------------------------------------------------------------------


def weights_for(n_rows, seed=2):
    generator = np.random.default_rng(seed)
    return np.where(generator.random(n_rows) < 0.3, 0, generator.uniform(0.1, 3, n_rows))


@pytest.mark.main_dtype("float64")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("batch_size", [1, 7, 29])
def test_weights_of_rows(head, batch_size, dtype):
    n_outputs, settings = settings_of(head)
    compiled, plain = twins([7, 12, n_outputs], dtype=dtype, **settings)
    X, y = data_for(compiled, 29)
    weights = weights_for(29)  # with batches of one row, some of no weight at all
    assert_same_training(compiled, plain, X, y, batch_size=batch_size, sample_weight=weights)
    got, expected = (net.gradients(X, y, sample_weight=weights) for net in (compiled, plain))
    assert got[0] == pytest.approx(expected[0], rel=1e-5 if dtype == "float32" else 1e-12)
    assert_close(got[1] + got[2], expected[1] + expected[2], dtype)
    losses = [net.train_batch(X, y, 0.1, sample_weight=weights) for net in (compiled, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5 if dtype == "float32" else 1e-12)


def test_weights_of_long_batches_and_classes():
    compiled, plain = twins([7, 12, 3], dtype="float64")
    X, y = data_for(compiled, LONG + 100)
    weights = weights_for(len(X))
    fit = {"batch_size": LONG, "sample_weight": weights, "class_weight": "balanced"}
    assert_same_training(compiled, plain, X, y, **fit)


def test_a_batch_without_weight_takes_no_step():
    compiled, plain = twins([7, 12, 3], dtype="float64")
    X, y = data_for(compiled, 40)
    weights = np.repeat([0.0, 1.0], 20)
    seen = []

    class Spy:
        def on_epoch_end(self, net, fit):
            seen.append(snapshot(net))

    for net in (compiled, plain):
        net.fit(X, y, epochs=1, batch_size=20, shuffle=False, sample_weight=weights, callbacks=[Spy()])
    assert_close(parameters(compiled), parameters(plain), "float64")
    assert compiled.history.steps == plain.history.steps == 2


def test_weights_of_two_are_rows_given_twice():
    generator = np.random.default_rng(0)
    twice, weighted = MLP([7, 12, 3], dtype="float64"), MLP([7, 12, 3], dtype="float64")
    X, y = data_for(twice, 20)
    weights = generator.integers(0, 3, 20)
    twice.fit(np.repeat(X, weights, axis=0), np.repeat(y, weights), epochs=3, batch_size=60, learning_rate=0.1)
    weighted.fit(X, y, epochs=3, batch_size=20, learning_rate=0.1, sample_weight=weights)
    assert_close(parameters(weighted), parameters(twice), "float64")


# --- dropout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ALL_ACTIVATIONS)
def test_dropout_of_hidden_layers(activation, dtype):
    for rate in (0.5, (0.2, 0.0), (0.0, 0.7)):
        compiled, plain = twins([13, 65, 33, 7], activation=activation, dtype=dtype, dropout=rate, seed=3)
        X, y = data_for(compiled, 29)
        assert_same_training(compiled, plain, X, y, factor=5)
        assert_close(compiled.gradients(X, y)[1], plain.gradients(X, y)[1], dtype, 5)


FORMS = {
    "dense": (0.0, lambda X: X, "dense"),
    "packed": (0.7, lambda X: X, "sparse"),
    "bytes": (0.0, lambda X: (40 * np.abs(X)).astype(np.uint8), "dense"),
    "sparse bytes": (0.7, lambda X: (40 * np.abs(X)).astype(np.uint8), "sparse"),
    "csr": (0.7, sparse.csr_array, "auto"),
}
DISTURBED = [
    *(({"input_dropout": 0.3}, form) for form in FORMS),
    *(({"input_noise": 0.4}, form) for form in ("dense", "bytes", "csr", "packed")),
    pytest.param({"input_noise": 0.2, "input_dropout": 0.6, "dropout": 0.5}, "csr", marks=pytest.mark.slow),
]


@pytest.mark.main_dtype("float64")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("settings", "form"), DISTURBED, ids=str)
def test_disturbed_inputs(settings, form, dtype):
    zeros, make, first_layer = FORMS[form]
    for layers in ([13, 33, 7], [70, 9, 3], [129, 7], [1, 5, 2]):
        compiled, plain = twins(
            layers,
            dtype=dtype,
            first_layer=first_layer,
            seed=5,
            input_scale=1 / 100 if "bytes" in form else 1,
            **settings,
        )
        X, y = data_for(compiled, 29, zeros=zeros)
        X = make(X)
        assert_same_training(compiled, plain, X, y, factor=5)
        if form in ("dense", "packed"):  # gradients are not disturbed: the others would compile one more loop each
            assert_close(compiled.gradients(X, y)[1], plain.gradients(X, y)[1], dtype, 5)
        for net in (compiled, plain):
            net.trained = net.train_batch(X, y, 0.1)
        assert compiled.trained == pytest.approx(plain.trained, rel=1e-4 if dtype == "float32" else 1e-10)


# --- bits -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
def test_bits_of_heads_do_not_depend_on_threads(head):
    n_outputs, settings = settings_of(head)
    for batch_size in (9, LONG):
        nets = [MLP([7, 12, n_outputs], dtype="float64", n_threads=n, **settings) for n in (1, 2, 3)]
        X, y = data_for(nets[0], LONG + 100)
        answers = [(net.fit(X, y, epochs=2, batch_size=batch_size).loss, net.predict(X).tobytes()) for net in nets]
        assert answers[0] == answers[1] == answers[2]
        for net in nets[1:]:
            assert_bits(net, snapshot(nets[0]))


@pytest.mark.parametrize("batch_size", [9, LONG])
@pytest.mark.parametrize(
    ("noise", "dtype", "first_layers"),
    [
        (0.0, "float32", ["dense"]),  # packed rows would compile for 15 s more
        pytest.param(0.0, "float32", ["dense", "sparse"], marks=pytest.mark.slow),
        pytest.param(0.1, "float64", ["dense", "sparse"], marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_bits_with_everything_switched_on(noise, dtype, first_layers, batch_size):
    settings = {
        "activation": ("gelu", "relu"), "label_smoothing": 0.1, "l2": 0.01, "dropout": (0.5, 0.2), "input_dropout": 0.2,
        "input_noise": noise, "dtype": dtype, "seed": 3,
    }  # fmt: skip
    expected = None
    for first_layer in first_layers:
        for n_threads in (1, 2, 3, 4):
            net = MLP([70, 65, 33, 4], n_threads=n_threads, first_layer=first_layer, **settings)
            X, y = data_for(net, 2 * batch_size + 5, zeros=0.6)
            fit = {
                "class_weight": "balanced", "clip_norm": 0.5, "clip_value": 0.1, "optimizer": "adamw",
                "schedule": Warmup(schedule=ReduceOnPlateau("val_loss", patience=0, threshold=0.5)),
                "validation_fraction": 0.2, "metrics": ["f1_macro"], "callbacks": [EarlyStopping("val_f1_macro")],
            }  # fmt: skip
            history = net.fit(X, y, epochs=4, batch_size=batch_size, sample_weight=weights_for(len(X)), **fit)
            measured = [values for name, values in history.to_dict().items() if name != "seconds"]
            bits = [*snapshot(net), *measured]
            expected = expected or bits
            for got, wanted in zip(bits, expected, strict=True):
                np.testing.assert_array_equal(got, wanted)

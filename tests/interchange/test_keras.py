"""Networks as models of Keras, there and back. KERAS_BACKEND chooses the backend; PyTorch is the default here."""

import os
import subprocess
import sys

import numpy as np
import pytest
from support.nets import ROOT, assert_bits, data, filled, refused, snapshot

from fastmlp import MLP, reference
from fastmlp.activations import ACTIVATIONS

os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip(os.environ["KERAS_BACKEND"])
keras = pytest.importorskip("keras")
layers = keras.layers
if keras.backend.backend() == "jax":
    pytest.importorskip("jax").config.update("jax_enable_x64", True)

# Keras 3.15 with PyTorch converts variables as NumPy 2 no longer wants it
pytestmark = [pytest.mark.loops("torch"), pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept")]

HEADS = {"softmax": 3, "logistic": 2, "identity": 2, "exp": 2}
CLOSE = 2e-6  # in float64 too: with PyTorch, Keras 3.15 multiplies float64 matrices in float32


def outputs(model, X):
    return keras.ops.convert_to_numpy(model(X))


def assert_same_outputs(net, model, X):
    expected = net.predict_proba(X) if net.output in ("softmax", "logistic") else net.predict(X)
    expected = expected.reshape(len(X), -1)[:, -net.layers[-1] :]
    np.testing.assert_allclose(outputs(model, X), expected, rtol=2 * CLOSE, atol=CLOSE)


def sequential(*parts, n_inputs=4):
    return keras.Sequential([keras.Input((n_inputs,)), *parts])


# --- there and back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", HEADS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_and_output(activation, output):
    for dtype in ("float32", "float64"):
        X = np.random.default_rng(0).normal(size=(2000, 5)).astype(dtype)
        net = filled([5, 7, 6, HEADS[output]], activation=activation, output=output, dtype=dtype)
        model = net.to_keras()
        assert_same_outputs(net, model, X)
        back = reference.MLP.from_keras(model)
        assert_bits(back, snapshot(net))
        assert back._settings() == net._settings()


@pytest.mark.parametrize("sizes", [[4, 3], [1, 1], [5, 1, 2], [7, 13, 130, 3], [130, 7, 1]], ids=str)
def test_awkward_sizes(sizes):
    net = filled(sizes, MLP, output="logistic", activation="tanh")
    model = net.to_keras()
    assert_same_outputs(net, model, data(30, sizes[0])[0])
    assert_bits(MLP.from_keras(model), snapshot(net))


def test_settings_come_back_from_a_file(tmp_path):
    net = filled(
        [4, 5, 6, 3], activation=["gelu", "leaky_relu"], dropout=[0.25, 0.0], input_dropout=0.125, input_noise=0.5,
        input_scale=1 / 255, l2=0.1, dtype="float64",
    )  # fmt: skip
    net.to_keras().save(tmp_path / "net.keras")
    model = keras.saving.load_model(tmp_path / "net.keras")
    back = reference.MLP.from_keras(model)
    assert_bits(back, snapshot(net))
    assert back._settings() == net._settings()
    assert_same_outputs(net, model, 255 * data(50, dtype="float64")[0])


def test_the_penalty_is_that_of_the_network():
    net = filled([4, 5, 3], l2=0.5)
    expected = 0.25 * sum(np.square(w).sum() for w in net.weights)
    assert sum(keras.ops.convert_to_numpy(loss) for loss in net.to_keras().losses) == pytest.approx(expected, rel=1e-6)


def test_the_model_is_a_copy():
    net = filled([4, 5, 3])
    before, model = snapshot(net), net.to_keras()
    back = reference.MLP.from_keras(model)
    model.set_weights([np.zeros_like(w) for w in model.get_weights()])
    assert_bits(net, before)
    assert_bits(back, before)
    model = net.to_keras()
    for w in net.weights:
        w[:] = 0
    assert_bits(reference.MLP.from_keras(model), before)


def test_keras_trains_the_model():
    X, y = data(60)
    y = (X[:, 0] > 0).astype(int)
    net = filled([4, 8, 2], dropout=0.1, l2=1e-4)
    model = net.to_keras()
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(X, y, epochs=20, batch_size=20, verbose=0)
    assert reference.MLP.from_keras(model).score(X, y) > 0.9


@pytest.mark.slow  # another process has to import JAX
def test_jax_as_the_backend():
    pytest.importorskip("jax")
    program = """
        import os
        os.environ["KERAS_BACKEND"] = "jax"
        import keras, numpy as np
        from fastmlp.reference import MLP
        net = MLP([4, 130, 3], activation="gelu", dropout=0.1)
        model, X = net.to_keras(), np.ones((3, 4), "float32")
        assert abs(np.asarray(model(X)) - net.predict_proba(X)).max() < 2e-6
        back = MLP.from_keras(model)
        assert all((a == b).all() for a, b in zip(back.weights, net.weights))
        try:
            MLP([4, 3], dtype="float64").to_keras()
        except ValueError as error:
            assert "jax_enable_x64" in str(error), error
        else:
            raise AssertionError
        import jax
        jax.config.update("jax_enable_x64", True)
        net, X = MLP([4, 5, 3], dtype="float64"), np.random.default_rng(0).normal(size=(9, 4))
        model = net.to_keras()
        back = MLP.from_keras(model)
        assert abs(np.asarray(model(X)) - net.predict_proba(X)).max() < 1e-13
        assert back.dtype == "float64" and (back.weights[0] == net.weights[0]).all()
    """
    program = "\n".join(line[8:] for line in program.splitlines())
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


# --- models of others -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "activation"),
    [
        ([layers.Dense(3, "relu")], "relu"), ([layers.Dense(3), layers.ReLU()], "relu"),
        ([layers.Dense(3), layers.Activation("relu")], "relu"),
        ([layers.Dense(3, activation=layers.LeakyReLU(negative_slope=0.01))], "leaky_relu"),
        ([layers.Dense(3), layers.ReLU(negative_slope=0.01)], "leaky_relu"),
        ([layers.Dense(3, activation=keras.activations.elu)], "elu"), ([layers.Dense(3), layers.ELU()], "elu"),
        ([layers.Dense(3, "swish")], "silu"), ([layers.Dense(3, "silu")], "silu"), ([layers.Dense(3, "celu")], "elu"),
        ([layers.Dense(3, "sigmoid")], "logistic"), ([layers.Dense(3, "linear")], "identity"),
        ([layers.Dense(3, activation=layers.Activation("tanh")), layers.Flatten()], "tanh"),
    ],
)  # fmt: skip
def test_an_activation_in_all_its_forms(parts, activation):
    model, X = sequential(*parts, layers.Dense(2, "softmax")), data(30)[0]
    net = reference.MLP.from_keras(model)
    assert net.activations == (activation,)
    assert_same_outputs(net, model, X)


def test_operations_in_a_functional_model():
    ops, X = keras.ops, data(30)[0]
    for function, activation in (
        (ops.relu, "relu"), (ops.tanh, "tanh"), (ops.sigmoid, "logistic"), (ops.silu, "silu"), (ops.elu, "elu"),
        (lambda x: ops.leaky_relu(x, 0.01), "leaky_relu"), (ops.gelu, "gelu"),
    ):  # fmt: skip
        x = keras.Input((4,))
        model = keras.Model(x, ops.softmax(layers.Dense(2)(function(layers.Dense(3)(x)))))
        net = reference.MLP.from_keras(model)
        assert (net.activations, net.output) == ((activation,), "softmax")
        assert_same_outputs(net, model, X)


def test_models_inside_a_model_and_a_layer_that_is_used_twice():
    inner, layer, X = sequential(layers.Dense(4, "relu")), layers.Dense(4, "tanh"), data(30)[0]
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(2)(layer(layer(inner(x)))))
    net = reference.MLP.from_keras(model)
    assert (net.activations, net.output) == (("relu", "tanh", "tanh"), "identity")
    assert_same_outputs(net, model, X)


def test_images_and_no_biases():
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 2)).astype("float32")
    model = keras.Sequential([
        keras.Input((3, 2)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dropout(0.5),
        layers.Dense(5, "relu", use_bias=False), layers.Dropout(0.25), layers.Dense(3),
    ])  # fmt: skip
    for loss, output in (
        (None, "identity"),
        ("mse", "identity"),
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), "softmax"),
        (keras.losses.CategoricalCrossentropy(from_logits=True), "softmax"),
        (keras.losses.BinaryCrossentropy(from_logits=True), "logistic"),
        (keras.losses.MeanSquaredError(), "identity"),
    ):
        model.compile(loss=loss)
        net = reference.MLP.from_keras(model)
        assert net.output == output
    assert reference.MLP.from_keras(model, output="exp").output == "exp"
    assert (net.input_scale, net.input_dropout, net.dropout) == (np.float32(1 / 255), 0.5, 0.25)
    np.testing.assert_allclose(net.predict(images.reshape(20, 6)), outputs(model, images), atol=2e-6)


def test_half_precision_becomes_float32():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, "softmax", dtype="bfloat16")])
    net = reference.MLP.from_keras(model)
    assert net.dtype == "float32"
    np.testing.assert_array_equal(
        net.weights[0], keras.ops.convert_to_numpy(keras.ops.cast(model.layers[0].kernel, "float32"))
    )


# --- what is refused --------------------------------------------------------------------------------------------------


class Custom(layers.Dense):
    pass


def skip_connection():
    x = keras.Input((4,))
    return keras.Model(x, layers.add([x, layers.Dense(4)(x)]))


def two_inputs():
    x, y = keras.Input((4,)), keras.Input((4,))
    return keras.Model([x, y], layers.Dense(4)(layers.concatenate([x, y])))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sequential(layers.Dense(3, "gelu"), layers.Dense(2)), "the exact GELU"),
        (lambda: sequential(layers.Dense(3, "leaky_relu"), layers.Dense(2)), "a leaky ReLU with the slope 0.2"),
        (lambda: sequential(layers.Dense(3), layers.LeakyReLU(), layers.Dense(2)), "with the slope 0.3"),
        (lambda: sequential(layers.Dense(3, "hard_sigmoid")), "has the activation hard_sigmoid"),
        (lambda: sequential(layers.Dense(3, activation=lambda x: x)), "has the activation <lambda>"),
        (lambda: sequential(layers.Dense(3), layers.ReLU(6.0)), "a ReLU with a maximum or a threshold"),
        (lambda: sequential(layers.Dense(3), layers.PReLU()), "it has PReLU 'p_re_lu"),
        (lambda: sequential(layers.Dense(3), layers.ELU(alpha=0.5)), "an ELU with alpha=0.5"),
        (lambda: sequential(layers.Dense(3), layers.BatchNormalization()), "it has BatchNormalization"),
        (lambda: sequential(layers.Normalization(mean=0.0, variance=1.0), layers.Dense(3)), "it has Normalization"),
        (lambda: sequential(layers.Rescaling(0.5, offset=1), layers.Dense(3)), "does more than multiply X by one"),
        (lambda: sequential(layers.GaussianNoise(0.5), layers.Rescaling(0.5), layers.Dense(3)), "more than multiply"),
        (lambda: sequential(layers.Dense(3), layers.GaussianNoise(0.5), layers.Dense(2)), "it has GaussianNoise"),
        (lambda: sequential(layers.Dense(3), layers.Dropout(0.5)), "dropout after the last layer"),
        (lambda: sequential(layers.Dense(3, "softmax"), layers.Dense(2)), "softmax comes before Dense"),
        (lambda: sequential(layers.Dense(3, "tanh")), "the last layer has the activation tanh"),
        (lambda: sequential(layers.Dense(3, "relu"), layers.Dense(3, kernel_regularizer="l2")), "pass l2=0"),
        (lambda: sequential(layers.Dense(3, bias_regularizer="l2")), "pass l2=0"),
        (lambda: sequential(layers.Dense(3, kernel_regularizer="l1")), "pass l2=0"),
        (lambda: sequential(Custom(3)), "is not one of Keras's own layers"),
        (lambda: sequential(layers.Reshape((2, 2)), layers.Flatten(), layers.Dense(3)), "it has Reshape"),
        (lambda: keras.Sequential([keras.Input((5, 4)), layers.Dense(3)]), "no Flatten comes before its layers"),
        (lambda: keras.Sequential([layers.Dense(3)]), "it is not built; call it once, or give it a keras.Input"),
        (skip_connection, "has 2 inputs; its layers must follow one another"),
        (two_inputs, "it has 2 inputs and 1 outputs"),
        (lambda: sequential(layers.Flatten()), "it has no layer with weights"),
    ],
)
def test_a_model_that_fastmlp_cannot_be_is_refused_by_name(make, message):
    with refused(ValueError, message):
        reference.MLP.from_keras(make())


def test_subclassed_models_and_other_things_are_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    with refused(ValueError, "only Sequential and functional models can be read"):
        reference.MLP.from_keras(Own())
    with refused(TypeError, "model must be a keras.Model, not str; read a file first: keras.saving.load_model(path)"):
        reference.MLP.from_keras("net.keras")
    with refused(TypeError, "layers cannot be given: it is that of the model"):
        reference.MLP.from_keras(sequential(layers.Dense(3)), layers=[4, 3])


def test_the_user_decides():
    model = sequential(layers.Dense(3, "gelu", kernel_regularizer="l1"), layers.Dense(2))
    net = reference.MLP.from_keras(model, activation="gelu", l2=0, output="softmax", dropout=0.5)
    assert (net.activation, net.l2, net.output, net.dropout) == ("gelu", 0, "softmax", 0.5)
    assert np.abs(net.weights[0] - model.get_weights()[0]).max() == 0
    with refused(ValueError, "activation is 'relu' for hidden layer 0"):
        reference.MLP.from_keras(model, activation="relu", l2=0)


def test_a_model_of_keras_is_none_of_pytorch():
    with refused(TypeError, "module is a Keras model; use MLP.from_keras"):
        reference.MLP.from_torch(filled([4, 3]).to_keras())


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(ImportError, match="pip install keras"):
        filled([4, 3]).to_keras()

"""Networks as modules of PyTorch, there and back."""

import pickle
import sys

import numpy as np
import pytest
from support.nets import assert_bits, data, filled, refused, snapshot

from fastmlp import MLP, reference
from fastmlp.activations import ACTIVATIONS
from fastmlp.optimizers import Adam, Optimizer

torch = pytest.importorskip("torch")
nn = torch.nn

pytestmark = pytest.mark.loops("torch")

HEADS = {"softmax": 3, "logistic": 2, "identity": 2, "exp": 2}
AWKWARD = ([4, 3], [1, 1], [5, 1, 2], [7, 13, 130, 3], [130, 7, 1])
CLOSE = {"float32": 2e-6, "float64": 1e-13}


def outputs(module, X):
    with torch.no_grad():
        return module(torch.from_numpy(X)).numpy()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layers", AWKWARD, ids=str)
@pytest.mark.parametrize("kind", [MLP, reference.MLP], ids=["compiled", "plain"])
def test_parameters_are_bit_equal_there_and_back(kind, layers, dtype):
    net = filled(layers, kind, activation="tanh", output="identity", dtype=dtype)
    module = net.to_torch()
    for linear, w, b in zip([m for m in module if hasattr(m, "weight")], net.weights, net.biases, strict=True):
        assert linear.weight.is_contiguous()
        np.testing.assert_array_equal(linear.weight.detach().numpy(), w.T)
        np.testing.assert_array_equal(linear.bias.detach().numpy(), b)
    for source in (module, module.state_dict(), {n: t.numpy() for n, t in module.state_dict().items()}):
        back = kind.from_torch(source, activation="tanh", output="identity")
        assert_bits(back, snapshot(net))
        assert back._settings() == net._settings()


@pytest.mark.parametrize("output", HEADS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_and_output(activation, output):
    X = np.random.default_rng(0).normal(scale=3, size=(200, 5))
    for dtype, close in CLOSE.items():
        net = filled([5, 7, 6, HEADS[output]], activation=activation, output=output, dtype=dtype)
        module = net.to_torch()
        z = outputs(module, X.astype(dtype)).astype("float64")
        expected = net.predict_proba(X) if output in ("softmax", "logistic") else net.predict(X)
        own = {"softmax": lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), "identity": lambda z: z,
               "logistic": lambda z: 1 / (1 + np.exp(-z)), "exp": np.exp}[output](z)  # fmt: skip
        np.testing.assert_allclose(own, expected, rtol=20 * close, atol=close)
        back = reference.MLP.from_torch(module, output=output)
        assert back.activations == net.activations
        assert back.output == output
        np.testing.assert_array_equal(back.predict(X), net.predict(X))


@pytest.mark.parametrize(("output", "n_outputs"), [("softmax", 3), ("logistic", 1), ("logistic", 3)])
def test_probabilities(output, n_outputs):
    net = filled([4, 5, n_outputs], output=output)
    X, _ = data(50)
    module = net.to_torch(probabilities=True)
    expected = net.predict_proba(X)[:, -1:] if n_outputs == 1 else net.predict_proba(X)
    np.testing.assert_allclose(outputs(module, X), expected, atol=2e-6)
    assert reference.MLP.from_torch(module).output == output


def test_settings_come_back():
    net = filled([4, 5, 6, 3], activation=["relu", "silu"], dropout=[0.25, 0.0], input_dropout=0.125, dtype="float64")
    module = net.to_torch()
    assert not module.training
    back = reference.MLP.from_torch(module)
    assert back._settings() == net._settings()
    X, _ = data(20)
    np.testing.assert_array_equal(back.predict_proba(X), net.predict_proba(X))


def test_the_module_is_a_copy_and_plain(tmp_path):
    net = filled([4, 5, 3])
    before, module = snapshot(net), net.to_torch()
    assert type(module) is nn.Sequential
    assert {type(part).__module__.split(".")[:2] == ["torch", "nn"] for part in module} == {True}
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert_bits(net, before)
    torch.save(net.to_torch().state_dict(), tmp_path / "net.pt")
    read = torch.load(tmp_path / "net.pt", weights_only=True)
    assert_bits(reference.MLP.from_torch(read, activation="relu"), before)
    again = pickle.loads(pickle.dumps(net.to_torch()))
    back = reference.MLP.from_torch(again)
    with torch.no_grad():
        again[0].weight.zero_()
    assert_bits(back, before)


def test_pytorch_s_random_numbers_stay_as_they_are():
    before = torch.get_rng_state()
    reference.MLP.from_torch(filled([40, 50, 3], dropout=0.5).to_torch())
    assert torch.equal(before, torch.get_rng_state())


def test_input_scale():
    pixels = np.random.default_rng(0).integers(0, 256, (30, 4)).astype("float32")
    net = filled([4, 5, 3], input_scale=1 / 255)
    expected = net.predict_proba(pixels)
    np.testing.assert_allclose(outputs(net.to_torch(probabilities=True), pixels), expected, atol=2e-6)
    scaled = net.to_torch(scaled_inputs=True)
    back = reference.MLP.from_torch(scaled, input_scale=1 / 255)
    assert_bits(back, snapshot(net))
    np.testing.assert_array_equal(back.predict_proba(pixels), expected)


def test_what_pytorch_cannot_hold_is_refused_by_name():
    with refused(TypeError, "a network with output='identity' has no probabilities"):
        filled([4, 3], output="identity").to_torch(probabilities=True)
    net = filled([4, 3])
    with refused(ValueError, "has not been trained, or came without its training state"):
        net.to_torch(training=True)
    X, y = data(20)
    net.train_batch(X, y, optimizer=Adam(eps_hat=True))
    with refused(ValueError, "PyTorch's Adam has no eps_hat"):
        net.to_torch(training=True)
    with refused(ValueError, "losses of PyTorch take outputs"):
        net.to_torch(training=True, probabilities=True)
    net.train_batch(X, y, optimizer=Own(learning_rate=0.1))
    with refused(ValueError, "PyTorch has no optimizer Own"):
        net.to_torch(training=True)
    net = filled([4, 3], l2=0.1)
    net.train_batch(X, y, optimizer="adamw")
    with refused(ValueError, "PyTorch has no l2 penalty beside the weight decay of AdamW"):
        net.to_torch(training=True)
    net = filled([4, 3], input_scale=0.5)
    net.train_batch(X, y)
    with refused(ValueError, "pass scaled_inputs=True, and multiply X by 0.5"):
        net.to_torch(training=True)


class Own(Optimizer):
    name, slots = "own", 0

    def coefficients(self, steps, rates):
        return {"rate": rates}

    def update(self, parameter, gradient, state, coefficients):
        parameter -= coefficients["rate"] * gradient


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="pip install torch"):
        filled([4, 3]).to_torch()

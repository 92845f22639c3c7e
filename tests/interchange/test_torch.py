"""Networks as modules of PyTorch, there and back."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from support.nets import assert_bits, data, filled, parameters, refused, snapshot

from fastmlp import MLP, reference
from fastmlp.activations import ACTIVATIONS
from fastmlp.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional

pytestmark = pytest.mark.loops("torch")

HEADS = {"softmax": 3, "logistic": 2, "identity": 2, "exp": 2}
AWKWARD = ([4, 3], [1, 1], [5, 1, 2], [7, 13, 130, 3], [130, 7, 1])
CLOSE = {"float32": 2e-6, "float64": 1e-13}


def outputs(module, X):
    with torch.no_grad():
        return module(torch.from_numpy(X)).numpy()


def targets(net, n_rows, seed=0):
    """Targets of a network as `train_batch` takes them."""
    generator = np.random.default_rng(seed)
    n_outputs = net.layers[-1]
    if net.output == "softmax":
        return generator.integers(0, n_outputs, n_rows)
    y = generator.integers(0, 2, (n_rows, n_outputs))
    return y if net.output == "logistic" else (y + generator.uniform(0, 1, y.shape)).astype(net.dtype)


def torch_step(module, optimizer, loss, X, y):
    y = torch.from_numpy(y)
    y = y if isinstance(loss, nn.CrossEntropyLoss) else y.to(next(module.parameters()).dtype)
    optimizer.zero_grad()
    value = loss(module(torch.from_numpy(X)), y)
    value.backward()
    optimizer.step()
    return float(value.detach())


# --- there and back ---------------------------------------------------------------------------------------------------


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


# --- modules of others ------------------------------------------------------------------------------------------------


class Written(nn.Module):
    """A module as people write them, with one activation for all and layers in another order than they compute."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(6, 3)
        self.first, self.second = nn.Linear(12, 5), nn.Linear(5, 6, bias=False)
        self.drop, self.act = nn.Dropout(0.25), nn.Tanh()

    def forward(self, x):
        x = x.view(x.size(0), -1) / 255.0
        x = self.drop(self.act(self.first(x)))
        x = torch.relu_(self.second(torch.flatten(x, 1)))
        return F.log_softmax(self.last(F.dropout(x, 0.5, self.training)), dim=1)


def test_a_written_module():
    module = Written()
    net = reference.MLP.from_torch(module)
    assert net.layers == (12, 5, 6, 3)
    assert net.activations == ("tanh", "relu")
    assert net.dropout == (0.25, 0.5)
    assert net.input_scale == np.float32(1 / 255)
    X = np.random.default_rng(0).integers(0, 256, (40, 12)).astype("float32")
    np.testing.assert_allclose(net.predict_proba(X), np.exp(outputs(module.eval(), X.reshape(40, 3, 4))), atol=2e-6)
    assert module.second.bias is None
    assert not net.biases[1].any()


SAME = {
    "relu": [nn.ReLU(), nn.ReLU(inplace=True), F.relu, torch.relu, lambda x: x.relu()],
    "leaky_relu": [nn.LeakyReLU(), F.leaky_relu],
    "elu": [nn.ELU(), nn.CELU(), F.elu],
    "gelu": [nn.GELU("tanh"), lambda x: F.gelu(x, approximate="tanh")],
    "silu": [nn.SiLU(), F.silu],
    "tanh": [nn.Tanh(), torch.tanh, lambda x: x.tanh()],
    "logistic": [nn.Sigmoid(), torch.sigmoid, lambda x: x.sigmoid_()],
    "identity": [nn.Identity(), lambda x: x, nn.Flatten(), lambda x: torch.flatten(x, start_dim=1)],
}


class Around(nn.Module):
    """Two layers with a function between them, and one at the end."""

    def __init__(self, function, last=None):
        super().__init__()
        self.first, self.second, self.function, self.last = nn.Linear(4, 3), nn.Linear(3, 2), function, last

    def forward(self, x):
        x = self.second(self.function(self.first(x)))
        return x if self.last is None else self.last(x)


@pytest.mark.parametrize("name", SAME)
def test_an_activation_in_all_its_forms(name):
    X, _ = data(30)
    for function in SAME[name]:
        module = Around(function)
        net = reference.MLP.from_torch(module, output="identity")
        assert net.activations == (name,)
        np.testing.assert_allclose(net.predict(X), outputs(module, X), atol=2e-6)


@pytest.mark.parametrize(
    ("last", "output"),
    [
        (nn.Softmax(dim=1), "softmax"), (nn.Softmax(dim=-1), "softmax"), (nn.LogSoftmax(dim=1), "softmax"),
        (lambda z: z.softmax(1), "softmax"), (lambda z: F.softmax(z, dim=1), "softmax"),
        (lambda z: torch.log_softmax(z, -1), "softmax"), (nn.Sigmoid(), "logistic"), (torch.sigmoid, "logistic"),
        (torch.exp, "exp"), (lambda z: z.exp(), "exp"), (None, "softmax"), (nn.Identity(), "softmax"),
    ],
)  # fmt: skip
def test_the_end_says_what_the_outputs_mean(last, output):
    assert reference.MLP.from_torch(Around(nn.ReLU(), last)).output == output


def test_one_output_may_be_squeezed():
    module = Around(nn.Tanh(), lambda z: z.squeeze(-1))
    module.second = nn.Linear(3, 1)
    X, _ = data(30)
    net = reference.MLP.from_torch(module, output="identity")
    np.testing.assert_allclose(net.predict(X), outputs(module, X), atol=2e-6)
    with refused(ValueError, "a softmax over one output is always 1"):
        reference.MLP.from_torch(module)


def test_wrapped_modules():
    inner = filled([4, 5, 3]).to_torch()
    expected = snapshot(reference.MLP.from_torch(inner))
    for module in (nn.Sequential(nn.Sequential(*inner[:2]), inner[2]), nn.DataParallel(inner)):
        assert_bits(reference.MLP.from_torch(module), expected)
    single = nn.Linear(4, 3)
    assert reference.MLP.from_torch(single).layers == (4, 3)


@pytest.mark.slow  # its first import takes ten seconds
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_module():
    net = filled([4, 5, 3])
    assert_bits(reference.MLP.from_torch(torch.compile(net.to_torch())), snapshot(net))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(dtype):
    module = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).to(dtype)
    net = reference.MLP.from_torch(module)
    assert net.dtype == "float32"
    np.testing.assert_array_equal(net.weights[0], module[0].weight.detach().float().numpy().T)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(torch.tanh(self.layer(x)))


def test_a_layer_that_is_used_twice():
    module, (X, _) = Tied(), data(10)
    net = reference.MLP.from_torch(module, output="identity")
    np.testing.assert_allclose(net.predict(X), outputs(module, X), atol=2e-6)
    with refused(ValueError, "layers share parameters"):
        reference.MLP.from_torch(module, optimizer=torch.optim.SGD(module.parameters(), lr=0.1))


def test_the_order_of_layers_in_a_state_dict():
    state = nn.Sequential(*[m for _ in range(6) for m in (nn.Linear(3, 3), nn.ReLU())][:-1]).state_dict()
    by_name = dict(sorted(state.items()))  # as safetensors returns them
    assert list(by_name) != list(state)
    net, same = (reference.MLP.from_torch(s, activation="relu") for s in (state, by_name))
    assert_bits(same, snapshot(net))
    named = {"model.hidden.weight": state["0.weight"], "model.hidden.bias": state["0.bias"],
             "model.out.weight": state["2.weight"]}  # fmt: skip
    net = reference.MLP.from_torch(named, activation="relu")
    assert net.layers == (3, 3, 3)
    assert not net.biases[1].any()


# --- what is refused --------------------------------------------------------------------------------------------------


class Branch(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.a, self.b, self.act = nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU()
        self.f = forward

    def forward(self, x):
        return self.f(self, x)


def hooked(module):
    module.register_forward_hook(lambda module, inputs, output: 2 * output)
    return module


def decides(s, x):
    return s.a(x) if x.sum() > 0 else s.b(x)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3)), "it has the module '0' (Conv2d), which fastmlp's networks do not have"),
        (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), "'1' (BatchNorm1d), which fastmlp's networks do not have"),
        (Around(nn.GELU()), "the exact GELU"),
        (Around(F.gelu), "the exact GELU"),
        (Around(nn.LeakyReLU(0.2)), "a leaky ReLU with the slope 0.2"),
        (Around(lambda x: F.leaky_relu(x, 0.1)), "leaky_relu() is a leaky ReLU with the slope 0.1"),
        (Around(nn.ELU(0.5)), "an ELU with alpha=0.5"),
        (Around(nn.PReLU()), "'function' (PReLU)"),
        (Around(hooked(nn.ReLU())), "'function' (ReLU) has hooks"),
        (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))), "remove_parametrizations"),
        (Around(nn.Hardtanh()), "'function' (Hardtanh)"),
        (Around(nn.AlphaDropout()), "'function' (AlphaDropout)"),
        (Around(lambda x: F.softplus(x)), "softplus()"),
        (Around(lambda x: torch.tanh(torch.relu(x))), "tanh() follows relu; in fastmlp a layer has one activation"),
        (Around(nn.Softmax(dim=1)), "softmax comes before the module 'second' (Linear)"),
        (Around(nn.ReLU(), nn.Tanh()), "the last layer has the activation tanh"),
        (Around(nn.ReLU(), nn.Softmax(dim=0)), "a softmax over axis 0"),
        (Around(nn.ReLU(), nn.Dropout()), "dropout after the last layer"),
        (Around(lambda x: torch.tanh(F.dropout(x))), "tanh() follows dropout"),
        (Around(lambda x: F.dropout(F.dropout(x))), "dropout() follows other dropout"),
        (Around(lambda x: x * 2), "mul() multiplies by a number after a layer"),
        (Around(lambda x: x + 1), "it has add()"),
        (Around(lambda x: x.view(-1, 3)), "view() after its first layer, which may mix rows"),
        (Around(lambda x: torch.flatten(x)), "flatten() after its first layer"),
        (Around(lambda x: x[:, :3]), "does not compute from the step before alone"),
        (nn.Sequential(nn.ReLU(), nn.Linear(4, 3)), "'0' (ReLU) comes before the first layer"),
        (nn.Sequential(nn.Linear(4, 3), nn.Linear(4, 3)), "'1' (Linear) takes 4 numbers, but the layer before"),
        (nn.Sequential(nn.ReLU()), "comes before the first layer"),
        (nn.Sequential(), "it has no layer with weights"),
        (Branch(lambda s, x: x + s.b(s.a(x))), "it has add(), which does not compute from the step before alone"),
        (Branch(lambda s, x: s.a(x) + s.b(x)), "'b' (Linear), which does not compute from the step before alone"),
        (Branch(lambda s, x: {"logits": s.a(x)}), "returns something else than the outputs of its last layer"),
        (Branch(lambda s, x: (s.b(h := s.a(x)), h)), "returns something else"),
        (Branch(lambda s, x: F.linear(x, x)), "linear() with weights that are computed"),
        (Branch(decides), "its forward cannot be traced"),
        (nn.Linear(4, 3, device="meta"), "is on the device meta and has no numbers"),
        (nn.LazyLinear(3), "has no numbers yet; call the module once"),
    ],
)  # fmt: skip
def test_a_module_that_fastmlp_cannot_be_is_refused_by_name(module, message):
    with refused(ValueError, message):
        reference.MLP.from_torch(module)


def test_the_exact_gelu_is_replaced_if_the_user_says_so():
    module, (X, _) = Around(nn.GELU()), data(50)
    net = reference.MLP.from_torch(module, activation="gelu", output="identity")
    assert 1e-6 < np.abs(net.predict(X) - outputs(module, X)).max() < 1e-3


def test_contradictions_are_refused():
    module = Around(nn.ReLU(), nn.Sigmoid())
    with refused(ValueError, "activation is 'tanh' for hidden layer 0, but the network has relu there"):
        reference.MLP.from_torch(module, activation="tanh")
    with refused(ValueError, "output is 'softmax', but the network ends in logistic"):
        reference.MLP.from_torch(module, output="softmax")
    with refused(TypeError, "dtype cannot be given: it is that of the module"):
        reference.MLP.from_torch(module, dtype="float64")
    with refused(TypeError, "unknown argument 'lr'"):
        reference.MLP.from_torch(module, lr=0.1)
    with refused(TypeError, "module must be a torch.nn.Module or its state_dict(), not type"):
        reference.MLP.from_torch(nn.Linear)
    with refused(ValueError, "activation has 2 entries, but the network has 1 hidden layers"):
        reference.MLP.from_torch(module.state_dict(), activation=["relu", "relu"])
    for path in ("net.pt", Path("net.pt")):
        with refused(TypeError, "read a file first: torch.load(path, weights_only=True)"):
            reference.MLP.from_torch(path)


W, B = torch.ones(3, 4), torch.zeros(3)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"0.weight": W, "0.bias": B, "2.weight": W}, "'2' takes 4 numbers, but the layer before it gives 3"),
        ({"0.weight": W, "0.bias": B, "2.weight": torch.ones(2, 3)}, "pass activation='relu', or what they are"),
        ({"0.bias": B}, "'0' has a bias, but no weight"),
        ({"0.weight": W, "0.bias": B, "1.running_mean": B}, "'1.running_mean', but only weights and biases of Linear"),
        ({"0.weight": torch.ones(2, 1, 3, 3)}, "a weight of shape (2, 1, 3, 3)"),
        ({"0.weight": W, "0.bias": torch.zeros(4)}, "biases of shape (4,), not (3,)"),
        ({"0.weight": W * float("nan")}, "weights that are not finite"),
        ({"0.weight": W.int()}, "weights of int32, not of floating-point numbers"),
        ({"0.weight": W.to_sparse()}, "is sparse"),
        ({"0.weight": torch.ones(1).expand(10**6, 10**6)}, "is an expanded tensor, which repeats its numbers"),
        ({"0.weight": W, "0.bias": "x"}, "'0.bias' is a str, not a tensor"),
        ({"model": {"0.weight": W}, "epoch": 3}, "pass it alone"),
        ({}, "it has no layer with weights"),
    ],
    ids=str,
)  # fmt: skip
def test_a_state_dict_that_is_none_of_linear_layers_is_refused(state, message):
    with refused(ValueError, message):
        reference.MLP.from_torch(state)


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


# --- training continues -----------------------------------------------------------------------------------------------

OPTIMIZERS = [
    SGD(learning_rate=0.1),
    SGD(weight_decay=0.01),
    SGD(momentum=0.9, weight_decay=0.01),
    SGD(momentum=0.9, nesterov=True),
    Adam(learning_rate=0.01),
    Adam(betas=(0.5, 0.9), eps=1e-3, weight_decay=0.1),
    AdamW(learning_rate=0.01, weight_decay=0.1),
    RMSprop(),
    RMSprop(momentum=0.9, weight_decay=0.01),
    RMSprop(centered=True),
    RMSprop(centered=True, momentum=0.5),
    Adagrad(),
    Adagrad(lr_decay=0.1, initial_accumulator_value=0.5, weight_decay=0.1),
]


@pytest.mark.parametrize(
    ("optimizer", "l2"),
    [*((optimizer, 0.0) for optimizer in OPTIMIZERS), (OPTIMIZERS[2], 0.05), (OPTIMIZERS[5], 0.05)],
    ids=repr,
)
def test_one_more_step_agrees_both_ways(optimizer, l2):
    for dtype, close in {"float32": 2e-6, "float64": 1e-12}.items():
        X, y = data(40, dtype=dtype)
        net = filled([4, 5, 3], activation="tanh", dtype=dtype, l2=l2)
        for _ in range(3):
            net.train_batch(X, y, optimizer=optimizer)
        module, theirs, loss = net.to_torch(training=True)
        assert module.training
        for _ in range(3):
            torch_step(module, theirs, loss, X, y)
            net.train_batch(X, y, optimizer=optimizer)
            assert_near(net, module, close)
        back = reference.MLP.from_torch(module, optimizer=theirs)
        assert back._training_state.optimizer == optimizer
        assert back.l2 == pytest.approx(l2, rel=1e-12)
        for _ in range(2):
            torch_step(module, theirs, loss, X, y)
            back.train_batch(X, y, optimizer=optimizer)
            assert_near(back, module, close)


def assert_near(net, module, close):
    linear = [m for m in module if hasattr(m, "weight")]
    theirs = [m.weight.detach().numpy().T for m in linear] + [m.bias.detach().numpy() for m in linear]
    for own, other in zip(parameters(net), theirs, strict=True):
        np.testing.assert_allclose(own, other, rtol=close, atol=close)


@pytest.mark.parametrize("output", HEADS)
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_the_loss_is_that_of_the_network(output, n_outputs):
    if (output, n_outputs) == ("softmax", 1):
        return
    smoothing = 0.1 if output == "softmax" else 0.0
    net = filled([4, 5, n_outputs], output=output, dtype="float64", label_smoothing=smoothing)
    X, _ = data(30, dtype="float64")
    y = targets(net, 30)
    net.train_batch(X, y)
    module, optimizer, loss = net.to_torch(training=True)
    ours, theirs = net.train_batch(X, y), torch_step(module, optimizer, loss, X, y)
    assert_near(net, module, 1e-12)
    if output != "exp":  # PyTorch leaves terms out of the deviance that do not depend on the outputs
        assert ours == pytest.approx(theirs, rel=1e-10)


def test_fit_resumes_after_a_compiled_network_has_been_to_pytorch():
    X, y = data(64)
    net = filled([4, 5, 3], MLP, seed=1)
    net.fit(X, y, epochs=2, batch_size=64, optimizer="adam")
    module, theirs, _ = net.to_torch(training=True)
    assert theirs.state[module[0].weight]["step"] == 2
    back = MLP.from_torch(module, optimizer=theirs)
    net.fit(X, y, epochs=5, batch_size=64, resume=True)
    back.fit(X, y, epochs=3, batch_size=64, resume=True)  # PyTorch knows nothing of epochs: their count starts anew
    assert_bits(back, snapshot(net))


def test_the_learning_rate_is_that_of_the_next_step():
    X, y = data(20)
    net = filled([4, 3])
    net.train_batch(X, y, optimizer=Adam(learning_rate=0.5))
    net._training_state.learning_rate_factor = 0.25
    _, optimizer, _ = net.to_torch(training=True)
    assert optimizer.param_groups[0]["lr"] == 0.125


def test_noise_of_the_inputs_is_left_to_the_user():
    X, y = data(20)
    net = filled([4, 3], input_noise=0.5)
    net.train_batch(X, y)
    with pytest.warns(UserWarning, match="add noise with a standard deviation of 0.5 to X"):
        net.to_torch(training=True)


def torch_trained(make=torch.optim.Adam, **settings):
    module = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    return module, make(module.parameters(), **({"lr": 0.1} | settings))


def test_an_optimizer_before_its_first_step():
    X, y = data(20)
    for make in (torch.optim.Adam, torch.optim.Adagrad, torch.optim.RMSprop):
        module, optimizer = torch_trained(make)
        net = reference.MLP.from_torch(module, optimizer=optimizer)
        torch_step(module, optimizer, nn.CrossEntropyLoss(), X, y)
        net.fit(X, y, epochs=1, batch_size=20, resume=True)
        assert_near(net, module, 1e-5)


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (torch.optim.Adam, {"amsgrad": True}, "Adam in fastmlp has no amsgrad=True"),
        (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.5}, "SGD in fastmlp has no dampening=0.5"),
        (torch.optim.SGD, {"maximize": True}, "SGD in fastmlp has no maximize=True"),
        (torch.optim.NAdam, {}, "fastmlp has no optimizer NAdam; it has SGD, Adam, AdamW, RMSprop, Adagrad"),
        (torch.optim.SGD, {"lr": 0.0}, "learning_rate must be more than 0"),
    ],
)
def test_an_optimizer_that_fastmlp_does_not_have_is_refused_by_name(make, settings, message):
    module, optimizer = torch_trained(make, **settings)
    with refused(ValueError, message):
        reference.MLP.from_torch(module, optimizer=optimizer)


def test_an_optimizer_that_does_not_train_the_whole_module_alike_is_refused():
    module, optimizer = torch_trained()
    SGD_ = torch.optim.SGD
    for groups, message in (
        (module[0].parameters(), "does not train all parameters"),
        ([{"params": module[0].parameters()}, {"params": module[2].parameters(), "lr": 1.0}], "one learning_rate for"),
        ([{"params": module[0].parameters()}, {"params": module[2].parameters(), "weight_decay": 1.0}], "these weight"),
    ):
        with refused(ValueError, message):
            reference.MLP.from_torch(module, optimizer=SGD_(groups, lr=0.1))
    with refused(TypeError, "needs the module that it trains, not only its state_dict"):
        reference.MLP.from_torch(module.state_dict(), activation="relu", optimizer=optimizer)
    with refused(TypeError, "optimizer must be a torch.optim.Optimizer of the module's parameters, not str"):
        reference.MLP.from_torch(module, optimizer="adam")
    X, y = data(10)
    torch_step(module, optimizer, nn.CrossEntropyLoss(), X, y)
    del optimizer.state[module[0].bias]
    with refused(ValueError, "the optimizer has taken 0 steps with some parameters and 1 with others"):
        reference.MLP.from_torch(module, optimizer=optimizer)
    _, optimizer = module, torch.optim.Adam(module.parameters())
    torch_step(module, optimizer, nn.CrossEntropyLoss(), X, y)
    optimizer.state[module[0].bias]["exp_avg_sq"][0] = -1
    with refused(ValueError, "negative means of squares"):
        reference.MLP.from_torch(module, optimizer=optimizer)
    linear = nn.Linear(4, 3, bias=False)
    with refused(ValueError, "a layer has no bias"):
        reference.MLP.from_torch(linear, optimizer=SGD_(linear.parameters(), lr=0.1))


def test_no_weight_decay_of_biases_becomes_l2():
    module = nn.Linear(4, 3)
    groups = [{"params": [module.weight], "weight_decay": 0.5}, {"params": [module.bias], "weight_decay": 0.0}]
    net = reference.MLP.from_torch(module, optimizer=torch.optim.SGD(groups, lr=0.1))
    assert (net.l2, net._training_state.optimizer) == (0.5, SGD(learning_rate=0.1))
    for make in (torch.optim.AdamW, lambda g, **s: torch.optim.Adam(g, decoupled_weight_decay=True, **s)):
        with refused(ValueError, "fastmlp cannot have these weight decays"):
            reference.MLP.from_torch(module, optimizer=make(groups, lr=0.1))


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="pip install torch"):
        filled([4, 3]).to_torch()

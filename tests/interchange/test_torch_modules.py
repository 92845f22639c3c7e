"""Modules of PyTorch that others have written, as networks; what no network can be is refused."""

from pathlib import Path

import numpy as np
import pytest
from support.nets import assert_bits, data, filled, refused, snapshot

from fastmlp import reference

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional

pytestmark = pytest.mark.loops("torch")


def outputs(module, X):
    with torch.no_grad():
        return module(torch.from_numpy(X)).numpy()


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

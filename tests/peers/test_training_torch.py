"""The networks against PyTorch, step by step: every activation, head, optimizer, weight, penalty and bound."""

import itertools

import numpy as np
import pytest
from support.losses import HEADS, data_for, network

import fastmlp
from fastmlp.optimizers import SGD, Adagrad, Adam, AdamW, RMSprop
from fastmlp.reference import MLP

torch = pytest.importorskip("torch")

TOLERANCE = {"rtol": 1e-10, "atol": 1e-12}
N = 22  # rows; with batches of 8 the last is smaller
MODULES = {
    "relu": torch.nn.ReLU,
    "leaky_relu": torch.nn.LeakyReLU,
    "elu": torch.nn.ELU,
    "gelu": lambda: torch.nn.GELU(approximate="tanh"),
    "silu": torch.nn.SiLU,
    "tanh": torch.nn.Tanh,
    "logistic": torch.nn.Sigmoid,
    "identity": torch.nn.Identity,
}
LOSSES = {"logistic": torch.nn.BCEWithLogitsLoss, "identity": torch.nn.MSELoss, "exp": torch.nn.PoissonNLLLoss}
OPTIMIZERS = {
    "sgd": (SGD(learning_rate=0.2, weight_decay=0.01), lambda p: torch.optim.SGD(p, lr=0.2, weight_decay=0.01)),
    "momentum": (SGD(learning_rate=0.1, momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
    "nesterov": (
        SGD(learning_rate=0.1, momentum=0.8, nesterov=True, weight_decay=0.02),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.02),
    ),
    "adam": (Adam(weight_decay=0.1), lambda p: torch.optim.Adam(p, weight_decay=0.1)),
    "adamw": (AdamW(learning_rate=0.01), lambda p: torch.optim.AdamW(p, lr=0.01)),
    "rmsprop": (
        RMSprop(momentum=0.5, centered=True, weight_decay=0.01),
        lambda p: torch.optim.RMSprop(p, momentum=0.5, centered=True, weight_decay=0.01),
    ),
    "adagrad": (
        Adagrad(lr_decay=0.1, initial_accumulator_value=0.1),
        lambda p: torch.optim.Adagrad(p, lr_decay=0.1, initial_accumulator_value=0.1),
    ),
}


class Twin:
    """The network of PyTorch with the parameters of `net`, and its loss."""

    def __init__(self, net):
        self.net = net
        self.linears = [torch.nn.Linear(i, o, dtype=torch.float64) for i, o in itertools.pairwise(net.layers)]
        with torch.no_grad():
            for linear, w, b in zip(self.linears, net.weights, net.biases, strict=True):
                linear.weight[:] = torch.from_numpy(w.T.copy())
                linear.bias[:] = torch.from_numpy(b)
        self.activations = [MODULES[name]() for name in net.activations]

    def parameters(self):
        return [linear.weight for linear in self.linears] + [linear.bias for linear in self.linears]

    def __call__(self, X):
        h = torch.as_tensor(X)
        for linear, activation in zip(self.linears[:-1], self.activations, strict=True):
            h = activation(linear(h))
        return self.linears[-1](h)

    def loss(self, X, y, weights=None):
        """The mean loss, by weights where there are some, and the penalty."""
        z, y = self(X), torch.as_tensor(y)
        if self.net.output == "softmax":
            loss = torch.nn.CrossEntropyLoss(label_smoothing=self.net.label_smoothing, reduction="none")(z, y)
        else:
            y = y.double().reshape(z.shape)
            loss = LOSSES[self.net.output](reduction="none")(z, y).mean(dim=1)
            if self.net.output == "exp":  # the deviance is 0 where the mean is y
                loss = loss + (torch.xlogy(y, y) - y).mean(dim=1)
        w = torch.ones(len(loss), dtype=torch.float64) if weights is None else torch.as_tensor(weights)
        penalty = self.net.l2 / 2 * sum((linear.weight**2).sum() for linear in self.linears)
        return (w * loss).sum() / w.sum() + penalty

    def gradients(self, *batch):
        loss = self.loss(*batch)
        return loss, torch.autograd.grad(loss, self.parameters())

    def fit(self, X, y, optimizer, epochs, batch_size=8, weights=None, clip_norm=None, clip_value=None, schedule=None):
        """The loss of each step."""
        losses = []
        for start in list(range(0, len(X), batch_size)) * epochs:
            rows = slice(start, start + batch_size)
            optimizer.zero_grad()
            loss = self.loss(X[rows], y[rows], None if weights is None else weights[rows])
            loss.backward()
            if clip_value is not None:
                torch.nn.utils.clip_grad_value_(self.parameters(), clip_value)
            if clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(self.parameters(), clip_norm)
            optimizer.step()
            if schedule is not None:
                schedule.step()
            losses.append(loss.item())
        return losses


def assert_equal_parameters(net, twin):
    theirs = [p.detach().numpy() for p in twin.parameters()]
    for i, parameter in enumerate(net.weights + net.biases):
        np.testing.assert_allclose(parameter, theirs[i].T if i < len(net.weights) else theirs[i], **TOLERANCE)


def assert_same_fit(net, make_theirs, weights=None, epochs=3, schedule=None, their_schedule=None, **arguments):
    X, y = data_for(net)
    twin = Twin(net)
    theirs = make_theirs(twin.parameters())
    losses = twin.fit(
        X, y, theirs, epochs, weights=weights, schedule=their_schedule and their_schedule(theirs),
        clip_norm=arguments.get("clip_norm"), clip_value=arguments.get("clip_value"),
    )  # fmt: skip
    history = net.fit(
        X, y, epochs=epochs, batch_size=8, shuffle=False, sample_weight=weights, schedule=schedule, **arguments
    )
    assert_equal_parameters(net, twin)
    per_step = np.array(losses).reshape(epochs, -1)
    batch_weights = np.add.reduceat(np.ones(len(X)) if weights is None else weights, range(0, len(X), 8))
    if not net.l2:
        np.testing.assert_allclose(history.loss, per_step @ batch_weights / batch_weights.sum(), **TOLERANCE)
    return history


@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("activation", MODULES)
def test_gradients(activation, head, weighted, l2):
    net = network(head, activation, l2=l2)
    X, y = data_for(net)
    weights = np.random.default_rng(5).uniform(0, 3, N) if weighted else None
    loss, dw, db = net.gradients(X, y, sample_weight=weights)
    expected, gradients = Twin(net).gradients(X, y, weights)
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    for got, theirs in zip(dw, gradients[: len(dw)], strict=True):
        np.testing.assert_allclose(got.T, theirs, **TOLERANCE)
    for got, theirs in zip(db, gradients[len(dw) :], strict=True):
        np.testing.assert_allclose(got, theirs, **TOLERANCE)


def test_an_activation_for_each_layer():
    net = network("softmax", ["tanh", "leaky_relu", "identity"], hidden=(7, 6, 5))
    assert_same_fit(net, lambda p: torch.optim.SGD(p, lr=0.1), learning_rate=0.1)


@pytest.mark.parametrize("head", HEADS)
def test_predictions_and_losses(head):
    net = network(head, l2=0.5)
    X, y = data_for(net)
    twin = Twin(net)
    with torch.no_grad():
        z = twin(X)
        expected = float(twin.loss(X, y)) - 0.25 * sum(float((w**2).sum()) for w in net.weights)
    assert net.evaluate(X, y)["loss"] == pytest.approx(expected, rel=1e-12)
    if net.output == "softmax":
        np.testing.assert_allclose(net.predict_proba(X), torch.softmax(z, 1), **TOLERANCE)
        np.testing.assert_array_equal(net.predict(X), z.argmax(1))
    elif net.output == "logistic":
        p = torch.sigmoid(z).numpy()
        shown = net.predict_proba(X)
        np.testing.assert_allclose(shown[:, -p.shape[1] :], p, **TOLERANCE)
        np.testing.assert_array_equal(net.predict(X).reshape(p.shape), p > 0.5)
    else:
        numbers = torch.exp(z) if net.output == "exp" else z
        np.testing.assert_allclose(net.predict(X).reshape(z.shape), numbers, **TOLERANCE)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("head", ["smoothed", "labels", "number", "counts"])
def test_fit(optimizer, head):
    ours, theirs = OPTIMIZERS[optimizer]
    assert_same_fit(network(head), theirs, optimizer=ours)


each_kind_of_each_optimizer = pytest.mark.parametrize(
    ("optimizer", "kind"),
    [
        pytest.param(name, kind, marks=pytest.mark.slow if kind is fastmlp.MLP and name != "adam" else ())
        for name in OPTIMIZERS  # some seconds of compiling each
        for kind in (MLP, fastmlp.MLP)
    ],
)


@each_kind_of_each_optimizer
def test_fit_with_everything(optimizer, kind):
    ours, theirs = OPTIMIZERS[optimizer]
    weights = np.random.default_rng(5).uniform(0.5, 3, N)
    net = network("smoothed", ["silu", "elu"], l2=0.05, kind=kind)
    assert_same_fit(net, theirs, weights, optimizer=ours, clip_norm=0.3, clip_value=0.1)


@pytest.mark.parametrize("clipping", [{"clip_norm": 0.1}, {"clip_norm": 1e3}, {"clip_value": 0.02}])
def test_clipping(clipping):
    assert_same_fit(network(), lambda p: torch.optim.SGD(p, lr=0.5), learning_rate=0.5, **clipping)


def test_the_loss_of_a_fit_has_the_penalty_of_each_step():
    net = network(l2=0.3)
    X, y = data_for(net)
    twin = Twin(net)
    losses = twin.fit(X, y, torch.optim.SGD(twin.parameters(), lr=0.1), 1, batch_size=11)
    history = net.fit(X, y, epochs=1, batch_size=11, shuffle=False)
    np.testing.assert_allclose(history.loss, np.mean(losses), **TOLERANCE)


def test_a_schedule_of_steps():
    history = assert_same_fit(
        network(),
        lambda p: torch.optim.SGD(p, lr=0.2, momentum=0.9),
        optimizer=SGD(learning_rate=0.2, momentum=0.9),
        schedule="one_cycle",
        their_schedule=lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.2, total_steps=9, cycle_momentum=False),
    )
    assert history.learning_rate[-1] < 1e-4 < history.learning_rate[0]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_steps_of_train_batch(optimizer):
    ours, theirs = OPTIMIZERS[optimizer]
    net = network("two classes", l2=0.01)
    X, y = data_for(net)
    twin = Twin(net)
    expected = twin.fit(X, y, theirs(twin.parameters()), 5, batch_size=N, clip_norm=0.5)
    losses = [net.train_batch(X, y, optimizer=ours, clip_norm=0.5) for _ in range(5)]
    np.testing.assert_allclose(losses, expected, **TOLERANCE)
    assert_equal_parameters(net, twin)


@each_kind_of_each_optimizer
def test_float32_to_its_rounding(optimizer, kind):
    net = kind([4, 7, 3], activation="silu", l2=0.01)
    X, y = data_for(net)
    X = X.astype(np.float32)
    twin = Twin(net)
    ours, theirs = OPTIMIZERS[optimizer]
    twin.fit(X.astype(float), y, theirs(twin.parameters()), 3)
    net.fit(X, y, epochs=3, batch_size=8, shuffle=False, optimizer=ours)
    for i, p in enumerate(twin.parameters()):
        got = (net.weights + net.biases)[i]
        np.testing.assert_allclose(got.T, p.detach().numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("kind", [MLP, fastmlp.MLP], ids=["reference", "kernels"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("activation", MODULES)
def test_gradients_of_float32_to_their_rounding(activation, head, kind):
    net = network(head, activation, l2=0.1, dtype="float32", kind=kind)
    X, y = data_for(net)
    X, weights = X.astype(np.float32), np.random.default_rng(5).uniform(0.1, 3, N).astype(np.float32)
    loss, dw, db = net.gradients(X, y, sample_weight=weights)
    expected, gradients = Twin(net).gradients(X.astype(float), y, weights.astype(float))
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for got, theirs in zip(dw + db, gradients, strict=True):
        largest = max(1.0, float(theirs.abs().max()))  # some sums cancel
        np.testing.assert_allclose(got.T, theirs, rtol=2e-5, atol=2e-6 * largest)

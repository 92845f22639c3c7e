"""Training continues: from fastmlp to PyTorch and back, with the state of the optimizer."""

import numpy as np
import pytest
from support.nets import assert_bits, data, filled, parameters, refused, snapshot

from fastmlp import MLP, reference
from fastmlp.optimizers import SGD, Adagrad, Adam, AdamW, RMSprop

torch = pytest.importorskip("torch")
nn = torch.nn

pytestmark = pytest.mark.loops("torch")

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


@pytest.mark.parametrize("output", ["softmax", "logistic", "identity", "exp"])
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

"""Each optimizer against PyTorch's, step by step."""

import numpy as np
import pytest

from fastmlp.optimizers import SGD, Adagrad, Adam, AdamW, RMSprop, at_step

torch = pytest.importorskip("torch")

PAIRS = [
    *((SGD, "SGD", settings) for settings in (
        {},
        {"weight_decay": 0.1},
        {"momentum": 0.9},
        {"momentum": 0.5, "weight_decay": 0.1},
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    )),
    *((ours, theirs, settings) for ours, theirs in ((Adam, "Adam"), (AdamW, "AdamW")) for settings in (
        {},
        {"weight_decay": 0.0},
        {"weight_decay": 0.3},
        {"learning_rate": 0.1, "betas": (0.5, 0.9)},
        {"betas": (0.0, 0.999)},
        {"betas": (0.9, 0.0), "eps": 1e-3},
        {"eps": 0.1},
    )),
    *((RMSprop, "RMSprop", settings | momentum | centered) for settings in (
        {},
        {"alpha": 0.5},
        {"alpha": 0.0, "eps": 1e-2},
        {"weight_decay": 0.2},
    ) for momentum in ({}, {"momentum": 0.9}) for centered in ({}, {"centered": True})
     if "alpha" not in settings or settings["alpha"] or not centered),
    *((Adagrad, "Adagrad", settings) for settings in (
        {},
        {"lr_decay": 0.1},
        {"weight_decay": 0.2},
        {"initial_accumulator_value": 0.5},
        {"eps": 1e-2, "learning_rate": 0.5, "lr_decay": 0.01, "weight_decay": 0.1, "initial_accumulator_value": 0.1},
    )),
]  # fmt: skip


@pytest.mark.parametrize(("ours", "theirs", "settings"), PAIRS, ids=lambda p: getattr(p, "__name__", str(p)))
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-5)])
def test_same_steps_as_pytorch(ours, theirs, settings, dtype, tolerance):
    generator = np.random.default_rng(0)
    optimizer = ours(**settings)
    w = generator.standard_normal((4, 3)).astype(dtype)
    peer_w = torch.tensor(w.copy(), requires_grad=True)
    peer = getattr(torch.optim, theirs)([peer_w], lr=optimizer.learning_rate, **_theirs(settings))
    state = [np.full_like(w, np.nan) for _ in range(optimizer.slots)]
    optimizer.start(state)
    # the learning rate changes from step to step, as a schedule changes it
    rates = optimizer.learning_rate * generator.uniform(0.5, 1.5, 50)
    coefficients = optimizer.coefficients(np.arange(1, 51), rates)
    for step, rate in enumerate(rates):
        g = (generator.standard_normal(w.shape) * 10 ** generator.uniform(-3, 1)).astype(dtype)
        g[0] *= generator.random() < 0.5  # some gradients are 0, as those of dead units
        peer_w.grad = torch.tensor(g.copy())
        peer.param_groups[0]["lr"] = rate
        peer.step()
        before = g.copy()
        optimizer.update(w, g, state, at_step(coefficients, step))
        np.testing.assert_array_equal(g, before)
        np.testing.assert_allclose(w, peer_w.detach().numpy(), rtol=tolerance, atol=tolerance)
    assert w.dtype == dtype


def _theirs(settings):
    return {name: value for name, value in settings.items() if name != "learning_rate"}


@pytest.mark.parametrize(("ours", "theirs"), [(o, o.__name__) for o in (SGD, Adam, AdamW, RMSprop, Adagrad)])
def test_defaults_are_those_of_pytorch(ours, theirs):
    defaults = getattr(torch.optim, theirs)([torch.zeros(1)]).defaults
    names = {name: name for name in vars(ours()) if name not in ("learning_rate", "eps_hat")}  # PyTorch has no eps_hat
    assert {name: getattr(ours(), name) for name in names} == {name: defaults[name] for name in names}
    if ours is not SGD:  # its default has been 0.1 here from the start
        assert ours().learning_rate == defaults["lr"]

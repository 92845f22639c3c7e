"""Each schedule against PyTorch's, over a whole fit."""

import warnings

import numpy as np
import pytest

from fastmlp.history import History
from fastmlp.schedules import (
    Constant,
    Cosine,
    Course,
    Exponential,
    MultiStep,
    OneCycle,
    ReduceOnPlateau,
    Step,
    Warmup,
)

torch = pytest.importorskip("torch")
peers = torch.optim.lr_scheduler

RATE = 0.3
COURSE = Course(steps_per_epoch=7, epochs=20, n_rows=100)
CLOSE = {"rtol": 1e-10, "atol": 1e-16}


def optimizer(rate=RATE):
    return torch.optim.SGD([torch.zeros(1, dtype=torch.float64)], lr=rate)


def rates(peer, n):
    """The learning rates of n steps (or epochs) of a scheduler of PyTorch."""
    rates = [peer.optimizer.param_groups[0]["lr"]]
    for _ in range(n - 1):
        peer.optimizer.step()
        peer.step()
        rates.append(peer.optimizer.param_groups[0]["lr"])
    return np.array(rates)


def _name(value):
    """A name that is the same in every process."""
    return "torch" if "<lambda>" in str(value) else str(value)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Constant(), lambda o: peers.ConstantLR(o, factor=1.0)),
        (Step(3), lambda o: peers.StepLR(o, 3)),
        (Step(every=1, gamma=1.1), lambda o: peers.StepLR(o, 1, gamma=1.1)),
        (MultiStep([5, 2, 13]), lambda o: peers.MultiStepLR(o, [2, 5, 13])),
        (MultiStep([1, 1, 30], gamma=0.5), lambda o: peers.MultiStepLR(o, [1, 1, 30], gamma=0.5)),
        (Exponential(0.8), lambda o: peers.ExponentialLR(o, 0.8)),
    ],
    ids=_name,
)
def test_by_epochs(ours, theirs):
    expected = np.repeat(rates(theirs(optimizer()), COURSE.epochs), COURSE.steps_per_epoch)
    np.testing.assert_allclose(RATE * ours.factors(0, COURSE.steps, COURSE), expected, **CLOSE)


@pytest.mark.parametrize("course", [COURSE, Course(1, 1, 5), Course(1, 2, 5), Course(3, 1, 5), Course(50, 3, 5)])
@pytest.mark.parametrize("minimum", [0.0, 0.2])
def test_cosine(course, minimum):
    peer = peers.CosineAnnealingLR(optimizer(), course.steps, eta_min=minimum * RATE)
    got = RATE * Cosine(minimum).factors(0, course.steps, course)
    np.testing.assert_allclose(got, rates(peer, course.steps), **CLOSE)


@pytest.mark.parametrize("course", [COURSE, Course(1, 2, 5), Course(3, 1, 5), Course(50, 3, 5)])
@pytest.mark.parametrize(
    "settings",
    [{}, {"pct_start": 0.05, "div_factor": 3}, {"pct_start": 0.9, "final_div_factor": 10}, {"pct_start": 0.0}],
)
def test_one_cycle(course, settings):
    n = course.steps
    peer = peers.OneCycleLR(optimizer(), RATE, total_steps=n, cycle_momentum=False, **settings)
    np.testing.assert_allclose(RATE * OneCycle(**settings).factors(0, n, course), rates(peer, n), **CLOSE)


@pytest.mark.parametrize("length", [{}, {"epochs": 2.5}, {"steps": 1}, {"steps": 10}])
@pytest.mark.parametrize(
    ("then", "theirs"),
    [
        ("constant", lambda o, n: peers.ConstantLR(o, factor=1.0)),
        (Cosine(0.1), lambda o, n: peers.CosineAnnealingLR(o, n, eta_min=0.1 * RATE)),
        (Exponential(0.9), lambda o, n: peers.LambdaLR(o, lambda step: 0.9 ** (step // COURSE.steps_per_epoch))),
    ],
    ids=_name,
)
def test_warmup(length, then, theirs):
    n = length.get("steps", round(COURSE.steps_per_epoch * length.get("epochs", 1)))
    with warnings.catch_warnings():  # of PyTorch itself
        warnings.simplefilter("ignore")
        o = optimizer()
        rise = peers.LinearLR(o, start_factor=1 / (n + 1), total_iters=n)
        peer = peers.SequentialLR(o, [rise, theirs(o, COURSE.steps - n)], milestones=[n])
        expected = rates(peer, COURSE.steps)
    got = RATE * Warmup(**length, schedule=then).factors(0, COURSE.steps, COURSE)
    np.testing.assert_allclose(got, expected, **CLOSE)


@pytest.mark.parametrize(("monitor", "mode"), [("val_loss", "min"), ("val_accuracy", "max")])
@pytest.mark.parametrize(
    "settings", [{}, {"patience": 0, "factor": 0.5}, {"threshold": 0.05}, {"cooldown": 3}, {"minimum": 0.05}]
)
def test_reduce_on_plateau(monitor, mode, settings):
    settings = {"patience": 2} | settings
    theirs = {name: value for name, value in settings.items() if name != "minimum"}
    if "minimum" in settings:
        theirs["min_lr"] = settings["minimum"] * RATE
    peer = peers.ReduceLROnPlateau(optimizer(), mode=mode, eps=0, **theirs)
    ours, history, course = ReduceOnPlateau(monitor, **settings), History(), Course(3, 60, 10)
    values = 1 + np.random.default_rng(0).standard_normal(60) * np.linspace(1, 0, 60)
    for epoch, value in enumerate(values):
        got = RATE * ours.factors(3 * epoch, 3, course)
        np.testing.assert_allclose(got, peer.optimizer.param_groups[0]["lr"], **CLOSE)
        history.append(loss=0.0, **{monitor: value})
        ours.on_epoch_end(history)
        peer.step(value)
    assert ours.now < 0.2

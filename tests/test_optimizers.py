"""Optimizers: their settings, names, coefficients and first steps; tests/peers/ has PyTorch's numbers."""

import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest
from support.nets import refused

from fastmlp import reference
from fastmlp.kernels.optimizers import FORMULAS as KERNEL_FORMULAS
from fastmlp.kernels.optimizers import coefficient_names
from fastmlp.optimizers import OPTIMIZERS, SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop, at_step, get_optimizer

FORMULAS = {  # name of the formula, state arrays
    SGD(): ("sgd", 0),
    SGD(weight_decay=0.1): ("sgd", 0),
    SGD(momentum=0.9): ("momentum", 1),
    SGD(momentum=0.9, nesterov=True, weight_decay=0.1): ("nesterov", 1),
    Adam(): ("adam", 2),
    Adam(weight_decay=0.1): ("adam", 2),
    AdamW(): ("adamw", 2),
    RMSprop(): ("rmsprop", 1),
    RMSprop(momentum=0.9): ("rmsprop_momentum", 2),
    RMSprop(centered=True): ("rmsprop_centered", 2),
    RMSprop(momentum=0.9, centered=True, weight_decay=0.1): ("rmsprop_centered_momentum", 3),
    Adagrad(): ("adagrad", 1),
    Adagrad(lr_decay=0.1, initial_accumulator_value=0.5, weight_decay=0.1): ("adagrad", 1),
}
ALL = list(FORMULAS)


def state_of(optimizer, parameter):
    state = [np.full_like(parameter, np.nan) for _ in range(optimizer.slots)]
    optimizer.start(state)
    return state


def take_steps(optimizer, parameter, gradients, rates=None):
    state = state_of(optimizer, parameter)
    rates = np.full(len(gradients), optimizer.learning_rate) if rates is None else rates
    coefficients = optimizer.coefficients(np.arange(1, len(gradients) + 1), rates)
    for step, gradient in enumerate(gradients):
        optimizer.update(parameter, gradient, state, at_step(coefficients, step))


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        (None, SGD(learning_rate=0.1)),
        ("sgd", SGD(learning_rate=0.1)),
        ("momentum", SGD(learning_rate=0.1, momentum=0.9)),
        ("nesterov", SGD(learning_rate=0.1, momentum=0.9, nesterov=True)),
        ("adam", Adam(learning_rate=0.001)),
        ("adamw", AdamW(learning_rate=0.001, weight_decay=0.01)),
        ("rmsprop", RMSprop(learning_rate=0.01)),
        ("adagrad", Adagrad(learning_rate=0.01)),
    ],
)
def test_names(name, optimizer):
    assert get_optimizer(name) == optimizer
    assert get_optimizer(name, 0.25) == dataclasses.replace(optimizer, learning_rate=0.25)
    assert get_optimizer(optimizer) is optimizer


@pytest.mark.parametrize("optimizer", ALL, ids=str)
def test_name_and_settings_make_it_again(optimizer):
    again = dataclasses.replace(get_optimizer(optimizer.name), **dataclasses.asdict(optimizer))
    assert again == optimizer == eval(repr(optimizer)) == copy.deepcopy(optimizer)
    assert pickle.loads(pickle.dumps(optimizer)) == optimizer
    assert hash(again) == hash(optimizer)


@pytest.mark.parametrize("optimizer", ALL, ids=str)
def test_formula_and_state(optimizer):
    assert (optimizer.formula, optimizer.slots) == FORMULAS[optimizer]
    names = optimizer.coefficients(np.array([1]), np.array([0.1])).keys()
    assert names == set(coefficient_names(KERNEL_FORMULAS[optimizer.formula]))


def test_which_optimizer_is_plain_sgd():
    class Other(SGD):
        pass

    assert [o for o in [*ALL, *OPTIMIZERS.values(), Other()] if o.is_plain_sgd] == [SGD(), SGD()]
    assert SGD(learning_rate=3.0).is_plain_sgd


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("admw",), ValueError, f"optimizer must be one of {str(tuple(OPTIMIZERS))[1:-1]}, "
         "or an object of fastmlp.optimizers, not 'admw'; did you mean 'adamw'?"),
        (("",), ValueError, "optimizer must be one of "),
        ((Adam,), TypeError, "optimizer Adam is a class; pass an instance: Adam()"),
        ((0.1,), TypeError, "optimizer must be a name or an object of fastmlp.optimizers, not 0.1"),
        ((Adam(), 0.1), ValueError, "learning_rate=0.1 conflicts with the optimizer's learning_rate=0.001; "
         "set it only there: Adam(learning_rate=...)"),
        (("adam", 0), ValueError, "learning_rate must be more than 0 and finite, not 0"),
        ((None, "fast"), TypeError, "learning_rate must be a number, not 'fast'"),
    ],
)  # fmt: skip
def test_wrong_optimizers(arguments, error, message):
    with refused(error, message):
        get_optimizer(*arguments)


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "settings", "error", "message"),
    [
        *((kind, {"learning_rate": value}, ValueError, f"learning_rate must be more than 0 and finite, not {value}")
          for kind in (SGD, Adam, AdamW, RMSprop, Adagrad) for value in (0, -1, math.inf, math.nan)),
        *((kind, {"weight_decay": -0.1}, ValueError, "weight_decay must be 0 or more and finite, not -0.1")
          for kind in (SGD, Adam, AdamW, RMSprop, Adagrad)),
        *((kind, {"eps": 0}, ValueError, "eps must be more than 0 and finite, not 0")
          for kind in (Adam, AdamW, RMSprop, Adagrad)),
        *((kind, {"weight_decay": 1e39}, ValueError, "weight_decay 1e+39 is too large: float32 makes it inf")
          for kind in (SGD, Adam, AdamW, RMSprop, Adagrad)),
        (Adam, {"eps": 1e39}, ValueError, "eps 1e+39 is too large: float32 makes it inf"),
        (Adagrad, {"initial_accumulator_value": 1e39}, ValueError, "initial_accumulator_value 1e+39 is too large"),
        (Adam, {"eps": 1e-40}, ValueError, "eps must be at least 1.17549e-38, the smallest normal float32 number, "
         "not 1e-40"),
        (SGD, {"momentum": 1}, ValueError, "momentum must be 0 or more and below 1, not 1"),
        (SGD, {"momentum": "0.9"}, TypeError, "momentum must be a number, not '0.9'"),
        (SGD, {"momentum": True}, TypeError, "momentum must be a number, not True"),
        (SGD, {"nesterov": True}, ValueError, "nesterov=True needs momentum, e.g. SGD(momentum=0.9, nesterov=True)"),
        (SGD, {"nesterov": 1, "momentum": 0.9}, TypeError, "nesterov must be True or False, not 1"),
        (Adam, {"betas": 0.9}, TypeError, "betas must be a pair of numbers, e.g. (0.9, 0.999), not 0.9"),
        (Adam, {"betas": (0.9,)}, TypeError, "betas must be a pair of numbers, e.g. (0.9, 0.999), not (0.9,)"),
        (AdamW, {"betas": (0.9, 1.0)}, ValueError, "betas[1] must be 0 or more and below 1, not 1.0"),
        (Adam, {"betas": (-0.1, 0.5)}, ValueError, "betas[0] must be 0 or more and below 1, not -0.1"),
        (RMSprop, {"alpha": 1.5}, ValueError, "alpha must be 0 or more and below 1, not 1.5"),
        (RMSprop, {"momentum": 1.5}, ValueError, "momentum must be 0 or more and below 1, not 1.5"),
        (RMSprop, {"centered": None}, TypeError, "centered must be True or False, not None"),
        (Adagrad, {"lr_decay": math.nan}, ValueError, "lr_decay must be 0 or more and finite, not nan"),
        (Adagrad, {"initial_accumulator_value": -1}, ValueError, "initial_accumulator_value must be 0 or more"),
    ],
)  # fmt: skip
def test_wrong_settings(kind, settings, error, message):
    with refused(error, message):
        kind(**settings)


def test_settings_are_plain_numbers_that_cannot_be_changed():
    optimizer = Adam(learning_rate=np.float32(0.5), betas=np.array([0.5, 0]), eps=1)
    assert optimizer == Adam(learning_rate=0.5, betas=(0.5, 0.0), eps=1.0)
    assert {type(value) for value in (optimizer.learning_rate, optimizer.eps, *optimizer.betas)} == {float}
    with pytest.raises(dataclasses.FrozenInstanceError):
        optimizer.eps = 0


# --- steps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ALL, ids=str)
def test_coefficients_are_the_same_in_pieces(optimizer):
    rates = optimizer.learning_rate * np.random.default_rng(0).random(10)
    whole = optimizer.coefficients(np.arange(1, 11), rates)
    pieces = [optimizer.coefficients(np.arange(first, first + 5), rates[first - 1 : first + 4]) for first in (1, 6)]
    for name, values in whole.items():
        assert values.dtype == np.float64
        np.testing.assert_array_equal(values, np.concatenate([piece[name] for piece in pieces]))


@pytest.mark.parametrize("optimizer", ALL, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_elements_do_not_meet(optimizer, dtype):
    """A parameter's elements get the same bits alone, in any shape, and a step depends on nothing but its state."""
    generator = np.random.default_rng(0)
    w, gradients = generator.standard_normal((2, 6)).astype(dtype), generator.standard_normal((7, 2, 6)).astype(dtype)
    whole = w.copy()
    take_steps(optimizer, whole, gradients)
    flat = w.ravel().copy()
    take_steps(optimizer, flat, gradients.reshape(7, 12))
    np.testing.assert_array_equal(flat.reshape(2, 6), whole)
    assert whole.dtype == dtype
    alone = w[1, 2:3].copy()
    take_steps(optimizer, alone, gradients[:, 1, 2:3])
    np.testing.assert_array_equal(alone, whole[1, 2:3])


@pytest.mark.parametrize("optimizer", ALL, ids=str)
def test_nothing_moves_where_gradient_and_weight_are_zero(optimizer):
    w = np.zeros(3)
    take_steps(optimizer, w, np.zeros((5, 3)))
    np.testing.assert_array_equal(w, 0)


@pytest.mark.parametrize("optimizer", ALL, ids=str)
def test_a_learning_rate_of_zero_moves_nothing(optimizer):
    w = np.ones(3)
    take_steps(optimizer, w, np.full((4, 3), 2.0), np.zeros(4))
    np.testing.assert_array_equal(w, 1)


@pytest.mark.parametrize("optimizer", ALL, ids=str)
def test_finds_the_lowest_place_of_a_bowl(optimizer):
    optimizer = dataclasses.replace(optimizer, learning_rate=0.05, weight_decay=0.0)
    w, curvature = np.array([3.0, -2.0, 0.5]), np.array([0.5, 1.0, 2.0])
    state = state_of(optimizer, w)
    rates = optimizer.learning_rate * np.linspace(1, 0, 2000)  # RMSprop's steps stay as large as the rate
    if optimizer.name == "adagrad":
        rates = np.full(2000, 0.5)
        optimizer = dataclasses.replace(optimizer, lr_decay=0.0)
    coefficients = optimizer.coefficients(np.arange(1, 2001), rates)
    for step in range(2000):
        optimizer.update(w, curvature * w, state, at_step(coefficients, step))
    assert np.abs(w).max() < 1e-3


def test_plain_sgd_is_what_it_always_was():
    w, g = np.random.default_rng(0).standard_normal((2, 100)).astype(np.float32)
    expected = w - 0.1 * g
    take_steps(SGD(), w, [g])
    np.testing.assert_array_equal(w, expected)


def test_first_step_of_adam_is_as_large_as_its_learning_rate():
    w = np.zeros(3)
    take_steps(Adam(eps=1e-30), w, np.array([[1e-3, -5.0, 100.0]]))
    np.testing.assert_allclose(w, [-1e-3, 1e-3, -1e-3], rtol=1e-12)


def test_decoupled_decay_knows_no_gradient():
    decayed, plain = np.ones(3), np.ones(3)
    g = np.array([[0.1, -1.0, 10.0]])
    take_steps(AdamW(learning_rate=0.01, weight_decay=0.5), decayed, g)
    take_steps(Adam(learning_rate=0.01), plain, g)
    np.testing.assert_allclose(plain - decayed, 0.01 * 0.5, rtol=1e-12)


def test_centered_rmsprop_survives_a_variance_of_zero():
    optimizer = RMSprop(centered=True, alpha=0.5, learning_rate=1e-9)
    w = np.ones(50, np.float32)
    take_steps(optimizer, w, np.tile(np.linspace(0.1, 3, 50, dtype=np.float32), (200, 1)))
    assert np.isfinite(w).all()


def test_an_optimizer_of_ones_own():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class SignSGD(Optimizer):
        learning_rate: float = 0.01
        name = "sign_sgd"
        slots = 0

        def coefficients(self, steps, rates):
            return {"rate": rates}

        def update(self, parameter, gradient, state, coefficients):
            parameter -= coefficients["rate"] * np.sign(gradient)

    optimizer = get_optimizer(SignSGD())
    w = np.ones(2)
    take_steps(optimizer, w, np.array([[5.0, -0.1]]))
    np.testing.assert_allclose(w, [0.99, 1.01])
    assert optimizer.formula == "sign_sgd"


def test_an_optimizer_of_ones_own_may_use_rows_of_an_array():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class OldSignSGD(Optimizer):  # as earlier versions wanted it
        learning_rate: float = 0.01
        name = "old_sign_sgd"
        slots = 1

        def coefficients(self, steps, rates):
            return np.stack([rates, 1 / steps], axis=1)

        def start(self, memory):
            memory[0][...] = 2

        def update(self, parameter, gradient, memory, coefficients):
            rate, share = coefficients
            memory[0] *= share
            parameter -= rate * memory[0] * np.sign(gradient)

    w = np.ones(2)
    take_steps(OldSignSGD(), w, np.array([[5.0, -0.1], [5.0, -0.1]]))
    np.testing.assert_allclose(w, [0.97, 1.03])
    net = reference.MLP([2, 2], dtype="float64")
    before = net.weights[0].copy()
    net.fit(np.eye(2), [0, 1], epochs=1, optimizer=OldSignSGD())
    np.testing.assert_allclose(abs(net.weights[0] - before), 0.02)


@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_eps_hat_is_not_corrected_for_the_start(kind):
    rates, steps = np.full(3, 0.1), np.arange(1, 4)
    plain, hat = (kind(eps=0.01, eps_hat=eps_hat).coefficients(steps, rates) for eps_hat in (False, True))
    np.testing.assert_array_equal(hat.pop("eps"), 0.01)
    np.testing.assert_allclose(plain.pop("eps"), 0.01 * np.sqrt(1 - 0.999**steps))
    for name, values in hat.items():
        np.testing.assert_array_equal(values, plain[name])

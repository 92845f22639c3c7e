"""Gradients against finite differences: every activation, head, weight, penalty and mask."""

import copy

import numpy as np
import pytest
from support.losses import ALL_ACTIVATIONS, HEADS, data_for, network

from fastmlp.activations import ACTIVATIONS

STEP = 1e-6


def differences(net, loss):
    """The central difference of `loss(net)` by each number of each parameter."""
    for parameter in net.weights + net.biases:
        difference = np.empty_like(parameter)
        for index in np.ndindex(parameter.shape):
            value = parameter[index]
            parameter[index] = value + STEP
            above = loss(net)
            parameter[index] = value - STEP
            difference[index] = (above - loss(net)) / (2 * STEP)
            parameter[index] = value
        yield difference


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("activation", ALL_ACTIVATIONS)
def test_gradients(activation, head):
    net = network(head, activation, hidden=(4, 3), n_inputs=3, l2=0.1)
    X, y = data_for(net, 7)
    weights = np.arange(7) / 3
    _, dw, db = net.gradients(X, y, sample_weight=weights)
    expected = differences(net, lambda net: net.gradients(X, y, sample_weight=weights)[0])
    for got, difference in zip(dw + db, expected, strict=True):
        np.testing.assert_allclose(got, difference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("activation", ["relu", "silu", ["tanh", "elu"]], ids=str)
def test_steps_with_dropout_and_noise(activation, head):
    regularized = {"dropout": [0.5, 0.2], "input_dropout": 0.3, "input_noise": 0.5, "l2": 0.1}
    net = network(head, activation, hidden=(4, 3), n_inputs=3, **regularized)
    X, y = data_for(net, 7)
    weights = np.arange(7) / 3

    def step(net):
        """Of a copy, so that each draws the same."""
        other = copy.deepcopy(net)
        return other.train_batch(X, y, 1.0, sample_weight=weights), other

    _, after = step(net)
    expected = differences(net, lambda net: step(net)[0])
    for before, stepped, difference in zip(
        net.weights + net.biases, after.weights + after.biases, expected, strict=True
    ):
        np.testing.assert_allclose(before - stepped, difference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ALL_ACTIVATIONS)
def test_slopes(name):
    value, slope = ACTIVATIONS[name]
    z = np.linspace(-8, 8, 101) + 0.013
    np.testing.assert_allclose(slope(z), (value(z + STEP) - value(z - STEP)) / (2 * STEP), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ALL_ACTIVATIONS)
def test_activations_of_large_numbers(name, dtype):
    z = np.array([-1e30, -1e4, -50, -0.0, 0, 50, 1e4, 1e30], dtype)
    value, slope = ACTIVATIONS[name]
    with np.errstate(over="ignore"):
        h, s = value(z), slope(z)
    assert h.dtype == dtype
    assert (s * z).dtype == dtype
    right = {"tanh": 1, "logistic": 1}.get(name, z[-3:])
    left = {"tanh": -1, "elu": -1, "leaky_relu": 0.01 * z[:3], "identity": z[:3]}.get(name, 0)
    np.testing.assert_allclose(h[-3:], np.broadcast_to(right, 3), rtol=1e-6)
    np.testing.assert_allclose(h[:3], np.broadcast_to(left, 3), rtol=1e-6, atol=1e-15)
    np.testing.assert_allclose(s[-3:], 0 if name in ("tanh", "logistic") else 1, rtol=1e-6, atol=1e-15)
    np.testing.assert_allclose(s[:3], {"leaky_relu": 0.01, "identity": 1}.get(name, 0), rtol=1e-6, atol=1e-15)

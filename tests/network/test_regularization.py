"""Dropout, noise and the penalty on weights, as a network applies them."""

import itertools

import numpy as np
import pytest
from support.losses import HEADS, data_for, network
from support.nets import assert_bits, snapshot

from fastmlp.reference import MLP

# --- in a network -----------------------------------------------------------------------------------------------------


def masks_seen(net, X, y):
    """Which inputs of the last layer took part in a step, from the gradient of its weights: X (1, I)."""
    before = net.weights[-1].copy()
    net.train_batch(X, y, 1.0)
    return np.any(net.weights[-1] != before, axis=1)


def test_rate_and_scale_of_hidden_units():
    net = MLP([1, 2000, 1], activation="identity", output="identity", dropout=0.3, dtype="float64")
    net.weights[0][:] = 1
    net.weights[1][:] = 0
    net.train_batch([[1.0]], [1.0], 0.5)  # from an error of -1 each weight becomes its input, 0 or 1 / (1 - 0.3)
    values, counts = np.unique(net.weights[1], return_counts=True)
    np.testing.assert_allclose(values, [0, 1 / 0.7], rtol=1e-12)
    assert abs(counts[0] / 2000 - 0.3) < 5 * np.sqrt(0.21 / 2000)


def test_scale_of_inputs_and_noise():
    net = MLP([2000, 1], output="identity", input_dropout=0.3, dtype="float64")
    net.weights[0][:] = 0
    net.train_batch(np.full((1, 2000), 2.0), [1.0], 0.5)
    values, counts = np.unique(net.weights[0], return_counts=True)
    np.testing.assert_allclose(values, [0, 2 / 0.7], rtol=1e-12)
    assert abs(counts[0] / 2000 - 0.3) < 5 * np.sqrt(0.21 / 2000)
    net = MLP([2000, 1], output="identity", input_noise=0.1, input_scale=0.5, dtype="float64")
    net.weights[0][:] = 0
    net.train_batch(np.full((1, 2000), 4.0), [1.0], 0.5)
    assert abs(net.weights[0].mean() - 2) < 5 * 0.1 / np.sqrt(2000)
    assert abs(net.weights[0].std() - 0.1) < 5 * 0.1 / np.sqrt(4000)


def test_rates_of_layers():
    net = MLP([4, 300, 300, 1], activation="identity", output="identity", dropout=[0.0, 0.9])
    assert abs(masks_seen(net, np.ones((1, 4)), [1.0]).mean() - 0.1) < 5 * np.sqrt(0.09 / 300)
    net = MLP([4, 300, 300, 1], activation="identity", output="identity", dropout=[0.9, 0.0])
    assert masks_seen(net, np.ones((1, 4)), [1.0]).all()


def test_every_pass_and_every_row_draws_anew():
    net = MLP([4, 300, 1], activation="identity", output="identity", dropout=0.5)
    passes = [masks_seen(net, np.ones((1, 4)), [1.0]) for _ in range(3)]
    assert all(0.3 < np.mean(a != b) < 0.7 for a, b in itertools.pairwise(passes))


@pytest.mark.parametrize("head", HEADS)
def test_none_in_prediction(head):
    settings = {"dropout": 0.5, "input_dropout": 0.2, "input_noise": 0.3, "l2": 0.1}
    plain, net = network(head), network(head, **settings)
    X, y = data_for(net)
    np.testing.assert_array_equal(net.predict(X), plain.predict(X))
    assert net.evaluate(X, y) == plain.evaluate(X, y)
    assert net.score(X, y) == plain.score(X, y)
    if net.output not in ("identity", "exp"):
        np.testing.assert_array_equal(net.predict_proba(X), plain.predict_proba(X))
    without_penalty = network(head, dropout=0.5, input_dropout=0.2, input_noise=0.3)
    for got, expected in zip(without_penalty.gradients(X, y)[1], plain.gradients(X, y)[1], strict=True):
        np.testing.assert_array_equal(got, expected)
    assert net.train_batch(X, y) != plain.train_batch(X, y)


@pytest.mark.parametrize("settings", [{"dropout": 0.5}, {"input_dropout": 0.3}, {"input_noise": 0.2}], ids=str)
def test_same_seed_same_bits(settings):
    nets = [network(seed=seed, dtype="float32", **settings) for seed in (5, 5, 6)]
    X, y = data_for(nets[0])
    for net in nets:
        net.fit(X, y, epochs=3, batch_size=8)
    assert_bits(nets[0], snapshot(nets[1]))
    assert nets[0].history.loss == nets[1].history.loss != nets[2].history.loss


def test_what_is_drawn_depends_on_the_row_and_not_on_its_batch():
    """A batch of two halves is as its two halves: without momentum, the gradients of one pass add up."""
    net = network(dropout=0.5, input_dropout=0.3, input_noise=0.2, l2=0)
    X, y = data_for(net, 16)
    whole, first, second = (network(dropout=0.5, input_dropout=0.3, input_noise=0.2) for _ in range(3))
    weights = np.arange(16) < 8
    before = snapshot(net)
    whole.fit(X, y, epochs=1, batch_size=16)
    first.fit(X, y, epochs=1, batch_size=16, sample_weight=weights)
    second.fit(X, y, epochs=1, batch_size=16, sample_weight=~weights)
    for w, a, b, start in zip(whole.weights, first.weights, second.weights, before, strict=False):
        np.testing.assert_allclose(w - start, (a - start) / 2 + (b - start) / 2, rtol=1e-10, atol=1e-14)


def test_dropout_and_no_hidden_layer():
    net, plain = MLP([4, 3], dropout=0.5), MLP([4, 3])
    X, y = data_for(net)
    for each in (net, plain):
        each.fit(X, y, epochs=2)
    assert_bits(net, snapshot(plain))


# --- the penalty ------------------------------------------------------------------------------------------------------


def test_penalty_on_weights_alone():
    plain, net = network(), network(l2=0.3)
    X, y = data_for(net)
    (loss, dw, db), (plain_loss, plain_dw, plain_db) = net.gradients(X, y), plain.gradients(X, y)
    assert loss == pytest.approx(plain_loss + 0.15 * sum((w**2).sum() for w in net.weights), rel=1e-13)
    for got, without, w in zip(dw, plain_dw, net.weights, strict=True):
        np.testing.assert_allclose(got, without + 0.3 * w, rtol=1e-13, atol=1e-16)
    for got, without in zip(db, plain_db, strict=True):
        np.testing.assert_array_equal(got, without)
    assert net.evaluate(X, y) == plain.evaluate(X, y)
    history = net.fit(X, y, epochs=1, batch_size=100, learning_rate=1e-6, validation_data=(X, y))
    assert history.loss == [loss]
    assert history.val_loss[0] == pytest.approx(plain_loss, rel=1e-5)


def test_penalty_is_the_weight_decay_of_sgd():
    from fastmlp.optimizers import SGD

    net, decayed = network(l2=0.1), network()
    X, y = data_for(net)
    for b in (*net.biases, *decayed.biases):
        b[:] = 0
    net.train_batch(X, y, 0.5)
    decayed.train_batch(X, y, optimizer=SGD(learning_rate=0.5, weight_decay=0.1))
    for p, q in zip(net.weights + net.biases, decayed.weights + decayed.biases, strict=True):
        np.testing.assert_allclose(p, q, rtol=1e-12, atol=1e-15)

"""The plain network, held against the formulas, finite differences and scikit-learn."""

import copy
import functools
import math

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier
from support import nets
from support.nets import ACTIVATIONS, DTYPES, assert_bits, parameters, snapshot

from fastmlp.random import batch_generator, initial_parameters, permutations
from fastmlp.reference import MLP, backward, cross_entropy, forward, logistic, relu, softmax

data = functools.partial(nets.data, dtype="float64")

# --- formulas ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_activations(dtype):
    z = np.array([-1e4, -2, 0, 2, 1e4], dtype)
    np.testing.assert_array_equal(relu(z), [0, 0, 0, 2, 1e4])
    with np.errstate(all="raise", under="ignore"):
        a = logistic(z)
    tail = 1 / (1 + math.exp(2))
    np.testing.assert_allclose(a, [0, tail, 0.5, 1 - tail, 1], rtol=4 * np.finfo(dtype).eps)
    assert relu(z).dtype == a.dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax(dtype):
    logits = np.random.default_rng(0).normal(scale=10, size=(50, 7)).astype(dtype)
    p = softmax(logits)
    assert p.dtype == dtype
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(p, softmax(logits + 64), rtol=1e-4)  # a shift of all logits changes nothing
    y = np.arange(50) % 7
    np.testing.assert_allclose(cross_entropy(logits, y), -np.log(p[np.arange(50), y]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_logits_do_not_overflow(dtype):
    logits = np.array([[1e30, 0, -1e30], [-1e30, -1e30, -1e30]], dtype)
    with np.errstate(all="raise", under="ignore"):
        p, loss = softmax(logits), cross_entropy(logits, np.array([1, 2]))
    np.testing.assert_allclose(p, [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]], rtol=1e-6)
    np.testing.assert_allclose(loss, [1e30, math.log(3)], rtol=1e-6)


def test_small_network_by_hand():
    net = MLP([2, 2, 2], dtype="float64")
    net.weights[0][:] = [[1, 1], [1, 0]]
    net.weights[1][:] = [[1, 2], [4, 1]]
    x = [[1.0, 2.0]]  # hidden: 3, 1; logits: 7, 7
    loss, dw, db = net.gradients(x, [0])
    assert loss == pytest.approx(math.log(2), rel=1e-15)
    np.testing.assert_array_equal(db[1], [-0.5, 0.5])
    np.testing.assert_array_equal(dw[1], [[-1.5, 1.5], [-0.5, 0.5]])
    np.testing.assert_array_equal(db[0], [0.5, -1.5])
    np.testing.assert_array_equal(dw[0], [[0.5, -1.5], [1, -3]])
    np.testing.assert_array_equal(net.predict_proba(x), [[0.5, 0.5]])
    np.testing.assert_array_equal(net.predict(x), [0])  # the first of equal classes
    assert net.train_batch(x, [0], learning_rate=2) == loss
    np.testing.assert_array_equal(net.weights[0], [[0, 4], [-1, 6]])
    np.testing.assert_array_equal(net.biases[1], [1, -1])


def test_relu_passes_nothing_back_where_it_is_zero():
    net = MLP([1, 1, 2], dtype="float64")
    net.weights[0][:] = -1
    _, dw, db = net.gradients([[3.0]], [1])
    assert dw[0] == db[0] == 0


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("layers", [[4, 3], [4, 5, 3], [4, 7, 1, 3], [4, 3, 6, 5, 3], [1, 2, 2]], ids=str)
def test_gradients_meet_finite_differences(layers, activation):
    net = MLP(layers, activation=activation, dtype="float64", seed=1)
    for b in net.biases:
        b[:] = np.random.default_rng(2).normal(size=b.shape)
    X, y = data(6, layers[0], layers[-1])
    loss, dw, db = net.gradients(X, y)
    assert loss == pytest.approx(net.evaluate(X, y)["loss"], rel=1e-14)
    h = 1e-6
    for parameter, gradient in zip(parameters(net), dw + db, strict=True):
        for index in np.ndindex(parameter.shape):
            value = parameter[index]
            parameter[index] = value + h
            above = net.gradients(X, y)[0]
            parameter[index] = value - h
            below = net.gradients(X, y)[0]
            parameter[index] = value
            assert gradient[index] == pytest.approx((above - below) / (2 * h), rel=1e-6, abs=1e-9)


def test_the_batch_takes_the_mean_of_its_rows():
    net = MLP([4, 5, 3], dtype="float64")
    X, y = data(7)
    loss, dw, db = net.gradients(X, y)
    rows = [net.gradients(X[i : i + 1], y[i : i + 1]) for i in range(7)]
    assert loss == pytest.approx(np.mean([row[0] for row in rows]), rel=1e-14)
    for layer in range(2):
        np.testing.assert_allclose(dw[layer], np.mean([row[1][layer] for row in rows], axis=0), rtol=1e-12, atol=1e-16)
        np.testing.assert_allclose(db[layer], np.mean([row[2][layer] for row in rows], axis=0), rtol=1e-12, atol=1e-16)


def test_forward_and_backward_have_the_shapes_of_the_layers():
    weights, biases = initial_parameters([4, 7, 5, 3], "he", 0)
    outputs = forward(np.ones((2, 4)), weights, biases, "relu")
    assert [a.shape for a in outputs] == [(2, 4), (2, 7), (2, 5), (2, 3)]
    dw, db = backward(outputs, np.array([0, 2]), weights, "relu")
    assert [g.shape for g in dw] == [(4, 7), (7, 5), (5, 3)]
    assert [g.shape for g in db] == [(7,), (5,), (3,)]


# --- scikit-learn -----------------------------------------------------------------------------------------------------


def scikit_learn_twin(net, X, y, batch_size, learning_rate):
    """An MLPClassifier with the parameters of `net`; each partial_fit takes one epoch in the order of the rows."""
    twin = MLPClassifier(
        net.layers[1:-1],
        activation=net.activation,
        solver="sgd",
        alpha=0,
        momentum=0,
        nesterovs_momentum=False,
        batch_size=batch_size,
        learning_rate_init=learning_rate,
        shuffle=False,
    )
    twin.partial_fit(X, y, classes=np.arange(net.layers[-1]))  # makes its arrays
    for theirs, ours in zip(twin.coefs_ + twin.intercepts_, parameters(net), strict=True):
        theirs[:] = ours
    return twin


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("layers", [[6, 8, 4], [6, 9, 5, 3]], ids=str)
def test_epochs_are_those_of_scikit_learn(layers, activation):
    X, y = data(50, layers[0], layers[-1])
    net = MLP(layers, activation=activation, dtype="float64")
    twin = scikit_learn_twin(net, X, y, batch_size=8, learning_rate=0.3)
    for _ in range(5):
        loss = net.fit(X, y, epochs=1, batch_size=8, learning_rate=0.3, shuffle=False).loss[0]
        twin.partial_fit(X, y)
        assert loss == pytest.approx(twin.loss_, rel=1e-10)
        for theirs, ours in zip(twin.coefs_ + twin.intercepts_, parameters(net), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(net.predict_proba(X), twin.predict_proba(X), rtol=1e-10)
    np.testing.assert_array_equal(net.predict(X), twin.predict(X))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_steps_are_those_of_scikit_learn(activation):
    X, y = data(12, 6, 4)
    net = MLP([6, 8, 4], activation=activation, dtype="float64")
    twin = scikit_learn_twin(net, X, y, batch_size=12, learning_rate=0.3)
    for _ in range(20):
        loss = net.train_batch(X, y, learning_rate=0.3)
        twin.partial_fit(X, y)
        assert loss == pytest.approx(twin.loss_, rel=1e-10)
        for theirs, ours in zip(twin.coefs_ + twin.intercepts_, parameters(net), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


# --- fit --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_same_seed_same_bits(dtype):
    X, y = data(50)
    first, second, other = (MLP([4, 8, 3], dtype=dtype, seed=seed) for seed in (5, 5, 6))
    for net in (first, second, other):
        net.fit(X, y, epochs=3, batch_size=16)
    assert_bits(first, snapshot(second))
    assert first.history.loss == second.history.loss
    assert first.history.loss != other.history.loss


def test_first_parameters_are_the_shared_ones():
    weights, biases = initial_parameters([4, 8, 3], "xavier", 5)
    assert_bits(MLP([4, 8, 3], init="xavier", seed=5, dtype="float64"), weights + biases)
    assert_bits(MLP([4, 8, 3], init="xavier", seed=5), [p.astype(np.float32) for p in weights + biases])


def test_fit_takes_the_steps_of_the_shared_orders():
    X, y = data(21)
    net, by_steps = MLP([4, 8, 3], seed=5), MLP([4, 8, 3], seed=5)
    history = net.fit(X, y, epochs=2, batch_size=8, learning_rate=0.2)
    for epoch, order in enumerate(permutations(batch_generator(5), 2, 21, shuffle=True)):
        losses, right = [], 0
        for rows in (order[:8], order[8:16], order[16:]):
            right += by_steps.score(X[rows], y[rows]) * len(rows)
            losses += [by_steps.train_batch(X[rows], y[rows], learning_rate=0.2)] * len(rows)
        assert history.loss[epoch] == pytest.approx(np.mean(losses), rel=1e-12)
        assert history.accuracy[epoch] == pytest.approx(right / 21, rel=1e-12)
    assert_bits(net, snapshot(by_steps))


def test_a_second_fit_goes_on():
    X, y = data(21)
    together, apart = MLP([4, 8, 3]), MLP([4, 8, 3])
    together.fit(X, y, epochs=3, batch_size=8)
    apart.fit(X, y, epochs=1, batch_size=8)
    apart.fit(X, y, epochs=2, batch_size=8)
    assert_bits(apart, snapshot(together))
    assert apart.history.loss == together.history.loss[1:]


@pytest.mark.parametrize("batch_size", [9, 1000])
def test_a_batch_of_all_rows_keeps_their_order(batch_size):
    X, y = data(9)
    net, by_steps = MLP([4, 8, 3]), MLP([4, 8, 3])
    net.fit(X, y, epochs=2, batch_size=batch_size)
    losses = [by_steps.train_batch(X, y) for _ in range(2)]
    assert net.history.loss == losses
    assert_bits(net, snapshot(by_steps))


def test_forms_of_the_same_data_train_alike():
    X, y = data(20)
    X = X.astype(np.float32)
    forms = [(X, y), (X.astype(float), np.eye(3)[y]), (X.tolist(), y.tolist()), (np.asfortranarray(X), y.astype(float))]
    losses = [MLP([4, 8, 3]).fit(*form, epochs=2, batch_size=8).loss for form in forms]
    assert all(loss == losses[0] for loss in losses)


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_learns(dtype):
    X, _ = data(300, 2)
    y = (X[:, 0] * X[:, 1] > 0).astype(int)  # no line parts these classes
    net = MLP([2, 16, 2], dtype=dtype)
    history = net.fit(X, y, epochs=60, batch_size=16, learning_rate=0.3, validation_data=(X[:50], y[:50]))
    assert net.score(X, y) > 0.95
    assert history.loss[-1] < 0.3 * history.loss[0]
    measured = net.evaluate(X[:50], y[:50])
    assert (history.val_loss[-1], history.val_accuracy[-1]) == (measured["loss"], measured["accuracy"])
    assert all(len(entries) == 60 for entries in (history.accuracy, history.val_loss, history.seconds))
    assert all(seconds > 0 for seconds in history.seconds)


def test_what_is_returned():
    X, y = data(10)
    net = MLP([4, 8, 3])
    proba, labels = net.predict_proba(X), net.predict(X)
    assert proba.shape == (10, 3)
    assert proba.dtype == np.float32
    assert labels.shape == (10,)
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, proba.argmax(axis=1))
    assert net.score(X, y) == np.mean(labels == y) == net.evaluate(X, y)["accuracy"]
    loss, dw, db = net.gradients(X, y)
    assert type(loss) is type(net.score(X, y)) is type(net.train_batch(X, y)) is float
    assert all(g.dtype == np.float32 for g in dw + db)
    assert [w.shape for w in net.weights] == [(4, 8), (8, 3)]
    assert [b.shape for b in net.biases] == [(8,), (3,)]
    assert repr(net) == "MLP([4, 8, 3], activation='relu', init='he', seed=0, dtype='float32')"


def test_many_rows_are_predicted_as_few(monkeypatch):
    X, y = data(10)
    net = MLP([4, 8, 3], dtype="float64")
    whole, measured = net.predict_proba(X), net.evaluate(X, y)
    monkeypatch.setattr("fastmlp.reference._PREDICT_ROWS", 3)
    np.testing.assert_allclose(net.predict_proba(X), whole, rtol=1e-13)
    assert net.evaluate(X, y) == pytest.approx(measured, rel=1e-13)


def test_gradients_and_prediction_change_nothing():
    X, y = data(10)
    net = MLP([4, 8, 3])
    before = snapshot(net)
    net.gradients(X, y)
    net.evaluate(X, y)
    net.predict(X)
    assert_bits(net, before)


# --- trouble ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "loss"), [(np.nan, "nan"), (np.inf, "nan"), (3e38, "inf")])
def test_the_step_that_fails_is_not_taken(value, loss):
    net = MLP([1, 2], seed=1)
    net.weights[0][:] = [[1, -1]]
    X, y = np.array([[1.0], [2], [3], [4]], np.float32), [0, 0, 1, 0]
    expected = copy.deepcopy(net)
    for row in (0, 1):
        expected.train_batch(X[row : row + 1], y[row : row + 1])

    class Poison:
        """The first epoch ends well; then the third row becomes bad behind the checks."""

        def on_epoch_end(self, net, fit):
            net.weights[0][:] = [[1, -1]]
            net.biases[0][:] = 0
            X[2] = value

    with pytest.raises(FloatingPointError, match=rf"^loss is {loss} at epoch 2, step 3; lower learning_rate; or "):
        net.fit(X, y, epochs=4, batch_size=1, shuffle=False, callbacks=[Poison()])
    assert_bits(net, snapshot(expected))
    assert len(net.history.loss) == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_divergence_is_told(dtype):
    X, y = data(50)
    net = MLP([4, 8, 8, 3], dtype=dtype)
    with pytest.raises(
        FloatingPointError, match=r"^loss is (nan|inf) at epoch 1, step \d+; lower learning_rate; or scale X, "
    ):
        net.fit(X * 1e8, y, batch_size=4, learning_rate=1e30)
    before = snapshot(net)
    with pytest.raises(
        FloatingPointError, match=r"^loss is (nan|inf); lower learning_rate; or scale X, which has numbers from "
    ):
        net.train_batch(X * 1e8, y)
    assert_bits(net, before)

"""Calls that show what a network does wrong, that check its gradients, or that start it afresh."""

import collections

import numpy as np
import pytest
from support.losses import data_for, network
from support.nets import X, Y, assert_bits, both_kinds, data, parameters, refused, snapshot

import fastmlp
from fastmlp import MLP, callbacks, reference
from fastmlp.losses import LOSSES

# --- mistakes ---------------------------------------------------------------------------------------------------------


@both_kinds
def test_most_confused_counts_pairs_of_classes(kind):
    X, y = data(200)
    net = kind([4, 8, 3])
    counts = collections.Counter((t, p) for t, p in zip(y.tolist(), net.predict(X).tolist(), strict=True) if t != p)
    confused = net.most_confused(X, y, n=3)
    assert [c.n_rows for c in confused] == sorted(counts.values(), reverse=True)[:3]
    assert all(counts[c.true, c.predicted] == c.n_rows for c in confused)
    assert len(net.most_confused(X, y)) == min(5, len(counts))
    assert net.most_confused(X, net.predict(X)) == []


@both_kinds
def test_wrong_lists_the_surest_mistakes(kind):
    X, y = data(200)
    net = kind([4, 8, 3])
    p, labels = net.predict_proba(X), net.predict(X)
    mistakes = net.wrong(X, y, n=7)
    rows = [m.row for m in mistakes]
    wrong = np.flatnonzero(labels != y)
    np.testing.assert_array_equal(rows, wrong[np.argsort(p[wrong, y[wrong]], kind="stable")][:7])
    for row, true, predicted, probability in mistakes:
        assert (true, predicted) == (y[row], labels[row])
        assert type(true) is int
        assert probability == p[row].max()
    assert len(net.wrong(X, y, n=1000)) == np.count_nonzero(labels != y)


def test_mistakes_have_the_names_of_classes():
    X, y = data(50)
    names = np.array(["a", "b", "c"])
    net = reference.MLP([4, 3])
    net.fit(X, names[y], epochs=1)
    assert {m.true for m in net.wrong(X, names[y])} <= set(names)
    assert {c.predicted for c in net.most_confused(X, names[y])} <= set(names)


def test_mistakes_of_labels_and_numbers():
    net = network("labels")
    X, y = data_for(net)
    for row, true, predicted, _ in net.wrong(X, y):
        np.testing.assert_array_equal(true, y[row])
        assert (predicted != true).any()
    with refused(TypeError, "most_confused needs rows of one class each"):
        net.most_confused(X, y)
    with refused(TypeError, "numbers, which are not right or wrong"):
        network("number").wrong(X, y[:, 0])


# --- gradients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", LOSSES)
@both_kinds
def test_gradients_agree_with_finite_differences(output, kind):
    net = kind([4, 7, 2], activation="tanh", output=output, l2=0.01, dropout=0.5, input_noise=0.1)
    X, y = data_for(net, 12)
    before = net.state_dict()
    assert fastmlp.check_gradients(net, X, y) < 1e-6
    assert fastmlp.check_gradients(net, X.astype(np.float32), y, n=3, h=1e-4) < 1e-5
    after = net.state_dict()
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_wrong_gradient_is_found(monkeypatch):
    right = reference.backward

    def backward(*arguments):
        dw, db = right(*arguments)
        dw[0][1, 2] *= 1.01
        return dw, db

    net = reference.MLP([4, 3])
    assert fastmlp.check_gradients(net, X, Y, n=12) < 1e-6
    monkeypatch.setattr(reference, "backward", backward)
    assert fastmlp.check_gradients(net, X, Y, n=12) > 1e-3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": 0}, ValueError, "n must be at least 1"),
        ({"h": 0}, ValueError, "h must be more than 0"),
        ({"net": "net"}, TypeError, "net must be a network"),
        ({"y": Y + 3}, ValueError, "y has label"),
        ({"step": 1}, TypeError, "unknown argument 'step'"),
    ],
    ids=str,
)
def test_wrong_arguments_of_check_gradients(arguments, error, message):
    with refused(error, message):
        fastmlp.check_gradients(**{"net": reference.MLP([4, 3]), "X": X, "y": Y} | arguments)


# --- a fresh start ----------------------------------------------------------------------------------------------------


@both_kinds
def test_initialize_makes_a_network_new(kind, tmp_path):
    X, y = data(40)
    net, fresh, other = kind([4, 8, 3]), kind([4, 8, 3]), kind([4, 8, 3], seed=5)
    net.fit(X, np.array(["a", "b", "c"])[y], epochs=2, optimizer="adam")
    net.initialize()
    assert net.history.loss == []
    assert net.classes is None
    with refused(ValueError, "resume=True needs an earlier fit"):
        net.fit(X, y, resume=True)
    for twin in (fresh, other):
        assert_bits(net, parameters(twin))
        net.fit(X, y, epochs=2)
        twin.fit(X, y, epochs=2)
        assert_bits(net, parameters(twin))
        net.initialize(seed=5)
        assert net.seed == 5
    net.save(tmp_path / "net.npz")
    assert kind.load(tmp_path / "net.npz").seed == 5


@both_kinds
def test_initialize_refuses_a_wrong_seed_and_a_network_in_training(kind):
    net = kind([4, 3])
    net.fit(X, Y, epochs=1)
    before = snapshot(net)
    for seed, error in ((-1, ValueError), ("1", TypeError), (1.5, TypeError)):
        with pytest.raises(error, match="seed must be"):
            net.initialize(seed=seed)
    assert_bits(net, before)
    assert net.history.loss

    class Restart:
        def on_epoch_end(self, net, fit):
            net.initialize()

    with refused(RuntimeError, "this network is being trained already"):
        net.fit(X, Y, epochs=1, callbacks=[Restart()])


def test_a_diverged_network_is_whole_again():
    net = MLP([4, 8, 3])

    class Explode(callbacks.TimeLimit):
        def on_epoch_end(self, net, fit):
            net.weights[0][...] = np.inf

    with pytest.raises(FloatingPointError):
        net.fit(X, Y, epochs=2, callbacks=[Explode(10)])
    net.initialize()
    expected = MLP([4, 8, 3])
    net.fit(X, Y, epochs=2)
    expected.fit(X, Y, epochs=2)
    assert_bits(net, parameters(expected))

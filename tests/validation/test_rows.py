"""How rows are divided into those to train on and those to validate."""

import numpy as np
import pytest
from support.losses import data_for, network
from support.nets import assert_bits, snapshot

from fastmlp.random import validation_mask
from fastmlp.reference import MLP


def assert_close(net, other):
    for p, q in zip(net.weights + net.biases, other.weights + other.biases, strict=True):
        np.testing.assert_allclose(p, q, rtol=1e-11, atol=1e-13)


class Split:
    """Rows that carry their own number in X: which of them were trained on, and which set aside."""

    def __init__(self, y, fraction, n_outputs=3, output="softmax", seed=0, **arguments):
        n = len(y)
        net = MLP([1, n_outputs], output=output, dtype="float64", seed=seed)
        seen = {}

        def note(y_true, y_pred):
            seen["aside"] = y_true
            return 0.0

        self.history = net.fit(np.arange(n)[:, None] / n, y, validation_fraction=fraction, metrics=[note], **arguments)
        self.aside = seen["aside"]


@pytest.mark.parametrize(
    ("counts", "fraction", "aside"),
    [
        ([50, 30, 20], 0.1, [5, 3, 2]),
        ([50, 3, 1], 0.1, [5, 1, 0]),
        ([2, 2, 2], 0.9, [1, 1, 1]),
        ([10, 10, 10], 0.55, [6, 6, 6]),
        ([4, 0, 6], 0.5, [2, 0, 3]),
    ],
)
def test_classes_are_divided_alike(counts, fraction, aside):
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(3), counts))
    split = Split(y, fraction, epochs=1)
    np.testing.assert_array_equal(np.bincount(split.aside, minlength=3), aside)
    assert len(split.history.val_loss) == 1
    assert split.history.steps == -(-(len(y) - sum(aside)) // 64)


def test_numbers_and_labels_are_divided_at_random():
    y = np.random.default_rng(0).normal(size=40)
    split = Split(y, 0.25, n_outputs=1, output="identity", epochs=1)
    assert len(split.aside) == 10
    assert not np.array_equal(split.aside, y[:10])
    assert len(Split(np.eye(2)[np.arange(40) % 2], 0.25, n_outputs=2, output="logistic", epochs=1).aside) == 10
    y = np.arange(40) < 8
    assert np.count_nonzero(Split(y, 0.25, n_outputs=1, output="logistic", epochs=1).aside) == 2


def test_a_seed_sets_the_same_rows_aside():
    y = np.random.default_rng(0).normal(size=40)
    splits = [Split(y, 0.25, 1, "identity", seed=seed, epochs=1).aside for seed in (3, 3, 4)]
    np.testing.assert_array_equal(splits[0], splits[1])
    assert not np.array_equal(splits[0], splits[2])


def test_a_second_fit_sets_the_same_rows_aside():
    net = network("number", seed=None)
    X, y = data_for(net, 40)
    seen = []
    for _ in range(2):
        net.fit(X, y, epochs=1, validation_fraction=0.3, metrics=[lambda y_true, _: seen.append(y_true) or 0.0])
    np.testing.assert_array_equal(*seen)


def test_what_is_set_aside_is_not_trained_on():
    net, other = network(), network()
    X, y = data_for(net, 60)
    weights = np.random.default_rng(0).uniform(1, 2, 60)
    history = net.fit(X, y, epochs=2, batch_size=8, validation_fraction=0.3, sample_weight=weights)
    aside = validation_mask(y, 0.3, other._random.seed)
    given = {"validation_data": (X[aside], y[aside]), "sample_weight": weights[~aside]}
    again = other.fit(X[~aside], y[~aside], epochs=2, batch_size=8, **given)
    assert_bits(net, snapshot(other))
    assert history.val_loss == again.val_loss


def test_sparse_rows_are_divided():
    from scipy import sparse

    net, other = network(), network()
    X, y = data_for(net, 60)
    net.fit(X, y, epochs=2, validation_fraction=0.3)
    other.fit(sparse.csr_array(X), y, epochs=2, validation_fraction=0.3)
    assert_close(net, other)

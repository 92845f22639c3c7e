"""Outputs of the hidden layers."""

import numpy as np
import pytest
from scipy.sparse import csr_array
from support.nets import DTYPES, both_kinds, data, refused, twins

from fastmlp import reference
from fastmlp.activations import ACTIVATIONS
from fastmlp.losses import softmax

X, Y = data(9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_they_are_what_the_last_layer_multiplies(activation, dtype):
    compiled, plain = twins([4, 7, 13, 3], activation=activation, dtype=dtype, dropout=0.5)
    hidden = compiled.hidden_activations(X)
    assert [(h.shape, h.dtype.name) for h in hidden] == [((9, 7), dtype), ((9, 13), dtype)]
    for h, p in zip(hidden, plain.hidden_activations(X), strict=True):
        np.testing.assert_allclose(h, p, rtol=1e-5 if dtype == "float32" else 1e-13, atol=1e-7)
    probabilities = softmax(hidden[-1] @ plain.weights[-1] + plain.biases[-1])
    np.testing.assert_allclose(probabilities, plain.predict_proba(X), rtol=1e-5 if dtype == "float32" else 1e-13)


@both_kinds
def test_every_form_of_rows(kind):
    net, rows = kind([4, 5, 3], activation=["tanh"], input_scale=1 / 255), np.abs(X * 60).astype(np.uint8)
    (expected,) = net.hidden_activations(rows)
    for form in (rows.astype("f4"), rows.astype("f8"), np.asfortranarray(rows), rows.tolist(), csr_array(rows)):
        np.testing.assert_allclose(net.hidden_activations(form)[0], expected, rtol=1e-5, atol=1e-7)
    pandas = pytest.importorskip("pandas")
    np.testing.assert_allclose(net.hidden_activations(pandas.DataFrame(rows))[0], expected, rtol=1e-6, atol=1e-7)


@both_kinds
def test_without_hidden_layers_there_are_none(kind):
    assert kind([4, 3]).hidden_activations(X) == []


@both_kinds
def test_wrong_rows_are_refused(kind):
    net = kind([4, 5, 3])
    with refused(ValueError, "X has 3 features, but the network has 4 inputs"):
        net.hidden_activations(X[:, :3])
    for bad in (np.nan, np.inf):
        with refused(ValueError, f"X has {bad} in row 2, column 1"):
            net.hidden_activations(np.where(np.arange(36).reshape(9, 4) == 9, bad, X))
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(X, columns=list("abcd"))
    plain = reference.MLP([4, 5, 3])
    plain.fit(table, Y, epochs=1)
    with refused(ValueError, "X has its columns in another order than in training"):
        plain.hidden_activations(table[["d", "c", "b", "a"]])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_large_sums_raise_no_warning(activation):
    (hidden,) = reference.MLP([1, 4, 2], activation=activation).hidden_activations([[1e38], [-1e38]])
    assert not np.isnan(hidden).any()


def test_changing_them_does_not_change_the_network():
    net = reference.MLP([4, 5, 3], activation="identity")
    before = net.predict_proba(X)
    for h in net.hidden_activations(X):
        h[...] = 0
    np.testing.assert_array_equal(net.predict_proba(X), before)

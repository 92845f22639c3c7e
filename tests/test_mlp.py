"""The compiled network against the plain one, and what else it promises: bits, inputs, memory, threads, trouble."""

import contextlib
import copy
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from fastmlp import MLP, reference
from fastmlp import mlp as mlp_module
from fastmlp.random import batch_generator, epoch_orders

ROOT = Path(__file__).resolve().parents[1]
DTYPES = ("float32", "float64")
ACTIVATIONS = ("relu", "logistic")
NETS = ([4, 3], [1, 2], [5, 1, 2], [6, 1, 1, 3], [13, 17, 7], [30, 65, 33, 10], [7, 16, 9, 12, 5, 8, 3], [3, 300, 2])
LONG = 700  # rows of a batch that does not go through the network in one piece
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}


def data(n_rows, n_features=4, n_classes=3, seed=0, dtype="float32"):
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((n_rows, n_features)).astype(dtype)
    return X, generator.integers(0, n_classes, n_rows)


def data_for(net, n_rows, seed=0):
    return data(n_rows, net.layers[0], net.layers[-1], seed, net.dtype)


def parameters(net):
    return net.weights + net.biases


def snapshot(net):
    return [p.copy() for p in parameters(net)]


def assert_bits(net, expected):
    for p, q in zip(parameters(net), expected, strict=True):
        np.testing.assert_array_equal(p, q)


def assert_close(got, expected, dtype, factor=1):
    tolerance = factor * TOLERANCE[dtype]
    for g, e in zip(got, expected, strict=True):
        assert np.shape(g) == np.shape(e)
        np.testing.assert_allclose(g, e, rtol=tolerance, atol=tolerance * max(np.abs(e).max(), 1e-3))


def twins(layers, **settings):
    """The same network twice, compiled and plain, with biases that are not zero."""
    nets = MLP(layers, **settings), reference.MLP(layers, **settings)
    for net in nets:
        generator = np.random.default_rng(7)
        for b in net.biases:
            b[:] = generator.normal(scale=0.1, size=b.shape)
    return nets


# --- the same numbers as the plain network ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("layers", NETS, ids=str)
def test_gradients(layers, activation, dtype):
    net, plain = twins(layers, activation=activation, dtype=dtype)
    for n_rows in (1, 3, 13, 64, LONG):
        X, y = data_for(net, n_rows)
        (loss, dw, db), (plain_loss, plain_dw, plain_db) = net.gradients(X, y), plain.gradients(X, y)
        assert_close([loss], [plain_loss], dtype)
        assert_close(dw + db, plain_dw + plain_db, dtype)
        assert all(g.dtype == dtype for g in dw + db)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("layers", NETS, ids=str)
def test_steps(layers, activation, dtype):
    net, plain = twins(layers, activation=activation, dtype=dtype)
    for step, n_rows in enumerate([1, 7, 32, 33, 2, LONG, 64]):
        X, y = data_for(net, n_rows, seed=step)
        rate = 0.01 * (step + 1)
        assert_close([net.train_batch(X, y, rate)], [plain.train_batch(X, y, rate)], dtype)
        assert_close(parameters(net), parameters(plain), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("layers", "n_rows", "batch_size"),
    [
        ([4, 8, 3], 50, 16),
        ([4, 8, 3], 49, 16),  # the last batch has one row
        ([4, 8, 3], 50, 1),
        ([4, 8, 3], 50, 50),
        ([4, 8, 3], 50, 1000),
        ([4, 8, 3], 1, 1),
        ([4, 8, 3], 1, 64),
        ([1, 5, 2], 30, 7),  # one feature
        ([6, 1, 3], 30, 7),  # one hidden unit
        ([3, 2, 1], 30, 7),  # one class
        ([8, 9, 8, 7, 6, 5, 4], 40, 13),
        ([20, 70, 10], 101, 25),
        ([4, 8, 3], 2 * LONG, 600),
        ([4, 40, 3], 1025, 513),
        ([4, 8, 3], 1024, 512),
    ],
    ids=str,
)
def test_fits(layers, n_rows, batch_size, activation, dtype):
    net, plain = twins(layers, activation=activation, dtype=dtype, seed=3)
    X, y = data_for(net, n_rows)
    settings = {"epochs": 3, "batch_size": batch_size, "learning_rate": 0.05}
    history, plain_history = net.fit(X, y, **settings), plain.fit(X, y, **settings)
    assert_close([history.loss], [plain_history.loss], dtype)
    assert history.accuracy == plain_history.accuracy
    assert len(history.seconds) == 3
    assert_close(parameters(net), parameters(plain), dtype, factor=3)
    net.fit(X, y, **settings)
    plain.fit(X, y, **settings)
    assert_close(parameters(net), parameters(plain), dtype, factor=10)


@pytest.mark.parametrize("init", ["he", "xavier", "normal"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_first_parameters_are_those_of_the_plain_network(init, dtype):
    settings = {"init": init, "seed": 11, "dtype": dtype}
    assert_bits(MLP([5, 7, 3], **settings), parameters(reference.MLP([5, 7, 3], **settings)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("n_rows", [1, 2, 255, 256, 257, LONG])
def test_predictions(n_rows, activation, dtype):
    net, plain = twins([9, 33, 17, 5], activation=activation, dtype=dtype)
    X, y = data_for(net, n_rows)
    proba = net.predict_proba(X)
    assert proba.dtype == dtype
    assert_close([proba], [plain.predict_proba(X)], dtype)
    labels = net.predict(X)
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, plain.predict(X))
    measured = net.evaluate(X, y)
    assert_close([measured["loss"]], [plain.evaluate(X, y)["loss"]], dtype)
    assert measured["accuracy"] == plain.evaluate(X, y)["accuracy"] == net.score(X, y) == np.mean(labels == y)


def test_shuffle_can_be_left_out():
    X, y = data(50)
    net, plain, by_steps = MLP([4, 8, 3]), reference.MLP([4, 8, 3]), MLP([4, 8, 3])
    net.fit(X, y, epochs=2, batch_size=16, shuffle=False)
    plain.fit(X, y, epochs=2, batch_size=16, shuffle=False)
    assert_close(parameters(net), parameters(plain), "float32")
    for start in [0, 16, 32, 48] * 2:
        by_steps.train_batch(X[start : start + 16], y[start : start + 16])
    assert_bits(net, parameters(by_steps))


# --- the same bits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layers", [[4, 3], [9, 33, 17, 5], [3, 300, 2]], ids=str)
@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_prediction_does_not_depend_on_the_batch_it_is_in(layers, dtype, n_threads):
    net = MLP(layers, dtype=dtype, n_threads=n_threads)
    X, _ = data_for(net, 600)
    proba, labels = net.predict_proba(X), net.predict(X)
    for i in [*range(14), 255, 256, 299, 300, 301, 599]:
        np.testing.assert_array_equal(net.predict_proba(X[i : i + 1])[0], proba[i])
        assert net.predict(X[i : i + 1])[0] == labels[i]
    for first, last in ((0, 7), (3, 300), (11, 268), (599, 600)):
        np.testing.assert_array_equal(net.predict_proba(X[first:last]), proba[first:last])
    order = np.random.default_rng(0).permutation(600)
    np.testing.assert_array_equal(net.predict_proba(X[order]), proba[order])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_permuted_batch_gives_the_permuted_answers(dtype):
    net = MLP([9, 33, 5], dtype=dtype)
    X, y = data_for(net, 40)
    order = np.random.default_rng(0).permutation(40)
    loss, dw, db = net.gradients(X, y)
    permuted_loss, permuted_dw, permuted_db = net.gradients(X[order], y[order])
    assert_close([permuted_loss], [loss], dtype)
    assert_close(permuted_dw + permuted_db, dw + db, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch_size", [16, LONG])
def test_same_seed_same_bits(dtype, batch_size):
    X, y = data(2 * LONG, dtype=dtype)
    first, second, other = (MLP([4, 8, 3], dtype=dtype, seed=seed) for seed in (5, 5, 6))
    for net in (first, second, other):
        net.fit(X, y, epochs=3, batch_size=batch_size)
    assert_bits(first, parameters(second))
    assert first.history.loss == second.history.loss
    assert first.history.loss != other.history.loss


def test_fit_takes_the_steps_of_the_shared_orders():
    X, y = data(21)
    net, by_steps = MLP([4, 8, 3], seed=5), MLP([4, 8, 3], seed=5)
    net.fit(X, y, epochs=2, batch_size=8, learning_rate=0.2)
    for order in epoch_orders(batch_generator(5), 2, 21, shuffle=True):
        for rows in (order[:8], order[8:16], order[16:]):
            by_steps.train_batch(X[rows], y[rows], learning_rate=0.2)
    assert_bits(net, parameters(by_steps))


@pytest.mark.parametrize("batch_size", [8, LONG])
def test_epochs_in_one_fit_or_in_several(batch_size, monkeypatch):
    X, y = data(2 * LONG)
    together, apart, watched, one_by_one = (MLP([4, 8, 3]) for _ in range(4))
    together.fit(X, y, epochs=5, batch_size=batch_size)
    apart.fit(X, y, epochs=2, batch_size=batch_size)
    apart.fit(X, y, epochs=3, batch_size=batch_size)
    watched.fit(X, y, epochs=5, batch_size=batch_size, validation_data=(X[:5], y[:5]), callbacks=[Recorder()])
    monkeypatch.setattr(MLP, "_epochs_at_once", lambda *_: 1)
    one_by_one.fit(X, y, epochs=5, batch_size=batch_size)
    for net in (apart, watched, one_by_one):
        assert_bits(net, parameters(together))
    assert apart.history.loss == together.history.loss[2:]
    assert watched.history.loss == one_by_one.history.loss == together.history.loss


# --- inputs -----------------------------------------------------------------------------------------------------------


class Table:
    """Something that NumPy can make an array of, as tables of other libraries are."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array if dtype is None else self.array.astype(dtype)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def memory_mapped(array, folder, mode):
    np.save(folder / "array.npy", array)
    return np.load(folder / "array.npy", mmap_mode=mode)


def unaligned(array):
    raw = np.empty(array.nbytes + 1, np.uint8)[1:]
    shifted = raw.view(array.dtype).reshape(array.shape)
    shifted[:] = array
    assert not shifted.flags.aligned
    return shifted


def spread_out(array):
    wide = np.full((2 * len(array), 3 * array.shape[1]), np.nan, array.dtype)
    wide[::2, 1::3] = array
    return wide[::2, 1::3]


FORMS = {
    "read-only": lambda X, _: read_only(X),
    "memory-mapped": lambda X, folder: memory_mapped(X, folder, "r"),
    "memory-mapped copy": lambda X, folder: memory_mapped(X, folder, "c"),
    "Fortran order": lambda X, _: np.asfortranarray(X),
    "strided": lambda X, _: spread_out(X),
    "negative strides": lambda X, _: X[::-1, ::-1].copy()[::-1, ::-1],
    "unaligned": lambda X, _: unaligned(X),
    "rows of a larger array": lambda X, _: np.concatenate([X[:3], X])[3:],
    "byte-swapped": lambda X, _: X.astype(X.dtype.newbyteorder()),
    "float64": lambda X, _: X.astype(np.float64),
    "float16": lambda X, _: X.astype(np.float16),
    "uint8": lambda X, _: X.astype(np.uint8),
    "int64": lambda X, _: X.astype(np.int64),
    "bool": lambda X, _: X > 0,
    "list": lambda X, _: X.tolist(),
    "list of arrays": lambda X, _: list(X),
    "matrix of a subclass": lambda X, _: X.view(np.recarray),
    "table": lambda X, _: Table(X),
    "unmasked": lambda X, _: np.ma.masked_array(X, np.zeros(X.shape, bool)),
}


def plain_copy(X, dtype):
    return np.array(np.asarray(X), dtype, order="C")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_input_trains_as_its_plain_copy(form, dtype, tmp_path):
    whole = np.random.default_rng(0).integers(0, 9, (40, 6))
    source = (whole / (1 if form in ("uint8", "int64", "bool") else 8)).astype(dtype)
    X, y = FORMS[form](source, tmp_path), np.arange(40) % 3
    before = plain_copy(X, dtype)
    labels = {
        "read-only": read_only(y),
        "strided": np.repeat(y, 2)[::2],
        "list": y.tolist(),
        "uint8": y.astype(np.uint8),
    }
    net, expected = MLP([6, 8, 3], dtype=dtype), MLP([6, 8, 3], dtype=dtype)
    net.fit(X, labels.get(form, y), epochs=2, batch_size=7, validation_data=(X, y))
    expected.fit(before, y, epochs=2, batch_size=7, validation_data=(before, y))
    assert_bits(net, parameters(expected))
    assert net.history.val_loss == expected.history.val_loss
    np.testing.assert_array_equal(net.predict_proba(X), expected.predict_proba(before))
    np.testing.assert_array_equal(plain_copy(X, dtype), before)  # nobody writes to what users hand in


@pytest.mark.parametrize("labels", [np.int8, np.uint64, np.float32, bool, ">i4", "one-hot", "one-hot bool"])
def test_every_form_of_labels_trains_alike(labels):
    X, y = data(30, n_classes=2)
    if str(labels).startswith("one-hot"):
        given = np.eye(2, dtype=bool if "bool" in labels else float)[y]
    else:
        given = y.astype(labels)
    net, expected = MLP([4, 5, 2]), MLP([4, 5, 2])
    net.fit(X, given, epochs=2, batch_size=8)
    expected.fit(X, y, epochs=2, batch_size=8)
    assert_bits(net, parameters(expected))


def peak_bytes(function):
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        function()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", DTYPES)
def test_data_of_the_right_kind_is_not_copied(dtype):
    X, y = data(2000, 1500, 3, dtype=dtype)
    X.flags.writeable = False
    net = MLP([1500, 4, 3], dtype=dtype, n_threads=1)
    calls = (
        lambda: net.fit(X, y, epochs=2, batch_size=50, validation_data=(X, y)),
        lambda: net.predict_proba(X),
        lambda: net.evaluate(X, y),
    )
    for call in calls:
        call()  # compiled and with its workspace
        assert peak_bytes(call) < X.nbytes / 20


@pytest.mark.parametrize("batch_size", [16, LONG])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_second_fit_makes_no_new_workspace(batch_size, n_threads, monkeypatch):
    X, y = data(2 * LONG)
    made = []

    class Counted(mlp_module.Workspace):
        def __init__(self, *arguments):
            made.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr(mlp_module, "Workspace", Counted)
    net = MLP([4, 8, 3], n_threads=n_threads)

    def work():
        net.fit(X, y, epochs=2, batch_size=batch_size, validation_data=(X[:100], y[:100]))
        net.train_batch(X[:20], y[:20])
        net.gradients(X[:20], y[:20])
        net.predict(X[:100])

    work()
    first = len(made)
    assert first
    for _ in range(3):
        work()
    assert len(made) == first


# --- wrong arguments --------------------------------------------------------------------------------------------------

X, Y = data(10)
BAD_X = X.copy()
BAD_X[7, 2] = np.nan


def refused(error, message):
    return pytest.raises(error, match=re.escape(message))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"X": X[:, :3]}, ValueError, "X has 3 features, but the network has 4 inputs"),
        ({"X": X[0]}, ValueError, "use X.reshape(1, -1) for a single row"),
        ({"X": X[None]}, ValueError, "use X.reshape(len(X), -1)"),
        ({"X": X[:0]}, ValueError, "X is empty"),
        ({"X": BAD_X}, ValueError, "X has nan in row 7, column 2"),
        ({"X": X.astype(complex)}, TypeError, "X holds complex values"),
        ({"X": [["a"] * 4] * 10}, TypeError, "X holds string values"),
        ({"X": None}, TypeError, "X holds object values"),
        ({"X": np.full((10, 4), 1e300)}, ValueError, "X has 1e+300, too large for float32, in row 0, column 0"),
        ({"y": Y + 10}, ValueError, "but the network has 3 outputs"),
        ({"y": Y - 5}, ValueError, "but class labels are 0 to 2"),
        ({"y": Y + 0.5}, ValueError, "but class labels are integers from 0 on"),
        ({"y": Y[:9]}, ValueError, "X has 10 rows, but y has 9"),
        ({"y": np.eye(4)[Y]}, ValueError, "y has 4 one-hot columns, but the network has 3 outputs"),
        ({"y": np.eye(3)[Y] * 2}, ValueError, "y must be one-hot"),
        ({"y": ["cat"] * 10}, TypeError, "number the classes first"),
        ({"epochs": 0}, ValueError, "epochs must be at least 1, not 0"),
        ({"epochs": 1.0}, TypeError, "epochs must be an integer, not 1.0"),
        ({"batch_size": 2.5}, TypeError, "batch_size must be an integer, not 2.5"),
        ({"batch_size": -1}, ValueError, "batch_size must be at least 1, not -1"),
        ({"learning_rate": -1}, ValueError, "learning_rate must be positive and finite, not -1"),
        ({"learning_rate": np.nan}, ValueError, "learning_rate must be positive and finite, not nan"),
        ({"learning_rate": "0.1"}, TypeError, "learning_rate must be a number, not '0.1'"),
        ({"learning_rate": 1e-60}, ValueError, "learning_rate 1e-60 is too small: float32 makes it 0.0"),
        ({"validation_data": (X, Y[:9])}, ValueError, "validation X has 10 rows, but validation y has 9"),
        ({"validation_data": (BAD_X, Y)}, ValueError, "validation X has nan in row 7, column 2"),
        ({"validation_data": X}, TypeError, "validation_data must be a pair (X, y)"),
        ({"callbacks": [print]}, TypeError, "has none of the methods"),
        ({"callbacks": 3}, TypeError, "callbacks must be a list of callbacks, not int"),
    ],
)
def test_wrong_arguments_of_fit_change_nothing(arguments, error, message):
    net = MLP([4, 8, 3])
    history = net.fit(X, Y, epochs=1, batch_size=4)
    before, state = snapshot(net), net._generator.bit_generator.state
    entries = copy.deepcopy(history)
    with refused(error, message):
        net.fit(**({"X": X, "y": Y} | arguments))
    assert_bits(net, before)
    assert net.history is history
    assert history == entries
    assert net._generator.bit_generator.state == state


@pytest.mark.parametrize("method", ["train_batch", "gradients", "evaluate", "score"])
def test_wrong_data_of_other_methods(method):
    net = MLP([4, 3])
    before = snapshot(net)
    with refused(ValueError, "X has 10 rows, but y has 9"):
        getattr(net, method)(X, Y[:9])
    with refused(ValueError, "X has nan in row 7, column 2"):
        getattr(net, method)(BAD_X, Y)
    with refused(ValueError, "learning_rate must be positive"):
        net.train_batch(X, Y, learning_rate=0)
    assert_bits(net, before)


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_wrong_rows_to_predict(method):
    with refused(ValueError, "X has 5 features, but the network has 4 inputs"):
        getattr(MLP([4, 3]), method)(np.zeros((2, 5)))
    with refused(ValueError, "X is empty"):
        getattr(MLP([4, 3]), method)(X[:0])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"layers": [4]}, ValueError, "layers must name at least two sizes"),
        ({"layers": [4, 0, 3]}, ValueError, "layers[1] must be at least 1, not 0"),
        ({"activation": "Relu"}, ValueError, "did you mean 'relu'?"),
        ({"init": "hee"}, ValueError, "did you mean 'he'?"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"n_threads": 0}, ValueError, "n_threads must be at least 1"),
        ({"dtype": "float16"}, ValueError, "dtype must be one of 'float32', 'float64', not 'float16'"),
    ],
)
def test_wrong_settings(arguments, error, message):
    with refused(error, message):
        MLP(**({"layers": [4, 3]} | arguments))


# --- a loss that is not finite ----------------------------------------------------------------------------------------


class AtEpochEnd:
    def __init__(self, function):
        self.on_epoch_end = function


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(("batch_size", "n_rows", "step"), [(4, 30, 3), (600, 2000, 2)])
def test_the_step_that_fails_is_not_taken(dtype, n_threads, batch_size, n_rows, step):
    settings = {"dtype": dtype, "seed": 1}
    net, plain, same = (
        MLP([4, 8, 3], n_threads=n_threads, **settings),
        reference.MLP([4, 8, 3], **settings),
        MLP([4, 8, 3], **settings),
    )
    X, y = data_for(net, n_rows)
    good = X.copy()

    def spoil(net, fit):
        X[batch_size * step - 1, 2] = np.nan  # behind the checks; the last row of a batch in the second epoch

    with refused(FloatingPointError, f"loss is nan at epoch 2, step {step}; lower learning_rate"):
        net.fit(X, y, epochs=4, batch_size=batch_size, shuffle=False, callbacks=[AtEpochEnd(spoil)])
    n_batches = -(-n_rows // batch_size)
    for other in (plain, same):
        for taken in [*range(n_batches), *range(step - 1)]:
            rows = slice(taken * batch_size, (taken + 1) * batch_size)
            other.train_batch(good[rows], y[rows])
    assert_bits(net, parameters(same))
    assert_close(parameters(net), parameters(plain), dtype)
    assert all(np.isfinite(p).all() for p in parameters(net))
    assert len(net.history.loss) == len(net.history.seconds) == 1
    net.fit(good, y, epochs=1)  # it can go on


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch_size", [4, LONG])
def test_divergence_is_told(dtype, batch_size):
    X, y = data(2 * LONG, dtype=dtype)
    net = MLP([4, 8, 8, 3], activation="logistic", dtype=dtype)
    net.weights[-1][:] = 0.9 * np.finfo(dtype).max
    net.weights[-1][:, 0] *= -1
    with pytest.raises(FloatingPointError, match=r"^loss is (nan|inf) at epoch 1, step 1; lower learning_rate$"):
        net.fit(X, y, batch_size=batch_size)
    before = snapshot(net)
    with pytest.raises(FloatingPointError, match=r"^loss is (nan|inf); lower learning_rate$"):
        net.train_batch(X, y)
    assert_bits(net, before)


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------

INTERRUPTED = """
import sys, warnings
import numpy as np
from fastmlp import MLP

batch_size, n_threads, watched, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "watched", sys.argv[4]
generator = np.random.default_rng(0)
X, y = generator.standard_normal((3000, 30)).astype(np.float32), generator.integers(0, 5, 3000)

class Watch:
    def on_step(self, net, fit):
        pass

net = MLP([30, 40, 5], n_threads=n_threads)
MLP([30, 40, 5]).fit(X, y, epochs=1)
print("go", flush=True)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    callbacks = [Watch()] if watched else []
    history = net.fit(X, y, epochs=10**8, batch_size=batch_size, learning_rate=0.01, callbacks=callbacks)
print("stopped", flush=True)
assert history.interrupted
assert [w.category for w in caught] == [UserWarning], caught
assert caught[0].filename == "<string>"
print(len(history.loss), len(history.accuracy), len(history.seconds))
print(caught[0].message)
np.savez(path, *net.weights, *net.biases)
net.fit(X, y, epochs=1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
@pytest.mark.parametrize("watched", [False, True], ids=["alone", "watched"])
@pytest.mark.parametrize(("batch_size", "n_threads"), [(20, 1), (20, 2), (700, 1), (700, 2), (3000, 1)])
def test_ctrl_c(batch_size, n_threads, watched, tmp_path):
    command = [sys.executable, "-c", INTERRUPTED, str(batch_size), str(n_threads), "watched" if watched else "alone"]
    with subprocess.Popen(
        [*command, str(tmp_path / "net.npz")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        killer = threading.Timer(60, process.kill)
        killer.start()
        assert process.stdout.readline() == "go\n", process.stderr.read()
        time.sleep(0.2 + 0.01 * np.random.default_rng().random())
        process.send_signal(signal.SIGINT)
        pressed = time.monotonic()
        assert process.stdout.readline() == "stopped\n", process.stderr.read()
        assert time.monotonic() - pressed < 2
        out, err = process.stdout.read(), process.stderr.read()
        process.wait()
        killer.cancel()
    assert process.returncode == 0, err
    assert err == ""
    entries, message = out.strip().split("\n")
    found = re.match(
        r"Ctrl-C stopped training (?:after epoch (\d+)|in epoch (\d+)) of 100000000(?:, after step (\d+) of (\d+))?;",
        message,
    )
    assert found, message
    finished, present, step, n_batches = (int(group) if group else 0 for group in found.groups())
    epochs = finished or present - 1
    assert entries == f"{epochs} {epochs} {epochs}"

    generator = np.random.default_rng(0)
    X, y = generator.standard_normal((3000, 30)).astype(np.float32), generator.integers(0, 5, 3000)
    net = MLP([30, 40, 5])
    if epochs:
        net.fit(X, y, epochs=epochs, batch_size=batch_size, learning_rate=0.01)
    if step:
        assert n_batches == -(-3000 // batch_size)
        (order,) = epoch_orders(net._generator, 1, 3000, shuffle=batch_size < 3000)
        for start in range(0, step * batch_size, batch_size):
            rows = order[start : start + batch_size]
            net.train_batch(X[rows], y[rows], learning_rate=0.01)
    with np.load(tmp_path / "net.npz") as saved:
        assert_bits(net, [saved[name] for name in saved.files])


def press_ctrl_c(*_):
    signal.raise_signal(signal.SIGINT)


class Pressing:
    """Presses Ctrl-C in one of the methods of a callback."""

    def __init__(self, hook):
        setattr(self, hook, press_ctrl_c)


@pytest.mark.parametrize(("hook", "epochs"), [("on_fit_begin", 0), ("on_epoch_end", 1)])
def test_ctrl_c_in_a_callback(hook, epochs):
    net = MLP([4, 8, 3])
    with pytest.warns(UserWarning, match=f"^Ctrl-C stopped training after epoch {epochs} of 9; the network keeps"):
        history = net.fit(X, Y, epochs=9, batch_size=4, callbacks=[Pressing(hook)])
    assert history.interrupted
    assert len(history.loss) == epochs
    expected = MLP([4, 8, 3])
    if epochs:
        expected.fit(X, Y, epochs=epochs, batch_size=4)
    assert_bits(net, parameters(expected))


def test_ctrl_c_while_validation_is_measured(monkeypatch):
    net, expected = MLP([4, 8, 3]), MLP([4, 8, 3])
    measure = net._mean_losses

    def pressed(*arguments):
        press_ctrl_c()
        return measure(*arguments)

    monkeypatch.setattr(net, "_mean_losses", pressed)
    with pytest.warns(UserWarning, match="^Ctrl-C stopped training after epoch 1 of 9;"):
        history = net.fit(X, Y, epochs=9, batch_size=4, validation_data=(X, Y))
    assert len(history.loss) == len(history.val_loss) == 1
    expected.fit(X, Y, epochs=1, batch_size=4)
    assert_bits(net, parameters(expected))


def test_ctrl_c_is_heard_as_before_after_a_fit():
    handler = signal.getsignal(signal.SIGINT)
    net = MLP([4, 8, 3])
    net.fit(X, Y, epochs=1)
    assert signal.getsignal(signal.SIGINT) is handler
    with pytest.raises(RuntimeError, match="broken"):
        net.fit(X, Y, epochs=1, callbacks=[AtEpochEnd(raise_broken)])
    assert signal.getsignal(signal.SIGINT) is handler


def raise_broken(*_):
    raise RuntimeError("broken")


def test_a_program_that_handles_ctrl_c_keeps_its_way():
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(True))
    try:
        history = MLP([4, 8, 3]).fit(X, Y, epochs=3, callbacks=[Pressing("on_epoch_end")])
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(heard) == len(history.loss) == 3
    assert not history.interrupted


# --- threads and processes --------------------------------------------------------------------------------------------


def in_threads(*functions):
    """Run functions at once, each in a thread of its own; give what they return."""
    results = [None] * len(functions)

    def run(i):
        try:
            results[i] = functions[i]()
        except BaseException as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


@pytest.mark.parametrize("n_threads", [None, 1, 2])
def test_fit_in_another_thread(n_threads):
    X, y = data(50)
    net, expected = MLP([4, 8, 3], n_threads=n_threads), MLP([4, 8, 3])
    expected.fit(X, y, epochs=3)
    (history,) = in_threads(lambda: net.fit(X, y, epochs=3))
    assert_bits(net, parameters(expected))
    assert history.loss == expected.history.loss


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("batch_size", [16, LONG])
def test_two_networks_train_at_once(n_threads, batch_size):
    nets = [MLP([4, 40, 3], seed=seed, n_threads=n_threads) for seed in (1, 2)]
    alone = [MLP([4, 40, 3], seed=seed) for seed in (1, 2)]
    X, y = data(2 * LONG)
    for net in alone:
        net.fit(X, y, epochs=5, batch_size=batch_size)
    in_threads(*[lambda net=net: net.fit(X, y, epochs=5, batch_size=batch_size) for net in nets])
    for net, expected in zip(nets, alone, strict=True):
        assert_bits(net, parameters(expected))
        assert net.history.loss == expected.history.loss


@pytest.mark.parametrize("n_threads", [1, 2])
def test_several_threads_predict_with_one_network(n_threads):
    net = MLP([4, 40, 3], n_threads=n_threads)
    X, y = data(1000)
    proba, labels, measured = net.predict_proba(X), net.predict(X), net.evaluate(X, y)

    def predict():
        for _ in range(30):
            np.testing.assert_array_equal(net.predict_proba(X), proba)
            np.testing.assert_array_equal(net.predict(X), labels)
            assert net.evaluate(X, y) == measured

    in_threads(*[predict] * 4)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("n_threads", [1, 2])
def test_fit_after_fork(n_threads):
    X, y = data(600)
    net, expected = (MLP([4, 40, 3], n_threads=n_threads) for _ in range(2))
    for n in (net, expected):
        n.fit(X, y, epochs=1, batch_size=20)
    expected.fit(X, y, epochs=2, batch_size=20)
    child = os.fork()
    if child == 0:  # nothing of pytest may run here
        status = 1
        with contextlib.suppress(BaseException):
            signal.alarm(30)
            net.fit(X, y, epochs=2, batch_size=20)
            same = [np.array_equal(p, q) for p, q in zip(parameters(net), parameters(expected), strict=True)]
            proba = np.array_equal(net.predict_proba(X), expected.predict_proba(X))
            status = 0 if all(same) and proba else 2
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    net.fit(X, y, epochs=2, batch_size=20)
    assert_bits(net, parameters(expected))


NO_THREADS = """
import threading
import numpy as np
from fastmlp import MLP

X, y = np.random.default_rng(0).random((200, 8), np.float32), np.arange(200) % 3
net = MLP([8, 200, 200, 3], n_threads=3)
net.fit(X, y, epochs=1)
before = [p.copy() for p in net.weights + net.biases]
start, started = threading.Thread.start, []

def refuse(thread):
    if len(started) == ALLOWED:
        raise RuntimeError("can't start new thread")
    started.append(thread)
    start(thread)

threading.Thread.start = refuse
try:
    net.fit(X, y, epochs=5)
except RuntimeError as error:
    print(error)
threading.Thread.start = start
print(all(np.array_equal(p, q) for p, q in zip(before, net.weights + net.biases)))
net.fit(X, y, epochs=1)
"""


@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_threads_that_cannot_be_started_leave_nobody_waiting(allowed):
    ran = subprocess.run(
        [sys.executable, "-c", NO_THREADS.replace("ALLOWED", str(allowed))],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "can't start new thread\nTrue\n"


# --- the rest of the face ---------------------------------------------------------------------------------------------


class Recorder:
    def __init__(self):
        self.calls = []

    def on_fit_begin(self, net, fit):
        self.calls.append(("begin", fit.epoch, fit.step))

    def on_step(self, net, fit):
        self.calls.append(("step", fit.epoch, fit.step))

    def on_epoch_end(self, net, fit):
        self.calls.append(("epoch", fit.epoch, fit.step))

    def on_fit_end(self, net, fit):
        self.calls.append(("end", fit.epoch, fit.step))


@pytest.fixture
def often(monkeypatch):
    """Let on_step be called every millisecond: epochs of tests are short."""
    monkeypatch.setattr("fastmlp.threads._POLL_SECONDS", 0.001)


def test_callbacks(often):
    recorder = Recorder()
    X, y = data(20_000, 50)
    net = MLP([50, 60, 3], n_threads=1)
    net.fit(X, y, epochs=3, batch_size=4, callbacks=[recorder])
    milestones = [call for call in recorder.calls if call[0] != "step"]
    assert milestones == [("begin", 0, 0), ("epoch", 1, 0), ("epoch", 2, 0), ("epoch", 3, 0), ("end", 3, 0)]
    steps = [(epoch, step) for name, epoch, step in recorder.calls if name == "step"]
    assert steps
    assert steps == sorted(steps)
    assert all(0 <= epoch < 3 and 0 <= step <= 5000 for epoch, step in steps)


def test_callbacks_stop_a_fit():
    def stop(net, fit):
        fit.stop = fit.epoch == 3

    net, expected = MLP([4, 8, 3]), MLP([4, 8, 3])
    history = net.fit(X, Y, epochs=9, batch_size=4, callbacks=[AtEpochEnd(stop)])
    expected.fit(X, Y, epochs=3, batch_size=4)
    assert len(history.loss) == 3
    assert not history.interrupted
    assert_bits(net, parameters(expected))


@pytest.mark.parametrize("n_threads", [1, 2])
def test_an_error_in_a_callback_stops_the_team(n_threads, often):
    class Broken:
        on_step = staticmethod(raise_broken)

    X, y = data(20_000, 50)
    net = MLP([50, 60, 3], n_threads=n_threads)
    with pytest.raises(RuntimeError, match="broken"):
        net.fit(X, y, epochs=1000, batch_size=4, callbacks=[Broken()])
    assert all(np.isfinite(p).all() for p in parameters(net))
    net.fit(X, y, epochs=1, batch_size=4000)


def test_validation_data():
    net = MLP([4, 8, 3])
    X, y = data(60)
    measured = []
    watch = AtEpochEnd(lambda net, fit: measured.append(net.evaluate(X[40:], y[40:])))
    history = net.fit(
        X[:40], y[:40], epochs=3, batch_size=8, validation_data=(X[40:].tolist(), np.eye(3)[y[40:]]), callbacks=[watch]
    )
    assert history.val_loss == [m["loss"] for m in measured]
    assert history.val_accuracy == [m["accuracy"] for m in measured]
    assert net.fit(X, y, epochs=1).val_loss == []
    plain = reference.MLP([4, 8, 3])
    plain.fit(X[:40], y[:40], epochs=3, batch_size=8, validation_data=(X[40:], y[40:]))
    assert_close([history.val_loss], [plain.history.val_loss], "float32")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layers", [[4, 8, 3], [4, 17, 256, 3]], ids=str)
def test_weights_and_biases_are_views(layers, dtype):
    net, plain = MLP(layers, dtype=dtype), reference.MLP(layers, dtype=dtype)
    X, y = data_for(net, 20)
    assert [w.shape for w in net.weights] == [w.shape for w in plain.weights]
    assert [b.shape for b in net.biases] == [b.shape for b in plain.biases]
    generator = np.random.default_rng(1)
    for own, theirs in zip(parameters(net), parameters(plain), strict=True):
        assert own.dtype == dtype
        own[:] = theirs[:] = generator.normal(scale=0.3, size=own.shape)
    assert_close([net.predict_proba(X)], [plain.predict_proba(X)], dtype)
    first = net.weights[0]
    net.train_batch(X, y)
    np.testing.assert_array_equal(first, net.weights[0])
    net.weights.clear()  # a list of its own
    assert len(net.weights) == len(layers) - 1


def continued(net, copied, X, y):
    """Train a network and its copy on, and compare: everything that makes it was copied."""
    assert repr(copied) == repr(net)
    assert copied.history == net.history
    assert copied.n_threads == net.n_threads
    assert_bits(copied, parameters(net))
    np.testing.assert_array_equal(copied.predict_proba(X), net.predict_proba(X))
    before = snapshot(net)
    copied.fit(X, y, epochs=3, batch_size=8)
    assert_bits(net, before)  # nothing is shared
    net.fit(X, y, epochs=3, batch_size=8)
    assert_bits(copied, parameters(net))
    assert copied.history.loss == net.history.loss


@pytest.mark.parametrize("seed", [0, None])
@pytest.mark.parametrize(
    "copied",
    [lambda net: pickle.loads(pickle.dumps(net)), copy.deepcopy],
    ids=["pickle", "deepcopy"],
)
def test_copies_go_on_as_the_first(copied, seed):
    X, y = data(50)
    net = MLP([4, 8, 3], activation="logistic", init="xavier", seed=seed, n_threads=2, dtype="float64")
    net.fit(X, y, epochs=2, batch_size=8)
    continued(net, copied(net), X, y)


def test_a_fit_through_a_pickle_equals_one_without():
    X, y = data(50)
    whole, first = MLP([4, 8, 3]), MLP([4, 8, 3])
    whole.fit(X, y, epochs=5, batch_size=8)
    first.fit(X, y, epochs=2, batch_size=8)
    second = pickle.loads(pickle.dumps(first))
    second.fit(X, y, epochs=3, batch_size=8)
    assert_bits(second, parameters(whole))
    assert first.history.loss + second.history.loss == whole.history.loss


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", [None, 3])
def test_save_and_load(tmp_path, dtype, seed):
    X, y = data(50)
    net = MLP([4, 9, 3], activation="logistic", init="normal", seed=seed, dtype=dtype)
    net.fit(X, y, epochs=1, batch_size=8)
    net.save(tmp_path / "net.npz")
    for kind in (MLP, reference.MLP):
        loaded = kind.load(tmp_path / "net.npz")
        assert type(loaded) is kind
        assert repr(loaded) == repr(net)
        assert_bits(loaded, parameters(net))
    np.testing.assert_array_equal(MLP.load(tmp_path / "net.npz").predict_proba(X), net.predict_proba(X))
    assert [path.name for path in tmp_path.iterdir()] == ["net.npz"]


def test_it_learns():
    X, _ = data(300, 2)
    y = (X[:, 0] * X[:, 1] > 0).astype(int)  # no line parts these classes
    net = MLP([2, 16, 2])
    history = net.fit(X, y, epochs=60, batch_size=16, learning_rate=0.3)
    assert net.score(X, y) > 0.95
    assert history.loss[-1] < 0.3 * history.loss[0]


def test_prediction_and_gradients_change_nothing():
    net = MLP([4, 8, 3])
    before, state = snapshot(net), net._generator.bit_generator.state
    net.gradients(X, Y)
    net.evaluate(X, Y)
    net.predict(X)
    net.predict_proba(X)
    assert_bits(net, before)
    assert net._generator.bit_generator.state == state


def test_assigning_to_an_item_of_the_weights_writes_into_the_network():
    net, other = MLP([3, 4, 2]), MLP([3, 4, 2], seed=1)
    for i in range(2):
        net.weights[i] = other.weights[i]
        net.biases[i] += 0.5
    X = np.ones((5, 3), np.float32)
    np.testing.assert_array_equal(net.weights[1], other.weights[1])
    for bias in other.biases:
        bias += 0.5
    np.testing.assert_array_equal(net.predict_proba(X), other.predict_proba(X))
    with pytest.raises(ValueError, match="broadcast"):
        net.weights[0] = np.zeros((4, 4))


def test_steps_are_counted_whatever_the_epochs():
    X, y = data(50, 4)
    assert MLP([4, 3]).fit(X, y, epochs=7, batch_size=20).steps == 21


def test_a_history_is_a_line():
    X, y = data(50, 4)
    history = MLP([4, 3]).fit(X, y, epochs=200)
    assert repr(history) == f"<History of 200 epochs: loss {history.loss[-1]:.4f}, accuracy {history.accuracy[-1]:.4f}>"


@pytest.mark.parametrize(
    ("settings", "hint"), [({"activation": "sigmoid"}, "did you mean 'logistic'"), ({"init": "kaiming"}, "'he'")]
)
def test_other_libraries_names_get_a_hint(settings, hint):
    with pytest.raises(ValueError, match=hint):
        MLP([4, 3], **settings)


@pytest.mark.parametrize(
    ("first_layer", "zeros", "expected"),
    [("auto", 0.0, False), ("auto", 0.9, True), ("dense", 0.9, False), ("sparse", 0.0, True), ("auto", 1.0, True)],
)
def test_the_first_layer_is_picked_from_the_data(monkeypatch, first_layer, zeros, expected):
    marked = []
    mark_rows = mlp_module.mark_rows
    monkeypatch.setattr(mlp_module, "mark_rows", lambda *given: marked.append(1) or mark_rows(*given))
    X, y = data(300, 40)
    X[np.random.default_rng(0).random(X.shape) < zeros] = 0
    for n_rows in (300, 1):
        marked.clear()
        MLP([40, 3], first_layer=first_layer).fit(X[:n_rows], y[:n_rows], epochs=1)
        assert bool(marked) is expected

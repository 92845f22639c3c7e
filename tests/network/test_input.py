"""Every form of input trains as its plain copy, and what does not fit changes nothing."""

import copy
import tracemalloc

import numpy as np
import pytest
from support.nets import DTYPES, LONG, X, Y, assert_bits, both_kinds, data, parameters, refused, snapshot

from fastmlp import MLP
from fastmlp.engine import inference

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
@pytest.mark.parametrize(
    "form", [pytest.param(form, marks=pytest.mark.main_dtype("float32")) if form == "uint8" else form for form in FORMS]
)
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

    class Counted(inference.Workspace):
        def __init__(self, *arguments, **named):
            made.append(arguments)
            super().__init__(*arguments, **named)

    monkeypatch.setattr(inference, "Workspace", Counted)
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

BAD_X = X.copy()
BAD_X[7, 2] = np.nan


@both_kinds
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
        ({"y": ["cat"] * 10}, ValueError, "the network has 3 classes, but y has 1: 'cat'"),
        ({"epochs": 0}, ValueError, "epochs must be at least 1, not 0"),
        ({"epochs": 1.0}, TypeError, "epochs must be an integer, not 1.0"),
        ({"batch_size": 2.5}, TypeError, "batch_size must be an integer, not 2.5"),
        ({"batch_size": -1}, ValueError, "batch_size must be at least 1, not -1"),
        ({"learning_rate": -1}, ValueError, "learning_rate must be more than 0 and finite, not -1"),
        ({"learning_rate": np.nan}, ValueError, "learning_rate must be more than 0 and finite, not nan"),
        ({"learning_rate": "0.1"}, TypeError, "learning_rate must be a number, not '0.1'"),
        ({"learning_rate": 1e-60}, ValueError, "learning_rate 1e-60 is too small: float32 makes it 0.0"),
        ({"validation_data": (X, Y[:9])}, ValueError, "validation X has 10 rows, but validation y has 9"),
        ({"validation_data": (BAD_X, Y)}, ValueError, "validation X has nan in row 7, column 2"),
        ({"validation_data": X}, TypeError, "validation_data must be a pair (X, y)"),
        ({"callbacks": [print]}, TypeError, "has none of the methods"),
        ({"callbacks": 3}, TypeError, "callbacks must be a list of callbacks, not int"),
    ],
)
def test_wrong_arguments_of_fit_change_nothing(arguments, error, message, kind):
    net = kind([4, 8, 3])
    history = net.fit(X, Y, epochs=1, batch_size=4)
    before, state = snapshot(net), net._random.generator.bit_generator.state
    entries = copy.deepcopy(history)
    with refused(error, message):
        net.fit(**({"X": X, "y": Y} | arguments))
    assert_bits(net, before)
    assert net.history is history
    assert history == entries
    assert net._random.generator.bit_generator.state == state


@both_kinds
@pytest.mark.parametrize("method", ["train_batch", "gradients", "evaluate", "score"])
def test_wrong_data_of_other_methods(method, kind):
    net = kind([4, 3])
    before = snapshot(net)
    with refused(ValueError, "X has 10 rows, but y has 9"):
        getattr(net, method)(X, Y[:9])
    with refused(ValueError, "X has nan in row 7, column 2"):
        getattr(net, method)(BAD_X, Y)
    with refused(ValueError, "learning_rate must be more than 0"):
        net.train_batch(X, Y, learning_rate=0)
    assert_bits(net, before)


@both_kinds
@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_wrong_rows_to_predict(method, kind):
    with refused(ValueError, "X has 5 features, but the network has 4 inputs"):
        getattr(kind([4, 3]), method)(np.zeros((2, 5)))
    with refused(ValueError, "X is empty"):
        getattr(kind([4, 3]), method)(X[:0])


@both_kinds
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
def test_wrong_settings(arguments, error, message, kind):
    with refused(error, message):
        kind(**({"layers": [4, 3]} | arguments))


def test_labels_changed_during_a_fit_change_nothing():
    class Spoil:
        def on_epoch_end(self, net, fit):
            y[:] = 10**9

    X, labels = data(40)
    y = labels.astype(np.int32)
    net, expected = MLP([4, 8, 3]), MLP([4, 8, 3])
    net.fit(X, y, epochs=3, batch_size=8, callbacks=[Spoil()])
    expected.fit(X, labels, epochs=3, batch_size=8)
    assert_bits(net, parameters(expected))


def test_a_networks_own_weights_may_be_its_data():
    nets = [MLP([32, 32, 4], n_threads=n_threads) for n_threads in (1, 2, 1)]
    for net, rows in zip(nets, (nets[0].weights[0], nets[1].weights[0], nets[2].weights[0].copy()), strict=True):
        net.fit(rows, np.arange(32) % 4, epochs=3, batch_size=8)
        assert_bits(net, parameters(nets[0]))

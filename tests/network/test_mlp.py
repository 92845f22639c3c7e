"""`fastmlp.MLP`: the same bits however it is called, callbacks, views of its parameters, and settings."""

import copy
import operator

import numpy as np
import pytest
from scipy import sparse
from support.nets import (
    DTYPES,
    LONG,
    AtEpochEnd,
    Recorder,
    X,
    Y,
    assert_bits,
    assert_close,
    both_kinds,
    data,
    data_for,
    parameters,
    raise_broken,
    refused,
    snapshot,
)

from fastmlp import MLP, reference
from fastmlp.engine.compiled import CompiledEngine
from fastmlp.engine.rows import rows_in_place, rows_to_train
from fastmlp.random import batch_generator, permutations

pytestmark = pytest.mark.loops("plain SGD")

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
    for order in permutations(batch_generator(5), 2, 21, shuffle=True):
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
    monkeypatch.setattr(CompiledEngine, "epochs_per_call", lambda *_: 1)
    one_by_one.fit(X, y, epochs=5, batch_size=batch_size)
    for net in (apart, watched, one_by_one):
        assert_bits(net, parameters(together))
    assert apart.history.loss == together.history.loss[2:]
    assert watched.history.loss == one_by_one.history.loss == together.history.loss


# --- the rest of the face ---------------------------------------------------------------------------------------------


@pytest.fixture
def often(monkeypatch):
    """Let on_step be called every millisecond: epochs of tests are short."""
    monkeypatch.setattr("fastmlp.engine.threads._POLL_SECONDS", 0.001)


def test_callbacks(often):
    recorder = Recorder()
    X, y = data(20_000, 50)
    net = MLP([50, 200, 3], n_threads=1)
    net.fit(X, y, epochs=3, batch_size=4, callbacks=[recorder])
    milestones = [call for call in recorder.calls if call[0] != "on_step"]
    ends = [("on_epoch_end", epoch, 0) for epoch in (1, 2, 3)]
    assert milestones == [("on_fit_begin", 0, 0), *ends, ("on_fit_end", 3, 0)]
    steps = [(epoch, step) for name, epoch, step in recorder.calls if name == "on_step"]
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
    net = MLP([50, 200, 3], n_threads=n_threads)
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
    with pytest.raises(TypeError, match="one array for each layer"):
        net.weights.clear()
    assert len(net.weights) == len(layers) - 1


@both_kinds
def test_settings_stay_as_they_are(kind):
    net = kind([4, 8, 3])
    before = repr(net)
    for name, value in {
        "layers": (4, 800, 3),
        "activation": "logistic",
        "init": "normal",
        "seed": 3,
        "dtype": "float64",
        "first_layer": "sparse",
    }.items():
        with pytest.raises(AttributeError, match=f"^{name} cannot be changed; make a new network$"):
            setattr(net, name, value)
    assert repr(net) == before
    assert net.first_layer == "auto"


def test_the_number_of_threads_can_be_changed_and_is_checked():
    net = MLP([4, 8, 3], n_threads=1)
    for wrong, error in ((0, ValueError), (5000, ValueError), (1.5, TypeError), ("2", TypeError)):
        with pytest.raises(error, match="n_threads must be"):
            net.n_threads = wrong
    assert net.n_threads == 1
    net.n_threads = np.int64(2)
    assert type(net.n_threads) is int
    X, y = data(50)
    net.fit(X, y, epochs=2)
    expected = MLP([4, 8, 3])
    expected.fit(X, y, epochs=2)
    assert_bits(net, parameters(expected))


def test_it_learns():
    X, _ = data(300, 2)
    y = (X[:, 0] * X[:, 1] > 0).astype(int)  # no line parts these classes
    net = MLP([2, 16, 2])
    history = net.fit(X, y, epochs=60, batch_size=16, learning_rate=0.3)
    assert net.score(X, y) > 0.95
    assert history.loss[-1] < 0.3 * history.loss[0]


def test_prediction_and_gradients_change_nothing():
    net = MLP([4, 8, 3])
    before, state = snapshot(net), net._random.generator.bit_generator.state
    net.gradients(X, Y)
    net.evaluate(X, Y)
    net.predict(X)
    net.predict_proba(X)
    assert_bits(net, before)
    assert net._random.generator.bit_generator.state == state


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


@both_kinds
def test_whole_lists_and_slices_can_be_assigned(kind):
    net, other = kind([3, 3, 3, 2]), kind([3, 3, 3, 2], seed=1)
    net.weights[:2] = other.weights[:2]
    net.weights[-1] = other.weights[2].tolist()
    net.biases = [1, np.arange(3), [0.5, 2]]
    np.testing.assert_array_equal(net.biases[0], [1, 1, 1])
    net.biases[::2] = other.biases[::2]
    net.biases[1] = 0
    assert_bits(net, parameters(other))
    net.weights[:2] = net.weights[1::-1]  # as if what is assigned had been copied
    np.testing.assert_array_equal(net.weights[0], other.weights[1])
    np.testing.assert_array_equal(net.weights[1], other.weights[0])
    net.weights[0] = net.weights[0].T
    np.testing.assert_array_equal(net.weights[0], other.weights[1].T)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (None, TypeError, "weights[0] holds object values"),
        ("1.5", TypeError, "weights[0] holds string values"),
        (np.nan, ValueError, "weights[0] must be finite numbers of float32, not nan"),
        (1e300, ValueError, "weights[0] must be finite numbers of float32, not 1e+300"),
        (np.full((3, 4), -np.inf), ValueError, "weights[0] must be finite numbers of float32, not -inf"),
        (1j, TypeError, "weights[0] holds complex values"),
        (np.zeros((4, 4)), ValueError, "weights[0] has the shape (3, 4), but the shape of what is assigned is (4, 4)"),
        (np.zeros(4), ValueError, "weights[0] has the shape (3, 4), but the shape of what is assigned is (4,)"),
        ([[1, 2], [3]], ValueError, "weights[0] cannot be made an array"),
        (sparse.eye_array(3, 4), TypeError, "weights[0] is sparse"),
    ],
    ids=str,
)
@both_kinds
def test_what_is_assigned_to_parameters_is_checked(values, error, message, kind):
    net = kind([3, 4, 2])
    before = snapshot(net)
    with refused(error, message):
        net.weights[0] = values
    for assign in (lambda: setattr(net, "weights", [values, 0]), lambda: net.weights.__setitem__(slice(1), [values])):
        with refused(error, message):
            assign()
    with refused(ValueError, "weights[0:1] must be a list of 1 arrays"):
        net.weights[0:1] = [1, 2]
    with refused(ValueError, "biases[:] must be a list of 2 arrays"):
        net.biases = 3
    with pytest.raises(IndexError):
        net.weights[2] = 0
    assert_bits(net, before)


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.append(w[0]),
        lambda w: w.pop(),
        lambda w: w.reverse(),
        lambda w: operator.delitem(w, 0),
        lambda w: operator.iadd(w, w),
    ],
)
def test_the_lists_of_parameters_keep_their_length(change):
    """They are made anew for each use, so nothing that is added to one would reach the network."""
    net = MLP([4, 8, 3])
    for arrays in (net.weights, net.biases):
        with refused(TypeError, "has one array for each layer"):
            change(arrays)
        assert len(arrays) == 2
    assert type(copy.copy(net.weights)) is list


@both_kinds
def test_views_share_their_numbers_and_nothing_else(kind):
    net, expected = kind([4, 8, 3]), kind([4, 8, 3])
    net.biases[0].shape = (2, 4)
    net.weights[0].dtype = np.int32
    net.weights[0].flags.writeable = False
    copies = copy.deepcopy(net.weights)
    assert type(copies) is list
    copies[0][...] = 0
    net.fit(X, Y, epochs=1)
    expected.fit(X, Y, epochs=1)
    assert_bits(net, parameters(expected))


@both_kinds
def test_history_and_settings_cannot_be_broken(kind):
    net = kind([4, 3])
    with refused(TypeError, "history must be a History, which fit returns, not None"):
        net.history = None
    for name in ("layers", "history", "dtype"):
        with refused(AttributeError, f"{name} cannot be deleted"):
            delattr(net, name)
    net.remark = "mine"
    del net.remark


@pytest.mark.parametrize("layers", [[4, 8, 1], [4, 1]])
@both_kinds
def test_a_softmax_over_one_output_is_refused(layers, kind):
    with refused(ValueError, "a softmax over one output is always 1; for two classes use output='logistic', or two"):
        kind(layers)
    assert kind(layers, output="logistic").predict_proba(X).shape == (10, 2)


@both_kinds
def test_number_of_parameters(kind):
    assert kind([784, 128, 10]).n_parameters == 784 * 128 + 128 + 128 * 10 + 10


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
    ("first_layer", "zeros", "packed"),
    [("auto", 0.0, False), ("auto", 0.9, True), ("dense", 0.9, False), ("sparse", 0.0, True), ("auto", 1.0, True)],
)
@pytest.mark.parametrize("n_rows", [300, 1])
def test_the_first_layer_is_picked_from_the_data(first_layer, zeros, packed, n_rows):
    X = data(n_rows, 40)[0]
    X[np.random.default_rng(0).random(X.shape) < zeros] = 0
    as_bytes = (100 * np.abs(X) + (X != 0)).astype(np.uint8)
    packed |= first_layer == "auto" and n_rows == 1  # one row is always packed
    to_train, in_place = rows_to_train(X, first_layer, 8, 2), rows_in_place(X, first_layer, 8)
    assert to_train.format == in_place.format == ("packed" if packed else "dense")
    assert to_train.is_packed == packed
    assert not in_place.is_packed  # but batch by batch
    assert rows_to_train(as_bytes, first_layer, 8, 2).format == ("packed bytes" if packed else "bytes")
    for rows in (
        rows_to_train(sparse.csr_array(X), first_layer, 8, 2),
        rows_in_place(sparse.csr_array(X), first_layer, 8),
    ):
        assert rows.format == "csr"


def test_batches_of_many_sizes_share_a_few_workspaces():
    net = MLP([4, 3])
    for n_rows in range(1, 130):
        X, y = data(n_rows)
        net.predict(X)
        net.train_batch(X, y)
    assert sum(map(len, net._engine._idle.values())) <= 2 * 9


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_callback_sees_the_weights_of_now(n_threads, often):
    X, y = data(3000, 20)
    before, seen = MLP([20, 300, 3], seed=0).weights[0], []

    class Look:
        def on_step(self, net, fit):
            seen.append(np.abs(net.weights[0] - before).max())

    net = MLP([20, 300, 3], seed=0, n_threads=n_threads)
    net.fit(np.tile(X, (20, 1)), np.tile(y, 20), epochs=3, batch_size=8, callbacks=[Look()])
    assert len(seen) >= 2
    assert seen[-1] > 0


def test_biases_as_input_are_copied():
    nets = MLP([4, 4], seed=0), MLP([4, 4], seed=0)
    for net, row in zip(nets, (nets[0].biases[0][None], nets[1].biases[0][None].copy()), strict=True):
        net.fit(row, [1], epochs=5)
    assert_bits(nets[0], snapshot(nets[1]))

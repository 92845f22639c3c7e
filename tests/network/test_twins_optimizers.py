"""The compiled network's optimizers, penalties and bounds of the gradient: those of the plain one, in the same bits."""

import numpy as np
import pytest
from scipy import sparse
from support.nets import DTYPES, AtEpochEnd, assert_bits, assert_close, data, parameters, snapshot, twins

from fastmlp import MLP, optimizers

pytestmark = pytest.mark.loops("steps")

ADAM = optimizers.Adam(learning_rate=0.01, weight_decay=0.02)
EVERYTHING = {"optimizer": ADAM, "clip_norm": 0.5, "clip_value": 0.05}
NETS = ([4, 3], [5, 1, 2], [13, 17, 7], [70, 65, 33, 10], [7, 300, 5])
STEPS = {
    "adam": ({}, {"optimizer": ADAM}),
    "decay": ({}, {"optimizer": optimizers.SGD(learning_rate=0.1, weight_decay=0.1)}),
    "penalty": ({"l2": 0.05}, {}),
    "value": ({}, {"clip_value": 0.02}),
    "norm": ({}, {"clip_norm": 0.3}),
    "a large norm": ({}, {"clip_norm": 1e6}),
    "everything": ({"l2": 0.05}, EVERYTHING),
}


def fit(net, X, y, **arguments):
    return net.fit(X, y, **({"epochs": 3, "batch_size": 8} | arguments))


@pytest.mark.main_dtype("float64")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layers", NETS, ids=str)
@pytest.mark.parametrize("steps", STEPS)
def test_steps_are_those_of_the_plain_network(steps, layers, dtype):
    settings, arguments = STEPS[steps]
    net, plain = twins(layers, dtype=dtype, **settings)
    X, y = data(29, layers[0], layers[-1], dtype=dtype)
    own, other = fit(net, X, y, **arguments), fit(plain, X, y, **arguments)
    assert_close(parameters(net), parameters(plain), dtype, 10)
    assert_close([own.loss], [other.loss], dtype)
    assert own.learning_rate == other.learning_rate
    for slots, theirs in zip(net._training_state.optimizer_state, plain._training_state.optimizer_state, strict=True):
        assert_close(slots, theirs, dtype, 10)


FORMS = {
    "dense": ("dense", lambda X: X),
    "packed": ("sparse", lambda X: X),
    "bytes": ("dense", lambda X: X.astype(np.uint8)),
    "packed_bytes": ("sparse", lambda X: X.astype(np.uint8)),
    "csr": ("auto", sparse.csr_array),
}


@pytest.mark.parametrize(
    "forms", ["dense packed csr", pytest.param("dense bytes packed_bytes", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("batch_size", [7, 600])
@pytest.mark.parametrize("layers", [[70, 65, 33, 10], [5, 1, 2]], ids=str)
def test_bits_do_not_depend_on_threads_or_the_form_of_the_rows(layers, batch_size, forms):
    generator = np.random.default_rng(0)
    X = generator.integers(0, 256, (700, layers[0])) * (generator.random((700, layers[0])) < 0.3)
    X, y = X.astype(np.float32), generator.integers(0, layers[-1], 700)
    X, y = (X[:60], y[:60]) if batch_size < 60 else (X, y)
    expected = None
    for first_layer, form in (FORMS[name] for name in forms.split()):
        for n_threads in (1, 2, 3, 4):
            scale = {"input_scale": 1 / 128} if form(X).dtype == np.uint8 else {}
            net = MLP(layers, l2=0.05, n_threads=n_threads, first_layer=first_layer, **scale)
            history = fit(net, form(X if scale else X / np.float32(128)), y, batch_size=batch_size, **EVERYTHING)
            memory = [slot.copy() for slots in net._training_state.optimizer_state for slot in slots]
            result = [*snapshot(net), *memory, np.array(history.loss)]
            expected = expected or result
            for got, wanted in zip(result, expected, strict=True):
                np.testing.assert_array_equal(got.view(np.uint8), wanted.view(np.uint8))


@pytest.mark.parametrize("dtype", DTYPES)
def test_long_batches(dtype):
    net, plain = twins([13, 17, 7], dtype=dtype, l2=0.05)
    X, y = data(1300, 13, 7, dtype=dtype)
    for each in (net, plain):
        fit(each, X, y, batch_size=1100, **EVERYTHING)
    assert_close(parameters(net), parameters(plain), dtype, 10)


@pytest.mark.parametrize("dtype", DTYPES)
def test_schedules_change_the_rate_from_step_to_step(dtype):
    for arguments in ({}, {"optimizer": ADAM}):
        net, plain = twins([13, 17, 7], dtype=dtype)
        X, y = data(60, 13, 7, dtype=dtype)
        for each in (net, plain):
            fit(each, X, y, schedule="one_cycle", **arguments)
        assert_close(parameters(net), parameters(plain), dtype, 10)
        assert net.history.learning_rate == plain.history.learning_rate


@pytest.mark.parametrize("n_threads", [1, 3])
def test_steps_of_train_batch(n_threads):
    net, plain = twins([13, 17, 7], dtype="float64", l2=0.05)
    net.n_threads = n_threads
    X, y = data(20, 13, 7, dtype="float64")
    for arguments in [EVERYTHING, EVERYTHING, {"learning_rate": 0.1}, EVERYTHING]:
        losses = [each.train_batch(X, y, **arguments) for each in (net, plain)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    assert_close(parameters(net), parameters(plain), "float64")


def test_gradients_have_the_penalty():
    net, plain = twins([13, 17, 7], dtype="float64", l2=0.3)
    X, y = data(20, 13, 7, dtype="float64")
    (loss, dw, db), (expected, *gradients) = net.gradients(X, y), plain.gradients(X, y)
    assert loss == pytest.approx(expected, rel=1e-12)
    assert_close([*dw, *db], [*gradients[0], *gradients[1]], "float64")


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_bad_loss_ends_training_before_its_step(n_threads):
    X, y = data(40, 13, 3)
    nets = [MLP([13, 64, 3], l2=0.05, n_threads=n_threads) for _ in range(2)]
    fit(nets[0], X[:24], y[:24], shuffle=False, epochs=1, **EVERYTHING)
    X[30] = 3e38
    with pytest.raises(FloatingPointError, match="at epoch 1, step 4"):
        fit(nets[1], X, y, shuffle=False, epochs=1, **EVERYTHING)
    assert_bits(nets[1], snapshot(nets[0]))
    for slots, others in zip(*(net._training_state.optimizer_state for net in nets), strict=True):
        np.testing.assert_array_equal(slots, others)
    assert nets[1]._training_state.steps == 3


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_penalty_that_is_not_finite_is_a_bad_loss(n_threads):
    X, y = np.zeros((8, 3)), np.zeros(8, int)
    net = MLP([3, 64, 2], l2=1.0, n_threads=n_threads, dtype="float64", first_layer="dense")
    net.weights[0][:] = 1e154  # whose squares add up to more than there is; the rows of zeros see none of them
    before = snapshot(net)
    with pytest.raises(FloatingPointError, match="loss is inf at epoch 1, step 1"):
        net.fit(X, y, epochs=1)
    assert_bits(net, before)


@pytest.mark.parametrize("arguments", [{"clip_norm": 1.0}, {"l2": 1e-30}], ids=str)
def test_squares_of_large_numbers(arguments):
    """Squares of float32 that are no float32."""
    settings = {"l2": arguments.pop("l2")} if "l2" in arguments else {}
    nets = twins([3, 64, 2], **settings)
    X, y = data(16, 3, 2)
    for net in nets:
        net.weights[0][:] *= np.float32(1e18)
        net.weights[1][:] *= np.float32(1e18)
        # The first step of momentum is one of SGD; other tests compile its loop in float32.
        net.fit(X, y, epochs=1, batch_size=16, learning_rate=0.1, optimizer="momentum", **arguments)
    assert_close(parameters(nets[0]), parameters(nets[1]), "float32")
    assert_close(nets[0].history.loss, nets[1].history.loss, "float32")


def test_going_on_gives_the_bits_of_a_fit_that_never_stopped(tmp_path):
    X, y = data(100, 13, 7)

    def stop(net, fit):
        fit.stop = fit.epoch == 2

    for n_threads in (1, 2):
        settings = {"l2": 0.01, "n_threads": n_threads}
        whole, first = (MLP([13, 64, 7], **settings) for _ in range(2))
        arguments = {"schedule": "cosine", "epochs": 5}
        fit(whole, X, y, **EVERYTHING, **arguments)
        fit(first, X, y, **EVERYTHING, **arguments, callbacks=[AtEpochEnd(stop)])
        second = MLP([13, 64, 7], **settings)
        second.load_state_dict(first.state_dict())
        first.save(tmp_path / "net.npz", training=True)
        for net in (first, second, MLP.load(tmp_path / "net.npz")):
            fit(net, X, y, clip_norm=0.5, clip_value=0.05, resume=True, **arguments)
            assert_bits(net, snapshot(whole))
            own, theirs = net.state_dict(), whole.state_dict()
            for name in own.keys() - {"history"}:
                np.testing.assert_array_equal(own[name], theirs[name])


def test_callbacks_see_the_memory_of_the_step_at_hand():
    seen = []

    class Look:
        def on_step(self, net, fit):
            if fit.step > 5:
                seen.append([slot.any() for slots in net._training_state.optimizer_state for slot in slots])
                fit.stop = True

    X, y = data(60_000, 13, 7)
    net = MLP([13, 128, 7], n_threads=2)
    fit(net, X, y, epochs=3, batch_size=4, optimizer="adam", callbacks=[Look()])
    assert seen
    assert all(all(slots) for slots in seen)

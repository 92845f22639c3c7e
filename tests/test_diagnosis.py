"""What is said of a fit that has diverged or learned nothing, on the plain network."""

import warnings

import numpy as np
import pytest
import scipy.sparse
from scipy.special import xlogy
from support.nets import X as SMALL_X
from support.nets import Y as SMALL_Y
from support.nets import assert_bits, both_kinds, data, refused, snapshot

from fastmlp import diagnosis
from fastmlp.diagnosis import ConvergenceWarning, loss_of_a_guess, what_went_wrong
from fastmlp.losses import LOSSES
from fastmlp.reference import MLP

pytestmark = pytest.mark.loops("plain SGD")
N = 400
X = np.random.default_rng(0).standard_normal((N, 5)).astype("f4")
CLASSES = np.digitize(X[:, 0] + X[:, 1], [-0.7, 0.7])
NUMBERS = X[:, 0] * X[:, 1] + X[:, 2]


def learned_nothing(message):
    return pytest.warns(ConvergenceWarning, match=rf"^this fit has learned nothing: .*{message}")


# --- divergence -------------------------------------------------------------------------------------------------------


@both_kinds
def test_after_divergence_the_advice_is_a_new_network(kind):
    net, y = kind([5, 16, 1], output="identity"), 5000 + 1000 * X[:, 0]
    with pytest.raises(FloatingPointError, match=r"epoch 1, step [2-9]; lower learning_rate; or scale y, which"):
        net.fit(X, y, learning_rate=0.1)
    before = snapshot(net)
    for fit in (lambda: net.fit(X, NUMBERS, learning_rate=1e-9), lambda: net.train_batch(X, NUMBERS, 1e-9)):
        with refused(FloatingPointError, "; make a new network: parameters of this one are as large as "):
            fit()
    assert_bits(net, before)


@both_kinds
def test_large_numbers_before_any_step(kind):
    net = kind([5, 16, 1], output="identity")
    before = snapshot(net)
    with refused(FloatingPointError, "loss is inf at epoch 1, step 1; scale y, which has numbers from -3.92e+25 to 3."):
        net.fit(X, np.float32(1e25) * NUMBERS)
    with refused(FloatingPointError, "loss is inf; scale X, which has numbers from "):
        net.train_batch(X * 1e30, NUMBERS)
    net.weights[0][0, 0] = np.inf
    with refused(FloatingPointError, "; make a new network: parameters of this one are as large as inf before"):
        net.fit(X, NUMBERS)
    net.weights[0][0, 0] = before[0][0, 0]
    net.fit(X, NUMBERS, learning_rate=0.01, epochs=1)


def test_an_x_that_is_changed_during_the_fit():
    class Spoil:
        def on_epoch_end(self, net, fit):
            rows[3, 1] = np.nan

    rows = X.copy()
    with refused(FloatingPointError, "; lower learning_rate; or X has nan now, so it was changed during the fit"):
        MLP([5, 3]).fit(rows, CLASSES, callbacks=[Spoil()])


# --- a constant guess -------------------------------------------------------------------------------------------------


def best_constant(losses, low, high):
    """The smallest mean of losses among many constants."""
    return min(losses(z) for z in np.linspace(low, high, 4001))


@pytest.mark.parametrize("weighted", [False, True])
def test_loss_of_a_guess(weighted):
    generator = np.random.default_rng(1)
    weights = generator.random(50) if weighted else None
    for output, y, low, high in (
        ("logistic", generator.integers(0, 2, (50, 1)).astype("f8"), -3, 3),
        ("identity", generator.normal(3, 1, (50, 1)), 0, 6),
        ("exp", generator.poisson(2, (50, 1)).astype("f8"), -3, 3),
    ):
        loss = LOSSES[output](1)
        expected = best_constant(lambda z: np.average(loss.losses(np.full((50, 1), z), y), weights=weights), low, high)  # noqa: B023
        assert loss_of_a_guess(loss, y, weights) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_of_a_guess_of_classes(smoothing):
    y, loss = np.array([0, 0, 1, 0, 3], np.int32), LOSSES["softmax"](4, smoothing)
    p = (1 - smoothing) * np.array([0.6, 0.2, 0, 0.2]) + smoothing / 4
    assert loss_of_a_guess(loss, y) == pytest.approx(-xlogy(p, p).sum())
    z = np.log(np.maximum(p, 1e-12))
    assert loss_of_a_guess(loss, y) == pytest.approx(loss.losses(np.tile(z, (5, 1)), y).mean(), rel=1e-6)
    assert loss_of_a_guess(loss, y, np.array([0.0, 0, 1, 0, 0])) == pytest.approx(
        loss_of_a_guess(loss, np.array([1], np.int32))
    )


def test_loss_of_a_guess_of_several_numbers():
    y = np.random.default_rng(0).normal(size=(50, 3))
    assert loss_of_a_guess(LOSSES["identity"](3), y) == pytest.approx(y.var(axis=0).mean())


# --- a fit that learned nothing ---------------------------------------------------------------------------------------


@both_kinds
def test_inputs_that_are_not_scaled(kind):
    pixels = np.random.default_rng(0).integers(0, 256, (N, 30))
    y = np.digitize(pixels[:, 0], [85, 170])
    for rows in (pixels.astype("f4"), pixels.astype("u1"), scipy.sparse.csr_matrix(pixels, dtype="f4")):
        net = kind([30, 16, 3])
        with learned_nothing(
            r"predicts \d for every row; X has numbers from 0 to 255: scale it to about -1 to 1; "
            r"16 of 16 hidden units are dead, 0 for every row; learning_rate=1 may be too high"
        ):
            net.fit(rows, y, epochs=20, learning_rate=1.0)
        assert len(set(net.predict(rows))) == 1
        if kind is MLP:
            break


@pytest.mark.parametrize("epochs", [1, 2, 20])
def test_a_learning_rate_that_is_much_too_high(epochs):
    net = MLP([5, 16, 3], seed=1)
    with learned_nothing("learning_rate=20 may be too high"):
        net.fit(X, CLASSES, epochs=epochs, learning_rate=20.0)


def test_a_learning_rate_that_is_much_too_low():
    with learned_nothing("no better than that of a constant guess, 1.0.*learning_rate=1e-09 may be too low, or"):
        MLP([5, 16, 3]).fit(X, CLASSES, epochs=20, learning_rate=1e-9)


def test_targets_that_are_not_scaled():
    with learned_nothing("y has numbers from .* to .*: scale it to about -1 to 1; learning_rate=1e-06 may be too "):
        MLP([5, 16, 1], output="identity").fit(X, 1000 + NUMBERS, epochs=20, learning_rate=1e-6)


def test_a_loss_that_rose():
    net = MLP([5, 16, 1], output="identity")
    net.fit(X, NUMBERS, epochs=50, learning_rate=0.02)
    with learned_nothing(r"(the loss rose from 0\.\d+ to |no better than).*learning_rate=3 may be too high"):
        net.fit(X, NUMBERS, epochs=20, learning_rate=3.0, clip_norm=1.0)


def test_a_last_step_that_destroys_the_network():
    with pytest.warns(ConvergenceWarning, match="^the last step has made parameters infinite or nan; lower learn"):
        MLP([5, 3]).fit(1000 * X, CLASSES, epochs=1, batch_size=N, learning_rate=3e38)


@both_kinds
@pytest.mark.parametrize(
    ("output", "rate", "trouble"),
    [
        ("identity", 3e38, "parameters infinite or nan"),
        ("identity", 1e20, "the loss inf"),  # of finite parameters
        ("logistic", 1e38, "the loss (nan|inf)"),
        (None, 1e38, "the loss (nan|inf)"),
        ("exp", 100.0, "the loss inf"),  # of parameters that are not even large
    ],
)
def test_a_last_step_after_which_the_loss_is_not_finite(output, rate, trouble, kind):
    y = CLASSES if output is None else (NUMBERS > 0) * 1 if output == "logistic" else NUMBERS**2 + 10
    net = kind([5, 16, 3 if output is None else 1], **({} if output is None else {"output": output}))
    with pytest.warns(ConvergenceWarning, match=rf"^the last step has made {trouble}; lower learning_rate and make "):
        net.fit(X, y, epochs=1, batch_size=N, learning_rate=rate)
    with refused(FloatingPointError, "loss is "):
        net.fit(X, y, epochs=1)


def test_biases_alone_may_be_infinite():
    net = MLP([5, 1], output="identity")
    with pytest.warns(ConvergenceWarning, match="^the last step has made parameters infinite or nan"):
        net.fit(0 * X, 1e5 * np.sign(NUMBERS) + 1e5, epochs=1, batch_size=N, learning_rate=1e37)
    assert np.isfinite(net.weights[0]).all()


def test_rows_without_weight_may_have_any_loss():
    rows, weights = X.copy(), np.ones(N)
    rows[3], weights[3] = 1e18, 0
    net = MLP([5, 1], output="identity")
    net.weights[0][...] = 1e4
    net.fit(rows, NUMBERS, epochs=1, batch_size=N, learning_rate=1e-9, sample_weight=weights)


def test_there_is_one_warning_and_it_names_the_line_of_the_call():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        MLP([5, 16, 3]).fit(X, CLASSES, epochs=20, learning_rate=20.0)
    assert [(warning.category, warning.filename) for warning in caught] == [(ConvergenceWarning, __file__)]


def test_fits_that_have_learned_something_do_not_warn():  # warnings are errors
    for epochs in (1, 2, 5, 30):
        MLP([5, 16, 3]).fit(X, CLASSES, epochs=epochs)
        MLP([5, 16, 1], output="identity").fit(X, NUMBERS, epochs=epochs, learning_rate=0.01)
        MLP([5, 1], output="logistic").fit(X, CLASSES > 0, epochs=epochs, optimizer="adam")
        MLP([5, 16, 1], output="exp").fit(X, CLASSES, epochs=epochs, learning_rate=0.01)


@pytest.mark.parametrize(
    ("rows", "y", "settings"),
    [
        (SMALL_X, SMALL_Y, {"epochs": 1}),
        (SMALL_X, SMALL_Y, {"epochs": 1, "learning_rate": 1e-9}),
        (SMALL_X, SMALL_Y, {"epochs": 30, "learning_rate": 1e-9}),  # few steps
        (X, CLASSES, {"epochs": 5, "learning_rate": 1e-9}),
        (X, 0 * CLASSES, {"epochs": 20}),  # one class: there is nothing to learn
        (X, CLASSES, {"epochs": 20, "sample_weight": np.eye(1, N)[0]}),
        (*data(N, 5), {"epochs": 5}),  # labels at random
        (X, np.where(np.arange(N) < 8, 1, 0), {"epochs": 5}),  # nearly all of one class
    ],
)
def test_short_fits_and_fits_without_anything_to_learn_do_not_warn(rows, y, settings):
    MLP([rows.shape[1], 16, 3]).fit(rows, y, **settings)


def test_what_early_stopping_has_put_back_counts():
    from fastmlp.callbacks import EarlyStopping

    class Raise:
        def on_epoch_end(self, net, fit):
            fit.learning_rate_factor = 200

    net = MLP([5, 16, 3])
    net.fit(X, CLASSES, epochs=10)
    history = net.fit(X, CLASSES, epochs=20, callbacks=[Raise(), EarlyStopping("loss", patience=20)])
    assert history.loss[-1] > 2


def test_nothing_is_computed_where_nothing_is_suspicious(monkeypatch):
    def outputs(*_):
        raise AssertionError

    net = MLP([5, 16, 3])
    monkeypatch.setattr("fastmlp.diagnosis._outputs", outputs)
    net.fit(X, CLASSES, epochs=20)
    assert what_went_wrong(net._engine, X, CLASSES.astype(np.int32), None, None, [], 0, 0.1) is None


def test_brief_products_leave_no_threads_of_blas_spinning(monkeypatch):
    class WithoutBlas(np.ndarray):
        def __matmul__(self, other):
            raise AssertionError("this calls BLAS")

    rng = np.random.default_rng(0)
    x, w = rng.random((30, 20)), rng.random((20, 5))
    np.testing.assert_allclose(diagnosis._product(x.view(WithoutBlas), w), x @ w)
    monkeypatch.setattr(diagnosis, "_BRIEF", 30 * 20 * 5)
    with refused(AssertionError, "BLAS"):
        diagnosis._product(x.view(WithoutBlas), w)

"""Whatever users subclass, override or assign: a kernel never reads or writes outside its arrays."""

import contextlib

import numpy as np
import pytest
import scipy.sparse
from support.nets import AtEpochEnd, assert_bits, both_kinds, data, refused, snapshot

from fastmlp import MLP, optimizers, schedules
from fastmlp.callbacks import Checkpoint, CSVLog, EarlyStopping, FitState, Table, TimeLimit

pytestmark = pytest.mark.loops("plain SGD")
X, Y = data(30, 8)


def network(kind=MLP):
    return kind([8, 16, 3], n_threads=1)


# --- optimizers -------------------------------------------------------------------------------------------------------


def changed(base=optimizers.Adam, **overridden):
    """A subclass of an optimizer that keeps its `update`."""
    return type("Mine", (base,), overridden)()


def unchecked(learning_rate):
    """An optimizer that has not checked its settings."""
    return type("Mine", (optimizers.Adam,), {"__post_init__": lambda self: None})(learning_rate=learning_rate)


def coefficients_like(change):
    """A method `coefficients` that changes what the one of Adam returns."""
    return lambda self, steps, rates: change(optimizers.Adam.coefficients(self, steps, rates))


@pytest.mark.parametrize(
    ("optimizer", "error", "message"),
    [
        (changed(slots=property(lambda self: 1)), TypeError, "the optimizer Mine has slots=1, but the formula 'adam'"),
        (changed(slots=-1), TypeError, "the optimizer Mine has slots=-1"),
        (changed(slots="2"), TypeError, "the optimizer Mine has slots='2'"),
        (changed(slots=10**12), TypeError, "the optimizer Mine has slots=1000000000000"),
        (changed(optimizers.SGD, slots=2), TypeError, "the optimizer Mine has slots=2, but the formula 'sgd' keeps 0"),
        (unchecked("x"), TypeError, "learning_rate must be a number, not"),
        (unchecked(-1), ValueError, "learning_rate must be more than 0"),
        (changed(formula="sgd"), TypeError, "the optimizer Mine has slots=2, but the formula 'sgd' keeps 0 arrays"),
        (changed(formula="adamw"), TypeError, "must return a dict with the keys ['rate', 'eps', 'decay'"),
        (changed(formula=["adam"]), TypeError, "fastmlp.MLP has no kernel for the optimizer Mine"),
        (changed(formula="lion"), TypeError, "fastmlp.MLP has no kernel for the optimizer Mine"),
        (changed(coefficients=coefficients_like(lambda c: None)), TypeError, "the keys ['rate', 'eps', "),
        (changed(coefficients=coefficients_like(lambda c: c | {"rate": None})), ValueError, "'rate' must be a number"),
        (changed(coefficients=coefficients_like(lambda c: {"rate": c["rate"]})), TypeError, "not the keys ['rate']"),
        (
            changed(coefficients=coefficients_like(lambda c: {name: values[:1] for name, values in c.items()})),
            ValueError,
            "coefficients of the optimizer Mine: 'rate' must be a number for each of 2 steps, not an array of shape (1",
        ),
    ],
)
def test_an_optimizer_that_does_not_fit_its_kernel_is_refused(optimizer, error, message):
    net = network()
    before, history = snapshot(net), net.history
    for train in (net.fit, net.train_batch):
        with refused(error, message):
            train(X, Y, optimizer=optimizer)
    assert_bits(net, before)
    assert net.history is history


def test_coefficients_of_ones_own_that_fit_are_used():
    half = lambda self, steps, rates: optimizers.Adam.coefficients(self, steps, rates / 2)  # noqa: E731
    net, other = network(), network()
    net.fit(X, Y, epochs=2, batch_size=10, optimizer=changed(coefficients=half))
    other.fit(X, Y, epochs=2, batch_size=10, optimizer=optimizers.Adam(learning_rate=0.0005))
    assert_bits(net, snapshot(other))


def test_an_optimizer_that_calls_itself_plain_is_trained_by_its_formula():
    plain = type("Mine", (optimizers.Adam,), {"is_plain_sgd": True})(betas=(0.5, 0.9))
    net, other = network(), network()
    for each, optimizer in ((net, plain), (other, optimizers.Adam(betas=(0.5, 0.9)))):
        each.fit(X, Y, epochs=2, batch_size=10, optimizer=optimizer)
    assert_bits(net, snapshot(other))


def test_coefficients_that_change_in_the_middle():
    def coefficients(self, steps, rates):
        given = optimizers.Adam.coefficients(self, steps, rates)
        return given if steps[0] == 1 else {name: values[:2] for name, values in given.items()}

    net, other = network(), network()
    with refused(ValueError, "'rate' must be a number for each of 3 steps, not an array of shape (2,)"):
        net.fit(X, Y, batch_size=10, optimizer=changed(coefficients=coefficients), callbacks=[Table(write=len)])
    other.fit(X, Y, epochs=1, batch_size=10, optimizer="adam")
    assert_bits(net, snapshot(other))
    assert net.history.steps == 3


# --- schedules --------------------------------------------------------------------------------------------------------


class Mine(schedules.Schedule):
    """A schedule of a user, whose methods return what they are told."""

    def __init__(self, at=1.0, **methods):
        self.given = at
        for name, value in methods.items():
            setattr(self, name, lambda *_, value=value: value)

    def at(self, steps, duration):
        return self.given

    def __repr__(self):
        return "Mine()"


@both_kinds
@pytest.mark.parametrize(
    ("schedule", "error", "message"),
    [
        (
            type("Mine", (Mine,), {"monitor": 5})(),
            TypeError,
            "monitor must be the name of a measurement, e.g. 'val_loss'",
        ),
        (
            Mine(at=np.ones(2)),
            TypeError,
            "Mine() must give a number, or an array of shape (3,) with one for each step, not an",
        ),
        (Mine(at=None), TypeError, "schedule Mine() must give a number"),
        (Mine(at=1j), TypeError, "schedule Mine() must give a number"),
        (Mine(at=-1), ValueError, "schedule Mine() gives -1.0 at step 0"),
        (Mine(at=1e300), ValueError, "the learning rate is 1e+299 in epoch 1, which is too large"),
        (Mine(factors=np.ones(2)), ValueError, "schedule Mine() gives factors of shape (2,), not (3,)"),
        (Mine(state=[1]), TypeError, "state() of the schedule Mine must be a dict of numbers, not [1]"),
        (Mine(state={"a": object}), TypeError, "state() of the schedule Mine must be a dict of numbers, but has 'a'"),
    ],
)
def test_schedules_that_give_no_factors(schedule, error, message, kind):
    net = network(kind)
    before = snapshot(net)
    with refused(error, message):
        net.fit(X, Y, batch_size=10, schedule=schedule, callbacks=[Table(write=len)])
    assert_bits(net, before)


# --- callbacks --------------------------------------------------------------------------------------------------------


@both_kinds
@pytest.mark.parametrize(
    ("name", "value"),
    [("n_batches", 1), ("epoch", -5), ("step", 99), ("epochs", 10**9), ("history", None), ("measures", ())],
)
def test_the_progress_of_a_fit_is_read_only(name, value, kind):
    net, other = network(kind), network(kind)
    assign = AtEpochEnd(lambda net, fit: setattr(fit, name, value))
    with refused(AttributeError, f"fit.{name} is read-only; callbacks may set stop and learning_rate_factor"):
        net.fit(X, Y, batch_size=10, callbacks=[assign])
    other.fit(X, Y, batch_size=10, epochs=1)
    assert_bits(net, snapshot(other))


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("stop", "no", TypeError, "stop must be True or False, not 'no'"),
        ("stop", None, TypeError, "stop must be True or False, not None"),
        ("stopp", True, AttributeError, "fit has no attribute 'stopp'; did you mean fit.stop?"),
        ("lr", 0.1, AttributeError, "fit has no attribute 'lr'; callbacks may set stop and learning_rate_factor"),
        ("learning_rate_factor", np.inf, ValueError, "learning_rate_factor must be 0 or more and finite, not inf"),
    ],
)
def test_what_callbacks_set_is_checked(name, value, error, message):
    with refused(error, message):
        setattr(FitState(1, 1), name, value)


def test_no_attribute_of_a_fit_can_be_deleted():
    with refused(AttributeError, "fit.epoch cannot be deleted"):
        del FitState(1, 1).epoch


def test_a_factor_that_makes_the_learning_rate_infinite():
    def raise_rate(net, fit):
        fit.learning_rate_factor = 1e40

    net, other = network(), network()
    with refused(ValueError, "the learning rate is 1e+39 in epoch 2, which is too large"):
        net.fit(X, Y, callbacks=[AtEpochEnd(raise_rate)])
    other.fit(X, Y, epochs=1)
    assert_bits(net, snapshot(other))


def test_a_metric_that_writes_into_its_arguments_changes_no_target():
    def spoils(y_true, y_pred):
        y_true[:] = 0
        y_pred[:] = 0
        return 0.0

    nets = [network(), network()]
    losses = [
        net.fit(X, Y, epochs=3, validation_data=(X, Y), metrics=m) for net, m in zip(nets, ([], [spoils]), strict=True)
    ]
    assert losses[0].val_loss == losses[1].val_loss


# --- padding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows", [np.asarray, pytest.param(scipy.sparse.csr_matrix, marks=pytest.mark.slow)], ids=["dense", "csr"]
)
@pytest.mark.parametrize(
    ("settings", "arguments"), [({"l2": 0.1}, {}), ({}, {"clip_norm": 0.01})], ids=["l2", "clip_norm"]
)
def test_what_is_put_back_is_whole(settings, arguments, rows):
    """Rows of the weights are padded; sums of squares read the padding, where a fit that diverged has left nan."""
    net, other = (MLP([8, 9, 3], n_threads=1, dtype="float64", **settings) for _ in range(2))
    state = net.state_dict()
    net._engine._params[:] = np.nan
    net.load_state_dict(state)
    for each in (net, other):
        each.fit(rows(X), Y, epochs=2, batch_size=10, **arguments)
    assert net.history.loss == other.history.loss
    assert_bits(net, snapshot(other))


# --- all at once ------------------------------------------------------------------------------------------------------

OPTIMIZERS = [
    lambda r: optimizers.SGD(learning_rate=10.0 ** r.integers(-5, 2)),
    lambda r: changed(slots=int(r.integers(-2, 5))),
    lambda r: changed(formula=str(r.choice(["sgd", "adam", "adamw", "rmsprop", "x"]))),
    lambda r: changed(coefficients=coefficients_like(lambda c: dict(list(c.items())[: r.integers(0, 9)]))),
    lambda r: changed(coefficients=coefficients_like(lambda c: {k: v[: r.integers(0, 5)] for k, v in c.items()})),
    lambda r: changed(coefficients=coefficients_like(lambda c: {k: v * r.choice([1, np.nan]) for k, v in c.items()})),
    lambda r: changed(optimizers.SGD, slots=int(r.integers(0, 2)), is_plain_sgd=bool(r.integers(0, 2))),
    lambda r: str(r.choice(["sgd", "adam", "adagrad", "nope"])),
]
SCHEDULES = [
    lambda r: Mine(at=r.choice([1.0, 0.0, -1.0, np.nan, 1e200])),
    lambda r: Mine(at=np.ones(r.integers(0, 9))),
    lambda r: Mine(factors=np.ones(r.integers(0, 9))),
    lambda r: Mine(state={"a": r.choice([1.0, np.nan])}, load_state=None),
    lambda r: Mine(state=None),
    lambda r: schedules.Adaptive(tol=np.float16(r.random()), n_iter_no_change=1),
    lambda r: schedules.Warmup(steps=np.uint8(r.integers(1, 255)), schedule=schedules.Cosine()),
    lambda r: lambda step: float(r.choice([1, 0.5, 2])),
    lambda r: None,
]


EXPECTED = (AttributeError, FloatingPointError, LookupError, OSError, RuntimeError, TypeError, ValueError)


def assigns(r):
    name = r.choice(["epoch", "epochs", "n_batches", "step", "stop", "learning_rate_factor", "history", "x"])
    value = r.choice([-1, 0, 1, 1e30, np.nan, True, None, "x"])
    return AtEpochEnd(lambda net, fit: setattr(fit, name, value))


def writes(r):
    value = r.choice([0, 1e30, np.nan, np.inf])

    def write(net, fit):
        net.weights[int(r.integers(0, 2))][...] = value

    return AtEpochEnd(write)


CALLBACKS = [
    lambda r, path: assigns(r),
    lambda r, path: writes(r),
    lambda r, path: Checkpoint(path / str(r.choice(["a.npz", "{epoch}.npz", "{loss:.2f}.npz", "{x}.npz", "{", "{0}"]))),
    lambda r, path: CSVLog(path / "a.csv"),
    lambda r, path: Table(every=int(r.integers(1, 3)), write=len),
    lambda r, path: EarlyStopping(str(r.choice(["loss", "val_loss", "x"])), patience=1),
    lambda r, path: TimeLimit(10.0 ** r.integers(-6, 2)),
    lambda r, path: AtEpochEnd(lambda net, fit: net.load_state_dict(net.state_dict())),
    lambda r, path: AtEpochEnd(lambda net, fit: fit.history.loss.clear()),
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(300))
def test_any_wrong_call_ends_in_an_error_of_its_kind(seed, tmp_path):
    """It returns or raises, and the network can be saved, or says why not, and be trained again."""
    r = np.random.default_rng(seed)

    def one(choices, *more):
        return choices[r.integers(0, len(choices))](r, *more)

    net, good = network(), network().state_dict()
    for _ in range(4):
        arguments = {
            "epochs": int(r.integers(1, 5)), "batch_size": int(r.integers(1, 40)), "resume": bool(r.integers(0, 2)),
            "validation_data": (X, Y) if r.integers(0, 2) else None,
        }  # fmt: skip
        with contextlib.suppress(*EXPECTED):
            chosen = [one(CALLBACKS, tmp_path) for _ in range(r.integers(0, 3))]
            net.fit(X, Y, optimizer=one(OPTIMIZERS), schedule=one(SCHEDULES), callbacks=chosen, **arguments)
        try:
            net.save(tmp_path / "net.npz", training=True)
        except (TypeError, ValueError):  # an optimizer of the user; numbers that are not finite
            net.load_state_dict(good)
        else:
            np.testing.assert_equal(MLP.load(tmp_path / "net.npz").state_dict(), net.state_dict())
    net.load_state_dict(good)
    other = network()
    for each in (net, other):
        each.fit(X, Y, epochs=2, batch_size=10)
    assert_bits(net, snapshot(other))

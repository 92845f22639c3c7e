"""Schedules: values, settings, what they watch, scikit-learn's rules; tests/peers/ has PyTorch's numbers."""

import dataclasses
import json
import math
import pickle

import numpy as np
import pytest
from sklearn.neural_network import MLPRegressor
from support.nets import refused

from fastmlp.history import History
from fastmlp.schedules import (
    Adaptive,
    Constant,
    Cosine,
    Course,
    Exponential,
    InverseScaling,
    MultiStep,
    OneCycle,
    ReduceOnPlateau,
    Schedule,
    Step,
    Warmup,
    get_schedule,
)

COURSE = Course(steps_per_epoch=4, epochs=5, n_rows=30)
KNOWN = [
    Constant(),
    Step(2),
    MultiStep([1, 3], gamma=0.5),
    Exponential(0.9),
    InverseScaling(),
    Cosine(0.1),
    OneCycle(),
    Warmup(schedule="cosine"),
    Warmup(steps=3, schedule=Warmup(steps=2)),
    get_schedule(lambda step: 1 / (1 + step)),
]
WATCHING = [ReduceOnPlateau(patience=1), Adaptive(n_iter_no_change=1), Warmup(schedule=ReduceOnPlateau(patience=0))]


def watch(schedule, losses, monitor="loss", course=COURSE):
    """The factor of each epoch, when these are measured at their ends."""
    factors, history = [], History()
    for epoch, loss in enumerate(losses):
        step = epoch * course.steps_per_epoch
        factors.append(schedule.factors(step, course.steps_per_epoch, course)[-1])
        history.append(**({"loss": 0.0} | {monitor: loss}))
        schedule.on_epoch_end(history)
    return factors


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        (None, Constant()),
        ("constant", Constant()),
        ("cosine", Cosine()),
        ("one_cycle", OneCycle()),
        ("warmup", Warmup()),
        ("inverse_scaling", InverseScaling()),
        ("adaptive", Adaptive()),
        ("reduce_on_plateau", ReduceOnPlateau()),
    ],
)
def test_names(name, schedule):
    assert get_schedule(name) == schedule
    assert get_schedule(schedule) is schedule


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("cosin", ValueError, "schedule must be one of 'constant', 'cosine', 'one_cycle', 'warmup', "
         "'inverse_scaling', 'adaptive', 'reduce_on_plateau', an object of fastmlp.schedules, or a function, "
         "not 'cosin'; did you mean 'cosine'?"),
        ("invscaling", ValueError, "did you mean 'inverse_scaling'?"),
        ("step", ValueError, "schedule 'step' needs settings; pass an object, e.g. Step(every=10)"),
        (Cosine, TypeError, "schedule Cosine is a class; pass an instance: Cosine()"),
        (0.5, TypeError, "schedule must be one of 'constant', "),
    ],
)  # fmt: skip
def test_wrong_schedules(given, error, message):
    with refused(error, message):
        get_schedule(given)


def test_examples_in_messages_are_right():
    from fastmlp import schedules

    for example in schedules._NEED_SETTINGS.values():
        assert isinstance(eval(example, vars(schedules)), Schedule)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Step(0), ValueError, "every must be at least 1, not 0"),
        (lambda: Step(1.5), TypeError, "every must be an integer, not 1.5"),
        (lambda: Step(1, gamma=0), ValueError, "gamma must be more than 0 and finite, not 0"),
        (lambda: MultiStep(3), TypeError, "milestones must be a list of epochs, e.g. [30, 60], not 3"),
        (lambda: MultiStep(np.array(3)), TypeError, "milestones must be a list of epochs, e.g. [30, 60], not array(3)"),
        (lambda: MultiStep([3, -1]), ValueError, "milestones[1] must be at least 1, not -1"),
        (lambda: Exponential(-0.5), ValueError, "gamma must be more than 0 and finite, not -0.5"),
        (lambda: InverseScaling("half"), TypeError, "power_t must be a number, not 'half'"),
        (lambda: Cosine(1), ValueError, "minimum must be 0 or more and below 1, not 1"),
        (lambda: OneCycle(pct_start=1), ValueError, "pct_start must be 0 or more and below 1, not 1"),
        (lambda: OneCycle(div_factor=0), ValueError, "div_factor must be more than 0 and finite, not 0"),
        (lambda: Warmup(epochs=-1), ValueError, "epochs must be 0 or more and finite, not -1"),
        (lambda: Warmup(steps=2.5), TypeError, "steps must be an integer, not 2.5"),
        (lambda: Warmup(schedule="cosinus"), ValueError, "schedule must be one of"),
        (lambda: ReduceOnPlateau(factor=1), ValueError, "factor must be more than 0 and below 1, not 1"),
        (lambda: ReduceOnPlateau(patience=-1), ValueError, "patience must be at least 0, not -1"),
        (lambda: ReduceOnPlateau(monitor=None), TypeError, "monitor must be the name of a measurement"),
        (lambda: ReduceOnPlateau(mode="low"), ValueError, "mode must be one of 'auto', 'min', 'max', not 'low'"),
        (lambda: Adaptive(tol=-1), ValueError, "tol must be 0 or more and finite, not -1"),
        (lambda: Adaptive(n_iter_no_change=0), ValueError, "n_iter_no_change must be at least 1, not 0"),
    ],
)  # fmt: skip
def test_wrong_settings(make, error, message):
    with refused(error, message):
        make()


# --- factors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", KNOWN + WATCHING, ids=str)
def test_factors_are_the_same_in_pieces(schedule):
    whole = schedule.factors(0, COURSE.steps, COURSE)
    assert whole.shape == (20,)
    assert whole.dtype == np.float64
    assert whole.flags.writeable
    pieces = [schedule.factors(step, 4, COURSE) for step in range(0, 20, 4)]
    np.testing.assert_array_equal(whole, np.concatenate(pieces))


@pytest.mark.parametrize("schedule", KNOWN, ids=str)
@pytest.mark.parametrize("course", [Course(1, 1, 1), Course(1, 2, 1), Course(2, 1, 9), Course(3, 400, 9)])
def test_factors_of_any_course_are_good_numbers(schedule, course):
    factors = schedule.factors(0, course.steps, course)
    assert (factors >= 0).all()
    assert (factors <= 1).all()
    assert factors.max() > 0


def test_values():
    epochs = np.arange(20) // 4
    np.testing.assert_array_equal(Constant().factors(0, 20, COURSE), 1)
    np.testing.assert_allclose(Step(2, gamma=0.5).factors(0, 20, COURSE), 0.5 ** (epochs // 2))
    np.testing.assert_allclose(MultiStep([3, 1]).factors(0, 20, COURSE), np.array([1, 0.1, 0.1, 0.01, 0.01])[epochs])
    np.testing.assert_allclose(Exponential(0.5).factors(0, 20, COURSE), 0.5**epochs)
    np.testing.assert_allclose(InverseScaling(1).factors(0, 20, COURSE), 1 / (1 + 30 * epochs))
    cosine = Cosine(0.5).factors(0, 20, COURSE)
    assert cosine[0] == 1
    assert cosine[10] == pytest.approx(0.75)
    assert (np.diff(cosine) < 0).all()
    cycle = OneCycle(div_factor=10, final_div_factor=100).factors(0, 20, COURSE)
    np.testing.assert_allclose(cycle[[0, 5, 19]], [0.1, 1, 0.001])
    rising = Warmup(steps=4, schedule="cosine").factors(0, 20, COURSE)
    np.testing.assert_allclose(rising[:5], [0.2, 0.4, 0.6, 0.8, 1])
    np.testing.assert_allclose(rising[4:], Cosine().factors(0, 16, Course(4, 4, 30)))
    np.testing.assert_array_equal(Warmup(epochs=0).factors(0, 20, COURSE), 1)
    np.testing.assert_allclose(Warmup(epochs=9, schedule="cosine").factors(0, 20, COURSE), np.arange(1, 21) / 37)


def test_a_callable_sees_each_step_as_an_int():
    seen = []
    get_schedule(lambda step: seen.append(step) or 1).factors(8, 4, COURSE)
    assert seen == [8, 9, 10, 11]
    assert all(type(step) is int for step in seen)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (-1, ValueError, "schedule falling gives -1.0 at step 5, counted from 0; a factor must be finite and 0"),
        (math.nan, ValueError, "schedule falling gives nan at step 5, counted from 0"),
        (math.inf, ValueError, "schedule falling gives inf at step 5, counted from 0"),
        (10**400, ValueError, "schedule falling gives inf at step 5, counted from 0"),
        (None, TypeError, "schedule falling must give a number, not None, at step 5, counted from 0"),
        ("fast", TypeError, "schedule falling must give a number, not 'fast', at step 5, counted from 0"),
    ],
)  # fmt: skip
def test_a_wrong_factor_is_named_with_its_step(value, error, message):
    def falling(step):
        return value if step >= 5 else 1

    get_schedule(falling).factors(0, 5, COURSE)
    with refused(error, message):
        get_schedule(falling).factors(4, 4, COURSE)


def test_a_factor_without_bounds_is_refused():
    with refused(ValueError, "schedule Exponential(gamma=1e+200) gives inf at step 8, counted from 0"):
        Exponential(1e200).factors(0, 20, COURSE)


def test_a_schedule_of_ones_own():
    class Line(Schedule):
        def at(self, steps, course):
            return 1 - steps / course.steps

    line = get_schedule(Line())
    np.testing.assert_allclose(line.factors(0, 20, COURSE), 1 - np.arange(20) / 20)
    assert line.monitor is None
    line.start()
    line.load_state(line.state())


# --- watching ---------------------------------------------------------------------------------------------------------


def test_plateau():
    schedule = ReduceOnPlateau(patience=1, factor=0.5, threshold=0.1, cooldown=1, minimum=0.2)
    losses = [1, 0.95, 0.8, 0.79, 0.78, 0.8, 0.8, 0.8, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
    assert watch(schedule, losses) == [1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2, 0.2, 0.2]


def test_plateau_of_something_that_should_grow():
    schedule = ReduceOnPlateau("val_accuracy", patience=0, factor=0.5, threshold=0)
    assert watch(schedule, [0.5, 0.6, 0.6, 0.7], "val_accuracy") == [1, 1, 1, 0.5]
    schedule = ReduceOnPlateau("val_accuracy", patience=0, factor=0.5, threshold=0, mode="min")
    assert watch(schedule, [0.5, 0.6, 0.4], "val_accuracy") == [1, 1, 0.5]


def test_nan_is_never_better():
    for schedule in (ReduceOnPlateau(patience=0), ReduceOnPlateau("val_r2", patience=0)):
        nan = math.nan
        assert watch(schedule, [nan, nan, 0.5], schedule.monitor) == [1, 0.1, pytest.approx(0.01)]
        assert schedule.best == 0.5


@pytest.mark.parametrize("schedule", WATCHING, ids=str)
def test_state_goes_on_where_it_was(schedule):
    losses = np.random.default_rng(0).random(40)
    schedule.start()
    whole = watch(schedule, losses)
    assert len(set(whole)) > 3
    schedule.start()
    assert watch(schedule, losses) == whole  # all is forgotten
    schedule.start()
    first = watch(schedule, losses[:17])
    state = schedule.state()
    assert all(isinstance(value, (int, float)) for value in state.values())
    other = pickle.loads(pickle.dumps(schedule))
    other.start()
    other.load_state({name: np.array(value) for name, value in state.items()})  # as a file gives it back
    history, factors = History(), []
    for loss in losses[17:]:
        factors.append(other.factors(68, 4, COURSE)[-1])
        history.append(loss=loss)
        other.on_epoch_end(history)
    assert first + factors == whole
    assert schedule.monitor == "loss"


def test_settings_may_be_numbers_of_numpy():
    schedule = ReduceOnPlateau(factor=np.float32(0.3), patience=np.int64(0), cooldown=np.int8(2), minimum=np.float16(0))
    assert watch(schedule, [1.0, 1.0, 1.0]) == [1, 1, np.float32(0.3)]
    json.dumps(schedule.state())  # as a file holds it
    adaptive = Adaptive(tol=np.float32(0.5), n_iter_no_change=np.int64(1))
    assert (type(adaptive.tol), type(adaptive.n_iter_no_change)) == (float, int)


@pytest.mark.parametrize(
    ("small", "plain"),
    [
        (InverseScaling(power_t=np.uint8(1)), InverseScaling(power_t=1)),
        (OneCycle(np.float16(0.5), np.float16(25), np.int16(10_000)), OneCycle(0.5, 25, 10_000)),
        (Step(np.int8(2), np.float16(0.5)), Step(2, 0.5)),
        (MultiStep(np.array([1, 3], np.uint8), np.float16(0.25)), MultiStep([1, 3], 0.25)),
        (Exponential(np.float16(0.5)), Exponential(0.5)),
        (Cosine(np.float16(0.25)), Cosine(0.25)),
        (Warmup(np.float16(1.5)), Warmup(1.5)),
        (Warmup(steps=np.uint8(250)), Warmup(steps=250)),
    ],
    ids=str,
)
def test_small_numbers_of_numpy_round_no_factor(small, plain):
    course = Course(steps_per_epoch=40, epochs=50, n_rows=30_000)
    np.testing.assert_array_equal(small.factors(0, 2000, course), plain.factors(0, 2000, course))
    assert small == plain
    for name, value in vars(small).items():
        assert type(value) is type(getattr(plain, name)) or isinstance(value, float)


def test_what_is_not_measured_cannot_be_watched():
    history = History()
    history.append(loss=1.0, seconds=0.1)
    with refused(KeyError, "'val_loss' was not measured, but loss, seconds"):
        ReduceOnPlateau("val_loss").on_epoch_end(history)


# --- the rules of scikit-learn ----------------------------------------------------------------------------------------


def sklearn_rates(epochs, **settings):
    """The learning rates and losses of scikit-learn's network, epoch by epoch."""
    generator = np.random.default_rng(0)
    X = generator.standard_normal((30, 3))
    y = X[:, 0] + generator.standard_normal(30)
    net = MLPRegressor(hidden_layer_sizes=(4,), solver="sgd", batch_size=10, random_state=0, alpha=0, **settings)
    net.partial_fit(X, y)
    rates = [settings["learning_rate_init"]]
    for _ in range(epochs - 1):
        rates.append(net._optimizer.learning_rate)
        net.partial_fit(X, y)
    return rates, net.loss_curve_


@pytest.mark.parametrize("power_t", [0.5, 0.1, 1.5])
def test_inverse_scaling_is_that_of_scikit_learn(power_t):
    rates, _ = sklearn_rates(10, learning_rate="invscaling", learning_rate_init=0.5, power_t=power_t)
    factors = InverseScaling(power_t).factors(0, 30, Course(3, 10, 30))
    np.testing.assert_allclose(0.5 * factors, np.repeat(rates, 3), rtol=1e-12)


@pytest.mark.parametrize(("tol", "n_iter_no_change"), [(3e-3, 2), (1e-2, 3), (0.0, 1)])
def test_adaptive_is_that_of_scikit_learn(tol, n_iter_no_change):
    settings = {"tol": tol, "n_iter_no_change": n_iter_no_change}
    rates, losses = sklearn_rates(60, learning_rate="adaptive", learning_rate_init=0.3, **settings)
    assert rates[-1] < rates[0] / 24
    n = np.count_nonzero(np.array(rates) > 1e-6)  # there scikit-learn's fit would end
    ours = watch(Adaptive(**settings), losses)
    np.testing.assert_allclose(0.3 * np.array(ours[:n]), rates[:n], rtol=1e-12)


def test_adaptive_watches_a_score_as_scikit_learn_does():
    scores = np.round(np.random.default_rng(1).random(60) * np.linspace(0.5, 1, 60), 2)
    tol, rate, rates, count, best = 0.02, 1.0, [], 0, -math.inf
    for score in scores:  # MLPClassifier._update_no_improvement_count and trigger_stopping
        rates.append(rate)
        count = count + 1 if score < best + tol else 0
        best = max(best, score)
        if count > 3:
            rate, count = rate / 5, 0
    schedule = Adaptive(tol=tol, n_iter_no_change=3, monitor="val_accuracy")
    np.testing.assert_allclose(watch(schedule, scores, "val_accuracy"), rates, rtol=1e-12)
    assert rates[-1] < 0.2


def test_settings_are_seen():
    assert repr(Cosine(0.1)) == "Cosine(minimum=0.1)"
    assert repr(Adaptive()) == "Adaptive(tol=0.0001, n_iter_no_change=10, monitor='loss', mode='auto')"
    with pytest.raises(dataclasses.FrozenInstanceError):
        Cosine().minimum = 0.5

"""What `fit` calls of a callback, when, and what the callback may do."""

import signal

import numpy as np
import pytest
from support.nets import AtEpochEnd, Recorder, X, Y, assert_bits, refused, snapshot

from fastmlp import reference
from fastmlp.callbacks import (
    EarlyStopping,
    FitState,
    gather_callbacks,
)
from fastmlp.schedules import Exponential


@pytest.fixture
def net():
    return reference.MLP([4, 5, 3])


def test_order_of_calls(net, every_step):
    recorder = Recorder()
    net.fit(X, Y, epochs=2, batch_size=4, callbacks=[recorder])
    steps = [[("on_step", epoch, step) for step in (1, 2, 3)] for epoch in (0, 1)]
    assert recorder.calls == [
        ("on_fit_begin", 0, 0), *steps[0], ("on_epoch_end", 1, 0), *steps[1], ("on_epoch_end", 2, 0),
        ("on_fit_end", 2, 0),
    ]  # fmt: skip


def test_callbacks_see_the_network_and_the_history(net):
    seen = []
    function = AtEpochEnd(lambda net, fit: seen.append((net, fit.epochs, fit.n_batches, len(fit.history.loss))))
    history = net.fit(X, Y, epochs=2, batch_size=4, callbacks=(function,))
    assert seen == [(net, 2, 3, 1), (net, 2, 3, 2)]
    assert history is net.history


def test_stop_ends_the_fit(net):
    def stop(net, fit):
        fit.stop = fit.epoch == 3

    history = net.fit(X, Y, epochs=9, callbacks=[AtEpochEnd(stop)])
    assert len(history.loss) == 3
    assert not history.interrupted


def test_ctrl_c_warns_and_returns_what_is_there(net):
    def press(net, fit):
        if fit.epoch == 2:
            signal.raise_signal(signal.SIGINT)

    recorder = Recorder()
    with pytest.warns(UserWarning, match="stopped training after epoch 2 of 9;"):
        history = net.fit(X, Y, epochs=9, callbacks=[AtEpochEnd(press), recorder])
    assert history.interrupted
    assert len(history.loss) == len(history.seconds) == 2
    assert recorder.calls[-1] == ("on_fit_end", 2, 0)


def test_fit_end_is_called_after_an_error(net):
    def fail(net, fit):
        raise RuntimeError("no more disk")

    recorder = Recorder()
    with pytest.raises(RuntimeError, match="no more disk"):
        net.fit(X, Y, callbacks=[AtEpochEnd(fail), recorder])
    assert recorder.calls == [("on_fit_begin", 0, 0), ("on_fit_end", 1, 0)]


class Fails:
    """Raises in one of the methods of a callback."""

    def __init__(self, hook):
        setattr(self, hook, self.fail)

    def fail(self, net, fit):
        raise RuntimeError("no more disk")


def test_fit_end_is_called_of_those_that_have_begun(net):
    first, last = Recorder(), Recorder()
    with pytest.raises(RuntimeError, match="no more disk"):
        net.fit(X, Y, callbacks=[first, Fails("on_fit_begin"), last])
    assert first.calls == [("on_fit_begin", 0, 0), ("on_fit_end", 0, 0)]
    assert last.calls == []


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_those_that_have_begun_find_the_earlier_history_if_another_refuses(net, error):
    earlier, seen = net.fit(X, Y, epochs=1), []

    class Looks:
        def on_fit_end(self, net, fit):
            seen.append(net.history)
            if error is not None:
                raise error

    with pytest.raises(error or RuntimeError):
        net.fit(X, Y, callbacks=[Looks(), Fails("on_fit_begin")])
    assert seen[0] is net.history is earlier


def test_fit_end_is_called_of_all_though_one_fails(net):
    recorder, stopping = Recorder(), EarlyStopping("loss", mode="max")
    best = reference.MLP([4, 5, 3])
    best.fit(X, Y, epochs=1)
    with pytest.raises(RuntimeError, match="no more disk"):
        net.fit(X, Y, epochs=3, callbacks=[Fails("on_fit_end"), recorder, stopping])
    assert recorder.calls[-1] == ("on_fit_end", 3, 0)
    assert stopping.best_epoch == 1
    assert_bits(net, snapshot(best))


def test_fit_end_is_called_in_the_order_of_the_list(net):
    class Keeps:
        def on_fit_end(self, net, fit):
            self.parameters = snapshot(net)

    before, after = Keeps(), Keeps()
    net.fit(X, Y, epochs=3, callbacks=[before, EarlyStopping("loss", mode="max"), after])
    same = reference.MLP([4, 5, 3])
    same.fit(X, Y, epochs=1)
    assert_bits(same, after.parameters)  # those of the best epoch, which `EarlyStopping` has restored
    same.fit(X, Y, epochs=3, resume=True)
    assert_bits(same, before.parameters)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Recorder(), "callbacks must be a list of callbacks, not Recorder"),
        ([Recorder], "callback Recorder is a class; pass an instance: Recorder()"),
        ([AtEpochEnd(3)], "must be a method, not 3"),
        (["bar"], "callback 'bar' has none of the methods on_fit_begin, on_step, on_mix_end, on_epoch_end, on_fit_end"),
    ],
)
def test_wrong_callbacks(net, given, message):
    before = snapshot(net)
    with refused(TypeError, message):
        net.fit(X, Y, callbacks=given)
    assert_bits(net, before)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("on_train_begin", "did you mean on_fit_begin?"),
        ("on_train_end", "did you mean on_fit_end?"),
        ("on_epoch_begin", "did you mean on_epoch_end?"),
        ("on_batch_end", "did you mean on_step?"),
        ("on_epoch_ends", "did you mean on_epoch_end?"),
        ("on_fit_beginn", "did you mean on_fit_begin?"),
        ("on_improvement", "it calls on_fit_begin, on_step, on_mix_end, on_epoch_end, on_fit_end"),
    ],
)
@pytest.mark.parametrize("others", [{}, {"on_fit_end": print}], ids=["alone", "with others"])
def test_hooks_that_are_never_called(net, name, meant, others):
    callback = type("Mine", (), {name: print, **others})()
    with pytest.raises(TypeError, match=f"callback .*Mine.* has the method {name}, which fit never calls; ") as caught:
        net.fit(X, Y, callbacks=[callback])
    assert str(caught.value).endswith(meant)


def test_callbacks_may_be_any_iterable():
    recorder = Recorder()
    assert gather_callbacks(iter([recorder])) == [recorder]


# --- the learning rate ------------------------------------------------------------------------------------------------


def test_a_callback_changes_the_learning_rate():
    def halve(net, fit):
        fit.learning_rate_factor *= 0.5

    net, other = reference.MLP([4, 5, 3]), reference.MLP([4, 5, 3])
    history = net.fit(X, Y, epochs=4, batch_size=4, learning_rate=0.2, callbacks=[AtEpochEnd(halve)])
    other.fit(X, Y, epochs=4, batch_size=4, learning_rate=0.2, schedule=Exponential(0.5))
    np.testing.assert_allclose(history.learning_rate, [0.2, 0.1, 0.05, 0.025])
    assert_bits(net, snapshot(other))


@pytest.mark.parametrize("factor", [-1.0, np.nan, "half"])
def test_wrong_factor_of_the_learning_rate(factor):
    with pytest.raises((TypeError, ValueError), match="learning_rate_factor must be"):
        FitState(1, 1).learning_rate_factor = factor

"""`fit_many`: networks share X, and one that fails leaves the others alone; wrong arguments, Ctrl-C, progress."""

import os
import re
import signal
import threading
import time
import warnings

import numpy as np
import pytest
from support.nets import AtEpochEnd, assert_bits, data, parameters, plain, refused, snapshot

from fastmlp import MLP, History, fit_many, reference
from fastmlp.callbacks import Checkpoint, EarlyStopping
from fastmlp.diagnosis import ConvergenceWarning
from fastmlp.engine import rows as rows_module
from fastmlp.engine.cores import available_threads
from fastmlp.fitting import Fitting
from fastmlp.schedules import ReduceOnPlateau

pytestmark = pytest.mark.loops("many")

N_ROWS, LAYERS = 300, [4, 32, 3]
X, Y = data(N_ROWS)


# --- X is shared ------------------------------------------------------------------------------------------------------


def test_x_is_checked_and_packed_once(monkeypatch):
    packed, checked = [], []
    pack = rows_module._packed
    monkeypatch.setattr(rows_module, "_packed", lambda *given: packed.append(1) or pack(*given))
    from fastmlp import fitting

    check = fitting.check_X
    monkeypatch.setattr(fitting, "check_X", lambda *given, **named: checked.append(1) or check(*given, **named))
    x = np.where(np.random.default_rng(0).random((200, 40)) < 0.1, 1.0, 0.0)  # float64: it is converted, too
    y = np.arange(200) % 3
    nets = [MLP([40, 16, 3], seed=seed, first_layer="sparse") for seed in range(5)]
    fit_many(nets, x, y, epochs=1, fits=[{"rows": np.arange(i, 200)} for i in range(5)])
    assert len(packed) == len(checked) == 1


def test_validation_data_are_prepared_once():
    prepared = []
    nets = plain(4)
    for net in nets:
        prepare = net._engine.prepare_inference
        net._engine.prepare_inference = lambda X, once, prepare=prepare: prepared.append(id(X)) or prepare(X, once)
    fit_many(nets, X, Y, epochs=1, validation_data=(X[:50].tolist(), Y[:50]))
    assert len(prepared) == 4
    assert len(set(prepared)) == 1


def test_rows_for_training_are_not_copied():
    net = reference.MLP([4, 8, 3])
    fitting = Fitting.of(net, X, Y, rows=np.arange(100), **_defaults(validation_fraction=0.2))
    fitting.trainer.prepare()
    assert fitting.trainer.X is X
    assert len(fitting.trainer.rows) < 100


def _defaults(**fit):
    from fastmlp.many.fit import _FIT

    return _FIT | fit


# --- wrong arguments --------------------------------------------------------------------------------------------------

ROWS_ERRORS = [
    ([0, 300], ValueError, "rows[1] is 300, but X has 300 rows"),
    ([-301], ValueError, "rows[0] is -301"),
    ([], ValueError, "rows must be a list of indices, or a mask, but its shape is (0,)"),
    ([[1]], ValueError, "rows must be a list of indices, or a mask, but its shape is (1, 1)"),
    ([0.5], TypeError, "rows must be integers or bools, but its dtype is float64"),
    ("all", TypeError, "rows"),
    ([True], ValueError, "rows is a mask of 1 rows, but X has 300"),
    (np.zeros(300, bool), ValueError, "rows is a mask that selects no row of X"),
]


@pytest.mark.parametrize(("rows", "error", "message"), ROWS_ERRORS, ids=[m for *_, m in ROWS_ERRORS])
def test_wrong_rows(rows, error, message):
    nets = plain()
    before = [snapshot(net) for net in nets]
    with refused(error, message) as info:
        fit_many(nets, X, Y, fits=[{}, {}, {"rows": rows}])
    assert info.value.__notes__ == ["in the fit of nets[2]"]
    for net, parameters_ in zip(nets, before, strict=True):
        assert_bits(net, parameters_)
        assert net.history.steps == 0


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"epoch": 3}, TypeError, "unknown argument 'epoch'; did you mean 'epochs'?"),
        ({"fits": [{"lr": 1}] * 3}, TypeError, "unknown argument 'lr'; did you mean 'learning_rate'?"),
        ({"fits": [{"progress": True}] * 3}, TypeError, "unknown argument 'progress'; "),
        ({"fits": [{}]}, ValueError, "fits has 1 dicts for 3 networks"),
        ({"fits": {}}, TypeError, "fits must be a list of dicts, one for each network, not dict"),
        ({"fits": 3}, TypeError, "fits must be a list of dicts, one for each network, not int"),
        ({"fits": [None] * 3}, TypeError, "fits[0] must be a dict of arguments of fit, not None"),
        ({"fits": [{}, {}, {"epochs": 0}]}, ValueError, "epochs must be at least 1, not 0"),
        ({"n_jobs": 0}, ValueError, "n_jobs must be at least 1, not 0"),
        ({"n_jobs": 1.5}, TypeError, "n_jobs must be an integer"),
        ({"progress": 1}, TypeError, "progress"),
        ({"return_exceptions": None}, TypeError, "return_exceptions"),
        ({"resume": True}, ValueError, "resume=True needs an earlier fit"),
        ({"validation_data": X}, TypeError, "validation_data must be a pair"),
    ],
)
def test_wrong_arguments_change_nothing(given, error, message):
    nets = plain()
    before = [snapshot(net) for net in nets]
    with refused(error, message):
        fit_many(nets, X, Y, **given)
    for net, parameters_ in zip(nets, before, strict=True):
        assert_bits(net, parameters_)


def test_wrong_networks():
    net = reference.MLP([4, 3])
    with refused(TypeError, "nets must be a list of networks, not MLP"):
        fit_many(net, X, Y)
    with refused(TypeError, "nets[1] must be an MLP, not 'b'"):
        fit_many([net, "b"], X, Y)
    with refused(ValueError, "nets[0] and nets[2] are the same network; use copy.deepcopy"):
        fit_many([net, reference.MLP([4, 3]), net], X, Y)
    with refused(ValueError, "X has 4 features, but the network has 5 inputs"):
        fit_many([net, reference.MLP([5, 3])], X, Y)
    assert fit_many([], X, Y) == []
    assert net.history.steps == 0


@pytest.mark.parametrize("kind", [MLP, reference.MLP])
def test_numbers_that_are_not_finite(kind):
    bad = X.copy()
    bad[5, 1] = np.nan
    nets = [kind(LAYERS, seed=seed) for seed in range(2)]
    with refused(ValueError, "X has nan in row 5, column 1"):
        fit_many(nets, bad, Y, fits=[{"rows": np.arange(100, 200)}, {}])
    assert all(net.history.steps == 0 for net in nets)


# --- networks that fail, and callbacks --------------------------------------------------------------------------------


def raise_broken(net, fit):
    raise ZeroDivisionError("broken")


def test_all_networks_fail():
    """Nobody is told of others that are trained."""
    with pytest.raises(ExceptionGroup, match="^all networks failed$"):
        fit_many(plain(2), X, Y, epochs=1, callbacks=[EarlyStopping()])


def test_wrong_arguments_name_their_network():
    with refused(TypeError, "unknown argument 'epoch'; did you mean 'epochs'?") as info:
        fit_many(plain(2), X, Y, fits=[{}, {"epoch": 3}])
    assert info.value.__notes__ == ["in the fit of nets[1]"]
    with refused(TypeError, "rows belong into fits, one dict for each network"):
        fit_many(plain(2), X, Y, rows=[0, 1])


def test_a_network_that_fails_does_not_stop_the_others():
    nets = plain(4, output="identity")
    y, others = X[:, :3], plain(4, output="identity")
    fits = [{}, {"learning_rate": 1e30}, {}, {"callbacks": [AtEpochEnd(raise_broken)]}]
    with pytest.raises(ExceptionGroup, match="2 of 4 networks failed; the others are trained") as info:
        fit_many(nets, X, y, epochs=3, fits=fits)
    diverged, broken = info.value.exceptions
    assert isinstance(diverged, FloatingPointError)
    assert isinstance(broken, ZeroDivisionError)
    assert diverged.__notes__ == ["in the fit of nets[1]"]
    assert broken.__notes__ == ["in the fit of nets[3]"]
    for i in (0, 2):
        others[i].fit(X, y, epochs=3)
        assert_bits(nets[i], parameters(others[i]))
    results = fit_many(nets, X, y, epochs=3, fits=fits, return_exceptions=True)
    assert [type(result) for result in results] == [History, FloatingPointError, History, ZeroDivisionError]


def test_callbacks_may_stop_predict_and_train_another():
    inner = reference.MLP([4, 5, 3])
    seen = []

    def stop(net, fit):
        fit.stop = True

    def look(net, fit):
        seen.append(net.predict(X[:5]).tolist())
        if fit.epoch == 1:
            inner.fit(X, Y, epochs=2)

    nets = plain(2)
    one, two = fit_many(nets, X, Y, epochs=3, fits=[{"callbacks": [AtEpochEnd(f)]} for f in (stop, look)])
    assert len(one.loss) == 1
    assert len(two.loss) == len(seen) == 3
    assert inner.history.steps


def test_what_remembers_is_copied_for_each_network():
    nets, single = plain(4), plain(4)
    early, reduce = EarlyStopping("val_loss", patience=1), ReduceOnPlateau("val_loss", factor=0.5, patience=1)
    given = {"epochs": 30, "learning_rate": 1.0, "schedule": reduce, "validation_data": (X[:99], Y[:99])}
    fit_many(nets, X[99:], Y[99:], n_jobs=4, callbacks=[early], **given)
    for net, other in zip(nets, single, strict=True):
        other.fit(X[99:], Y[99:], callbacks=[early], **given)
        assert_bits(net, parameters(other))
        assert net.history.learning_rate == other.history.learning_rate
    own = [EarlyStopping("loss", patience=1) for _ in nets]
    fit_many(nets, X, Y, epochs=200, learning_rate=2.0, fits=[{"callbacks": [callback]} for callback in own])
    assert all(callback.stopped for callback in own)


def test_callbacks_that_write_to_one_place(tmp_path):
    nets, path = plain(2), tmp_path / "net-{epoch}.npz"
    with refused(ValueError, "Checkpoint writes, and networks that train at the same time would write to the same"):
        fit_many(nets, X, Y, epochs=1, callbacks=[Checkpoint(path)])
    fit_many(nets[:1], X, Y, epochs=1, callbacks=[Checkpoint(path)])
    fit_many(nets, X, Y, epochs=1, fits=[{"callbacks": [Checkpoint(tmp_path / f"{i}.npz")]} for i in range(2)])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0.npz", "1.npz", "net-1.npz"]


def test_fit_many_in_a_callback_of_fit_many():
    other = reference.MLP([4, 3])

    def nest(net, fit):
        fit_many([other], X, Y)

    with pytest.raises(ExceptionGroup) as info:
        fit_many(plain(2), X, Y, callbacks=[AtEpochEnd(nest)])
    for error in info.value.exceptions:
        assert isinstance(error, RuntimeError)
        assert "fit_many is training already" in str(error)
    plain(1)[0].fit(X, Y, epochs=1, callbacks=[AtEpochEnd(nest)])  # of a fit of its own, it may
    assert other.history.steps


def test_a_network_that_is_trained_elsewhere():
    nets = plain(2)

    def train_many(net, fit):
        with pytest.raises(ExceptionGroup, match="1 of 2 networks failed") as info:
            fit_many(nets, X, Y, epochs=2)
        assert "being trained already" in str(info.value.exceptions[0])
        fit.stop = True

    nets[0].fit(X, Y, callbacks=[AtEpochEnd(train_many)])
    assert len(nets[1].history.loss) == 2


def test_warnings_name_their_networks():
    nets = plain(9)
    with pytest.warns(ConvergenceWarning) as found:
        fit_many(nets, X, Y, epochs=20, learning_rate=1e-9, callbacks=[])
    assert {warning.filename for warning in found} == {__file__}
    assert any(re.match(r"nets\[\d\].*: this fit has learned nothing", str(warning.message)) for warning in found)


def test_the_same_warning_of_many_networks_is_given_once():
    nets = plain(9)
    fit_many(nets, X, Y, epochs=2)
    message = r"^nets\[0\], .*, nets\[4\] and 4 more: resume=True has trained nothing"
    with pytest.warns(UserWarning, match=message) as found:
        fit_many(nets, X, Y, epochs=2, resume=True)
    assert len(found) == 1


# --- threads, Ctrl-C --------------------------------------------------------------------------------------------------


def test_at_most_n_jobs_networks_train_at_the_same_time():
    at_work, most, lock = set(), [], threading.Lock()

    class Count:
        def on_fit_begin(self, net, fit):
            with lock:
                at_work.add(net)
                most.append(len(at_work))
            time.sleep(0.02)

        def on_fit_end(self, net, fit):
            with lock:
                at_work.discard(net)

    for n_jobs, expected in ((1, 1), (3, 3), (8, 5), (None, min(5, available_threads()))):
        most.clear()
        fit_many(plain(5), X, Y, epochs=1, n_jobs=n_jobs, callbacks=[Count()])
        assert 1 <= max(most) <= expected


def test_the_longest_fits_begin_first():
    begun = []

    class Note:
        def on_fit_begin(self, net, fit):
            begun.append(fit.epochs)

    fit_many(plain(4), X, Y, n_jobs=1, callbacks=[Note()], fits=[{"epochs": n} for n in (2, 9, 1, 4)])
    assert begun == [9, 4, 2, 1]


def test_ctrl_c_stops_all():
    nets, begun = plain(5), threading.Event()

    def stop(net, fit):
        fit.stop = True

    def press(net, fit):
        if fit.epoch == 2:
            begun.wait(60)  # until another network trains
            os.kill(os.getpid(), signal.SIGINT)

    class Begun:
        def on_fit_begin(self, net, fit):
            begun.set()

    callbacks = [[AtEpochEnd(stop)], [AtEpochEnd(press)], [Begun()], [], []]
    fits = [{"epochs": 10**6 - i, "callbacks": own} for i, own in enumerate(callbacks)]
    message = "Ctrl-C stopped training: 1 of 5 networks are trained, 2 in part and 2 not at all; steps taken so far are"
    with pytest.warns(UserWarning, match=message) as found:
        histories = fit_many(nets, X, Y, n_jobs=2, fits=fits)
    assert len(found) == 1
    assert [history.interrupted for history in histories] == [False, True, True, True, True]
    assert [bool(net.history.steps) for net in nets] == [True, True, True, False, False]
    fit_many(nets, X, Y, epochs=1)  # they can go on


@pytest.mark.parametrize("kind", [MLP, reference.MLP])
def test_ctrl_c_at_random_moments(kind):
    """A network that was stopped has taken the steps that its history says; resumed, it comes to the same bits."""
    generator = np.random.default_rng(0)
    expected = [kind(LAYERS, seed=seed) for seed in range(4)]
    for net in expected:
        net.fit(X, Y, epochs=30, batch_size=16)
    for delay in generator.uniform(0, 0.1 if kind is MLP else 0.3, 6):
        nets = [kind(LAYERS, seed=seed) for seed in range(4)]
        timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()  # Ctrl-C may come before it returns
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fit_many(nets, X, Y, epochs=30, batch_size=16, n_jobs=2)
                timer.join()
        except KeyboardInterrupt:  # before the first step, or after the last
            timer.join()
        for net, whole in zip(nets, expected, strict=True):
            losses = net.history.loss
            assert losses == whole.history.loss[: len(losses)]
            n_batches = -(-N_ROWS // 16)
            if net.history.steps % n_batches == 0:  # a partial epoch is not taken again
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    net.fit(X, Y, epochs=30, batch_size=16, resume=net._training_state is not None)
                assert_bits(net, parameters(whole))
            assert net.predict(X).shape == (N_ROWS,)


def test_from_another_thread():
    nets, histories = plain(3), []
    thread = threading.Thread(target=lambda: histories.extend(fit_many(nets, X, Y, epochs=2, n_jobs=2)))
    thread.start()
    thread.join()
    assert [len(history.loss) for history in histories] == [2, 2, 2]


# --- progress ---------------------------------------------------------------------------------------------------------


def test_lines_report_progress_where_there_is_no_terminal(capsys):
    fit_many(plain(50), X, Y, epochs=1, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 25
    assert re.fullmatch(r"50/50 networks, \d+\.\d s", lines[-1])
    fit_many(plain(2), X, Y, epochs=1)
    assert capsys.readouterr().err == ""


def test_one_bar_for_all(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    fit_many(plain(3), X, Y, epochs=3, progress=True, fits=[{}, {}, {"callbacks": [AtEpochEnd(lambda net, fit: None)]}])
    last = capsys.readouterr().err.split("\r")[-1]
    assert "3/3 networks: 100%" in last
    assert f"{3 * 3 * 5}/{3 * 3 * 5}" in last

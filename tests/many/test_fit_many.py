"""`fit_many` gives each network the bits of a fit of its own, and one that fails leaves the others alone."""

import copy
import os
import re
import signal
import threading
import time
import warnings

import numpy as np
import pytest
from scipy import sparse
from support.nets import AtEpochEnd, assert_bits, data, parameters, refused, snapshot

from fastmlp import MLP, History, fit_many, reference
from fastmlp.callbacks import Checkpoint, EarlyStopping
from fastmlp.diagnosis import ConvergenceWarning
from fastmlp.engine import rows as rows_module
from fastmlp.engine.cores import available_threads
from fastmlp.fitting import Fitting
from fastmlp.kernels.formats import FORMATS
from fastmlp.losses import LOSSES
from fastmlp.optimizers import OPTIMIZERS
from fastmlp.schedules import ReduceOnPlateau

pytestmark = pytest.mark.loops("many")

N_ROWS, LAYERS = 300, [4, 32, 3]
RARE_FORMATS = sorted(set(FORMATS) - {"dense"})
X, Y = data(N_ROWS)


def plain(n=3, **settings):
    """Networks that need no compiler."""
    return [reference.MLP([4, 8, 3], seed=seed, **settings) for seed in range(n)]


def without_seconds(history):
    return {name: values for name, values in history.to_dict().items() if name != "seconds"}


def alone(net, X, y, **fit):
    """Train a network with a fit of its own, on rows that are copied."""
    rows = fit.pop("rows", None)
    if rows is not None:
        X, y = X[rows], y[rows]
        if fit.get("sample_weight") is not None:
            fit["sample_weight"] = fit["sample_weight"][rows]
    return net.fit(X, y, **fit)


def assert_same_as_alone(nets, X, y, fits=None, n_jobs=2, **fit):
    """Train networks together, and copies of them one after another; compare everything but the seconds."""
    single = copy.deepcopy(nets)
    fits = fits or [{} for _ in nets]
    own = copy.deepcopy(fits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        histories = fit_many(nets, X, y, fits=fits, n_jobs=n_jobs, **fit)
        expected = [alone(net, X, y, **fit | arguments) for net, arguments in zip(single, own, strict=True)]
    for net, same, history, other in zip(nets, single, histories, expected, strict=True):
        assert_bits(net, parameters(same))
        assert without_seconds(history) == without_seconds(other)
        assert net.history is history
        for slots, others in zip(
            net._training_state.optimizer_state, same._training_state.optimizer_state, strict=True
        ):
            for slot, of_same in zip(slots, others, strict=True):
                np.testing.assert_array_equal(slot, of_same)
        assert net._random.generator.bit_generator.state == same._random.generator.bit_generator.state


# --- the same bits ----------------------------------------------------------------------------------------------------


def rows_of(kind, n_rows=N_ROWS, n_features=40):
    """An X that trains in this format, and the settings that networks need for it."""
    generator = np.random.default_rng(3)
    numbers = generator.integers(0, 256, (n_rows, n_features))
    if "packed" in kind or kind == "csr":
        numbers *= generator.random((n_rows, n_features)) < 0.1
    if "bytes" in kind:
        return numbers.astype(np.uint8), {"input_scale": 1 / 255}
    x = (numbers / 255).astype(np.float32)
    return (sparse.csr_array(x) if kind == "csr" else x), {}


@pytest.mark.parametrize(
    "kind", [kind if kind == "dense" else pytest.param(kind, marks=pytest.mark.slow) for kind in FORMATS]
)
@pytest.mark.parametrize("n_jobs", [1, 2, 5])
def test_each_format_of_rows(kind, n_jobs):
    X, settings = rows_of(kind)
    y = np.arange(N_ROWS) % 3
    bootstrap = np.random.default_rng(1).integers(0, N_ROWS, N_ROWS)
    nets = [MLP([40, width, 3], seed=width, **settings) for width in (8, 32, 100)]
    fits = [{}, {"rows": bootstrap}, {"batch_size": 7, "validation_fraction": 0.2}]
    assert_same_as_alone(nets, X, y, fits, n_jobs, epochs=3, batch_size=50)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_optimizer(optimizer):
    nets = [MLP(LAYERS, seed=seed) for seed in range(3)]
    fits = [{}, {"learning_rate": 0.003}, {"rows": np.arange(0, N_ROWS, 2), "clip_norm": 0.1}]
    assert_same_as_alone(nets, X, Y, fits, epochs=3, optimizer=optimizer)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("output", LOSSES)
def test_each_head(output, dtype):
    y = Y if output == "softmax" else (np.eye(3)[Y] if output == "logistic" else np.abs(X[:, :3]))
    nets = [MLP(LAYERS, seed=seed, output=output, dtype=dtype) for seed in range(3)]
    assert_same_as_alone(nets, X, y, [{}, {"batch_size": 5}, {"rows": Y != 0}], epochs=2)


def random_fit(generator):
    """A network and the arguments of its fit, drawn from what needs few compiled loops."""
    depth = generator.integers(0, 3)
    hidden = [int(width) for width in generator.choice([1, 7, 16, 33, 90], depth)]
    dropout = float(generator.choice([0.0, 0.0, 0.0, 0.3])) if depth else 0.0
    net = reference.MLP if generator.random() < 0.2 else MLP
    fit = {
        "epochs": int(generator.integers(1, 4)),
        "batch_size": int(generator.choice([1, 5, 32, 64, 200, 1000])) if depth else 50,
        "optimizer": str(generator.choice(["sgd", "adam"])),
        "shuffle": bool(generator.random() < 0.8),
    }
    if generator.random() < 0.4:
        fit["rows"] = generator.integers(-N_ROWS, N_ROWS, generator.integers(30, 400))
    if generator.random() < 0.3:
        fit["sample_weight"] = generator.random(N_ROWS) + 0.01
    if generator.random() < 0.3:
        fit["class_weight"] = "balanced"
    if generator.random() < 0.3:
        fit["validation_fraction"] = 0.3
    elif generator.random() < 0.3:
        fit["validation_data"] = X[:50], Y[:50]
    if generator.random() < 0.2:
        fit["schedule"] = "cosine"
    if generator.random() < 0.2:
        fit["callbacks"] = [EarlyStopping("loss", patience=1)]
    settings = {
        "seed": int(generator.integers(99)),
        "dropout": dropout,
        "n_threads": [None, 1, 2][generator.integers(3)],
    }
    return net([4, *hidden, 3], **settings), fit


@pytest.mark.parametrize("part", range(8))
def test_random_mixtures(part):
    """Twenty-five mixtures of one to six networks."""
    generator = np.random.default_rng(part)
    for _ in range(25):
        nets, fits = zip(*(random_fit(generator) for _ in range(generator.integers(1, 7))), strict=True)
        assert_same_as_alone(list(nets), X, Y, list(fits), n_jobs=int(generator.integers(1, 4)))


def test_x_and_y_of_other_kinds():
    names = np.array(["ant", "bee", "cat"])[Y]
    nets = [MLP(LAYERS, seed=seed) for seed in range(2)]
    assert_same_as_alone(nets, X.astype(np.float64), names, epochs=2)
    assert nets[0].classes.tolist() == ["ant", "bee", "cat"]
    assert_same_as_alone([*nets, MLP(LAYERS)], X.tolist(), names, epochs=1)


def test_networks_of_several_outputs_and_dtypes_share_x():
    y = (Y > 0).astype(float)
    nets = [
        reference.MLP([4, 5, 2]),
        reference.MLP([4, 5, 1], output="identity"),
        reference.MLP([4, 5, 1], output="logistic", dtype="float64"),
    ]
    assert_same_as_alone(nets, X, y, epochs=2)


def test_fits_resume():
    nets = [MLP(LAYERS, seed=seed) for seed in range(3)]
    once = copy.deepcopy(nets)
    fit_many(nets, X, Y, epochs=2, optimizer="adam")
    fit_many(nets, X, Y, epochs=5, resume=True)
    fit_many(once, X, Y, epochs=5, optimizer="adam")
    for net, other in zip(nets, once, strict=True):
        assert_bits(net, parameters(other))
        assert net.history.loss == other.history.loss


def test_the_heaviest_rows_of_a_csr_matrix_may_repeat():
    """Buffers are as large as a batch needs that has one row again and again."""
    dense = np.zeros((60, 40), np.float32)
    dense[:, 0], dense[7] = 1, np.linspace(1, 2, 40)
    y, rows = np.arange(60) % 3, np.full(200, 7)
    nets = [reference.MLP([40, 8, 3], dropout=0.1), reference.MLP([40, 8, 3])]
    assert_same_as_alone(nets, sparse.csr_array(dense), y, [{"rows": rows}, {}], epochs=2)
    found = rows_module.rows_in_place(sparse.csr_array(dense), "auto", 1)
    assert found.most_nonzeros(64, rows) == 64 * 40 > found.most_nonzeros(64)


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

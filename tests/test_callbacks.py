"""Callbacks, on the plain network."""

import csv
import itertools
import signal

import numpy as np
import pytest
from support.command_line import posix
from support.nets import AtEpochEnd, Recorder, X, Y, assert_bits, refused, snapshot

from fastmlp import callbacks, reference
from fastmlp.callbacks import (
    Checkpoint,
    CSVLog,
    EarlyStopping,
    FitState,
    Table,
    TimeLimit,
    gather_callbacks,
)
from fastmlp.history import History
from fastmlp.hooks import call_hooks
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


# --- early stopping ---------------------------------------------------------------------------------------------------


class Fake:
    """A network of one number, which the n-th epoch makes n, and whose fit measures what it is told."""

    def __init__(self):
        self.weights, self.biases = [np.zeros(1)], []

    def fit(self, *callbacks, epochs=None, **measured):
        fit = FitState(epochs or len(next(iter(measured.values()))), 1, measures=tuple(measured))
        call_hooks(callbacks, "on_fit_begin", self, fit)
        while fit.epoch < fit.epochs and not fit.stop:
            fit.history.append(**({"loss": 0.0} | {name: values[fit.epoch] for name, values in measured.items()}))
            fit._advance(epoch=fit.epoch + 1)
            self.weights[0][...] = fit.epoch
            call_hooks(callbacks, "on_epoch_end", self, fit)
        call_hooks(callbacks, "on_fit_end", self, fit)
        return fit.epoch


def test_early_stopping_takes_back_the_best():
    net, stopping = Fake(), EarlyStopping(patience=2)
    assert net.fit(stopping, val_loss=[3.0, 2.0, 1.0, 1.0, 1.5, 0.0]) == 5
    assert (stopping.best_epoch, stopping.stopped) == (3, True)
    assert net.weights[0] == 3
    assert net.fit(stopping, val_loss=[3.0, 2.0, 2.5]) == 3  # it starts afresh
    assert (stopping.best_epoch, stopping.stopped) == (2, False)
    assert net.weights[0] == 2


@pytest.mark.parametrize(
    ("settings", "values", "epochs", "best"),
    [
        ({"restore_best": False, "patience": 1}, [1.0, 2.0, 0.0], 2, 2),
        ({"min_delta": 0.5, "patience": 2}, [1.0, 0.9, 0.6, 0.1], 3, 1),
        ({"monitor": "val_r2", "patience": 2}, [0.1, 0.5, 0.4, 0.3, 0.9], 4, 2),
        ({"monitor": "val_r2", "patience": 2, "mode": "min"}, [0.5, 0.1, 0.2, 0.3, 0.0], 4, 2),
        ({"patience": 2}, [np.nan, np.nan, 1.0], 2, 2),
        ({"patience": 3}, [np.nan, 1.0, np.nan, np.nan, np.nan], 5, 2),
        ({}, list(range(30)), 11, 1),
    ],
)
def test_early_stopping(settings, values, epochs, best):
    net = Fake()
    assert net.fit(EarlyStopping(**settings), **{settings.get("monitor", "val_loss"): values}) == epochs
    assert net.weights[0] == best


def test_early_stopping_of_a_network():
    net, stopping, seen = reference.MLP([4, 9, 3], seed=1), EarlyStopping("val_accuracy", patience=5), []
    remember = AtEpochEnd(lambda net, fit: seen.append(snapshot(net)))
    history = net.fit(X, Y, epochs=400, learning_rate=0.3, validation_data=(X, Y), callbacks=[stopping, remember])
    assert stopping.stopped
    assert len(history.loss) == len(seen) == stopping.best_epoch + 5
    assert_bits(net, seen[stopping.best_epoch - 1])
    assert net.score(X, Y) == max(history.val_accuracy)


def test_early_stopping_takes_back_the_best_however_the_fit_ends(net):
    def ends_badly(net, fit):
        if fit.epoch == 1:
            best.extend(snapshot(net))
        if fit.epoch == 2:
            net.weights[0][...] = np.nan  # the next loss is nan

    best = []
    with pytest.raises(FloatingPointError, match="loss is nan at epoch 3"):
        net.fit(X, Y, callbacks=[AtEpochEnd(ends_badly), EarlyStopping("loss", min_delta=10)])
    assert_bits(net, best)


def test_what_is_watched_must_be_measured(net, tmp_path):
    before = snapshot(net)
    for callback in (EarlyStopping(), Checkpoint(tmp_path / "net.npz", monitor="val_loss")):
        with refused(ValueError, "monitor is 'val_loss', but this fit measures loss, accuracy; give validation_data"):
            net.fit(X, Y, callbacks=[callback])
    assert_bits(net, before)


def test_early_stopping_goes_on_where_a_fit_goes_on(net, tmp_path):
    X, Y = np.random.default_rng(0).random((10, 4)), np.arange(10) % 3
    settings = {"epochs": 200, "batch_size": 4, "learning_rate": 0.5, "validation_data": (X[::-1], Y)}
    whole = net.fit(X, Y, callbacks=[EarlyStopping(patience=7, restore_best=False)], **settings)
    assert 12 < len(whole.loss) < 200
    other = reference.MLP([4, 5, 3])

    def stop(net, fit):
        fit.stop = fit.epoch == len(whole.loss) - 4

    other.fit(X, Y, callbacks=[AtEpochEnd(stop), Checkpoint(tmp_path / "net.npz")], **settings)
    again = reference.MLP.load(tmp_path / "net.npz")
    history = again.fit(X, Y, callbacks=[EarlyStopping(patience=7, restore_best=False)], resume=True, **settings)
    assert history.val_loss == whole.val_loss
    assert_bits(again, snapshot(net))


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_fit_goes_on_from_a_checkpoint(net, tmp_path):
    settings = {"epochs": 6, "batch_size": 4, "optimizer": "adam", "schedule": "cosine"}
    checkpoint = Checkpoint(tmp_path / "net-{epoch}.npz", every=2)
    whole = net.fit(X, Y, callbacks=[checkpoint], **settings)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net-2.npz", "net-4.npz", "net-6.npz"]
    for epoch in (2, 4):
        again = reference.MLP.load(tmp_path / f"net-{epoch}.npz")
        assert again.history.loss == whole.loss[:epoch]
        assert again.fit(X, Y, resume=True, **settings).loss == whole.loss
        assert_bits(again, snapshot(net))
    assert_bits(reference.MLP.load(tmp_path / "net-6.npz"), snapshot(net))


def test_checkpoints_of_the_best(monkeypatch, tmp_path):
    written = []
    monkeypatch.setattr(Fake, "state_dict", lambda net: {}, raising=False)
    monkeypatch.setattr(
        Fake, "save", lambda net, path, training: written.append((path, int(net.weights[0][0]))), raising=False
    )
    path = str(tmp_path / "best.npz")
    values = [3.0, 2.0, 2.5, 1.0, 1.0, 0.5, 0.7, 0.6]
    Fake().fit(Checkpoint(path, "val_loss"), val_loss=values)
    assert written == [(path, epoch) for epoch in (1, 2, 4, 6)]
    written.clear()
    Fake().fit(Checkpoint(path, "val_loss", mode="max", every=3), val_loss=values[:3] + values[:2] * 2)
    assert written == []
    Fake().fit(Checkpoint(path, every=3), val_loss=values)
    assert written == [(path, epoch) for epoch in (3, 6, 8)]
    written.clear()
    Fake().fit(EarlyStopping(patience=1), Checkpoint(path, every=99), val_loss=values)
    assert written == [(path, 3)]


def test_names_of_checkpoints_say_what_was_measured(net, tmp_path):
    checkpoint = Checkpoint(tmp_path / "w.{epoch:02d}-{loss:.3f}-{val_accuracy:.2f}-{{}}.npz")
    history = net.fit(X, Y, epochs=3, validation_data=(X, Y), callbacks=[checkpoint])
    measured = zip(history.loss, history.val_accuracy, strict=True)
    expected = [f"w.{i:02d}-{loss:.3f}-{accuracy:.2f}-{{}}.npz" for i, (loss, accuracy) in enumerate(measured, 1)]
    assert sorted(path.name for path in tmp_path.iterdir()) == expected
    assert_bits(reference.MLP.load(tmp_path / expected[-1]), snapshot(net))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "{val_loss}.npz",
            "path has the field {val_loss}, but this fit has only epoch, loss, accuracy, l",
        ),
        ("{epochs}.npz", "path has the field {epochs}, but this fit has only epoch"),
        ("{epoch:x}-{loss:d}.npz", "cannot be formatted: Unknown format code 'd'"),
        ("{epoch:{width}}.npz", "has the field {width}, which has no value"),
        ("{}.npz", "has a field without a name such as {epoch}; write {{ and }} for braces"),
        ("{epoch.real}.npz", "has a field without a name such as {epoch}"),
        ("{epoch.npz", "cannot be formatted: expected '}' before end of string; write {{ and }} for braces"),
        ("}.npz", "cannot be formatted: Single '}' encountered"),
    ],
)
def test_names_of_checkpoints_that_cannot_be_formatted(net, tmp_path, name, message):
    before = snapshot(net)
    with refused(ValueError, message):
        net.fit(X, Y, callbacks=[Checkpoint(str(tmp_path / name))])
    assert_bits(net, before)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_is_not_replaced_by_one_that_does_not_load(net, tmp_path):
    def spoil(net, fit):
        if fit.epoch == 2:
            net.biases[0][0] = np.inf

    path = tmp_path / "net.npz"
    with refused(ValueError, "the network cannot be saved: its parameters are not all finite"):
        net.fit(X, Y, callbacks=[AtEpochEnd(spoil), Checkpoint(path)])
    assert len(reference.MLP.load(path).history.loss) == 1


def test_checkpoints_need_a_folder(net, tmp_path):
    before = snapshot(net)
    with refused(FileNotFoundError, f"there is no folder {tmp_path / 'none'}"):
        net.fit(X, Y, callbacks=[Checkpoint(tmp_path / "none" / "net.npz")])
    assert_bits(net, before)


@posix
def test_checkpoints_that_cannot_be_written_are_told_before_training(net, tmp_path):
    before = snapshot(net)
    for name in ("", "x" * 250):
        with pytest.raises(OSError, match="it is a folder|File name too long"):
            net.fit(X, Y, callbacks=[Checkpoint(tmp_path / name)])
    assert_bits(net, before)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_fails_leaves_the_last_one(net, tmp_path, monkeypatch):
    def full(*arguments, **arrays):
        raise OSError("no space left on device")

    def fill(net, fit):
        if fit.epoch == 2:
            monkeypatch.setattr(np, "savez", full)

    path = tmp_path / "net.npz"
    with pytest.raises(OSError, match="no space left"):
        net.fit(X, Y, epochs=3, callbacks=[AtEpochEnd(fill), Checkpoint(path)])
    assert [file.name for file in tmp_path.iterdir()] == ["net.npz"]
    assert len(reference.MLP.load(path).history.loss) == 1


# --- tables and time --------------------------------------------------------------------------------------------------


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_csv_log(net, tmp_path):
    path = tmp_path / "log.csv"
    lengths = []
    count = AtEpochEnd(lambda net, fit: lengths.append(len(read(path))))
    history = net.fit(X, Y, epochs=3, validation_data=(X, Y), callbacks=[CSVLog(path), count])
    assert lengths == [1, 2, 3]  # as soon as an epoch is finished
    rows = read(path)
    assert list(rows[0]) == ["epoch", *history.to_dict()]
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    for name, values in history.to_dict().items():
        assert [float(row[name]) for row in rows] == values  # every bit
    net.fit(X, Y, epochs=1, callbacks=[CSVLog(path)])
    assert len(read(path)) == 1
    net.fit(X, Y, epochs=3, validation_data=(X, Y), resume=True, callbacks=[CSVLog(path)])
    rows = read(path)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["val_loss"] for row in rows] == [str(value) for value in net.history.val_loss]
    assert rows[0]["val_loss"] == "nan"
    with pytest.warns(UserWarning, match="resume=True has trained nothing"):
        net.fit(X, Y, epochs=3, validation_data=(X, Y), resume=True, callbacks=[CSVLog(path)])
    assert read(path) == rows


def test_csv_log_copies_no_history(net, tmp_path, monkeypatch):
    """Or an epoch would cost more and more."""
    copies, to_dict = [], History.to_dict
    monkeypatch.setattr(History, "to_dict", lambda history: copies.append(0) or to_dict(history))
    net.fit(X, Y, epochs=5, callbacks=[CSVLog(tmp_path / "log.csv")])
    assert len(copies) == 1  # before the first epoch
    assert len(read(tmp_path / "log.csv")) == 5


def test_csv_log_needs_a_folder(net, tmp_path):
    before = snapshot(net)
    with pytest.raises(FileNotFoundError, match="log.csv"):
        net.fit(X, Y, callbacks=[CSVLog(tmp_path / "none" / "log.csv")])
    assert_bits(net, before)


@pytest.mark.parametrize(("seconds", "epochs"), [(0.5, 1), (2.9, 2), (3.0, 3), (100, 9)])
def test_time_limit(monkeypatch, seconds, epochs):
    clock = itertools.count()  # it is asked at the start and at the end of each epoch: one second an epoch
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: float(next(clock)))
    limit = TimeLimit(seconds)
    for _ in range(2):
        assert Fake().fit(limit, val_loss=[0.0] * 9) == epochs


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: EarlyStopping(patience=0), ValueError, "patience must be at least 1, not 0"),
        (lambda: EarlyStopping(min_delta=-1), ValueError, "min_delta must be 0 or more and finite, not -1"),
        (lambda: EarlyStopping(mode="best"), ValueError, "mode must be one of 'auto', 'min', 'max', not 'best'"),
        (lambda: EarlyStopping(None), TypeError, "monitor must be the name of a measurement, e.g. 'val_loss', not"),
        (lambda: EarlyStopping(restore_best=1), TypeError, "restore_best must be True or False, not 1"),
        (lambda: Checkpoint("net.npz", every=0), ValueError, "every must be at least 1, not 0"),
        (lambda: Checkpoint(3), TypeError, "path must be the name of a file, not 3"),
        (lambda: Checkpoint(""), ValueError, "path must be the name of a file, but it is empty"),
        (lambda: CSVLog(None), TypeError, "path must be the name of a file, not None"),
        (lambda: Checkpoint("net.npz", mode="low"), ValueError, "mode must be one of 'auto', 'min', 'max', not 'low'"),
        (lambda: TimeLimit(0), ValueError, "seconds must be more than 0 and finite, not 0"),
    ],
)  # fmt: skip
def test_wrong_settings(make, error, message):
    with refused(error, message):
        make()


# --- the table --------------------------------------------------------------------------------------------------------


def test_table(net, capsys):
    history = net.fit(X, Y, epochs=5, validation_data=(X, Y), callbacks=[Table(every=2)])
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading == "epoch      loss  accuracy  val_loss  val_accuracy   seconds"
    assert [line.split()[0] for line in lines] == ["2", "4", "5"]
    assert {len(line) for line in lines} == {len(heading)}
    for line in lines:
        epoch = int(line.split()[0])
        shown = [float(cell) for cell in line.split()[1:]]
        lists = (history.loss, history.accuracy, history.val_loss, history.val_accuracy)
        assert shown[:4] == [round(values[epoch - 1], 4) for values in lists]


def test_table_of_some_columns_to_a_function(net):
    lines = []
    table = Table(columns={"val_accuracy": "test accuracy", "learning_rate": "rate"}, write=lines.append)
    history = net.fit(X, Y, epochs=2, validation_data=(X, Y), callbacks=[table])
    assert lines == [
        "epoch  test accuracy      rate",
        f"    1  {history.val_accuracy[0]:13.4f}       0.1",
        f"    2  {history.val_accuracy[1]:13.4f}       0.1",
    ]


def test_table_of_a_fit_that_is_stopped():
    lines = []
    Fake().fit(EarlyStopping(patience=1), Table(every=10, columns={"val_loss": "loss"}, write=lines.append),
               val_loss=[3.0, 2e9, 5.0])  # fmt: skip
    assert lines == ["epoch      loss", "    2     2e+09"]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"every": 0}, ValueError, "every must be at least 1, not 0"),
        ({"columns": ["loss"]}, TypeError, "columns must be a dict such as {'val_loss': 'test loss'}, not ['loss']"),
        (
            {"columns": {"f1": "F1"}},
            ValueError,
            "columns has 'f1', but this fit measures loss, accuracy, l",
        ),
        ({"write": 3}, TypeError, "write must be a function that prints a line, not 3"),
    ],
)
def test_wrong_tables(net, settings, error, message):
    before = snapshot(net)
    with refused(error, message):
        net.fit(X, Y, callbacks=[Table(**settings)])
    assert_bits(net, before)

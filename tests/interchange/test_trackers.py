"""Trackers: what they write and when, and that a fit survives them."""

import copy
import math
import pickle
import signal
import sys
import threading
import time
import warnings

import pytest
from support.nets import AtEpochEnd, X, Y, assert_bits, refused, snapshot

from fastmlp import MLPClassifier, callbacks, reference, tracking
from fastmlp.callbacks import EarlyStopping, MLflow, OptunaPruning, TensorBoard, WandB

pytestmark = pytest.mark.loops("torch")
VALIDATED = {"validation_data": (X, Y), "batch_size": 4}
brief = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class Writer:
    """Does what a SummaryWriter does, and notes it; `fails` may raise."""

    def __init__(self, fails=lambda writer: None):
        self.scalars, self.texts, self.calls, self.flushes, self.fails = [], [], 0, 0, fails
        self.threads = set()

    def add_scalar(self, tag, scalar_value, global_step=None, walltime=None):
        self.calls += 1
        self.fails(self)
        self.threads.add(threading.current_thread())
        self.scalars.append((tag, global_step, scalar_value, walltime))

    def add_text(self, tag, text):
        self.texts.append((tag, text))

    def flush(self):
        self.flushes += 1

    def __reduce__(self):
        raise TypeError("cannot pickle a lock")

    def steps(self, tag):
        return [step for name, step, *_ in self.scalars if name == tag]


class Trial:
    """A trial of Optuna that is pruned at a step."""

    def __init__(self, prune_at, directions):
        self.reports, self.prune_at, self.directions = [], prune_at, directions

    def report(self, value, step):
        self.reports.append((step, value))

    def should_prune(self):
        return self.reports[-1][0] >= self.prune_at

    @property
    def study(self):
        return self


class Direction:
    def __init__(self, name):
        self.name = name


def trial(*directions, prune_at=math.inf):
    return Trial(prune_at, [Direction(name) for name in directions or ("MINIMIZE",)])


@pytest.fixture
def net():
    return reference.MLP([4, 5, 3])


def dead(writer):
    raise OSError(28, "No space left on device")


# --- what is written, and when ----------------------------------------------------------------------------------------


def test_all_epochs_are_written_with_the_numbers_of_the_history(net):
    writer, before = Writer(), time.time()
    history = net.fit(X, Y, epochs=7, callbacks=[TensorBoard(writer)], **VALIDATED)
    assert {tag for tag, *_ in writer.scalars} == set(history.to_dict())
    for name, values in history.to_dict().items():
        assert [(step, value) for tag, step, value, _ in writer.scalars if tag == name] == list(enumerate(values, 1))
    times = [moment for tag, _, _, moment in writer.scalars if tag == "loss"]
    assert before <= times[0] <= times[-1] <= time.time()
    assert times == sorted(times)


def test_settings_are_written_once(net):
    writer = Writer()
    net.fit(X, Y, epochs=3, batch_size=5, learning_rate=0.25, callbacks=[TensorBoard(writer, interval=0, prefix="a/")])
    ((tag, text),) = writer.texts
    assert tag == "a/settings"
    for line in ("| layers | [4, 5, 3] |", "| batch_size | 5 |", "| learning_rate | 0.25 |", "| optimizer | SGD |"):
        assert line in text.splitlines()
    assert {name for name, *_ in writer.scalars} == {"a/loss", "a/accuracy", "a/learning_rate", "a/seconds"}


def test_a_short_fit_is_written_at_its_end(net):
    writer, at = Writer(), []
    see = AtEpochEnd(lambda net, fit: at.append(len(writer.scalars)))
    net.fit(X, Y, epochs=5, callbacks=[TensorBoard(writer, interval=100), see])
    assert at == [0] * 5
    assert writer.flushes == 1
    assert writer.steps("loss") == [1, 2, 3, 4, 5]


def test_a_long_fit_is_written_meanwhile_but_not_more_often_than_asked(net):
    writer = Writer()
    nap = AtEpochEnd(lambda net, fit: time.sleep(0.02))
    net.fit(X, Y, epochs=30, callbacks=[TensorBoard(writer, interval=0.2), nap])
    assert 2 <= writer.flushes <= 30 * 0.025 / 0.2 + 3
    assert writer.steps("loss") == list(range(1, 31))


def test_interval_0_writes_after_each_epoch(net):
    writer, at = Writer(), []
    see = AtEpochEnd(lambda net, fit: at.append(writer.steps("loss")))
    net.fit(X, Y, epochs=3, callbacks=[TensorBoard(writer, interval=0), see])
    assert at == [[1], [1, 2], [1, 2, 3]]


def test_nothing_is_written_in_the_thread_that_trains(net):
    writer = Writer()
    net.fit(X, Y, epochs=3, callbacks=[TensorBoard(writer, interval=0)])
    assert threading.current_thread() not in writer.threads
    for thread in writer.threads:
        thread.join(5)
        assert not thread.is_alive()


def test_a_resumed_fit_continues_with_its_epochs(net):
    net.fit(X, Y, epochs=3)
    writer = Writer()
    net.fit(X, Y, epochs=5, resume=True, callbacks=[TensorBoard(writer)])
    assert writer.steps("loss") == [4, 5]


@brief
def test_partial_fit_counts_on(monkeypatch):
    monkeypatch.setattr(MLPClassifier, "_network_class", reference.MLP)
    writer = Writer()
    est = MLPClassifier((5,), callbacks=[TensorBoard(writer)])
    for _ in range(3):
        est.partial_fit(X, Y, classes=[0, 1, 2])
    assert writer.steps("loss") == [1, 2, 3]


def test_training_is_the_same_with_a_tracker(net):
    twin = reference.MLP([4, 5, 3])
    net.fit(X, Y, epochs=4)
    twin.fit(X, Y, epochs=4, callbacks=[TensorBoard(Writer())])
    assert_bits(twin, snapshot(net))


def test_ctrl_c_keeps_the_finished_epochs(net):
    writer = Writer()

    def press(net, fit):
        if fit.epoch == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.warns(UserWarning, match="Ctrl-C stopped training"):
        net.fit(X, Y, epochs=9, callbacks=[AtEpochEnd(press), TensorBoard(writer)])
    assert writer.steps("loss") == [1, 2]


def test_an_epoch_whose_validation_is_interrupted_is_written(net):
    writer, calls = Writer(), []

    def metric(y_true, y_pred):
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return 1.0

    with pytest.warns(UserWarning, match="Ctrl-C stopped training"):
        net.fit(X, Y, epochs=9, validation_data=(X, Y), metrics=[metric], callbacks=[TensorBoard(writer)])
    assert writer.steps("loss") == [1, 2, 3]


# --- trackers that fail -----------------------------------------------------------------------------------------------


def test_a_dead_tracker_warns_and_the_fit_goes_on(net):
    writer = Writer(dead)
    with pytest.warns(UserWarning, match="TensorBoard") as caught:
        history = net.fit(X, Y, epochs=6, callbacks=[TensorBoard(writer)])
    assert len(history.loss) == 6
    assert [str(w.message) for w in caught] == [
        "TensorBoard may not have recorded epochs 1 to 6: OSError: [Errno 28] No space left on device"
    ]
    assert caught[0].filename == __file__


def test_a_tracker_that_dies_meanwhile_warns_once_and_says_at_the_end_what_is_missing(net):
    writer = Writer(lambda writer: dead(writer) if len(writer.scalars) >= 8 else None)
    with pytest.warns(UserWarning, match="TensorBoard") as caught:
        history = net.fit(X, Y, epochs=6, callbacks=[TensorBoard(writer, interval=0)])
    assert len(history.loss) == 6
    first, last = (str(w.message) for w in caught)
    assert first.startswith("TensorBoard has failed and will try again; training continues: OSError")
    assert last.startswith("TensorBoard may not have recorded epochs 3 to 6: OSError")


def test_a_tracker_that_recovers_has_all_epochs(net):
    writer = Writer(lambda writer: dead(writer) if writer.calls == 5 else None)
    with pytest.warns(UserWarning, match="will try again") as caught:
        net.fit(X, Y, epochs=6, callbacks=[TensorBoard(writer, interval=0)])
    assert len(caught) == 1
    assert sorted(set(writer.steps("loss"))) == [1, 2, 3, 4, 5, 6]


def test_a_tracker_that_hangs_does_not_hold_up_the_fit(net, monkeypatch):
    monkeypatch.setattr(tracking, "_PATIENCE", 0.2)
    released = threading.Event()
    writer, start = Writer(lambda writer: released.wait(30)), time.perf_counter()
    with pytest.warns(UserWarning, match="may not have recorded epochs 1 to 20: no answer for 0.2 seconds"):
        history = net.fit(X, Y, epochs=20, callbacks=[TensorBoard(writer, interval=0)])
    assert time.perf_counter() - start < 5
    assert len(history.loss) == 20
    released.set()


def test_exits_of_a_library_are_failures_too(net):
    def leave(writer):
        raise SystemExit(1)

    with pytest.warns(UserWarning, match="SystemExit: 1"):
        assert len(net.fit(X, Y, epochs=2, callbacks=[TensorBoard(Writer(leave))]).loss) == 2


def test_errors_that_have_no_text_are_failures_too(net):
    class Silent(Exception):
        def __str__(self):
            raise RuntimeError

    def fail(writer):
        raise Silent

    with pytest.warns(UserWarning, match="may not have recorded epochs 1 to 2: .*Silent"):
        assert len(net.fit(X, Y, epochs=2, callbacks=[TensorBoard(Writer(fail))]).loss) == 2


def test_too_many_threads_are_a_failure_too(net, monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(tracking._Writer, "start", start)
    with pytest.warns(UserWarning, match="TensorBoard records nothing: can't start new thread"):
        assert len(net.fit(X, Y, epochs=2, callbacks=[TensorBoard(Writer())]).loss) == 2


def test_nothing_is_written_of_a_fit_that_is_refused(net):
    writer = Writer()
    with refused(ValueError, "monitor is 'val_loss'"):
        net.fit(X, Y, callbacks=[TensorBoard(writer), EarlyStopping()])
    assert not writer.flushes


def test_other_callbacks_end_as_ever(net):
    writer, stopping = Writer(dead), EarlyStopping("val_loss", patience=1)
    with pytest.warns(UserWarning, match="may not have recorded"):
        net.fit(X, Y, epochs=50, learning_rate=5, callbacks=[TensorBoard(writer), stopping], **VALIDATED)
    assert stopping.stopped


# --- copies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("twin_of", [copy.copy, copy.deepcopy])
def test_copies_share_the_writer(net, twin_of):
    writer = Writer()
    twin = twin_of(TensorBoard(writer, prefix="b/"))
    net.fit(X, Y, epochs=2, callbacks=[twin])
    assert writer.steps("b/loss") == [1, 2]


def test_a_pickle_has_no_writer_and_says_so(net):
    twin = pickle.loads(pickle.dumps(TensorBoard(Writer(), prefix="b/")))
    assert (twin.writer, twin.prefix) == (None, "b/")
    with pytest.warns(UserWarning, match="this TensorBoard comes from a pickle, which has no writer; it records noth"):
        net.fit(X, Y, epochs=2, callbacks=[twin])


@brief
def test_a_search_of_scikit_learn_tracks_its_fits(monkeypatch):
    from sklearn.model_selection import GridSearchCV

    monkeypatch.setattr(MLPClassifier, "_network_class", reference.MLP)
    writer = Writer()
    search = GridSearchCV(MLPClassifier((5,), max_iter=2, callbacks=[TensorBoard(writer)]), {"alpha": [0, 1]}, cv=2)
    search.fit(X, Y)
    assert writer.steps("loss") == [1, 2] * 5
    pickle.loads(pickle.dumps(search.best_estimator_)).predict(X)


# --- wrong arguments --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TensorBoard("runs"), "writer must be a SummaryWriter, not 'runs'"),
        (lambda: TensorBoard(Writer), "writer must be a SummaryWriter, not <class"),
        (lambda: TensorBoard(), "TensorBoard needs writer"),
        (lambda: TensorBoard(Writer(), prefix=1), "prefix must be a str such as 'fold1/', not 1"),
        (lambda: TensorBoard(Writer(), interval="often"), "interval must be a number"),
        (lambda: WandB("project"), "run must be what wandb.init() returns, not 'project'"),
    ],
)
def test_wrong_arguments(make, message):
    with refused(TypeError, message):
        make()


@pytest.mark.parametrize(("kind", "library"), [(MLflow, "mlflow"), (OptunaPruning, "optuna")])
def test_a_missing_library_is_named(kind, library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with refused(ImportError, f"pip install {library}"):
        kind(*[trial()][: kind is OptunaPruning])


# --- Optuna -----------------------------------------------------------------------------------------------------------


class TestOptuna:
    @pytest.fixture(autouse=True)
    def optuna(self):
        return pytest.importorskip("optuna")

    def test_the_pruner_ends_the_fit(self, net, optuna):
        chosen = trial(prune_at=2)
        with pytest.raises(optuna.TrialPruned, match="pruned at epoch 3"):
            net.fit(X, Y, epochs=9, callbacks=[OptunaPruning(chosen, interval=0)], **VALIDATED)
        assert [step for step, _ in chosen.reports] == [0, 1, 2]
        assert [value for _, value in chosen.reports] == net.history.val_loss

    def test_a_short_fit_reports_its_last_epoch(self, net):
        chosen = trial(prune_at=0)
        history = net.fit(X, Y, epochs=9, callbacks=[OptunaPruning(chosen, "loss", interval=100)])
        assert chosen.reports == [(8, history.loss[-1])]

    def test_reported_epochs_are_multiples_of_powers_of_two(self, net):
        chosen = trial()
        nap = AtEpochEnd(lambda net, fit: time.sleep(0.01))
        net.fit(X, Y, epochs=60, callbacks=[OptunaPruning(chosen, "loss", interval=0.06), nap])
        epochs = [step + 1 for step, _ in chosen.reports]
        assert 3 <= len(epochs) < 20
        for before, epoch in zip([0, *epochs], epochs[:-1], strict=False):
            since = epoch - before
            assert epoch % (1 << (since.bit_length() - 1)) == 0

    def test_a_dead_storage_warns_and_prunes_nothing(self, net):
        chosen = trial(prune_at=0)
        chosen.report = lambda value, step: dead(None)
        with pytest.warns(UserWarning, match="OptunaPruning (has failed|may not have recorded)"):
            assert len(net.fit(X, Y, epochs=3, callbacks=[OptunaPruning(chosen, "loss", interval=0)]).loss) == 3

    @pytest.mark.parametrize(
        ("settings", "directions", "message"),
        [
            ({"monitor": "val_loss"}, ["MINIMIZE"], "this fit measures loss, accuracy; give validation_data"),
            ({"monitor": "loss"}, ["MAXIMIZE"], "monitor 'loss' is to be minimized, but the study has the direction"),
            ({"monitor": "accuracy"}, ["MINIMIZE"], "monitor 'accuracy' is to be maximized, but the study"),
            (
                {"monitor": "loss"},
                ["MINIMIZE"] * 2,
                "the study has 2 objectives, but Optuna prunes only studies",
            ),
        ],
    )
    def test_what_cannot_be_pruned_is_refused(self, net, settings, directions, message):
        before = snapshot(net)
        with refused(ValueError, message):
            net.fit(X, Y, callbacks=[OptunaPruning(trial(*directions), **settings)])
        assert_bits(net, before)

    def test_mode_overrides_the_name(self, net):
        chosen = trial("MAXIMIZE")
        net.fit(X, Y, epochs=2, callbacks=[OptunaPruning(chosen, "loss", mode="max")])
        assert len(chosen.reports) == 1

    def test_a_study_prunes_bad_trials_the_same_way_again(self, optuna):
        optuna.logging.set_verbosity(optuna.logging.WARNING)

        def states():
            def objective(trial):
                rate = trial.suggest_float("rate", 1e-4, 1, log=True)
                pruning = OptunaPruning(trial, "loss", interval=0)
                return reference.MLP([4, 5, 3]).fit(X, Y, epochs=5, learning_rate=rate, callbacks=[pruning]).loss[-1]

            pruner = optuna.pruners.MedianPruner(n_startup_trials=2)
            study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), pruner=pruner)
            study.optimize(objective, n_trials=8)
            return [(trial.state.name, len(trial.intermediate_values)) for trial in study.trials]

        first = states()
        assert {name for name, _ in first} == {"PRUNED", "COMPLETE"}
        assert states() == first


# --- the real libraries -----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_reads_what_was_written(net, tmp_path):
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with tensorboard.SummaryWriter(tmp_path) as writer:
        history = net.fit(X, Y, epochs=4, callbacks=[TensorBoard(writer)], **VALIDATED)
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == sorted(history.to_dict())
    read = [(event.step, event.value) for event in events.Scalars("val_loss")]
    assert [step for step, _ in read] == [1, 2, 3, 4]
    assert [value for _, value in read] == pytest.approx(history.val_loss)


@pytest.mark.filterwarnings("ignore")
def test_wandb_has_the_epochs_and_the_settings(net, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with wandb.init(mode="offline", dir=tmp_path, config={"seed": "mine"}) as run:
        history = net.fit(X, Y, epochs=4, callbacks=[WandB(run)], **VALIDATED)
        assert run.summary["epoch"] == 4
        assert run.summary["val_loss"] == history.val_loss[-1]
        assert (run.config["layers"], run.config["seed"]) == ([4, 5, 3], "mine")
        net.fit(X, Y, epochs=2, callbacks=[WandB(run, prefix="second/")])
        assert run.summary["second/epoch"] == 2
    with pytest.warns(UserWarning, match="WandB may not have recorded epochs 1 to 2"):
        assert len(net.fit(X, Y, epochs=2, callbacks=[WandB(run)]).loss) == 2


def test_they_are_among_the_callbacks():
    assert {"MLflow", "OptunaPruning", "TensorBoard", "WandB"} <= set(callbacks.__all__)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TensorBoard(Writer())

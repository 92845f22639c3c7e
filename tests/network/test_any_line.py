"""Exceptions from signal handlers, such as a time limit by SIGALRM, leave everything whole at whichever line they come.

A trace function raises one at a chosen event of the main thread: a call, a line or a return within fastmlp. Each
scenario is repeated for each event, or for some of them.
"""

import _thread
import contextlib
import copy
import gc
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from support.nets import data, parameters

import fastmlp
from fastmlp import MLP, MLPClassifier, fit_many, reference
from fastmlp.data import Blocks
from fastmlp.engine import inference
from fastmlp.random import permutations

pytestmark = pytest.mark.loops("any line")

FOLDERS = tuple({str(path) for path in (Path(fastmlp.__file__).parent, Path(fastmlp.__file__).resolve().parent)})
EPOCHS, BATCH_SIZE, N_ROWS = 3, 16, 60
N_BATCHES = 4
LAYERS = [4, 64, 3]  # two threads divide the first layer by columns, and each has its own copy of them
X, Y = data(N_ROWS)


class TimeIsUpError(BaseException):
    """What the handler raises."""


class RaisesAt:
    """Counts the events in files of fastmlp, and raises at one of them."""

    def __init__(self, event=None):
        self.event, self.count, self.where, self.function = event, 0, None, None

    def trace(self, frame, event, argument):
        if event != "exception" and frame.f_code.co_filename.startswith(FOLDERS):
            self.count += 1
            if self.count == self.event:
                self.where = f"{event} at {frame.f_code.co_filename}:{frame.f_lineno}"
                self.function = frame.f_code.co_name
                raise TimeIsUpError
        return self.trace

    def run(self, call):
        """Return whether the call was interrupted."""
        before = sys.gettrace()
        sys.settrace(self.trace)
        try:
            call()
        except TimeIsUpError:
            return True
        finally:
            sys.settrace(before)
        return False


def events(request, call):
    """Yield an object that raises, for each event of a call: for all of them in slow tests, else for some."""
    counting = RaisesAt()
    counting.run(call)
    assert counting.count > 20
    every = 1 if request.node.get_closest_marker("slow") else max(2, counting.count // 40)
    for event in range(1 + counting.count % every, counting.count + 1, every):
        yield RaisesAt(event)


@pytest.fixture(autouse=True)
def whole():
    """Check what a call may leave behind in the process."""
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    n_threads = _thread._count()

    def check(raising):
        assert {number: signal.getsignal(number) for number in signal.valid_signals()} == handlers, raising.where
        assert gc.isenabled(), raising.where
        end = time.monotonic() + 20
        while _thread._count() > n_threads and time.monotonic() < end:
            time.sleep(0.001)
        assert _thread._count() <= n_threads, raising.where  # those of earlier tests may end meanwhile

    return check


some_and_all = pytest.mark.parametrize("which", ["some", pytest.param("all", marks=pytest.mark.slow)])
threads = pytest.mark.parametrize("n_threads", [1, 2])


def after_each_step(optimizer):
    """Return the parameters after each number of steps."""
    net = MLP(LAYERS, n_threads=1)
    found = [[p.copy() for p in parameters(net)]]
    for order in permutations(copy.deepcopy(net._random).generator, EPOCHS, N_ROWS, True):
        for start in range(0, N_ROWS, BATCH_SIZE):
            rows = order[start : start + BATCH_SIZE]
            net.train_batch(X[rows], Y[rows], optimizer=optimizer)
            found.append([p.copy() for p in parameters(net)])
    return found


def assert_consistent(net, expected, where):
    """Check that history, training state and random streams have seen the steps that the parameters have."""
    steps = net.history.steps
    for p, q in zip(parameters(net), expected[steps], strict=True):
        np.testing.assert_array_equal(p, q, err_msg=f"{where}, {steps} steps")
    state = net._training_state
    assert (0 if state is None else state.steps) == steps, where
    assert {len(values) for values in net.history.to_dict().values()} <= {steps // N_BATCHES}, where
    assert len(net.history.loss) == steps // N_BATCHES, where
    assert net._random.epoch == -(-steps // N_BATCHES), where
    if state is not None:
        assert state.epochs == steps // N_BATCHES, where


class Watch:
    def __init__(self):
        self.begun = self.ended = 0

    def on_fit_begin(self, net, fit):
        self.begun += 1

    def on_step(self, net, fit):
        pass

    def on_epoch_end(self, net, fit):
        pass

    def on_fit_end(self, net, fit):
        self.ended += 1


@some_and_all
@threads
@pytest.mark.parametrize("watched", [False, True], ids=["alone", "watched"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_fit(request, whole, monkeypatch, which, n_threads, watched, optimizer):
    watch = Watch()
    more = {"callbacks": [watch], "validation_data": (X, Y)} if watched else {}
    settings = {"epochs": EPOCHS, "batch_size": BATCH_SIZE, "optimizer": optimizer} | more
    expected = after_each_step(optimizer)
    MLP(LAYERS, n_threads=n_threads).fit(X, Y, **settings)
    nets = []

    def call():
        monkeypatch.setattr(inference, "_compiled", set())  # each fit waits for a thread that loads the kernels
        nets.append(MLP(LAYERS, n_threads=n_threads))
        nets[-1].fit(X, Y, **settings)

    for raising in events(request, call):
        nets.clear()
        assert raising.run(call)
        whole(raising)
        if nets:
            assert_consistent(nets[-1], expected, raising.where)
            told = nets[-1].history.steps == 0 or raising.function in ("_end", "call_hooks")  # as if it raised that
            assert told or watch.ended == watch.begun, raising.where
            watch.begun = watch.ended = 0
            nets[-1].fit(X, Y, epochs=1)  # it is free
            nets[-1].predict(X)


@some_and_all
def test_fit_of_blocks(request, whole, which):
    class Rows:
        def __len__(self):
            return 6

        def __getitem__(self, i):
            return X[10 * i : 10 * i + 10], Y[10 * i : 10 * i + 10]

    settings = {"epochs": 2, "batch_size": BATCH_SIZE, "callbacks": [Watch()]}
    expected = MLP(LAYERS, n_threads=1)
    expected.fit(Blocks(Rows(), mix=2), **settings)
    nets = []

    def call():
        blocks = Blocks(Rows(), mix=2)
        nets.append(MLP(LAYERS, n_threads=1))
        nets[-1].fit(blocks, **settings)

    for raising in events(request, call):
        nets.clear()
        assert raising.run(call)
        whole(raising)
        if nets:
            has_begun = nets[-1]._training_state is not None
            if nets[-1].history.steps < expected.history.steps:
                nets[-1].fit(Blocks(Rows(), mix=2), **settings, resume=has_begun)
            for p, q in zip(parameters(nets[-1]), parameters(expected), strict=True):
                np.testing.assert_array_equal(p, q, err_msg=f"{raising.where}, {nets[-1].history.steps} steps")


@some_and_all
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_fit_many(request, whole, which, n_jobs):
    settings = {"epochs": EPOCHS, "batch_size": BATCH_SIZE}
    expected = after_each_step("sgd")
    nets = []

    def call():
        nets.extend(MLP(LAYERS, n_threads=1) for _ in range(3))
        fit_many(nets, X, Y, n_jobs=n_jobs, **settings)

    call()
    for raising in events(request, call):
        nets.clear()
        assert raising.run(call) or raising.count < raising.event  # the main thread may wait fewer times
        whole(raising)
        for net in nets:
            assert_consistent(net, expected, raising.where)
        fit_many(nets, X, Y, epochs=1)  # they are free


@some_and_all
@pytest.mark.filterwarnings("ignore:Exception ignored in. <generator")
@pytest.mark.parametrize("kind", ["stochastic", "lbfgs"])
def test_an_estimator(request, whole, which, kind):
    settings = {"hidden_layer_sizes": (8,), "max_iter": 2, "random_state": 0, "tol": 0, "n_iter_no_change": 9}
    if kind == "lbfgs":
        settings["solver"] = "lbfgs"
    models = []

    def call():
        models.append(MLPClassifier(**settings))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            models[-1].fit(X, Y).predict(X)

    call()
    expected = models[-1].predict_proba(X)
    filters = list(warnings.filters)
    for raising in events(request, call):
        models.clear()
        raising.run(call)  # Python swallows what is raised in a generator that nobody reads to its end
        warnings.filters[:] = filters
        whole(raising)
        if models:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                models[-1].fit(X, Y)
            np.testing.assert_array_equal(models[-1].predict_proba(X), expected, err_msg=raising.where)


@some_and_all
def test_fit_of_the_reference(request, whole, which):
    nets = []

    def call():
        nets.append(reference.MLP(LAYERS))
        nets[-1].fit(X, Y, epochs=2, batch_size=30, callbacks=[Watch()], validation_data=(X, Y))

    for raising in events(request, call):
        nets.clear()
        assert raising.run(call)
        whole(raising)
        if nets:
            nets[-1].fit(X, Y, epochs=1)


@some_and_all
@threads
def test_train_batch(request, whole, which, n_threads):
    net = MLP(LAYERS, n_threads=n_threads)
    net.train_batch(X, Y)
    start = net.state_dict()
    net.train_batch(X, Y)
    before, after = start["weights_0"], net.weights[0].copy()

    def call():
        net.train_batch(X, Y)

    for raising in events(request, call):
        net.load_state_dict(start)
        assert raising.run(call)
        whole(raising)
        taken = net._training_state.steps - 1
        assert taken == net._random.epoch - 1, raising.where
        np.testing.assert_array_equal(net.weights[0], after if taken else before, err_msg=raising.where)


@some_and_all
@threads
@pytest.mark.parametrize("method", ["predict", "evaluate", "gradients"])
def test_what_changes_nothing(request, whole, which, n_threads, method):
    net = MLP(LAYERS, n_threads=n_threads)
    X, Y = data(400)  # predicted by a team
    given = (X,) if method == "predict" else (X, Y)
    getattr(net, method)(*given)
    before, proba = net.state_dict(), net.predict_proba(X)
    for raising in events(request, lambda: getattr(net, method)(*given)):
        assert raising.run(lambda: getattr(net, method)(*given))
        whole(raising)
        np.testing.assert_array_equal(net.predict_proba(X), proba, err_msg=raising.where)
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@some_and_all
def test_load_state_dict(request, whole, which):
    net = MLP(LAYERS)
    old = net.state_dict()
    net.fit(X, Y, epochs=1)
    new = net.state_dict()

    def same(state, other):
        return all(
            np.array_equal(state[name], other[name]) for name in state | other if name in state and name in other
        )

    for raising in events(request, lambda: net.load_state_dict(new)):
        net.load_state_dict(old)
        assert raising.run(lambda: net.load_state_dict(new))
        whole(raising)
        found = net.state_dict()
        assert same(found, old) or same(found, new), raising.where


@some_and_all
@pytest.mark.filterwarnings("ignore:.*unclosed file", "ignore:Exception ignored in. <_io.FileIO")  # Python closes it
def test_save_and_load(request, whole, which, tmp_path):
    old, new = MLP(LAYERS, seed=1), MLP(LAYERS, seed=2)
    path = tmp_path / "net.npz"

    def call():
        new.save(path)
        MLP.load(path)

    for raising in events(request, call):
        old.save(path)
        assert raising.run(call)
        whole(raising)
        found = MLP.load(path)
        assert any(np.array_equal(found.weights[0], net.weights[0]) for net in (old, new)), raising.where
        assert [file.name for file in tmp_path.iterdir()] == ["net.npz"], raising.where


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")
@pytest.mark.slow
@threads
def test_real_signals_at_random_times(whole, n_threads):
    """As in a program with time limits: the exceptions also come within the standard library."""
    expected, generator = after_each_step("sgd"), np.random.default_rng(0)
    settings = {"epochs": EPOCHS, "batch_size": BATCH_SIZE, "callbacks": [Watch()], "validation_data": (X, Y)}
    MLP(LAYERS, n_threads=n_threads).fit(X, Y, **settings)
    nothing = RaisesAt()

    def train(net):
        net.fit(X, Y, **settings)
        net.predict(data(400)[0])

    def up(_, frame):
        while frame is not None:
            if frame.f_code is train.__code__:
                raise TimeIsUpError
            frame = frame.f_back

    before = signal.signal(signal.SIGALRM, up)
    try:
        for _ in range(1000):
            net = MLP(LAYERS, n_threads=n_threads)
            signal.setitimer(signal.ITIMER_REAL, generator.uniform(1e-5, 5e-3))
            with contextlib.suppress(TimeIsUpError):
                train(net)
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert_consistent(net, expected, "")
            net.fit(X, Y, epochs=1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    whole(nothing)

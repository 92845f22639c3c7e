"""Resuming: k epochs, a state, and n - k more are n epochs, to the bit."""

import json
import pickle

import numpy as np
import pytest
from support.losses import HEADS, data_for, network
from support.nets import assert_bits, refused, snapshot
from support.resuming import OPTIMIZERS, REGULARIZED, SCHEDULES, fit

import fastmlp
from fastmlp import callbacks, optimizers, schedules, storage
from fastmlp.reference import MLP


def through_a_dict(net, path):
    other = network(seed=99, dtype=net.dtype, **REGULARIZED)
    other.fit(*data_for(other, 9), epochs=1, optimizer="rmsprop")  # all of which is forgotten
    other.load_state_dict(net.state_dict())
    return other


def through_a_file(net, path):
    net.save(path / "net.npz", training=True)
    return MLP.load(path / "net.npz")


def through_a_pickle(net, path):
    return pickle.loads(pickle.dumps(net))


def the_same(net, path):
    return net


WAYS = [through_a_dict, through_a_file, through_a_pickle, the_same]


class StopAt:
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, net, fit):
        fit.stop = fit.epoch == self.epoch


def assert_same_course(net, other):
    assert_bits(net, snapshot(other))
    for name in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "steps"):
        assert getattr(net.history, name) == getattr(other.history, name)
    own, theirs = net.state_dict(), other.state_dict()
    for name in own.keys() - {"history", "seed"}:
        np.testing.assert_array_equal(own[name], theirs[name])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer(optimizer, dtype, way, tmp_path):
    whole, first = (network(dtype=dtype, **REGULARIZED) for _ in range(2))
    fit(whole, 7, optimizer=OPTIMIZERS[optimizer])
    fit(first, 7, optimizer=OPTIMIZERS[optimizer], callbacks=[StopAt(3)])
    second = way(first, tmp_path)
    assert len(second.history.loss) == 3
    fit(second, 7, resume=True)  # with the optimizer that it was
    assert_same_course(second, whole)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule(schedule, way, tmp_path):
    whole, first = (network(**REGULARIZED) for _ in range(2))
    fit(whole, 9, schedule, learning_rate=0.2)
    fit(first, 9, schedule, learning_rate=0.2, callbacks=[StopAt(4)])
    second = way(first, tmp_path)
    fit(second, 9, schedule, resume=True)
    assert_same_course(second, whole)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_from_the_file_of_a_checkpoint(head, tmp_path):
    whole, first = (network(head, dropout=0.2) for _ in range(2))
    fit(whole, 6, optimizer="adam")
    fit(first, 6, optimizer="adam", callbacks=[callbacks.Checkpoint(tmp_path / "at {epoch}.npz")])
    assert_same_course(first, whole)
    for epoch in (1, 4):
        second = MLP.load(tmp_path / f"at {epoch}.npz")
        fit(second, 6, resume=True)
        assert_same_course(second, whole)


def test_the_factor_of_callbacks():
    class Halve:
        def on_epoch_end(self, net, fit):
            fit.learning_rate_factor *= 0.5
            if fit.epoch == 2:
                self.state = net.state_dict()

    class Keep:
        def on_epoch_end(self, net, fit):
            if fit.epoch == 2:
                self.state = net.state_dict()

    whole, second, keep = network(), network(), Keep()
    fit(whole, 4, callbacks=[Halve(), keep])
    second.load_state_dict(keep.state)
    fit(second, 4, resume=True, callbacks=[Halve()])
    assert_same_course(second, whole)


def test_more_epochs_than_were_asked_for_at_first():
    whole, first = network(**REGULARIZED), network(**REGULARIZED)
    fit(whole, 6, "none", optimizer="momentum")
    fit(first, 4, "none", optimizer="momentum")
    fit(first, 6, "none", resume=True)
    assert_same_course(first, whole)
    before = snapshot(first)
    with pytest.warns(
        UserWarning, match="resume=True has trained nothing: 6 epochs are done, and epochs=6 is the total"
    ):
        assert len(fit(first, 6, "none", resume=True).loss) == 6
    assert_bits(first, before)


def test_another_learning_rate_from_now_on():
    net = network()
    fit(net, 2, "none", optimizer="adam")
    history = fit(net, 4, "none", resume=True, learning_rate=0.01)
    assert history.learning_rate == [0.001, 0.001, 0.01, 0.01]
    history = fit(net, 5, "none", resume=True, optimizer=optimizers.Adam(learning_rate=0.5, betas=(0.5, 0.9)))
    assert history.learning_rate[-1] == 0.5


def test_train_batch_goes_on_too():
    net, other = network(dropout=0.5), network(dropout=0.5, seed=8)
    X, y = data_for(net)
    net.train_batch(X, y, optimizer="adam")
    other.load_state_dict(net.state_dict())
    assert [each.train_batch(X, y, optimizer="adam") for each in (net, other)]
    assert_bits(net, snapshot(other))


def test_an_interrupted_fit_goes_on():
    import signal

    class Press:
        def on_epoch_end(self, net, fit):
            signal.raise_signal(signal.SIGINT)

    whole, net = network(**REGULARIZED), network(**REGULARIZED)
    fit(whole, 5, optimizer="adam")
    with pytest.warns(UserWarning, match="stopped training after epoch 1 of 5"):
        fit(net, 5, optimizer="adam", callbacks=[Press()])
    history = fit(net, 5, resume=True)
    assert not history.interrupted
    assert_same_course(net, whole)


def test_a_state_is_plain_and_shares_nothing():
    net = network(**REGULARIZED)
    fit(net, 2, optimizer="adam")
    state = net.state_dict()
    assert all(isinstance(value, np.ndarray | int | float | str) for value in state.values())
    kept = {name: np.copy(value) for name, value in state.items()}
    fit(net, 4, resume=True)
    for name, value in state.items():
        np.testing.assert_array_equal(value, kept[name])
    net.load_state_dict(state)
    for value in state.values():
        if isinstance(value, np.ndarray):
            value[...] = value[..., ::-1] if value.dtype.kind == "U" else 0
    assert all(w.any() for w in net.weights)
    json.loads(state["history"])


def test_a_state_without_training(tmp_path):
    net, other = network(), network(seed=5)
    fit(other, 1)
    other.load_state_dict(net.state_dict())
    assert_bits(other, snapshot(net))
    with refused(ValueError, "resume=True needs an earlier fit, but this network has not been trained"):
        fit(other, 2, resume=True)
    fit(net, 1)
    net.save(tmp_path / "net.npz")
    loaded = MLP.load(tmp_path / "net.npz")
    assert loaded.history.loss == []
    with refused(ValueError, "or was saved without its training state; net.save(path, training=True) and"):
        fit(loaded, 2, resume=True)


def test_files_of_the_first_format_still_load(tmp_path):
    net = MLP([4, 8, 3], activation="logistic", seed=10**30, dtype="float64", input_scale=0.5)
    old = {"format": "fastmlp 1", "layers": [4, 8, 3], "activation": "logistic", "init": "he", "seed": str(10**30)}
    old |= {"dtype": "float64", "input_scale": 0.5}
    old |= {f"weights_{i}": w for i, w in enumerate(net.weights)} | {f"biases_{i}": b for i, b in enumerate(net.biases)}
    for extra in ({}, {"without": "input_scale"}):
        storage.save_npz(tmp_path / "net.npz", **{name: v for name, v in old.items() if name != extra.get("without")})
        loaded = MLP.load(tmp_path / "net.npz")
        assert_bits(loaded, snapshot(net))
        assert loaded.output == "softmax"
        assert loaded.input_scale == (1.0 if extra else 0.5)
        assert loaded.dropout_rates == (0.0, 0.0)


def test_pickles_of_older_versions():
    net = MLP([4, 8, 3])
    state = net.__getstate__()
    for name in ("output", "label_smoothing", "l2", "dropout", "input_dropout", "input_noise", "_training_state"):
        del state[name]
    state["_generator"] = state.pop("_random").generator
    old = object.__new__(MLP)
    old.__setstate__(state)
    X, y = data_for(old)
    for each in (net, old):
        each.fit(X, y, epochs=2)
    assert_bits(old, snapshot(net))
    assert repr(old) == repr(net)


@pytest.mark.parametrize("kind", [fastmlp.MLP, MLP], ids=["compiled", "plain"])
@pytest.mark.parametrize(
    ("settings", "arguments"),
    [
        ({}, {"schedule": "none"}),
        ({}, {"schedule": "plateau", "optimizer": "adam", "clip_norm": 1.0}),
        pytest.param(
            REGULARIZED,
            {"schedule": "plateau", "optimizer": "adam", "clip_norm": 1.0},
            marks=pytest.mark.slow,  # some seconds of compiling
        ),
    ],
    ids=["plain steps", "adam", "everything"],
)
def test_states_of_the_compiled_network(settings, arguments, kind, tmp_path):
    whole, first = (fastmlp.MLP([4, 9, 3], seed=3, n_threads=n, **settings) for n in (1, 2))
    fit(whole, 7, **arguments)
    fit(first, 7, **arguments, callbacks=[callbacks.Checkpoint(tmp_path / "net.npz"), StopAt(3)])
    second = kind.load(tmp_path / "net.npz")
    assert_bits(second, snapshot(first))
    fit(second, 7, **arguments, resume=True)
    if kind is MLP:
        np.testing.assert_allclose(second.history.loss, whole.history.loss, rtol=1e-5)
    else:
        assert_same_course(second, whole)


@pytest.mark.slow  # some seconds of compiling each
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_of_the_compiled_network(optimizer, tmp_path):
    whole, first = (fastmlp.MLP([4, 9, 3], seed=3, n_threads=n, **REGULARIZED) for n in (1, 2))
    fit(whole, 7, optimizer=OPTIMIZERS[optimizer])
    fit(first, 7, optimizer=OPTIMIZERS[optimizer], callbacks=[callbacks.Checkpoint(tmp_path / "net.npz"), StopAt(3)])
    second = fastmlp.MLP.load(tmp_path / "net.npz")
    fit(second, 7, resume=True)
    assert_same_course(second, whole)


# --- trouble ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimizer": "sgd"}, "resume=True continues with Adam("),
        ({"optimizer": "adamw"}, "not with AdamW("),
        ({"schedule": "none"}, "resume=True continues with the schedule Cosine, not Constant; pass it again"),
        ({"schedule": "one_cycle"}, "resume=True continues with the schedule Cosine, not OneCycle; pass it again"),
        ({"schedule": "function"}, "resume=True continues with the schedule Cosine, not function; pass it again"),
        ({"learning_rate": -1}, "learning_rate must be more than 0 and finite, not -1"),
    ],
)
def test_another_course_is_refused(arguments, message):
    net = network()
    fit(net, 2, optimizer="adam")
    before = net.state_dict()
    with refused(ValueError, message):
        fit(net, 4, resume=True, **arguments)
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_a_state_is_not_loaded_while_somebody_trains():
    net = network()
    state = net.state_dict()

    class Load:
        def on_epoch_end(self, net, fit):
            net.load_state_dict(state)

    with refused(RuntimeError, "this network is being trained already"):
        fit(net, 2, callbacks=[Load()])


def test_a_fit_that_was_stopped_in_its_first_epoch_goes_on_with_a_schedule_that_watches():
    class Press:
        def on_fit_begin(self, net, fit):
            raise KeyboardInterrupt

    net, (X, y) = network(), data_for(network())
    with pytest.warns(UserWarning, match="Ctrl-C stopped training after epoch 0 of 3"):
        net.fit(X, y, epochs=3, schedule=schedules.ReduceOnPlateau("loss"), callbacks=[Press()])
    assert len(net.fit(X, y, epochs=3, schedule=schedules.ReduceOnPlateau("loss"), resume=True).loss) == 3


# --- states of users' own classes -------------------------------------------------------------------------------------


class Counting(schedules.Schedule):
    """A schedule of a user with a state of its own."""

    def start(self):
        self.seen = []

    def at(self, steps, duration):
        return 0.5 ** len(self.seen)

    def on_epoch_end(self, history):
        self.seen.append(history.loss[-1])

    def state(self):
        return {"seen": np.array(self.seen), "name": "counting", "n": np.int8(len(self.seen))}

    def load_state(self, state):
        self.seen = list(state["seen"])


@pytest.mark.parametrize("way", WAYS)
def test_a_schedule_of_ones_own(way, tmp_path):
    whole, first = network(**REGULARIZED), network(**REGULARIZED)
    fit(whole, 5, batch_size=100, schedule=Counting())
    fit(first, 5, batch_size=100, schedule=Counting(), callbacks=[StopAt(2)])
    second = way(first, tmp_path)
    fit(second, 5, batch_size=100, schedule=Counting(), resume=True)
    assert_same_course(second, whole)
    assert whole.history.learning_rate == [0.1, 0.05, 0.025, 0.0125, 0.00625]


def test_a_schedule_that_cannot_resume():
    class Other(Counting):
        pass

    Other.__name__ = "Counting"
    Other.load_state = lambda self, state: state["nothing"]
    net = network()
    fit(net, 1, schedule=Counting())
    before = net.state_dict()
    with refused(ValueError, "cannot resume from the state {'seen': ["):
        fit(net, 2, schedule=Other(), resume=True)
    np.testing.assert_equal(net.state_dict(), before)


def test_an_optimizer_of_ones_own_cannot_be_saved(tmp_path):
    class Adam(optimizers.Adam):  # would be loaded as another
        pass

    net, path = network(), tmp_path / "net.npz"
    before = snapshot(net)
    with refused(TypeError, "the optimizer Adam, which is not one of fastmlp.optimizers, cannot be saved"):
        fit(net, 2, optimizer=Adam(), callbacks=[callbacks.Checkpoint(path)])
    assert_bits(net, before)
    fit(net, 2, optimizer=Adam())
    with refused(TypeError, "net.save(path) saves the parameters alone"):
        net.save(path, training=True)
    assert not list(tmp_path.iterdir())
    net.save(path)
    assert_bits(MLP.load(path), snapshot(net))


def test_a_history_that_a_callback_has_added_to(tmp_path):
    class Adds:
        def on_epoch_end(self, net, fit):
            fit.history.metrics.setdefault("norm", []).append(np.float32(fit.epoch))

    net = network()
    fit(net, 3, callbacks=[callbacks.Checkpoint(tmp_path / "net.npz"), Adds(), callbacks.CSVLog(tmp_path / "log.csv")])
    net = MLP.load(tmp_path / "net.npz")
    assert net.history.metrics["norm"][0] == 1
    assert len(fit(net, 4, resume=True, callbacks=[callbacks.CSVLog(tmp_path / "log.csv")]).loss) == 4
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 5

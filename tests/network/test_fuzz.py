"""A thousand wrong calls: none crashes or hangs, and a call that is refused changes nothing."""

import datetime
import decimal
import fractions
import random
import warnings

import numpy as np
import pytest
from scipy import sparse

import fastmlp
from fastmlp import MLP, callbacks, optimizers, reference, schedules

pytestmark = pytest.mark.slow  # kernels for several kinds of outputs, rows and optimizers

REFUSED = (TypeError, ValueError, AttributeError, IndexError, OSError, RuntimeError)
"""What a wrong call may raise. All but FloatingPointError leave the network as it was."""
UNHELPFUL = [
    "Network", "attribute '_", "truth value", "iteration over", "not iterable", "range object", "not supported between",
    "expected str", "unsupported operand", "object is not", "__init__",
]  # fmt: skip
"""Words of errors that come from inside, and not from a check."""

N = 12


def broken_csr():
    X = sparse.csr_array(np.ones((N, 4), np.float32))
    X.indices[3] = 10_000
    return X


def matrix(x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        return np.matrix(x)


VALUES = [
    None, True, False, ..., -1, 0, 1, 2, 3, 7, 2**31, 2**63, 2**64, -(2**70), 10**400,
    0.0, 0.5, -0.5, 1e-320, 1e30, 1e300, -1e300, float("nan"), float("inf"), 1j,
    np.float16(0.5), np.int8(3), np.uint64(2**63), np.bool_(True), np.float32("nan"), np.datetime64("2020-01-01"),
    decimal.Decimal("0.5"), fractions.Fraction(1, 3), datetime.date(2020, 1, 1),
    "", "x", "adam", "sgd", "momentum", "cosine", "softmax", "relu", "auto", "1", "balanced", "f1", "roc_auc", "\0",
    b"x",
    [], [1], [4, 3], [[1]], [[1, 2], [3]], (), (1, 2), {}, {0: 2.0}, {"a": 1}, {5: 1}, set(), range(3), range(N),
    object(), object, int, len, lambda: 1, lambda *_: "x", lambda *_: 0.5, slice(2), random, iter([1, 2]),
    np.zeros(0), np.zeros(()), np.zeros(N), np.ones(N), np.full(N, -1.0), np.full(N, np.nan), np.zeros((N, 4)),
    np.zeros((N, 0)), np.zeros((0, 4)), np.zeros((N, 5)), np.zeros((N, 2, 2)), np.ones((N, 4), np.uint8),
    np.full((N, 4), np.inf), np.full((N, 4), 1e300), np.zeros((N, 4), complex), np.zeros((N, 4), object),
    np.zeros(N, "datetime64[s]"), np.zeros(N, [("a", int)]), np.zeros((N, 4), ">f8")[::-1], np.eye(3)[np.arange(N) % 3],
    np.arange(N) % 3, np.arange(N) % 2, np.arange(N), np.array(["a", "b", "c"] * 4), np.array(["a", None] * 6, object),
    np.ma.masked_array(np.zeros((N, 4)), np.eye(N, 4, dtype=bool)), matrix(np.zeros((N, 4))),
    sparse.csr_array(np.zeros((N, 4))), sparse.csr_array(np.eye(N, 4, dtype=np.float32)), sparse.coo_array((N, 5)),
    broken_csr(), optimizers.Adam, optimizers.Adam(), optimizers.SGD(learning_rate=0.5, momentum=0.9), schedules.Cosine,
    schedules.Cosine(), schedules.ReduceOnPlateau("val_loss"), callbacks.EarlyStopping, callbacks.EarlyStopping(),
    [callbacks.EarlyStopping("loss", 1)], [callbacks.TimeLimit(1e-9)], (np.zeros((N, 4)), np.zeros(N, int)),
    (np.zeros((N, 4)), np.zeros(N, int), np.ones(N)), (1, 2, 3), ["f1"], ["roc_auc", lambda *_: 0.5], MLP, MLP([4, 3]),
]  # fmt: skip

NETWORKS = {
    "softmax": lambda kind, seed: kind([4, 8, 3], seed=seed),
    "dropout": lambda kind, seed: kind([4, 8, 3], seed=seed, dropout=0.3, l2=0.01),
    "logistic": lambda kind, seed: kind([4, 1], seed=seed, output="logistic"),
    "identity": lambda kind, seed: kind([4, 5, 2], seed=seed, output="identity"),
}
SETTINGS = [
    "activation", "output", "init", "seed", "n_threads", "dtype", "first_layer", "input_scale", "label_smoothing", "l2",
    "dropout", "input_dropout", "input_noise", "unknown",
]  # fmt: skip
FIT = [
    "epochs", "batch_size", "learning_rate", "optimizer", "schedule", "sample_weight", "class_weight", "clip_norm",
    "clip_value", "validation_data", "validation_fraction", "metrics", "shuffle", "progress", "callbacks", "resume",
    "lr",
]  # fmt: skip
WEIGHTED = ["sample_weight", "metrics"]
ATTRIBUTES = [*SETTINGS, "layers", "history", "weights", "biases", "n_parameters", "feature_names", "classes", "fit"]


def y_for(net):
    if net.output == "identity":
        return np.linspace(-1, 1, 2 * N).reshape(N, 2)
    return np.arange(N) % (2 if net.output == "logistic" else 3)


def is_costly(name, value):
    """Whether a value is right, but takes for ever or too much memory."""
    if name == "epochs":
        return isinstance(value, (int, np.integer)) and value > 100
    if name == "n_threads":
        return isinstance(value, (int, np.integer)) and 4 < value < 2000
    return name == "callbacks" and value is None


class Fuzzer:
    """Calls with arguments of which some are wrong."""

    def __init__(self, seed, kind, folder):
        self.random, self.generator = random.Random(seed), np.random.default_rng(seed)
        self.kind = kind
        self.folder = folder
        self.make = self.random.choice(list(NETWORKS.values()))
        self.net = self.make(kind, seed)
        self.described = ""

    def value(self, name=""):
        while True:
            value = self.random.choice(VALUES)
            if not is_costly(name, value):
                return value

    def some(self, names, most=2):
        return {name: self.value(name) for name in self.random.sample(names, self.random.randint(0, most))}

    def data(self):
        X = self.generator.normal(size=(N, 4)).astype(np.float32)
        data = {"X": X, "y": y_for(self.net)}
        for name in data:
            if self.random.random() < 0.3:
                data[name] = self.value()
        if self.random.random() < 0.05:
            del data[self.random.choice(list(data))]
        return data

    def next(self):
        """Return a call, and remember what it is."""
        calls = [getattr(self, name) for name in dir(self) if name.startswith("call_")]
        call, arguments = self.random.choice(calls)()
        self.described = f"{call}, {arguments}"
        return lambda: call(**arguments)

    def call_constructor(self):
        layers = self.random.choice([[4, 3], [4, 3, 2], self.value()])
        return self.kind, {"layers": layers, **self.some(SETTINGS, 3)}

    def call_fit(self):
        return self.net.fit, {"epochs": 2, **self.data(), **self.some(FIT, 3)}

    call_fit_again = call_fit_once_more = call_fit

    def call_train_batch(self):
        names = ["learning_rate", "optimizer", "sample_weight", "clip_norm", "clip_value"]
        return self.net.train_batch, {**self.data(), **self.some(names)}

    def call_gradients(self):
        return self.net.gradients, {**self.data(), **self.some(["sample_weight"], 1)}

    def call_predict(self):
        data = self.data()
        data.pop("y", None)
        return self.random.choice([self.net.predict, self.net.predict_proba]), data

    def call_score(self):
        return self.net.score, {**self.data(), **self.some(["sample_weight"], 1)}

    def call_evaluate(self):
        return self.net.evaluate, {**self.data(), **self.some(WEIGHTED)}

    def call_mistakes(self):
        return self.random.choice([self.net.wrong, self.net.most_confused]), {**self.data(), **self.some(["n"], 1)}

    def call_check_gradients(self):
        return fastmlp.check_gradients, {"net": self.net, **self.data(), **self.some(["n", "h", "net"], 2)}

    def call_initialize(self):
        return self.net.initialize, self.some(["seed", "init"])

    def call_save(self):
        path = self.random.choice([self.folder / "net.npz", self.folder, self.folder / "no" / "net.npz", self.value()])
        if isinstance(path, (bool, int, np.integer)):  # numbers of open files
            path = None
        return self.net.save, {"path": path, **self.some(["training", "compressed"], 1)}

    def call_load(self):
        return self.kind.load, {"path": self.random.choice([self.folder / "net.npz", self.folder, "x", None, 1.5])}

    def call_load_state_dict(self):
        state = self.net.state_dict()
        for _ in range(self.random.randint(0, 2)):
            state[self.random.choice(list(state))] = self.value()
        return self.net.load_state_dict, {"state_dict": self.random.choice([state, state, state, self.value()])}

    def call_setattr(self):
        name, value = self.random.choice(ATTRIBUTES[:-1]), self.value("n_threads")
        return lambda **_: setattr(self.net, name, value), {"name": name, "value": value}

    def call_delattr(self):
        name = self.random.choice([*ATTRIBUTES, "seed"])
        return lambda **_: delattr(self.net, name), {"name": name}

    def call_assign(self):
        arrays = self.random.choice([self.net.weights, self.net.biases])
        place = self.random.choice([0, -1, 5, slice(None), slice(1), "x", None, ..., 0.5])
        value = self.random.choice([self.value(), [self.value()], [0, self.value()]])
        return lambda **_: arrays.__setitem__(place, value), {"place": place, "value": value}

    def call_finder(self):
        find = callbacks.LearningRateFinder(steps=10).find
        return find, {"net": self.net, **self.data(), **self.some(["optimizer", "batch_size", "net"], 1)}


def snapshot(net):
    return {**net.state_dict(), "names": (net.feature_names, net.classes), "threads": net.n_threads, "seed": net.seed}


def differences(before, after):
    if before.keys() != after.keys():
        return sorted(before.keys() ^ after.keys())
    return [name for name in before if not _same(before[name], after[name])]


def _same(one, other):
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    if isinstance(one, tuple):
        return all(map(_same, one, other))
    return one == other


def outcome(call):
    """The exception that a call raises, or None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call()
        except Exception as error:
            return error
    return None


RUNS = [(reference.MLP, seed) for seed in range(10)] + [(MLP, seed) for seed in range(4)]


@pytest.mark.parametrize(("kind", "seed"), RUNS, ids=lambda value: getattr(value, "__module__", str(value)))
def test_wrong_calls_are_refused_and_change_nothing(kind, seed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fuzzer = Fuzzer(seed, kind, tmp_path)
    refused = 0
    for _ in range(100):
        call, before = fuzzer.next(), snapshot(fuzzer.net)
        file = tmp_path / "net.npz"
        content = file.read_bytes() if file.exists() else b""
        error = outcome(call)
        if isinstance(error, FloatingPointError):
            fuzzer.net.initialize()
        elif error is not None:
            refused += 1
            assert isinstance(error, REFUSED), f"{error!r} by {fuzzer.described}"
            assert not any(word in str(error) for word in UNHELPFUL), f"{error!r} by {fuzzer.described}"
            assert str(error)
            assert differences(before, snapshot(fuzzer.net)) == [], fuzzer.described
            assert (file.read_bytes() if file.exists() else b"") == content, fuzzer.described
        if not all(np.isfinite(parameter).all() for parameter in fuzzer.net.weights + fuzzer.net.biases):
            fuzzer.net.initialize()
    assert 30 < refused < 100
    fuzzer.net.initialize(seed=1)
    fresh = fuzzer.make(kind, 1)
    X, y = np.eye(N, 4, dtype=np.float32), y_for(fresh)
    fuzzer.net.fit(X, y, epochs=2)
    fresh.fit(X, y, epochs=2)
    for got, expected in zip(fuzzer.net.weights, fresh.weights, strict=True):
        np.testing.assert_array_equal(got, expected)

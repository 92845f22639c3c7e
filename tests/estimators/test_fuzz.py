"""Random calls, many of them wrong, of fastmlp's estimators beside scikit-learn's.

Each seed is a program: an estimator with random parameters, then some calls. Both libraries run it. A call must raise
the same error in both, or return answers of the same form; `ALLOWED` lists where docs/scikit-learn.md says otherwise. A
call that is refused must leave a fitted estimator as it was.
"""

import copy
import os
import pickle
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.utils._param_validation import InvalidParameterError
from support.fitted import beside_1_9, compiled, network, one_thread  # noqa: F401

import fastmlp

pd = pytest.importorskip("pandas")
pytestmark = [beside_1_9, pytest.mark.slow]

N_PROGRAMS = int(os.environ.get("FASTMLP_FUZZ", 600))
FIRST = int(os.environ.get("FASTMLP_FUZZ_FIRST", 0))
NOT_FINITE = "Solver produced non-finite parameter weights"

GOOD = {
    "hidden_layer_sizes": [(4,), (3, 2), (), 5, [4], np.array([3, 3]), (1,)],
    "activation": ["relu", "tanh", "logistic", "identity"],
    "solver": ["adam", "sgd", "lbfgs"],
    "alpha": [0, 1e-4, 1.0, 10],
    "batch_size": ["auto", 1, 5, 7, 200],
    "learning_rate": ["constant", "invscaling", "adaptive"],
    "learning_rate_init": [1e-3, 0.1, 1],
    "power_t": [0.5, 0, 2],
    "max_iter": [1, 2, 5],
    "shuffle": [True, False],
    "random_state": [0, 1, np.random.RandomState(4)],
    "tol": [0, 1e-4, 10.0],
    "warm_start": [False, True],
    "momentum": [0, 0.9, 0.5],
    "nesterovs_momentum": [True, False],
    "early_stopping": [False, True],
    "validation_fraction": [0.1, 0.3, 0.5],
    "beta_1": [0, 0.9],
    "beta_2": [0, 0.999],
    "epsilon": [1e-8, 0.1],
    "n_iter_no_change": [1, 10, np.inf],
    "max_fun": [1, 15000],
}
BAD = {
    "hidden_layer_sizes": [0, -1, (3, 0), "4", None, (2.5,), [[3]], ("a",), (np.nan,), {4}, 2.0, (True,), (10**12,)],
    "activation": ["ghost", None, 3, "RELU", ["relu", "relu", "relu"], []],
    "solver": ["ghost", None, 1, "Adam"],
    "alpha": [-1, "1", None, np.nan, np.inf, [1], True, 1e300],
    "batch_size": [0, -3, "all", 2.5, None, np.inf, True, 10**12],
    "learning_rate": ["fast", None, 3],
    "learning_rate_init": [0, -1, None, "1", np.nan, np.inf, 1e300, 1e-300],
    "power_t": [-1, None, "x", np.nan, np.inf, 1e10],
    "max_iter": [0, -1, 2.0, None, "5", True],
    "shuffle": [None, 3, "yes", 1, 0],
    "random_state": [-1, "x", 2.5, 2**40, [1], np.random.default_rng(0)],
    "tol": [-1, None, "x", np.nan, np.inf],
    "warm_start": [None, 2, "yes", 1],
    "momentum": [-0.1, 1.5, None, "x", np.nan],
    "nesterovs_momentum": [None, 2, "yes"],
    "early_stopping": [None, 2, "yes"],
    "validation_fraction": [0, 1, -1, None, "x", 1e-9, 0.99, np.nan],
    "beta_1": [-1, 1, None, "x", np.nan],
    "beta_2": [-1, 1, None, "x", np.nan],
    "epsilon": [0, -1, None, "x", np.nan, 1e-300, np.inf],
    "n_iter_no_change": [0, -1, 2.5, None, "x", np.nan],
    "max_fun": [0, -1, 2.5, None, "x"],
    "verbose": [-1, "x", None],
    "ghost": [1],
}

ROWS, COLUMNS = 20, 3
NUMBERS = np.random.default_rng(0).normal(size=(ROWS, COLUMNS))

GOOD_X = [
    lambda r: NUMBERS,
    lambda r: NUMBERS.astype(np.float32),
    lambda r: (10 * NUMBERS).astype(np.int64),
    lambda r: (NUMBERS > 0).astype(bool),
    lambda r: NUMBERS.tolist(),
    lambda r: np.asfortranarray(NUMBERS),
    lambda r: np.repeat(NUMBERS, 2, axis=0)[::2],
    lambda r: sparse.csr_matrix(NUMBERS * (NUMBERS > 0)),
    lambda r: sparse.csc_array(NUMBERS * (NUMBERS > 0)),
    lambda r: sparse.coo_array(NUMBERS.astype(np.float32) * (NUMBERS > 0)),
    lambda r: pd.DataFrame(NUMBERS, columns=["a", "b", "c"]),
    lambda r: pd.DataFrame({"a": NUMBERS[:, 0], "b": NUMBERS[:, 1] > 0, "c": (9 * NUMBERS[:, 2]).astype(int)}),
    lambda r: NUMBERS.astype(object),
    lambda r: np.ma.array(NUMBERS),
    lambda r: NUMBERS.astype(">f8"),
]
BAD_X = [
    lambda r: NUMBERS[:, 0],
    lambda r: NUMBERS[None],
    lambda r: NUMBERS[:0],
    lambda r: NUMBERS[:, :0],
    lambda r: NUMBERS[:, :2],
    lambda r: NUMBERS[:7],
    lambda r: NUMBERS[:1],
    lambda r: np.where(NUMBERS > 1, np.nan, NUMBERS),
    lambda r: np.where(NUMBERS > 1, np.inf, NUMBERS),
    lambda r: NUMBERS + 1j,
    lambda r: NUMBERS.astype(str),
    lambda r: [["a", "b", "c"]] * ROWS,
    lambda r: [[1, 2, 3], [1, 2]],
    lambda r: None,
    lambda r: "X",
    lambda r: 3.0,
    lambda r: {},
    lambda r: [],
    lambda r: [[]],
    lambda r: 1e300 * NUMBERS,
    lambda r: (1e30 * NUMBERS).astype(np.float32),
    lambda r: 1e-320 * NUMBERS,
    lambda r: NUMBERS.astype("datetime64[s]"),
    lambda r: sparse.csr_matrix(np.where(NUMBERS > 1, np.nan, NUMBERS)),
    lambda r: sparse.csr_matrix(NUMBERS.astype(complex)),
    lambda r: pd.DataFrame(NUMBERS, columns=["c", "b", "a"]),
    lambda r: pd.DataFrame({"a": ["x"] * ROWS, "b": NUMBERS[:, 1]}),
    lambda r: np.where(NUMBERS > 1, None, NUMBERS),
]
LABELS = np.arange(ROWS) % 3
GOOD_Y = {
    "MLPClassifier": [
        lambda r: LABELS,
        lambda r: LABELS % 2,
        lambda r: np.array(["a", "b", "c"])[LABELS],
        lambda r: np.array(["no", "yes"], object)[LABELS % 2],
        lambda r: LABELS.astype(float),
        lambda r: LABELS > 0,
        lambda r: LABELS.tolist(),
        lambda r: pd.Series(LABELS, name="y"),
        lambda r: pd.Series(np.array(["a", "b", "c"])[LABELS], dtype="category"),
        lambda r: np.c_[LABELS > 0, LABELS > 1].astype(int),
        lambda r: sparse.csr_matrix(np.c_[LABELS > 0, LABELS > 1].astype(int)),
        lambda r: LABELS[:, None],
        lambda r: np.zeros(ROWS, int),
        lambda r: LABELS - 1,
    ],
    "MLPRegressor": [
        lambda r: NUMBERS[:, 0],
        lambda r: NUMBERS[:, :2],
        lambda r: NUMBERS[:, 0].astype(np.float32),
        lambda r: LABELS,
        lambda r: NUMBERS[:, 0].tolist(),
        lambda r: NUMBERS[:, :1],
        lambda r: pd.Series(NUMBERS[:, 0]),
        lambda r: pd.DataFrame(NUMBERS[:, :2]),
        lambda r: LABELS > 0,
        lambda r: 1e6 * NUMBERS[:, 0],
        lambda r: np.zeros(ROWS),
    ],
}
BAD_Y = [
    lambda r: None,
    lambda r: [],
    lambda r: LABELS[:5],
    lambda r: np.r_[LABELS, 1],
    lambda r: np.where(LABELS > 1, np.nan, LABELS),
    lambda r: np.where(LABELS > 1, np.inf, LABELS),
    lambda r: np.where(LABELS > 1, None, LABELS),
    lambda r: NUMBERS[:, 0] + 1j,
    lambda r: np.zeros((ROWS, 2, 2)),
    lambda r: np.zeros((ROWS, 0)),
    lambda r: "y",
    lambda r: 3,
    lambda r: {"y": 1},
    lambda r: ["a"] * ROWS,
    lambda r: NUMBERS,
    lambda r: np.c_[LABELS, LABELS],
    lambda r: sparse.csr_matrix(NUMBERS),
    lambda r: [[1], [1, 2]] * (ROWS // 2),
    lambda r: LABELS + 5,
    lambda r: 1e200 * NUMBERS[:, 0],
    lambda r: LABELS.astype("datetime64[s]"),
]
WEIGHTS = [
    *[lambda r: None] * 40,
    lambda r: np.linspace(0.5, 2, ROWS),
    lambda r: np.ones(ROWS, np.float32),
    lambda r: np.arange(ROWS),
    lambda r: pd.Series(np.linspace(0.5, 2, ROWS)),
    lambda r: 2.0,
    lambda r: 1,
    lambda r: np.ones(3),
    lambda r: np.ones((ROWS, 1)),
    lambda r: np.zeros(ROWS),
    lambda r: -np.ones(ROWS),
    lambda r: np.where(LABELS > 1, np.nan, 1),
    lambda r: np.where(LABELS > 1, np.inf, 1),
    lambda r: "balanced",
    lambda r: ["a"] * ROWS,
    lambda r: [],
    lambda r: np.full(ROWS, 1e300),
    lambda r: np.full(ROWS, 1e-300),
]
CLASSES = [None, *[[0, 1, 2]] * 8, [0, 1], ["a", "b", "c"], [0], [], 3, np.array([2, 1, 0]), [0, 1, 2, 3], [0, 0, 1, 2]]


def one(random, options):
    return options[random.integers(len(options))]


def parameters_of(random, kind, narrow):
    """Return random parameters, of which one in three programs has a wrong one."""
    names = random.choice(list(GOOD), random.integers(1, 7), replace=False)
    settings = {"max_iter": 2, "random_state": 0}
    settings |= {str(name): copy.deepcopy(one(random, GOOD[name])) for name in names}
    if random.random() < 0.15:
        name = one(random, list(BAD))
        settings[name] = one(random, BAD[name])
    if kind == "MLPRegressor" and random.random() < 0.2:
        settings["loss"] = one(random, ["poisson", "squared_error", "ghost", None])
    if narrow:
        settings = {name: value for name, value in settings.items() if name not in ("solver", "activation", "loss")}
    return settings


def data_of(random, kind, narrow):
    good = GOOD_X[:1] if narrow else GOOD_X
    X = one(random, good if random.random() < 0.9 else BAD_X)(random)
    y = one(random, GOOD_Y[kind] if random.random() < 0.9 else BAD_Y)(random)
    return X, y


def step_of(random, kind, narrow):
    """Return a random call as a name and a function of an estimator."""
    name = one(
        random,
        ["fit"] * 4 + ["partial_fit"] * 4 + ["predict"] * 3 + ["score", "set_params", "copy", "assign", "clone"]
        + ["predict_proba", "predict_log_proba"] * (kind == "MLPClassifier"),
    )  # fmt: skip
    X, y = data_of(random, kind, narrow)
    weights, classes = one(random, WEIGHTS)(random), one(random, CLASSES)
    if name == "fit":
        return name, lambda net: net.fit(X, y, weights) and None
    if name == "partial_fit":
        more = {"classes": classes} if kind == "MLPClassifier" and random.random() < 0.6 else {}
        return name, lambda net: net.partial_fit(X, y, weights, **more) and None
    if name == "score":
        return name, lambda net: net.score(X, y, weights)
    if name == "set_params":
        settings = parameters_of(random, kind, narrow)
        settings.pop("ghost", None)
        return name, lambda net: net.set_params(**copy.deepcopy(settings)) and None
    if name == "copy":
        way = one(random, [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
        return name, lambda net: net.__dict__.update(way(net).__dict__)
    if name == "clone":
        return name, lambda net: clone(net) and None
    if name == "assign":
        change = one(random, ASSIGNED)
        return name, lambda net: change(net) if hasattr(net, "out_activation_") else None
    return name, lambda net: getattr(net, name)(X)


def none(net):
    net.out_activation_ = None


def prune(net):
    net.coefs_ = [net.coefs_[0][:, :1], net.coefs_[1][:1], *net.coefs_[2:]]
    net.intercepts_ = [net.intercepts_[0][:1], *net.intercepts_[1:]]


def scale_first(net):
    net.coefs_[0] = net.coefs_[0] * 2


def write(net):
    net.intercepts_[-1][...] = 0.5


def spoil(net):
    net.coefs_[0] = np.ones((2, 2))


def output(net):
    net.out_activation_ = "identity"


def no_array(net):
    net.coefs_ = None


ASSIGNED = [none, prune, scale_first, write, spoil, output, no_array]


def outcome(call, net):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return call(net), None
        except Exception as error:
            return None, error


def state_of(net):
    """Return all that a refused call must leave alone."""
    learned = {name: value for name, value in vars(net).items() if name.endswith("_") and not name.startswith("_")}
    return {
        name: repr([np.asarray(item).tolist() for item in np.atleast_1d(value)])
        if not isinstance(value, list)
        else repr([np.asarray(item).tolist() for item in value])
        for name, value in learned.items()
    }


def is_documented(name, kind, net, given, ours):
    """Return whether docs/scikit-learn.md has the difference between two errors, of which one may be None."""
    says, their_words = str(ours), str(given)
    if isinstance(given, type(ours)) or isinstance(ours, type(given)):
        return ours is not None
    if name == "partial_fit" and kind == "MLPRegressor" and net.solver not in ("adam", "sgd"):
        return isinstance(ours, AttributeError)
    if isinstance(ours, InvalidParameterError) and name == "partial_fit":
        return True  # scikit-learn checks parameters in the first call only
    if ours is None:
        again = name == "partial_fit" or net.warm_start  # with other layers, or judged otherwise
        words = ("non-broadcastable", "list assignment", "NoneType")
        return isinstance(given, ZeroDivisionError) or (again and any(word in their_words for word in words))
    return any(
        words in says
        for words in (
            "and not negative",
            "whose square is too large",
            "labels of logistic outputs are 0 or 1",
            "but counts are 0 or more",
            "y is sparse; make it dense first",
            "columns, but the network has",
            "column, but the network has",
            "out_activation_ is ",
            "not finite before the first step",
            "too large for float32",
            "y has nan in row",
            "too small: float32",
            "classes must be passed",
            "hidden_layer_sizes must hold integers",
            "the weights of all rows add up to",
            "partial_fit does not support early_stopping",
        )
    )


def difference(given, ours):
    """Return what differs between two estimators after a fit in float64 from the start, or None."""
    if given.coefs_[0].dtype == ours.coefs_[0].dtype == np.float64:
        if max(np.abs(given.loss_curve_).max(), np.abs(given.coefs_[0]).max()) > 30:
            return None  # capped losses, or numbers so large that rounding decides
        if given.n_iter_ != ours.n_iter_:
            return f"n_iter_ is {ours.n_iter_}, not {given.n_iter_}"
        for a, b in zip(given.coefs_ + given.intercepts_, ours.coefs_ + ours.intercepts_, strict=True):
            if not np.allclose(a, b, rtol=1e-6, atol=1e-6):
                return f"parameters differ by {np.abs(a - b).max()}"
    return None


def run(seed, log=None, narrow=False):
    """Run a program in both libraries; return a description of the first difference, or None.

    A narrow program needs few compiled loops: it has dense rows, Adam and ReLU.
    """
    random = np.random.default_rng(seed)
    kind = one(random, ["MLPClassifier", "MLPRegressor"])
    settings = parameters_of(random, kind, narrow)
    made = [outcome(lambda _, m=m: getattr(m, kind)(**copy.deepcopy(settings)), None) for m in (theirs, fastmlp)]
    if any(error is not None for _, error in made):
        return None if type(made[0][1]) is type(made[1][1]) else f"{seed}: {kind}(**{settings}): {made}"
    nets = [net for net, _ in made]
    for _ in range(random.integers(2, 9)):
        name, call = step_of(random, kind, narrow)
        kept = copy.deepcopy(nets)
        fitted, before = hasattr(nets[1], "coefs_"), state_of(nets[1])
        outcomes = [outcome(call, net) for net in nets]
        given, ours = (error for _, error in outcomes)
        where = f"{seed}: {name} of {nets[1]!r}"
        if log is not None:
            log.append((name, given is None, ours is None))
        if type(given) is not type(ours) and not is_documented(name, kind, nets[1], given, ours):
            return f"{where}\n   theirs: {outcomes[0]!r}\n   ours: {outcomes[1]!r}"
        if ours is not None and fitted and name in ("fit", "partial_fit") and NOT_FINITE not in str(ours):
            after = state_of(nets[1])
            changed = [name for name in before | after if after.get(name) != before.get(name)]
            if changed:
                return f"{where}\n   refused with {ours!r}, but changed {changed}"
        if (given is None) != (ours is None):
            return None  # from here on the two are not the same
        if given is not None:
            nets = kept
            continue
        if name == "fit" and not nets[1].warm_start and nets[1].solver in ("sgd", "adam"):
            problem = difference(*nets)
            if problem:
                return f"{where}\n   {problem}"
        a, b = (answer for answer, _ in outcomes)
        if isinstance(a, np.ndarray) and (a.shape != np.shape(b) or a.dtype.kind != b.dtype.kind):
            return f"{where}\n   theirs: {a.dtype} {a.shape}\n   ours: {b.dtype} {b.shape}"
    return None


@pytest.mark.parametrize("part", range(10))
def test_random_programs(part):
    each = N_PROGRAMS // 10
    found = [run(seed) for seed in range(FIRST + part * each, FIRST + (part + 1) * each)]
    assert [difference for difference in found if difference] == []


@compiled
def test_random_programs_of_the_compiled_network():
    found = [run(seed, narrow=True) for seed in range(FIRST, FIRST + N_PROGRAMS // 4)]
    assert [difference for difference in found if difference] == []

"""What users assign to a fitted estimator, and how its copies and files go on."""

import copy
import io
import json
import pickle
import sys

import joblib
import numpy as np
import pytest
from scipy import sparse
from sklearn import neural_network as theirs
from sklearn.datasets import make_multilabel_classification
from support.fitted import (  # noqa: F401
    DIGITS,
    IRIS,
    NUMBER,
    beside_1_9,
    brief,
    compiled,
    fitted,
    network,
    one_thread,
    ours,
    parameters,
    same_bits,
)
from support.nets import refused

from fastmlp import MLPClassifier, MLPRegressor
from fastmlp.callbacks import EarlyStopping
from fastmlp.optimizers import RMSprop
from fastmlp.schedules import ReduceOnPlateau

X, Y = IRIS
SIX = np.arange(12.0).reshape(6, 2)
SOLVERS = {
    "adam": {},
    "momentum": {"solver": "sgd"},
    "sgd": {"solver": "sgd", "momentum": 0},
    "lbfgs": {"solver": "lbfgs"},
    "rmsprop": {"solver": RMSprop(momentum=0.5)},
}
each_solver = pytest.mark.parametrize("settings", SOLVERS.values(), ids=SOLVERS)


def through_pickle(estimator):
    return pickle.loads(pickle.dumps(estimator))


def through_joblib(estimator):
    file = io.BytesIO()
    joblib.dump(estimator, file)
    return joblib.load(file)


def through_skops(estimator):
    files = pytest.importorskip("skops.io")
    written = files.dumps(estimator)
    return files.loads(written, trusted=files.get_untrusted_types(data=written))


COPIES = [copy.deepcopy, copy.copy, through_pickle, through_joblib, through_skops]
each_copy = pytest.mark.parametrize("copied", COPIES, ids=lambda way: way.__name__)


# --- assigned parameters ----------------------------------------------------------------------------------------------


def by_hand(X, coefs, intercepts):
    for w, b in zip(coefs[:-1], intercepts[:-1], strict=True):
        X = np.maximum(X @ w + b, 0)
    return X @ coefs[-1] + intercepts[-1]


@brief
@each_solver
@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize("copied", [lambda estimator: estimator, copy.deepcopy, through_pickle, copy.copy])
def test_assigned_parameters_may_have_another_shape(settings, warm_start, copied):
    net = MLPRegressor(hidden_layer_sizes=(4,), random_state=0, max_iter=5, warm_start=warm_start, **settings)
    net = copied(net.fit(SIX, SIX[:, 0]))
    net.predict(SIX)
    (w0, w1), (b0, b1) = net.coefs_, net.intercepts_
    net.coefs_, net.intercepts_ = [w0[:, :2], w1[:2]], [b0[:2], b1]  # pruned units
    for _ in range(2):
        np.testing.assert_allclose(net.predict(SIX), by_hand(SIX, net.coefs_, net.intercepts_)[:, 0], rtol=1e-12)
    net.coefs_ = [np.vstack([w0, np.ones((1, 4))]), w1]  # one more feature
    net.intercepts_, net.n_features_in_, wide = [b0, b1], 3, np.c_[SIX, SIX[:, 0]]
    np.testing.assert_allclose(net.predict(wide), by_hand(wide, net.coefs_, net.intercepts_)[:, 0], rtol=1e-12)
    net.n_features_in_ = 2
    net.coefs_, net.intercepts_ = [w0, np.eye(4), w1], [b0, np.zeros(4), b1]  # one more layer
    np.testing.assert_allclose(net.predict(SIX), by_hand(SIX, net.coefs_, net.intercepts_)[:, 0], rtol=1e-12)
    assert net.n_layers_ == 4
    if net.solver != "lbfgs":  # training begins anew with what is there
        before = net.coefs_[1].copy()
        net.partial_fit(SIX, SIX[:, 0])
        assert net.coefs_[1].shape == (4, 4)
        assert not np.array_equal(net.coefs_[1], before)


def test_the_state_of_adam_survives_other_parameters_in_between():
    net, other = (fitted(max_iter=3) for _ in range(2))
    coefs, intercepts = net.coefs_, net.intercepts_
    net.coefs_, net.intercepts_ = [coefs[0][:, :2], coefs[1][:2]], [intercepts[0][:2], intercepts[1]]
    net.predict(X)
    net.out_activation_ = "identity"
    net.predict(X)
    net.coefs_, net.intercepts_, net.out_activation_ = coefs, intercepts, "softmax"
    assert same_bits(net.partial_fit(X, Y), other.partial_fit(X, Y))


@compiled
def test_arrays_that_a_user_keeps_writing_to():
    vector = np.random.default_rng(0).normal(size=4 * 8 + 8 + 8 * 3 + 3)
    net, other = fitted(), fitted()

    def views(vector):
        w0, b0, w1, b1 = np.split(vector, [32, 40, 64])
        return [w0.reshape(4, 8), w1.reshape(8, 3)], [b0, b1]

    net.coefs_, net.intercepts_ = views(vector)
    for _ in range(3):
        other.coefs_, other.intercepts_ = views(vector.copy())
        np.testing.assert_array_equal(net.predict_proba(X), other.predict_proba(X))
        vector *= -0.9
    assert np.shares_memory(net.coefs_[0], vector)


def test_parameters_made_of_ones_own():
    net = fitted(hidden_layer_sizes=(4,))
    w0, w1 = (w.copy() for w in net.coefs_)
    net.coefs_ = [net.coefs_[0][::-1], net.coefs_[1]]
    for _ in range(3):
        expected = by_hand(X, [w0[::-1], w1], net.intercepts_)
        np.testing.assert_array_equal(net.predict(X), expected.argmax(axis=1))
    net.coefs_ = [net.coefs_[0].T, net.coefs_[1]]
    for _ in range(3):
        expected = by_hand(X, [w0[::-1].T, w1], net.intercepts_)
        np.testing.assert_array_equal(net.predict(X), expected.argmax(axis=1))
    twin = fitted(hidden_layer_sizes=(4, 4))
    swapped = [w.copy() for w in (twin.coefs_[1], twin.coefs_[0], twin.coefs_[2])]
    twin.coefs_[0], twin.coefs_[1] = twin.coefs_[1], twin.coefs_[0]
    for _ in range(3):
        np.testing.assert_array_equal(twin.predict(X), by_hand(X, swapped, twin.intercepts_).argmax(axis=1))


@pytest.mark.parametrize(
    "form", [sparse.csr_matrix, sparse.csr_array, np.ndarray.tolist, np.float32, np.asfortranarray]
)
def test_parameters_of_any_form(form):
    net, expected = fitted(MLPRegressor, NUMBER), fitted(MLPRegressor, NUMBER).predict(NUMBER[0])
    net.coefs_ = [form(w) for w in net.coefs_]
    np.testing.assert_allclose(net.predict(NUMBER[0]), expected, rtol=1e-5)
    net.intercepts_ = [0, [0.0]]
    np.testing.assert_allclose(
        net.predict(NUMBER[0]),
        by_hand(NUMBER[0], [np.asarray(w.todense() if sparse.issparse(w) else w) for w in net.coefs_], [0, 0])[:, 0],
        rtol=1e-5,
    )


def test_n_layers_cuts_a_network_off():
    net = fitted(MLPRegressor, NUMBER, hidden_layer_sizes=(8, 5))
    other = fitted(MLPRegressor, NUMBER, hidden_layer_sizes=(8, 5))
    net.n_layers_, net.out_activation_ = 3, "relu"
    inner = np.maximum(NUMBER[0] @ other.coefs_[0] + other.intercepts_[0], 0)
    expected = np.maximum(inner @ other.coefs_[1] + other.intercepts_[1], 0)
    np.testing.assert_allclose(net.predict(NUMBER[0]), expected, rtol=1e-12)
    net.n_layers_, net.out_activation_ = 4, "identity"
    np.testing.assert_array_equal(net.predict(NUMBER[0]), other.predict(NUMBER[0]))


@pytest.mark.parametrize(
    ("coefs", "intercepts", "message"),
    [
        (
            [(4, 3), (2, 3)],
            [3, 3],
            "coefs_[1] has the shape (2, 3), but coefs_[0] has the shape (4, 3): 3 outputs need 3",
        ),
        ([(4, 3), (3, 3)], [2, 3], "intercepts_[0] has the shape (2,), but coefs_[0] has 3 outputs"),
        ([(4,), (3, 3)], [3, 3], "coefs_[0] must have a row for each input and a column for each output, not (4,)"),
        ([(4, 3), (3, 3)], [3], "n_layers_ is 3, but there are 2 arrays in coefs_ and 1 in intercepts_"),
        ([], [], "n_layers_ is 1, but there are 0 arrays in coefs_"),
    ],
    ids=str,
)
def test_parameters_that_do_not_fit_each_other(coefs, intercepts, message):
    net = fitted()
    kept = net.coefs_, net.intercepts_, net.predict(X)
    net.coefs_, net.intercepts_ = [np.ones(shape) for shape in coefs], [np.ones(n) for n in intercepts]
    with refused(ValueError, message):
        net.predict(X)
    net.coefs_, net.intercepts_, expected = kept
    np.testing.assert_array_equal(net.predict(X), expected)
    net.coefs_ = [np.array([["a"] * 8] * 4), net.coefs_[1]]
    with refused(TypeError, "coefs_[0] does not hold numbers, but <U1 values"):
        net.predict(X)


# --- an assigned output -----------------------------------------------------------------------------------------------

LABELS = make_multilabel_classification(60, n_features=4, random_state=0)
TARGETS = {
    "number": (MLPRegressor, SIX[:, 0]),
    "numbers": (MLPRegressor, SIX),
    "two": (MLPClassifier, np.array(["no", "yes", "no", "no", "yes", "yes"])),
    "three": (MLPClassifier, np.array([0, 1, 2, 0, 1, 2])),
    "labels": (MLPClassifier, np.array([[0, 1], [1, 1], [1, 0], [0, 0], [1, 1], [0, 1]])),
}


@brief
@beside_1_9
@pytest.mark.parametrize("output", ["identity", "logistic", "tanh", "relu", "exp", "softmax"])
@pytest.mark.parametrize("targets", TARGETS)
def test_an_assigned_output_is_that_of_scikit_learn(targets, output):
    kind, y = TARGETS[targets]
    both = [
        getattr(module, kind.__name__)(hidden_layer_sizes=(4,), random_state=1, max_iter=5).fit(SIX / 10, y)
        for module in (theirs, sys.modules["fastmlp"])
    ]
    both.append(through_pickle(both[1]))
    for estimator in both:
        estimator.out_activation_ = output
    answers = [estimator.predict(SIX / 10) for estimator in both]
    for answer in answers[1:]:
        assert answer.dtype == answers[0].dtype
        if kind is MLPClassifier:
            np.testing.assert_array_equal(answer, answers[0])
        else:
            np.testing.assert_allclose(answer, answers[0], rtol=1e-9)
    if kind is MLPClassifier:
        given, *mine = (estimator.predict_proba(SIX / 10) for estimator in both)
        for probabilities in mine:
            np.testing.assert_allclose(probabilities, given, rtol=1e-9, atol=1e-12)


@compiled
def test_logits_of_the_compiled_network():
    net = fitted()
    probabilities = net.predict_proba(X)
    net.out_activation_ = "identity"
    logits = net.predict_proba(X)
    np.testing.assert_allclose(logits, by_hand(X, net.coefs_, net.intercepts_), rtol=1e-9)
    net.out_activation_ = "softmax"
    np.testing.assert_array_equal(net.predict_proba(X), probabilities)


@brief
@beside_1_9
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize(
    ("targets", "output"),
    [("number", "logistic"), ("numbers", "exp"), ("three", "logistic"), ("three", "identity"), ("labels", "identity")],
)
def test_training_with_an_assigned_output(targets, output, solver):
    """The gradient is that of scikit-learn: the output minus the target."""
    kind, y = TARGETS[targets]
    y = y / 12 if kind is MLPRegressor else y
    both = []
    for module in (theirs, sys.modules["fastmlp"]):
        net = getattr(module, kind.__name__)((4,) if kind is MLPClassifier else "squared_error", random_state=1)
        net.set_params(solver=solver, warm_start=True, max_iter=1, tol=0).fit(SIX / 10, y)
        net.out_activation_ = output
        both.append(net.set_params(max_iter=4, momentum=0).fit(SIX / 10, y))
    if solver == "sgd":
        for a, b in zip(*map(parameters, both), strict=True):
            np.testing.assert_allclose(b, a, atol=1e-9)
    assert both[1].out_activation_ == output
    assert both[1].n_iter_ == 4


def test_outputs_that_only_predictions_can_use():
    net = fitted(warm_start=True)
    bits = [parameter.tobytes() for parameter in parameters(net)]
    net.out_activation_ = "relu"
    with refused(ValueError, "out_activation_ is 'relu', which only predictions can use; assign 'softmax' before"):
        net.partial_fit(X, Y)
    assert [parameter.tobytes() for parameter in parameters(net)] == bits
    net.out_activation_ = "sigmoid"
    with refused(ValueError, "out_activation_ is 'sigmoid', but must be one of 'softmax', 'exp', "):
        net.predict(X)
    net.set_params(warm_start=False, max_iter=200, tol=9).fit(X, Y)
    assert net.out_activation_ == "softmax"


# --- copies -----------------------------------------------------------------------------------------------------------

BEGUN = {
    "fit": lambda net: net.fit(*IRIS),
    "partial_fit": lambda net: net.partial_fit(*IRIS),
    "warm start": lambda net: net.set_params(warm_start=True).fit(*IRIS),
}
GOING_ON = {
    "adam": {},
    "momentum": {"solver": "sgd", "learning_rate": "invscaling"},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 9, "n_iter_no_change": 1},
    "dropout": {"dropout": 0.3},
    "optimizer": {"solver": RMSprop(momentum=0.5), "learning_rate": ReduceOnPlateau(monitor="loss", patience=1)},
    "RandomState": {"random_state": np.random.RandomState(3)},
}


def state_of(net):
    return [parameter.tobytes() for parameter in parameters(net)], net.loss_curve_, net.t_, net.n_iter_, net.best_loss_


@brief
@each_copy
@pytest.mark.parametrize("begun", BEGUN)
@pytest.mark.parametrize("settings", GOING_ON.values(), ids=GOING_ON)
def test_a_copy_goes_on_as_the_original(copied, begun, settings):
    def start():
        own = copy.deepcopy({"hidden_layer_sizes": (5,), "random_state": 0, "max_iter": 4, "batch_size": 50} | settings)
        return BEGUN[begun](MLPRegressor(**own))

    def go_on(net):
        for _ in range(3):
            net.partial_fit(*IRIS)
        return state_of(net)

    expected = go_on(start())
    net = start()
    twin = copied(net)
    before = state_of(twin)
    if not (copied is copy.copy and "random_state" in settings):  # both draw from the same RandomState
        assert go_on(copied(twin)) == expected
    assert state_of(twin) == before
    if not (copied is copy.copy and "random_state" in settings):
        assert go_on(net) == expected
        assert go_on(twin) == expected


@compiled
@brief
@each_copy
def test_a_copy_of_the_compiled_network_goes_on(copied):
    net = fitted(MLPClassifier, max_iter=3)
    twin = copied(net)
    for _ in range(2):
        net.partial_fit(X, Y)
        twin.partial_fit(X, Y)
        assert same_bits(net, twin)
    assert net.loss_curve_ == twin.loss_curve_


@each_copy
def test_copies_of_what_was_assigned(copied):
    net = fitted(hidden_layer_sizes=(8, 5))
    net.coefs_[0] = np.zeros((4, 8))
    net.n_layers_, net.out_activation_ = 3, "tanh"
    np.testing.assert_array_equal(copied(net).predict_proba(X), net.predict_proba(X))
    assert copied(net).n_layers_ == 3


def test_pickles_of_earlier_versions():
    net = fitted(MLPClassifier, warm_start=True)
    state = net.__getstate__()
    del state["_training"], state["_optimizer_state"], state["_n_fitted_layers"]
    memory = net._network()._random.epoch, copy.deepcopy(net._network()._training_state)
    for names in ({"_memory": memory, "_goes_on": True}, {"_resume": memory, "_resumable": True}):
        twin = MLPClassifier.__new__(MLPClassifier)
        twin.__setstate__(copy.deepcopy(state) | names)
        assert same_bits(twin.partial_fit(X, Y), copy.deepcopy(net).partial_fit(X, Y))


def test_the_training_state_is_plain_data():
    """So that formats without pickles, such as JSON, can hold it."""
    state = fitted(MLPRegressor, solver="sgd").__getstate__()
    training = json.loads(json.dumps(state["_training"]))
    assert training["optimizer"]["name"] == "SGD"
    assert {type(array) for array in state["_optimizer_state"]} == {np.ndarray}
    assert "n_layers_" in state


@pytest.mark.parametrize("mode", ["r", "c"])
def test_a_file_that_is_mapped(tmp_path, mode):
    net = fitted(MLPClassifier)
    joblib.dump(net, tmp_path / "net")
    mapped = joblib.load(tmp_path / "net", mmap_mode=mode)
    np.testing.assert_array_equal(mapped.predict_proba(X), net.predict_proba(X))
    assert same_bits(mapped.partial_fit(X, Y), net.partial_fit(X, Y))


# --- calls that are refused -------------------------------------------------------------------------------------------


class Refuses:
    def on_fit_begin(self, net, fit):
        raise RuntimeError("not now")


@brief
@ours
@pytest.mark.parametrize(
    "wrong",
    [
        {"callbacks": [EarlyStopping()], "learning_rate_init": 0.1},  # there is no val_loss
        {"callbacks": [Refuses()], "learning_rate_init": 0.1},
        {"dropout": [0.1, 0.2]},
        {"solver": "lbfgs", "dropout": 0.1},
    ],
    ids=["no val_loss", "a callback", "dropout", "lbfgs"],
)
@pytest.mark.parametrize("call", ["fit", "partial_fit"])
def test_a_refused_call_changes_nothing(kind, wrong, call):
    net = fitted(kind, solver="sgd", warm_start=True)
    other, settings = copy.deepcopy(net), net.get_params()
    net.set_params(**wrong)
    if call == "partial_fit" and "solver" in wrong:
        assert not hasattr(net, call)
    else:
        with pytest.raises((ValueError, RuntimeError)):
            getattr(net, call)(X, Y)
    assert state_of(net) == state_of(other)
    net.set_params(**settings).fit(X, Y)
    assert state_of(net) == state_of(other.fit(X, Y))


@pytest.mark.parametrize("warm_start", [False, True])
def test_an_interrupted_lbfgs_changes_nothing(monkeypatch, warm_start):
    net = fitted(MLPRegressor, solver="lbfgs", warm_start=warm_start, max_iter=3)
    bits = [parameter.tobytes() for parameter in parameters(net)]

    def interrupt(estimator, text):
        if text.startswith("Iteration 2,"):
            raise KeyboardInterrupt

    monkeypatch.setattr("fastmlp.estimators.base.BaseMLP._print", interrupt)
    with pytest.raises(KeyboardInterrupt):
        net.set_params(verbose=True, max_iter=10).fit(X, X[:, 0])
    assert [parameter.tobytes() for parameter in parameters(net)] == bits
    assert net.n_iter_ == 3


@brief
def test_predictions_do_not_depend_on_settings_of_training():
    net = fitted()
    expected = net.predict_proba(X)
    net.set_params(alpha=None, dropout=None, solver=None, tol="x", max_iter=-1)
    np.testing.assert_array_equal(net.predict_proba(X), expected)

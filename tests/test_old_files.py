"""Files and pickles of an earlier version: they load with the same numbers, predict the same, and training continues.

tests/data/old/old.tar.xz holds networks saved as .npz, and pickled networks and estimators, all written by fastmlp
before its modules were reorganized (commit a9ca515; format_1.npz is from commit 5ca4d4f). All were trained on the same
24 rows. expected.npz in it holds these rows and, for each file, one flat array: the parameters (weights, then biases),
then the predictions, then the probabilities if there are any.
"""

import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from fastmlp import MLP, MLPClassifier, MLPRegressor, reference, schedules

ARCHIVE = Path(__file__).resolve().parent / "data" / "old" / "old.tar.xz"

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore::sklearn.exceptions.InconsistentVersionWarning"
)

PLAIN = ("format_1", "plain_softmax", "plain_logistic_one_output")
TRAINED = {  # files with the state of training, and the schedule that each was trained with
    "adam_softmax_dropout": None,
    "momentum_identity": lambda step: 1 / (1 + step / 100),
    "rmsprop_logistic_float64": None,
    "adagrad_exp": None,
    "nesterov_plateau_float64": schedules.ReduceOnPlateau(),
    "adamw_every_setting": schedules.Cosine(),
}
NETWORKS = {  # pickled networks
    "mlp_adam": None,
    "mlp_sgd_identity": schedules.OneCycle(),
    "reference_rmsprop_float64": None,
}
PARTIAL = (  # pickled estimators that partial_fit trains further
    "classifier_adam_partial_fit",
    "classifier_sgd_momentum_partial_fit",
    "classifier_labels_dropout_partial_fit",
    "regressor_adam_partial_fit_float32",
    "regressor_poisson_two_outputs",
)
WARM = (  # pickled estimators with warm_start=True
    "classifier_adam_warm_start_float32",
    "classifier_lbfgs_warm_start",
    "classifier_own_optimizer",
    "regressor_sgd_warm_start",
)
FITTED = ("classifier_adam", "classifier_two_classes_early_stopping", "regressor_adam", "regressor_lbfgs")
ESTIMATORS = (*PARTIAL, *WARM, *FITTED)


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as tar:
        tar.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def expected(old):
    with np.load(old / "expected.npz") as arrays:
        return dict(arrays)


def unpickle(path):
    return pickle.loads(path.read_bytes())


def parameters(trained):
    if hasattr(trained, "coefs_"):
        return [*trained.coefs_, *trained.intercepts_]
    return [*trained.weights, *trained.biases]


def as_trained_on(trained, X):
    """Return the rows in the form in which they were given to this network or estimator."""
    if getattr(trained, "input_scale", 1.0) != 1.0:
        return np.rint(np.clip(X * 40 + 120, 0, 255)).astype(np.uint8)
    return X.astype(parameters(trained)[0].dtype)


def target(trained, z):
    """Return what this network or estimator was trained to predict from z, a linear function of the rows."""
    if hasattr(trained, "classes_"):
        if trained.out_activation_ == "softmax":
            return trained.classes_[z.argmax(axis=1)]
        return z[:, 0] > 0 if trained.n_outputs_ == 1 else (z > 0).astype(int)
    if isinstance(trained, MLPRegressor):
        return z[:, 0] if trained.n_outputs_ == 1 else counts(z[:, :2])
    n_outputs = trained.layers[-1]
    if trained.output == "softmax":
        return z.argmax(axis=1)
    z = z[:, :n_outputs]
    y = {"logistic": (z > 0).astype(int), "identity": z, "exp": counts(z)}[trained.output]
    return y[:, 0] if n_outputs == 1 else y


def counts(z):
    return np.floor(np.exp(np.clip(z / 2, -3, 2)))


def check(trained, expected, name):
    """Compare parameters, predictions and probabilities with the stored ones."""
    X, stored = as_trained_on(trained, expected["X"]), expected[name]
    for parameter in parameters(trained):
        same, stored = np.split(stored, [parameter.size])
        np.testing.assert_array_equal(parameter.ravel(), same)
    predicted = trained.predict(X)
    if hasattr(trained, "classes_") and predicted.ndim == 1:
        predicted = np.searchsorted(trained.classes_, predicted)
    same, stored = np.split(stored, [predicted.size])
    exact = getattr(trained, "output", getattr(trained, "out_activation_", "")) != "exp"
    # The bits of exp and tanh may differ between processors; labels and linear outputs do not.
    np.testing.assert_allclose(predicted.ravel(), same, rtol=0 if exact else 1e-6)
    if stored.size:
        np.testing.assert_allclose(trained.predict_proba(X).ravel(), stored, rtol=0, atol=1e-6)


def loss(net, X, y):
    return net.evaluate(X, y)["loss"]


LOOPS_OF_THEIR_OWN = ("adagrad_exp", "adamw_every_setting")  # which no other test compiles


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *((reference.MLP, name) for name in (*PLAIN, *TRAINED)),
        *(
            pytest.param(MLP, name, marks=[pytest.mark.slow] * (name in LOOPS_OF_THEIR_OWN))
            for name in (*PLAIN, *TRAINED)
        ),
    ],
)
def test_saved_networks(name, kind, old, expected):
    net = kind.load(old / f"{name}.npz")
    if kind is MLP or net.output != "identity":  # the sums of NumPy have an order of their own
        check(net, expected, name)
    assert (len(net.history.loss) > 0) == (name in TRAINED)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *((reference.MLP, name) for name in TRAINED),
        *(pytest.param(MLP, name, marks=pytest.mark.slow) for name in ("adam_softmax_dropout", "momentum_identity")),
    ],
)
def test_training_of_saved_networks_continues(name, kind, old, expected):
    net = kind.load(old / f"{name}.npz")
    resume(net, TRAINED[name], expected)


def resume(net, schedule, expected):
    X, y = as_trained_on(net, expected["X"]), target(net, expected["z"])
    before, done = loss(net, X, y), len(net.history.loss)
    fraction = 0.25 if net.history.val_loss else None
    net.fit(X, y, epochs=done + 20, batch_size=8, schedule=schedule, validation_fraction=fraction, resume=True)
    assert len(net.history.loss) == done + 20
    assert loss(net, X, y) < before


@pytest.mark.parametrize("name", [*NETWORKS, "mlp_untrained"])
def test_pickled_networks(name, old, expected):
    net = unpickle(old / f"{name}.pkl")
    assert type(net) is (reference.MLP if name.startswith("reference") else MLP)
    check(net, expected, name)


@pytest.mark.parametrize("name", NETWORKS)
def test_training_of_pickled_networks_continues(name, old, expected):
    resume(unpickle(old / f"{name}.pkl"), NETWORKS[name], expected)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_pickled_estimators(name, old, expected):
    estimator = unpickle(old / f"{name}.pkl")
    assert type(estimator) is (MLPClassifier if name.startswith("classifier") else MLPRegressor)
    check(estimator, expected, name)
    X, y = as_trained_on(estimator, expected["X"]), target(estimator, expected["z"])
    assert np.isfinite(estimator.score(X, y))


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [*PARTIAL, *WARM])
def test_training_of_pickled_estimators_continues(name, compiled, old, expected, monkeypatch):
    estimator = unpickle(old / f"{name}.pkl")
    if not compiled:
        monkeypatch.setattr(type(estimator), "_network_class", reference.MLP)
    X, y = as_trained_on(estimator, expected["X"]), target(estimator, expected["z"])
    before, curve = estimator.loss_, list(getattr(estimator, "loss_curve_", []))
    for _ in range(10 if name in PARTIAL else 1):
        estimator.partial_fit(X, y) if name in PARTIAL else estimator.set_params(max_iter=20).fit(X, y)
    assert estimator.loss_ < before
    assert getattr(estimator, "loss_curve_", [])[: len(curve)] == curve


def test_other_pickled_objects(old):
    """Whatever users pickle beside a network: its history and state, optimizers, schedules and callbacks."""
    objects = unpickle(old / "everything.pkl")
    assert objects["history"].loss[-1] < objects["history"].loss[0]
    net = reference.MLP([7, 5, 3])
    net.load_state_dict(objects["state_dict"])
    assert net.history.loss == objects["history"].loss
    for group in ("optimizers", "schedules", "callbacks"):
        for thing in objects[group]:
            assert vars(pickle.loads(pickle.dumps(thing))).keys() == vars(thing).keys()
    for optimizer in objects["optimizers"]:
        net.fit(np.eye(7), np.arange(7) % 3, epochs=1, optimizer=optimizer)
    for schedule in objects["schedules"]:
        if isinstance(schedule, schedules.Schedule) and hasattr(schedule, "at"):
            net.fit(np.eye(7), np.arange(7) % 3, epochs=2, schedule=schedule, validation_fraction=0.3)

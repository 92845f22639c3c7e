"""Estimators as those of scikit-learn and back, and the network inside."""

import copy
import warnings

import numpy as np
import pytest
from sklearn import neural_network
from sklearn.datasets import make_multilabel_classification
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support.fitted import DIGITS, IRIS, NUMBER, brief, compiled, fitted, network, one_thread
from support.nets import refused

import fastmlp
from fastmlp import MLPClassifier, MLPRegressor, reference
from fastmlp.callbacks import EarlyStopping
from fastmlp.optimizers import AdamW
from fastmlp.schedules import Cosine

__all__ = ["network", "one_thread"]  # fixtures

X, Y = IRIS
TWO = X[:100], Y[:100]
LABELS = make_multilabel_classification(120, n_features=4, n_classes=3, random_state=0)
TASKS = {
    "classes": (MLPClassifier, IRIS, {}),
    "strings": (MLPClassifier, (X, np.array(["a", "b", "c"])[Y]), {}),
    "two classes": (MLPClassifier, (TWO[0], TWO[1].astype(bool)), {}),
    "one class": (MLPClassifier, (X, np.full(len(X), 7)), {}),
    "labels": (MLPClassifier, LABELS, {}),
    "number": (MLPRegressor, (X[:, :3], X[:, 3]), {}),
    "numbers": (MLPRegressor, (X[:, :2], X[:, 2:]), {}),
    "counts": (MLPRegressor, (X, Y), {"loss": "poisson"}),
}
each_task = pytest.mark.parametrize("task", TASKS)
needs_poisson = pytest.mark.skipif(
    "loss" not in neural_network.MLPRegressor().get_params(), reason="this scikit-learn has no poisson loss"
)
TASKS_MARKED = [pytest.param(task, marks=needs_poisson) if task == "counts" else task for task in TASKS]
each_task = pytest.mark.parametrize("task", TASKS_MARKED)


def theirs(kind):
    return getattr(neural_network, kind.__name__)


def start(task, **settings):
    kind, data, more = TASKS[task]
    return fitted(kind, data, **more, **settings), data[0]


def assert_same_predictions(one, other, X, tolerance=4e-16):
    np.testing.assert_array_equal(one.classes_, other.classes_) if hasattr(one, "classes_") else None
    if hasattr(one, "predict_proba"):
        assert one.predict(X).dtype == other.predict(X).dtype
        np.testing.assert_array_equal(one.predict(X), other.predict(X))
        np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X), rtol=0, atol=tolerance)
    else:
        np.testing.assert_allclose(one.predict(X), other.predict(X), rtol=tolerance, atol=tolerance)


# --- there and back ---------------------------------------------------------------------------------------------------


@each_task
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_predictions_are_those_of_scikit_learn(task, activation):
    own, X = start(task, activation=activation)
    twin = own.to_sklearn()
    assert type(twin) is theirs(type(own))
    assert_same_predictions(own, twin, X, 2e-15)
    back = type(own).from_sklearn(twin)
    assert type(back) is type(own)
    assert_same_predictions(back, twin, X, 2e-15)


@compiled
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-14)])
def test_predictions_of_the_compiled_network(dtype, tolerance):
    data = DIGITS[0].astype(dtype), DIGITS[1]
    own = fitted(MLPClassifier, data, max_iter=2)
    assert_same_predictions(own, own.to_sklearn(), data[0], tolerance)
    twin = fitted(neural_network.MLPClassifier, data, max_iter=2)
    assert_same_predictions(MLPClassifier.from_sklearn(twin), twin, data[0], tolerance)


@each_task
def test_every_attribute_goes_there_and_back(task):
    own, _ = start(task, early_stopping=task == "classes", n_threads=1)
    back = type(own).from_sklearn(own.to_sklearn())
    assert back.get_params() == own.get_params() | {"n_threads": None}
    ours, others = own.__getstate__(), back.__getstate__()
    for name in ours.keys() | others.keys():
        if name.endswith("_") and name not in ("validation_loss_curve_", "n_iter_no_change"):
            np.testing.assert_equal(others[name], ours[name], err_msg=name)


def test_names_of_columns_are_kept():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(X, columns=list("abcd"))
    own = fitted(MLPClassifier, (table, Y))
    twin = own.to_sklearn()
    np.testing.assert_array_equal(twin.predict(table), own.predict(table))
    with pytest.raises(ValueError, match="feature names"):
        twin.predict(table[["d", "c", "b", "a"]])
    assert [*MLPClassifier.from_sklearn(twin).feature_names_in_] == list("abcd")


def test_nothing_is_shared():
    own, X = start("classes")
    twin = own.to_sklearn()
    back = MLPClassifier.from_sklearn(twin)
    before = own.predict_proba(X)
    for array in (*twin.coefs_, *twin.intercepts_):
        array[...] = 0
    twin.classes_[:] = 9
    back.partial_fit(X, Y)
    np.testing.assert_array_equal(own.predict_proba(X), before)
    assert not twin.coefs_[0].any()


@pytest.mark.parametrize("width", [1, 7, 13, 130])
def test_parameters_are_whole_arrays(width):
    """Those of the compiled network are views with padding between their rows."""
    own = fitted(MLPClassifier, hidden_layer_sizes=(width,), max_iter=1)
    own._network_class = fastmlp.MLP
    own = copy.deepcopy(own)
    own.predict(X)
    twin = own.to_sklearn()
    assert all(array.flags.c_contiguous and array.flags.owndata for array in twin.coefs_)
    assert_same_predictions(own, twin, X, 1e-14)


def test_without_hidden_layers():
    own = fitted(MLPClassifier, hidden_layer_sizes=())
    assert_same_predictions(own, own.to_sklearn(), X)


def test_what_was_assigned_is_converted():
    own, X = start("classes", hidden_layer_sizes=(8, 3))
    own.coefs_[0] = np.zeros((4, 8))
    own.out_activation_ = "logistic"
    np.testing.assert_allclose(own.to_sklearn().predict_proba(X), own.predict_proba(X), rtol=1e-14)
    own.n_layers_ = 3
    own.intercepts_[1] = own.intercepts_[1][:1]
    twin = own.to_sklearn()
    assert (twin.n_layers_, len(twin.coefs_)) == (3, 2)
    np.testing.assert_allclose(twin.predict_proba(X), own.predict_proba(X), rtol=1e-14)
    cut = fitted(neural_network.MLPClassifier, hidden_layer_sizes=(3, 3))
    cut.n_layers_ = 3
    assert_same_predictions(MLPClassifier.from_sklearn(cut), cut, X)


# --- training continues -----------------------------------------------------------------------------------------------

SOLVERS = {
    "adam": {},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False},
    "nesterov": {"solver": "sgd"},
    "plain": {"solver": "sgd", "momentum": 0},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 9, "n_iter_no_change": 1},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling"},
}


@brief
@pytest.mark.parametrize("begun_with", ["fit", "partial_fit"])
@pytest.mark.parametrize("settings", SOLVERS.values(), ids=SOLVERS)
@pytest.mark.parametrize("task", ["strings", "labels", "numbers"])
def test_partial_fit_continues_on_both_sides(task, settings, begun_with):
    """With the state of the optimizer: where it began anew, parameters would differ in the third digit."""
    kind, (X, y), _ = TASKS[task]
    settings = {"hidden_layer_sizes": (5,), "random_state": 0, "max_iter": 4, "batch_size": 50} | settings
    own, other = kind(**settings), theirs(kind)(**settings)
    for each in (own, other):
        if begun_with == "fit":
            each.fit(X, y)
        else:
            each.partial_fit(
                X, y, **({"classes": np.arange(3) if y.ndim == 2 else np.unique(y)} if kind is MLPClassifier else {})
            )
    followers = [own, own.to_sklearn(), kind.from_sklearn(other), kind.from_sklearn(own.to_sklearn())]
    for _ in range(3):
        other.partial_fit(X, y)
        for each in followers:
            each.partial_fit(X, y)
            for p, q in zip(each.coefs_ + each.intercepts_, other.coefs_ + other.intercepts_, strict=True):
                np.testing.assert_allclose(p, q, rtol=1e-9, atol=1e-9)


@brief
@pytest.mark.parametrize("settings", [{}, {"solver": "lbfgs"}, {"early_stopping": True}], ids=["adam", "lbfgs", "stop"])
def test_a_warm_start_goes_on(settings):
    own = fitted(MLPClassifier, IRIS, warm_start=True, **settings)
    losses = own.loss_
    twin = own.to_sklearn()
    back = MLPClassifier.from_sklearn(twin)
    for each in (twin, back):
        each.fit(X, Y)
        assert each.loss_ < losses * 1.05


# --- what is refused or left out --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"activation": "gelu"}, "scikit-learn has no activation 'gelu', but identity, "),
        ({"activation": ["relu", "silu"]}, "scikit-learn has no activation 'silu', but identity, "),
        (
            {"activation": ["relu", "tanh"]},
            "scikit-learn has one activation for all hidden layers, not 'relu' and 'tan",
        ),
    ],
)
def test_what_scikit_learn_cannot_predict_is_refused(settings, message):
    own = fitted(MLPClassifier, hidden_layer_sizes=(3, 3), **settings)
    with refused(ValueError, message):
        own.to_sklearn()


def test_an_output_that_scikit_learn_does_not_have():
    own = fitted(MLPRegressor, NUMBER)
    own.out_activation_ = "elu"
    with refused(ValueError, "scikit-learn has no out_activation_ 'elu'"):
        own.to_sklearn()


def test_one_activation_in_a_list_is_no_hindrance():
    own = fitted(MLPClassifier, hidden_layer_sizes=(3, 3), activation=["tanh", "tanh"])
    assert own.to_sklearn().activation == "tanh"


def test_what_scikit_learn_cannot_train_is_left_out_with_a_warning():
    own = fitted(
        MLPClassifier, dropout=[0.5], class_weight="balanced", scoring="accuracy", solver=AdamW(), callbacks=[],
        learning_rate=Cosine(), n_threads=1, dtype="float32",
    )  # fmt: skip
    expected = r"cannot train with dropout=\[0.5\], class_weight='balanced', scoring='accuracy', solver=AdamW.*, a s"
    with pytest.warns(UserWarning, match=expected) as caught:
        twin = own.to_sklearn()
    assert caught[0].filename == __file__
    assert (twin.solver, twin.learning_rate) == ("adam", "constant")
    twin.set_params(max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        twin.fit(X, Y)
    callbacks = fitted(MLPClassifier)
    callbacks.callbacks = [EarlyStopping()]
    with pytest.warns(UserWarning, match="cannot train with callbacks="):
        callbacks.to_sklearn()


@brief
def test_other_objects_are_refused():
    pipeline = make_pipeline(StandardScaler(), neural_network.MLPClassifier((3,), max_iter=2)).fit(X, Y)
    regressor = fitted(neural_network.MLPRegressor, NUMBER)
    own = fitted(MLPClassifier)
    expected = "estimator must be a fitted MLPClassifier of scikit-learn, not "
    for wrong, name in [
        (pipeline, "sklearn's Pipeline; pass its last step"),
        (regressor, "sklearn's MLPRegressor"),
        (own, "fastmlp's MLPClassifier"),
        (None, "NoneType"),
    ]:
        with refused(TypeError, expected + name):
            MLPClassifier.from_sklearn(wrong)
    for wrong in (pipeline, None, StandardScaler()):
        with refused(TypeError, "estimator must be a fitted MLPClassifier or MLPRegressor of scikit-learn or fastmlp"):
            reference.MLP.from_sklearn(wrong)
    for call in (
        lambda: MLPClassifier.from_sklearn(neural_network.MLPClassifier()),
        lambda: MLPClassifier().to_sklearn(),
        lambda: MLPClassifier().network_,
        lambda: MLPClassifier().hidden_activations(X),
        lambda: reference.MLP.from_sklearn(MLPRegressor()),
        lambda: reference.MLP.from_sklearn(neural_network.MLPRegressor()),
    ):
        with pytest.raises(NotFittedError):
            call()
    broken = fitted(neural_network.MLPClassifier)
    broken.coefs_[0] = np.zeros((4, 5))
    with refused(ValueError, "coefs_[1] has the shape (8, 3), but coefs_[0] has the shape (4, 5)"):
        MLPClassifier.from_sklearn(broken)


# --- the network ------------------------------------------------------------------------------------------------------


@each_task
def test_the_network_predicts_as_the_estimator(task):
    own, X = start(task)
    net = own.network_
    if task == "one class":  # a network has two classes
        assert net.classes is None
        return
    np.testing.assert_array_equal(net.predict(X), own.predict(X))
    if net.output in ("softmax", "logistic"):
        np.testing.assert_allclose(net.predict_proba(X), own.predict_proba(X), rtol=1e-15)
    for source in (own, own.to_sklearn()):
        again = reference.MLP.from_sklearn(source)
        assert type(again) is reference.MLP
        assert repr(again) == repr(net)
        np.testing.assert_array_equal(again.predict(X), net.predict(X))


@compiled
def test_the_network_is_compiled():
    own = fitted(MLPClassifier, max_iter=3)
    assert type(own.network_) is fastmlp.MLP
    np.testing.assert_array_equal(fastmlp.MLP.from_sklearn(own).predict(X), own.predict(X))


@pytest.mark.parametrize("labels", [["a", "b", "c"], [5, 7, 9], [1.0, 2.0, 4.0], np.array(["x", "yy", "é"], object)])
def test_files_keep_names(tmp_path, labels):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(X, columns=list("abcd"))
    own = fitted(MLPClassifier, (table, np.array(labels)[Y]))
    own.network_.save(tmp_path / "net.npz")
    net = reference.MLP.load(tmp_path / "net.npz")
    assert net.feature_names == list("abcd")
    np.testing.assert_array_equal(net.predict(table), own.predict(table))
    assert net.score(table, own.predict(table)) == 1


def test_the_network_is_independent():
    own, X = start("classes")
    before, net = own.predict_proba(X), own.network_
    assert net.history.loss
    net.weights[0][:] = 0
    net.fit(X, Y, epochs=1)
    np.testing.assert_array_equal(own.predict_proba(X), before)


def test_an_output_that_no_network_has():
    own = fitted(MLPClassifier)
    own.out_activation_ = "relu"
    with refused(ValueError, "out_activation_ is 'relu', which no network has as its output; assign 'softmax' first"):
        own.network_  # noqa: B018


# --- hidden activations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [MLPClassifier, neural_network.MLPClassifier])
def test_hidden_activations_are_those_of_scikit_learn(kind):
    estimator = fitted(kind, hidden_layer_sizes=(7, 5), activation="tanh")
    own = MLPClassifier.from_sklearn(estimator) if kind is not MLPClassifier else estimator
    expected = [X]
    twin = own.to_sklearn()
    expected = twin._forward_pass([X] + [None] * 3)[1:-1]
    hidden = own.hidden_activations(X)
    assert [h.shape for h in hidden] == [(150, 7), (150, 5)]
    for h, e in zip(hidden, expected, strict=True):
        np.testing.assert_allclose(h, e, rtol=1e-13)
    with refused(ValueError, "X has 3 features"):
        own.hidden_activations(X[:, :3])

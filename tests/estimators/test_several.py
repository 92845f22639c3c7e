"""Estimators with several networks."""

import copy
import pickle
import signal

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.utils.estimator_checks import parametrize_with_checks
from support.fitted import DIGITS, IRIS, NUMBER, brief, fitted, network, one_thread, ours, same_bits  # noqa: F401
from support.names import same_everywhere
from support.nets import AtEpochEnd, raise_broken, refused

from fastmlp import MLP, MLPClassifier, MLPRegressor, reference
from fastmlp.callbacks import CSVLog, EarlyStopping
from fastmlp.schedules import Cosine

pytestmark = brief

X, Y = IRIS
TWO = X[:100], np.array(["no", "yes"])[Y[:100]]
COUNTS = NUMBER[0], np.round(NUMBER[1] * 3)
LABELS = make_multilabel_classification(80, n_classes=3, random_state=0)
KINDS = {
    "classes": (MLPClassifier, IRIS, {}),
    "two": (MLPClassifier, TWO, {}),
    "labels": (MLPClassifier, LABELS, {}),
    "number": (MLPRegressor, NUMBER, {}),
    "numbers": (MLPRegressor, (X, X[:, :2]), {}),
    "counts": (MLPRegressor, COUNTS, {"loss": "poisson"}),
}
each_kind = pytest.mark.parametrize("name", KINDS)
IN_FEW_EPOCHS = {"learning_rate_init": 0.03, "n_iter_no_change": 3, "tol": 0.01}
settings_of_fits = pytest.mark.parametrize(
    "settings",
    [
        {},
        {"solver": "sgd", "learning_rate": "adaptive"},
        {"solver": "lbfgs"},
        {"dropout": 0.2},
        {"learning_rate": Cosine()},
        {"callbacks": [EarlyStopping("loss", patience=1)]},
    ],
    ids=same_everywhere,
)


def several(kind=MLPClassifier, data=IRIS, **settings):
    return fitted(kind, data, **{"n_networks": 3} | settings)


def of_kind(name, **settings):
    kind, data, more = KINDS[name]
    return several(kind, data, **more, **settings)


def all_same(one, other):
    return all(same_bits(a, b) for a, b in zip(one.estimators_, other.estimators_, strict=True))


@pytest.mark.filterwarnings("ignore:.*batch_size.*:UserWarning", "ignore:X does not have valid feature:UserWarning")
@parametrize_with_checks([kind(n_networks=2, **IN_FEW_EPOCHS) for kind in (MLPClassifier, MLPRegressor)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


# --- the networks -----------------------------------------------------------------------------------------------------


@settings_of_fits
@ours
def test_a_network_is_that_of_a_fit_alone(kind, settings):
    model = several(kind, **settings)
    assert [member.n_networks for member in model.estimators_] == [1] * 3
    for member in model.estimators_:
        assert isinstance(member.random_state, int)
        assert same_bits(member, fitted(kind, random_state=member.random_state, **settings))
        assert not hasattr(member, "estimators_")
    assert not same_bits(*model.estimators_[:2])
    assert model.n_iter_ == max(member.n_iter_ for member in model.estimators_)


def test_a_network_is_the_same_beside_more():
    assert all(map(same_bits, several().estimators_, several(n_networks=5).estimators_))


def test_random_states():
    assert all_same(several(random_state=3), several(random_state=3))
    assert all_same(several(random_state=np.random.RandomState(3)), several(random_state=np.random.RandomState(3)))
    for random_state in (None, np.random.RandomState(3)):
        model = several(random_state=random_state)
        assert isinstance(model.estimators_[0].random_state, np.random.RandomState)
        assert not all_same(model, several(random_state=random_state))


def test_one_network_has_no_estimators():
    model = fitted(n_networks=1)
    assert same_bits(model, fitted())
    assert vars(model).keys() == vars(fitted()).keys()


@pytest.mark.parametrize("n", [0, 2.5, "3", None])
def test_wrong_numbers_of_networks(n):
    with refused(ValueError, "The 'n_networks' parameter of MLPClassifier must be an int in the range [1, inf)"):
        MLPClassifier(n_networks=n).fit(*IRIS)


@pytest.mark.parametrize("form", [np.asarray, np.asfortranarray, sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_rows_are_converted_once(monkeypatch, form, early_stopping):
    seen, prepare = [], reference.NumPyEngine.prepare

    def note(self, X, *more, **settings):
        seen.append(X)
        return prepare(self, X, *more, **settings)

    monkeypatch.setattr(reference.NumPyEngine, "prepare", note)
    several(data=(form(X), Y), dtype="float32", early_stopping=early_stopping)
    assert len(seen) == 3
    assert seen[0] is seen[1] is seen[2]


# --- predictions ------------------------------------------------------------------------------------------------------


@each_kind
def test_predictions_are_the_mean_and_have_the_form_of_y(name):
    model, (rows, y) = of_kind(name), KINDS[name][1]
    predicted, alone = model.predict(rows), model.estimators_[0].predict(rows)
    assert (predicted.shape, predicted.dtype) == (alone.shape, alone.dtype)
    if isinstance(model, MLPRegressor):
        mean = np.mean([member.predict(rows) for member in model.estimators_], axis=0)
        np.testing.assert_allclose(predicted, mean, rtol=1e-12)
    else:
        p = model.predict_proba(rows)
        mean = sum(member.predict_proba(rows) for member in model.estimators_) / 3
        np.testing.assert_array_equal(p, mean)
        np.testing.assert_array_equal(model.predict_log_proba(rows), np.log(p))
        expected = (p > 0.5) if name == "labels" else model.classes_[p.argmax(axis=1)]
        np.testing.assert_array_equal(predicted, expected)
    assert model.score(rows, y) == pytest.approx(model.score(rows, y, sample_weight=np.ones(len(y))))


def test_one_class():
    assert several(data=(X, np.full(150, "a"))).predict(X).tolist() == ["a"] * 150


def test_float32_stays():
    model = several(data=(X.astype("float32"), Y))
    assert model.predict_proba(X).dtype == np.float32
    assert model.set_params(n_threads=1).predict_proba(X).dtype == np.float32
    assert model.estimators_[2].n_threads == 1


def test_names_of_columns():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(X, columns=list("abcd"))
    model = MLPClassifier((5,), max_iter=2, n_networks=2, random_state=0).fit(table, Y, X_val=table, y_val=Y)
    assert model.feature_names_in_.tolist() == list("abcd")
    assert model.score(table, Y) == model.score(table.astype("float64"), Y)
    assert len(model.estimators_[1].validation_scores_) == 2
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(table[list("badc")])
    with pytest.warns(UserWarning, match="valid feature names"), pytest.raises(ValueError, match="X has 3 features"):
        model.predict(table[list("abc")].to_numpy())


# --- what belongs to one network --------------------------------------------------------------------------------------


OF_ONE = (
    "coefs_", "intercepts_", "loss_", "t_", "loss_curve_", "best_loss_", "validation_scores_", "validation_loss_curve_",
    "best_validation_score_", "n_layers_", "network_",
)  # fmt: skip


@pytest.mark.parametrize("name", OF_ONE)
def test_attributes_of_one_network_are_those_of_its_estimator(name):
    model = several()
    assert not hasattr(model, name)
    with pytest.raises(AttributeError, match=r"has 3 networks, each with its own \w+: estimators_\[0\] to estimators_"):
        getattr(model, name)
    assert hasattr(model.estimators_[0], name)
    assert not hasattr(MLPClassifier(n_networks=3), name)
    assert name == "network_" or not hasattr(MLPClassifier, name) or name == "n_layers_"


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model.to_sklearn(),
        lambda model: model.hidden_activations(X),
        MLP.from_sklearn,
        pytest.param(lambda model: (pytest.importorskip("onnx"), model.to_onnx()), id="to_onnx"),
    ],
)
def test_methods_of_one_network_are_those_of_its_estimator(call):
    with refused(ValueError, "this model has 3 networks, each with its own"):
        call(several())
    call(several().estimators_[0])


def test_the_activation_of_the_outputs_is_that_of_each_network():
    model = several()
    model.out_activation_ = "tanh"
    with refused(ValueError, "assign it to each of estimators_ instead"):
        model.predict(X)
    model = several()
    model.estimators_[1].out_activation_ = "tanh"
    mean = sum(member.predict_proba(X) for member in model.estimators_) / 3
    np.testing.assert_array_equal(model.predict_proba(X), mean)
    with refused(ValueError, "out_activation_ is 'tanh', which only predictions can use"):
        model.partial_fit(*IRIS)


@ours
@pytest.mark.parametrize("numbers", [(1, 3), (3, 1), (3, 2)])
def test_another_fit_forgets_the_networks_before(kind, numbers):
    first, then = numbers
    model = fitted(kind, n_networks=first)
    model.set_params(n_networks=then)
    assert model._n_fitted == first
    model.predict(X)
    model.fit(*IRIS)
    assert vars(model).keys() - {"_no_improvement_count", "_n_fitted_layers", "_seed"} == vars(
        fitted(kind, n_networks=then)
    ).keys() - {"_no_improvement_count", "_n_fitted_layers", "_seed"}
    expected = fitted(kind, n_networks=then)
    np.testing.assert_array_equal(model.predict(X), expected.predict(X))


@pytest.mark.parametrize("numbers", [(1, 3), (3, 1), (3, 2), (2, 3)])
def test_training_continues_with_as_many_networks(numbers):
    model = fitted(n_networks=numbers[0])
    before = pickle.dumps(model)
    model.set_params(n_networks=numbers[1], warm_start=True)
    message = f"n_networks is {numbers[1]}, but the model has {numbers[0]}"
    with refused(ValueError, message):
        model.fit(*IRIS)
    with refused(ValueError, message):
        model.partial_fit(*IRIS)
    assert pickle.dumps(model.set_params(n_networks=numbers[0], warm_start=False)) == before


# --- training ---------------------------------------------------------------------------------------------------------


@ours
def test_early_stopping_holds_out_the_same_rows_for_all(kind):
    model = several(kind, early_stopping=True, max_iter=30, n_iter_no_change=2)
    train, val = train_test_split(np.arange(150), random_state=0, test_size=0.1)
    for member in model.estimators_:
        alone = kind(
            hidden_layer_sizes=8, max_iter=30, early_stopping=True, n_iter_no_change=2, random_state=member.random_state
        )
        alone.fit(X[train], Y[train], X_val=X[val], y_val=Y[val])
        assert same_bits(member, alone)
        assert member.best_validation_score_ == alone.best_validation_score_


def test_validation_data_of_ones_own():
    model = fitted(n_networks=2, max_iter=3)
    model.fit(X, Y, X_val=X[:20], y_val=Y[:20], sample_weight_val=np.arange(20))
    assert [len(member.validation_scores_) for member in model.estimators_] == [3, 3]


def test_weights_of_rows_and_classes():
    weights = np.arange(150) % 3 + 1.0
    model = MLPClassifier((5,), max_iter=3, n_networks=2, random_state=0, class_weight="balanced")
    model.fit(X, Y, sample_weight=weights)
    for member in model.estimators_:
        alone = clone(model).set_params(n_networks=1, random_state=member.random_state)
        assert same_bits(member, alone.fit(X, Y, sample_weight=weights))


@pytest.mark.parametrize("n", [1, 2])
def test_what_is_missing_for_another_reason_says_so(n):
    model = several(solver="lbfgs", n_networks=n)
    with pytest.raises(AttributeError, match="has no attribute 'partial_fit'") as info:
        model.partial_fit(*IRIS)
    assert "lbfgs is not stochastic" in str(info.value.__cause__)
    with pytest.raises(AttributeError, match="object has no attribute 'coef_'"):
        _ = model.coef_


@ours
@pytest.mark.parametrize("random_state", [0, None])
def test_partial_fit_trains_all_networks(kind, random_state):
    first = {"classes": [0, 1, 2]} if kind is MLPClassifier else {}
    model = kind(hidden_layer_sizes=5, n_networks=2, random_state=random_state)
    model.partial_fit(*IRIS, **first)
    members = model.estimators_
    alone = copy.deepcopy(members)
    for _ in range(2):
        model.partial_fit(*IRIS)
        assert model.estimators_ == members
        for one, member in zip(alone, members, strict=True):
            assert same_bits(one.partial_fit(*IRIS), member)
    assert [len(member.loss_curve_) for member in members] == [3, 3]
    model.set_params(learning_rate_init=1e-9).partial_fit(*IRIS)
    assert members[0].learning_rate_init == 1e-9


def test_warm_start_continues_all_networks():
    model = several(warm_start=True, max_iter=4)
    alone = copy.deepcopy(model.estimators_)
    model.fit(*IRIS)
    for one, member in zip(alone, model.estimators_, strict=True):
        assert same_bits(one.fit(*IRIS), member)
        assert len(member.loss_curve_) == 8


@ours
def test_copies_and_pickles_go_on_as_the_first(kind):
    model = several(kind, warm_start=True)
    for twin in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        before = pickle.dumps(model)
        twin.fit(*IRIS)
        assert pickle.dumps(model) == before
        assert all_same(copy.deepcopy(model).fit(*IRIS), twin)
    assert not hasattr(clone(model), "estimators_")
    assert all_same(clone(model).fit(*IRIS), several(kind, warm_start=True))


def test_searches_vary_the_number():
    search = GridSearchCV(MLPClassifier((5,), max_iter=5, random_state=0), {"n_networks": [1, 2, 3]}, cv=2)
    search.fit(*IRIS)
    assert search.best_estimator_._n_fitted == search.best_params_["n_networks"]


# --- callbacks and reports --------------------------------------------------------------------------------------------


def test_each_network_has_its_own_callbacks():
    early = EarlyStopping("loss", patience=2)
    model = several(callbacks=[early], max_iter=4)
    assert early.best_epoch == 0
    assert model.callbacks == [early]
    assert [member.callbacks[0].best_epoch for member in model.estimators_] == [4, 4, 4]


def test_callbacks_that_write_to_one_file_are_refused(tmp_path):
    model = several()
    before = pickle.dumps(model)
    with refused(ValueError, "would write to the same place; use n_networks=1, or fastmlp.Ensemble"):
        model.set_params(callbacks=[CSVLog(tmp_path / "log.csv")]).fit(*IRIS)
    with refused(TypeError, "EarlyStopping is a class"):
        model.set_params(callbacks=[EarlyStopping]).fit(*IRIS)
    assert pickle.dumps(model.set_params(callbacks=None)) == before


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_lines_name_the_network(capsys, solver):
    several(verbose=1, max_iter=2, solver=solver)
    lines = sorted(capsys.readouterr().out.splitlines())
    assert [line.partition(": Iteration")[0] for line in lines] == [f"Network {i}" for i in (1, 1, 2, 2, 3, 3)]


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        lambda model: model.fit(X, Y[:9]),
        lambda model: model.fit(np.full_like(X, np.nan), Y),
        lambda model: model.set_params(batch_size=0).fit(X, Y),
        lambda model: model.set_params(callbacks=[AtEpochEnd(0)]).fit(X, Y),
        lambda model: model.set_params(warm_start=True).fit(X[:, :3], Y),
        lambda model: model.set_params(warm_start=True).fit(X[:100], Y[:100]),
        lambda model: model.set_params(warm_start=True, learning_rate=lambda step: 1 / 0).fit(X, Y),
        lambda model: model.partial_fit(X, Y + 9),
        lambda model: model.fit(X, Y, X_val=X),
        lambda model: model.set_params(early_stopping=True).partial_fit(X, Y),
    ],
)
def test_a_fit_that_is_refused_changes_nothing(wrong):
    model = several()
    settings, before = model.get_params(), copy.deepcopy(model)
    with pytest.raises((ValueError, TypeError, ZeroDivisionError)):
        wrong(model)
    model.set_params(**settings)
    assert all_same(model, before)
    np.testing.assert_array_equal(model.predict_proba(X), before.predict_proba(X))
    assert vars(model).keys() - {"_checked_parameters"} == vars(before).keys()


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model.fit(X, Y[:9]),
        lambda model: model.set_params(callbacks=[AtEpochEnd(raise_broken)]).partial_fit(X, Y, classes=[0, 1]),
        lambda model: model.set_params(learning_rate=lambda step: 1 / 0).fit(X, Y),
    ],
)
def test_a_first_fit_that_is_refused_leaves_the_model_unfitted(call):
    model = MLPClassifier(n_networks=2)
    with pytest.raises((ValueError, ZeroDivisionError)):
        call(model)
    assert not model._n_fitted
    with pytest.raises(NotFittedError):
        model.predict(X)


def test_a_network_that_diverges_is_an_error():
    with refused(ValueError, "Solver produced non-finite parameter weights"), np.errstate(all="ignore"):
        several(MLPRegressor, (X * 1e30, Y), solver="sgd", learning_rate_init=1e10)


def test_an_error_keeps_the_networks_that_have_begun():
    broken = AtEpochEnd(lambda net, fit: fit.epoch == 2 and raise_broken())
    model = MLPClassifier((5,), n_networks=2, n_threads=1, max_iter=2, random_state=0)
    with pytest.raises(RuntimeError, match="broken") as caught:
        model.set_params(callbacks=[broken]).fit(*IRIS)
    assert caught.value.__notes__ == ["in the fit of estimators_[0]"]
    assert [member.n_iter_ for member in model.estimators_] == [2, 2]
    late = AtEpochEnd(lambda net, fit: raise_broken() if fit.epoch == 1 else None)
    late.on_fit_begin = lambda net, fit: 1 / 0 if late.begun else setattr(late, "begun", True)
    late.begun = False
    with pytest.raises(RuntimeError, match="broken"):
        model.set_params(callbacks=[late]).fit(*IRIS)
    assert len(model.estimators_) == 1


def test_ctrl_c_keeps_the_networks_that_have_begun():
    endless = {"max_iter": 10**6, "tol": 0, "n_iter_no_change": np.inf}
    press = AtEpochEnd(lambda net, fit: fit.epoch == 2 and signal.raise_signal(signal.SIGINT))
    model = MLPClassifier((5,), n_networks=4, n_threads=1, callbacks=[press], random_state=0, **endless)
    with pytest.warns(UserWarning, match="0 of 4 networks are trained, 1 in part and 3 not at all"):
        model.fit(*IRIS)
    assert len(model.estimators_) == 1
    assert model.n_iter_ >= 2
    assert model.predict(X).shape == (150,)
    assert len(model.set_params(callbacks=None, max_iter=2).fit(*IRIS).estimators_) == 4


def test_several_networks_are_better_than_one():
    rows, y = DIGITS
    model = MLPClassifier((16,), max_iter=30, n_networks=5, random_state=0).fit(rows[:250], y[:250])
    scores = [member.score(rows[250:], y[250:]) for member in model.estimators_]
    assert model.score(rows[250:], y[250:]) > np.mean(scores) + 0.01


def test_each_network_warns_that_it_has_not_converged():
    with pytest.warns(ConvergenceWarning, match="Maximum iterations"):
        MLPClassifier((5,), max_iter=2, n_networks=2).fit(*IRIS)

"""The estimators as users of scikit-learn meet them; `test_parity.py` holds their numbers."""

import sys
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn import neural_network as theirs
from sklearn.datasets import make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from support.fitted import (  # noqa: F401
    DIGITS,
    IRIS,
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
from fastmlp.schedules import Cosine

# --- the face ---------------------------------------------------------------------------------------------------------


CHECKED = [MLPClassifier(), MLPRegressor()]
CHECKED_SLOWLY = [kind(solver=solver) for kind in (MLPClassifier, MLPRegressor) for solver in ("sgd", "lbfgs")]
CHECKED_SLOWLY += [kind(n_networks=2) for kind in (MLPClassifier, MLPRegressor)]


@brief
@pytest.mark.filterwarnings("ignore:.*batch_size.*:UserWarning", "ignore:X does not have valid feature:UserWarning")
@parametrize_with_checks(CHECKED)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@compiled
@pytest.mark.slow
@brief
@pytest.mark.filterwarnings("ignore:.*batch_size.*:UserWarning", "ignore:X does not have valid feature:UserWarning")
@parametrize_with_checks([*CHECKED, *CHECKED_SLOWLY])
def test_scikit_learn_checks_of_the_compiled_network(estimator, check):
    check(estimator)


@beside_1_9
@ours
def test_parameters_are_those_of_scikit_learn_and_more(kind):
    mine, given = kind().get_params(), getattr(theirs, kind.__name__)().get_params()
    assert {name: mine[name] for name in given} == given
    more = {"dropout", "scoring", "callbacks", "n_threads", "dtype", "n_networks"}
    assert set(mine) - set(given) == more | ({"class_weight"} if kind is MLPClassifier else set())


@ours
def test_methods_and_attributes_are_there(kind):
    original = getattr(theirs, kind.__name__)
    assert [name for name in dir(original) if not name.startswith("_") and not hasattr(kind, name)] == []
    with pytest.warns(ConvergenceWarning):
        other = original(max_iter=2, early_stopping=True).fit(*IRIS)
    mine = fitted(kind, max_iter=2, early_stopping=True)
    assert [name for name in vars(other) if not name.startswith("_") and not hasattr(mine, name)] == []


def test_positional_arguments():
    assert MLPClassifier((3, 4), "tanh").hidden_layer_sizes == (3, 4)
    assert MLPRegressor("poisson", (3, 4), "tanh").loss == "poisson"


@ours
def test_docstrings_are_whole(kind):
    assert "{" not in kind.__doc__.replace("{array", "").replace("{'", "")
    for name in kind().get_params():
        assert name in kind.__doc__, name


def test_the_html_picture_is_drawn():
    assert "MLPClassifier" in MLPClassifier()._repr_html_()


# --- what a program tests for -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"activation": "ghost"}, "The 'activation' parameter of MLPClassifier must be"),
        ({"solver": "rmsprop"}, "The 'solver' parameter of MLPClassifier must be"),
        ({"learning_rate": "fast"}, "The 'learning_rate' parameter of MLPClassifier must be"),
        ({"alpha": -1}, "The 'alpha' parameter of MLPClassifier must be a float in the range"),
        ({"hidden_layer_sizes": (3, 0)}, "hidden_layer_sizes must be > 0, got [3, 0]."),
        ({"dropout": 1.0}, "The 'dropout' parameter of MLPClassifier must be"),
        ({"hidden_layer_sizes": (3, 4), "activation": ["relu"]}, "activation has 1 entries, but the network has 2"),
        ({"dtype": "float16"}, "The 'dtype' parameter of MLPClassifier must be"),
        ({"dtype": int}, "The 'dtype' parameter of MLPClassifier must be"),
        ({"dtype": np.dtype("int32")}, "The 'dtype' parameter of MLPClassifier must be"),
        ({"activation": []}, "activation has 0 entries, but the network has 1 hidden layers"),
        ({"dropout": [0.1, 0.2]}, "dropout has 2 entries, but the network has 1 hidden layers"),
        ({"dropout": 0.5, "solver": "lbfgs"}, "dropout is for solver='sgd'"),
        ({"callbacks": [list], "solver": "lbfgs"}, "callbacks is for solver='sgd'"),
        ({"learning_rate": Cosine(), "solver": "lbfgs"}, "a schedule as learning_rate is for solver='sgd'"),
        ({"class_weight": {0: -1}}, "class_weight gives -1.0 to class 0, but weights are finite and not negative"),
        ({"class_weight": {2: np.inf}}, "class_weight gives inf to class 2, but weights are finite and not negative"),
    ],
    ids=str,
)
def test_errors(settings, message):
    with refused(ValueError, message):
        MLPClassifier(**settings).fit(*IRIS)


X, Y = IRIS
SAID_BY_BOTH = {
    "other classes": lambda own: own.MLPClassifier(warm_start=True, tol=9).fit(X, Y).fit(X[:100], Y[:100]),
    "new class": lambda own: own.MLPClassifier().partial_fit(X, Y, classes=[0, 1]),
    "new class later": lambda own: own.MLPClassifier().partial_fit(X, Y, classes=[0, 1, 2]).partial_fit(X, Y + 1),
    "no classes": lambda own: own.MLPClassifier().partial_fit(X, Y),
    "partial_fit of lbfgs": lambda own: own.MLPClassifier(solver="lbfgs").partial_fit(X, Y),
    "early stopping": lambda own: own.MLPClassifier(early_stopping=True).partial_fit(X, Y, classes=[0, 1, 2]),
    "partial_fit with early stopping": lambda own: own.MLPRegressor(early_stopping=True).partial_fit(X, Y),
    "fewer features": lambda own: own.MLPRegressor().partial_fit(X, Y).partial_fit(X[:, :2], Y),
    "fewer features to predict": lambda own: own.MLPRegressor().partial_fit(X, Y).predict(X[:, :2]),
    "not fitted": lambda own: own.MLPRegressor().predict(X),
    "not fitted to classify": lambda own: own.MLPClassifier().predict(X),
    "nan": lambda own: own.MLPClassifier().fit(np.where(X > 7, np.nan, X), Y),
    "nan in y": lambda own: own.MLPRegressor().fit(X, np.where(Y == 1, np.nan, Y)),
    "one dimension": lambda own: own.MLPClassifier().fit(X[0], Y),
    "no rows": lambda own: own.MLPClassifier().fit(X[:0], Y[:0]),
    "too few y": lambda own: own.MLPClassifier().fit(X, Y[:10]),
    "several classes": lambda own: own.MLPClassifier().fit(X, np.c_[Y, Y]),
    "too few weights": lambda own: own.MLPRegressor().fit(X, Y, np.ones(3)),
    "layer without units": lambda own: own.MLPRegressor(hidden_layer_sizes=(3, -1)).fit(X, Y),
    "momentum": lambda own: own.MLPRegressor(momentum=2).fit(X, Y),
    "loss": lambda own: own.MLPRegressor(loss="log_loss").fit(X, Y),
    "too little validation data": lambda own: own.MLPClassifier(early_stopping=True, validation_fraction=0.001).fit(
        X, Y
    ),
}


@beside_1_9
@pytest.mark.parametrize("wrong", SAID_BY_BOTH)
def test_errors_are_those_of_scikit_learn(wrong):
    said = []
    for own in (theirs, sys.modules["fastmlp"]):
        with pytest.raises((ValueError, AttributeError)) as caught:
            SAID_BY_BOTH[wrong](own)
        said.append((type(caught.value), str(caught.value)))
    assert said[1] == said[0]


@pytest.mark.parametrize("wrong", ["callbacks", "validation data", "classes", "sizes"])
@pytest.mark.parametrize("warm_start", [False, True])
def test_what_was_learned_survives_a_fit_that_is_refused(wrong, warm_start):
    net = fitted(MLPClassifier, max_iter=3, warm_start=warm_start)
    before, bits = dict(vars(net)), [parameter.tobytes() for parameter in parameters(net)]
    given = {"X_val": X[:, :2], "y_val": Y} if wrong == "validation data" else {}
    net.set_params(**{"callbacks": {"callbacks": [3]}, "sizes": {"hidden_layer_sizes": (3, -1)}}.get(wrong, {}))
    with pytest.raises((ValueError, TypeError)):
        net.fit(X, Y.astype(float) + 0.5 if wrong == "classes" else Y, **given)
    assert [name for name, value in vars(net).items() if value is not before[name]] in (
        [], ["callbacks"], ["hidden_layer_sizes"],
    )  # fmt: skip
    assert [parameter.tobytes() for parameter in parameters(net)] == bits


def test_balanced_classes_need_all_rows():
    with pytest.raises(ValueError, match="class_weight='balanced' needs all rows at once"):
        MLPClassifier(class_weight="balanced").partial_fit(*IRIS, classes=[0, 1, 2])


def test_warnings():
    with pytest.warns(ConvergenceWarning, match=r"Stochastic Optimizer: Maximum iterations \(2\) reached and the opt"):
        MLPClassifier(max_iter=2).fit(*IRIS)
    with pytest.warns(ConvergenceWarning, match="lbfgs failed to converge"):
        MLPClassifier(max_iter=2, solver="lbfgs").fit(*IRIS)
    with pytest.warns(UserWarning, match="Got `batch_size` less than 1 or larger than sample size"):
        MLPClassifier(batch_size=1000, tol=1e9).fit(*IRIS)


def test_a_warning_names_the_line_of_the_user():
    with pytest.warns(ConvergenceWarning) as caught:
        MLPClassifier(max_iter=1).fit(*IRIS)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="Got `batch_size`") as caught:
        MLPClassifier(batch_size=1000, tol=1e9).fit(*IRIS)
    assert caught[0].filename == __file__
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make_pipeline(StandardScaler(), MLPClassifier(max_iter=1, batch_size=1000)).fit(*IRIS)
    assert [warning.filename for warning in caught] == [__file__] * 2


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_divergence():
    settings = {"solver": "sgd", "learning_rate_init": 1e6, "activation": "identity", "max_iter": 50}
    with pytest.raises(ValueError, match="Solver produced non-finite parameter weights") as caught:
        MLPRegressor(**settings).fit(*IRIS)
    assert "loss is" in str(caught.value)
    with pytest.warns(ConvergenceWarning, match="the parameters are those of the best epoch"):
        kept = MLPRegressor(**settings, early_stopping=True).fit(*IRIS)
    assert np.isnan(kept.validation_scores_[-1])
    assert np.isfinite(kept.predict(IRIS[0])).all()


@brief
def test_verbose_speaks_as_scikit_learn(capsys):
    said = []
    for module in (theirs, sys.modules["fastmlp"]):
        for settings in ({}, {"early_stopping": True}, {"solver": "sgd", "learning_rate": "adaptive"}):
            settings |= {"tol": 0.1, "n_iter_no_change": 2, "verbose": True, "random_state": 0, "max_iter": 60}
            module.MLPClassifier(**settings).fit(*IRIS)
        said.append(capsys.readouterr().out)
    assert said[1] == said[0]
    assert "Stopping." in said[1]


def test_verbose_shows_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for verbose, lines in ((1, 0), (2, 5)):
        fitted(verbose=verbose)
        said = capsys.readouterr()
        assert said.out.count("Iteration") == lines
        assert ("100%" in said.err) == (lines == 0)


# --- X and y ----------------------------------------------------------------------------------------------------------


@ours
@pytest.mark.parametrize(
    ("given", "computed"),
    [
        ("float64", "float64"),
        ("int64", "float64"),
        ("float32", "float32"),
        ("float16", "float32"),
        ("uint8", "float32"),
    ],
)
def test_dtype_follows_X(kind, given, computed):
    X = (16 * DIGITS[0]).astype(given)
    estimator = fitted(kind, (X, DIGITS[1]))
    assert {parameter.dtype for parameter in parameters(estimator)} == {np.dtype(computed)}
    answer = estimator.predict_proba(X) if kind is MLPClassifier else estimator.predict(X)
    assert answer.dtype == computed


@ours
def test_dtype_may_be_chosen(kind):
    chosen = fitted(kind, dtype="float32")
    assert chosen.coefs_[0].dtype == np.float32
    assert same_bits(chosen, fitted(kind, (IRIS[0].astype(np.float32), IRIS[1])))
    assert same_bits(chosen, fitted(kind, dtype=np.float32))
    assert same_bits(chosen, fitted(kind, dtype=np.dtype("float32")))


@compiled
@pytest.mark.slow
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_sparse_X_of_the_compiled_network(solver):
    test_sparse_X(MLPClassifier, "csr_matrix", solver)


@ours
@pytest.mark.parametrize("form", ["csr_matrix", "csc_matrix", "coo_array", "csr_array"])
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_sparse_X(kind, form, solver):
    settings = {"solver": solver, "early_stopping": solver == "adam"}
    X = getattr(sparse, form)(DIGITS[0])
    dense, thin = fitted(kind, DIGITS, **settings), fitted(kind, (X, DIGITS[1]), **settings)
    for a, b in zip(parameters(dense), parameters(thin), strict=True):
        np.testing.assert_allclose(b, a, atol=1e-9)
    np.testing.assert_allclose(thin.predict(X), thin.predict(DIGITS[0]), atol=1e-9)


def test_labels_of_any_kind():
    numbered = fitted()
    for labels in (["a", "b", "c"], np.array(["x", "yy", "zzz"], object), [-3, 0, 17], [1.0, 2.0, 4.0]):
        named = fitted(data=(IRIS[0], np.asarray(labels)[IRIS[1]]))
        assert same_bits(named, numbered)
        np.testing.assert_array_equal(named.predict(IRIS[0]), np.asarray(labels)[numbered.predict(IRIS[0])])
    with pytest.raises(ValueError, match="Unknown label type"):
        MLPClassifier().fit(IRIS[0], IRIS[0][:, 0])


def test_sparse_labels():
    X, y = make_multilabel_classification(60, random_state=0)
    thin = fitted(data=(X, sparse.csr_matrix(y)))
    assert same_bits(thin, fitted(data=(X, y)))
    assert sparse.issparse(thin.predict(X))
    assert fitted(data=(X, y)).predict_proba(X).shape == y.shape


def test_a_column_of_targets_warns():
    with pytest.warns(DataConversionWarning):
        fitted(data=(IRIS[0], IRIS[1][:, None]))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames(library):
    frames = pytest.importorskip(library)
    names = ["a", "b", "c", "d"]
    X = frames.DataFrame({name: IRIS[0][:, i] for i, name in enumerate(names)})
    named = fitted(data=(X, frames.Series(IRIS[1])), early_stopping=True)
    assert same_bits(named, fitted(early_stopping=True))
    assert named.feature_names_in_.tolist() == names
    named.predict(X)
    with pytest.raises(ValueError, match="feature names should match"):
        named.predict(X[["b", "a", "c", "d"]])
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        named.predict(IRIS[0])
    fitted(data=(X, frames.Series(IRIS[1])), early_stopping=True, scoring="neg_log_loss")  # warns of nothing


@brief
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_of_a_step_before(library):
    pytest.importorskip(library)
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(max_iter=300, random_state=0))
    pipeline.set_output(transform=library).fit(*IRIS)
    assert pipeline[-1].feature_names_in_.tolist() == ["x0", "x1", "x2", "x3"]
    assert pipeline.score(*IRIS) > 0.9

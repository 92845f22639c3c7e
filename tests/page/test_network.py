"""Which networks run in the page, and why others do not."""

import numpy as np
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from support.nets import filled
from support.pages import bits_of, classifier, noisy, page

from fastmlp import Ensemble, MLPRegressor, reference
from fastmlp.optimizers import SGD
from fastmlp.page.network import network_in_page
from fastmlp.plots.subject import Subject

X, Y = load_iris(return_X_y=True)
NUMBERS = X[:, :3], X[:, 3]
PLAIN_SGD = {"solver": SGD(learning_rate=0.001), "alpha": 0}  # of heads with few users: a loop that other tests compile

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def regressor(**settings):
    return MLPRegressor(**{"hidden_layer_sizes": (5,), "max_iter": 3, "random_state": 0} | settings)


def ensemble():
    made = Ensemble(reference.MLP([4, 5, 3]), n=3)
    made.fit(X, Y, epochs=1)
    return made


RUN_IN_THE_PAGE = {
    "estimator": lambda: classifier().fit(X, Y),
    "two classes": lambda: classifier(**PLAIN_SGD).fit(X, Y == 1),
    "several networks": lambda: classifier(n_networks=2).fit(X, Y),
    "ensemble": ensemble,
    "float64": lambda: filled([4, 5, 3], dtype="float64", activation="gelu"),
    "input scale": lambda: filled([4, 5, 3], input_scale=0.1, activation=["silu"]),
    "StandardScaler": lambda: make_pipeline(StandardScaler(), classifier()).fit(X, Y),
    "without mean": lambda: make_pipeline(StandardScaler(with_mean=False), classifier()).fit(X, Y),
    "without scale": lambda: make_pipeline(StandardScaler(with_std=False), classifier()).fit(X, Y),
    "MinMaxScaler": lambda: make_pipeline(MinMaxScaler((-1, 2), clip=True), classifier()).fit(X[:60], Y[:60] // 1),
    "other scalers": lambda: make_pipeline(MaxAbsScaler(), RobustScaler(), "passthrough", classifier()).fit(X, Y),
    "nested": lambda: make_pipeline(StandardScaler(), make_pipeline(MinMaxScaler(), classifier())).fit(X, Y),
    "search": lambda: GridSearchCV(make_pipeline(StandardScaler(), classifier()), {}, cv=2).fit(X, Y),
}


@pytest.mark.parametrize("kind", RUN_IN_THE_PAGE)
def test_the_network_of_this_model_runs_in_the_page(kind, tmp_path):
    model = RUN_IN_THE_PAGE[kind]()
    y = Y == 1 if kind == "two classes" else Y % 2 if kind == "MinMaxScaler" else Y
    content = page(tmp_path, model, X, y)
    assert bits_of(content["network"]) == 32, content["network"]
    assert content["n_wrong"] == (model.predict(X) != y).sum()


def test_regression_runs_in_the_page(tmp_path):
    for model in (regressor().fit(*NUMBERS), regressor(loss="poisson", n_networks=2, **PLAIN_SGD).fit(*NUMBERS)):
        content = page(tmp_path, model, *NUMBERS)
        assert content["kind"] == "numbers"
        assert "parameters" in content["network"]


LEFT_OUT = {
    "the step PCA": lambda: make_pipeline(PCA(2), classifier()).fit(X, Y),
    "not a network of fastmlp": lambda: RandomForestClassifier(2, random_state=0).fit(X, Y),
}


@pytest.mark.parametrize("why", LEFT_OUT)
def test_the_page_says_why_a_network_does_not_run_in_it(why, tmp_path):
    content = page(tmp_path, LEFT_OUT[why](), X, Y)
    assert why in content["network"]["why"]
    assert content["matrix"]["counts"]


def test_changed_answers_are_left_out(tmp_path):
    model = TransformedTargetRegressor(regressor(), func=np.log1p, inverse_func=np.expm1).fit(*NUMBERS)
    assert "changes its answers" in page(tmp_path, model, *NUMBERS)["network"]["why"]
    changed = classifier().fit(X, Y)
    changed.out_activation_ = "tanh"
    assert "differs from Python" in page(tmp_path, changed, X, Y)["network"]["why"]


def test_a_network_that_has_diverged_is_left_out(tmp_path):
    model = regressor().fit(*NUMBERS)
    model.out_activation_ = "exp"
    for coef in model.coefs_:
        coef *= 1e6
    with np.errstate(over="ignore"):
        assert page(tmp_path, model, *NUMBERS)["network"]["why"] == "some of its predictions are not finite"


def test_rows_that_are_no_numbers_are_shown_as_text(tmp_path):
    words = ["red apple", "green apple", "red <b>", "blue sky"] * 5
    y = [0, 1, 2, 1] * 5  # three classes: a loop that other tests compile
    model = make_pipeline(CountVectorizer(), classifier(**PLAIN_SGD)).fit(words, y)
    content = page(tmp_path, model, words, y)
    assert "CountVectorizer" in content["network"]["why"]
    assert content["shown"]["cells"][0] == [words[content["shown"]["row"][0]]]


def test_tables_and_sparse_rows(tmp_path):
    pandas, sparse = pytest.importorskip("pandas"), pytest.importorskip("scipy.sparse")
    names = ["a", "b<i>", "c", "d"]
    table = pandas.DataFrame(X, columns=names)
    net = reference.MLP([4, 5, 3])
    net.fit(table, np.array(["x", "y", "z"])[Y], epochs=1)
    content = page(tmp_path, net, table, np.array(["x", "y", "z"])[Y])
    assert [field["name"] for field in content["form"]["fields"]] == names
    assert content["classes"] == ["x", "y", "z"]
    assert [field["median"] for field in content["form"]["fields"]] == pytest.approx(np.median(X, axis=0))
    plain = filled([4, 5, 3])
    assert page(tmp_path, plain, sparse.csr_array(X), Y)["shown"] == page(tmp_path, plain, X, Y)["shown"]


def test_a_network_that_python_does_not_agree_with_is_left_out():
    net, rows, y = noisy(3)
    subject = Subject.of(net)
    predictions = subject.predictions(rows, y)
    assert "parameters" in network_in_page(subject, rows, predictions, None, 10**6)
    predictions.probabilities[7, 1] += 2e-5
    assert "2.0e-05" in network_in_page(subject, rows, predictions, None, 10**6)["why"]

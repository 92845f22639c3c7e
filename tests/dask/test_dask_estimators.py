"""`fastmlp.dask.MLPClassifier` and `MLPRegressor` on a cluster of two worker processes."""

import copy
import pickle

import numpy as np
import pytest

pytest.importorskip("distributed")
pytest.importorskip("dask.array")

import dask.array as da
import dask.dataframe as dd
import pandas as pd
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

import fastmlp
import fastmlp.dask
from fastmlp.dask import MLPClassifier, MLPRegressor

N, K = 240, 20
SETTINGS = {
    "hidden_layer_sizes": (16,),
    "solver": "adam",
    "learning_rate_init": 0.01,
    "max_iter": 30,
    "random_state": 0,
}
pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).standard_normal((N, K)).astype(np.float32)


@pytest.fixture(scope="module")
def y(X):
    return np.array(["ant", "bee", "cat"])[(X @ np.random.default_rng(1).standard_normal((K, 3))).argmax(axis=1)]


def test_classifier_on_arrays(client, X, y):
    X_, y_ = da.from_array(X, chunks=(100, 7)), da.from_array(y, chunks=100)
    classifier = MLPClassifier(**SETTINGS).fit(X_, y_)
    assert classifier.classes_.tolist() == ["ant", "bee", "cat"]
    assert classifier.n_features_in_ == K
    assert classifier.n_iter_ == len(classifier.loss_curve_) == 30
    assert classifier.t_ == 30 * N
    labels, probabilities = classifier.predict(X_), classifier.predict_proba(X_)
    assert isinstance(labels, da.Array)
    assert labels.chunks == ((100, 100, 40),)
    assert probabilities.chunks == ((100, 100, 40), (3,))
    assert probabilities.dtype == np.float32
    local = classifier.to_local()
    assert type(local) is fastmlp.MLPClassifier
    assert_array_equal(labels.compute(), local.predict(X))
    assert_array_equal(probabilities.compute(), local.predict_proba(X))
    assert_allclose(classifier.predict_log_proba(X_).compute(), np.log(local.predict_proba(X)), rtol=1e-6)
    assert_array_equal(classifier.predict(X), local.predict(X))
    assert classifier.score(X_, y_) == local.score(X, y) > 0.9
    assert_array_equal(classifier.predict_proba(X_[X_[:, 0] > 0]).compute(), local.predict_proba(X[X[:, 0] > 0]))


def test_classifier_on_frames(client, X, y):
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(K)], index=range(1000, 1000 + N))
    table, labels = dd.from_pandas(frame, 3), dd.from_pandas(pd.Series(y, frame.index).astype("category"), 3)
    classifier = MLPClassifier(**SETTINGS, class_weight="balanced").fit(table, labels)
    assert classifier.feature_names_in_.tolist() == list(frame.columns)
    predicted = classifier.predict(table)
    assert isinstance(predicted, dd.Series)
    predicted = predicted.compute()
    assert predicted.index.tolist() == frame.index.tolist()
    assert predicted.tolist() == classifier.to_local().predict(frame).tolist()
    assert_array_equal(classifier.predict_proba(table).compute(), classifier.to_local().predict_proba(frame))
    assert classifier.score(table, labels) > 0.9
    assert classifier.score(table, pd.Series(y)) == classifier.score(table, labels)


def test_one_shard_and_whole_batches_train_as_the_local_estimator(client, X, y):
    """Its batches have the same rows then, whoever draws their order."""
    settings = SETTINGS | {"batch_size": N, "max_iter": 5, "alpha": 0.1, "shuffle": False}
    weights = np.random.default_rng(2).random(N)
    for sample_weight in (None, weights):
        local = fastmlp.MLPClassifier(**settings).fit(X, y, sample_weight)
        for fit in ({"n_shards": 1}, {"n_shards": 2, "average_every": "step"}):
            own = MLPClassifier(**settings).fit(da.from_array(X, chunks=(60, K)), y, sample_weight, **fit)
            assert_allclose(own.coefs_[0], local.coefs_[0], rtol=1e-4, atol=1e-5)
            assert_allclose(own.loss_curve_, local.loss_curve_, rtol=1e-4)


def test_regressor(client, X):
    y = (X[:, :2] @ np.array([[1.0, 2], [3, -1]])).astype(np.float32)
    X_ = da.from_array(X, chunks=(100, K))
    one = MLPRegressor(**SETTINGS | {"max_iter": 60}).fit(X_, da.from_array(y[:, 0], chunks=100))
    assert_allclose(one.predict(X_).compute(), one.to_local().predict(X))
    assert one.score(X_, y[:, 0]) > 0.9
    two = MLPRegressor(**SETTINGS | {"max_iter": 60}).fit(X_, da.from_array(y, chunks=(100, 1)))
    assert two.predict(X_).chunks == ((100, 100, 40), (2,))
    assert two.score(X_, da.from_array(y, chunks=100)) > 0.9


def test_two_classes_and_labels(client, X, y):
    X_ = da.from_array(X, chunks=(100, K))
    two = MLPClassifier(**SETTINGS, class_weight={True: 2.0}).fit(X_, y == "bee")
    assert two.predict(X_).compute().dtype == bool
    assert two.score(X_, y == "bee") > 0.9
    labels = (X[:, :3] > 0).astype(int)
    several = MLPClassifier(**SETTINGS).fit(X_, labels)
    assert several.predict(X_).compute().shape == (N, 3)
    assert_array_equal(several.predict(X_).compute(), several.to_local().predict(X))
    many = MLPClassifier(**SETTINGS).fit(X_, np.arange(N) % 60)  # scikit-learn warns if a class has few rows
    assert len(many.classes_) == 60


def test_early_stopping_on_validation_data(client, X, y):
    X_, y_ = da.from_array(X, chunks=(100, K)), da.from_array(y, chunks=100)
    classifier = MLPClassifier(**SETTINGS | {"max_iter": 500}, early_stopping=True, n_iter_no_change=2, tol=0.01)
    classifier.fit(X_, y_, X_val=X_, y_val=y_)
    assert classifier.n_iter_ < 100
    assert max(classifier.validation_scores_) == classifier.best_validation_score_ == classifier.score(X_, y_)


def test_copies(client, X, y):
    X_ = da.from_array(X, chunks=(100, K))
    classifier = MLPClassifier(**SETTINGS)
    classifier.client = client
    classifier.fit(X_, y)
    assert clone(classifier).get_params() == classifier.get_params() == fastmlp.MLPClassifier(**SETTINGS).get_params()
    for twin in (copy.deepcopy(classifier), pickle.loads(pickle.dumps(classifier))):
        assert type(twin) is MLPClassifier
        assert_array_equal(twin.predict(X_).compute(), classifier.predict(X))
    classifier.coefs_[0][...] = 0
    assert twin.coefs_[0].any()


def test_warm_start_and_partial_fit_go_on(client, X, y):
    X_ = da.from_array(X, chunks=(100, K))
    classifier = MLPClassifier(**SETTINGS | {"max_iter": 2}, warm_start=True).fit(X_, y)
    first = classifier.loss_
    assert classifier.fit(X_, y).loss_ < first
    assert len(classifier.loss_curve_) == 4
    second = classifier.loss_
    assert classifier.partial_fit(X, y).loss_ < second


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"solver": "lbfgs"}, "solver='lbfgs' needs all rows in one process"),
        ({"early_stopping": True}, "early_stopping needs validation data here"),
        ({"n_networks": 2}, "n_networks must be 1 here"),
        ({"alpha": -1}, "'alpha' parameter"),
    ],
)
def test_errors(client, X, y, settings, message):
    classifier = MLPClassifier(**SETTINGS | settings)
    with pytest.raises(ValueError, match=message):
        classifier.fit(da.from_array(X, chunks=(100, K)), y)
    assert not hasattr(classifier, "coefs_")


def test_a_wrong_label_is_found_by_its_partition(client, X):
    y = np.arange(N, dtype=float)
    y[150] = np.nan
    with pytest.raises(ValueError, match="partition 1: y has nan in row 50"):
        MLPRegressor(**SETTINGS).fit(da.from_array(X, chunks=(100, K)), y)
    with pytest.raises(AttributeError, match="no attribute 'MLP'"):
        fastmlp.dask.MLP  # noqa: B018

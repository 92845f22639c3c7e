"""Scores with default parameters, beside scikit-learn's own, on data of eight kinds."""

import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn import datasets
from sklearn import neural_network as theirs
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score

import fastmlp

REPEATS, FOLDS = 10, 3


def bag_of_words():
    """Return counts of 2,000 words in 600 texts on four subjects, each with its own frequent words."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 600)
    frequencies = rng.exponential(1, (4, 2000))
    frequencies /= frequencies.sum(axis=1, keepdims=True)
    return sparse.csr_matrix(np.array([rng.multinomial(20, frequencies[label]) for label in y], np.float64)), y


DATA = {
    "iris": lambda: datasets.load_iris(return_X_y=True),
    "wine": lambda: datasets.load_wine(return_X_y=True),
    "breast cancer": lambda: datasets.load_breast_cancer(return_X_y=True),
    "digits": lambda: datasets.load_digits(return_X_y=True),
    "diabetes": lambda: datasets.load_diabetes(return_X_y=True),
    "moons": lambda: datasets.make_moons(400, noise=0.2, random_state=0),
    "noise": lambda: datasets.make_classification(500, flip_y=0.1, n_informative=5, random_state=0),
    "bag of words": bag_of_words,
}


def scores(estimator, X, y):
    """Return the mean score of each of the repeats."""
    kind = StratifiedKFold if is_classifier(estimator) else KFold
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.array(
            [
                cross_val_score(
                    estimator.set_params(random_state=repeat), X, y, cv=kind(FOLDS, shuffle=True, random_state=repeat)
                ).mean()
                for repeat in range(REPEATS)
            ]
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", DATA)
def test_scores_are_as_good(name):
    X, y = DATA[name]()
    kind = "MLPRegressor" if name == "diabetes" else "MLPClassifier"
    given, ours = (scores(getattr(module, kind)(), X, y) for module in (theirs, fastmlp))
    assert ours.mean() >= given.mean() - given.std(ddof=1) / np.sqrt(REPEATS)

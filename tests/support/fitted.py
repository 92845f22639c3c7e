"""What the tests of the estimators share."""

import warnings

import pytest
import sklearn
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import scale
from sklearn.utils.fixes import parse_version
from threadpoolctl import threadpool_limits

from fastmlp import MLPClassifier, MLPRegressor, reference

DIGITS = load_digits().data[:400] / 16, load_digits().target[:400]
IRIS = load_iris(return_X_y=True)
NUMBER = scale(IRIS[0][:, :3]), IRIS[0][:, 3]


@pytest.fixture(autouse=True)
def network(request, monkeypatch):
    """Have the network in NumPy, which needs no compiler, where a test does not ask for the compiled one."""
    if "compiled" not in request.keywords:
        monkeypatch.setattr("fastmlp.estimators.base.BaseMLP._network_class", reference.MLP)


@pytest.fixture(autouse=True)
def one_thread():
    """Keep matrix products, which are small, from waiting for other threads."""
    with threadpool_limits(1):
        yield


compiled = pytest.mark.compiled
ours = pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
beside_1_9 = pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"), reason="compares with what scikit-learn 1.9 does"
)
brief = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def fitted(kind=MLPClassifier, data=IRIS, **settings):
    """Return a fitted estimator; that its few epochs do not converge is no news."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return kind(**{"random_state": 0, "max_iter": 5, "hidden_layer_sizes": (8,)} | settings).fit(*data)


def parameters(estimator):
    return [*estimator.coefs_, *estimator.intercepts_]


def same_bits(one, other):
    return all(a.tobytes() == b.tobytes() for a, b in zip(parameters(one), parameters(other), strict=True))

"""Compare `fit` of fastmlp.MLPClassifier with that of scikit-learn: the seconds, and how many times faster it is.

python -m benchmarks.estimators [--runs N] [--only NAME ...]
"""

import argparse
import time
import warnings

import numpy as np
from sklearn import neural_network as theirs
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

import fastmlp
from fastmlp.bench.machine import describe
from fastmlp.bench.turns import PAUSE
from fastmlp.datasets import load_mnist

from .text import bag_of_words


def mnist():
    X, y, _, _ = load_mnist()
    return X, y


def digits():
    return load_digits(return_X_y=True)


def digits_in_float32():
    X, y = digits()
    return X.astype(np.float32), y


def search(estimator):
    """Twelve points, three folds each, in two processes of loky; the best is fitted again."""
    settings = {
        "alpha": [1e-4, 1e-2], "hidden_layer_sizes": [(32,), (64,), (100,)], "learning_rate_init": [1e-3, 1e-2],
    }  # fmt: skip
    return GridSearchCV(estimator, settings, cv=3, n_jobs=2)


WORK = {  # data, settings, what is fitted, how many times faster it must be
    "mnist": (mnist, {"max_iter": 10}, None, 5),
    "digits": (digits, {"max_iter": 1000}, None, 5),
    "words": (bag_of_words, {"solver": "sgd", "momentum": 0, "alpha": 0, "max_iter": 10}, None, 100),
    "search": (digits_in_float32, {"max_iter": 100}, search, 8),
    "search in float64": (digits, {"max_iter": 100}, search, 8),
}


def seconds(module, data, settings, around):
    estimator = module.MLPClassifier(random_state=0, **settings)
    fitted = estimator if around is None else around(estimator)
    time.sleep(PAUSE)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted.fit(*data)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2, help="fits of each; the best one counts (default: %(default)s)")
    parser.add_argument("--only", nargs="*", choices=WORK, default=list(WORK))
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    print(describe())
    print("what               scikit-learn, s  fastmlp, s  times faster  must")
    for name in options.only:
        load, settings, around, must = WORK[name]
        data = load()
        for module in (theirs, fastmlp):
            seconds(module, data, settings | {"max_iter": 1}, around)  # compiles; processes start and import
        best = {}
        for _ in range(options.runs):
            for module in (theirs, fastmlp):
                spent = seconds(module, data, settings, around)
                best[module] = min(spent, best.get(module, np.inf))
        print(f"{name:17} {best[theirs]:16.2f} {best[fastmlp]:11.3f} {best[theirs] / best[fastmlp]:13.1f} {must:5}")


if __name__ == "__main__":
    main()

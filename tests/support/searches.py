"""What the tests of `fastmlp.search` share: data, spaces and a small search."""

import math

import numpy as np
from support.nets import data

from fastmlp import search

N, LAYERS = 120, [4, 6, 3]


def rows(seed=0):
    """Rows of three classes that can be told apart."""
    X, _ = data(N, seed=seed)
    return X, np.argmax(X[:, :3] + 0.1 * X[:, 1:], axis=1)


X, Y = rows()
X_VAL, Y_VAL = rows(1)
GIVEN = {"validation_data": (X_VAL, Y_VAL)}
RATES = {"learning_rate": [0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7]}
FEW = {"learning_rate": [0.01, 0.1, 0.5]}


class LogUniform:
    """A distribution without SciPy."""

    def __init__(self, low, high):
        self.low, self.high = math.log(low), math.log(high)

    def rvs(self, random_state):
        return np.exp(random_state.uniform(self.low, self.high))


def found(space=RATES, X=X, y=Y, **settings):
    parts = [space] if isinstance(space, dict) else space
    fixed = {"layers": LAYERS, "batch_size": 16}
    in_space = {name for part in parts if isinstance(part, dict) for name in part} - settings.keys()
    given = {name: value for name, value in fixed.items() if name not in in_space}
    return search(space, X, y, **{"epochs": 9} | given | settings)


def rows_of(result, *leave_out):
    """The table without what differs from run to run."""
    return [{k: v for k, v in row.items() if k not in ("seconds", *leave_out)} for row in result.table]


def n_epochs(result):
    return [len(trial.histories[0].loss) for trial in result.trials]

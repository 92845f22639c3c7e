"""Two fits that are at work at the same time, in threads or processes, and the sizes of their first teams.

A process that finds AT_ONCE_CORES and AT_ONCE_FOLDER in its environment prepares itself as it imports this.
"""

import os
import threading
import time
import uuid
from pathlib import Path

import numpy as np
from sklearn.model_selection import GridSearchCV

from fastmlp import MLP, MLPClassifier
from fastmlp.engine import cores
from fastmlp.engine.containers import NO_QUOTA
from fastmlp.engine.cores import share
from fastmlp.engine.team_size import Segment, TeamSize

X = np.random.default_rng(0).standard_normal((4000, 64)).astype(np.float32)
Y = np.arange(4000) % 10


def fit(seed):
    MLP([64, 64, 10], seed=seed).fit(X, Y, epochs=3, batch_size=200, optimizer="adam")


class Classifier(MLPClassifier):
    """Imports this module where it is unpickled."""


def search():
    """Fit twice, as scikit-learn does."""
    # It converges at once, so that no worker warns.
    estimator = Classifier(hidden_layer_sizes=(64,), tol=1e9, n_iter_no_change=1, random_state=0)
    GridSearchCV(estimator, {"alpha": [1e-4]}, cv=2, n_jobs=2, refit=False, error_score="raise").fit(X, Y)


def meeting(folder, next_team=TeamSize.next):
    """Return a `TeamSize.next` for which the first fit of each thread waits for that of another one.

    The team is as large as it may be then, and all later ones have one thread.
    """
    thread = threading.local()

    def meet(name, text=""):
        (Path(folder) / f"{name}-{uuid.uuid4()}").write_text(text)
        end = time.monotonic() + 100
        while len(list(Path(folder).glob(f"{name}-*"))) < 2:
            if time.monotonic() > end:
                raise TimeoutError("the other fit does not begin")
            time.sleep(0.002)

    def next_of_two(team, n_left):
        size = 1
        if not hasattr(thread, "met"):
            thread.met = True
            meet("at work")
            size = next_team(team, n_left).size if team._is_fixed else share()
            meet("size", str(size))
        return Segment(size, n_left, is_trial=False)

    return next_of_two


def sizes(folder):
    """Return how many threads each of the two fits had."""
    return sorted(int(file.read_text()) for file in Path(folder).glob("size-*"))


def prepare(folder, n_cores):
    """Take this machine as one of some cores, with no other programs."""
    cores.affinity = lambda: list(range(n_cores))
    cores.container_quota = lambda: NO_QUOTA
    cores._machine.processes._path = str(Path(folder) / "cores")
    os.cpu_count, os.sched_getaffinity = lambda: n_cores, lambda _: set(range(n_cores))
    TeamSize.next = meeting(folder)


if "AT_ONCE_FOLDER" in os.environ:
    prepare(os.environ["AT_ONCE_FOLDER"], int(os.environ["AT_ONCE_CORES"]))

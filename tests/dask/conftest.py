"""The cluster and the rows of the tests of `fastmlp.dask`."""

from importlib.util import find_spec

import numpy as np
import pytest

if find_spec("distributed") is not None:  # without it, all tests are skipped
    from support.clusters import local_cluster


@pytest.fixture(scope="module")
def client():
    """A client of two worker processes."""
    with local_cluster() as client:
        yield client


@pytest.fixture(scope="module")
def data(request):
    """As many rows and classes as the module says with N and LAYERS."""
    n, (n_features, *_, n_classes), generator = request.module.N, request.module.LAYERS, np.random.default_rng(0)
    X = generator.standard_normal((n, n_features)).astype(np.float32)
    return X, (X @ generator.standard_normal((n_features, n_classes))).argmax(axis=1)


@pytest.fixture
def rounds(monkeypatch):
    """How many averages each call of the shards takes: those of local SGD."""
    from fastmlp.dask.shards import Shards

    counts, call = [], Shards.call

    def counting(self, method, args, *others):
        replies = call(self, method, args, *others)
        if method == "train":
            counts.append(len(replies[0].totals))
        return replies

    monkeypatch.setattr(Shards, "call", counting)
    return counts

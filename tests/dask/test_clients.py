"""Calls without a client, or with one that is closed; a module of its own, where there is no current client."""

import numpy as np
import pytest

pytest.importorskip("distributed")
pytest.importorskip("dask.array")

from support.clusters import local_cluster

import fastmlp.dask
from fastmlp import MLP


def test_without_an_open_client():
    X, y = np.zeros((9, 4), np.float32), np.arange(9) % 3
    with pytest.raises(ValueError, match=r"there is no Dask client; make one: client = distributed\.Client"):
        fastmlp.dask.fit_many(None, [MLP([4, 3])], X, y)
    with pytest.raises(ValueError, match="there is no Dask client"):
        fastmlp.dask.MLPClassifier().fit(X, y)
    with local_cluster(n_workers=1) as client:
        pass
    for call, net in ((fastmlp.dask.fit, MLP([4, 3])), (fastmlp.dask.fit_many, [MLP([4, 3])])):
        with pytest.raises(ConnectionError, match="the client is closed; make another"):
            call(client, net, X, y)

"""Copies of networks go on as the first, and share nothing with it."""

import copy
import pickle

import numpy as np
import pytest
from support.nets import assert_bits, both_kinds, data, parameters, snapshot

from fastmlp import MLP

pytestmark = pytest.mark.loops("plain SGD")

copies = pytest.mark.parametrize(
    "copied",
    [lambda net: pickle.loads(pickle.dumps(net)), copy.deepcopy, copy.copy],
    ids=["pickle", "deepcopy", "copy"],
)


@both_kinds
@pytest.mark.parametrize("seed", [0, None])
@copies
def test_copies_go_on_as_the_first(copied, seed, kind):
    X, y = data(50)
    net = kind([4, 8, 3], activation="logistic", init="xavier", seed=seed, n_threads=2, dtype="float64")
    net.fit(X, y, epochs=2, batch_size=8)
    twin = copied(net)
    assert repr(twin) == repr(net)
    assert twin.history == net.history
    assert twin.n_threads == net.n_threads
    assert_bits(twin, parameters(net))
    np.testing.assert_array_equal(twin.predict_proba(X), net.predict_proba(X))
    before = snapshot(net)
    twin.fit(X, y, epochs=3, batch_size=8)
    assert_bits(net, before)  # nothing is shared
    net.fit(X, y, epochs=3, batch_size=8)
    assert_bits(twin, parameters(net))
    assert twin.history.loss == net.history.loss


class Named(MLP):
    """A network of a user, who has more to keep."""

    def __init__(self, layers, name, **settings):
        super().__init__(layers, **settings)
        self.name, self._scale = name, 255.0


@copies
def test_copies_keep_what_a_user_adds(copied):
    net = Named([4, 3], "first", first_layer="sparse")
    net.note = [1]
    net.me = net
    X, y = data(20)
    net.fit(X, y, epochs=1)
    twin = copied(net)
    assert type(twin) is Named
    assert (twin.name, twin._scale, twin.note, twin.first_layer) == ("first", 255.0, [1], "sparse")
    assert (twin.note is net.note) == (copied is copy.copy)
    assert twin.me is (net if copied is copy.copy else twin)
    for own in ("_engine", "_trained_by", "history", "_random"):
        assert getattr(twin, own) is not getattr(net, own)
    assert "_engine" not in net.__getstate__()
    with pytest.raises(AttributeError, match="layers cannot be changed"):
        twin.layers = (4, 9)

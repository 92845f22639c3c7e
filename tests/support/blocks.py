"""What the tests of networks that train on blocks share."""

from fastmlp import MLP
from fastmlp.data import Blocks

N, FEATURES, C = 997, 20, 3
FIT = {"epochs": 3, "batch_size": 16, "learning_rate": 0.1, "optimizer": "momentum"}


def network(**settings):
    return MLP([FEATURES, 16, C], seed=3, **settings)


def blocks_of(rows, **settings):
    return Blocks(*rows, **{"rows": 40, "mix": 5} | settings)


def state(net):
    return [parameter.tobytes() for parameter in net.weights + net.biases]


def trained(blocks, net=None, **fit):
    net = network() if net is None else net
    history = net.fit(blocks, **FIT | fit)
    return state(net), history.loss

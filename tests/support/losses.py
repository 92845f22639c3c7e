"""What the tests of activations and heads share: plain networks of every kind, and data that fits them."""

import numpy as np

from fastmlp.activations import ACTIVATIONS
from fastmlp.reference import MLP

HEADS = {  # output, outputs, label smoothing
    "softmax": ("softmax", 3, 0.0),
    "smoothed": ("softmax", 3, 0.2),
    "two classes": ("logistic", 1, 0.0),
    "labels": ("logistic", 4, 0.0),
    "number": ("identity", 1, 0.0),
    "numbers": ("identity", 2, 0.0),
    "count": ("exp", 1, 0.0),
    "counts": ("exp", 3, 0.0),
}
ALL_ACTIVATIONS = tuple(ACTIVATIONS)


def network(head="softmax", activation="gelu", hidden=(7, 5), dtype="float64", n_inputs=4, kind=MLP, **settings):
    output, n_outputs, smoothing = HEADS[head]
    layers = [n_inputs, *hidden, n_outputs]
    net = kind(layers, activation=activation, output=output, label_smoothing=smoothing, dtype=dtype, **settings)
    generator = np.random.default_rng(3)
    for b in net.biases:
        b[:] = generator.normal(scale=0.3, size=b.shape)
    return net


def data_for(net, n_rows=22, seed=1):
    generator = np.random.default_rng(seed)
    X, shape = generator.normal(scale=2, size=(n_rows, net.layers[0])), (n_rows, net.layers[-1])
    if net.output == "softmax":
        return X, generator.integers(0, shape[1], n_rows)
    y = targets_for(net.output, generator, shape)
    return X, y[:, 0] if shape[1] == 1 else y


def targets_for(output, generator, shape):
    """What every head but a softmax learns."""
    if output == "exp":
        return generator.poisson(2.0, shape)
    return generator.normal(size=shape) if output == "identity" else generator.integers(0, 2, shape)

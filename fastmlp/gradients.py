"""`check_gradients`: backpropagation against finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp import reference
from fastmlp.network import Network
from fastmlp.validation.calls import advised
from fastmlp.validation.settings import check_float, check_int

__all__ = ["check_gradients"]


@advised
def check_gradients(net: Network, X: Any, y: npt.ArrayLike, n: int = 20, h: float = 1e-5) -> float:
    """Compare the gradients of backpropagation with finite differences.

    The difference quotient of a parameter w is ``(loss(w + h) - loss(w - h)) / (2 * h)``. Both sides are computed in
    float64 by a copy of the network in `fastmlp.reference`: in float32, rounding errors of the losses would be far
    larger than the differences. The network is unchanged. There is no dropout and no noise; the l2 penalty counts.

    Parameters
    ----------
    net : MLP
        The network.
    X, y : array_like
        Rows and targets, as for `MLP.fit`. A few dozen rows are enough.
    n : int, default=20
        Number of parameters to check in each weight matrix and each bias vector. They are drawn at random, but the same
        call draws the same ones.
    h : float, default=1e-5
        Step of the finite differences.

    Returns
    -------
    float
        Largest relative difference, below 1e-6 if the gradients are right: ``|a - b| / max(|a|, |b|)`` of a gradient a
        and a difference quotient b. If both are below a thousandth of the largest gradient in their array, the
        difference is divided by that thousandth instead.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong.

    Notes
    -----
    Activations with a kink, such as ReLU, have no derivative at 0. If a row comes closer to it than h, the difference
    may be large although the gradients are right. Try another `h` or other rows.
    """
    if not isinstance(net, Network):
        raise TypeError(f"net must be a network, e.g. MLP([784, 128, 10]), not {net!r}")
    n, h = check_int("n", n, 1), check_float("h", h, "float64", zero=False)
    twin = reference.MLP._with_parameters(net.weights, net.biases, **net._settings() | {"dtype": "float64"})
    twin._names = net._names
    _, dw, db = twin.gradients(X, y)
    X_, y_ = twin._check_data(X, y)
    generator = np.random.default_rng(0)
    largest = 0.0
    for parameter, gradient in zip(twin._engine.parameters, dw + db, strict=True):
        floor = 1e-3 * np.abs(gradient).max()
        for place in generator.choice(parameter.size, min(n, parameter.size), replace=False):
            where = np.unravel_index(place, parameter.shape)
            value, losses = parameter[where], []
            for step in (h, -h):
                parameter[where] = value + step
                losses.append(twin._engine.gradients(X_, y_, None)[0])
            parameter[where] = value
            quotient = (losses[0] - losses[1]) / (2 * h)
            scale = max(abs(gradient[where]), abs(quotient), floor)
            largest = max(largest, abs(gradient[where] - quotient) / scale if scale else 0.0)
    return float(largest)

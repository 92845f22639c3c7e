"""How a gradient changes a parameter: each optimizer is a formula that ends the tile where its gradient was summed."""

from .simd import fma


def sgd(gradient, parameter, rate):
    """Give ``parameter + rate * gradient``, the rate being minus the learning rate."""
    return fma(rate, gradient, parameter)

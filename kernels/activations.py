"""Activations: each says its forward, a formula of ``z``, and its gradient, a formula of its value ``h``, side by side.

ReLU and the identity are bounds, ``h = max(z, floor)``, which end the tile of a forward pass in its registers; the
others go over the rows that a product has left in the cache.
"""

from .jit import part
from .simd import exp, formula, lane_count, load, maximum, store, where

IDENTITY, RELU, LOGISTIC = range(3)
CODES = {"relu": RELU, "logistic": LOGISTIC}


@part
def floor_of(kind):
    """Give the bound that the forward tile applies: 0 for ReLU, none for the others."""
    return 0.0 if kind == RELU else -inf


@formula
def logistic(z):
    """Give ``1 / (1 + e**-z)``, from the exponential of ``-abs(z)``, which cannot overflow."""
    small = exp(-maximum(z, -z))
    return where(z > 0.0, 1.0 / (1.0 + small), small / (1.0 + small))


@formula
def logistic_gradient(h, g):
    """Give ``g * h * (1 - h)``."""
    return g * (h * (1.0 - h))


@formula
def relu_gradient(h, g):
    """Give ``g`` where ``h > 0``, else 0."""
    return where(h > 0.0, g, 0.0)


inf = float("inf")


@part
def activate(h, h_at, pitch, first_row, last_row, column, last_column, kind):
    """Apply to products ``z`` in place what their tile has not applied  # (B, O)."""
    if kind != LOGISTIC:
        return
    lanes = lane_count(h)
    for row in range(first_row, last_row):
        for at in range(h_at + row * pitch + column * lanes, h_at + row * pitch + last_column * lanes, lanes):
            store(h, at, logistic(load(h, at)))


@part
def activate_gradient(delta, delta_at, delta_pitch, h, h_at, pitch, first_row, last_row, column, last_column, kind):
    """Compute ``delta *= gradient(h)``  # (B, O)."""
    if kind == IDENTITY:
        return
    lanes = lane_count(h)
    for row in range(first_row, last_row):
        for o in range(column * lanes, last_column * lanes, lanes):
            at = delta_at + row * delta_pitch + o
            value, gradient = load(h, h_at + row * pitch + o), load(delta, at)
            if kind == LOGISTIC:
                store(delta, at, logistic_gradient(value, gradient))
            else:
                store(delta, at, relu_gradient(value, gradient))

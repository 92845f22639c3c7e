"""Activations: the value of each and its slope, formulas of ``z``; and dropout, which is applied after them.

ReLU and the identity are bounds, ``h = max(z, floor)``, which the tile of a forward pass applies in registers. The
slope of ReLU follows from ``h``. The other activations go over the rows that a product has left in the cache. They
store the slope with the value, for the backward pass: the two share an exponential.

`fastmlp/activations.py` has the same names in NumPy. To add an activation, write its formula and list it in
`ACTIVATIONS` in both files.
"""

import math

from . import vmath
from .jit import kernel, part
from .random import kept, row_key
from .simd import maximum, minimum, where
from .trace import formula, loop, switch, traced
from .vector_ops import lane_count, load, store
from .vmath import polynomial

inf = math.inf

LEAK = 0.01
GELU_SCALE, GELU_CUBE = math.sqrt(2 / math.pi), 0.044715
GELU_FAR = 25.0  # beyond it p is 0 or 1 in every dtype; z**2 of larger z could overflow


def relu(z):
    """Return ``max(z, 0)``."""
    return maximum(0.0, z), where(z > 0.0, z.of(1), 0.0)


def leaky_relu(z):
    """Return ``z``, times `LEAK` where it is negative."""
    return where(z > 0.0, z, z * LEAK), where(z > 0.0, z.of(1), LEAK)


def elu(z):
    """Return ``z``, and ``e**z - 1`` where it is negative (Clevert et al., 2016)."""
    below = minimum(0.0, z)
    return where(z > 0.0, z, vmath.expm1(below)), vmath.exp(below)


def gelu(z):
    """Return ``z p`` with ``p = (1 + tanh(u)) / 2 = logistic(2 u)``, ``u = sqrt(2 / pi) (z + 0.044715 z**3)``.

    This approximates the GELU of Hendrycks and Gimpel (2016).
    """
    near = minimum(GELU_FAR, maximum(-GELU_FAR, z))
    square = near * near
    p = vmath.logistic(near * polynomial(square, [2 * GELU_SCALE, 2 * GELU_SCALE * GELU_CUBE]))
    slope_of_2u = polynomial(square, [2 * GELU_SCALE, 6 * GELU_SCALE * GELU_CUBE])
    return z * p, p + near * p * (1.0 - p) * slope_of_2u


def silu(z):
    """Return ``z logistic(z)`` (Elfwing et al., 2018)."""
    p = vmath.logistic(z)
    return z * p, p * (1.0 + z * (1.0 - p))


def tanh(z):
    """Return the hyperbolic tangent."""
    h = vmath.tanh(z)
    return h, 1.0 - h * h


def logistic(z):
    """Return ``1 / (1 + e**-z)``."""
    h = vmath.logistic(z)
    return h, h * (1.0 - h)


def identity(z):
    """Return ``z``."""
    return z, z.of(1)


ACTIVATIONS = {f.__name__: f for f in (relu, leaky_relu, elu, gelu, silu, tanh, logistic, identity)}
"""Formulas ``z -> (value, slope)`` by name. Kernels know an activation by its place in this list."""

CODES = {name: code for code, name in enumerate(ACTIVATIONS)}
RELU = CODES["relu"]


def stores_slope(name, dropout):
    """Return whether an activation stores slopes: not ReLU, nor the identity, unless dropout follows it."""
    return name != "relu" and (name != "identity" or dropout)


@part
def floor_of(activation):
    """Return the bound that the forward tile applies: 0 for ReLU, minus infinity for the others."""
    return 0.0 if activation == RELU else -inf


@traced
def activate_rows(activation, h, slope_at, block):
    """Replace products ``z`` by values of an activation, and store its slopes at `slope_at`, of the same pitch."""
    lanes = h.buffer.count

    def emit(function):
        def each_row(i, _):
            def each_vector(j, _):
                at = (block.row + i) * h.pitch + (block.column + j) * lanes
                value, slope = function(h.buffer.vector(h.at + at))
                h.buffer.put(h.at + at, value)
                h.buffer.put(slope_at + at, slope)
                return []

            return loop(block.end_column - block.column, [], each_vector)

        loop(block.end_row - block.row, [], each_row)

    cases = {CODES[name]: lambda f=f: emit(f) for name, f in ACTIVATIONS.items() if stores_slope(name, True)}
    switch(activation, cases)


product = formula(lambda a, b: a * b)
relu_gradient = formula(lambda h, g, scale: where(h > 0.0, g * scale, 0.0))


@kernel
def activate(h, slope_at, block, activation, sources, seed, epoch, layer, drop_below, scale):
    """Apply in place what the tile has not applied to products: an activation that stores its slope, then dropout.

    If `slope_at` is not 0, the slopes of both together are stored there. Dropout keys its random bits by the rows of X,
    ``sources[row]``; it sets a unit to 0 if they are below `drop_below`, and multiplies it by `scale` if not.
    """
    if slope_at:
        activate_rows(activation, h, slope_at, block)
    if drop_below:
        lanes = lane_count(h.buffer)
        for row in range(block.row, block.end_row):
            key = row_key(seed, epoch, sources[row], layer)
            for unit in range(block.column * lanes, block.end_column * lanes, lanes):
                at = row * h.pitch + unit
                store(h.buffer, h.at + at, kept(load(h.buffer, h.at + at), key, unit, drop_below, scale))
                if slope_at:
                    store(h.buffer, slope_at + at, kept(load(h.buffer, slope_at + at), key, unit, drop_below, scale))


@part
def relu_gradient_rows(delta, h, block, scale):
    """Compute ``delta *= scale`` where ``h > 0``, else 0  # (B, O)."""
    lanes = lane_count(h.buffer)
    for row in range(block.row, block.end_row):
        for o in range(block.column * lanes, block.end_column * lanes, lanes):
            at, value = delta.at + row * delta.pitch + o, load(h.buffer, h.at + row * h.pitch + o)
            store(delta.buffer, at, relu_gradient(value, load(delta.buffer, at), scale))


@part
def multiply_rows(delta, slopes, block):
    """Compute ``delta *= slopes``  # (B, O)."""
    lanes = lane_count(delta.buffer)
    for row in range(block.row, block.end_row):
        for o in range(block.column * lanes, block.end_column * lanes, lanes):
            at, slope = delta.at + row * delta.pitch + o, load(slopes.buffer, slopes.at + row * slopes.pitch + o)
            store(delta.buffer, at, product(slope, load(delta.buffer, at)))

"""Activations: each says its value and its slope, formulas of ``z``, side by side; and dropout, which follows them.

ReLU and the identity are bounds, ``h = max(z, floor)``, which end the tile of a forward pass in its registers; whether
the slope of ReLU is 1 or 0 is seen from ``h``. The others go over the rows that a product has left in the cache, and
leave their slope beside their value, for the way back: the two have their exponential in common.
"""

import math

from numba import types
from numba.extending import intrinsic

from .functions import exp, expm1, logistic, polynomial, tanh
from .jit import kernel, part
from .random import kept, row_key
from .simd import I64, Memory, formula, lane_count, load, maximum, minimum, store, where
from .tile import loop, switch

inf = math.inf

IDENTITY, RELU, LEAKY_RELU, ELU, GELU, SILU, TANH, LOGISTIC = range(8)
CODES = {
    "identity": IDENTITY, "relu": RELU, "leaky_relu": LEAKY_RELU, "elu": ELU, "gelu": GELU, "silu": SILU, "tanh": TANH,
    "logistic": LOGISTIC,
}  # fmt: skip

LEAK = 0.01
GELU_SCALE, GELU_CUBE = math.sqrt(2 / math.pi), 0.044715
GELU_FAR = 25.0  # beyond it the probability is 0 or 1 in every dtype, and z**2 stays far from overflow


def leaky_relu(z):
    """Give ``z``, where it is negative times ``LEAK``."""
    return where(z > 0.0, z, z * LEAK), where(z > 0.0, z.of(1), LEAK)


def elu(z):
    """Give ``z``, where it is negative ``e**z - 1``."""
    below = minimum(0.0, z)
    return where(z > 0.0, z, expm1(below)), exp(below)


def gelu(z):
    """Give ``z p(z)``; ``p = (1 + tanh(u)) / 2 = logistic(2 u)`` with ``u = sqrt(2 / pi) (z + 0.044715 z**3)``."""
    near = minimum(GELU_FAR, maximum(-GELU_FAR, z))
    square = near * near
    p = logistic(near * polynomial(square, [2 * GELU_SCALE, 2 * GELU_SCALE * GELU_CUBE]))
    slope_of_2u = polynomial(square, [2 * GELU_SCALE, 6 * GELU_SCALE * GELU_CUBE])
    return z * p, p + near * p * (1.0 - p) * slope_of_2u


def silu(z):
    """Give ``z logistic(z)``."""
    p = logistic(z)
    return z * p, p * (1.0 + z * (1.0 - p))


def tanh_and_slope(z):
    """Give the hyperbolic tangent."""
    h = tanh(z)
    return h, 1.0 - h * h


def logistic_and_slope(z):
    """Give ``1 / (1 + e**-z)``."""
    h = logistic(z)
    return h, h * (1.0 - h)


SLOPED = {
    IDENTITY: lambda z: (z, z.of(1)),  # where something follows that has a slope, as dropout
    LEAKY_RELU: leaky_relu,
    ELU: elu,
    GELU: gelu,
    SILU: silu,
    TANH: tanh_and_slope,
    LOGISTIC: logistic_and_slope,
}
"""Activations that leave their slope: ``z`` -> value and slope."""


@part
def floor_of(kind):
    """Give the bound that the forward tile applies: 0 for ReLU, none for the others."""
    return 0.0 if kind == RELU else -inf


@intrinsic
def activate_rows(typing_context, kind, h, h_at, slope_at, pitch, first_row, last_row, column, last_column):
    """Turn products ``z`` into values of an activation, in place, and leave its slopes at ``slope_at``  # (B, O)."""

    def codegen(context, builder, signature, args):
        kind, _, h_at, slope_at, pitch, first_row, last_row, column, last_column = args
        h = Memory(context, builder, signature.args[1], args[1])
        lanes = I64(h.vector_type.count)

        def emit(function):
            def each_row(i, _):
                start = builder.add(builder.mul(builder.add(first_row, i), pitch), builder.mul(column, lanes))

                def each_vector(j, _):
                    at = builder.add(start, builder.mul(j, lanes))
                    place, slope_place = builder.add(h_at, at), builder.add(slope_at, at)
                    value, slope = function(h.vector(place))
                    h.put(place, value)
                    h.put(slope_place, slope)
                    return []

                return loop(builder, builder.sub(last_column, column), [], each_vector)

            loop(builder, builder.sub(last_row, first_row), [], each_row)

        switch(builder, kind, {code: lambda function=function: emit(function) for code, function in SLOPED.items()})
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(i64, h, i64, i64, i64, i64, i64, i64, i64), codegen


product = formula(lambda a, b: a * b)
relu_gradient = formula(lambda h, g, factor: where(h > 0.0, g * factor, 0.0))


@kernel
def activate(
    h, h_at, slope_at, pitch, first_row, last_row, column, last_column, kind,
    notes, rows_at, threshold, factor, seed, epoch, layer,
):  # fmt: skip
    """Apply to products in place what their tile has not applied: an activation that has a slope, then dropout.

    Where a slope is left, ``slope_at`` is not 0, it is that of both. Where a unit is not kept both are 0, else they are
    multiplied by ``factor``; nothing is dropped where ``threshold`` is 0  # (B, O).
    """
    if slope_at:
        activate_rows(kind, h, h_at, slope_at, pitch, first_row, last_row, column, last_column)
    if threshold:
        lanes = lane_count(h)
        for row in range(first_row, last_row):
            key = row_key(seed, epoch, notes[rows_at + row], layer)
            for unit in range(column * lanes, last_column * lanes, lanes):
                at = row * pitch + unit
                store(h, h_at + at, kept(load(h, h_at + at), key, unit, threshold, factor))
                if slope_at:
                    store(h, slope_at + at, kept(load(h, slope_at + at), key, unit, threshold, factor))


@part
def relu_gradients(
    delta, delta_at, delta_pitch, h, h_at, pitch, first_row, last_row, column, last_column, factor
):  # fmt: skip
    """Compute ``delta *= factor`` where ``h > 0``, else 0  # (B, O)."""
    lanes = lane_count(h)
    for row in range(first_row, last_row):
        for o in range(column * lanes, last_column * lanes, lanes):
            at = delta_at + row * delta_pitch + o
            store(delta, at, relu_gradient(load(h, h_at + row * pitch + o), load(delta, at), factor))


@part
def multiply_rows(delta, delta_at, delta_pitch, slopes, slope_at, pitch, first_row, last_row, column, last_column):
    """Compute ``delta *= slopes``  # (B, O)."""
    lanes = lane_count(delta)
    for row in range(first_row, last_row):
        for o in range(column * lanes, last_column * lanes, lanes):
            at = delta_at + row * delta_pitch + o
            store(delta, at, product(load(slopes, slope_at + row * pitch + o), load(delta, at)))

"""Optimizers: the formulas of ``Optimizer.update`` in `fastmlp.optimizers`, for whole vectors.

A formula takes the gradient, the parameter and its state, and by name the coefficients of the step. It returns the
parameter and the state after the step. Operations and roundings are those of NumPy. To add a formula, write it here,
list it in `FORMULAS`, and return its coefficients by the same names from ``Optimizer.coefficients``.

Plain SGD needs no formula: it finishes the tile that sums up the gradient, which is then never stored.
"""

import inspect
import math

import numpy as np
from numba import types
from numba.extending import intrinsic

from .simd import I64, Memory, fma, maximum, minimum, sqrt, unpack, where
from .tile import loop


def plain_sgd(g, w, rate):
    """Return ``w + rate * g``, where the rate is minus the learning rate."""
    return fma(rate, g, w)


def accumulate(g, before, keep):
    """Return ``before + g`` if `keep` is 1, else ``g``."""
    return where(keep > 0.0, before + g, g)


def clipped(g, w, l2, bound, scale):
    """Return ``scale * clip(g + l2 * w, -bound, bound)``."""
    return scale * minimum(bound, maximum(-bound, g + l2 * w))


# Formulas -------------------------------------------------------------------------------------------------------------


def sgd(g, w, *, rate, weight_decay):
    """Step by ``-rate * g``."""
    return (w - rate * (g + weight_decay * w),)


def momentum(g, w, v, *, rate, weight_decay, momentum):
    """Step by ``-rate * v`` with the velocity ``v = momentum * v + g``."""
    v = momentum * v + (g + weight_decay * w)
    return w - rate * v, v


def nesterov(g, w, v, *, rate, weight_decay, momentum):
    """Step by ``-rate * (g + momentum * v)`` with ``v = momentum * v + g``."""
    g = g + weight_decay * w
    v = momentum * v + g
    return w - rate * (g + momentum * v), v


def adam(g, w, m, v, *, rate, eps, weight_decay, beta1, one_minus_beta1, beta2, one_minus_beta2):
    """Step by ``-rate * m / (sqrt(v) + eps)`` with m and v running means of ``g`` and ``g*g`` (Kingma and Ba, 2015)."""
    g = g + weight_decay * w
    m, v = beta1 * m + one_minus_beta1 * g, beta2 * v + one_minus_beta2 * g * g
    return w - rate * m / (sqrt(v) + eps), m, v


def adamw(g, w, m, v, *, rate, eps, decay, beta1, one_minus_beta1, beta2, one_minus_beta2):
    """Step as Adam does, and by ``-decay * w`` (Loshchilov and Hutter, 2019)."""
    m, v = beta1 * m + one_minus_beta1 * g, beta2 * v + one_minus_beta2 * g * g
    return w - (decay * w + rate * m / (sqrt(v) + eps)), m, v


def rmsprop(g, w, v, *, rate, eps, weight_decay, alpha, one_minus_alpha):
    """Step by ``-rate * g / (sqrt(v) + eps)`` with v a running mean of ``g*g`` (Hinton, 2012)."""
    g = g + weight_decay * w
    v = alpha * v + one_minus_alpha * g * g
    return w - rate * (g / (sqrt(v) + eps)), v


def rmsprop_momentum(g, w, v, u, *, rate, eps, weight_decay, alpha, one_minus_alpha, momentum):
    """Step by ``-rate * u`` with ``u = momentum * u + g / (sqrt(v) + eps)``."""
    g = g + weight_decay * w
    v = alpha * v + one_minus_alpha * g * g
    u = momentum * u + g / (sqrt(v) + eps)
    return w - rate * u, v, u


def rmsprop_centered(g, w, v, m, *, rate, eps, weight_decay, alpha, one_minus_alpha):
    """Step as RMSprop does, with the variance ``v - m*m``, which rounding may make negative, in place of v."""
    g = g + weight_decay * w
    v, m = alpha * v + one_minus_alpha * g * g, alpha * m + one_minus_alpha * g
    return w - rate * (g / (sqrt(maximum(0.0, v - m * m)) + eps)), v, m


def rmsprop_centered_momentum(g, w, v, m, u, *, rate, eps, weight_decay, alpha, one_minus_alpha, momentum):
    """Step by ``-rate * u`` with ``u = momentum * u + g / (sqrt(v - m*m) + eps)``."""
    g = g + weight_decay * w
    v, m = alpha * v + one_minus_alpha * g * g, alpha * m + one_minus_alpha * g
    u = momentum * u + g / (sqrt(maximum(0.0, v - m * m)) + eps)
    return w - rate * u, v, m, u


def adagrad(g, w, v, *, rate, eps, weight_decay):
    """Step by ``-rate * g / (sqrt(v) + eps)`` with v the sum of ``g*g`` (Duchi, Hazan and Singer, 2011)."""
    g = g + weight_decay * w
    v = v + g * g
    return w - rate * g / (sqrt(v) + eps), v


FORMULAS = {
    formula.__name__: formula
    for formula in (
        sgd, momentum, nesterov, adam, adamw, rmsprop, rmsprop_momentum, rmsprop_centered, rmsprop_centered_momentum,
        adagrad,
    )
}  # fmt: skip
"""Each ``Optimizer.formula`` by its name."""


# Coefficients ---------------------------------------------------------------------------------------------------------

L2, CLIP_VALUE, CLIP_NORM, RATE = range(4)
"""Columns of the table of coefficients: the penalty on weights; the bounds of each number and of the norm of the
gradient, infinite if there are none; and from `RATE` on what the formula takes, the learning rate first."""


def coefficient_names(formula):
    """Return the names of a formula's coefficients, in the order of their columns."""
    return [name for name, p in inspect.signature(formula).parameters.items() if p.kind is p.KEYWORD_ONLY]


def coefficient_table(name, coefficients, l2=0.0, clip_value=math.inf, clip_norm=math.inf):
    """Return the table (n_steps, RATE + m) of the formula of that name, from its coefficients (n_steps,) by name."""
    columns = [l2, clip_value, clip_norm, *(coefficients[name] for name in coefficient_names(FORMULAS[name]))]
    table = np.empty((len(coefficients["rate"]), len(columns)))
    for column, numbers in zip(table.T, columns, strict=True):
        column[:] = numbers
    return table


def apply_formula(formula):
    """Build the intrinsic that changes a block of parameters and their state by a formula."""
    names = coefficient_names(formula)
    n_slots = len(inspect.signature(formula).parameters) - len(names) - 2

    @intrinsic
    def apply(typing_context, w, g, state, coefficients, step, n_rows, n_vectors):
        """Take the step of the row `step` of the table; `w` and `g` are matrices, `state` the slots of `w`."""
        return types.void(w, g, state, coefficients, types.int64, types.int64, types.int64), codegen

    def codegen(context, builder, signature, args):
        (w, w_at, w_pitch), (g, g_at, g_pitch), (state, state_at, distance) = (
            unpack(context, builder, signature.args[i], args[i]) for i in range(3)
        )
        table, first = (
            Memory(context, builder, signature.args[3], args[3]),
            builder.mul(args[4], I64(RATE + len(names))),
        )
        slots = [builder.add(state_at, builder.mul(distance, I64(k))) for k in range(n_slots)]
        coefficients = {}
        for k, name in enumerate(names):
            number = table.number(builder.add(first, I64(RATE + k)))
            coefficients[name] = w.broadcast(context.cast(builder, number, table.dtype, w.dtype))

        def each_row(i, _):
            w_row, g_row = builder.mul(i, w_pitch), builder.add(g_at, builder.mul(i, g_pitch))

            def each_vector(j, _):
                across = builder.mul(j, I64(w.vector_type.count))
                place = builder.add(w_row, across)
                w_place, places = builder.add(w_at, place), [builder.add(slot, place) for slot in slots]
                gradient, parameter = g.vector(builder.add(g_row, across)), w.vector(w_place)
                parameter, *new = formula(gradient, parameter, *map(state.vector, places), **coefficients)
                w.put(w_place, parameter)
                for p, values in zip(places, new, strict=True):
                    state.put(p, values)
                return []

            return loop(builder, args[6], [], each_vector)

        loop(builder, args[5], [], each_row)
        return context.get_dummy_value()

    return apply

"""Optimizers: the formulas of ``Optimizer.update`` in `fastmlp.optimizers`, for whole vectors.

A formula takes the gradient, the parameter and its state, and by name the coefficients of the step. It returns the
parameter and the state after the step. Operations and roundings are those of NumPy. To add a formula, write it here,
list it in `FORMULAS`, and return its coefficients by the same names from ``Optimizer.coefficients``.

Plain SGD needs no formula: it finishes the tile that sums up the gradient, which is then never stored.
"""

import inspect
import math
from functools import cache

import numpy as np

from .simd import fma, maximum, minimum, sqrt, where
from .trace import loop, traced


def plain_sgd(g, w, rate):
    """Return ``w + rate * g``, where the rate is minus the learning rate."""
    return fma(rate, g, w)


def accumulate(g, before, keep):
    """Return ``before + g`` if `keep` is 1, else ``g``."""
    return where(keep > 0.0, before + g, g)


def penalized_and_clipped(g, w, l2, bound, scale):
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


@cache
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

    @traced
    def apply(w, g, state, schedule, step, n_rows, n_vectors):
        """Take the step of the row `step` of the table; `w` and `g` are matrices, `state` the slots of `w`."""
        first = step * (RATE + len(names)) + RATE
        coefficients = {name: schedule.number(first + k).vector(w.buffer) for k, name in enumerate(names)}
        starts = [state.at + k * state.stride for k in range(n_slots)]

        def each_row(i, _):
            def each_vector(j, _):
                across = j * w.buffer.count
                at, places = w.at + i * w.pitch + across, [start + i * w.pitch + across for start in starts]
                gradient, parameter = g.buffer.vector(g.at + i * g.pitch + across), w.buffer.vector(at)
                parameter, *new = formula(gradient, parameter, *map(state.buffer.vector, places), **coefficients)
                w.buffer.put(at, parameter)
                for place, numbers in zip(places, new, strict=True):
                    state.buffer.put(place, numbers)
                return []

            return loop(n_vectors, [], each_vector)

        loop(n_rows, [], each_row)

    return apply

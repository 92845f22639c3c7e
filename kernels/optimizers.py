"""How a gradient changes a parameter: each optimizer is a formula, that of ``update`` in `fastmlp.optimizers`.

Plain SGD ends the tile where its gradient was summed, and the gradient is never stored. The others have a row of
coefficients for each step, and some a memory: numbers for each parameter, in slots that lie as the parameters do. They
go over blocks of gradients that are still in the first cache.

A formula takes the gradient and the parameter, then its memory, and by name its coefficients, in the order of their
columns in the table of `fastmlp.optimizers`; it gives the parameter and the memory after the step. Operations and their
roundings are those of NumPy.
"""

import inspect

from numba import types
from numba.extending import intrinsic

from .simd import I64, Lanes, Memory, fma, maximum, minimum, spread, sqrt, where
from .tile import loop

L2, CLIP_VALUE, CLIP_NORM, RATE = range(4)
"""Columns of a step's row of coefficients: the penalty on weights, bounds of each number and of the norm of the
gradient, infinite where there are none; from ``RATE`` on those of the optimizer's formula, all of which begin with its
learning rate."""


def sgd(gradient, parameter, rate):
    """Give ``parameter + rate * gradient``, the rate being minus the learning rate."""
    return fma(rate, gradient, parameter)


def sum_up(gradient, before, keep):
    """Give ``before + gradient``, or, where nothing is to be kept, the gradient."""
    return where(keep > 0.0, before + gradient, gradient)


def limited(gradient, parameter, l2, bound, scale):
    """Give ``scale * clip(gradient + l2 * parameter, -bound, bound)``."""
    return scale * minimum(bound, maximum(-bound, gradient + l2 * parameter))


# Formulas -------------------------------------------------------------------------------------------------------------


def decayed_sgd(g, w, *, rate, weight_decay, momentum):
    """Give ``w - rate * g``, with weight decay."""
    return (w - rate * (g + weight_decay * w),)


def momentum(g, w, v, *, rate, weight_decay, momentum):
    """Give ``v = momentum * v + g; w - rate * v``."""
    v = momentum * v + (g + weight_decay * w)
    return w - rate * v, v


def nesterov(g, w, v, *, rate, weight_decay, momentum):
    """Give ``v = momentum * v + g; w - rate * (g + momentum * v)``."""
    g = g + weight_decay * w
    v = momentum * v + g
    return w - rate * (g + momentum * v), v


def adam(g, w, m, v, *, rate, eps, weight_decay, old1, new1, old2, new2):
    """Give ``m = old1 * m + new1 * g; v = old2 * v + new2 * g*g; w - rate * m / (sqrt(v) + eps)``."""
    g = g + weight_decay * w
    m, v = old1 * m + new1 * g, old2 * v + new2 * g * g
    return w - rate * m / (sqrt(v) + eps), m, v


def adamw(g, w, m, v, *, rate, eps, decay, old1, new1, old2, new2):
    """Give what Adam does, ``decay * w`` taken off besides."""
    m, v = old1 * m + new1 * g, old2 * v + new2 * g * g
    return w - (decay * w + rate * m / (sqrt(v) + eps)), m, v


def rmsprop(g, w, v, *, rate, eps, weight_decay, old, new, momentum):
    """Give ``v = old * v + new * g*g; w - rate * g / (sqrt(v) + eps)``."""
    g = g + weight_decay * w
    v = old * v + new * g * g
    return w - rate * (g / (sqrt(v) + eps)), v


def rmsprop_momentum(g, w, v, u, *, rate, eps, weight_decay, old, new, momentum):
    """Give ``u = momentum * u + g / (sqrt(v) + eps); w - rate * u``."""
    g = g + weight_decay * w
    v = old * v + new * g * g
    u = momentum * u + g / (sqrt(v) + eps)
    return w - rate * u, v, u


def rmsprop_centered(g, w, v, m, *, rate, eps, weight_decay, old, new, momentum):
    """Give ``m = old * m + new * g; w - rate * g / (sqrt(v - m*m) + eps)``; rounding may take ``v - m*m`` below 0."""
    g = g + weight_decay * w
    v, m = old * v + new * g * g, old * m + new * g
    return w - rate * (g / (sqrt(maximum(0.0, v - m * m)) + eps)), v, m


def rmsprop_centered_momentum(g, w, v, m, u, *, rate, eps, weight_decay, old, new, momentum):
    """Give ``u = momentum * u + g / (sqrt(v - m*m) + eps); w - rate * u``."""
    g = g + weight_decay * w
    v, m = old * v + new * g * g, old * m + new * g
    u = momentum * u + g / (sqrt(maximum(0.0, v - m * m)) + eps)
    return w - rate * u, v, m, u


def adagrad(g, w, v, *, rate, eps, weight_decay):
    """Give ``v + g*g; w - rate * g / (sqrt(v) + eps)``."""
    g = g + weight_decay * w
    v = v + g * g
    return w - rate * g / (sqrt(v) + eps), v


FORMULAS = {
    "sgd": decayed_sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "adam": adam,
    "adamw": adamw,
    "rmsprop": rmsprop,
    "rmsprop_momentum": rmsprop_momentum,
    "rmsprop_centered": rmsprop_centered,
    "rmsprop_centered_momentum": rmsprop_centered_momentum,
    "adagrad": adagrad,
}
"""The formula of each ``Optimizer.formula`` of `fastmlp.optimizers`."""


def descent(formula):
    """Build the intrinsic that changes a block of parameters, and their memory, by an optimizer's formula."""
    kinds = [parameter.kind for parameter in inspect.signature(formula).parameters.values()]
    names = [name for name, p in inspect.signature(formula).parameters.items() if p.kind is p.KEYWORD_ONLY]
    slots = len(kinds) - len(names) - 2
    i64 = types.int64

    @intrinsic
    def descend(
        typing_context, w, w_at, pitch, g, g_at, g_pitch, memory, memory_at, slot, coefficients, at, n_rows, n_vectors
    ):
        """Take the step of the row ``coefficients[at:]``; slots of the memory lie ``slot`` numbers from one another."""
        arrays = (w, i64, i64, g, i64, i64, memory, i64, i64, coefficients)
        return types.void(*arrays, i64, i64, i64), codegen

    def codegen(context, builder, signature, args):
        _, w_at, pitch, _, g_at, g_pitch, _, memory_at, slot, _, at, n_rows, n_vectors = args
        w, g, memory, table = (Memory(context, builder, signature.args[i], args[i]) for i in (0, 3, 6, 9))
        starts = [builder.add(memory_at, builder.mul(slot, I64(k))) for k in range(slots)]
        coefficients = {}
        for k, name in enumerate(names):
            number = context.cast(builder, table.number(builder.add(at, I64(RATE + k))), table.dtype, w.dtype)
            coefficients[name] = Lanes(builder, spread(builder, w.vector_type, number))

        def each_row(i, _):
            row, g_row = builder.mul(i, pitch), builder.add(g_at, builder.mul(i, g_pitch))

            def each_vector(j, _):
                across = builder.mul(j, I64(w.vector_type.count))
                place = builder.add(row, across)
                places = [builder.add(start, place) for start in starts]
                w_place = builder.add(w_at, place)
                gradient, parameter = g.vector(builder.add(g_row, across)), w.vector(w_place)
                new = formula(gradient, parameter, *(memory.vector(p) for p in places), **coefficients)
                w.put(w_place, new[0])
                for p, values in zip(places, new[1:], strict=True):
                    memory.put(p, values)
                return []

            loop(builder, n_vectors, [], each_vector)
            return []

        loop(builder, n_rows, [], each_row)
        return context.get_dummy_value()

    return descend

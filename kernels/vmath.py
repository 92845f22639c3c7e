"""Elementary functions of whole vectors: formulas of `Vector` (see `simd.py`), each with its accuracy.

Accuracy is in units in the last place of the result. Series end with the term below half a unit.
"""

import numpy as np
from llvmlite import ir

from .simd import Vector, fma, maximum, where


def exp(x):
    """Return ``e**x`` for ``x <= 0``, to 2 units in the last place; 0 where it would be subnormal.

    It overflows early for ``x > 0``.
    """
    r, power, smallest = _split(x)
    return where(x.of(smallest) > x, 0.0, fma(_exponential_series(r, x.bits), r, x.of(1)) * power)


def exp_of_any(x):
    """Return ``e**x`` to 4 units in the last place; infinity where ``e**-x`` would be subnormal."""
    small = exp(-maximum(x, -x))  # which cannot overflow
    return where(x > 0.0, 1.0 / small, small)


def expm1(x):
    """Return ``e**x - 1`` for ``x <= 0``, to 2 units in the last place, also near 0."""
    r, power, smallest = _split(x)
    return where(x.of(smallest) > x, -1.0, fma(_exponential_series(r, x.bits) * r, power, power - 1.0))


def _split(x):
    """Return r and 2**n with ``x = n log 2 + r``, ``|r| <= log(2) / 2``, and the smallest x whose 2**n is normal."""
    b = x.builder
    mantissa, smallest = (23, -87.33654) if x.bits == 32 else (52, -708.39641)
    integer = ir.VectorType(ir.IntType(x.bits), x.count)
    # log 2 in two parts (Cody and Waite, 1980), the first so short that n * first is exact
    first, second = 0.693359375, -2.1219444005469058e-4
    magic = 1.5 * 2.0**mantissa  # adding it rounds to an integer, which is then in the lowest bits
    shifted = fma(maximum(smallest, x), x.of(1 / np.log(2)), x.of(magic))
    n = shifted - magic
    r = fma(n, x.of(-second), fma(n, x.of(-first), maximum(smallest, x)))
    exponent = b.shl(b.bitcast(shifted.value, integer), ir.Constant(integer, [mantissa] * x.count))
    return r, Vector(b, b.bitcast(b.add(exponent, b.bitcast(x.of(1).value, integer)), x.value.type)), smallest


def _exponential_series(r, bits):
    """Return ``(e**r - 1) / r`` by its Taylor series."""
    terms = 7 if bits == 32 else 13
    return polynomial(r, [1 / _factorial(k) for k in range(1, terms + 1)])


def polynomial(x, coefficients):
    """Return ``c[0] + c[1] x + c[2] x**2 + ...`` by Horner's rule."""
    total = x.of(coefficients[-1])
    for c in coefficients[-2::-1]:
        total = fma(total, x, x.of(c))
    return total


def log1p(x):
    """Return ``log(1 + x)`` for ``0 <= x <= 1``, to 2 units in the last place.

    With ``s = x / (2 + x)`` it is ``log((1 + s) / (1 - s)) = 2 s (1 + s**2 / 3 + s**4 / 5 + ...)``.
    """
    s = x / (2.0 + x)
    terms = 7 if x.bits == 32 else 16  # s**2 <= 1 / 9
    square = s * s
    return fma(polynomial(square, [2 / (2 * k + 1) for k in range(1, terms + 1)]) * square, s, 2.0 * s)


def logistic(z):
    """Return ``1 / (1 + e**-z)`` to 4 units in the last place; 0 where it would be subnormal."""
    small = exp(-maximum(z, -z))  # which cannot overflow
    return where(z > 0.0, z.of(1), small) / (1.0 + small)


def tanh(z):
    """Return the hyperbolic tangent to 4 units in the last place."""
    small = expm1(-2.0 * maximum(z, -z))
    size = -small / (2.0 + small)
    return where(z.of(0) > z, -size, size)


def log(x):
    """Return the logarithm of a normal float64 number, to 2 units in the last place.

    It is ``e log 2 + log m`` with m between the roots of 1/2 and 2; with ``s = (m - 1) / (m + 1)``, ``log m`` is
    ``2 s (1 + s**2 / 3 + s**4 / 5 + ...)``.
    """
    b, integer = x.builder, ir.VectorType(ir.IntType(64), x.count)

    def words(number):
        return ir.Constant(integer, [number] * x.count)

    root_bits = int(np.float64(np.sqrt(0.5)).view(np.int64))
    bits = b.bitcast(x.value, integer)
    exponent = b.ashr(b.sub(bits, words(root_bits)), words(52))
    m = Vector(b, b.bitcast(b.sub(bits, b.shl(exponent, words(52))), x.value.type))
    e = Vector(b, b.sitofp(exponent, x.value.type))
    s = (m - 1.0) / (m + 1.0)
    square = s * s  # at most 0.03
    log_m = fma(polynomial(square, [2 / (2 * k + 1) for k in range(1, 11)]) * square, s, 2.0 * s)
    return fma(e, x.of(np.log(2)), log_m)


def turn(x):
    """Return cosine and sine of ``2 pi x`` of float64 numbers from 0 to 1, to a few units in the last place of 1."""
    magic = 1.5 * 2.0**52  # adding it rounds to an integer
    quarter = (4.0 * x + magic) - magic
    t = fma(quarter, x.of(-0.25), x) * (2 * np.pi)
    square = t * t
    c = polynomial(square, [(-1) ** k / _factorial(2 * k) for k in range(9)])
    s = polynomial(square, [(-1) ** k / _factorial(2 * k + 1) for k in range(9)]) * t
    cosine = where(quarter == 1.0, -s, where(quarter == 2.0, -c, where(quarter == 3.0, s, c)))
    sine = where(quarter == 1.0, c, where(quarter == 2.0, -s, where(quarter == 3.0, -c, s)))
    return cosine, sine


def _factorial(k):
    return float(np.prod(np.arange(1, k + 1, dtype=np.float64)))

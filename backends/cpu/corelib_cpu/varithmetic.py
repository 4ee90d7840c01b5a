"""Modulus, direction and quotient of one complex element, for every finite number and the infinite ones.

Nothing overflows or underflows before the result does: what is too large or too small for its square is scaled by a
power of two. The functions without branches become vectors; those named `..._single` are for complex64, of which
products are exact in double precision.
"""

from __future__ import annotations

import numpy as np

from .language import inline
from .machine import bits_f64, copysign, fabs, float32, float64, fma, from_bits_f64, inf, nan, sqrt

LARGE, SMALL = 2.0**500, 2.0**-500  # squares between these are normal numbers, and so are sums of them
LARGE_F, SMALL_F, DOWN_F, UP_F = (np.float32(2.0**n) for n in (60, -40, -66, 86))  # the same of complex64


@inline
def finite(x):
    return fabs(x) < inf


@inline
def exponent(x):
    """n where 2**n <= |x| < 2**(n + 1), of a normal number."""
    return ((bits_f64(x) >> 52) & 2047) - 1023


@inline
def scaled(x, n):
    """x * 2**n, rounded once; x is neither large nor small."""
    while n > 1000:
        x *= 2.0**1000
        n -= 1000
        if fabs(x) == inf:
            return x
    while n < -1000:
        x *= 2.0**-1000
        n += 1000
        if x == 0.0:
            return x
    return x * from_bits_f64((n + 1023) << 52)


@inline
def powers_for(large):
    """A power of 2 that brings a number, of which `large` is the larger part, to where squares are normal numbers,
    and the one that brings it back.
    """
    return (
        2.0**-600 if large > LARGE else 2.0**700 if large < SMALL else 1.0,
        2.0**600 if large > LARGE else 2.0**-700 if large < SMALL else 1.0,
    )


@inline
def modulus_complex(z):
    """|z| without overflow or underflow on the way; infinite if a part is, even beside NaN."""
    x, y = fabs(z.real), fabs(z.imag)
    there, back = powers_for(x if x > y else y)
    a, b = x * there, y * there
    r = sqrt(fma(a, a, b * b)) * back
    return inf if (x == inf) | (y == inf) else r


@inline
def modulus_single(z):
    """The same of complex64, in single precision."""
    x, y = fabs(z.real), fabs(z.imag)
    large = x if x > y else y
    there = DOWN_F if large > LARGE_F else UP_F if large < SMALL_F else float32(1.0)
    back = float32(1.0) / there
    a, b = x * there, y * there
    r = sqrt(fma(a, a, b * b)) * back
    return float32(inf) if (x == float32(inf)) | (y == float32(inf)) else r


@inline
def sign_complex(z):
    """z / |z|; 0 for 0, NaN + NaN i where a part is NaN."""
    x, y = fabs(z.real), fabs(z.imag)
    there, _ = powers_for(x if x > y else y)
    a, b = z.real * there, z.imag * there
    r = sqrt(fma(a, a, b * b))
    r = inf if (x == inf) | (y == inf) else r
    a, b = a / r, b / r
    lost, zero = (x != x) | (y != y), (x == 0.0) & (y == 0.0)
    return complex(nan if lost else 0.0 if zero else a, nan if lost else 0.0 if zero else b)


@inline
def at_infinity(x):
    """A part of an infinite number as seen from afar: 1 if it is infinite, else 0, with its sign."""
    return copysign(1.0 if fabs(x) == inf else 0.0, x)


@inline
def sum_of_products(a, b, c, d):
    """ab + cd within an ULP and a half, of the right sign where it is zero."""
    p = c * d
    e = fma(c, d, -p)
    r = fma(a, b, p) + e
    return a * b + p if r == 0.0 or r != r else r


@inline
def mantissa(x):
    """m and n with x = m 2**n and 1 <= |m| < 2; a zero is far below everything."""
    if x == 0.0:
        return x, -4000
    shift = 0
    if fabs(x) < SMALL:
        x, shift = x * 2.0**600, 600
    n = exponent(x)
    return scaled(x, -n), n - shift


@inline
def far_sum(a, b, c, d):
    """ab + cd of any finite numbers as x 2**n."""
    (a, i), (b, j), (c, k), (d, m) = mantissa(a), mantissa(b), mantissa(c), mantissa(d)
    n = max(i + j, k + m)
    return sum_of_products(scaled(a, max(i + j - n, -1000)), b, scaled(c, max(k + m - n, -1000)), d), n


@inline
def divide_complex(z, w):
    """z / w. By zero as real numbers are divided; infinite by finite is infinite, finite by infinite zero, and
    infinite by infinite NaN.
    """
    a, b, c, d = z.real, z.imag, w.real, w.imag
    if c == 0.0 and d == 0.0:
        return complex(a / c, b / c)
    if finite(a) and finite(b) and finite(c) and finite(d):
        (x, i), (y, j), (norm, n) = far_sum(a, c, b, d), far_sum(b, c, -a, d), far_sum(c, c, d, d)
        return complex(scaled(x / norm, i - n), scaled(y / norm, j - n))
    if (fabs(a) == inf or fabs(b) == inf) and finite(c) and finite(d):
        a, b = at_infinity(a), at_infinity(b)
        return complex(inf * (a * c + b * d), inf * (b * c - a * d))
    if finite(a) and finite(b) and (fabs(c) == inf or fabs(d) == inf):
        c, d = at_infinity(c), at_infinity(d)
        return complex(0.0 * (a * c + b * d), 0.0 * (b * c - a * d))
    return complex(nan, nan)


@inline
def fits(x):
    """Neither the products of such parts overflow nor those of the parts that are not 0 underflow."""
    return (x < 2.0**300) & ((x > 2.0**-300) | (x == 0.0))


@inline
def divides_plainly(z, w):
    x, y, c, d = fabs(z.real), fabs(z.imag), fabs(w.real), fabs(w.imag)
    return fits(x) & fits(y) & fits(c) & fits(d) & (c + d > 0.0)


@inline
def quotient_complex(z, w):
    """z / w where it divides plainly."""
    a, b, c, d = z.real, z.imag, w.real, w.imag
    norm = fma(c, c, d * d)
    return complex(sum_of_products(a, c, b, d) / norm, sum_of_products(b, c, -a, d) / norm)


@inline
def quotient_single(z, w):
    """z / w of complex64, whose products are double precision numbers, where w is not 0 and nothing is infinite or NaN."""
    a, b, c, d = float64(z.real), float64(z.imag), float64(w.real), float64(w.imag)
    norm = c * c + d * d
    return complex((a * c + b * d) / norm, (b * c - a * d) / norm)


@inline
def two_sum(a, b):
    """a + b, exactly."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)

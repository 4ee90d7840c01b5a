"""Powers of one complex element, in pairs of doubles: the error of a logarithm grows with the exponent.

The arithmetic of pairs is Dekker's ("A floating-point technique for extending the available precision", 1971), with
exact products by fma.
"""

from __future__ import annotations

import math

from numba.extending import register_jitable

from .machine import copysign, fabs, float64, floor, fma, inf, nan
from .vcomplex import (
    LARGE,
    SMALL,
    exp_complex,
    exp_times,
    exponent,
    finite,
    log_complex,
    scaled,
    sum_of_products,
    two_sum,
)

# --- sums and products of pairs of doubles, hi + lo with |lo| <= ulp(hi) / 2 --------------------------------


@register_jitable
def pair_sum(a, b):
    s, e = two_sum(a[0], b[0])
    t, f = two_sum(a[1], b[1])
    s, e = two_sum(s, e + t)
    return two_sum(s, e + f)


@register_jitable
def pair_product(a, b):
    p = a[0] * b[0]
    return two_sum(p, fma(a[0], b[0], -p) + (a[0] * b[1] + a[1] * b[0]))


@register_jitable
def pair_quotient(a, b):
    q = a[0] / b[0]
    p = pair_product((q, 0.0), b)
    r = pair_sum(a, (-p[0], -p[1]))
    return two_sum(q, (r[0] + r[1]) / b[0])


@register_jitable
def negated(a):
    return -a[0], -a[1]


# --- powers, in pairs of doubles ----------------------------------------------------------------------------

LN2_PAIR, PI_PAIR = (0.6931471805599453, 2.3190468138462996e-17), (3.141592653589793, 1.2246467991473532e-16)
ATAN_PAIRS = (  # of 0, 1/4, 1/2, 3/4 and 1
    (0.0, 0.0), (0.24497866312686414, 1.0698755618734451e-17), (0.4636476090008061, 2.2698777452961687e-17),
    (0.6435011087932844, 1.5834785051444286e-17), (0.7853981633974483, 3.061616997868383e-17),
)  # fmt: skip
TERMS, PAIRS = 14, 5  # of a series in s**2 <= 0.0295, to 2**-75, and how many of them are pairs


@register_jitable
def odd_series(s, sign):
    """s + sign s**3 / 3 + s**5 / 5 + ...: the inverse hyperbolic tangent of s for a sign of 1, its inverse tangent
    for -1.
    """
    square = pair_product(s, (s[0] * sign, s[1] * sign))
    rest = 0.0
    for k in range(TERMS, PAIRS - 1, -1):
        rest = fma(rest, square[0], 1.0 / (2.0 * k + 1.0))
    total = (rest, 0.0)
    for k in range(PAIRS - 1, -1, -1):
        n = 2.0 * k + 1.0
        r = 1.0 / n
        total = pair_sum(pair_product(total, square), (r, fma(-r, n, 1.0) / n))
    return pair_product(total, s)


@register_jitable
def log_pair(x, y, n):
    """log |x + yi| + n log 2, of numbers with 1 <= max(|x|, |y|) < 2: half the logarithm of the exact square m, which is
    2 atanh((m - 1) / (m + 1)).
    """
    p, q = x * x, y * y
    m = pair_sum((p, fma(x, x, -p)), (q, fma(y, y, -q)))
    twice = 2.0 * n
    while m[0] > 1.4142135623730951:
        m, twice = (0.5 * m[0], 0.5 * m[1]), twice + 1.0
    log = odd_series(pair_quotient(pair_sum(m, (-1.0, 0.0)), pair_sum(m, (1.0, 0.0))), 1.0)
    return pair_sum(log, pair_product((0.5 * twice, 0.0), LN2_PAIR))


@register_jitable
def angle_pair(x, y):
    """The angle of x + yi: that of a point k / 4 on the tangent, and the angle between the two."""
    a, b = fabs(x), fabs(y)
    turned = b > a
    if turned:
        a, b = b, a
    k = int(4.0 * (b / a) + 0.5)
    t = 0.25 * k
    base = ATAN_PAIRS[0]
    if k == 1:
        base = ATAN_PAIRS[1]
    elif k == 2:
        base = ATAN_PAIRS[2]
    elif k == 3:
        base = ATAN_PAIRS[3]
    elif k == 4:
        base = ATAN_PAIRS[4]
    p = t * a
    above = pair_sum((b, 0.0), (-p, -fma(t, a, -p)))
    p = t * b
    below = pair_sum((a, 0.0), (p, fma(t, b, -p)))
    angle = pair_sum(base, odd_series(pair_quotient(above, below), -1.0))
    if turned:
        angle = pair_sum((0.5 * PI_PAIR[0], 0.5 * PI_PAIR[1]), negated(angle))
    if copysign(1.0, x) < 0.0:
        angle = pair_sum(PI_PAIR, negated(angle))
    return negated(angle) if copysign(1.0, y) < 0.0 else angle


@register_jitable
def integer_power(x, y, n):
    """(x + yi)**n of numbers with 1 <= max(|x|, |y|) < 2, exact where that is possible."""
    zero, one = (0.0, 0.0), (1.0, 0.0)
    a, b, c, d = (x, 0.0), (y, 0.0), one, zero
    left = abs(n)
    while True:
        if left & 1:
            c, d = (
                pair_sum(pair_product(a, c), negated(pair_product(b, d))),
                pair_sum(pair_product(a, d), pair_product(b, c)),
            )
        left >>= 1
        if left == 0:
            break
        a, b = (
            pair_sum(pair_product(a, a), negated(pair_product(b, b))),
            pair_product((2.0 * a[0], 2.0 * a[1]), b),
        )
    if n < 0:
        norm = pair_sum(pair_product(c, c), pair_product(d, d))
        c, d = pair_quotient(c, norm), negated(pair_quotient(d, norm))
    return c[0] + 0.0, d[0] + 0.0


@register_jitable
def pow_complex(z, w):
    """z**w = e**(w log z); powers with integer exponents of up to 64 are multiplied. 1 where w is 0; 0**w is 0 for a
    positive real part of w, infinite for a negative one and NaN for none.
    """
    x, y, c, d = z.real, z.imag, w.real, w.imag
    if c == 0.0 and d == 0.0:
        return complex(1.0, 0.0)
    if x == 0.0 and y == 0.0 and finite(c) and finite(d):
        return complex(0.0, 0.0) if c > 0.0 else complex(inf, nan) if c < 0.0 else complex(nan, nan)
    if not (finite(x) and finite(y) and finite(c) and finite(d)):
        log = log_complex(z)
        return exp_complex(complex(c * log.real - d * log.imag, c * log.imag + d * log.real))
    n, large = 0, max(fabs(x), fabs(y))
    if large < SMALL:
        x, y, large, n = x * LARGE, y * LARGE, large * LARGE, -500
    k = exponent(large)
    x, y, n = scaled(x, -k), scaled(y, -k), n + k
    if d == 0.0 and fabs(c) <= 64.0 and floor(c) == c:
        power = int(c)
        x, y = integer_power(x, y, power)
        return complex(scaled(x, n * power), scaled(y, n * power))
    length, angle = log_pair(x, y, float64(n)), angle_pair(x, y)
    grow = pair_sum(pair_product((c, 0.0), length), negated(pair_product((d, 0.0), angle)))
    turn = pair_sum(pair_product((d, 0.0), length), pair_product((c, 0.0), angle))
    a, b, s, t = math.cos(turn[0]), math.sin(turn[0]), math.cos(turn[1]), math.sin(turn[1])
    a, b, more = a * s - b * t, b * s + a * t, 1.0 + grow[1]
    return complex(exp_times(grow[0], a * more), exp_times(grow[0], b * more) if b != 0.0 else 0.0)


@register_jitable
def pow_single(z, w):
    """z**w of complex64, for which doubles are enough where the exponent is no small integer."""
    x, y, c, d = float64(z.real), float64(z.imag), float64(w.real), float64(w.imag)
    whole = (d == 0.0) & (fabs(c) <= 64.0) & (floor(c) == c)
    if whole or (x == 0.0 and y == 0.0) or not (finite(x) and finite(y) and finite(c) and finite(d)):
        return pow_complex(complex(x, y), complex(c, d))
    log = log_complex(complex(x, y))
    grow, turn = c * log.real - d * log.imag, c * log.imag + d * log.real
    return complex(exp_times(grow, math.cos(turn)), exp_times(grow, math.sin(turn)) if turn != 0.0 else 0.0)


@register_jitable
def squares_plainly(z):
    x, y = fabs(z.real), fabs(z.imag)
    large = x if x > y else y
    return (x < 2.0**300) & (y < 2.0**300) & (large > 2.0**-300)


@register_jitable
def square_complex(z):
    """z**2 where it squares plainly; a zero has no sign."""
    x, y = float64(z.real), float64(z.imag)
    twice = 2.0 * x * y
    return complex(sum_of_products(x, x, -y, y) + 0.0, twice if (x != 0.0) & (y != 0.0) else 0.0)


@register_jitable
def square_careful(z):
    """z**2 elsewhere."""
    x, y, n = float64(z.real), float64(z.imag), 0
    if x == 0.0 and y == 0.0:
        return complex(0.0, 0.0)
    if not (finite(x) and finite(y)):
        log = log_complex(complex(x, y))
        return exp_complex(complex(2.0 * log.real - 0.0 * log.imag, 2.0 * log.imag + 0.0 * log.real))
    twice = 2.0 * (x * y) if x != 0.0 and y != 0.0 else 0.0
    large = max(fabs(x), fabs(y))
    if large < SMALL:
        x, y, large, n = x * LARGE, y * LARGE, large * LARGE, -500
    k = exponent(large)
    r = square_complex(complex(scaled(x, -k), scaled(y, -k)))
    return complex(scaled(r.real, 2 * (n + k)), twice)

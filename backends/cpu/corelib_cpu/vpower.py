"""Powers of one complex element, in pairs of doubles: the error of a logarithm grows with the exponent.

The arithmetic of pairs is Dekker's ("A floating-point technique for extending the available precision", 1971), with
exact products by fma.
"""

from __future__ import annotations

from .language import inline
from .machine import bits_f64, copysign, fabs, float32, float64, floor, fma, from_bits_f64, inf, nan
from .varithmetic import LARGE, SMALL, exponent, finite, scaled, sum_of_products, two_sum
from .vcomplex import exp_complex, exp_near, log_complex, log_near
from .vmath import cos_sin_float64, exp_float64

# --- sums and products of pairs of doubles, hi + lo with |lo| <= ulp(hi) / 2 --------------------------------


@inline
def pair(large, small):
    """Their exact sum as a pair."""
    s = large + small
    return s, small - (s - large)


@inline
def pair_sum(a, b):
    s, e = two_sum(a[0], b[0])
    return pair(s, e + (a[1] + b[1]))


@inline
def pair_product(a, b):
    p = a[0] * b[0]
    return pair(p, fma(a[0], b[0], -p) + fma(a[0], b[1], a[1] * b[0]))


@inline
def times(a, x):
    """A pair times a double."""
    p = a[0] * x
    return pair(p, fma(a[1], x, fma(a[0], x, -p)))


@inline
def pair_quotient(a, b):
    q = a[0] / b[0]
    p = q * b[0]
    rest = (a[0] - p) - fma(q, b[0], -p) + (a[1] - q * b[1])
    return pair(q, rest / b[0])


@inline
def negated(a):
    return -a[0], -a[1]


# --- powers, in pairs of doubles ----------------------------------------------------------------------------

LN2_PAIR, PI_PAIR = (0.6931471805599453, 2.3190468138462996e-17), (3.141592653589793, 1.2246467991473532e-16)
ATAN_0_25, ATAN_0_5 = (
    (0.24497866312686414, 1.0698755618734451e-17),
    (0.4636476090008061, 2.2698777452961687e-17),
)
ATAN_0_75, ATAN_1 = (0.6435011087932844, 1.5834785051444286e-17), (0.7853981633974483, 3.061616997868383e-17)
ODD = tuple(1.0 / n for n in range(1, 27, 2))
THIRD, FIFTH = (0.3333333333333333, 1.850371707708594e-17), (0.2, -1.1102230246251566e-17)


@inline(always=True)
def odd_series(s, sign):
    """s + sign s**3 / 3 + s**5 / 5 + ... to 2**-68, |s| < 0.172: the inverse hyperbolic tangent of s for a sign of 1, its
    inverse tangent for -1.
    """
    w = pair_product(s, (s[0] * sign, s[1] * sign))
    z = w[0]
    p = fma(fma(fma(fma(ODD[12], z, ODD[11]), z, ODD[10]), z, ODD[9]), z, ODD[8])
    p = fma(fma(fma(fma(fma(p, z, ODD[7]), z, ODD[6]), z, ODD[5]), z, ODD[4]), z, ODD[3])
    q = pair_sum(times(w, p), FIFTH)
    q = pair_sum(pair_product(q, w), THIRD)
    q = pair_sum(pair_product(q, w), (1.0, 0.0))
    return pair_product(q, s)


@inline(always=True)
def log_pair(x, y, n):
    """log |x + yi| + n log 2, of numbers with 1 <= max(|x|, |y|) < 2: half the logarithm of the exact square 2**k m, which
    is 2 atanh((m - 1) / (m + 1)).
    """
    p, q = x * x, y * y
    m = pair_sum((p, fma(x, x, -p)), (q, fma(y, y, -q)))
    k = (bits_f64(m[0]) - 0x3FE6A09E667F3BCD) >> 52
    unit = from_bits_f64((1023 - k) << 52)
    m = (m[0] * unit, m[1] * unit)
    log = odd_series(pair_quotient(pair_sum(m, (-1.0, 0.0)), pair_sum(m, (1.0, 0.0))), 1.0)
    return pair_sum(log, times(LN2_PAIR, n + 0.5 * float64(k)))


@inline(always=True)
def angle_pair(x, y):
    """The angle of x + yi: that of the slope k / 4, and the angle between the two."""
    a, b = fabs(x), fabs(y)
    turned = b > a
    a, b = b if turned else a, a if turned else b
    t = 0.25 * floor(4.0 * (b / a) + 0.5)
    first = (
        ATAN_0_25[0] if t == 0.25 else ATAN_0_5[0] if t == 0.5 else ATAN_0_75[0] if t == 0.75 else ATAN_1[0]
    )
    second = (
        ATAN_0_25[1] if t == 0.25 else ATAN_0_5[1] if t == 0.5 else ATAN_0_75[1] if t == 0.75 else ATAN_1[1]
    )
    base = (0.0 if t == 0.0 else first, 0.0 if t == 0.0 else second)
    p, q = t * a, t * b
    above, below = pair_sum((b, 0.0), (-p, -fma(t, a, -p))), pair_sum((a, 0.0), (q, fma(t, b, -q)))
    angle = pair_sum(base, odd_series(pair_quotient(above, below), -1.0))
    beside = pair_sum((0.5 * PI_PAIR[0], 0.5 * PI_PAIR[1]), negated(angle))
    angle = (beside[0] if turned else angle[0], beside[1] if turned else angle[1])
    behind, left = pair_sum(PI_PAIR, negated(angle)), copysign(1.0, x) < 0.0
    angle = (behind[0] if left else angle[0], behind[1] if left else angle[1])
    return copysign(1.0, y) * angle[0], copysign(1.0, y) * angle[1]


@inline
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


@inline(always=True)
def exponent_pairs(x, y, n, c, d):
    """(c + di) log(2**n (x + yi))"""
    length, angle = log_pair(x, y, n), angle_pair(x, y)
    return (
        pair_sum(times(length, c), times(angle, -d)),
        pair_sum(times(length, d), times(angle, c)),
    )


@inline
def whole(w):
    """Whether a power is made by multiplications: exact where it can be."""
    return (w.imag == 0.0) & (fabs(w.real) <= 64.0) & (floor(w.real) == w.real)


@inline
def pow_complex(z, w):
    """z**w where powers_plainly does not hold. Integer exponents of up to 64 are multiplied out; other powers are e**(w
    log z), whose error is |w log z| ULP where that is not computed in pairs. 1 where w is 0; 0**w is 0 for a positive
    real part of w, infinite for a negative one and NaN for none.
    """
    x, y, c, d = z.real, z.imag, w.real, w.imag
    if c == 0.0 and d == 0.0:
        return complex(1.0, 0.0)
    if x == 0.0 and y == 0.0 and finite(c) and finite(d):
        return complex(0.0, 0.0) if c > 0.0 else complex(inf, nan) if c < 0.0 else complex(nan, nan)
    if finite(x) and finite(y):
        n, large = 0, max(fabs(x), fabs(y))
        if large < SMALL:
            x, y, large, n = x * LARGE, y * LARGE, large * LARGE, -500
        k = exponent(large)
        x, y, n = scaled(x, -k), scaled(y, -k), n + k
        if whole(w):
            power = int(c)
            x, y = integer_power(x, y, power)
            return complex(scaled(x, n * power), scaled(y, n * power))
        if min(fabs(x), fabs(y)) > 2.0**-300 and fabs(c) + fabs(d) < 100.0:
            grow, turn = exponent_pairs(x, y, float64(n), c, d)
            r = exp_complex(complex(grow[0], turn[0]))
            if finite(r.real) and finite(r.imag):
                real, imag = fma(-turn[1], r.imag, r.real), fma(turn[1], r.real, r.imag)
                r = complex(fma(grow[1], real, real), fma(grow[1], imag, imag))
            return complex(r.real, r.imag if turn[0] != 0.0 else 0.0)
    log = log_complex(z)
    grow, turn = c * log.real - d * log.imag, c * log.imag + d * log.real
    r = exp_complex(complex(grow, turn))
    return complex(r.real, r.imag if turn != 0.0 or not finite(grow) else 0.0)


# As vectors: neither operand is special, w log z is less than 1e5, and nothing has to be exact. LLVM does not inline
# functions of this length by itself, and makes no vectors of a loop with calls.


@inline
def powers_plainly(z, w):
    x, y = fabs(float64(z.real)), fabs(float64(z.imag))
    large = x if x > y else y
    size = (fabs(w.real) + fabs(w.imag)) * (4.0 + 0.7 * fabs(float64(exponent(large))))
    return squares_plainly(z) & (size < 1e5) & ((w.imag != 0.0) | (floor(w.real) != w.real))


@inline
def pow_near_complex(z, w):
    large = fabs(z.real) if fabs(z.real) > fabs(z.imag) else fabs(z.imag)
    k = exponent(large)
    unit = from_bits_f64((1023 - k) << 52)
    grow, turn = exponent_pairs(z.real * unit, z.imag * unit, float64(k), w.real, w.imag)
    r = exp_float64(grow[0]) * (1.0 + grow[1])
    c, s = cos_sin_float64(turn[0])
    c, s = fma(-turn[1], s, c), fma(turn[1], c, s)
    return complex(r * c, r * s if turn[0] != 0.0 else 0.0)


@inline
def pow_near_single(z, w):
    """Of complex64: doubles are enough."""
    log = log_near(z)
    c, d = float64(w.real), float64(w.imag)
    grow, turn = c * log.real - d * log.imag, c * log.imag + d * log.real
    r = exp_near(complex(grow, turn))
    return complex(r.real, r.imag if turn != 0.0 else 0.0)


# --- squares ------------------------------------------------------------------------------------------------


@inline
def squares_plainly(z):
    x, y = fabs(z.real), fabs(z.imag)
    large = x if x > y else y
    return (x < 2.0**300) & (y < 2.0**300) & (large > 2.0**-300)


@inline
def square_complex(z):
    """z**2 where it squares plainly; a zero has no sign."""
    x, y = float64(z.real), float64(z.imag)
    twice = 2.0 * x * y
    return complex(sum_of_products(x, x, -y, y) + 0.0, twice if (x != 0.0) & (y != 0.0) else 0.0)


@inline
def has_square_complex(z):
    return squares_plainly(z)


@inline
def has_square_single(z):
    return (fabs(z.real) < float32(inf)) & (fabs(z.imag) < float32(inf))


@inline
def square_single(z):
    """Of complex64, which has no infinite or NaN part."""
    x, y = float64(z.real), float64(z.imag)
    return complex(x * x - y * y, 2.0 * x * y + 0.0)


@inline
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

"""Elementary functions of one complex element that the compiled loops are built on.

Special values are those of the array API standard's tables, which are C99's Annex G. The formulas are Kahan's
("Branch cuts for complex elementary functions, or much ado about nothing's sign bit", 1987): real functions of the
parts in which nothing cancels and nothing overflows before the result does. The C library is asked for real
functions only; its complex ones differ from machine to machine, and so do those that NumPy takes from it.

Everything is computed in double precision, for complex64 as well: it is then rounded once. Powers stand in vpower.py.
"""

from __future__ import annotations

import math

from .language import External, inline, types
from .machine import bits_f64, copysign, fabs, float64, fma, from_bits_f64, inf, nan, sqrt
from .varithmetic import LARGE, SMALL, finite, two_sum
from .vmath import atan2_float64, cos_sin_float64, exp_float64, log_parts_float64, sinh_cosh_float64

_double = types.float64
hypot = External("hypot", _double(_double, _double))
atan2 = External("atan2", _double(_double, _double))
PI = math.pi
LN2, LN10 = math.log(2), math.log(10)
LOG2E, LOG10E = 1 / LN2, 1 / LN10
E709 = math.exp(709)  # nearly the largest power of e that is a double


# --- exponentials -------------------------------------------------------------------------------------------


@inline
def product(x, y):
    """x * y, where a zero wins over infinity and NaN."""
    if x == 0.0 or y == 0.0:
        sign = 1.0 if x != x else copysign(1.0, x)
        return copysign(0.0, sign if y != y else sign * copysign(1.0, y))
    return x * y


@inline
def exp_times(x, factor):
    """e**x * factor, finite also where e**x alone is not."""
    for _ in range(2):
        if x > 709.0:
            x, factor = x - 709.0, factor * E709
    return product(math.exp(x), factor)


@inline
def sinh_times(x, factor):
    if fabs(x) > 709.0:  # here it is e**|x| / 2
        return exp_times(fabs(x) - 709.0, copysign(E709 / 2, x) * factor)
    return product(math.sinh(x), factor)


@inline
def cosh_times(x, factor):
    if fabs(x) > 709.0:
        return exp_times(fabs(x) - 709.0, E709 / 2 * factor)
    return product(math.cosh(x), factor)


@inline
def exp_complex(z):
    """e**x cos y + i e**x sin y."""
    x, y = z.real, z.imag
    if not finite(y):
        return complex(0.0, 0.0) if x == -inf else complex(inf, nan) if x == inf else complex(nan, nan)
    return complex(exp_times(x, math.cos(y)), exp_times(x, math.sin(y)))


@inline
def expm1_complex(z):
    """(expm1(x) cos y - 2 sin(y/2)**2) + i e**x sin y: nothing large cancels near 0."""
    x, y = z.real, z.imag
    if not finite(y):
        return complex(-1.0, 0.0) if x == -inf else complex(inf, nan) if x == inf else complex(nan, nan)
    if fabs(x) < 1.0:
        s = math.sin(0.5 * y)
        real = math.expm1(x) * math.cos(y) + (0.0 - 2.0 * s * s)
    else:
        real = exp_times(x, math.cos(y)) - 1.0
    return complex(real, exp_times(x, math.sin(y)))


@inline
def sinh_complex(z):
    """sinh x cos y + i cosh x sin y."""
    x, y = z.real, z.imag
    if fabs(x) == inf and not finite(y):
        return complex(inf, nan)
    return complex(sinh_times(x, math.cos(y)), cosh_times(x, math.sin(y)))


@inline
def cosh_complex(z):
    """cosh x cos y + i sinh x sin y."""
    x, y = z.real, z.imag
    if fabs(x) == inf and not finite(y):
        return complex(inf, nan)
    return complex(cosh_times(x, math.cos(y)), sinh_times(x, math.sin(y)))


# As vectors: parts so near to 0 that nothing overflows, and angles are reduced by three products.


@inline
def is_near(x, y):
    return (fabs(x) < 300.0) & (fabs(y) < 1e9)


@inline
def exp_near(z):
    r = exp_float64(float64(z.real))
    c, s = cos_sin_float64(float64(z.imag))
    return complex(r * c, r * s)


@inline
def sinh_near(z):
    sinh, cosh = sinh_cosh_float64(float64(z.real))
    cos, sin = cos_sin_float64(float64(z.imag))
    return complex(sinh * cos, cosh * sin)


@inline
def cosh_near(z):
    sinh, cosh = sinh_cosh_float64(float64(z.real))
    cos, sin = cos_sin_float64(float64(z.imag))
    return complex(cosh * cos, sinh * sin)


@inline
def tanh_near(z):
    """(sinh x cosh x + i sin y cos y) / (sinh**2 x + cos**2 y)."""
    sinh, cosh = sinh_cosh_float64(float64(z.real))
    cos, sin = cos_sin_float64(float64(z.imag))
    d = fma(sinh, sinh, cos * cos)
    return complex(sinh * cosh / d, sin * cos / d)


@inline
def tanh_complex(z):
    """Kahan's quotient: with t = tan y and s = sinh x, ((1 + t**2) sqrt(1 + s**2) s + i t) / (1 + (1 + t**2) s**2)."""
    x, y = z.real, z.imag
    if fabs(x) == inf:
        return complex(copysign(1.0, x), copysign(0.0, y))
    if not finite(y):
        return complex(x if x == 0.0 else nan, nan)
    if fabs(x) > 20.0:  # 1 - tanh |x| is less than 2**-57
        return complex(copysign(1.0, x), 4.0 * math.sin(y) * math.cos(y) * math.exp(-2.0 * fabs(x)))
    if x != x:
        return complex(x, y if y == 0.0 else nan)
    t, s = math.tan(y), math.sinh(x)
    b = fma(t, t, 1.0)
    d = fma(b * s, s, 1.0)
    return complex(b * sqrt(fma(s, s, 1.0)) * s / d, t / d)


# --- logarithms and inverse functions -----------------------------------------------------------------------


@inline
def excess(x, y, offset):
    """(offset + x)**2 + y**2 - 1 for an offset of 0 or 1, in which squares cancel the 1."""
    p, q = x * x, y * y
    lost = fma(x, x, -p) + fma(y, y, -q)
    first = 2.0 * x if offset == 1.0 else -1.0
    s, e = two_sum(first, p)
    s, f = two_sum(s, q)
    return s + (e + f + lost)


@inline
def log_modulus(x, y, offset):
    """log |offset + x + yi|: near the unit circle from |z|**2 - 1, of which a rounded |z| has lost all digits."""
    r = hypot(offset + x, y)
    if 0.5 < r < 2.0:
        return 0.5 * math.log1p(excess(x, y, offset))
    if finite(x) and finite(y) and r != 0.0:  # |z| overflows or has lost digits
        if r > LARGE:
            return math.log(hypot(x * SMALL, y * SMALL)) + 500.0 * LN2
        if r < SMALL:
            return math.log(hypot((offset + x) * LARGE, y * LARGE)) - 500.0 * LN2
    return math.log(r)


@inline
def log_complex(z):
    """log |z| + i arg z."""
    return complex(log_modulus(z.real, z.imag, 0.0), atan2(z.imag, z.real))


@inline
def log_near(z):
    """log z where |z|**2 is an ordinary number."""
    x, y = float64(z.real), float64(z.imag)
    m = fma(x, x, y * y)
    b = bits_f64(m)
    e = (b - 0x3FE6A09E667F3BCD) >> 52
    n, f = float64(e), from_bits_f64(b - (e << 52)) - 1.0
    near = (m > 0.75) & (m < 1.375)
    exact = excess(x, y, 0.0)
    log = log_parts_float64(0.0 if near else n, exact if near else f)
    return complex(0.5 * log, atan2_float64(y, x))


@inline
def log1p_complex(z):
    """log(1 + z), without loss near 0."""
    x, y = z.real, z.imag
    if x == 0.0 and y == 0.0:
        return complex(x, y)
    return complex(log_modulus(x, y, 1.0), atan2(y, 1.0 + x))


@inline
def log2_complex(z):
    """log z / log 2, exact on the powers of 2."""
    x, y = z.real, z.imag
    angle = atan2(y, x) * LOG2E
    large = max(fabs(x), fabs(y))
    if min(fabs(x), fabs(y)) == 0.0 and SMALL < large < LARGE:
        return complex(math.log2(large), angle)
    return complex(log_modulus(x, y, 0.0) * LOG2E, angle)


@inline
def log10_complex(z):
    """log z / log 10, exact on the powers of 10."""
    x, y = z.real, z.imag
    angle = atan2(y, x) * LOG10E
    large = max(fabs(x), fabs(y))
    if min(fabs(x), fabs(y)) == 0.0 and SMALL < large < LARGE:
        return complex(math.log10(large), angle)
    return complex(log_modulus(x, y, 0.0) * LOG10E, angle)


@inline
def sqrt_complex(z):
    """The root whose real part is not negative: t + i y/2t with t = sqrt((|z| + |x|) / 2), for x >= 0."""
    x, y = fabs(z.real), fabs(z.imag)
    large = x if x > y else y
    there = 2.0**-600 if large > LARGE else 2.0**600 if large < SMALL else 1.0
    back = 2.0**300 if large > LARGE else 2.0**-300 if large < SMALL else 1.0
    return root(z, x * there, y * there, back)


@inline
def sqrt_single(z):
    return root(z, float64(fabs(z.real)), float64(fabs(z.imag)), 1.0)


@inline
def root(z, x, y, back):
    """The square root of z, the parts of which are x and y but for signs and the square of the factor `back`."""
    r = sqrt(fma(x, x, y * y))
    r = inf if (x == inf) | (y == inf) else r
    t = sqrt(0.5 * (r + x))
    s = 0.5 * y / t
    s = (s if t != 0.0 else 0.0) * back
    t = t * back
    right = z.real >= 0.0
    real, imaginary = t if right else s, s if right else t
    return complex(inf if y == inf else real, copysign(inf if y == inf else imaginary, float64(z.imag)))


@inline
def far(x, y):
    """So far from 0 that z - 1 and z + 1 are z; infinitely, perhaps."""
    return not (fabs(x) < 2.0**60 and fabs(y) < 2.0**60)


@inline
def log_twice(x, y):
    """log |2z| of a large z."""
    return math.log(hypot(x * 2.0**-60, y * 2.0**-60)) + 61.0 * LN2


@inline
def asinh_complex(z):
    x, y = z.real, z.imag
    if y == 0.0 and x != x:
        return complex(x, y)
    if far(x, y):
        return complex(copysign(log_twice(x, y), x), atan2(y, fabs(x)))
    p, q = sqrt_complex(complex(1.0 + y, -x)), sqrt_complex(complex(1.0 - y, x))
    return complex(math.asinh(p.real * q.imag - q.real * p.imag), atan2(y, p.real * q.real - p.imag * q.imag))


@inline
def acosh_complex(z):
    x, y = z.real, z.imag
    if x == 0.0 and y != y:
        return complex(nan, PI / 2)
    if far(x, y):
        return complex(log_twice(x, y), atan2(y, x))
    p, q = sqrt_complex(complex(x - 1.0, y)), sqrt_complex(complex(x + 1.0, y))
    return complex(math.asinh(p.real * q.real + p.imag * q.imag), 2.0 * atan2(p.imag, q.real))


@inline
def acos_complex(z):
    x, y = z.real, z.imag
    if x == 0.0 and y != y:
        return complex(PI / 2, nan)
    if far(x, y):
        return complex(atan2(fabs(y), x), -copysign(log_twice(x, y), y))
    p, q = sqrt_complex(complex(1.0 - x, -y)), sqrt_complex(complex(1.0 + x, y))
    return complex(2.0 * atan2(p.real, q.real), math.asinh(q.real * p.imag - q.imag * p.real))


@inline
def atanh_complex(z):
    x, y = z.real, z.imag
    if x == 0.0 and y != y:
        return complex(x, y)
    if far(x, y):
        r = hypot(x, y)
        if r != r:
            return complex(nan, nan)
        return complex(copysign(x / r / r if r < inf else 0.0, x), copysign(PI / 2, y) if y == y else y)
    a = fabs(x)
    if a == 1.0 and y == 0.0:
        return complex(copysign(inf, x), y)
    b = 1.0 - a
    if hypot(b, y) < SMALL:  # near the pole, where the square underflows
        real = 0.5 * (LN2 - math.log(hypot(b, y)))
    else:
        real = 0.25 * math.log1p(4.0 * a / fma(b, b, y * y))
    return complex(copysign(real, x), 0.5 * atan2(2.0 * y, fma(b, 1.0 + a, -y * y)))


# f(z) = -i F(iz) for sin, tan, asin, atan, and cos z = cosh(iz)


@inline
def turned(z):
    return complex(-z.imag, z.real)


@inline
def turned_back(w):
    return complex(w.imag, -w.real)


@inline
def sin_near(z):
    return turned_back(sinh_near(turned(z)))


@inline
def cos_near(z):
    return cosh_near(turned(z))


@inline
def tan_near(z):
    return turned_back(tanh_near(turned(z)))


@inline
def sin_complex(z):
    return turned_back(sinh_complex(turned(z)))


@inline
def cos_complex(z):
    return cosh_complex(turned(z))


@inline
def tan_complex(z):
    return turned_back(tanh_complex(turned(z)))


@inline
def asin_complex(z):
    return turned_back(asinh_complex(turned(z)))


@inline
def atan_complex(z):
    return turned_back(atanh_complex(turned(z)))

"""Functions of Python complex numbers as the array API standard's tables, which are C99's Annex G, have them.

Python's :mod:`cmath` computes most of them well but raises ValueError and OverflowError where the tables have
a value. Here nothing raises. Three ideas cover nearly every row of the tables, for z = a + bi:

* **A zero wins.** e**z is ``e**a cos b + i e**a sin b``, and where a factor is exactly zero the product is
  zero, even if the other factor is infinite or NaN: the component is not there (:func:`product`).
* **A lost direction.** Where the modulus is infinite and the angle unknown, the result is inf + NaN i.
* **A quarter turn.** sin z = -i sinh(iz), and so for cos, tan, asin and atan: one table serves two functions.

Accuracy: ``divide`` and ``pow`` are exact and rounded once (``pow`` in decimal arithmetic of 60 digits or
more, unless the exponent is a small integer). The others err by less than 4 units in the last place of the
larger component, most of them in each component. complex64 is computed so and rounded once.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, getcontext, localcontext
from fractions import Fraction
from math import copysign, inf, isfinite, isinf, nan

from . import ieee
from .rounding import exact, from_ratio

Function = Callable[[complex], complex]
Real = Callable[[float], float]

UNKNOWN = complex(nan, nan)
INFINITE = complex(inf, nan)  # infinitely far in a direction that is not known

# ---- arithmetic


def multiply(x: complex, y: complex) -> complex:
    """(ac - bd) + (ad + bc)i as written: infinity times zero, or less infinity, is NaN."""
    a, b, c, d = x.real, x.imag, y.real, y.imag
    return complex(a * c - b * d, a * d + b * c)


def divide(x: complex, y: complex) -> complex:
    """The exact quotient of finite numbers, each component rounded once.

    By zero, the components are divided by the zero c as real numbers: (a/c) + (b/c)i. The standard leaves the
    rest to the implementation; here it is what C99's Annex G recommends: infinite by finite is infinite,
    finite by infinite is zero, and infinite by infinite is NaN, as is everything else with a NaN.
    """
    a, b, c, d = x.real, x.imag, y.real, y.imag
    if c == d == 0:
        return complex(ieee.divide(a, c), ieee.divide(b, c))
    if cmath.isfinite(x) and cmath.isfinite(y):
        (p, q, r, s), _ = exact((a, b, c, d))
        norm = r * r + s * s
        real, imag = p * r + q * s, q * r - p * s
        return complex(
            from_ratio(real, norm) if real else _signed_zero(a, c, b, d),
            from_ratio(imag, norm) if imag else _signed_zero(b, c, -a, d),
        )
    if cmath.isinf(x) and cmath.isfinite(y):
        a, b = _at_infinity(a), _at_infinity(b)
        return complex(inf * (a * c + b * d), inf * (b * c - a * d))
    if cmath.isfinite(x) and cmath.isinf(y):
        c, d = _at_infinity(c), _at_infinity(d)
        return complex(0 * (a * c + b * d), 0 * (b * c - a * d))
    return UNKNOWN


def _at_infinity(x: float) -> float:
    """A component of an infinite number as seen from afar: 1 if it is infinite, else 0, with its sign."""
    return copysign(isinf(x), x)


def _signed_zero(a: float, c: float, b: float, d: float) -> float:
    """The zero with the sign of ac + bd in IEEE 754: -0 only if both products are."""
    signs = copysign(1.0, a) * copysign(1.0, c), copysign(1.0, b) * copysign(1.0, d)
    return -0.0 if signs == (-1, -1) else 0.0


def modulus(z: complex) -> float:
    """|z| without overflow or underflow on the way; infinite if a component is, even beside NaN."""
    return math.hypot(z.real, z.imag)


def sign(z: complex) -> complex:
    """z / |z|: the point of the unit circle in the direction of z; 0 for 0, NaN if a component is NaN."""
    if z == 0 or cmath.isnan(z):
        return 0j if z == 0 else UNKNOWN
    if cmath.isfinite(z):  # scaled so that |z| is neither infinite nor has lost digits
        _, exponent = math.frexp(max(abs(z.real), abs(z.imag)))
        z = complex(math.ldexp(z.real, -exponent), math.ldexp(z.imag, -exponent))
    r = modulus(z)
    return complex(z.real / r, z.imag / r)


def rint(z: complex) -> complex:
    """Each component to the nearest integer, ties to even."""
    return complex(ieee.rint(z.real), ieee.rint(z.imag))


# ---- exponentials

E709 = math.exp(709)  # nearly the largest power of e that is a double


def product(x: float, y: float) -> float:
    """x * y, where a zero wins over infinity and NaN."""
    if x and y:
        return x * y
    zero, other = (x, y) if x == 0 else (y, x)
    return zero if other != other else zero * copysign(1.0, other)


def _exp(x: float, factor: float) -> float:
    """e**x * factor, finite also where e**x alone is not: a subnormal factor keeps it so until x = 1454."""
    for _ in range(2):
        if x > 709:
            x, factor = x - 709, factor * E709
    return product(ieee.exp(x), factor)


def _sinh(x: float, factor: float) -> float:
    if abs(x) > 709:  # here it is e**|x| / 2
        return _exp(abs(x) - 709, copysign(E709 / 2, x) * factor)
    return product(ieee.sinh(x), factor)


def _cosh(x: float, factor: float) -> float:
    return _sinh(abs(x), factor) if abs(x) > 709 else product(ieee.cosh(x), factor)


def exp(z: complex) -> complex:
    """e**a cos b + i e**a sin b."""
    a, b = z.real, z.imag
    if not isfinite(b):
        return INFINITE if a == inf else 0j if a == -inf else UNKNOWN
    return complex(_exp(a, ieee.cos(b)), _exp(a, ieee.sin(b)))


def expm1(z: complex) -> complex:
    """e**z - 1 = (expm1(a) cos b - 2 sin(b/2)**2) + i e**a sin b: nothing large cancels near 0."""
    a, b = z.real, z.imag
    if not isfinite(b):
        return -1 + 0j if a == -inf else exp(z)
    if abs(a) < 1:
        real = ieee.expm1(a) * math.cos(b) + (
            0.0 - 2 * math.sin(b / 2) ** 2
        )  # 0.0: the table's +0 for a = -0
    else:
        real = _exp(a, ieee.cos(b)) - 1
    return complex(real, _exp(a, ieee.sin(b)))


def sinh(z: complex) -> complex:
    """sinh a cos b + i cosh a sin b."""
    a, b = z.real, z.imag
    if isinf(a) and not isfinite(b):
        return INFINITE
    return complex(_sinh(a, ieee.cos(b)), _cosh(a, ieee.sin(b)))


def cosh(z: complex) -> complex:
    """cosh a cos b + i sinh a sin b."""
    a, b = z.real, z.imag
    if isinf(a) and not isfinite(b):
        return INFINITE
    return complex(_cosh(a, ieee.cos(b)), _sinh(a, ieee.sin(b)))


def tanh(z: complex) -> complex:
    """sinh z / cosh z: with e = expm1(2a) for positive a and t = tan b, and nothing else rounded, it is
    (e (e + 2) (1 + t**2) + 4 (e + 1) it) / (4 (e + 1) + e**2 (1 + t**2)).

    At infinity it is +-1 with a zero of the sign of b (C99 gives it that of sin 2b).
    """
    a, b = z.real, z.imag
    if isinf(a):
        return complex(copysign(1.0, a), copysign(0.0, b))
    if b == 0:
        return complex(math.tanh(a), b)
    if a != a or not isfinite(b):
        return complex(a if a == 0 else nan, nan)
    if abs(a) > 20:  # here 1 - |tanh a| is below half a unit in the last place
        return complex(copysign(1.0, a), 4 * math.sin(b) * math.cos(b) * math.exp(-2 * abs(a)))
    e, t = Fraction(math.expm1(2 * abs(a))), Fraction(math.tan(b))
    secant = 1 + t * t
    denominator = 4 * (e + 1) + e * e * secant
    return complex(copysign(e * (e + 2) * secant / denominator, a), 4 * (e + 1) * t / denominator)


# ---- logarithms and inverse functions


def _log_modulus(x: float, y: float, offset: float = 0.0, log: Real = ieee.log) -> float:
    """log |offset + x + yi|.

    Near the unit circle it is log1p(|z|**2 - 1) / 2 of the exact |z|**2 - 1, which a rounded |z| has lost.
    """
    r = math.hypot(offset + x, y)
    if 0.5 < r < 2:
        excess = (Fraction(offset) + Fraction(x)) ** 2 + Fraction(y) ** 2 - 1
        return math.log1p(excess) / 2 * log(math.e)
    if isfinite(x) and isfinite(y) and r and not 2.0**-1000 < r < 2.0**1000:  # |z| overflows or loses digits
        shift = -100 if r > 1 else 100
        return log(math.hypot(math.ldexp(offset + x, shift), math.ldexp(y, shift))) - shift * log(2.0)
    return log(r)


def log(z: complex) -> complex:
    """log |z| + i arg z."""
    return complex(_log_modulus(z.real, z.imag), math.atan2(z.imag, z.real))


def log1p(z: complex) -> complex:
    """log(1 + z), without loss near 0."""
    a, b = z.real, z.imag
    return z if z == 0 else complex(_log_modulus(a, b, 1.0), math.atan2(b, 1 + a))


def log2(z: complex) -> complex:
    """log z / log 2; exact on the powers of two."""
    real = _log_modulus(z.real, z.imag, log=ieee.log2)
    return complex(real, math.atan2(z.imag, z.real) / math.log(2))


def log10(z: complex) -> complex:
    """log z / log 10."""
    real = _log_modulus(z.real, z.imag, log=ieee.log10)
    return complex(real, math.atan2(z.imag, z.real) / math.log(10))


def atanh(z: complex) -> complex:
    """cmath's, with the poles at 1 and -1."""
    if abs(z.real) == 1 and z.imag == 0:
        return complex(copysign(inf, z.real), z.imag)
    return cmath.atanh(z)


def acosh(z: complex) -> complex:
    """cmath's, but on the imaginary axis the angle is known."""
    if z.real == 0 and z.imag != z.imag:
        return complex(nan, math.pi / 2)
    return cmath.acosh(z)


sqrt, asinh, acos = cmath.sqrt, cmath.asinh, cmath.acos


def _turned(function: Function) -> Function:
    """-i function(iz), by exchanging components."""

    def result(z: complex) -> complex:
        w = function(complex(-z.imag, z.real))
        return complex(w.imag, -w.real)

    return result


sin, tan, asin, atan = _turned(sinh), _turned(tanh), _turned(asinh), _turned(atanh)


def cos(z: complex) -> complex:
    """cosh(iz)."""
    return cosh(complex(-z.imag, z.real))


# ---- powers

Gaussian = tuple[int, int]  # the integers p + qi


def gaussian_product(x: Gaussian, y: Gaussian) -> Gaussian:
    """The product of two complex numbers with integer components, exactly."""
    (a, b), (c, d) = x, y
    return a * c - b * d, a * d + b * c


def pow(x: complex, y: complex) -> complex:
    """x**y = exp(y log x), rounded once for finite operands.

    1 for y = 0 whatever x is; 0**y is 0, infinite or NaN for a positive, negative or no real part of y.
    """
    if y == 0:
        return 1 + 0j
    if x == 0 and cmath.isfinite(y):
        return 0j if y.real > 0 else INFINITE if y.real < 0 else UNKNOWN
    if not (cmath.isfinite(x) and cmath.isfinite(y)):
        return exp(multiply(y, log(x)))
    if y.imag == 0 and y.real.is_integer() and abs(y.real) <= 64:
        return _integer_power(x, int(y.real))
    return _decimal_power(x, y)


def _integer_power(z: complex, n: int) -> complex:
    """z**n by repeated squaring in exact arithmetic: components as integers over 2**k."""
    base, k = exact((z.real, z.imag))
    square, power = (base[0], base[1]), (1, 0)
    for bit in reversed(f"{abs(n):b}"):
        if bit == "1":
            power = gaussian_product(power, square)
        square = gaussian_product(square, square)
    p, q = power
    scale = 1 << k * abs(n)
    if n > 0:
        return complex(from_ratio(p, scale), from_ratio(q, scale))
    norm = p * p + q * q
    return complex(from_ratio(p * scale, norm), from_ratio(-q * scale, norm))


def _decimal_power(x: complex, y: complex) -> complex:
    """exp(y log x), with 60 digits and twice those of the integer part of y log x."""
    digits = max(0, Decimal(max(abs(y.real), abs(y.imag))).adjusted() + 4)  # |log x| < 1000
    with localcontext(Context(prec=60 + 2 * digits, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])):
        a, b, c, d = map(Decimal, (x.real, x.imag, y.real, y.imag))
        log_r, theta = (a * a + b * b).ln() / 2, _angle(a, b)
        r = (c * log_r - d * theta).exp()
        cos, sin = _cis(d * log_r + c * theta)
        return complex(float(r * cos) if cos else 0.0, float(r * sin) if sin else 0.0)


def _angle(x: Decimal, y: Decimal) -> Decimal:
    """atan2(y, x): the double's value, and what is missing, which is so small that it equals its tangent."""
    theta = Decimal(math.atan2(y, x))
    cos, sin = _cis(theta)
    return theta + (y * cos - x * sin) / (x * cos + y * sin)


def _cis(t: Decimal) -> tuple[Decimal, Decimal]:
    """cos t and sin t: Taylor's series of e**(is) for s = t / 2**n below 0.1, squared n times."""
    doublings = 4 * max(t.adjusted() + 2, 0)
    s = t / 2**doublings
    terms, tiny = [Decimal(1), s], abs(s) * Decimal(10) ** -getcontext().prec
    while abs(terms[-1]) > tiny:
        terms.append(terms[-1] * s / len(terms))
    cos, sin = sum(terms[0::4]) - sum(terms[2::4]), sum(terms[1::4]) - sum(terms[3::4])
    for _ in range(doublings):
        cos, sin = cos * cos - sin * sin, 2 * cos * sin
    return Decimal(cos), Decimal(sin)

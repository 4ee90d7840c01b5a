"""Functions of Python floats with the results that IEEE 754 and C99's Annex F prescribe.

Python's :mod:`math` computes the same values but raises ValueError and OverflowError at poles, outside
domains and beyond the largest double, and divides by zero with an exception. Here nothing raises: poles and
overflows are infinite, and what has no value is NaN. Where IEEE 754 leaves a choice, the array API standard's
is taken. This module knows doubles only.

What is not exact here is as accurate as the C library: within 2 ULP of double precision on glibc, and
therefore the nearest float32 but for about one value in 2**28.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from functools import cache
from math import copysign, inf, nan

Unary = Callable[[float], float]


def total(function: Unary, poles: dict[float, float] | None = None, *, odd: bool = False) -> Unary:
    """``function`` without exceptions: ``poles`` where it has them, NaN outside its domain, else infinity.

    The infinity has the sign of x if the function is ``odd``, otherwise it is positive.
    """
    at_poles = poles or {}

    def extended(x: float) -> float:
        try:
            return function(x)
        except OverflowError:
            return copysign(inf, x) if odd else inf
        except ValueError:
            return at_poles.get(x, nan)

    return extended


exp, expm1, cosh = total(math.exp), total(math.expm1), total(math.cosh)
sinh = total(math.sinh, odd=True)
log, log2, log10 = (total(function, {0.0: -inf}) for function in (math.log, math.log2, math.log10))
log1p = total(math.log1p, {-1.0: -inf})
atanh = total(math.atanh, {1.0: inf, -1.0: -inf})
acosh, asin, acos = total(math.acosh), total(math.asin), total(math.acos)
sqrt = total(math.sqrt)

# -- angles: large ones are reduced by pi/2 exactly, for libraries have too few digits of it beside its multiples --

BITS = 1200  # of pi/2: 1024 for the largest double, and 176 more
LARGE_ANGLE = 2.0**26


@cache
def _half_pi() -> int:
    """pi/2 times 2**BITS, by Machin's formula: pi = 16 atan(1/5) - 4 atan(1/239)."""

    def inverse_tangent(n: int) -> int:
        terms = ((1 << BITS + 20) // ((2 * k + 1) * n ** (2 * k + 1)) for k in range(BITS // 4))
        return sum(-term if k % 2 else term for k, term in enumerate(terms))

    return (8 * inverse_tangent(5) - 2 * inverse_tangent(239)) >> 20


def _turned(*quadrants: Unary) -> Unary:
    """A function of period 2 pi: in each quadrant n, one of x - n pi/2."""

    def periodic(x: float) -> float:
        if not math.isfinite(x):
            return nan
        if abs(x) <= LARGE_ANGLE:
            return quadrants[0](x)
        whole, below = x.as_integer_ratio()
        n, rest = divmod((whole << BITS) // below + _half_pi() // 2, _half_pi())
        return quadrants[n % 4]((rest - _half_pi() // 2) / (1 << BITS))

    return periodic


def _minus(function: Unary) -> Unary:
    return lambda x: -function(x)


sin = _turned(math.sin, math.cos, _minus(math.sin), _minus(math.cos))
cos = _turned(math.cos, _minus(math.sin), _minus(math.cos), math.sin)
tan = _turned(*[math.tan, lambda x: -1 / math.tan(x)] * 2)


def _integral(function: Callable[[float], int]) -> Unary:
    """``function`` from float to integer, as a float: zeros keep their sign, infinities and NaN stay."""

    def extended(x: float) -> float:
        return copysign(float(function(x)), x) if math.isfinite(x) else x

    return extended


floor, ceil, trunc, rint = (
    _integral(math.floor),
    _integral(math.ceil),
    _integral(math.trunc),
    _integral(round),
)


def sign(x: float) -> float:
    """-1, 0 or 1; NaN for NaN."""
    return x if x != x else float((x > 0) - (x < 0))


def unit(x: float) -> float:
    """A finite nonzero x as 1 or -1, else x: all that matters of x beside an infinity or a NaN."""
    return x if x == 0 or not math.isfinite(x) else copysign(1.0, x)


def divide(x: float, y: float) -> float:
    """The quotient x / y; a nonzero number by zero is infinite."""
    try:
        return x / y
    except ZeroDivisionError:
        return nan if x == 0 or x != x else copysign(inf, x) * copysign(1.0, y)


def floor_divide(x: float, y: float) -> float:
    """floor(x / y) of the exact quotient, below 2**53; from there on every double is an integer, and the result
    is the quotient. By zero, of an infinity and by an infinity as :func:`divide` (the array API standard's
    choice; Python's own ``-1.0 // inf`` is -1).

    Python's own // is exact for quotients below 2**50.
    """
    quotient = divide(x, y)
    if y == 0 or math.isinf(x) or math.isinf(y) or not abs(quotient) < 2.0**53:
        return quotient
    if abs(quotient) < 2.0**50:
        return x // y
    (a, b), (c, d) = x.as_integer_ratio(), y.as_integer_ratio()
    return float(a * d // (b * c))


def remainder(x: float, y: float) -> float:
    """Python's x % y = x - floor(x / y) * y, with the sign of y; NaN for y = 0 and for infinite x."""
    return nan if y == 0 else x % y


def is_odd(y: float) -> bool:
    """Whether y is an odd integer."""
    return y % 2 == 1


def power(x: float, y: float) -> float:
    """C's pow: 1 for y = 0 and for x = 1 whatever the other is; NaN for negative x and fractional y."""
    try:
        return math.pow(x, y)
    except OverflowError:
        return -inf if x < 0 and is_odd(y) else inf
    except ValueError:
        if x == 0:  # a pole: y is negative
            return copysign(inf, x) if is_odd(y) else inf
        return nan


def hypot(x: float, y: float) -> float:
    """sqrt(x*x + y*y) without intermediate overflow; infinite if either is, even beside NaN."""
    return math.hypot(x, y)


def maximum(x: float, y: float) -> float:
    """The larger, IEEE 754-2019's maximum: NaN if either is, and +0 is larger than -0."""
    if x > y or x != x:
        return x
    if y > x or y != y:
        return y
    return x if copysign(1.0, x) > 0 else y


def minimum(x: float, y: float) -> float:
    """The smaller, IEEE 754-2019's minimum: NaN if either is, and -0 is smaller than +0."""
    if x < y or x != x:
        return x
    if y < x or y != y:
        return y
    return x if copysign(1.0, x) < 0 else y


def nextafter(x: float, y: float) -> float:
    """The double after x in the direction of y."""
    return math.nextafter(x, y)


def nextafter_float32(x: float, y: float) -> float:
    """The float32 after x towards y (both float32). Neighbours of one sign have neighbouring bit patterns."""
    if x != x or y != y:
        return nan
    if x == y:
        return y
    if x == 0:
        return copysign(2.0**-149, y)
    (bits,) = struct.unpack("<i", struct.pack("<f", x))
    bits += 1 if (y > x) == (x > 0) else -1
    return struct.unpack("<f", struct.pack("<i", bits))[0]

"""From exact values to values of a dtype: each result of this backend passes through here exactly once.

Python's integers are exact and its floats are IEEE double precision, so three things are left to say: how
integers wrap, how a double becomes a narrower float, and how an exact rational becomes either. A complex
number is rounded in each of its two parts.

**Why computing float32 in double is right.** For ``+ - * /`` and ``sqrt`` of float32 operands, rounding first
to 53 bits and then to 24 gives what rounding once to 24 bits gives, because 53 >= 2 * 24 + 2 (S. A. Figueroa,
"When is double rounding innocuous?", SIGNUM 1995); below the normal range the products and sums are exact in
double, and a quotient of 24-bit numbers is never within 2**-48 of a midpoint without being one. For exp, pow
and the like the double result is itself off by up to one unit in 2**53, so that the float32 may miss the
nearest in about one case of 2**28; nobody can tell within the budgets. Sums of many terms have no such
guarantee, and go through :func:`from_exact` where the second rounding could matter.

**float16 and bfloat16 are storage.** Nothing is computed in them; ``DType.round`` takes a double to the
nearest of their values at once, never by way of a float32.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from corelib.plugin_api import dtypes

Rounding = Callable[[list[Any]], list[Any]]


def to_float32(values: Iterable[float]) -> list[float]:
    """Each double as the nearest float32, ties to even, or infinity: C's conversion, by array("f")."""
    return array("f", values).tolist()


def parts(values: Sequence[complex]) -> tuple[list[float], list[float]]:
    """The real parts and the imaginary parts."""
    return [z.real for z in values], [z.imag for z in values]


@cache
def rounding(dtype: dtypes.DType) -> Rounding:
    """The function that turns a list of exact or double results into values of ``dtype``."""
    mask, half = (1 << dtype.bits) - 1, 1 << (dtype.bits - 1)

    def to_signed(values: list[int]) -> list[int]:  # two's complement: into [-half, half)
        return [((value + half) & mask) - half for value in values]

    def to_unsigned(values: list[int]) -> list[int]:
        return [value & mask for value in values]

    def to_bool(values: list[Any]) -> list[bool]:
        return list(map(bool, values))

    def to_float(values: list[float]) -> list[float]:
        return to_float32(values) if dtype is dtypes.float32 else list(map(dtype.round, values))

    def to_complex64(values: list[complex]) -> list[complex]:
        real, imag = (to_float32(part) for part in parts(values))
        return list(map(complex, real, imag))

    def unchanged(values: list[Any]) -> list[Any]:
        return values

    if dtype in (dtypes.float64, dtypes.complex128):
        return unchanged
    by_kind: dict[str, Rounding] = {
        "bool": to_bool, "int": to_signed, "uint": to_unsigned, "float": to_float, "complex": to_complex64,
    }  # fmt: skip
    return by_kind[dtype.kind]


def scalar(value: Any, dtype: dtypes.DType) -> Any:
    """A Python scalar as a value of ``dtype``."""
    by_kind: dict[str, Callable[[Any], Any]] = {"bool": bool, "float": to_float, "complex": complex}
    return rounding(dtype)([by_kind.get(dtype.kind, int)(value)])[0]


def to_float(value: Any) -> float:
    """``float(value)``, with infinity for an integer beyond the largest double."""
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)


def from_exact(n: int, k: int, dtype: dtypes.DType) -> float:
    """The value of the floating ``dtype`` nearest to ``n / 2**k``, ties to even.

    float64: Python's int / int is correctly rounded. Otherwise ``n`` is cut to about 32 bits first, rounding
    to odd (the last bit becomes 1 if anything was cut off), after which the double is exact and its rounding
    to 24 bits or fewer is the only one (S. Boldo and G. Melquiond, "Emulation of FMA and correctly rounded
    sums: proved algorithms using rounding to odd", 2008).
    """
    try:
        if dtype is dtypes.float64:
            return n / (1 << k) if k > 0 else float(n << -k)
        excess = n.bit_length() - 32
        if excess > 0:
            n, k = n >> excess | (n & ((1 << excess) - 1) != 0), k - excess
        return rounding(dtype)([math.ldexp(n, -k)])[0]
    except OverflowError:
        return math.inf if n > 0 else -math.inf


def from_ratio(n: int, d: int) -> float:
    """The double nearest to ``n / d`` for positive ``d``, ties to even; infinity beyond the largest."""
    try:
        return n / d
    except OverflowError:
        return math.inf if n > 0 else -math.inf


def exact(values: Sequence[float]) -> tuple[list[int], int]:
    """Finite floats as integers over one power of two: ``values[i] == integers[i] / 2**k``, exactly."""
    ratios = [value.as_integer_ratio() for value in values]
    k = max((denominator for _, denominator in ratios), default=1).bit_length() - 1
    return [numerator << (k - denominator.bit_length() + 1) for numerator, denominator in ratios], k

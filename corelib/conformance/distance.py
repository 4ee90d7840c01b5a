"""How far apart two floating-point numbers are: in steps between neighbouring numbers of their dtype (ULP).

Everything is computed from Python floats, which hold the numbers of every floating dtype exactly. A complex
number is its two parts. This module knows dtypes and numbers only.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..dtypes import DType

_CODES = {
    "float16": ("<e", "<h", 0), "bfloat16": ("<f", "<i", 16), "float32": ("<f", "<i", 0), "float64": ("<d", "<q", 0),
}  # fmt: skip  # bfloat16: the upper 16 bits of a float32


def ordinal(x: float, dtype: DType) -> int:
    """The place of ``x`` among the numbers of ``dtype``: neighbours differ by 1, and both zeros are 0.

    ``x`` must be a number of the dtype; the bit patterns of IEEE 754, read as integers, are in this order
    already.
    """
    floating, integer, lower = _CODES[dtype.name]
    bits = struct.unpack(integer, struct.pack(floating, x))[0] >> lower
    return bits if bits >= 0 else -(bits + (1 << dtype.bits - 1))


def steps(a: float, b: float, dtype: DType) -> float:
    """How many numbers of ``dtype`` one has to step over from ``a`` to ``b``; inf when one alone is NaN or
    infinite.
    """
    if a != a or b != b:
        return 0 if a != a and b != b else math.inf
    if math.isinf(a) or math.isinf(b):
        return 0 if a == b else math.inf
    return abs(ordinal(a, dtype) - ordinal(b, dtype))


def unit(x: float, dtype: DType) -> float:
    """One ULP at the magnitude of ``x``: the gap between neighbouring numbers of ``dtype`` there (inf or NaN:
    inf).
    """
    if not math.isfinite(x):
        return math.inf
    smallest = dtype.smallest_normal * dtype.eps
    return smallest if abs(x) < dtype.smallest_normal else math.ldexp(dtype.eps, math.frexp(x)[1] - 1)


def parts(x: Any) -> tuple[float, ...]:
    """The real and the imaginary part of a complex number; a real number alone."""
    return (x.real, x.imag) if isinstance(x, complex) else (x,)


def rounded(x: Any, dtype: DType) -> Any:
    """``x`` rounded to the nearest number of ``dtype``, ties to even, infinity beyond the largest; each part
    of a complex one.
    """
    if dtype.kind == "complex":
        return complex(dtype.real.round(x.real), dtype.real.round(x.imag))
    return dtype.round(x)


def magnitude(x: Any) -> float:
    """The larger of the magnitudes of the finite parts of ``x``; 0 if it has none."""
    return max((abs(p) for p in parts(x) if math.isfinite(p)), default=0.0)


def allowed(budget: float) -> int:
    """How many steps a result may lie from the correctly rounded one, if it may lie ``budget`` ULP from the
    exact one.

    The rounded result is within half a ULP of the exact one, so the two are less than ``budget + 1/2`` apart:
    0 steps for a budget of 1/2 (the result must be the rounded one), 2 for 2.
    """
    return max(math.ceil(budget + 0.5) - 1, 0)

"""What no definition fixes: elements of special results on which backends may differ, and why.

The array API standard (and Annex G of C99, which it follows) leaves the sign of a component of some results of
complex functions open: "sign of the imaginary component is unspecified". Each entry names the function and
the operands for which that is so, in the standard's words turned into conditions on z = a + bi; the functions
of iz (sin, cos, tan, asin, atan) follow from those of z.

Where the formula of an op and not its value decides (a product that overflows beside another one), whole
components are open. Nothing else is exempt: everywhere else an infinity has its sign, a NaN its component and a
zero its sign.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

# Products of several complex numbers with an infinity among them: which parts end as NaN depends on the order in
# which they are multiplied, which is the backend's. Of real numbers it does not.
ORDER_MATTERS = ("prod", "cumulative_prod")

REAL, IMAGINARY, BOTH = "real", "imaginary", "both"


def _lost(x: float) -> bool:
    """Infinite or NaN: an angle that is not known."""
    return not math.isfinite(x)


def _acos(a: float, b: float) -> str:
    return IMAGINARY if math.isinf(a) and b != b else ""  # NaN +- inf i


def _acosh(a: float, b: float) -> str:
    return IMAGINARY if a == 0 and b != b else ""  # NaN +- i pi/2


def _asinh(a: float, b: float) -> str:
    return REAL if a != a and math.isinf(b) else ""  # +-inf + NaN i


def _atanh(a: float, b: float) -> str:
    return REAL if a != a and math.isinf(b) else ""  # +-0 + i pi/2


def _cosh(a: float, b: float) -> str:
    if (a == 0 and _lost(b)) or (a != a and b == 0):
        return IMAGINARY  # NaN +- 0i
    return REAL if math.isinf(a) and math.isinf(b) else ""  # +-inf + NaN i


def _sinh(a: float, b: float) -> str:
    return REAL if (a == 0 or math.isinf(a)) and _lost(b) else ""  # +-0 + NaN i, +-inf + NaN i


def _exp(a: float, b: float) -> str:
    if not (math.isinf(a) and _lost(b)):
        return ""
    return BOTH if a < 0 else REAL  # +-0 +- 0i, +-inf + NaN i


def _expm1(a: float, b: float) -> str:
    if not (math.isinf(a) and _lost(b)):
        return ""
    return IMAGINARY if a < 0 else REAL  # -1 +- 0i, +-inf + NaN i


def _sqrt(a: float, b: float) -> str:
    return IMAGINARY if a == -math.inf and b != b else ""  # NaN +- inf i


def _tanh(a: float, b: float) -> str:
    return IMAGINARY if math.isinf(a) and _lost(b) else ""  # 1 +- 0i


def _turned(of: Callable[[float, float], str]) -> Callable[[float, float], str]:
    """Of f(z) = -i F(iz), where that of F is given: the components change places."""
    swapped = {REAL: IMAGINARY, IMAGINARY: REAL}
    return lambda a, b: swapped.get(of(-b, a), of(-b, a))


SIGNS: dict[str, Callable[[float, float], str]] = {
    "acos": _acos, "acosh": _acosh, "asin": _turned(_asinh), "asinh": _asinh, "atan": _turned(_atanh), "atanh": _atanh,
    "cos": lambda a, b: _cosh(-b, a), "cosh": _cosh, "exp": _exp, "expm1": _expm1, "sin": _turned(_sinh), "sinh": _sinh,
    "sqrt": _sqrt, "tan": _turned(_tanh), "tanh": _tanh,
}  # fmt: skip


def _product(largest: float, x: complex, y: complex) -> str:
    """ac - bd and ad + bc where a product of finite numbers overflows: beside an infinite one that may be inf - inf, and
    beside a finite one the sum may still be finite, where it is computed in a wider dtype, fused, or factored into
    (a - b)(a + b).
    """

    def size(p: float, q: float) -> int:  # 2 for a product that overflows, 1 for an infinite one
        if math.isfinite(p) and math.isfinite(q):
            return 2 * (abs(p) > 1 and abs(q) > largest / abs(p))
        return int(math.isinf(p * q))

    def is_open(p: float, q: float, r: float, s: float, sign: int) -> bool:  # pq + sign * rs
        sizes = size(p, q), size(r, s)
        if sizes in ((2, 0), (0, 2)) and all(map(math.isfinite, (p, q, r, s))):
            return abs(Fraction(p) * Fraction(q) + sign * Fraction(r) * Fraction(s)) <= largest
        return sizes[0] * sizes[1] > 1

    a, b, c, d = x.real, x.imag, y.real, y.imag
    real, imaginary = is_open(a, c, b, d, -1), is_open(a, d, b, c, 1)
    return BOTH if real and imaginary else REAL if real else IMAGINARY if imaginary else ""


def _power(largest: float, x: complex, y: complex) -> str:
    """exp(y log x) multiplies the relative error of log x by |y log x|: beyond 8 no budget can hold."""
    finite = x and cmath.isfinite(x) and cmath.isfinite(y)
    return BOTH if finite and math.hypot(y.real, y.imag) * abs(cmath.log(x)) > 8 else ""


VALUES: dict[str, Callable[..., str]] = {
    "multiply": _product, "outer": _product, "square": lambda largest, x: _product(largest, x, x), "pow": _power,
}  # fmt: skip


def open_signs(name: str, operands: tuple[Any, ...]) -> tuple[bool, ...]:
    """For each part of a complex result of an op at ``operands``: whether its sign is open."""
    of = SIGNS.get(name)
    return _flags(of(operands[0].real, operands[0].imag) if of else "")


def open_values(name: str, operands: tuple[Any, ...], largest: float) -> tuple[bool, ...]:
    """For each part of a complex result of an op at ``operands``: whether it is open altogether. ``largest``:
    the largest number of the dtype of the parts.
    """
    of = VALUES.get(name)
    return _flags(of(largest, *operands) if of else "")


def _flags(says: str) -> tuple[bool, bool]:
    return (says in (REAL, BOTH), says in (IMAGINARY, BOTH))


def infinite_or_nan(kind: str) -> bool:
    """Whether an op of a kind may give NaN in either part where a part of a complex result is infinite or NaN.

    Products of matrices may: BLAS multiplies its sums by a factor 1 + 0i, and 0 times infinity is NaN.
    """
    return kind == "contract"

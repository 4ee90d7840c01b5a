"""Trigonometric and hyperbolic functions and their inverses, element by element; complex ones with the branch
cuts and special values of the array API standard (C99's Annex G).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..dispatch import primitive
from ..dtypes import FLOATING, INEXACT
from ..rules import binary, unary
from ..samples import pairs, reals
from .compare import equal
from .elementwise import add, divide, multiply, negative, sqrt, subtract, where

if TYPE_CHECKING:
    from ..params import Scalar
    from ..tensor import Tensor

    Array = Tensor | Scalar


@primitive(rule=unary(INEXACT), d=lambda x: cos(x), samples=reals(-9, 9), ulp=2, ulp_complex=4)
def sin(x: Tensor, /) -> Tensor:
    """Sine of x in radians, with full range reduction."""


@primitive(rule=unary(INEXACT), d=lambda x: negative(sin(x)), samples=reals(-9, 9), ulp=2, ulp_complex=4)
def cos(x: Tensor, /) -> Tensor:
    """Cosine of x in radians, with full range reduction."""


@primitive(
    rule=unary(INEXACT), d=lambda y: add(multiply(y, y), 1), samples=reals(-1.3, 1.3), ulp=2, ulp_complex=4
)
def tan(x: Tensor, /) -> Tensor:
    """Tangent of x in radians."""


@primitive(
    rule=unary(INEXACT),
    d=lambda x: divide(1, sqrt(_one_minus_square(x))),
    samples=reals(-0.9, 0.9),
    ulp=2,
    ulp_complex=4,
)
def asin(x: Tensor, /) -> Tensor:
    """Inverse sine in [-pi/2, pi/2]; NaN outside [-1, 1]."""


@primitive(
    rule=unary(INEXACT),
    d=lambda x: divide(-1, sqrt(_one_minus_square(x))),
    samples=reals(-0.9, 0.9),
    ulp=2,
    ulp_complex=4,
)
def acos(x: Tensor, /) -> Tensor:
    """Inverse cosine in [0, pi]; NaN outside [-1, 1]."""


@primitive(
    rule=unary(INEXACT),
    d=lambda x: divide(1, add(multiply(x, x), 1)),
    samples=reals(-3, 3),
    ulp=2,
    ulp_complex=4,
)
def atan(x: Tensor, /) -> Tensor:
    """Inverse tangent in [-pi/2, pi/2]."""


@primitive(
    rule=binary(FLOATING),
    d=(lambda x1, x2: divide(x2, _sum_of_squares(x1, x2)), lambda x1, x2: divide(negative(x1) if hasattr(x1, "_data") else -x1, _sum_of_squares(x1, x2))),
    samples=pairs(0.5, 3),
    ulp=2,
)  # fmt: skip
def atan2(x1: Array, x2: Array, /) -> Tensor:
    """The angle of the point (x2, x1) in [-pi, pi], by quadrant and sign of zero."""


@primitive(
    rule=binary(FLOATING),
    d=(lambda y, x1: divide(x1, _or_one(y)), lambda y, x2: divide(x2, _or_one(y))),
    samples=pairs(0.5, 3),
    ulp=2,
)
def hypot(x1: Array, x2: Array, /) -> Tensor:
    """sqrt(x1**2 + x2**2) without overflow or underflow. The gradient at the origin is 0, as of a norm."""


def _or_one(y: Tensor) -> Tensor:
    return where(equal(y, 0), 1, y)


@primitive(rule=unary(INEXACT), d=lambda x: cosh(x), samples=reals(-3, 3), ulp=2, ulp_complex=4)
def sinh(x: Tensor, /) -> Tensor:
    """Hyperbolic sine."""


@primitive(rule=unary(INEXACT), d=lambda x: sinh(x), samples=reals(-3, 3), ulp=2, ulp_complex=4)
def cosh(x: Tensor, /) -> Tensor:
    """Hyperbolic cosine."""


# 1 - y**2, not (1 - y)(1 + y): y's own rounding costs more than the cancellation.
@primitive(
    rule=unary(INEXACT), d=lambda y: subtract(1, multiply(y, y)), samples=reals(-3, 3), ulp=2, ulp_complex=4
)
def tanh(x: Tensor, /) -> Tensor:
    """Hyperbolic tangent."""


@primitive(
    rule=unary(INEXACT),
    d=lambda x: divide(1, sqrt(add(multiply(x, x), 1))),
    samples=reals(-3, 3),
    ulp=2,
    ulp_complex=4,
)
def asinh(x: Tensor, /) -> Tensor:
    """Inverse hyperbolic sine."""


@primitive(
    rule=unary(INEXACT),
    d=lambda x: divide(1, multiply(sqrt(subtract(x, 1)), sqrt(add(x, 1)))),
    samples=reals(1.5, 9),
    ulp=2,
    ulp_complex=4,
)
def acosh(x: Tensor, /) -> Tensor:
    """Inverse hyperbolic cosine; NaN below 1."""


@primitive(
    rule=unary(INEXACT),
    d=lambda x: divide(1, _one_minus_square(x)),
    samples=reals(-0.9, 0.9),
    ulp=2,
    ulp_complex=4,
)
def atanh(x: Tensor, /) -> Tensor:
    """Inverse hyperbolic tangent; NaN outside [-1, 1]."""


def _one_minus_square(x: Tensor) -> Tensor:
    """1 - x**2 as (1 - x)(1 + x): no cancellation near 1."""
    return multiply(subtract(1, x), add(1, x))


def _sum_of_squares(x1: Array, x2: Array) -> Tensor:
    return add(x1 * x1, x2 * x2)

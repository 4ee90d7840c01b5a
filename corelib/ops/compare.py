"""Comparisons and logic: results are bool, and none of them has a derivative."""

from __future__ import annotations

import cmath
from typing import TYPE_CHECKING

from ..dispatch import composite, primitive
from ..dtypes import ALL, BOOLEAN, INEXACT, NUMERIC, ORDERED
from ..dtypes import bool as bool_
from ..op import calls
from ..rules import binary, unary
from ..samples import pairs, reals

if TYPE_CHECKING:
    from ..params import Scalar
    from ..tensor import Tensor

    Array = Tensor | Scalar

COMPARISON = "a comparison is piecewise constant"
LOGIC = "defined on booleans"


@primitive(rule=binary(ALL, bool_), nondiff=COMPARISON, samples=pairs(-3, 3), ulp=0)
def equal(x1: Array, x2: Array, /) -> Tensor:
    """x1 == x2; NaN equals nothing."""


@primitive(rule=binary(ALL, bool_), nondiff=COMPARISON, samples=pairs(-3, 3), ulp=0)
def not_equal(x1: Array, x2: Array, /) -> Tensor:
    """x1 != x2; NaN differs from everything."""


@primitive(rule=binary(ORDERED, bool_), nondiff=COMPARISON, samples=pairs(-3, 3), ulp=0)
def less(x1: Array, x2: Array, /) -> Tensor:
    """x1 < x2."""


@primitive(rule=binary(ORDERED, bool_), nondiff=COMPARISON, samples=pairs(-3, 3), ulp=0)
def less_equal(x1: Array, x2: Array, /) -> Tensor:
    """x1 <= x2."""


@primitive(rule=binary(ORDERED, bool_), nondiff=COMPARISON, samples=pairs(-3, 3), ulp=0)
def greater(x1: Array, x2: Array, /) -> Tensor:
    """x1 > x2."""


@primitive(rule=binary(ORDERED, bool_), nondiff=COMPARISON, samples=pairs(-3, 3), ulp=0)
def greater_equal(x1: Array, x2: Array, /) -> Tensor:
    """x1 >= x2."""


@primitive(rule=unary(NUMERIC, bool_), nondiff=COMPARISON, samples=reals(-3, 3), ulp=0)
def isnan(x: Tensor, /) -> Tensor:
    """Whether an element (or a part of a complex one) is NaN; False for integers."""


@primitive(rule=unary(NUMERIC, bool_), nondiff=COMPARISON, samples=reals(-3, 3), ulp=0)
def isinf(x: Tensor, /) -> Tensor:
    """Whether an element (or a part of a complex one, whatever the other is) is +inf or -inf; False for
    integers.
    """


@primitive(rule=unary(NUMERIC, bool_), nondiff=COMPARISON, samples=reals(-3, 3), ulp=0)
def isfinite(x: Tensor, /) -> Tensor:
    """Whether an element (both parts of a complex one) is neither NaN nor infinite; True for integers."""


@composite(rule=binary(BOOLEAN, bool_), nondiff=LOGIC, samples=pairs(0, 1), ulp=0)
def logical_and(x1: Array, x2: Array, /) -> Tensor:
    """Whether both are True."""
    return calls.bitwise_and(x1, x2)


@composite(rule=binary(BOOLEAN, bool_), nondiff=LOGIC, samples=pairs(0, 1), ulp=0)
def logical_or(x1: Array, x2: Array, /) -> Tensor:
    """Whether either is True."""
    return calls.bitwise_or(x1, x2)


@composite(rule=binary(BOOLEAN, bool_), nondiff=LOGIC, samples=pairs(0, 1), ulp=0)
def logical_xor(x1: Array, x2: Array, /) -> Tensor:
    """Whether exactly one is True."""
    return calls.bitwise_xor(x1, x2)


@composite(rule=unary(BOOLEAN, bool_), nondiff=LOGIC, samples=reals(0, 1), ulp=0)
def logical_not(x: Tensor, /) -> Tensor:
    """Whether x is False."""
    return calls.bitwise_invert(x)


@composite(rule=binary(INEXACT, bool_), nondiff=COMPARISON, samples=pairs(-3, 3), ulp=0)
def isclose(x1: Array, x2: Array, /) -> Tensor:
    """|x1 - x2| <= 1e-8 + 1e-5 |x2|, or equal (so infinities match); NaN is close to nothing."""
    if isinstance(x2, int | float | complex):
        limit, finite = 1e-8 + 1e-5 * abs(x2), cmath.isfinite(x2)
    else:
        limit, finite = calls.add(1e-8, calls.multiply(1e-5, calls.abs(x2))), calls.isfinite(x2)
    near = less_equal(calls.abs(calls.subtract(x1, x2)), limit)
    return calls.bitwise_or(equal(x1, x2), calls.bitwise_and(near, finite))

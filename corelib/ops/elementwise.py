"""Element-wise arithmetic and mathematics: each element of the result depends on one element of each operand.

Partials follow the textbook; at a kink the value is declared here (abs and sign at 0: 0; maximum and minimum
of equal operands: half each). Special values follow the array API standard and IEEE 754.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..dispatch import composite, primitive
from ..dtypes import (
    ALL,
    BOOLEAN,
    FLOATING,
    INEXACT,
    INTEGER,
    NUMERIC,
    ORDERED,
    REAL,
    DType,
    as_dtype,
    complex64,
    float32,
)
from ..dtypes import bool as bool_
from ..errors import DTypeError
from ..op import calls
from ..rules import Spec, binary, custom, selection, unary
from ..samples import ErrorSample, Sample, calls_, pairs, reals
from ..tape import full_like
from ..tensor import Tensor
from .compare import equal, less

if TYPE_CHECKING:
    from ..params import Copy, DTypeLike, Scalar, Target

    Array = Tensor | Scalar

LN2, LN10, TWO_OVER_SQRT_PI = math.log(2), math.log(10), 2 / math.sqrt(math.pi)

# -- arithmetic ----------------------------------------------------------------------------------------------


@primitive(rule=binary(NUMERIC), d=(1, 1), samples=pairs(-3, 3), ulp=0.5)
def add(x1: Array, x2: Array, /) -> Tensor:
    """x1 + x2. Integers wrap."""


@primitive(rule=binary(NUMERIC), d=(1, -1), samples=pairs(-3, 3), ulp=0.5)
def subtract(x1: Array, x2: Array, /) -> Tensor:
    """x1 - x2. Integers wrap."""


@primitive(rule=binary(NUMERIC), d=("x2", "x1"), samples=pairs(-3, 3), ulp=0.5, ulp_complex=2)
def multiply(x1: Array, x2: Array, /) -> Tensor:
    """x1 * x2. Integers wrap."""


@primitive(
    rule=binary(INEXACT, integers="float"),
    d=(lambda x2: _inverse(x2), lambda y, x2: negative(divide(y, x2))),
    samples=pairs(-3, 3, (0.5, 3)),
    ulp=0.5,
    ulp_complex=4,
)
def divide(x1: Array, x2: Array, /) -> Tensor:
    """x1 / x2 as IEEE 754 divides. Integers and booleans are divided in the default floating dtype."""


def _inverse(x2: Array) -> Array:
    """1 / x2, also for a Python scalar."""
    if _tensor(x2):
        return divide(1, x2)
    number: Any = x2
    return 1 / number if number else math.copysign(math.inf, number.real)


@primitive(
    rule=binary(REAL),
    nondiff="floor_divide is piecewise constant",
    samples=pairs(-9, 9, (1, 4)),
    ulp=0,
)
def floor_divide(x1: Array, x2: Array, /) -> Tensor:
    """The largest integer not greater than x1 / x2, as Python's ``//``. Floats: exact for quotients below 2**53;
    beyond, with an infinity, or by zero, x1 / x2 as IEEE 754 divides, so that -1 by infinity is -0. An integer
    divided by zero gives 0.
    """


@primitive(
    rule=binary(REAL),
    d=(1, lambda x1, x2: negative(floor_divide(x1, x2))),
    samples=pairs(-9, 9, (1.25, 4)),
    ulp=0,
)
def remainder(x1: Array, x2: Array, /) -> Tensor:
    """x1 - floor_divide(x1, x2) * x2, with the sign of x2, as Python's ``%`` (also where x2 is infinite); an
    integer modulo zero gives 0.
    """


def _pow_base(x1: Array, x2: Array) -> Array:
    """x2 x1**(x2 - 1), and 0 where x2 is 0, also at x1 = 0."""
    if not _tensor(x2):
        return multiply(x2, pow(x1, x2 - 1)) if x2 else 0
    zero = equal(x2, 0)
    return where(zero, 0, multiply(x2, pow(x1, where(zero, 1, subtract(x2, 1)))))


def _pow_exponent(y: Tensor, x1: Any) -> Tensor:
    """y log(x1), and 0 where x1 is 0 (there 0**x2 is constant for x2 > 0)."""
    if not hasattr(x1, "_data"):
        if x1.__class__ is complex or y.dtype.kind == "complex":
            return multiply(y, cmath.log(x1) if x1 else 0)
        return multiply(y, math.log(x1) if x1 > 0 else 0 if x1 == 0 else math.nan)
    zero = equal(x1, 0)
    return where(zero, 0, multiply(y, log(where(zero, 1, x1))))


@primitive(
    rule=binary(NUMERIC), d=(_pow_base, _pow_exponent), samples=pairs(0.5, 3, (1, 3)), ulp=4, ulp_complex=8
)
def pow(x1: Array, x2: Array, /) -> Tensor:
    """x1 to the power x2. Integers wrap; a negative integer exponent truncates the exact result."""


@primitive(rule=unary(NUMERIC), d=-1, samples=reals(-3, 3), ulp=0)
def negative(x: Tensor, /) -> Tensor:
    """-x. The smallest integer wraps to itself, unsigned integers wrap."""


@primitive(
    rule=unary(NUMERIC, "real"), d=lambda x: conj(sign(x)), samples=reals(0.5, 3), ulp=0, ulp_complex=2
)
def abs(x: Tensor, /) -> Tensor:
    """|x|; of complex numbers sqrt(re**2 + im**2) without overflow or underflow, in the dtype of the parts. The
    smallest integer wraps to itself.
    """


def _zeros(like: Tensor) -> Tensor:
    return full_like(Spec(tuple(like.shape), like.dtype), like._backend, 0)


def _sign_jvp(dx: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """0 for real x; for complex x = r y the part of dx / r that turns: i y Im(conj(y) dx) / r."""
    if x.dtype.kind != "complex":
        return _zeros(dx)
    r = abs(x)
    turn = divide(imag(multiply(conj(y), dx)), where(equal(r, 0), 1, r))
    return multiply(multiply(1j, y), turn)


@primitive(
    rule=unary(NUMERIC),
    vjp=lambda g, x, y: _sign_jvp(g, x, y),  # its matrix over (re, im) is symmetric
    jvp=_sign_jvp,
    samples=reals(-3, 3),
    ulp=0,
    ulp_complex=4,
)
def sign(x: Tensor, /) -> Tensor:
    """-1, 0 or 1; of complex numbers x / |x|. 0 for either zero, NaN for NaN."""


@primitive(rule=unary(INEXACT), d=lambda y: divide(0.5, y), samples=reals(0.1, 9), ulp=0.5, ulp_complex=2)
def sqrt(x: Tensor, /) -> Tensor:
    """Square root, correctly rounded; NaN below zero."""


@composite(rule=unary(NUMERIC), samples=reals(-3, 3), ulp=0.5, ulp_complex=2)
def square(x: Tensor, /) -> Tensor:
    """x * x."""
    return multiply(x, x)


@composite(rule=unary(INEXACT), samples=reals(0.5, 3), ulp=0.5, ulp_complex=4)
def reciprocal(x: Tensor, /) -> Tensor:
    """1 / x."""
    return divide(1.0, x)


@primitive(
    rule=unary(NUMERIC),
    linear=lambda g, x: conj(g),
    unchanged=lambda x: x.dtype.kind not in ("complex", "bool"),
    samples=reals(-3, 3),
    ulp=0,
)
def conj(x: Tensor, /) -> Tensor:
    """The complex conjugate; a real x itself."""


def _complex(g: Tensor, spec: Any) -> Tensor:
    """g as the real part of a tensor of the operand's dtype."""
    return astype(g, spec.dtype)


@primitive(
    rule=unary(NUMERIC, "real"),
    linear=lambda g, x: _complex(g, x),
    unchanged=lambda x: x.dtype.kind not in ("complex", "bool"),
    samples=reals(-3, 3),
    ulp=0,
)
def real(x: Tensor, /) -> Tensor:
    """The real part; a real x itself."""


@primitive(
    rule=unary(NUMERIC, "real"),
    linear=lambda g, x: multiply(_complex(g, x), 1j) if x.dtype.kind == "complex" else _zeros(g),
    samples=reals(-3, 3),
    ulp=0,
)
def imag(x: Tensor, /) -> Tensor:
    """The imaginary part; zeros for a real x."""


@composite(rule=unary(FLOATING), samples=reals(0.1, 9), ulp=1.5)
def rsqrt(x: Tensor, /) -> Tensor:
    """1 / sqrt(x)."""
    return divide(1.0, sqrt(x))


@composite(rule=unary(NUMERIC), samples=reals(-3, 3), ulp=0, moves=True)
def positive(x: Tensor, /) -> Tensor:
    """x itself."""
    return x


# -- exponentials and logarithms -----------------------------------------------------------------------------


@primitive(rule=unary(INEXACT), d="y", samples=reals(-3, 3), ulp=2, ulp_complex=4)
def exp(x: Tensor, /) -> Tensor:
    """Natural exponential of each element."""


@primitive(rule=unary(INEXACT), d=lambda y: add(y, 1), samples=reals(-3, 3), ulp=2, ulp_complex=4)
def expm1(x: Tensor, /) -> Tensor:
    """exp(x) - 1, accurate near 0."""


@primitive(rule=unary(INEXACT), d=lambda x: divide(1, x), samples=reals(0.1, 9), ulp=2, ulp_complex=4)
def log(x: Tensor, /) -> Tensor:
    """Natural logarithm; -inf at 0, NaN below."""


@primitive(
    rule=unary(INEXACT), d=lambda x: divide(1, add(x, 1)), samples=reals(-0.9, 9), ulp=2, ulp_complex=4
)
def log1p(x: Tensor, /) -> Tensor:
    """log(1 + x), accurate near 0."""


@primitive(rule=unary(INEXACT), d=lambda x: divide(1 / LN2, x), samples=reals(0.1, 9), ulp=2, ulp_complex=4)
def log2(x: Tensor, /) -> Tensor:
    """Logarithm to base 2."""


@primitive(rule=unary(INEXACT), d=lambda x: divide(1 / LN10, x), samples=reals(0.1, 9), ulp=2, ulp_complex=4)
def log10(x: Tensor, /) -> Tensor:
    """Logarithm to base 10."""


@composite(rule=binary(FLOATING), samples=pairs(-3, 3), ulp=8, ulp_of="largest")
def logaddexp(x1: Array, x2: Array, /) -> Tensor:
    """log(exp(x1) + exp(x2)) without overflow; the budget is relative to max(|x1|, |x2|, |result|)."""
    low, high = minimum(x1, x2), maximum(x1, x2)
    gap = where(equal(low, high), 0, subtract(low, high))  # equal infinities: 0, not NaN
    return add(high, log1p(exp(gap)))


@primitive(
    rule=unary(FLOATING),
    d=lambda x: multiply(TWO_OVER_SQRT_PI, exp(negative(multiply(x, x)))),
    samples=reals(-3, 3),
    ulp=4,
)
def erf(x: Tensor, /) -> Tensor:
    """The error function, 2/sqrt(pi) times the integral of exp(-t**2) from 0 to x."""


def _tensor(x: object) -> bool:
    return hasattr(x, "_data")


# -- rounding ------------------------------------------------------------------------------------------------


@primitive(rule=unary(REAL), nondiff="floor is piecewise constant", samples=reals(-3, 3), ulp=0)
def floor(x: Tensor, /) -> Tensor:
    """The largest integer not greater than x, in x's dtype."""


@primitive(rule=unary(REAL), nondiff="ceil is piecewise constant", samples=reals(-3, 3), ulp=0)
def ceil(x: Tensor, /) -> Tensor:
    """The smallest integer not less than x, in x's dtype."""


@primitive(rule=unary(NUMERIC), nondiff="round is piecewise constant", samples=reals(-3, 3), ulp=0)
def round(x: Tensor, /) -> Tensor:
    """The nearest integer, ties to even, in x's dtype; of complex numbers, part by part."""


@primitive(rule=unary(REAL), nondiff="trunc is piecewise constant", samples=reals(-3, 3), ulp=0)
def trunc(x: Tensor, /) -> Tensor:
    """x without its fraction, in x's dtype."""


@primitive(rule=binary(FLOATING), d=(lambda x1, x2: _same_sign(x1, x2), None), samples=pairs(0.5, 3), ulp=0)
def copysign(x1: Array, x2: Array, /) -> Tensor:
    """The magnitude of x1 with the sign of x2 (of zeros and NaN, too)."""


def _same_sign(x1: Any, x2: Array) -> Tensor:
    if not _tensor(x2):
        return multiply(sign(x1), math.copysign(1.0, x2))  # type: ignore[arg-type]
    return copysign(1.0, x2) if not _tensor(x1) else multiply(sign(x1), copysign(1.0, x2))


@primitive(
    rule=binary(FLOATING, half=False),
    nondiff="nextafter steps between floating-point numbers",
    samples=pairs(-3, 3),
    ulp=0,
)
def nextafter(x1: Array, x2: Array, /) -> Tensor:
    """The next floating-point number after x1 in the direction of x2."""


@composite(rule=unary(FLOATING, bool_), nondiff="signbit is piecewise constant", samples=reals(-3, 3), ulp=0)
def signbit(x: Tensor, /) -> Tensor:
    """Whether the sign bit is set: True for -0.0 and for NaN with that bit."""
    return less(copysign(1.0, x), 0)


# -- extremes and selection ----------------------------------------------------------------------------------


def _share(x: Array, y: Tensor, other: Array) -> Tensor:
    """1 where x is the result, 1/2 where both operands are, 0 elsewhere."""
    return where(equal(x, y), where(equal(other, y), 0.5, _ones(y)), 0.0)


def _ones(y: Tensor) -> Tensor:
    return where(equal(y, y), 1.0, y)  # 1, and NaN where the result is


@primitive(
    rule=binary(ORDERED),
    d=(lambda y, x1, x2: _share(x1, y, x2), lambda y, x1, x2: _share(x2, y, x1)),
    samples=pairs(-3, 3),
    ulp=0,
)
def maximum(x1: Array, x2: Array, /) -> Tensor:
    """The larger of two elements; NaN if either is NaN, and +0 is larger than -0 (IEEE 754-2019 maximum)."""


@primitive(
    rule=binary(ORDERED),
    d=(lambda y, x1, x2: _share(x1, y, x2), lambda y, x1, x2: _share(x2, y, x1)),
    samples=pairs(-3, 3),
    ulp=0,
)
def minimum(x1: Array, x2: Array, /) -> Tensor:
    """The smaller of two elements; NaN if either is NaN, and -0 is smaller than +0 (IEEE 754-2019 minimum)."""


@primitive(
    rule=selection(ALL),
    linear=(None, lambda g, condition, x1: _unbroadcast(where(condition, g, 0), x1),
            lambda g, condition, x2: _unbroadcast(where(condition, 0, g), x2)),
    samples=calls_(
        lambda m, d: Sample((m.array((2, 3), bool_), m.array((2, 3), d), m.array((3,), d))),
        lambda m, d: Sample((m.array((), bool_), m.array((3,), d), m.array((2, 1), d))),
        lambda m, d: Sample((m.array((4, 1), bool_), m.array((3,), d), m.array((1,), d).data[0])),
        lambda m, d: Sample((m.array((0,), bool_), m.array((1,), d).data[0], m.array((1,), d))),
    ),
    ulp=0,
    moves=True,
)  # fmt: skip
def where(condition: Tensor, x1: Array, x2: Array, /) -> Tensor:
    """x1 where ``condition`` (bool) holds, x2 elsewhere; a NaN or inf that is not selected reaches neither
    result nor gradient.

    Example: ``where(x > 2, x, 0)`` for x of shape (2, 3) has shape (2, 3).
    """


def _unbroadcast(g: Tensor, spec: object) -> Tensor:
    from ..walk import unbroadcast

    return unbroadcast(g, tuple(spec.shape))  # type: ignore[attr-defined]


@composite(
    rule=binary(ORDERED), samples=calls_(
        lambda m, d: Sample((m.array((2, 3), d), *sorted(m.array((2,), d).data))),
        lambda m, d: Sample((m.array((5,), d), m.array((5,), d, -3, -1), m.array((1,), d, 1, 3))),
        lambda m, d: Sample((m.array((5,), d), None, m.array((1,), d).data[0])),
    ), ulp=0,
)  # fmt: skip
def clip(x: Tensor, /, min: Array | None = None, max: Array | None = None) -> Tensor:
    """x limited to [min, max]; a limit of None does not bind. NaN stays, in x and in a limit."""
    if min is not None:
        x = maximum(x, min)
    return x if max is None else minimum(x, max)


# -- bits ----------------------------------------------------------------------------------------------------

BITS = (*BOOLEAN, *INTEGER)


@primitive(rule=binary(BITS), nondiff="defined on integers and booleans", samples=pairs(-9, 9), ulp=0)
def bitwise_and(x1: Array, x2: Array, /) -> Tensor:
    """The bits set in both operands."""


@primitive(rule=binary(BITS), nondiff="defined on integers and booleans", samples=pairs(-9, 9), ulp=0)
def bitwise_or(x1: Array, x2: Array, /) -> Tensor:
    """The bits set in either operand."""


@primitive(rule=binary(BITS), nondiff="defined on integers and booleans", samples=pairs(-9, 9), ulp=0)
def bitwise_xor(x1: Array, x2: Array, /) -> Tensor:
    """The bits set in one operand alone."""


@primitive(rule=unary(BITS), nondiff="defined on integers and booleans", samples=reals(-9, 9), ulp=0)
def bitwise_invert(x: Tensor, /) -> Tensor:
    """Every bit inverted; for bool, logical not."""


@primitive(rule=binary(INTEGER), nondiff="defined on integers", samples=pairs(-9, 9, (0, 6)), ulp=0)
def bitwise_left_shift(x1: Array, x2: Array, /) -> Tensor:
    """x1 shifted left by x2 bits; 0 when x2 is negative or at least the width."""


@primitive(rule=binary(INTEGER), nondiff="defined on integers", samples=pairs(-9, 9, (0, 6)), ulp=0)
def bitwise_right_shift(x1: Array, x2: Array, /) -> Tensor:
    """x1 shifted right by x2 bits, filling with the sign; only the sign is left when x2 is negative or at
    least the width.
    """


@custom()
def _cast_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    return Spec(specs[0].shape, params["dtype"])


def _casts(make: Any, dtype: DType) -> Iterator[Sample]:
    for target in ALL:
        if dtype.kind != "complex" or target.kind in ("complex", "bool"):
            for shape in ((), (2, 3), (0,)):
                yield Sample((make.array(shape, dtype, 0, 3), target))


def _bind_astype(
    x: Any, dtype: Any, /, *, copy: Any = True, device: Any = None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    dtype = as_dtype(dtype)
    if isinstance(x, Tensor):
        if x.dtype.kind == "complex" and dtype.kind not in ("complex", "bool"):
            raise DTypeError(
                f"astype: {x.dtype.name} to {dtype.name} would drop the imaginary part: take corelib.real(x) or corelib.abs(x)"
            )
        if device is not None:
            x = calls.to(x, device)
    return (x,), {"dtype": dtype}


@primitive(
    rule=_cast_rule,
    bind=_bind_astype,
    linear=lambda g, x: astype(real(g) if x.dtype.kind != "complex" else g, x.dtype),
    unchanged=lambda x, dtype: x.dtype is dtype,
    samples=_casts,
    errors=[
        ErrorSample(DTypeError, "no dtype 'floaty'", lambda m: Sample((m.array((2,), float32), "floaty"))),
        ErrorSample(
            DTypeError, "would drop the imaginary part", lambda m: Sample((m.array((2,), complex64), float32))
        ),
    ],
    ulp=0.5,
    moves=True,
)
def astype(x: Tensor, dtype: DTypeLike, /, *, copy: Copy = True, device: Target = None) -> Tensor:
    """x in another dtype. Floats to integers truncate and saturate, NaN gives 0; integers to narrower ones
    wrap; to bool: x != 0. Complex to real is refused: it would drop the imaginary part.

    ``device``: where the result is, if not where x is.
    """


@composite(
    rule=unary(ALL), nondiff="stop_gradient ends differentiation", samples=reals(-3, 3), ulp=0, moves=True
)
def stop_gradient(x: Tensor, /) -> Tensor:
    """x as a constant: nothing behind it is differentiated."""
    return x

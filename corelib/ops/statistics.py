"""Statistics and norms: reductions that are made of sums and extremes.

Means, variances and norms need a floating dtype; integers are refused rather than turned into floats unasked.
Deviations are taken from the mean in a second pass, so that no digits cancel.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..dispatch import composite
from ..dtypes import ALL, FLOATING, INEXACT, float32, int64
from ..errors import DTypeError, ShapeError
from ..op import SUM_BOUND
from ..rules import Spec, custom, reduced, reduction
from ..samples import ErrorSample, Sample, reductions
from .compare import equal, not_equal
from .creation import full
from .elementwise import abs, add, astype, divide, exp, log, multiply, pow, sqrt, square, subtract, where
from .movement import reshape
from .reduce import AXES_ERRORS, max, min, spread, sum

if TYPE_CHECKING:
    from ..params import Axes
    from ..tensor import Tensor


def _count(shape: Any, axis: Any) -> int:
    return math.prod(shape[a] for a in axis)


_ERRORS = [
    *AXES_ERRORS,
    ErrorSample(DTypeError, "does not accept int64.*astype", lambda m: Sample((m.array((2, 3), int64),))),
]


@composite(
    kind="reduce", rule=reduction(INEXACT), leading=True, ulp=SUM_BOUND, errors=_ERRORS, samples=reductions(empty=False),
    linear=lambda g, x, axis, keepdims: spread(divide(g, _count(x.shape, axis)), x.shape, axis, keepdims),
)  # fmt: skip
def mean(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The arithmetic mean over ``axis``: one, several, or None for all axes. Of no elements: NaN. Integers:
    cast x first.
    """
    return divide(sum(x, axis=axis, keepdims=keepdims), _count(x.shape, axis))


def _freedom(shape: Any, axis: Any, correction: float) -> float:
    """The divisor of a variance; NaN when there are too few elements."""
    n = _count(shape, axis) - correction
    return n if n > 0 else math.nan


def _centred(x: Tensor, axis: Any) -> Tensor:
    return subtract(x, mean(x, axis=axis, keepdims=True))


@composite(
    kind="reduce", rule=reduction(FLOATING), leading=True, ulp=16, errors=_ERRORS, samples=reductions(empty=False),
    vjp=lambda g, x, axis, correction, keepdims: multiply(
        spread(divide(multiply(g, 2), _freedom(x.shape, axis, correction)), x.shape, axis, keepdims), _centred(x, axis)),
)  # fmt: skip
def var(x: Tensor, /, *, axis: Axes = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The mean square deviation from the mean over ``axis``; the divisor is n - ``correction`` (1: the
    unbiased estimate). NaN where that is not positive.
    """
    squares = sum(square(_centred(x, axis)), axis=axis, keepdims=keepdims)
    return divide(squares, _freedom(x.shape, axis, correction))


def _std_vjp(
    g: Tensor, x: Tensor, y: Tensor, axis: tuple[int, ...], correction: float, keepdims: bool
) -> Tensor:
    """(x - mean) / (n y), and 0 where all elements are equal (there y has a kink)."""
    scale = divide(g, multiply(where(equal(y, 0), 1, y), _freedom(x.shape, axis, correction)))
    return multiply(spread(scale, x.shape, axis, keepdims), _centred(x, axis))


@composite(
    kind="reduce", rule=reduction(FLOATING), leading=True, ulp=16, errors=_ERRORS, samples=reductions(empty=False), vjp=_std_vjp,
)  # fmt: skip
def std(x: Tensor, /, *, axis: Axes = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The square root of ``var``. Its gradient where all elements are equal is 0."""
    return sqrt(var(x, axis=axis, correction=correction, keepdims=keepdims))


def _gap(x: Tensor, top: Tensor) -> Tensor:
    """x - top, and 0 where they are equal, infinities included."""
    return where(equal(x, top), 0, subtract(x, top))


@composite(
    kind="reduce", rule=reduction(FLOATING), leading=True, ulp=16, errors=_ERRORS, samples=reductions(empty=False),
    vjp=lambda g, x, y, axis, keepdims: multiply(
        spread(g, x.shape, axis, keepdims), exp(_gap(x, spread(y, x.shape, axis, keepdims)))),
)  # fmt: skip
def logsumexp(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over ``axis`` without overflow; -inf where there is no element, or none above -inf.

    The budget is relative to the larger of the result and max(x): near a result of 0 the two cancel.
    """
    axes: Any = axis
    shape = reduced(x.shape, axes, keepdims)
    if 0 in [x.shape[a] for a in axes]:
        return full(shape, -math.inf, dtype=x.dtype, device=x._backend)
    top = max(x, axis=axis, keepdims=True)
    total = sum(exp(_gap(x, top)), axis=axis, keepdims=True)
    return reshape(add(log(total), top), shape)


@composite(
    kind="reduce", rule=reduction(ALL, int64), leading=True, ulp=0, errors=AXES_ERRORS, samples=reductions(), nondiff="a count is an integer",
)  # fmt: skip
def count_nonzero(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """How many elements over ``axis`` are not 0 (NaN is not 0), int64."""
    return sum(x if x.dtype.kind == "bool" else not_equal(x, 0), axis=axis, dtype=int64, keepdims=keepdims)


@custom(INEXACT)
def _norm_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    (x,), axis, ord = specs, params["axis"], params["ord"]
    shape = reduced(x.shape, axis, params["keepdims"])
    if math.isinf(ord) and 0 in [x.shape[a] for a in axis] and 0 not in shape:
        raise ShapeError(
            f"{op.name}: there is no norm of order {ord} of no elements: x has shape {x.shape}, axis is {axis}"
        )
    return Spec(shape, x.dtype.real)


def _rooted(total: Tensor, root: Any) -> Tensor:
    """``root`` of a sum that may be 0, where the result and the gradient are 0."""
    zero = equal(total, 0)
    return where(zero, 0, root(where(zero, 1, total)))


def _norm_samples(make: Any, dtype: Any) -> Any:
    for ord in (2.0, 1.0, 3.0, math.inf, -math.inf, 0.5):
        for low, high in ((0.5, 3), (-3, -0.5)):
            for shape, axis in (((5,), None), ((2, 3), 0), ((2, 3, 4), (0, 2)), ((3, 33), -1)):
                yield Sample(
                    (make.array(shape, dtype, low, high),), {"axis": axis, "keepdims": low < 0, "ord": ord}
                )
    yield Sample((make.array((0,), dtype),))


@composite(
    kind="reduce", rule=_norm_rule, leading=True, ulp=32, samples=_norm_samples,
    errors=[*_ERRORS, ErrorSample(ShapeError, "no norm of order inf of no elements", lambda m: Sample((m.array((0,), float32),), {"ord": math.inf}))],
)  # fmt: skip
def vector_norm(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False, ord: float = 2.0) -> Tensor:
    """The ``ord``-norm of x over ``axis``, sum(|x|**ord)**(1/ord): 2, 1, inf (the largest |x|), -inf (the
    smallest), 0 (the number of elements that are not 0), or another number. Real, also of complex x. The gradient at a
    norm of 0 is 0.
    """
    x = abs(x) if x.dtype.kind == "complex" else x
    if ord == 0:
        return astype(count_nonzero(x, axis=axis, keepdims=keepdims), x.dtype)
    if math.isinf(ord):
        return (max if ord > 0 else min)(abs(x), axis=axis, keepdims=keepdims)
    if ord == 1:
        return sum(abs(x), axis=axis, keepdims=keepdims)
    if ord == 2:
        return _rooted(sum(square(x), axis=axis, keepdims=keepdims), sqrt)
    return _rooted(sum(pow(abs(x), ord), axis=axis, keepdims=keepdims), lambda total: pow(total, 1 / ord))

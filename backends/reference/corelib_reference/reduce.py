"""Reductions and scans: many elements into one.

Sums and products of floats and of complex numbers are computed exactly and rounded once, so no order of
summation is better than this one; whoever adds in another order differs by at most its own rounding errors.
``groups`` lists the elements of each result.
"""

from __future__ import annotations

import cmath
import functools
import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from operator import mul
from typing import Any

from corelib.plugin_api import dtypes, ops

from . import annex_g, ieee
from .array import RefArray, Shape, groups, lines, reduced_shape
from .creation import converted
from .kernels import kernels
from .rounding import exact, from_exact, parts, rounding, to_float32

# ---- exact sums and products


def signed_zero(total: float, terms: Sequence[float]) -> float:
    """A sum that is zero is -0 only if all its terms are (there being any), as in IEEE 754 in any order."""
    if total == 0 and len(terms) and all(math.copysign(1.0, term) < 0 for term in terms):
        return -0.0
    return total


def exact_sum(terms: Sequence[Any], dtype: dtypes.DType) -> Any:
    """The sum of ``terms``, rounded once to ``dtype``; infinities and NaN as in IEEE 754."""
    if dtype.kind == "complex":
        return complex(*[exact_sum(part, dtype.real) for part in parts(terms)])
    try:
        total = math.fsum(terms)  # correctly rounded to double, unless a partial sum overflows
    except (ValueError, OverflowError):  # inf - inf, or a partial sum beyond the largest double
        special = [term for term in terms if not math.isfinite(term)]
        return sum(special) if special else from_exact(*_exact_total(terms), dtype)
    if dtype is dtypes.float32:
        if _may_round_twice(total):
            return from_exact(*_exact_total(terms), dtype)
        total = to_float32((total,))[0]
    return signed_zero(total, terms)


def _exact_total(terms: Sequence[float]) -> tuple[int, int]:
    integers, k = exact(terms)
    return sum(integers), k


def _may_round_twice(total: float) -> bool:
    """Whether a sum rounded to double could round to another float32 than the exact sum does.

    Only where the double lies on a midpoint of two float32 (its significand ends with bit 25), or where
    float32 is subnormal and its midpoints lie elsewhere. In random data about one sum in 2**28; never zero.
    """
    significand, exponent = math.frexp(total)
    return (significand * 2**25) % 2 == 1 or (exponent < -125 and total != 0)


def exact_product(factors: Sequence[Any], dtype: dtypes.DType) -> Any:
    """The product of ``factors``, rounded once to ``dtype``; infinities, NaN and zeros as in IEEE 754."""
    if dtype.kind == "complex":
        return _complex_product(factors, dtype)
    if all(map(math.isfinite, factors)) and 0.0 not in factors:
        ratios = [factor.as_integer_ratio() for factor in factors]
        exponent = sum(denominator.bit_length() - 1 for _, denominator in ratios)
        return from_exact(math.prod(numerator for numerator, _ in ratios), exponent, dtype)
    # A finite factor changes an infinity, a NaN or a zero by its sign at most; +-1 cannot overflow.
    return math.prod(map(ieee.unit, factors))


def _complex_product(factors: Sequence[complex], dtype: dtypes.DType) -> complex:
    if not all(map(cmath.isfinite, factors)):
        return rounding(dtype)([functools.reduce(annex_g.multiply, factors)])[0]
    numbers, k = _gaussian(factors)
    product = functools.reduce(annex_g.gaussian_product, numbers, (1, 0))
    return _from_gaussian(product, k * len(factors), dtype)


def _gaussian(values: Sequence[complex]) -> tuple[list[annex_g.Gaussian], int]:
    """Finite complex numbers as pairs of integers over one power of two, 2**k."""
    (real, j), (imag, k) = map(exact, parts(values))
    shared = max(j, k)
    return [(a << shared - j, b << shared - k) for a, b in zip(real, imag, strict=True)], shared


def _from_gaussian(z: annex_g.Gaussian, k: int, dtype: dtypes.DType) -> complex:
    return complex(from_exact(z[0], k, dtype.real), from_exact(z[1], k, dtype.real))


# ---- reductions


def _reduction(
    x: RefArray, axis: Shape, keepdims: bool, dtype: dtypes.DType, combine: Callable[..., Any]
) -> RefArray:
    """combine(elements) for every group of elements along ``axis``."""
    return RefArray(
        reduced_shape(x.shape, axis, keepdims), dtype, [combine(group) for group in groups(x, axis)]
    )


def _accumulated(x: RefArray, dtype: dtypes.DType) -> RefArray:
    """The operand in the dtype in which it is summed."""
    return RefArray(x.shape, dtype, converted(x.data, x.dtype, dtype))


@kernels.implements(ops.sum)
def sum_(x: RefArray, /, *, axis: Shape, dtype: dtypes.DType, keepdims: bool) -> RefArray:
    """The sum along ``axis``; 0 of nothing."""
    if dtype in dtypes.INEXACT:
        return _reduction(
            _accumulated(x, dtype), axis, keepdims, dtype, lambda terms: exact_sum(terms, dtype)
        )
    total = _reduction(_accumulated(x, dtype), axis, keepdims, dtype, sum)
    return RefArray(total.shape, dtype, rounding(dtype)(total.data))


@kernels.implements(ops.prod)
def prod(x: RefArray, /, *, axis: Shape, dtype: dtypes.DType, keepdims: bool) -> RefArray:
    """The product along ``axis``; 1 of nothing."""
    if dtype in dtypes.INEXACT:
        return _reduction(
            _accumulated(x, dtype), axis, keepdims, dtype, lambda factors: exact_product(factors, dtype)
        )
    total = _reduction(_accumulated(x, dtype), axis, keepdims, dtype, math.prod)
    return RefArray(total.shape, dtype, rounding(dtype)(total.data))


def _extreme(floating: Callable[..., Any], other: Callable[..., Any]) -> Callable[..., RefArray]:
    def kernel(x: RefArray, /, *, axis: Shape, keepdims: bool) -> RefArray:
        choose = floating if x.dtype.kind == "float" else other
        # functools.reduce refuses an empty group, as it must: nothing has no extreme
        return _reduction(x, axis, keepdims, x.dtype, lambda group: functools.reduce(choose, group))

    return kernel


kernels.add(ops.max, _extreme(ieee.maximum, max))
kernels.add(ops.min, _extreme(ieee.minimum, min))


@kernels.implements(ops.any)
def any_(x: RefArray, /, *, axis: Shape, keepdims: bool) -> RefArray:
    """Whether some element is not zero (NaN is not); False for nothing."""
    return _reduction(x, axis, keepdims, dtypes.bool, any)


@kernels.implements(ops.all)
def all_(x: RefArray, /, *, axis: Shape, keepdims: bool) -> RefArray:
    """Whether no element is zero; True for nothing."""
    return _reduction(x, axis, keepdims, dtypes.bool, all)


def _position(choose: Callable[..., Any], values: list[Any]) -> int:
    """Where the extreme of ``values`` first occurs; a NaN is the extreme."""
    for position, value in enumerate(values):
        if value != value:
            return position
    return values.index(choose(values))


def _arg_extreme(choose: Callable[..., Any]) -> Callable[..., RefArray]:
    def kernel(x: RefArray, /, *, axis: int, keepdims: bool) -> RefArray:
        return _reduction(x, (axis,), keepdims, dtypes.int64, lambda values: _position(choose, values))

    return kernel


kernels.add(ops.argmax, _arg_extreme(max))
kernels.add(ops.argmin, _arg_extreme(min))


# ---- scans


def _scan(
    x: RefArray, axis: int, dtype: dtypes.DType, prefixes: Callable[[list[Any]], list[Any]]
) -> RefArray:
    """prefixes(line) in place of every line along ``axis``."""
    source = converted(x.data, x.dtype, dtype)
    data = list(source)
    for line in lines(x.shape, axis):
        data[line] = prefixes(source[line])
    return RefArray(x.shape, dtype, data)


def prefix_sums(terms: list[Any], dtype: dtypes.DType) -> list[Any]:
    """Every sum of the first terms, each exact and rounded once."""
    if dtype.kind == "complex":
        return list(map(complex, *[prefix_sums(part, dtype.real) for part in parts(terms)]))
    finite = next((i for i, term in enumerate(terms) if not math.isfinite(term)), len(terms))
    integers, k = exact(terms[:finite])
    sums = [from_exact(total, k, dtype) for total in accumulate(integers)]
    for i, term in enumerate(terms[:finite]):  # leading negative zeros sum to a negative zero
        if not (term == 0 and math.copysign(1.0, term) < 0):
            break
        sums[i] = term
    # From the first infinity or NaN on, finite terms change nothing.
    return sums + list(accumulate(term if not math.isfinite(term) else 0.0 for term in terms[finite:]))


def prefix_products(factors: list[Any], dtype: dtypes.DType) -> list[Any]:
    """Every product of the first factors, each exact and rounded once."""
    if dtype.kind == "complex":
        return _complex_prefix_products(factors, dtype)
    special = next((i for i, f in enumerate(factors) if f == 0 or not math.isfinite(f)), len(factors))
    ratios = [factor.as_integer_ratio() for factor in factors[:special]]
    numerators = accumulate((numerator for numerator, _ in ratios), mul)
    exponents = accumulate(denominator.bit_length() - 1 for _, denominator in ratios)
    products = [from_exact(n, k, dtype) for n, k in zip(numerators, exponents, strict=True)]
    sign = math.copysign(1.0, products[-1]) if products else 1.0
    return products + list(accumulate(map(ieee.unit, factors[special:]), mul, initial=sign))[1:]


def _complex_prefix_products(factors: list[complex], dtype: dtypes.DType) -> list[complex]:
    finite = next((i for i, z in enumerate(factors) if not cmath.isfinite(z)), len(factors))
    numbers, k = _gaussian(factors[:finite])
    exactly = enumerate(accumulate(numbers, annex_g.gaussian_product), 1)
    products = [_from_gaussian(z, i * k, dtype) for i, z in exactly]
    last = products[-1] if products else 1 + 0j
    return products + rounding(dtype)(list(accumulate(factors[finite:], annex_g.multiply, initial=last))[1:])


@kernels.implements(ops.cumulative_sum)
def cumulative_sum(x: RefArray, /, *, axis: int, dtype: dtypes.DType) -> RefArray:
    """Element i is the sum of the elements up to and with i."""
    if dtype in dtypes.INEXACT:
        return _scan(x, axis, dtype, lambda terms: prefix_sums(terms, dtype))
    return _scan(x, axis, dtype, lambda terms: rounding(dtype)(list(accumulate(terms))))


@kernels.implements(ops.cumulative_prod)
def cumulative_prod(x: RefArray, /, *, axis: int, dtype: dtypes.DType) -> RefArray:
    """Element i is the product of the elements up to and with i."""
    if dtype in dtypes.INEXACT:
        return _scan(x, axis, dtype, lambda factors: prefix_products(factors, dtype))
    return _scan(x, axis, dtype, lambda factors: rounding(dtype)(list(accumulate(factors, mul))))

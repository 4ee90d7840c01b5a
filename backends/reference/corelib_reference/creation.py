"""Arrays from nothing, and arrays of another dtype: full, arange, astype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from corelib.plugin_api import dtypes, ops

from .array import RefArray, Shape, elements
from .kernels import kernels
from .rounding import from_exact, rounding, scalar, to_float


@kernels.implements(ops.full)
def full(*, shape: Shape, fill_value: Any, dtype: dtypes.DType) -> RefArray:
    """An array of equal elements."""
    return RefArray(shape, dtype, [scalar(fill_value, dtype)] * elements(shape))


@kernels.implements(ops.arange)
def arange(*, start: Any, step: Any, size: int, dtype: dtypes.DType) -> RefArray:
    """Element i is start + i * step: exact for integers; for floats in double, then rounded to the dtype."""
    if dtype.kind == "float":
        start, step = to_float(start), to_float(step)
    return RefArray((size,), dtype, rounding(dtype)([start + i * step for i in range(elements((size,)))]))


def _truncated(dtype: dtypes.DType) -> Callable[[float], int]:
    """From float to integer: towards zero, into the dtype's range; NaN becomes 0."""

    def convert(value: float) -> int:
        if value != value:
            return 0
        return dtype.min if value <= dtype.min else dtype.max if value >= dtype.max else int(value)

    return convert


def _to_floating(dtype: dtypes.DType) -> Callable[[int], float]:
    """From integer to the nearest float, of 64 bits not by way of a double: that would round twice."""
    return lambda value: from_exact(value, 0, dtype)


def converted(data: list[Any], source: dtypes.DType, target: dtypes.DType) -> list[Any]:
    """Elements of ``source`` as elements of ``target``."""
    if source is target:
        return data
    if target.kind == "bool":
        return [value != 0 for value in data]
    if target.kind == "complex":
        if source.kind == "complex":
            return rounding(target)(data)
        return [complex(value, 0.0) for value in converted(data, source, target.real)]
    if target.kind == "float":
        if source.kind == "float":
            return rounding(target)(data)
        # float() suffices, and is faster, where it is the only rounding: 32 bits are exact in a double
        nearest = float if source.bits < 64 or target is dtypes.float64 else _to_floating(target)
        return rounding(target)(list(map(nearest, data)))
    if source.kind == "float":
        return list(map(_truncated(target), data))
    return rounding(target)(list(map(int, data)))


@kernels.implements(ops.astype)
def astype(x: RefArray, /, *, dtype: dtypes.DType) -> RefArray:
    """The same elements as values of another dtype."""
    return RefArray(x.shape, dtype, converted(x.data, x.dtype, dtype))

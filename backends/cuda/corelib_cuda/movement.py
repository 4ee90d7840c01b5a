"""Creation and movement: views where the layout allows them, copies (copy.py) where it does not, and what computes:
`full`, `arange` and `astype`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from corelib.plugin_api import dtypes, ops

from .copy import copied, copy, overlap, reshaped
from .elementwise import Elementwise, arange_kernel, cast_kernel, full_kernel
from .half import named, stored
from .kernels import kernels
from .launch import cupy

Axes = tuple[int, ...]

arange_for = functools.cache(arange_kernel)
full_for = functools.cache(full_kernel)
cast_for: Callable[[str, str], Elementwise] = functools.cache(cast_kernel)


def fill(shape: tuple[int, ...], value: Any, dtype: str) -> Any:
    """A new array with one value everywhere."""
    kernel = full_for(dtype)
    return kernel.fill(shape, "v", kernel.scalars[0](value))


def cast(x: Any, dtype: str) -> Any:
    """``x`` as an array of ``dtype`` (a name); itself if it is one."""
    source = dtypes.as_dtype(x.dtype).name  # a dictionary; NumPy spells the name out at every call
    return x if source == dtype else named(cast_for(source, dtype)(stored(x)), dtypes.as_dtype(dtype))


def widened(body: Callable[..., Any], dtype: Any) -> Callable[..., Any]:
    """``body``, which computes in float32, for float16 or bfloat16: its results are rounded once."""

    def narrow(result: Any) -> Any:
        return cast(result, dtype.name) if result.dtype == np.float32 else result

    def widen_and_call(*operands: Any, **params: Any) -> Any:
        wide = [cast(x, "float32") if getattr(x, "dtype", None) is dtype else x for x in operands]
        result = body(*wide, **params)
        return tuple(map(narrow, result)) if isinstance(result, tuple) else narrow(result)

    return widen_and_call


@kernels.implements(ops.full)
def full(*, shape: tuple[int, ...], fill_value: Any, dtype: Any) -> Any:
    return fill(shape, fill_value, dtypes.as_dtype(dtype).name)


@kernels.implements(ops.arange)
def arange(*, start: Any, step: Any, size: int, dtype: Any) -> Any:
    dtype = dtypes.as_dtype(dtype)
    kernel = arange_for(dtype.name, dtype.kind)
    number = kernel.scalars[1]
    if dtype.kind != "float":  # the kernel computes modulo 2^64
        start, step = int(start) % 2**64, int(step) % 2**64
    return named(kernel.fill((size,), "pvv", number(start), number(step)), dtype)


@kernels.implements(ops.astype)
def astype(x: Any, /, *, dtype: Any) -> Any:
    return cast(x, dtypes.as_dtype(dtype).name)


@kernels.implements(ops.reshape)
def reshape(x: Any, /, *, shape: tuple[int, ...]) -> Any:
    return reshaped(x, shape)


@kernels.implements(ops.permute_dims)
def permute_dims(x: Any, /, *, axes: Axes) -> Any:
    return x.transpose(axes) if axes else x


@kernels.implements(ops.broadcast_to)
def broadcast_to(x: Any, /, *, shape: tuple[int, ...]) -> Any:
    return cupy().broadcast_to(x, shape)


@kernels.implements(ops.flip)
def flip(x: Any, /, *, axis: Axes) -> Any:
    turned = {a % x.ndim for a in axis}
    return x[tuple(slice(None, None, -1) if a in turned else slice(None) for a in range(x.ndim))]


@kernels.implements(ops.concat)
def concat(*xs: Any, axis: int) -> Any:
    first = xs[0]
    shape, start = list(first.shape), 0
    shape[axis] = sum(x.shape[axis] for x in xs)
    if any(x.shape[:axis] != first.shape[:axis] or x.shape[axis:][1:] != first.shape[axis:][1:] for x in xs):
        raise ValueError(f"shapes {', '.join(str(x.shape) for x in xs)} along axis {axis}")
    out = cupy().ndarray(tuple(shape), first.dtype)
    before = (slice(None),) * (axis + first.ndim)
    for x in xs:
        copy(x, out[(*before, slice(start, start + x.shape[axis]))])
        start += x.shape[axis]
    return out


@kernels.implements(ops.pad)
def pad(x: Any, /, *, pad_width: tuple[tuple[int, int], ...], constant_value: Any) -> Any:
    shape = tuple(low + size + high for size, (low, high) in zip(x.shape, pad_width, strict=True))
    out = fill(shape, constant_value, x.dtype.name)
    copy(x, out[tuple(slice(low, low + size) for size, (low, _) in zip(x.shape, pad_width, strict=True))])
    return out


def region(shape: Axes, start: Axes, size: Axes, step: Axes) -> tuple[slice, ...]:
    """The slices that visit start + k*step for k < size along each axis; IndexError if one leaves the array."""
    slices = []
    for extent, first, count, stride in zip(shape, start, size, step, strict=True):
        last = first + (count - 1) * stride
        if count and not (0 <= first < extent and 0 <= last < extent):
            raise IndexError(f"places {first} to {last} of an axis of size {extent}")
        stop = last + (1 if stride > 0 else -1)
        slices.append(slice(first, stop if stop >= 0 else None, stride) if count else slice(0, 0))
    return tuple(slices)


@kernels.implements(ops.strided_slice)
def strided_slice(x: Any, /, *, start: Axes, size: Axes, step: Axes) -> Any:
    return x[region(x.shape, start, size, step)]


@kernels.implements(ops.strided_update)
def strided_update(x: Any, value: Any, /, *, start: Axes, size: Axes, step: Axes, overwrite: bool) -> Any:
    out = x if overwrite else copied(x)
    place = region(x.shape, start, size, step)
    if value.shape != tuple(size):
        raise ValueError(f"a value of shape {value.shape} for a region of shape {tuple(size)}")
    copy(copied(value) if overlap(value, out) else value, out[place])
    return out

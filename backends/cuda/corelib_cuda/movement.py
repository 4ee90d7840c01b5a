"""Creation and movement: views where the layout allows them, CuPy's copies where it does not.

CuPy's copy kernels move bits unchanged, so no number passes through arithmetic here; `full`, `arange` and
`astype`, which compute, are kernels of our own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from corelib.plugin_api import dtypes, ops

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
    return x.reshape(shape)


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
    return cupy().concatenate(xs, axis)


@kernels.implements(ops.pad)
def pad(x: Any, /, *, pad_width: tuple[tuple[int, int], ...], constant_value: Any) -> Any:
    shape = tuple(low + size + high for size, (low, high) in zip(x.shape, pad_width, strict=True))
    out = fill(shape, constant_value, x.dtype.name)
    out[tuple(slice(low, low + size) for size, (low, _) in zip(x.shape, pad_width, strict=True))] = x
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
    out = x if overwrite else x.copy()
    place = region(x.shape, start, size, step)
    if value.shape != tuple(size):
        raise ValueError(f"a value of shape {value.shape} for a region of shape {tuple(size)}")
    out[place] = value
    return out

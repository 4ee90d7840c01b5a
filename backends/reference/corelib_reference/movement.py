"""Ops that move elements and compute nothing: each is a choice of start and strides for ``array.offsets``."""

from __future__ import annotations

import math
from typing import Any

from corelib.plugin_api import ops

from .array import RefArray, Shape, broadcast, elements, offsets, permute, strides, take
from .kernels import kernels
from .rounding import scalar


@kernels.implements(ops.reshape)
def reshape(x: RefArray, /, *, shape: Shape) -> RefArray:
    """The same list under another shape."""
    if math.prod(shape) != len(x.data):
        raise ValueError(f"reshape: {len(x.data)} elements do not fill the shape {shape}")
    return RefArray(shape, x.dtype, x.data)


@kernels.implements(ops.permute_dims)
def permute_dims(x: RefArray, /, *, axes: Shape) -> RefArray:
    """Axis k of the result is axis axes[k] of x."""
    if sorted(axes) != list(range(-len(x.shape), 0)):
        raise ValueError(f"permute_dims: {axes} is not a permutation of the {len(x.shape)} axes")
    return RefArray(tuple(x.shape[axis] for axis in axes), x.dtype, permute(x, axes))


@kernels.implements(ops.broadcast_to)
def broadcast_to(x: RefArray, /, *, shape: Shape) -> RefArray:
    """The array repeated along axes of length 1 and along new leading axes."""
    return RefArray(shape, x.dtype, broadcast(x, shape))


@kernels.implements(ops.flip)
def flip(x: RefArray, /, *, axis: Shape) -> RefArray:
    """Each axis in ``axis`` is read backwards: it starts at its last element, with its stride negated."""
    start, steps = 0, list(strides(x.shape))
    for k in axis:
        start += (x.shape[k] - 1) * steps[k]
        steps[k] = -steps[k]
    return RefArray(x.shape, x.dtype, take(x.data, offsets(x.shape, tuple(steps), start)))


@kernels.implements(ops.concat)
def concat(*xs: RefArray, axis: int) -> RefArray:
    """Arrays one after another along ``axis``; the other axes agree."""
    first = xs[0].shape
    ndim = len(first)
    if any(len(x.shape) != ndim or x.shape[: ndim + axis] != first[: ndim + axis] for x in xs):
        raise ValueError(f"concat: shapes {[x.shape for x in xs]} differ in another axis than {axis}")
    if any(x.shape[axis:][1:] != first[axis:][1:] for x in xs):
        raise ValueError(f"concat: shapes {[x.shape for x in xs]} differ in another axis than {axis}")
    blocks = [(x.data, math.prod(x.shape[axis:])) for x in xs]  # x: outer blocks of this many elements
    data: list[Any] = []
    for outer in range(math.prod(first[:axis])):
        for source, block in blocks:
            data += source[outer * block : (outer + 1) * block]
    shape = list(first)
    shape[axis] = sum(x.shape[axis] for x in xs)
    return RefArray(tuple(shape), xs[0].dtype, data)


@kernels.implements(ops.pad)
def pad(x: RefArray, /, *, pad_width: tuple[tuple[int, int], ...], constant_value: Any) -> RefArray:
    """The array surrounded by ``pad_width[axis]`` = (before, after) elements equal to ``constant_value``."""
    padded = zip(x.shape, pad_width, strict=True)
    shape = tuple(before + length + after for length, (before, after) in padded)
    data = [scalar(constant_value, x.dtype)] * elements(shape)
    steps = strides(shape)
    start = sum(before * step for (before, _), step in zip(pad_width, steps, strict=True))
    for position, value in zip(offsets(x.shape, steps, start), x.data, strict=True):
        data[position] = value
    return RefArray(shape, x.dtype, data)


def _region(x: RefArray, start: Shape, size: Shape, step: Shape) -> list[int]:
    """Where the elements ``x[start + k * step]``, ``k < size``, lie in x."""
    for length, first, count, jump in zip(x.shape, start, size, step, strict=True):
        if count and not (0 <= first < length and 0 <= first + (count - 1) * jump < length):
            raise IndexError(
                f"{count} elements from {first} in steps of {jump} leave an axis of length {length}"
            )
    steps = strides(x.shape)
    origin = sum(first * own for first, own in zip(start, steps, strict=True))
    return offsets(size, tuple(jump * own for jump, own in zip(step, steps, strict=True)), origin)


@kernels.implements(ops.strided_slice)
def strided_slice(x: RefArray, /, *, start: Shape, size: Shape, step: Shape) -> RefArray:
    """out[k] = x[start + k * step] for every index k below ``size``."""
    return RefArray(size, x.dtype, take(x.data, _region(x, start, size, step)))


@kernels.implements(ops.strided_update)
def strided_update(
    x: RefArray, value: RefArray, /, *, start: Shape, size: Shape, step: Shape, overwrite: bool
) -> RefArray:
    """A copy of x with x[start + k * step] = value[k]; ``overwrite`` is a permission, not used here."""
    if value.shape != size:
        raise ValueError(f"strided_update: the value has shape {value.shape}, its place has {size}")
    data = list(x.data)
    for position, new in zip(_region(x, start, size, step), value.data, strict=True):
        data[position] = new
    return RefArray(x.shape, x.dtype, data)

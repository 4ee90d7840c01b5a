"""The array of the reference backend: a shape, a dtype and a flat list of Python numbers in C order.

Arrays are values: no kernel writes into a list that it was given, so lists may be shared (a reshape shares
its operand's). Layout does not exist here: transposing, flipping or broadcasting rearranges the list. All
rearranging goes through :func:`offsets`, the arithmetic of strides written as four lines. This module knows
shapes and lists, and nothing of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from corelib.plugin_api import dtypes

Shape = tuple[int, ...]


class RefArray:
    """An immutable array: ``data`` holds bools, ints, floats or complexes, each a value of ``dtype``."""

    __slots__ = ("data", "dtype", "shape")

    def __init__(self, shape: Shape, dtype: dtypes.DType, data: list[Any]) -> None:
        self.shape, self.dtype, self.data = shape, dtype, data

    def __repr__(self) -> str:
        return f"RefArray({self.shape}, {self.dtype.name}, {self.data})"


LIMIT = 2**31  # elements of an array: as Python numbers about 64 GB


def elements(shape: Shape) -> int:
    """How many elements a shape has; MemoryError at once where a list of them would fill all memory first."""
    count = math.prod(shape)
    if count > LIMIT:
        raise MemoryError
    return count


def strides(shape: Shape) -> Shape:
    """How far apart, in elements, neighbours along each axis are in C order."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def offsets(shape: Shape, steps: Shape, start: int = 0) -> list[int]:
    """Where the elements of a view lie: start + sum(index * steps) for each index of ``shape`` in C order."""
    if not elements(shape):
        return []  # however long its other axes are
    found = [start]
    for length, step in zip(shape, steps, strict=True):
        jumps = [index * step for index in range(length)]
        found = [offset + jump for offset in found for jump in jumps]
    return found


def take(data: list[Any], positions: list[int]) -> list[Any]:
    """The elements of ``data`` at ``positions``."""
    return [data[position] for position in positions]


def broadcast_shape(*shapes: Shape) -> Shape:
    """The common shape: axes are aligned at the end, and an axis of length 1 stretches to any length."""
    ndim = max(map(len, shapes), default=0)
    aligned = [(1,) * (ndim - len(shape)) + shape for shape in shapes]
    result = []
    for lengths in zip(*aligned, strict=True):
        different = {length for length in lengths if length != 1}
        if len(different) > 1:
            raise ValueError(f"shapes {shapes} do not broadcast")
        result.append(different.pop() if different else 1)
    return tuple(result)


def broadcast(x: RefArray, shape: Shape) -> list[Any]:
    """The elements of ``x`` stretched to ``shape``."""
    if x.shape == shape:
        return x.data
    if len(x.shape) > len(shape):
        raise ValueError(f"shape {x.shape} does not broadcast to {shape}")
    own = (1,) * (len(shape) - len(x.shape)) + x.shape
    if any(length not in (1, wanted) for length, wanted in zip(own, shape, strict=True)):
        raise ValueError(f"shape {x.shape} does not broadcast to {shape}")
    size = elements(shape)
    if len(x.data) == 1:  # the two common cases, for speed: one number, and a row (a bias) under many
        return x.data * size
    first = next((axis for axis, length in enumerate(own) if length != 1), 0)
    if own[first:] == shape[first:]:
        return x.data * math.prod(shape[:first])
    steps = tuple(0 if length == 1 else step for length, step in zip(own, strides(own), strict=True))
    return take(x.data, offsets(shape, steps))


def permute(x: RefArray, axes: Shape) -> list[Any]:
    """The elements of ``x`` with axis ``axes[k]`` moved to place k."""
    steps = strides(x.shape)
    return take(x.data, offsets(tuple(x.shape[axis] for axis in axes), tuple(steps[axis] for axis in axes)))


def lines(shape: Shape, axis: int) -> Iterator[slice]:
    """One slice of the flat list for every line of elements along ``axis``."""
    inner = math.prod(shape[axis:][1:])
    block = shape[axis] * inner
    for outer in range(math.prod(shape[:axis])):
        for start in range(inner):
            yield slice(outer * block + start, (outer + 1) * block, inner)


def groups(x: RefArray, axes: Shape) -> list[list[Any]]:
    """What a reduction over ``axes`` combines: one list for every element of the result, in C order."""
    ndim = len(x.shape)
    kept = [axis for axis in range(-ndim, 0) if axis not in axes]
    count = math.prod(x.shape[axis] for axis in kept)
    length = math.prod(x.shape[axis] for axis in axes)
    data = x.data if tuple(kept) + tuple(axes) == tuple(range(-ndim, 0)) else permute(x, (*kept, *axes))
    return [data[start * length : (start + 1) * length] for start in range(count)]


def reduced_shape(shape: Shape, axes: Shape, keepdims: bool) -> Shape:
    """The shape that a reduction over ``axes`` (counted from the end) leaves."""
    numbered = list(zip(range(-len(shape), 0), shape, strict=True))
    if keepdims:
        return tuple(1 if axis in axes else length for axis, length in numbered)
    return tuple(length for axis, length in numbered if axis not in axes)

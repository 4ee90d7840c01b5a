"""Shapes and strides as the kernels want them: broadcast, merged, and split into what is kept and what is
reduced.

Pure arithmetic on tuples; knows neither CuPy nor kernels. Strides are in elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

MAX_DIMS = 8  # as in layout.cuh; a layout that still has more dimensions is made dense first
INDEX_LIMIT = 2**31  # element counts and offsets below it take the kernels with 32-bit indices


def broadcast_shapes(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape that all broadcast to; ValueError if there is none."""
    ndim = max(map(len, shapes))
    result = [1] * ndim
    for shape in shapes:
        for axis, size in enumerate(shape, ndim - len(shape)):
            if size != 1:
                if result[axis] not in (1, size):
                    raise ValueError(f"shapes {', '.join(map(str, shapes))} do not broadcast")
                result[axis] = size
    return tuple(result)


def broadcast_strides(shape: tuple[int, ...], strides: Sequence[int], target: tuple[int, ...]) -> list[int]:
    """Strides of an array of ``shape`` seen as one of ``target``: 0 where it is repeated."""
    new = len(target) - len(shape)
    return [0] * new + [0 if size == 1 else stride for size, stride in zip(shape, strides, strict=True)]


def merge(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """Sizes and strides (one list per operand), innermost first, with the fewest dimensions that visit the
    same places in the same order: dimensions of size 1 go, neighbours that every operand walks through evenly
    become one.
    """
    sizes: list[int] = []
    merged: list[list[int]] = [[] for _ in strides]
    for axis in reversed(range(len(shape))):
        if shape[axis] == 1:
            continue
        if sizes and all(own[axis] == out[-1] * sizes[-1] for own, out in zip(strides, merged, strict=True)):
            sizes[-1] *= shape[axis]
            continue
        sizes.append(shape[axis])
        for own, out in zip(strides, merged, strict=True):
            out.append(own[axis])
    if not sizes:
        return [1], [[0] for _ in strides]
    return sizes, merged


def reach(sizes: Sequence[int], strides: Sequence[int]) -> int:
    """The largest distance, in elements, of any element from the first."""
    below = sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True) if stride < 0)
    above = sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True) if stride > 0)
    return max(-below, above)


def dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether elements lie in C order without gaps."""
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != expected:
            return size == 0 or 0 in shape
        expected *= size
    return True


def viewable(shape: Sequence[int], strides: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether an array can be seen in another shape without a copy: whether the wanted axes divide each stretch that is
    walked through evenly.
    """
    if 0 in shape:
        return True
    rest = [size for size in wanted if size != 1]
    for stretch in merge(shape, [strides])[0]:
        part = 1
        while part < stretch and rest:
            part *= rest.pop()
        if part != stretch:
            return False
    return True


def packed(sizes: list[int], strides: list[list[int]], bits: int) -> Any:
    """``struct Layout`` of layout.cuh, as NumPy's array of one element: how CuPy passes a struct by value."""
    word = np.dtype(f"i{bits // 8}")
    dtype = np.dtype(
        [
            ("size", word, MAX_DIMS),
            ("stride", word, (len(strides), MAX_DIMS)),
            ("ndim", np.int64),
        ],
        align=True,
    )
    struct = np.zeros(1, dtype)
    struct["size"][0, : len(sizes)] = sizes
    struct["stride"][0, :, : len(sizes)] = strides
    struct["ndim"] = len(sizes)
    return struct


def split(
    shape: tuple[int, ...], strides: Sequence[int], axes: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, int, int] | None]:
    """How to reduce ``axes`` (negative) of an array: (order, (outer, reduced, inner)).

    ``order`` lists the axes by decreasing stride, which is the order in which a permuted dense array lies in
    memory. If the array is dense in that order and the reduced axes stand together in it, the triple says how
    to see it as outer x reduced x inner; otherwise the triple is None, and the caller copies.
    """
    ndim = len(shape)
    order = tuple(sorted(range(ndim), key=lambda axis: (-abs(strides[axis]) if shape[axis] > 1 else 0, axis)))
    large = [axis for axis in order if shape[axis] > 1]
    if not dense([shape[axis] for axis in large], [strides[axis] for axis in large]):
        return order, None
    reduced = {axis % ndim for axis in axes}
    places = [i for i, axis in enumerate(large) if axis in reduced]
    if not places:
        return order, (prod(shape), 1, 1)
    first, last = places[0], places[-1]
    if last - first + 1 != len(places):
        return order, None
    sizes = [shape[axis] for axis in large]
    return order, (prod(sizes[:first]), prod(sizes[first : last + 1]), prod(sizes[last + 1 :]))

"""Reading and writing at indices that are arrays themselves.

``gather`` and ``scatter`` see x as outer blocks x places x inner elements: k index arrays of one shape
address the k axes from ``axis`` on, and so choose places; the axes before them are the outer blocks, those
after them the inner elements.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

from corelib.plugin_api import dtypes, ops

from .array import RefArray, Shape, broadcast, offsets, strides, take
from .kernels import kernels
from .reduce import exact_sum
from .rounding import rounding


def _wrapped(index: int, length: int) -> int:
    """An index into an axis, a negative one counted from its end."""
    if not -length <= index < length:
        raise IndexError(f"index {index} is out of bounds for an axis of length {length}")
    return index + length if index < 0 else index


def _positions(x: RefArray, indices: tuple[RefArray, ...], axis: int) -> tuple[Shape, list[int]]:
    """The shape of what ``indices`` address in x, and where each element of it lies in x."""
    first = len(x.shape) + axis
    outer, addressed, inner = (
        x.shape[:first],
        x.shape[first : first + len(indices)],
        x.shape[first + len(indices) :],
    )
    if len(addressed) != len(indices) or any(index.shape != indices[0].shape for index in indices):
        raise ValueError(f"{len(indices)} index arrays do not address shape {x.shape} from axis {axis} on")
    places = [0] * len(indices[0].data)
    for index, length in zip(indices, addressed, strict=True):
        places = [place * length + _wrapped(i, length) for place, i in zip(places, index.data, strict=True)]
    width, block = math.prod(inner), math.prod(addressed) * math.prod(inner)
    found = [
        o * block + place * width + i
        for o in range(math.prod(outer))
        for place in places
        for i in range(width)
    ]
    return outer + indices[0].shape + inner, found


@kernels.implements(ops.gather)
def gather(x: RefArray, /, *indices: RefArray, axis: int) -> RefArray:
    """What ``indices`` name in x: shape x.shape[:a] + indices[0].shape + x.shape[a+k:]."""
    shape, positions = _positions(x, indices, axis)
    return RefArray(shape, x.dtype, take(x.data, positions))


@kernels.implements(ops.scatter)
def scatter(x: RefArray, values: RefArray, /, *indices: RefArray, axis: int, overwrite: bool) -> RefArray:
    """A copy of x with ``values`` at the places that ``indices`` name; of several the last in C order."""
    shape, positions = _positions(x, indices, axis)
    if values.shape != shape:
        raise ValueError(f"scatter: values have shape {values.shape}, their places have {shape}")
    data = list(x.data)
    for position, value in zip(positions, values.data, strict=True):
        data[position] = value
    return RefArray(x.shape, x.dtype, data)


@kernels.implements(ops.scatter_add)
def scatter_add(x: RefArray, values: RefArray, /, *indices: RefArray, axis: int, overwrite: bool) -> RefArray:
    """A copy of x with ``values`` added at ``indices``; the terms of one place are rounded once."""
    shape, positions = _positions(x, indices, axis)
    if values.shape != shape:
        raise ValueError(f"scatter_add: values have shape {values.shape}, their places have {shape}")
    terms: dict[int, list[Any]] = defaultdict(list)
    for position, value in zip(positions, values.data, strict=True):
        terms[position].append(value)
    data = list(x.data)
    for position, added in terms.items():
        added.append(data[position])
        total = exact_sum(added, x.dtype) if x.dtype in dtypes.INEXACT else sum(added)
        data[position] = rounding(x.dtype)([total])[0]
    return RefArray(x.shape, x.dtype, data)


@kernels.implements(ops.take_along_axis)
def take_along_axis(x: RefArray, indices: RefArray, /, *, axis: int) -> RefArray:
    """out[..., i, ...] = x[..., indices[..., i, ...], ...]; axes of length 1 other than ``axis`` stretch."""
    if len(x.shape) != len(indices.shape):
        raise ValueError(f"take_along_axis: x has {len(x.shape)} axes, indices have {len(indices.shape)}")
    k = len(x.shape) + axis
    shape = []
    for position, (own, wanted) in enumerate(zip(x.shape, indices.shape, strict=True)):
        if position != k and own != wanted and 1 not in (own, wanted):
            raise ValueError(f"take_along_axis: shapes {x.shape} and {indices.shape} do not fit")
        shape.append(wanted if position == k or own == 1 else own)
    own_steps = strides(x.shape)
    steps = tuple(0 if p == k or x.shape[p] == 1 else step for p, step in enumerate(own_steps))
    chosen = [_wrapped(i, x.shape[k]) * own_steps[k] for i in broadcast(indices, tuple(shape))]
    starts = offsets(tuple(shape), steps)
    return RefArray(tuple(shape), x.dtype, [x.data[s + c] for s, c in zip(starts, chosen, strict=True)])


@kernels.implements(ops.nonzero)
def nonzero(x: RefArray, /) -> tuple[RefArray, ...]:
    """One array of indices per axis: where the elements that are not zero lie, in C order."""
    found = [position for position, value in enumerate(x.data) if value]
    return tuple(
        RefArray((len(found),), dtypes.int64, [position // step % length for position in found])
        for length, step in zip(x.shape, strides(x.shape), strict=True)
    )

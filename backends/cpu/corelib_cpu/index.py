"""Reading and writing at computed places. NumPy checks bounds; scatters work on flat indices, so that the
order is fixed.
"""

from __future__ import annotations

import math

import numpy as np
from numpy import ndarray

from . import launch as team
from . import native
from .movement import copy
from .quiet import quiet

# Words: out, values, flat indices, indices, elements of a place, places along the indexed axes, bytes of a
# place. A unit is a run of 16 columns of one group, so that no two threads write to the same element and each
# adds in order.
_SCATTER_ADD = """
def kernel(lo, hi, args):
    words = at_int64(args)
    index = at_int64(words[2])
    count = words[3]
    columns = words[4]
    places = words[5]
    runs = words[6]
    for unit in range(lo, hi):
        group = unit // runs
        first = (unit - group * runs) * {run}
        width = columns - first
        if width > {run}:
            width = {run}
        for k in range(count):
            target = at_{dtype}(words[0] + ((group * places + index[k]) * columns + first) * {size})
            value = at_{dtype}(words[1] + ((group * count + k) * columns + first) * {size})
            for i in range(width):
                target[i] += value[i]
"""
_RUN = 64
LARGE = 4096  # elements of values from which the compiled loop is used


def _axis(x: ndarray, axis: int) -> int:
    return axis + x.ndim if axis < 0 else axis


def gather(x: ndarray, /, *indices: ndarray, axis: int) -> ndarray:
    first = _axis(x, axis)
    if len(indices) == 1 and x.size:  # of an array without elements, take() accepts any index
        return np.asarray(x.take(indices[0], first))  # one element comes as a NumPy scalar
    return np.asarray(x[(slice(None),) * first + indices])


def _places(
    x: ndarray, values: ndarray, indices: tuple[ndarray, ...], axis: int
) -> tuple[ndarray, int, int, int]:
    """Flat indices into the indexed axes, and the number of groups before, places along and elements behind
    those axes.
    """
    first = _axis(x, axis)
    lengths = x.shape[first : first + len(indices)]
    shape = indices[0].shape
    if values.shape != x.shape[:first] + shape + x.shape[first + len(indices) :]:
        raise ValueError(
            f"values of shape {values.shape} do not fit {len(indices)} indices of shape {shape} into {x.shape}"
        )
    flat = np.zeros(math.prod(shape), np.int64)
    for index, length in zip(indices, lengths, strict=True):
        index = index.reshape(-1)
        if index.size and (index.min() < -length or index.max() >= length):
            raise IndexError(f"an index is out of bounds for an axis of length {length}")
        flat *= length
        flat += np.where(index < 0, index + length, index)
    groups, places = math.prod(x.shape[:first]), math.prod(lengths)
    return flat, groups, places, math.prod(x.shape[first + len(indices) :])


def _target(x: ndarray, values: ndarray, overwrite: bool) -> tuple[ndarray, ndarray]:
    """The array to write to, C-contiguous, and the values, which are not part of it."""
    if overwrite and x.flags.c_contiguous:
        return x, values.copy() if np.may_share_memory(x, values) else values
    return copy(x), values


def scatter(x: ndarray, values: ndarray, /, *indices: ndarray, axis: int, overwrite: bool) -> ndarray:
    flat, groups, places, columns = _places(x, values, indices, axis)
    out, values = _target(x, values, overwrite)
    # Along one flat axis NumPy assigns in order, so the last of several values wins.
    out.reshape(groups, places, columns)[:, flat] = values.reshape(groups, flat.size, columns)
    return out


def scatter_add(x: ndarray, values: ndarray, /, *indices: ndarray, axis: int, overwrite: bool) -> ndarray:
    flat, groups, places, columns = _places(x, values, indices, axis)
    out, values = _target(x, values, overwrite)
    if values.size >= LARGE and values.dtype.kind in "fiuc" and out.flags.aligned:
        dtype = values.dtype
        kernel = native.address(_SCATTER_ADD.format(dtype=dtype.name, size=dtype.itemsize, run=_RUN))
        runs = -(-columns // _RUN)
        units = groups * runs
        values = np.require(values, requirements=["C", "A"])
        chunk = units if values.size < 65536 else max(units // (4 * team.get_num_threads()), 1)
        return team.launch(kernel, units, chunk, out, values, flat, flat.size, columns, places, runs)
    view = out.reshape(groups, places, columns)
    part = values.reshape(groups, flat.size, columns)
    if view.dtype.kind == "b":
        quiet(np.logical_or.at, view, (slice(None), flat), part)
    else:
        quiet(np.add.at, view, (slice(None), flat), part)
    return out


def take_along_axis(x: ndarray, indices: ndarray, /, *, axis: int) -> ndarray:
    return np.take_along_axis(x, indices, axis)


def nonzero(x: ndarray, /) -> tuple[ndarray, ...]:
    return np.nonzero(x)

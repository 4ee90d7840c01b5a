"""Reading and writing at computed places. NumPy checks bounds; scatters work on flat indices, so that the
order is fixed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy import ndarray

from . import launch as team
from . import native, pool
from .movement import _WORDS, contiguous, copy
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


# Words: out, x, indices, where a refusal is noted, length of the axis. A unit is a row, of which one element is taken.
_PICK = """
def kernel(lo, hi, args):
    words = at_int64(args)
    out = at_{word}(words[0])
    x = at_{word}(words[1])
    index = at_int64(words[2])
    length = words[4]
    for row in range(lo, hi):
        i = index[row]
        if i < 0:
            i += length
        if i < 0 or i >= length:
            at_int64(words[3])[0] = 1
            i = 0
        out[row] = x[row * length + i]
"""


def picks(step: Any) -> bool:
    """Whether a recorded take_along_axis takes one element of each row, by 64-bit indices."""
    x, indices = step.inputs
    rows = indices.shape == (*x.shape[:-1], 1) and indices.dtype.name == "int64"
    return rows and step.params["axis"] == -1 and 0 not in x.shape


def take_along_axis(x: ndarray, indices: ndarray, /, *, axis: int) -> ndarray:
    if pool.arena is not None:  # what NumPy computes would be missing from a captured program
        x, indices = contiguous(x), contiguous(indices)
    if (
        axis != -1
        or indices.shape != (*x.shape[:-1], 1)
        or not x.size
        or not (x.flags.c_contiguous and indices.flags.c_contiguous)
        or indices.dtype != np.int64
        or (pool.arena is None and (indices.size < LARGE or not native.loaded()))
    ):
        return np.take_along_axis(x, indices, axis)
    refused = np.zeros(1, np.int64)
    if pool.arena is not None:
        pool.arena.flags[len(pool.arena.launches)] = refused
    out = pool.empty(indices.shape, x.dtype, indices.size * x.itemsize)
    kernel = native.address(_PICK.format(word=_WORDS[x.itemsize]))
    team.launch(kernel, indices.size, indices.size, out, x, indices, refused, x.shape[-1])
    if refused[0]:
        raise IndexError(f"an index is out of bounds for an axis of length {x.shape[-1]}")
    return out


def nonzero(x: ndarray, /) -> tuple[ndarray, ...]:
    return np.nonzero(x)

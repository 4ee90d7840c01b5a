"""Gathering and scattering: checked indices, results that do not depend on the order of threads. Kernels:
index.cu.

Indices out of range raise, which needs one number back from the device: these ops wait for the work before
them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from corelib.plugin_api import dtypes, ops

from . import launch
from .copy import contiguous
from .elementwise import Elementwise
from .kernels import kernels
from .launch import cupy
from .movement import fill
from .reduce import reduction

# The linear index so far (x1), a further index (x2) along an axis of x3 places; -1 once any index is out of
# range.
linear_index = Elementwise(
    "linear_index",
    ("int64", "int64", "int64"),
    "int64",
    "x1 < 0 || x2 < -x3 || x2 >= x3 ? -1 : x1 * x3 + (x2 < 0 ? x2 + x3 : x2)",
)
clamped = Elementwise("clamped", ("int64",), "int64", "x1 < 0 ? 0 : x1")
last_writer = launch.Kernel("index.cu", "last_writer")

EXTENTS = np.dtype([(name, np.int64) for name in ("outer", "places", "inner", "count")])
MOVES = {  # kernel: its parameters before the extents, T being the type of an element
    "gather": "const T* x, const int64* index, T* y",
    "take_along": "const T* x, const int64* index, T* y",
    "scatter": "const T* x, const T* values, const int64* writer, T* y",
    "scatter_add": "const T* x, const T* values, const int64* order, const int64* begin, T* y",
}


@functools.cache
def move(name: str, dtype: str) -> launch.Kernel:
    """The entry point of one of MOVES for a C++ type."""
    parameters = MOVES[name].replace("T*", f"{dtype}*")
    names = ", ".join(p.split()[-1] for p in parameters.split(","))
    entry = (
        f'extern "C" __global__ void __launch_bounds__({launch.THREADS}, 4) {name}_{dtype}'
        f"({parameters}, const __grid_constant__ Extents e) {{ {name}({names}, e); }}"
    )
    return launch.Kernel("index.cu", f"{name}_{dtype}", entry)


def every_move(names: list[str]) -> Iterator[launch.Kernel]:
    """Each kernel of index.cu: what the tests compile."""
    yield last_writer
    for name in ("gather", "take_along", "scatter"):
        for word in ("uint8", "uint16", "uint32", "uint64", "uint128"):
            yield move(name, word)
    for dtype in names:
        if dtypes.as_dtype(dtype) in dtypes.NUMERIC:
            yield move("scatter_add", dtype)


def word(x: Any) -> str:
    """The unsigned type of the size of x's elements."""
    return f"uint{8 * x.itemsize}"


def checked(index: Any) -> Any:
    """A linear index that names existing places, dense; IndexError if it does not. While a graph is captured nothing can
    be asked: the smallest is left for later, and the index made to name the first place instead.
    """
    if not index.size:
        return index
    least = reduction("min", "int64", "int64")(index.reshape(-1), (-1,), False)
    later = launch.deferred.get()
    if later is not None:
        later.append(least)
        return clamped(index)
    if int(least.get()) < 0:
        raise IndexError("index out of range")
    return index


def linear(indices: tuple[Any, ...], sizes: tuple[int, ...]) -> Any:
    """One linear index (count,) for several index arrays of equal shape, along axes of ``sizes``."""
    index: Any = 0
    for i, size in zip(indices, sizes, strict=True):
        index = linear_index(index, i, size)
    return checked(index).reshape(-1)


def extents(*numbers: int) -> Any:
    return np.array([numbers], EXTENTS)


def split_shape(
    shape: tuple[int, ...], axis: int, count: int
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The parts of a shape before, at and behind ``count`` axes that begin at ``axis``."""
    if count < 1 or not -len(shape) <= axis <= -count:
        raise IndexError(f"{count} indices at axis {axis} of an array with {len(shape)} dimensions")
    first = axis + len(shape)
    return shape[:first], shape[first : first + count], shape[first + count :]


@kernels.implements(ops.gather)
def gather(x: Any, /, *indices: Any, axis: int) -> Any:
    cp = cupy()
    before, at, behind = split_shape(x.shape, axis, len(indices))
    index = linear(indices, at)
    out = cp.ndarray(before + indices[0].shape + behind, x.dtype)
    if out.size:
        e = extents(prod(before), prod(at), prod(behind), index.size)
        arguments = (contiguous(x), index, out, e)
        move("gather", word(x))(launch.blocks_for(out.size), (launch.THREADS,), arguments)
    return out


def scattered(x: Any, values: Any, indices: tuple[Any, ...], axis: int, overwrite: bool) -> tuple[Any, ...]:
    """(x, values, linear index, result, extents) of a scatter, or a size of 0 in the result or the values."""
    cp = cupy()
    before, at, behind = split_shape(x.shape, axis, len(indices))
    if values.shape != before + indices[0].shape + behind:
        raise ValueError(
            f"values of shape {values.shape} for indices of shape {indices[0].shape} into {x.shape}"
        )
    index = linear(indices, at)
    out = x if overwrite and x.flags.c_contiguous else cp.ndarray(x.shape, x.dtype)
    e = extents(prod(before), prod(at), prod(behind), index.size)
    return contiguous(x), contiguous(values), index, out, e


@kernels.implements(ops.scatter)
def scatter(x: Any, values: Any, /, *indices: Any, axis: int, overwrite: bool) -> Any:
    dense, values, index, out, e = scattered(x, values, indices, axis, overwrite)
    if not values.size:
        return x
    writer = fill((int(e["places"][0]),), -1, "int64")
    last_writer(launch.blocks_for(index.size), (launch.THREADS,), (index, writer, np.int64(index.size)))
    move("scatter", word(x))(launch.blocks_for(out.size), (launch.THREADS,), (dense, values, writer, out, e))
    return out


@kernels.implements(ops.scatter_add)
def scatter_add(x: Any, values: Any, /, *indices: Any, axis: int, overwrite: bool) -> Any:
    from .ordering import group  # which stands above this module

    dense, values, index, out, e = scattered(x, values, indices, axis, overwrite)
    if not values.size:
        return x
    order, begin = group(index, int(e["places"][0]))
    arguments = (dense, values, order, begin, out, e)
    move("scatter_add", x.dtype.name)(launch.blocks_for(out.size), (launch.THREADS,), arguments)
    return out


@kernels.implements(ops.take_along_axis)
def take_along_axis(x: Any, indices: Any, /, *, axis: int) -> Any:
    cp = cupy()
    if x.ndim != indices.ndim or not -x.ndim <= axis < 0:
        raise IndexError(f"indices of {indices.ndim} dimensions along axis {axis} of an array of {x.ndim}")
    places, count, first = x.shape[axis], indices.shape[axis], axis + x.ndim
    both = np.broadcast_shapes(
        (*x.shape[:first], 1, *x.shape[first + 1 :]), (*indices.shape[:first], 1, *indices.shape[first + 1 :])
    )
    before, behind = both[:first], both[first + 1 :]
    index = checked(linear_index(0, cp.broadcast_to(indices, (*before, count, *behind)), places))
    out = cp.ndarray((*before, count, *behind), x.dtype)
    if out.size:
        dense = contiguous(cp.broadcast_to(x, (*before, places, *behind)))
        e = extents(prod(before), places, prod(behind), count)
        move("take_along", word(x))(launch.blocks_for(out.size), (launch.THREADS,), (dense, index, out, e))
    return out

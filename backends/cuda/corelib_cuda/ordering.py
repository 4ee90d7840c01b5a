"""Sorting, searching, and the places of what is not zero. Every order is taken from unsigned keys (`sort_key` in
elementwise.cu), which settle NaN, the zeros and the direction, so that one stable ascending sort serves all: sort.cu.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from corelib.plugin_api import dtypes, ops

from . import launch
from .copy import contiguous
from .elementwise import describe, sort_key_kernel
from .indexing import extents, move, word
from .kernels import kernels
from .launch import cupy
from .movement import arange, cast, fill
from .reduce import power_of_two
from .scan import scan

TILE = 1024  # elements that a block sorts, as in sort.cu
LONGEST = 2**31 - 1  # of a row: places are 32 bits wide while it is sorted
THREADS = TILE // 4

keys_for = functools.cache(sort_key_kernel)
chosen_places = launch.Kernel("sort.cu", "chosen_places")

ENTRIES = {  # kernel: its parameters, Key being the type of the keys
    "sort_tiles": "const Key* x, Key* keys, int32* places, int64 length, int32 size",
    "merge_runs": "const Key* x, const int32* x_places, Key* y, int32* y_places, int64 length, int64 run",
    "search": "const Key* keys, const Key* wanted, int64* y, int64 length, int64 count, int32 right",
}


@functools.cache
def _kernel(name: str, key: str) -> launch.Kernel:
    parameters = ENTRIES[name].replace("Key*", f"{key}*")
    names = ", ".join(p.split()[-1] for p in parameters.split(","))
    entry = f'extern "C" __global__ void __launch_bounds__({THREADS}) {name}_{key}({parameters}) {{ {name}({names}); }}'
    return launch.Kernel("sort.cu", f"{name}_{key}", entry)


def every_kernel() -> Iterator[launch.Kernel]:
    """Each kernel of sort.cu: what the tests compile."""
    yield chosen_places
    for key in ("uint32", "uint64"):
        for name in ENTRIES:
            yield _kernel(name, key)


def keys(x: Any, *, descending: bool) -> Any:
    """Unsigned integers that stand in the order asked for; equal exactly where the elements are."""
    return keys_for(x.dtype.name, descending)(x)


def order_of_rows(key: Any) -> tuple[Any, Any]:
    """(sorted keys, places) of each row of dense unsigned keys (rows, length); places as int32."""
    array, (rows, length) = cupy().ndarray, key.shape
    if length > LONGEST:
        raise ValueError(f"sorting {length} elements along one axis: {LONGEST} are the most on this backend")
    name = key.dtype.name
    size = min(max(power_of_two(length), 2), TILE)
    sorted_keys, places = array(key.shape, key.dtype), array(key.shape, np.int32)
    blocks = (rows * -(-length // size),)
    if blocks[0] > launch.MAX_BLOCKS:
        raise ValueError(f"sorting {rows} rows of {length} takes more blocks than CUDA can launch")
    threads = (max(size // 4, 32),)
    _kernel("sort_tiles", name)(blocks, threads, (key, sorted_keys, places, np.int64(length), np.int32(size)))
    run = size
    if run < length:
        more, other = array(key.shape, key.dtype), array(key.shape, np.int32)
    while run < length:
        arguments = (sorted_keys, places, more, other, np.int64(length), np.int64(run))
        _kernel("merge_runs", name)(blocks, (THREADS,), arguments)
        sorted_keys, places, more, other = more, other, sorted_keys, places
        run *= 2
    return sorted_keys, places


def _ordered(x: Any, axis: int, descending: bool) -> tuple[Any, Any, tuple[int, ...]]:
    """x with ``axis`` last and dense, the places of its elements in order, and the axes that lead back."""
    if not -x.ndim <= axis < 0:
        raise IndexError(f"axis {axis} of an array with {x.ndim} dimensions")
    axes = [a for a in range(x.ndim) if a != axis + x.ndim] + [axis + x.ndim]
    line = contiguous(x.transpose(axes))
    key = keys(line, descending=descending).reshape(-1, line.shape[-1])
    places = cast(order_of_rows(key)[1], "int64").reshape(line.shape)
    return line, places, tuple(axes.index(a) for a in range(x.ndim))


@kernels.implements(ops.argsort)
def argsort(x: Any, /, *, axis: int, descending: bool) -> Any:
    if x.size == 0:
        return cupy().ndarray(x.shape, np.int64)
    _, places, back = _ordered(x, axis, descending)
    return places.transpose(back)


@kernels.implements(ops.sort)
def sort(x: Any, /, *, axis: int, descending: bool) -> Any:
    if x.size == 0:
        return x
    line, places, back = _ordered(x, axis, descending)
    out = cupy().ndarray(line.shape, x.dtype)
    e = extents(line.size // line.shape[-1], line.shape[-1], 1, line.shape[-1])
    move("take_along", word(x))(launch.blocks_for(out.size), (launch.THREADS,), (line, places, out, e))
    return out.transpose(back)


def search(sorted_keys: Any, wanted: Any, *, right: bool) -> Any:
    """How many of the sorted keys are before each wanted one, or (``right``) before or equal: int64."""
    out = cupy().ndarray(wanted.shape, np.int64)
    arguments = (
        sorted_keys, wanted, out, np.int64(sorted_keys.size), np.int64(wanted.size), np.int32(right)
    )  # fmt: skip
    _kernel("search", wanted.dtype.name)(launch.blocks_for(wanted.size), (launch.THREADS,), arguments)
    return out


@kernels.implements(ops.searchsorted)
def searchsorted(x1: Any, x2: Any, /, *, side: str) -> Any:
    if x1.ndim != 1:
        raise ValueError(f"searchsorted needs x1 of one dimension, got {x1.ndim}")
    if x1.size == 0 or x2.size == 0:
        return fill(x2.shape, 0, "int64")
    return search(keys(x1, descending=False), keys(x2, descending=False), right=side == "right")


def group(index: Any, places: int) -> tuple[Any, Any]:
    """(order, begin): the elements of a dense int64 index by the place that they name, those of one place in their own
    order, and where each place's begin (one more than there are places).
    """
    sorted_keys, order = order_of_rows(keys(index, descending=False).reshape(1, -1))
    every = keys(arange(start=0, step=1, size=places + 1, dtype="int64"), descending=False)
    return cast(order, "int64").reshape(-1), search(sorted_keys.reshape(-1), every, right=False)


@kernels.implements(ops.nonzero)
def nonzero(x: Any, /) -> tuple[Any, ...]:
    if not x.shape:
        return ()
    chosen = contiguous(cast(x, "bool")).reshape(-1)
    if not chosen.size:
        return tuple(fill((0,), 0, "int64") for _ in x.shape)
    rank = scan("cumulative_sum", "int64")(cast(chosen, "int64"), -1)
    found = cupy().ndarray((int(rank[-1:].get()[0]),), np.int64)
    if found.size:
        arguments = (rank, found, np.int64(rank.size))
        chosen_places(launch.blocks_for(rank.size), (launch.THREADS,), arguments)
    return _unravelled(found, x.shape)


def _unravelled(linear: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """The indices along each axis of places in a dense array."""
    parts = []
    for size in reversed(shape[1:]):
        if linear.size:
            parts.append(_integer("remainder")(linear, size))
            linear = _integer("floor_divide")(linear, size)
        else:
            parts.append(linear)
    return (linear, *reversed(parts))


@functools.cache
def _integer(name: str) -> Any:
    return describe(name, "int64", dtypes.int64.kind)

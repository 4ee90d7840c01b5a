"""Sorting. Every order is taken from unsigned keys (`sort_key` in elementwise.cu), which settle
NaN, the zeros and the direction, so that one stable ascending sort, CuPy's, serves all.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from corelib.plugin_api import ops

from .elementwise import sort_key_kernel
from .kernels import kernels
from .launch import cupy
from .movement import fill

keys_for = functools.cache(sort_key_kernel)


def keys(x: Any, *, descending: bool) -> Any:
    """Unsigned integers that stand in the order asked for; equal exactly where the elements are."""
    return keys_for(x.dtype.name, descending)(x)


@kernels.implements(ops.argsort)
def argsort(x: Any, /, *, axis: int, descending: bool) -> Any:
    cp = cupy()
    if x.size == 0:
        return cp.ndarray(x.shape, np.int64)
    return cp.argsort(keys(x, descending=descending), axis=axis).astype(np.int64, copy=False)  # stable


@kernels.implements(ops.sort)
def sort(x: Any, /, *, axis: int, descending: bool) -> Any:
    return cupy().take_along_axis(x, argsort(x, axis=axis, descending=descending), axis) if x.size else x


@kernels.implements(ops.searchsorted)
def searchsorted(x1: Any, x2: Any, /, *, side: str) -> Any:
    cp = cupy()
    if x1.ndim != 1:
        raise ValueError(f"searchsorted needs x1 of one dimension, got {x1.ndim}")
    if x1.size == 0 or x2.size == 0:
        return fill(x2.shape, 0, "int64")
    wanted = keys(x2, descending=False).reshape(-1)
    found = cp.searchsorted(keys(x1, descending=False), wanted, side=side)
    return found.astype(np.int64, copy=False).reshape(x2.shape)

"""Sorting and searching. Python's sort is stable in both directions; a key orders floats with NaN last."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Any

from corelib.plugin_api import dtypes, ops

from .array import RefArray, lines
from .kernels import kernels

Key = tuple[bool, Any]


def total_order(value: Any) -> Key:
    """A key under which NaN is the largest value and equal to itself; -0 and +0 stay equal."""
    return (True, 0) if value != value else (False, value)


@kernels.implements(ops.sort)
def sort(x: RefArray, /, *, axis: int, descending: bool) -> RefArray:
    """Every line along ``axis`` in order; equal elements keep theirs."""
    data = list(x.data)
    for line in lines(x.shape, axis):
        data[line] = sorted(x.data[line], key=total_order, reverse=descending)
    return RefArray(x.shape, x.dtype, data)


@kernels.implements(ops.argsort)
def argsort(x: RefArray, /, *, axis: int, descending: bool) -> RefArray:
    """The positions along ``axis`` that put every line in order; equal elements keep theirs."""
    data = list(x.data)
    for line in lines(x.shape, axis):
        keys = [total_order(value) for value in x.data[line]]
        data[line] = sorted(range(len(keys)), key=keys.__getitem__, reverse=descending)
    return RefArray(x.shape, dtypes.int64, data)


@kernels.implements(ops.searchsorted)
def searchsorted(x1: RefArray, x2: RefArray, /, *, side: str) -> RefArray:
    """Where each element of x2 goes in the sorted x1: before (``left``) or after (``right``) its equals."""
    (_,) = x1.shape
    keys = [total_order(value) for value in x1.data]
    search = {"left": bisect_left, "right": bisect_right}[side]
    return RefArray(x2.shape, dtypes.int64, [search(keys, total_order(value)) for value in x2.data])

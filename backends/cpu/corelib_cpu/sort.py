"""Sorting and searching. NaN counts as largest, as in NumPy; every sort is stable, also a descending one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray


def sort(x: ndarray, /, *, axis: int, descending: bool) -> ndarray:
    if x.dtype.kind == "f":
        # A stable sort of the reversed array, reversed: what compares equal (zeros of both signs) keeps its
        # order.
        return (
            np.flip(np.sort(np.flip(x, axis), axis, "stable"), axis)
            if descending
            else np.sort(x, axis, "stable")
        )
    ordered = np.sort(x, axis)  # equal integers cannot be told apart, so the fastest sort will do
    return np.flip(ordered, axis) if descending else ordered


def argsort(x: ndarray, /, *, axis: int, descending: bool) -> ndarray:
    if not descending:
        return np.argsort(x, axis, "stable").astype(np.int64, copy=False)
    order = np.flip(np.argsort(np.flip(x, axis), axis, "stable"), axis)
    return (x.shape[axis] - 1 - order).astype(np.int64, copy=False)


def searchsorted(x1: ndarray, x2: ndarray, /, *, side: Any) -> ndarray:
    return np.asarray(np.searchsorted(x1, x2, side), np.int64)

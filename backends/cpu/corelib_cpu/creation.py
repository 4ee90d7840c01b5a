"""Arrays of one value, and of evenly spaced ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from . import pool
from .casts import cast
from .quiet import guarded, scalar


def full(*, shape: tuple[int, ...], fill_value: Any, dtype: Any) -> ndarray:
    kind = dtype.numpy
    size = kind.itemsize
    for length in shape:
        size *= length
    out = pool.empty(shape, kind, size)
    out.fill(scalar(fill_value, kind)[()])
    return out


def arange(*, start: Any, step: Any, size: int, dtype: Any) -> ndarray:
    if dtype.kind == "float":
        elements = guarded(lambda: float(start) + np.arange(size, dtype=np.float64) * float(step))
        return guarded(cast("float64", dtype.name), elements)
    if dtype.kind == "bool":
        return np.array([start + i * step for i in range(size)], np.bool_)
    mask = (1 << 64) - 1  # integers wrap, so that ends beyond int64 are right as well
    elements = np.arange(size, dtype=np.uint64) * np.uint64(step & mask) + np.uint64(start & mask)
    return elements.astype(dtype.numpy)

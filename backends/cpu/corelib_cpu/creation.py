"""Arrays of one value, and of evenly spaced ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from . import launch as team
from . import native, pool
from .casts import cast
from .quiet import guarded, scalar

LARGE = 16384  # elements from which a range is made by our own loop
# Words: out, start and step. The product and the sum are rounded, as NumPy's are.
_RANGE = """
def kernel(lo, hi, args):
    words = at_int64(args)
    out, given = at_{dtype}(words[0]), at_{wide}(words[1])
    start, step = given[0], given[1]
    for i in range(lo, hi):
        out[i] = {dtype}(start + {wide}(i) * step)
"""


def full(*, shape: tuple[int, ...], fill_value: Any, dtype: Any) -> ndarray:
    kind = dtype.numpy
    size = kind.itemsize
    for length in shape:
        size *= length
    out = pool.empty(shape, kind, size)
    out.fill(scalar(fill_value, kind)[()])
    return out


def arange(*, start: Any, step: Any, size: int, dtype: Any) -> ndarray:
    if size >= LARGE and dtype.name in ("float32", "float64", "int64"):
        wide = "int64" if dtype.name == "int64" else "float64"
        given = [start, step] if wide == "float64" else [wrapped(start), wrapped(step)]
        out = pool.empty((size,), dtype.numpy, size * dtype.numpy.itemsize)
        kernel = native.address(_RANGE.format(dtype=dtype.name, wide=wide))
        return team.launch(kernel, size, -(-size // (4 * team.get_num_threads())), out, np.array(given, wide))
    if dtype.kind == "float":
        elements = guarded(lambda: float(start) + np.arange(size, dtype=np.float64) * float(step))
        return guarded(cast("float64", dtype.name), elements)
    if dtype.kind == "bool":
        return np.array([start + i * step for i in range(size)], np.bool_)
    mask = (1 << 64) - 1  # integers wrap, so that ends beyond int64 are right as well
    elements = np.arange(size, dtype=np.uint64) * np.uint64(step & mask) + np.uint64(start & mask)
    return elements.astype(dtype.numpy)


def wrapped(number: int) -> int:
    """An integer of any size as int64 holds it."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)

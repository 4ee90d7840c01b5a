"""Running sums and products along an axis; single precision runs in double."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numpy import ndarray

from . import launch as team
from . import native, pool
from .movement import contiguous
from .quiet import quiet
from .reduce import WIDE

FEW = 4096  # elements below which NumPy is used
PARALLEL = 65536  # elements from which a second thread pays

# Words: result, elements, how many along the axis, how many behind it. A unit is a line where nothing is behind the axis:
# four of them go side by side, because each waits for its last addition. Otherwise it is a run of columns.
_SCAN = """
@inline
def line(out, x, n):
    total = NEUTRAL
    for i in range(n):
        total = total {operator} W(x[i])
        out[i] = R(total)

def kernel(lo, hi, args):
    words = at_int64(args)
    n, columns = words[2], words[3]
    if columns == 1:
        row = lo
        while row + 4 <= hi:
            a, b = at_X(words[1] + row * n * XSIZE), at_X(words[1] + (row + 1) * n * XSIZE)
            c, d = at_X(words[1] + (row + 2) * n * XSIZE), at_X(words[1] + (row + 3) * n * XSIZE)
            p, q = at_R(words[0] + row * n * RSIZE), at_R(words[0] + (row + 1) * n * RSIZE)
            r, s = at_R(words[0] + (row + 2) * n * RSIZE), at_R(words[0] + (row + 3) * n * RSIZE)
            t, u, v, w = NEUTRAL, NEUTRAL, NEUTRAL, NEUTRAL
            for i in range(n):
                t = t {operator} W(a[i])
                u = u {operator} W(b[i])
                v = v {operator} W(c[i])
                w = w {operator} W(d[i])
                p[i] = R(t)
                q[i] = R(u)
                r[i] = R(v)
                s[i] = R(w)
            row += 4
        while row < hi:
            line(at_R(words[0] + row * n * RSIZE), at_X(words[1] + row * n * XSIZE), n)
            row += 1
        return
    runs = (columns + RUN - 1) // RUN
    totals = at_W(stack_words(0))
    for unit in range(lo, hi):
        group = unit // runs
        first = (unit - group * runs) * RUN
        count = min(columns - first, RUN)
        for j in range(count):
            totals[j] = NEUTRAL
        for i in range(n):
            place = (group * n + i) * columns + first
            x, out = at_X(words[1] + place * XSIZE), at_R(words[0] + place * RSIZE)
            for j in range(count):
                totals[j] = totals[j] {operator} W(x[j])
                out[j] = R(totals[j])
"""
RUN = 128  # columns of a unit


@cache
def _kernel(operator: str, source: str, wide: str, result: str) -> int:
    head = f"""
X, W, R, at_X, at_W, at_R = {source}, {wide}, {result}, at_{source}, at_{wide}, at_{result}
XSIZE, RSIZE, RUN, NEUTRAL = {np.dtype(source).itemsize}, {np.dtype(result).itemsize}, {RUN}, {wide}({int(operator == "*")})
"""
    return native.address(head + _SCAN.format(operator=operator))


def _accumulate(ufunc: np.ufunc, operator: str, x: ndarray, axis: int, dtype: Any) -> ndarray:
    wide = np.dtype(WIDE.get(dtype.char, dtype))
    if (
        x.size < FEW
        or x.dtype.kind not in "fi"
        or dtype.kind not in "fi"
        or "e" in (x.dtype.char, dtype.char)
    ):
        return quiet(ufunc.accumulate, x, axis, wide).astype(dtype, copy=False)
    x = contiguous(x)
    at = axis % x.ndim
    n, columns = x.shape[at], math.prod(x.shape[at + 1 :])
    units = math.prod(x.shape[:at]) * (1 if columns == 1 else -(-columns // RUN))
    out = pool.empty(x.shape, dtype, x.size * dtype.itemsize)
    chunk = units if x.size < PARALLEL else max(-(-units // (4 * team.get_num_threads())), 1)
    if columns == 1:
        chunk = -(-chunk // 4) * 4
    return team.launch(
        _kernel(operator, x.dtype.name, wide.name, dtype.name), units, chunk, out, x, n, columns
    )


def cumulative_sum(x: ndarray, /, *, axis: int, dtype: Any) -> ndarray:
    return _accumulate(np.add, "+", x, axis, dtype.numpy)


def cumulative_prod(x: ndarray, /, *, axis: int, dtype: Any) -> ndarray:
    return _accumulate(np.multiply, "*", x, axis, dtype.numpy)

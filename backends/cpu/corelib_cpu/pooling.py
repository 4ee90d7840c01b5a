"""The gradient of the largest element of each window, which the op's body does by several passes over all windows."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy import ndarray

from . import launch as team
from . import native, pool
from .movement import contiguous

Sizes = tuple[int, ...]
WORTHWHILE = 1 << 12  # windows from which a kernel is compiled

# Words: gradient, cotangent, x, then of each of three axes its size, windows, elements of a window, stride, padding,
# dilation. A unit is a plane: all pooled axes of the rest. Each window's largest element, or its first NaN, gets its
# cotangent, in the order of the windows.
_GRADIENT = """
def kernel(lo, hi, args):
    words = at_int64(args)
    n0, n1, n2 = words[3], words[9], words[15]
    c0, c1, c2 = words[4], words[10], words[16]
    plane, count = n0 * n1 * n2, c0 * c1 * c2
    for unit in range(lo, hi):
        out, x = at_T(words[0] + unit * plane * SIZE), at_T(words[2] + unit * plane * SIZE)
        g = at_T(words[1] + unit * count * SIZE)
        for i in range(plane):
            out[i] = ZERO
        for w0 in range(c0):
            for w1 in range(c1):
                for w2 in range(c2):
                    best, largest = -1, -INF
                    for k0 in range(words[5]):
                        i0 = w0 * words[6] - words[7] + k0 * words[8]
                        if i0 < 0 or i0 >= n0:
                            continue
                        for k1 in range(words[11]):
                            i1 = w1 * words[12] - words[13] + k1 * words[14]
                            if i1 < 0 or i1 >= n1:
                                continue
                            place = (i0 * n1 + i1) * n2
                            i2 = w2 * words[18] - words[19]
                            for k2 in range(words[17]):
                                if 0 <= i2 < n2:
                                    value = x[place + i2]
                                    if best < 0 or value > largest or (value != value and largest == largest):
                                        best, largest = place + i2, value
                                i2 += words[20]
                    if best >= 0:
                        out[best] += g[(w0 * c1 + w1) * c2 + w2]
"""


@cache
def _kernel(dtype: str) -> int:
    head = f"at_T, SIZE, ZERO, INF = at_{dtype}, {np.dtype(dtype).itemsize}, {dtype}(0), {dtype}(inf)\n"
    return native.address(head + _GRADIENT)


def make_max_pool_gradient(dtype: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel of `max_pool_gradient`, with the op's body for few windows and more than three axes."""

    def max_pool_gradient(
        cotangent: ndarray, x: ndarray, /, *, kernel_size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil_mode: bool
    ) -> Any:  # fmt: skip
        pooled = len(kernel_size)
        sizes, counts = x.shape[x.ndim - pooled :], cotangent.shape[x.ndim - pooled :]
        if pooled > 3 or cotangent.ndim != x.ndim or cotangent.size < WORTHWHILE:
            return body(
                cotangent, x, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
            )  # fmt: skip
        axes = [(1, 1, 1, 1, 0, 1)] * (3 - pooled)
        axes += zip(sizes, counts, kernel_size, stride, padding, dilation, strict=True)
        units = math.prod(x.shape[: x.ndim - pooled])
        out = pool.empty(x.shape, x.dtype, x.nbytes)
        chunk = max(1, units // (4 * team.get_num_threads()))
        words = [n for axis in axes for n in axis]
        return team.launch(_kernel(dtype), units, chunk, out, contiguous(cotangent), contiguous(x), *words)

    return max_pool_gradient

"""The largest element and the mean of each window, and their gradients, in one pass over planes of up to three axes.

The bodies of the ops take as many passes over all windows as a window has elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy import ndarray

from . import launch as team
from . import native, pool
from .gemm import geometry, scratch
from .movement import contiguous

Sizes = tuple[int, ...]
WORTHWHILE = 1 << 12  # windows from which a kernel is compiled

# Windows `first` up to `last` along the last axis meet one of their elements inside of x: the j-th has element start +
# j * stride. The words of three axes: each one's size, windows, elements of a window, stride, padding, dilation.
_ENDS = """
@inline
def ends(start, stride, size, count):
    if stride == 1:  # without a division
        return max(0, -start), min(count, size - start)
    if stride == 2:
        return max(0, (1 - start) >> 1), min(count, (size - start + 1) >> 1)
    return max(0, (stride - 1 - start) // stride), min(count, (size - start + stride - 1) // stride)
"""
_TAPS = """
fold, fold_second = fold_taps(T, LANES, 1, KIND), fold_taps(T, LANES, 2, KIND)

@inline
def taps_of(table, x, w0, w1, axes):
    # the taps inside of x of a row of windows, and their number; see fold_taps
    of = at_int64(axes)
    taps = at_int64(table)
    count = 0
    for k0 in range(of[2]):
        i0 = w0 * of[3] - of[4] + k0 * of[5]
        if i0 < 0 or i0 >= of[0]:
            continue
        for k1 in range(of[8]):
            i1 = w1 * of[9] - of[10] + k1 * of[11]
            if i1 < 0 or i1 >= of[6]:
                continue
            for k2 in range(of[14]):
                start = k2 * of[17] - of[16]
                first, last = ends(start, of[15], of[12], of[13])
                if first < last:
                    place = (i0 * of[6] + i1) * of[12] + start
                    taps[4 * count] = x + place * SIZE
                    taps[4 * count + 1] = first
                    taps[4 * count + 2] = last
                    taps[4 * count + 3] = place
                    count += 1
    return count
"""
# Words: gradient, cotangent, x, three axes, then the threads' scratch. A unit is a plane: all pooled axes of the rest. Each
# window's largest element, or its first NaN, gets its cotangent, in the order of the windows.
_GRADIENT = """
def kernel(lo, hi, args):
    words = at_int64(args)
    n0, n1, n2 = words[3], words[9], words[15]
    c0, c1, c2 = words[4], words[10], words[16]
    plane, windows, stride = n0 * n1 * n2, c0 * c1 * c2, words[18]
    slot = take_slot(words[21], words[24])
    places = words[22] + slot * words[23]
    table = places + c2 * 8
    found = at_int32(places)
    for unit in range(lo, hi):
        out, x = at_T(words[0] + unit * plane * SIZE), words[2] + unit * plane * SIZE
        for i in range(plane):
            out[i] = ZERO
        for w0 in range(c0):
            for w1 in range(c1):
                count = taps_of(table, x, w0, w1, args + 24)
                if stride == 1:
                    for j in range(0, c2, LANES):
                        fold(table, count, j, 0, places + j * 4, c2 - j)
                elif stride == 2:
                    for j in range(0, c2, LANES):
                        fold_second(table, count, j, 0, places + j * 4, c2 - j)
                else:
                    for j in range(c2):
                        best, largest = -1, -INF
                        taps = table
                        for k in range(count):
                            tap = at_int64(taps)
                            if tap[1] <= j and j < tap[2]:
                                value = at_T(tap[0])[j * stride]
                                if best < 0 or value > largest or (value != value and largest == largest):
                                    best, largest = tap[3] + j * stride, value
                            taps += 32
                        found[j] = best
                g = at_T(words[1] + (unit * windows + (w0 * c1 + w1) * c2) * SIZE)
                for j in range(c2):
                    if found[j] >= 0:
                        out[found[j]] += g[j]
    free_slot(words[21], slot)
"""
# Words: result, x, three axes, the threads' scratch, then for means their tables of elements that each window has along the
# axis, or of the divisor in the place of the first.
_WINDOWS = """
def kernel(lo, hi, args):
    words = at_int64(args)
    plane = words[2] * words[8] * words[14]
    c0, c1, c2, stride = words[3], words[9], words[15], words[17]
    slot = take_slot(words[20], words[23])
    table = words[21] + slot * words[22]
    for unit in range(lo, hi):
        x = words[1] + unit * plane * SIZE
        for w0 in range(c0):
            for w1 in range(c1):
                line = words[0] + ((unit * c0 + w0) * c1 + w1) * c2 * SIZE
                out = at_T(line)
                count = taps_of(table, x, w0, w1, args + 16)
                if stride == 1:
                    for j in range(0, c2, LANES):
                        fold(table, count, j, line + j * SIZE, 0, c2 - j)
                elif stride == 2:
                    for j in range(0, c2, LANES):
                        fold_second(table, count, j, line + j * SIZE, 0, c2 - j)
                else:
                    for j in range(c2):
                        total = INITIAL
                        taps = table
                        for k in range(count):
                            tap = at_int64(taps)
                            if tap[1] <= j and j < tap[2]:
                                value = at_T(tap[0])[j * stride]
                                total = maximum(total, value) if LARGEST else total + value
                            taps += 32
                        out[j] = total
                if MEAN:
                    of, across = at_int64(words[24])[w0] * at_int64(words[25])[w1], at_int64(words[26])
                    for j in range(c2):
                        out[j] = out[j] / NUMBER(of * across[j])
    free_slot(words[20], slot)
"""
# Words: gradient, cotangent, and the same. Each window's share goes to its elements, in the order of the windows' rows.
_MEAN_GRADIENT = """
def kernel(lo, hi, args):
    words = at_int64(args)
    n0, n1, n2 = words[2], words[8], words[14]
    c0, c1, c2 = words[3], words[9], words[15]
    for unit in range(lo, hi):
        out = at_T(words[0] + unit * n0 * n1 * n2 * SIZE)
        for i in range(n0 * n1 * n2):
            out[i] = ZERO
        for w0 in range(c0):
            for w1 in range(c1):
                g = at_T(words[1] + ((unit * c0 + w0) * c1 + w1) * c2 * SIZE)
                of, across = at_int64(words[20])[w0] * at_int64(words[21])[w1], at_int64(words[22])
                for k0 in range(words[4]):
                    i0 = w0 * words[5] - words[6] + k0 * words[7]
                    if i0 < 0 or i0 >= n0:
                        continue
                    for k1 in range(words[10]):
                        i1 = w1 * words[11] - words[12] + k1 * words[13]
                        if i1 < 0 or i1 >= n1:
                            continue
                        row = at_T(words[0] + ((unit * n0 + i0) * n1 + i1) * n2 * SIZE)
                        for k2 in range(words[16]):
                            start = k2 * words[19] - words[18]
                            first, last = ends(start, words[17], n2, c2)
                            for j in range(first, last):
                                row[start + words[17] * j] += g[j] / NUMBER(of * across[j])
"""
KINDS = {"gradient": "place", "max": "largest", "mean": "sum"}
_SOURCES = {"gradient": _GRADIENT, "max": _WINDOWS, "mean": _WINDOWS, "mean gradient": _MEAN_GRADIENT}


@cache
def _kernel(name: str, dtype: str) -> int:
    head = f"""
T, at_T, NUMBER, SIZE, LANES = {dtype!r}, at_{dtype}, {dtype}, {np.dtype(dtype).itemsize}, {geometry(dtype).lanes}
ZERO, LARGEST, MEAN = {dtype}(0), {name == "max"}, {name == "mean"}
INITIAL, INF = {dtype}({"-inf" if name == "max" else "-0.0"}), {dtype}(inf)
KIND = {KINDS.get(name)!r}
"""
    return native.address(head + _ENDS + (_TAPS if name in KINDS else "") + _SOURCES[name])


def _axes(
    sizes: Sizes, counts: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes
) -> list[Sizes]:
    """The words of three axes."""
    axes = list(zip(sizes, counts, kernel, stride, padding, dilation, strict=True))
    return [(1, 1, 1, 1, 0, 1)] * (3 - len(axes)) + axes


def _elements(axes: list[Sizes], include: bool, override: int | None) -> list[ndarray]:
    """How many elements the windows have along each axis; their products are the divisors."""
    found = []
    for size, count, kernel, stride, padding, _ in axes:
        start = np.arange(count) * stride - padding
        low, high = (-padding, size + padding) if include else (0, size)
        elements = np.minimum(start + kernel, high) - np.maximum(start, low)
        found.append(elements.astype(np.int64) if override is None else np.ones(count, np.int64))
    if override is not None:
        found[0][:] = override
    return found


def _launched(name: str, out: ndarray, x: ndarray, pooled: int, *words: Any) -> ndarray:
    """A unit of work is a plane."""
    units = math.prod(x.shape[: x.ndim - pooled])
    chunk = max(1, units // (4 * team.get_num_threads()))
    return team.launch(_kernel(name, x.dtype.name), units, chunk, out, contiguous(x), *words)


def make_max_pool(dtype: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel of `max_pool`, with the op's body for few windows and more than three axes."""

    def max_pool(
        x: ndarray, /, *, kernel_size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil_mode: bool
    ) -> Any:  # fmt: skip
        pooled = len(kernel_size)
        sizes = x.shape[x.ndim - pooled :]
        counts = _counts(sizes, kernel_size, stride, padding, dilation, ceil_mode)
        if pooled > 3 or x.size < WORTHWHILE or min(counts) < 1:
            return body(
                x, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
            )  # fmt: skip
        shape = (*x.shape[: x.ndim - pooled], *counts)
        out = pool.empty(shape, x.dtype, math.prod(shape) * x.itemsize)
        axes = _axes(sizes, counts, kernel_size, stride, padding, dilation)
        memory = scratch(math.prod(kernel_size) * 32)
        return _launched("max", out, x, pooled, *(n for axis in axes for n in axis), *memory)

    return max_pool


def _counts(
    sizes: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil_mode: bool
) -> Sizes:
    """How many windows there are along each axis, less than 1 where the op refuses."""
    counts = []
    for n, k, s, p, d in zip(sizes, kernel, stride, padding, dilation, strict=True):
        room = n + 2 * p - (k - 1) * d - 1
        count = room // s + 1
        counts.append(count + 1 if ceil_mode and room >= 0 and room % s and count * s < n + p else count)
    return tuple(counts)


def make_avg_pool(dtype: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel of `avg_pool`, with the op's body for few windows and more than three axes."""

    def avg_pool(
        x: ndarray, /, *, kernel_size: Sizes, stride: Sizes, padding: Sizes, ceil_mode: bool, count_include_pad: bool,
        divisor_override: int | None,
    ) -> Any:  # fmt: skip
        pooled = len(kernel_size)
        sizes, ones = x.shape[x.ndim - pooled :], (1,) * pooled
        counts = _counts(sizes, kernel_size, stride, padding, ones, ceil_mode)
        if pooled > 3 or x.size < WORTHWHILE or min(counts) < 1:
            return body(
                x, kernel_size=kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode, count_include_pad=count_include_pad,
                divisor_override=divisor_override,
            )  # fmt: skip
        shape = (*x.shape[: x.ndim - pooled], *counts)
        out = pool.empty(shape, x.dtype, math.prod(shape) * x.itemsize)
        axes = _axes(sizes, counts, kernel_size, stride, padding, ones)
        elements = _elements(axes, count_include_pad, divisor_override)
        memory = scratch(math.prod(kernel_size) * 32)
        return _launched("mean", out, x, pooled, *(n for axis in axes for n in axis), *memory, *elements)

    return avg_pool


def make_avg_pool_gradient(dtype: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel of `avg_pool_gradient`, with the op's body for few windows and more than three axes."""

    def avg_pool_gradient(
        cotangent: ndarray, /, *, sizes: Sizes, kernel_size: Sizes, stride: Sizes, padding: Sizes, ceil_mode: bool,
        count_include_pad: bool, divisor_override: int | None,
    ) -> Any:  # fmt: skip
        pooled = len(kernel_size)
        counts = cotangent.shape[cotangent.ndim - pooled :]
        expected = _counts(sizes, kernel_size, stride, padding, (1,) * pooled, ceil_mode)
        if pooled > 3 or cotangent.size < WORTHWHILE or counts != expected:
            return body(
                cotangent, sizes=sizes, kernel_size=kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode,
                count_include_pad=count_include_pad, divisor_override=divisor_override,
            )  # fmt: skip
        shape = (*cotangent.shape[: cotangent.ndim - pooled], *sizes)
        out = pool.empty(shape, cotangent.dtype, math.prod(shape) * cotangent.itemsize)
        axes = _axes(sizes, counts, kernel_size, stride, padding, (1,) * pooled)
        elements = _elements(axes, count_include_pad, divisor_override)
        return _launched(
            "mean gradient", out, cotangent, pooled, *(n for axis in axes for n in axis), *elements
        )

    return avg_pool_gradient


def make_max_pool_gradient(dtype: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel of `max_pool_gradient`, with the op's body for few windows and more than three axes."""

    def max_pool_gradient(
        cotangent: ndarray, x: ndarray, /, *, kernel_size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil_mode: bool
    ) -> Any:  # fmt: skip
        pooled = len(kernel_size)
        sizes, counts = x.shape[x.ndim - pooled :], cotangent.shape[x.ndim - pooled :]
        if (
            pooled > 3
            or cotangent.ndim != x.ndim
            or cotangent.size < WORTHWHILE
            or math.prod(sizes) >= 1 << 31
        ):
            return body(
                cotangent, x, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
            )  # fmt: skip
        axes = _axes(sizes, counts, kernel_size, stride, padding, dilation)
        units = math.prod(x.shape[: x.ndim - pooled])
        out = pool.empty(x.shape, x.dtype, x.nbytes)
        chunk = max(1, units // (4 * team.get_num_threads()))
        words = [n for axis in axes for n in axis]
        memory = scratch(counts[-1] * 8 + math.prod(kernel_size) * 32)
        return team.launch(
            _kernel("gradient", dtype),
            units,
            chunk,
            out,
            contiguous(cotangent),
            contiguous(x),
            *words,
            *memory,
        )

    return max_pool_gradient

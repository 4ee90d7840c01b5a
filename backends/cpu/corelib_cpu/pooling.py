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

# Windows lo to hi along the last axis meet one of their elements inside of x: the j-th has element start + j * stride.
_ENDS = """
@inline
def ends(start, stride, size, count):
    if stride == 1:  # without a division
        return max(0, -start), min(count, size - start)
    if stride == 2:
        return max(0, (1 - start) >> 1), min(count, (size - start + 1) >> 1)
    return max(0, (stride - 1 - start) // stride), min(count, (size - start + stride - 1) // stride)
"""
# Words: gradient, cotangent, x, then of each of three axes its size, windows, elements of a window, stride, padding,
# dilation, then the threads' scratch. A unit is a plane: all pooled axes of the rest. Each window's largest element, or its
# first NaN, gets its cotangent, in the order of the windows. A row of windows meets one place of a window at a time.
_GRADIENT = """
fold, fold_second = fold_places(T, LANES, 1), fold_places(T, LANES, 2)

def kernel(lo, hi, args):
    words = at_int64(args)
    n0, n1, n2 = words[3], words[9], words[15]
    c0, c1, c2 = words[4], words[10], words[16]
    plane, count, stride = n0 * n1 * n2, c0 * c1 * c2, words[18]
    slot = take_slot(words[21], words[24])
    values = words[22] + slot * words[23]
    places = values + c2 * SIZE
    largest, found = at_T(values), at_int32(places)
    for unit in range(lo, hi):
        out, plane_at = at_T(words[0] + unit * plane * SIZE), words[2] + unit * plane * SIZE
        for i in range(plane):
            out[i] = ZERO
        for w0 in range(c0):
            for w1 in range(c1):
                for j in range(c2):
                    found[j] = -1
                for k0 in range(words[5]):
                    i0 = w0 * words[6] - words[7] + k0 * words[8]
                    if i0 < 0 or i0 >= n0:
                        continue
                    for k1 in range(words[11]):
                        i1 = w1 * words[12] - words[13] + k1 * words[14]
                        if i1 < 0 or i1 >= n1:
                            continue
                        for k2 in range(words[17]):
                            start = k2 * words[20] - words[19]
                            first, last = ends(start, stride, n2, c2)
                            place = (i0 * n1 + i1) * n2 + start
                            row = plane_at + place * SIZE
                            if stride == 1:
                                for j in range(0, last, LANES):
                                    at = row + j * SIZE
                                    fold(at, values + j * SIZE, places + j * 4, first - j, last - j, place + j)
                            elif stride == 2:
                                for j in range(0, last, LANES):
                                    at = row + 2 * j * SIZE
                                    fold_second(at, values + j * SIZE, places + j * 4, first - j, last - j, place + 2 * j)
                            else:
                                x = at_T(row)
                                for j in range(first, last):
                                    x_j = x[j * stride]
                                    if found[j] < 0 or x_j > largest[j] or (x_j != x_j and largest[j] == largest[j]):
                                        largest[j] = x_j
                                        found[j] = place + j * stride
                g = at_T(words[1] + (unit * count + (w0 * c1 + w1) * c2) * SIZE)
                for j in range(c2):
                    if found[j] >= 0:
                        out[found[j]] += g[j]
    free_slot(words[21], slot)
"""
# Words: result, x, three axes as above, then for means their tables of elements that each window has along the axis, or of
# the divisor in the place of the first.
_WINDOWS = """
fold, fold_second = fold_line(T, LANES, 1, LARGEST), fold_line(T, LANES, 2, LARGEST)

def kernel(lo, hi, args):
    words = at_int64(args)
    n0, n1, n2 = words[2], words[8], words[14]
    c0, c1, c2, stride = words[3], words[9], words[15], words[17]
    for unit in range(lo, hi):
        for w0 in range(c0):
            for w1 in range(c1):
                line = words[0] + ((unit * c0 + w0) * c1 + w1) * c2 * SIZE
                out = at_T(line)
                for j in range(c2):
                    out[j] = INITIAL
                for k0 in range(words[4]):
                    i0 = w0 * words[5] - words[6] + k0 * words[7]
                    if i0 < 0 or i0 >= n0:
                        continue
                    for k1 in range(words[10]):
                        i1 = w1 * words[11] - words[12] + k1 * words[13]
                        if i1 < 0 or i1 >= n1:
                            continue
                        for k2 in range(words[16]):
                            start = k2 * words[19] - words[18]
                            first, last = ends(start, stride, n2, c2)
                            row = words[1] + (((unit * n0 + i0) * n1 + i1) * n2 + start) * SIZE
                            if stride == 1:
                                for j in range(0, last, LANES):
                                    fold(row + j * SIZE, line + j * SIZE, first - j, last - j)
                            elif stride == 2:
                                for j in range(0, last, LANES):
                                    fold_second(row + 2 * j * SIZE, line + j * SIZE, first - j, last - j)
                            else:
                                x = at_T(row)
                                for j in range(first, last):
                                    out[j] = maximum(out[j], x[j * stride]) if LARGEST else out[j] + x[j * stride]
                if MEAN:
                    of, across = at_int64(words[20])[w0] * at_int64(words[21])[w1], at_int64(words[22])
                    for j in range(c2):
                        out[j] = out[j] / NUMBER(of * across[j])
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
_SOURCES = {"gradient": _GRADIENT, "max": _WINDOWS, "mean": _WINDOWS, "mean gradient": _MEAN_GRADIENT}


@cache
def _kernel(name: str, dtype: str) -> int:
    head = f"""
T, at_T, NUMBER, SIZE, LANES = {dtype!r}, at_{dtype}, {dtype}, {np.dtype(dtype).itemsize}, {geometry(dtype).lanes}
ZERO, LARGEST, MEAN = {dtype}(0), {name == "max"}, {name == "mean"}
INITIAL = {dtype}({"-inf" if name == "max" else "-0.0"})
"""
    return native.address(head + _ENDS + _SOURCES[name])


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
        return _launched("max", out, x, pooled, *(n for axis in axes for n in axis))

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
        return _launched("mean", out, x, pooled, *(n for axis in axes for n in axis), *elements)

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
        memory = scratch(counts[-1] * 12)
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

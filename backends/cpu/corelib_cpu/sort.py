"""Sorting and searching. NaN counts as largest, as in NumPy; every sort is stable, also a descending one.

Positions come from a radix sort of keys, integers in the order of the elements: it takes a fixed number of passes, so it
is many times faster than comparing. Values come from NumPy's sort, whose vectorised quicksort is faster still but not
stable: that shows only where zeros of both signs are equal, and then they come from the positions as well.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy import ndarray

from . import launch as team
from . import native, pool
from .gemm import scratch
from .movement import contiguous

SHORT = 256  # elements along the axis below which NumPy's sort is as fast
FEW = 4096  # elements below which NumPy is used
SEARCHES = 32  # searches that go side by side: while one waits for memory the others go on

# An element's key, an unsigned integer: its bits, with those of negative numbers turned over. Zeros are equal, and NaN
# are.
_KEYS = {
    "float": """
def key_of(x):
    bits = bits_{b}(x) if x == x else {top}
    if x == 0:
        bits = 0
    return U(~bits) if bits < 0 else U(bits) ^ SIGN
""",
    "int": """
def key_of(x):
    return U(x) ^ SIGN
""",
    "uint": """
def key_of(x):
    return U(x)
""",
}
# Words: positions, elements, how many along the axis, whether descending, then the threads' scratch: two arrays of keys
# and two of positions. A unit is a line.
_ARGSORT = """
@inline
{key}

def kernel(lo, hi, args):
    words = at_int64(args)
    n, descending = words[2], words[3]
    slot = take_slot(words[4], words[7])
    memory = words[5] + slot * words[6]
    counts = at_int64(memory)
    first = memory + BYTES * 2048
    for unit in range(lo, hi):
        x = at_T(words[1] + unit * n * SIZE)
        keys, places = at_U(first), at_int32(first + 2 * n * BYTES)
        other_keys, other_places = at_U(first + n * BYTES), at_int32(first + 2 * n * BYTES + 4 * n)
        for i in range(BYTES * 256):
            counts[i] = 0
        for i in range(n):
            key = ~key_of(x[i]) if descending else key_of(x[i])
            keys[i] = key
            places[i] = i
            for digit in range(BYTES):
                counts[digit * 256 + int64((key >> U(8 * digit)) & U(255))] += 1
        for digit in range(BYTES):
            shift = U(8 * digit)
            if counts[digit * 256 + int64((keys[0] >> shift) & U(255))] == n:
                continue
            total = 0
            for i in range(digit * 256, digit * 256 + 256):
                count = counts[i]
                counts[i] = total
                total += count
            for i in range(n):
                key = keys[i]
                bucket = digit * 256 + int64((key >> shift) & U(255))
                place = counts[bucket]
                counts[bucket] = place + 1
                other_keys[place] = key
                other_places[place] = places[i]
            keys, other_keys = other_keys, keys
            places, other_places = other_places, places
        out = at_int64(words[0] + unit * n * 8)
        for i in range(n):
            out[i] = places[i]
    free_slot(words[4], slot)
"""
# Words: places, the ordered elements, what is searched, how many ordered elements. A unit is some searches.
_SEARCH = """
@inline
def less(a, b):
    return (a < b) | ((b != b) & (a == a))

@inline
def before(a, b):
    return {before}

def kernel(lo, hi, args):
    words = at_int64(args)
    n = words[3]
    x = at_T(words[1])
    for unit in range(lo, hi, {side}):
        count = min(hi - unit, {side})
        y, found = at_T(words[2] + unit * SIZE), at_int64(words[0] + unit * 8)
        for i in range(count):
            found[i] = 0
        length = n
        while length > 1:
            half = length // 2
            for i in range(count):
                found[i] += half * int64(before(x[found[i] + half - 1], y[i]))
            length -= half
        for i in range(count):
            found[i] += 1 if before(x[found[i]], y[i]) else 0
"""


def _head(dtype: str, size: int) -> str:
    unsigned = f"uint{8 * max(size, 4)}"
    return f"""
T, U, SIZE, BYTES, at_T, at_U = {dtype}, {unsigned}, {size}, {max(size, 4)}, at_{dtype}, at_{unsigned}
SIGN = {unsigned}(1 << {8 * max(size, 4) - 1})
"""


@cache
def _sorting(dtype: str) -> int:
    kind = np.dtype(dtype)
    bits = 8 * kind.itemsize
    names = {"b": f"f{bits}", "top": f"int{bits}((1 << {bits - 1}) - 1)"}
    key = _KEYS[dtype.rstrip("0123456789")].format(**names).strip()
    return native.address(_head(dtype, kind.itemsize) + _ARGSORT.format(key=key))


@cache
def _searching(dtype: str, side: str) -> int:
    before = "less(a, b)" if side == "left" else "less(b, a) ^ True"
    return native.address(
        _head(dtype, np.dtype(dtype).itemsize) + _SEARCH.format(before=before, side=SEARCHES)
    )


def _counts(x: ndarray) -> bool:
    """Whether the elements are numbers for which there are kernels."""
    return x.dtype.kind in "iu" or x.dtype.char in "fd"


def _mixed_zeros(x: ndarray) -> bool:
    zeros = x == 0
    return bool(zeros.any()) and bool(np.signbit(x[zeros]).any())


def sort(x: ndarray, /, *, axis: int, descending: bool) -> ndarray:
    if x.dtype.kind == "f" and _mixed_zeros(x):
        if x.size >= FEW and _counts(x):
            return np.take_along_axis(x, argsort(x, axis=axis, descending=descending), axis)
        # A stable sort of the reversed array, reversed: what compares equal (zeros of both signs) keeps its
        # order.
        return (
            np.flip(np.sort(np.flip(x, axis), axis, "stable"), axis)
            if descending
            else np.sort(x, axis, "stable")
        )
    ordered = np.sort(x, axis)  # equal numbers cannot be told apart, so the fastest sort will do
    return np.flip(ordered, axis) if descending else ordered


def argsort(x: ndarray, /, *, axis: int, descending: bool) -> ndarray:
    n = x.shape[axis]
    if x.size >= FEW and SHORT <= n < 1 << 31 and _counts(x):
        lines = contiguous(np.moveaxis(x, axis, -1))
        out = pool.empty(lines.shape, np.dtype(np.int64), 8 * x.size)
        units, size = x.size // n, max(x.itemsize, 4)
        memory = scratch(size * 2048 + 2 * n * (size + 4))
        chunk = max(units // (4 * team.get_num_threads()), 1)
        team.launch(_sorting(x.dtype.name), units, chunk, out, lines, n, int(descending), *memory)
        return np.moveaxis(out, -1, axis)
    if not descending:
        return np.argsort(x, axis, "stable").astype(np.int64, copy=False)
    order = np.flip(np.argsort(np.flip(x, axis), axis, "stable"), axis)
    return (n - 1 - order).astype(np.int64, copy=False)


def searchsorted(x1: ndarray, x2: ndarray, /, *, side: Any) -> ndarray:
    if x2.size < FEW or not x1.size or x1.ndim != 1 or x1.dtype != x2.dtype or not _counts(x1):
        return np.asarray(np.searchsorted(x1, x2, side), np.int64)
    searched = contiguous(x2)
    out = pool.empty(x2.shape, np.dtype(np.int64), 8 * x2.size)
    chunk = x2.size // (4 * team.get_num_threads()) // SEARCHES * SEARCHES + SEARCHES
    return team.launch(
        _searching(x1.dtype.name, side), x2.size, chunk, out, contiguous(x1), searched, x1.size
    )

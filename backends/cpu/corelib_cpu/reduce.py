"""Reductions and cumulative sums.

Small arrays go to NumPy. Large C-contiguous ones are seen as blocks (groups, rows, columns) whose rows are
reduced: axis -1 is the case columns = 1, axis 0 the case groups = 1, and other sets of axes are taken one run
of axes after the other, from the last. Partial results are cut at places that depend on the shape alone, so
the number of threads never shows.

Sums of float32 add eight elements at a time and accumulate those in float64, at the speed of float32: the
error is that of four roundings, whatever the length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from . import launch as team
from . import native, pool
from .quiet import quiet

CROSSOVER = 8192  # elements below which NumPy is faster
PARALLEL = 65536  # elements from which a second thread pays
BLOCK = 4096  # elements of one partial result where columns = 1
ROWS = 128  # rows of one partial result otherwise
WIDE: dict[str, Any] = {
    "f": np.float64,
    "F": np.complex128,
}  # in what single precision accumulates, by its character

# Neutral element, and how a value so far s and an element x are combined.
SUM, MAX, MIN = ("T(0)", "s + x"), ("T(-inf)", "maximum(s, x)"), ("T(inf)", "minimum(s, x)")
_INTEGER_MAX, _INTEGER_MIN = ("LOWEST", "x if x > s else s"), ("HIGHEST", "x if x < s else s")

# Words: result, input, rows in a group, rows in a part, parts in a group, [columns]. A unit is a part of a
# group.
_COMBINE_SOURCE = """
@inline({options})
def combine(s, x):
    return {combine}

@inline({options})
def combine8(a, b, c, d, e, f, g, h):
    return combine(combine(combine(a, b), combine(c, d)), combine(combine(e, f), combine(g, h)))
"""
_ROW_SOURCE = """
def kernel(lo, hi, args):
    words = at_int64(args)
    out = at_{wide}(words[0])
    length = words[2]
    size = words[3]
    parts = words[4]
    for unit in range(lo, hi):
        group = unit // parts
        start = (unit - group * parts) * size
        count = length - start
        if count > size:
            count = size
        p = at_{dtype}(words[1] + (group * length + start) * {itemsize})
        total = {neutral}
        while count >= {block}:
            s = {neutral}
            for i in range({block} // 8):
                s = combine(s, {wide}(combine8(
                    p[i], p[i + {block} // 8], p[i + 2 * {block} // 8], p[i + 3 * {block} // 8],
                    p[i + 4 * {block} // 8], p[i + 5 * {block} // 8], p[i + 6 * {block} // 8], p[i + 7 * {block} // 8])))
            total = combine(total, s)
            start += {block}
            count -= {block}
            p = at_{dtype}(words[1] + (group * length + start) * {itemsize})
        s = {neutral}
        for i in range(count):
            s = combine(s, {wide}(p[i]))
        out[unit] = combine(total, s)
"""
_COLUMN_SOURCE = """
def kernel(lo, hi, args):
    words = at_int64(args)
    length = words[2]
    size = words[3]
    parts = words[4]
    columns = words[5]
    step = columns * {itemsize}
    for unit in range(lo, hi):
        group = unit // parts
        row = (unit - group * parts) * size
        stop = row + size
        if stop > length:
            stop = length
        out = at_{wide}(words[0] + unit * columns * {wide_size})
        for i in range(columns):
            out[i] = {neutral}
        while row + 8 <= stop:
            first = words[1] + (group * length + row) * step
            a, b = at_{dtype}(first), at_{dtype}(first + step)
            c, d = at_{dtype}(first + 2 * step), at_{dtype}(first + 3 * step)
            e, f = at_{dtype}(first + 4 * step), at_{dtype}(first + 5 * step)
            g, h = at_{dtype}(first + 6 * step), at_{dtype}(first + 7 * step)
            for i in range(columns):
                out[i] = combine(out[i], {wide}(combine8(a[i], b[i], c[i], d[i], e[i], f[i], g[i], h[i])))
            row += 8
        while row < stop:
            p = at_{dtype}(words[1] + (group * length + row) * step)
            for i in range(columns):
                out[i] = combine(out[i], {wide}(p[i]))
            row += 1
"""


class Reduction:
    """The compiled kernels of one reduction and dtype."""

    def __init__(self, name: str, dtype: str) -> None:
        self.ufunc = {"sum": np.add, "max": np.maximum, "min": np.minimum}[name]
        self.dtype = np.dtype(dtype)
        floating = self.dtype.kind == "f"
        neutral, combine = {"sum": SUM, "max": MAX, "min": MIN}[name]
        if not floating and name != "sum":
            neutral, combine = _INTEGER_MAX if name == "max" else _INTEGER_MIN
            limits = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
            neutral = neutral.replace("LOWEST", f"T({limits[0]})").replace("HIGHEST", f"T({limits[1]})")
        self.wide = np.dtype("float64") if floating and name == "sum" else self.dtype
        wide = "uint8" if dtype == "bool" else self.wide.name
        names = {
            "dtype": dtype, "itemsize": self.dtype.itemsize, "wide": wide, "wide_size": self.wide.itemsize, "block": BLOCK,
            "neutral": neutral.replace("T(", f"{wide}("), "combine": combine,
        }  # fmt: skip
        # Only the order of a sum is free, and it is the same for every call.
        names["options"] = "fastmath={'reassoc'}" if floating and name == "sum" else "fastmath=False"
        self._row_source = (_COMBINE_SOURCE + _ROW_SOURCE).format(**names)
        self._column_source = (_COMBINE_SOURCE + _COLUMN_SOURCE).format(**names)
        self._row = self._column = 0

    def __call__(self, x: ndarray, axes: tuple[int, ...]) -> ndarray:
        """Reduces a large C-contiguous array over a non-empty set of axes (negative, sorted); they are
        dropped.
        """
        shape = list(x.shape)
        while axes:
            last = axes[-1]
            first = last
            while first - 1 in axes:
                first -= 1
            axes = tuple(axis for axis in axes if axis < first)
            stop = len(shape) + last + 1
            groups = rows = columns = 1
            for length in shape[: len(shape) + first]:
                groups *= length
            for length in shape[len(shape) + first : stop]:
                rows *= length
            for length in shape[stop:]:
                columns *= length
            dropped = last - first + 1
            shape[len(shape) + first : stop] = []
            axes = tuple(axis + dropped for axis in axes)
            x = self.block(x, groups, rows, columns)
        return x.reshape(shape)

    def block(self, x: ndarray, groups: int, rows: int, columns: int) -> ndarray:
        """(groups, rows, columns) -> (groups, columns)."""
        if rows == 1:
            return x.reshape(groups, columns)
        if columns == 1:
            # Few long rows are cut into parts, so that every thread gets some; the cut depends on the shape
            # alone.
            size = (
                rows
                if groups >= 64
                else max(BLOCK, -(-rows // 64 + 63) & -64 if rows > 64 * BLOCK else BLOCK)
            )
            parts = -(-rows // size)
            self._row = self._row or native.address(self._row_source)
            out = np.empty((groups, parts), self.wide)
            self._launch(self._row, out, x, groups * parts, rows, size, parts)
        else:
            parts = -(-rows // ROWS)
            self._column = self._column or native.address(self._column_source)
            shape = (groups, parts, columns)
            out = pool.empty(shape, self.wide, groups * parts * columns * self.wide.itemsize)
            self._launch(self._column, out, x, groups * parts, rows, ROWS, parts, columns)
        if parts == 1:
            return out.reshape(groups, columns).astype(self.dtype, copy=False)
        total = self.ufunc.reduce(out.reshape(groups, parts, columns), axis=1, dtype=self.wide)
        return total.astype(self.dtype, copy=False)

    def _launch(self, kernel: int, out: ndarray, x: ndarray, units: int, *words: int) -> None:
        chunk = units if x.size < PARALLEL else max(units // (4 * team.get_num_threads()), 1)
        team.launch(kernel, units, chunk, out, x, *words)


def make_sum(dtype_name: str) -> Callable[..., ndarray]:
    """The kernel of ``sum`` for operands of one dtype."""
    native_sums: dict[str, Reduction] = {}

    def sum_(x: ndarray, /, *, axis: tuple[int, ...], dtype: Any, keepdims: bool) -> ndarray:
        target = dtype.numpy
        if not axis:
            return quiet(np.positive, x.astype(target))
        if (
            x.size >= CROSSOVER
            and dtype.name == dtype_name
            and target.kind != "c"
            and x.flags.c_contiguous
            and x.flags.aligned
        ):
            found = native_sums.get(dtype_name)
            if found is None:
                found = native_sums[dtype_name] = Reduction("sum", dtype_name)
            out = quiet(found, x, axis)
            return _restore(out, x, axis) if keepdims else out
        if target.char in WIDE and -1 not in axis:  # NumPy adds rows one after the other
            return quiet(np.add.reduce, x, axis, WIDE[target.char], None, keepdims).astype(target)
        return quiet(np.add.reduce, x, axis, target, None, keepdims)

    return sum_


def _restore(out: ndarray, x: ndarray, axes: tuple[int, ...]) -> ndarray:
    """The reduced axes again, with length 1."""
    shape = list(x.shape)
    for axis in axes:
        shape[axis] = 1
    return out.reshape(shape)


def make_extreme(name: str, dtype: str) -> Callable[..., ndarray]:
    """The kernel of ``max`` or ``min`` for operands of one dtype: NaN wins, and -0 is below +0."""
    ufunc = np.maximum if name == "max" else np.minimum
    floating = dtype.startswith("float")
    made: list[Reduction] = []

    def extreme(x: ndarray, /, *, axis: tuple[int, ...], keepdims: bool) -> ndarray:
        if not axis:
            return x.view()
        if x.size >= CROSSOVER and x.flags.c_contiguous and x.flags.aligned:
            if not made:
                made.append(Reduction(name, dtype))
            out = quiet(made[0], x, axis)
            return _restore(out, x, axis) if keepdims else out
        r = quiet(ufunc.reduce, x, axis, None, None, keepdims)
        if floating and np.count_nonzero(r) != r.size:
            # Zeros of both signs: the sum of the zeros alone is +0 if one of them is.
            sign = 1 if name == "max" else -1
            add: Any = np.add.reduce
            zeros = sign * np.asarray(
                add(np.where(x == 0, sign * x, -0.0), axis, keepdims=keepdims, initial=-0.0)
            )
            r = np.where(r == 0, zeros, r).astype(x.dtype)
        return r

    extreme.__name__ = name
    return extreme


def prod(x: ndarray, /, *, axis: tuple[int, ...], dtype: Any, keepdims: bool) -> ndarray:
    if not axis:
        return x.astype(dtype.numpy)
    target = dtype.numpy
    wide = WIDE.get(target.char, target) if target.kind == "c" else target
    return quiet(np.multiply.reduce, x, axis, wide, None, keepdims).astype(target, copy=False)


def any_(x: ndarray, /, *, axis: tuple[int, ...], keepdims: bool) -> ndarray:
    if not axis:
        return x.astype(bool)
    return quiet(np.logical_or.reduce, x, axis, None, None, keepdims)


def all_(x: ndarray, /, *, axis: tuple[int, ...], keepdims: bool) -> ndarray:
    if not axis:
        return x.astype(bool)
    return quiet(np.logical_and.reduce, x, axis, None, None, keepdims)


def argmax(x: ndarray, /, *, axis: int, keepdims: bool) -> ndarray:
    return np.asarray(x.argmax(axis, keepdims=keepdims))


def argmin(x: ndarray, /, *, axis: int, keepdims: bool) -> ndarray:
    return np.asarray(x.argmin(axis, keepdims=keepdims))

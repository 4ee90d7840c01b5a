"""Scaled dot-product attention and its gradient on the tiles of gemm.py, without a matrix of probabilities in memory.

A thread takes a tile's rows of queries and computes their scores for all keys: memory is linear in the sequence. Keys and
values, and for the gradient queries and cotangents, are packed once into panels of columns, so that a product with their
transposes reads them in long runs. The gradient goes twice over the scores: by rows of queries for q's cotangent, by rows
of keys for those of k and v. Nothing is summed by two threads, so results do not depend on their number.

A floating mask that needs a gradient, and operands whose leading axes broadcast where a gradient is asked for, are left to
the ops' bodies.
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
from .contract import offsets
from .gemm import PARTS, geometry, scratch

WORTHWHILE = 1 << 15  # multiplications from which a kernel is compiled

# Words: out, x, table of the matrices' offsets, rows, features, bytes from row to row. A unit is a panel of WIDTH rows,
# which become columns.
_PACK = """
pack = panel_packer(T, WIDTH, LANES)

def kernel(lo, hi, args):
    words = at_int64(args)
    panels = (words[3] + WIDTH - 1) // WIDTH
    for unit in range(lo, hi):
        matrix = unit // panels
        first = (unit - matrix * panels) * WIDTH
        source = words[1] + at_int64(words[2])[matrix] + first * words[5]
        pack(words[0] + unit * words[4] * WIDTH * SIZE, source, SIZE, words[5], min(words[3] - first, WIDTH), words[4])
"""
# What the kernels share. The layout: 0 queries, 1 keys, 2 features of q and k, 3 of v, bytes from row to row of 4 q, 5 k,
# 6 v, 7 the cotangent, of the mask 8 from query to query and 9 from key to key; 10 causal, 11 the mask's kind (0 none, 1
# bool, 2 added), tables of offsets of 12 q, 13 k, 14 v, 15 the mask, 16 the cotangent; 17 bytes of a row of scores; 18 the
# scale's address.
_SHARED = """
pack = panel_packer(T, HEIGHT, LANES)
tile = matrix_tile(T, HEIGHT, VECTORS, LANES, True, False)
column = tile_column(T, HEIGHT, VECTORS, LANES)
QUICK = {"reassoc", "nsz", "contract"}

@inline(apart=True)
def scores(out, row, a, panels, features, first, last):
    # a tile's rows times columns first to last, in whole panels
    for panel in range(first // WIDTH, (last + WIDTH - 1) // WIDTH):
        b = panels + panel * features * WIDTH * SIZE
        tile(a, 0, 0, b, WIDTH * SIZE, features, out + panel * WIDTH * SIZE, row, 0, 0, 0)

@inline(apart=True)
def product(out, out_row, a, row, b, b_row, first, last, columns, height):
    # columns first to last of a tile's rows times those rows of a matrix
    if last <= first:
        for r in range(height):
            line = at_T(out + r * out_row)
            for i in range(columns):
                line[i] = T_ZERO
        return
    for j in range(0, columns, WIDTH):
        column(a + first * SIZE, row, SIZE, b + first * b_row + j * SIZE, b_row, last - first, out + j * SIZE, out_row, 0, 0,
               height, min(columns - j, WIDTH))

@inline(fastmath=QUICK)
def scaled_largest(x, count, scale):
    largest = -T_INF
    for j in range(count):
        x[j] = x[j] * scale
        largest = maximum(largest, x[j])
    return largest

@inline(fastmath=QUICK)
def largest_of(x, count):
    largest = -T_INF
    for j in range(count):
        largest = maximum(largest, x[j])
    return largest

@inline(fastmath=QUICK)
def exponentials(x, count, shift):
    total = T_ZERO
    for j in range(count):
        x[j] = exp_T(x[j] - shift)
        total += x[j]
    return total

@inline
def masked(x, first, count, mask, step, kind):
    if kind == 1:
        for j in range(first, count):
            if at_uint8(mask + j * step)[0] == 0:
                x[j] = -T_INF
    else:
        for j in range(first, count):
            x[j] += at_T(mask + j * step)[0]

@inline(apart=True)
def softmax(x, count, last, scale, mask, step, kind):
    # a row's exponentials, zero from count to last; the sum of them, and what was subtracted
    largest = scaled_largest(x, count, scale)
    if kind:
        masked(x, 0, count, mask, step, kind)
        largest = largest_of(x, count)
    shift = T_ZERO if largest == -T_INF else largest
    total = exponentials(x, count, shift)
    for j in range(count, last):
        x[j] = T_ZERO
    return (T_ONE if total == T_ZERO else total), shift

@inline
def scaled_row(x, count, factor):
    for j in range(count):
        x[j] = x[j] * factor

@inline
def divided(x, count, total):
    for j in range(count):
        x[j] = x[j] / total
"""
# Words: result, q, packed k, v, mask, the layout, then the threads' scratch. A unit is a tile's rows of queries.
_FORWARD = """
def kernel(lo, hi, args):
    words = at_int64(args)
    of = at_int64(words[5])
    queries, keys, features, values, row = of[0], of[1], of[2], of[3], of[17]
    scale = at_T(of[18])[0]
    tiles, panels = (queries + HEIGHT - 1) // HEIGHT, (keys + WIDTH - 1) // WIDTH
    slot = take_slot(words[6], words[9])
    x = words[7] + slot * words[8]
    a = x + HEIGHT * row
    for unit in range(lo, hi):
        matrix = unit // tiles
        first = (unit - matrix * tiles) * HEIGHT
        height = min(queries - first, HEIGHT)
        last = min(keys, first + height) if of[10] else keys
        pack(a, words[1] + at_int64(of[12])[matrix] + first * of[4], SIZE, of[4], height, features)
        scores(x, row, a, words[2] + matrix * panels * features * WIDTH * SIZE, features, 0, last)
        out = words[0] + (matrix * queries + first) * values * SIZE
        totals = at_T(a)
        for r in range(height):
            count = min(keys, first + r + 1) if of[10] else keys
            mask = words[4] + at_int64(of[15])[matrix] + (first + r) * of[8] if of[11] else 0
            totals[r], shift = softmax(at_T(x + r * row), count, last, scale, mask, of[9], of[11])
        product(out, values * SIZE, x, row, words[3] + at_int64(of[14])[matrix], of[6], 0, last, values, height)
        for r in range(height):
            divided(at_T(out + r * values * SIZE), values, totals[r])
    free_slot(words[6], slot)
"""
# Words: q's cotangent, q, packed k, packed v, k, mask, the cotangent, the layout, for each query what was subtracted, the
# inverse of the sum, and the mean of the cotangent of its probabilities, then the threads' scratch. A unit is a tile's
# rows of queries.
_QUERIES = """
@inline(fastmath=QUICK)
def weighted(x, y, count):
    total = T_ZERO
    for j in range(count):
        total += x[j] * y[j]
    return total

@inline
def cotangents(x, y, count, inverse, mean):
    for j in range(count):
        x[j] = x[j] * inverse * (y[j] - mean)

def kernel(lo, hi, args):
    words = at_int64(args)
    of = at_int64(words[7])
    queries, keys, features, values, row = of[0], of[1], of[2], of[3], of[17]
    scale = at_T(of[18])[0]
    tiles, panels = (queries + HEIGHT - 1) // HEIGHT, (keys + WIDTH - 1) // WIDTH
    slot = take_slot(words[11], words[14])
    x = words[12] + slot * words[13]
    y, a = x + HEIGHT * row, x + 2 * HEIGHT * row
    for unit in range(lo, hi):
        matrix = unit // tiles
        first = (unit - matrix * tiles) * HEIGHT
        height = min(queries - first, HEIGHT)
        last = min(keys, first + height) if of[10] else keys
        pack(a, words[1] + at_int64(of[12])[matrix] + first * of[4], SIZE, of[4], height, features)
        scores(x, row, a, words[2] + matrix * panels * features * WIDTH * SIZE, features, 0, last)
        pack(a, words[6] + at_int64(of[16])[matrix] + first * of[7], SIZE, of[7], height, values)
        scores(y, row, a, words[3] + matrix * panels * values * WIDTH * SIZE, values, 0, last)
        for r in range(height):
            place = matrix * queries + first + r
            count = min(keys, first + r + 1) if of[10] else keys
            mask = words[5] + at_int64(of[15])[matrix] + (first + r) * of[8] if of[11] else 0
            e, dp = at_T(x + r * row), at_T(y + r * row)
            total, shift = softmax(e, count, last, scale, mask, of[9], of[11])
            inverse = T_ONE / total
            mean = weighted(e, dp, count) * inverse
            at_T(words[8])[place], at_T(words[9])[place], at_T(words[10])[place] = shift, inverse, mean
            cotangents(e, dp, count, inverse, mean)
        out = words[0] + (matrix * queries + first) * features * SIZE
        product(out, features * SIZE, x, row, words[4] + at_int64(of[13])[matrix], of[5], 0, last, features, height)
        for r in range(height):
            scaled_row(at_T(out + r * features * SIZE), features, scale)
    free_slot(words[11], slot)
"""
# Words: the cotangents of k and v, k, v, packed q, packed cotangent, q, the cotangent, mask, the layout, what the queries
# left, then the threads' scratch. A unit is a tile's rows of keys.
_KEYS = """
@inline
def probabilities(x, first, last, scale, mask, step, kind, shifts, inverses):
    for i in range(first, last):
        x[i] = x[i] * scale
    if kind:
        masked(x, first, last, mask, step, kind)
    for i in range(first, last):
        x[i] = exp_T(x[i] - shifts[i]) * inverses[i]

@inline
def cotangents(x, y, first, last, means):
    for i in range(first, last):
        y[i] = x[i] * (y[i] - means[i])

def kernel(lo, hi, args):
    words = at_int64(args)
    of = at_int64(words[9])
    queries, keys, features, values, row = of[0], of[1], of[2], of[3], of[17]
    scale = at_T(of[18])[0]
    tiles, panels = (keys + HEIGHT - 1) // HEIGHT, (queries + WIDTH - 1) // WIDTH
    slot = take_slot(words[13], words[16])
    x = words[14] + slot * words[15]
    y, a = x + HEIGHT * row, x + 2 * HEIGHT * row
    for unit in range(lo, hi):
        matrix = unit // tiles
        first = (unit - matrix * tiles) * HEIGHT
        height = min(keys - first, HEIGHT)
        start = min(first, queries) if of[10] else 0
        pack(a, words[2] + at_int64(of[13])[matrix] + first * of[5], SIZE, of[5], height, features)
        scores(x, row, a, words[4] + matrix * panels * features * WIDTH * SIZE, features, start, queries)
        pack(a, words[3] + at_int64(of[14])[matrix] + first * of[6], SIZE, of[6], height, values)
        scores(y, row, a, words[5] + matrix * panels * values * WIDTH * SIZE, values, start, queries)
        left = matrix * queries * SIZE
        shifts, inverses, means = at_T(words[10] + left), at_T(words[11] + left), at_T(words[12] + left)
        for r in range(height):
            since = min(first + r, queries) if of[10] else 0
            mask = words[8] + at_int64(of[15])[matrix] + (first + r) * of[9] if of[11] else 0
            p, ds = at_T(x + r * row), at_T(y + r * row)
            for i in range(start, since):
                p[i] = T_ZERO
                ds[i] = T_ZERO
            probabilities(p, since, queries, scale, mask, of[8], of[11], shifts, inverses)
            cotangents(p, ds, since, queries, means)
        out = words[0] + (matrix * keys + first) * features * SIZE
        product(out, features * SIZE, y, row, words[6] + at_int64(of[12])[matrix], of[4], start, queries, features, height)
        for r in range(height):
            scaled_row(at_T(out + r * features * SIZE), features, scale)
        out = words[1] + (matrix * keys + first) * values * SIZE
        product(out, values * SIZE, x, row, words[7] + at_int64(of[16])[matrix], of[7], start, queries, values, height)
    free_slot(words[13], slot)
"""
_SOURCES = {
    "pack": _PACK,
    "forward": _SHARED + _FORWARD,
    "queries": _SHARED + _QUERIES,
    "keys": _SHARED + _KEYS,
}


@cache
def _kernel(name: str, dtype: str) -> int:
    shape = geometry(dtype)
    head = f"""
T, SIZE, LANES, HEIGHT = {dtype!r}, {np.dtype(dtype).itemsize}, {shape.lanes}, {shape.direct_height}
VECTORS, WIDTH, at_T, exp_T = {shape.vectors}, {shape.width}, at_{dtype}, exp_{dtype}
T_ZERO, T_ONE, T_INF = {dtype}(0), {dtype}(1), {dtype}(inf)
"""
    return native.address(head + _SOURCES[name])


class _Operand:
    """An operand with contiguous rows, and where its matrices are."""

    def __init__(self, x: ndarray, batch: tuple[int, ...]) -> None:
        self.array = x if x.shape[-1] == 1 or x.strides[-1] == x.itemsize else np.ascontiguousarray(x)
        self.row = self.array.strides[-2]
        self.offsets = offsets(self.array, batch)

    def packed(self) -> ndarray:
        """The transpose of each matrix in panels of columns."""
        x = self.array
        shape = geometry(x.dtype.name)
        rows, features = x.shape[-2:]
        panels = self.offsets.size * -(-rows // shape.width)
        size = panels * features * shape.width
        out = pool.empty((size,), x.dtype, size * x.itemsize)
        chunk = max(1, min(panels, (1 << 15) // (features * shape.width)))
        return team.launch(
            _kernel("pack", x.dtype.name), panels, chunk, out, x, self.offsets, rows, features, self.row
        )


class _Job:
    """What the kernels of one call share."""

    def __init__(
        self,
        q: ndarray,
        k: ndarray,
        v: ndarray,
        g: ndarray | None,
        mask: Any,
        causal: bool,
        scale: float | None,
    ) -> None:
        self.batch = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
        self.q, self.k, self.v = (_Operand(x, self.batch) for x in (q, k, v))
        self.g = None if g is None else _Operand(g, self.batch)
        self.matrices = math.prod(self.batch)
        (self.queries, self.features), (self.keys, self.values) = q.shape[-2:], v.shape[-2:]
        self.dtype, self.size = q.dtype, q.itemsize
        self.name, self.geometry = q.dtype.name, geometry(q.dtype.name)
        self.mask: Any = 0 if mask is None else mask
        kind = 0 if mask is None else 1 if mask.dtype.kind == "b" else 2
        if mask is not None:
            mask = np.broadcast_to(mask, (*mask.shape[:-2], self.queries, self.keys))
        self.mask_offsets = np.zeros(1, np.int64) if mask is None else offsets(mask, self.batch)
        self.scale = np.array([1 / math.sqrt(self.features) if scale is None else scale], self.dtype)
        most = max(self.queries, self.keys)
        self.row = (-(-most // self.geometry.width) * self.geometry.width + 16) * self.size
        self.layout = np.array([
            self.queries, self.keys, self.features, self.values, self.q.row, self.k.row, self.v.row,
            0 if self.g is None else self.g.row, *((0, 0) if mask is None else mask.strides[-2:]), causal, kind,
            *(x.ctypes.data for x in (self.q.offsets, self.k.offsets, self.v.offsets, self.mask_offsets)),
            0 if self.g is None else self.g.offsets.ctypes.data, self.row, self.scale.ctypes.data,
        ], np.int64)  # fmt: skip

    def empty(self, *shape: int) -> ndarray:
        return pool.empty((*self.batch, *shape), self.dtype, self.matrices * math.prod(shape) * self.size)

    def launch(self, name: str, rows: int, buffers: int, out: ndarray, *words: Any) -> ndarray:
        """Start a kernel whose units are tiles of `rows` rows of each matrix, with so many rows of scores."""
        height = self.geometry.direct_height
        units = self.matrices * -(-rows // height)
        most = max(self.features, self.values, self.geometry.lanes)
        memory = scratch(height * (buffers * self.row + (most + self.geometry.lanes) * self.size))
        chunk = max(1, min(16, units // (PARTS * team.get_num_threads())))
        if units * height * self.row * self.features < 1 << 18:
            chunk = units
        return team.launch(_kernel(name, self.name), units, chunk, out, *words, *memory)


def _fits(q: ndarray, k: ndarray, v: ndarray, mask: Any) -> bool:
    """Whether the operands are for these kernels; what is wrong with them, a body says."""
    if min(q.ndim, k.ndim, v.ndim) < 2 or not (q.size and k.size and v.size):
        return False
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2] or q.size * k.shape[-2] < WORTHWHILE:
        return False
    return mask is None or mask.dtype.kind == "b" or mask.dtype == q.dtype


def make_attention(dtype: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel of `scaled_dot_product_attention`, with the op's body for what it does not do."""

    def attention(
        q: ndarray, k: ndarray, v: ndarray, mask: Any = None, /, *, causal: bool, scale: float | None
    ) -> ndarray:  # fmt: skip
        if not _fits(q, k, v, mask):
            return body(q, k, v, mask, causal=causal, scale=scale)
        job = _Job(q, k, v, None, mask, causal, scale)
        out = job.empty(job.queries, job.values)
        packed = job.k.packed()
        return job.launch(
            "forward", job.queries, 1, out, job.q.array, packed, job.v.array, job.mask, job.layout
        )

    return attention


def make_attention_gradient(dtype: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel of `attention_gradient`, with the op's body for what it does not do."""

    def attention_gradient(
        cotangent: ndarray, q: ndarray, k: ndarray, v: ndarray, mask: Any = None, /, *, causal: bool, scale: float | None
    ) -> tuple[ndarray, ...]:  # fmt: skip
        same = q.shape[:-2] == k.shape[:-2] == v.shape[:-2]
        if not same or not _fits(q, k, v, mask) or cotangent.shape != (*q.shape[:-1], v.shape[-1]) or (
            mask is not None and mask.dtype.kind != "b"
        ):  # fmt: skip
            return body(cotangent, q, k, v, mask, causal=causal, scale=scale)
        job = _Job(q, k, v, cotangent, mask, causal, scale)
        assert job.g is not None
        q_out, k_out, v_out = (job.empty(*x.shape[-2:]) for x in (q, k, v))
        left = tuple(job.empty(job.queries) for _ in range(3))
        q, k, v, g = (x.array for x in (job.q, job.k, job.v, job.g))
        job.launch(
            "queries", job.queries, 2, q_out, q, job.k.packed(), job.v.packed(), k, job.mask, g, job.layout, *left
        )  # fmt: skip
        job.launch(
            "keys", job.keys, 2, k_out, v_out, k, v, job.q.packed(), job.g.packed(), q, g, job.mask, job.layout, *left
        )  # fmt: skip
        return q_out, k_out, v_out

    return attention_gradient

"""Products of matrices of short numbers: int8 to int32, exactly, and bfloat16 and float16, with sums in float32 that are
rounded once.

Both operands are packed: into words of several numbers, and only there into wider ones where the machine has no product
of the short ones (vdots.py says which kind of words serves where). `whole` packs what a unit of work needs and is one
call of a kernel; for large matrices B is packed once by all threads, as in gemm.py, whose blocks these are.

Which kernel a product takes, and how its sum over k is cut, depends on its shape only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from . import casts, contract, native, pool
from . import launch as team
from .gemm import PARALLEL, PARTS, geometry, scratch
from .quiet import named

RESULTS = {"int8": "int32", "bfloat16": "bfloat16", "float16": "float16"}
WHOLE = 1 << 21  # multiplications up to which a product is one call of a kernel that packs both operands
BLOCK = 1 << 18  # bytes of packed rows of A that a unit of such a call has at most
_BYTE = np.dtype(np.uint8)
DEPTH = 1024  # words of a panel that pass at a time

_HEAD = """
pack_a, pack_b = group_packer(KIND, HEIGHT, LANES, True), group_packer(KIND, WIDTH, LANES, False)
A_LINE, B_LINE = (HEIGHT + LANES - 1) // LANES * LANES * 4, WIDTH * 4  # bytes of the line behind a panel

inside, at_edge = (dot_tile(KIND, HEIGHT, VECTORS, LANES, edge) for edge in (False, True))

@inline
def product(a, b, depth, c, c_row, add, height, width):
    starts = a + depth * HEIGHT * 4
    if height == HEIGHT and width == WIDTH:
        inside(a, b, WIDTH * 4, depth, c, c_row, starts, add, HEIGHT, WIDTH)
    else:
        at_edge(a, b, WIDTH * 4, depth, c, c_row, starts, add, height, width)

@inline
def rounded(c, c_row, out, out_row, height, width):
    for i in range(height):
        sums, numbers = at_float32(c + i * c_row), at_RESULT(out + i * out_row)
        for j in range(width):
            numbers[j] = to_RESULT(sums[j])
"""
# The machine's product of bfloat16 takes subnormal numbers for 0. Where the smallest of both operands multiply to more
# than 2**-112, no product and, all of them being multiples of its last place, no sum is subnormal. A magnitude's bits
# have the exponent plus 127 from bit 7 on.
_BFLOAT = """
quick, exact = product, dot_tile("bfloat16 exactly", HEIGHT, VECTORS, LANES, True)

@inline
def product(a, b, depth, c, c_row, add, height, width):
    first = (at_int32(a + depth * HEIGHT * 4)[0] + 1) >> 7
    second = (at_int32(b + depth * WIDTH * 4)[0] + 1) >> 7
    if first > 0 and second > 0 and first + second >= 142:
        quick(a, b, depth, c, c_row, add, height, width)
    else:
        exact(a, b, WIDTH * 4, depth, c, c_row, 0, add, height, width)
"""
# Words: packed B, B, columns, depth, bytes from row to row and from column to column, then the threads' scratch. A unit is
# a panel.
_PACK = """
def kernel(lo, hi, args):
    words = at_int64(args)
    columns, depth, row_step, column_step = words[2], words[3], words[4], words[5]
    panel = (depth + GROUP - 1) // GROUP * SPREAD * WIDTH * 4 + B_LINE
    slot = take_slot(words[6], words[9])
    for unit in range(lo, hi):
        first = unit * WIDTH
        source, count = words[1] + first * column_step, min(columns - first, WIDTH)
        pack_b(words[0] + unit * panel, source, row_step, column_step, count, depth, words[7] + slot * words[8])
    free_slot(words[6], slot)
"""
# Words: sums, A, packed B, rows, columns, depth, bytes of A from row to row and from column to column, of sums from row to
# row (or 0: they stay with the thread), parts of the rows, parts of the columns, whether to add, where rounded sums go (or
# 0), bytes there from row to row, then the threads' scratch.
_MULTIPLY = """
def kernel(lo, hi, args):
    words = at_int64(args)
    rows, columns, depth, row_step, column_step, c_row = words[3], words[4], words[5], words[6], words[7], words[8]
    row_parts, column_parts, add, out, out_row = words[9], words[10], words[11], words[12], words[13]
    tiles, panels = (rows + HEIGHT - 1) // HEIGHT, (columns + WIDTH - 1) // WIDTH
    lines = (depth + GROUP - 1) // GROUP * SPREAD
    a_panel, b_panel = lines * HEIGHT * 4 + A_LINE, lines * WIDTH * 4 + B_LINE
    slot = take_slot(words[14], words[17])
    spare = words[15] + slot * words[16]
    block = spare + HEIGHT * WIDTH * 4
    buffer = block + a_panel + 256
    packed = -1
    for unit in range(lo, hi):
        row_part = unit // column_parts
        column_part = unit - row_part * column_parts
        first, last = tiles * row_part // row_parts, tiles * (row_part + 1) // row_parts
        if packed != row_part:
            packed = row_part
            for t in range(first, last):
                source, at = words[1] + t * HEIGHT * row_step, buffer + (t - first) * a_panel
                pack_a(at, source, column_step, row_step, min(rows - t * HEIGHT, HEIGHT), depth, block)
        for panel in range(panels * column_part // column_parts, panels * (column_part + 1) // column_parts):
            b, width = words[2] + panel * b_panel, min(columns - panel * WIDTH, WIDTH)
            for t in range(first, last):
                a, height = buffer + (t - first) * a_panel, min(rows - t * HEIGHT, HEIGHT)
                c, step = spare, WIDTH * 4
                if c_row:
                    c, step = words[0] + t * HEIGHT * c_row + panel * WIDTH * 4, c_row
                product(a, b, lines, c, step, add, height, width)
                if out:
                    rounded(c, step, out + t * HEIGHT * out_row + panel * WIDTH * 2, out_row, height, width)
    free_slot(words[14], slot)
"""
# Words: C, A, B, rows, columns, depth, bytes of A from row to row and from column to column, the same of B, bytes from
# matrix to matrix of A and of B, or tables of their offsets, parts of the rows, parts of the columns, words of a panel that
# pass at a time, bytes of a number of C, then the threads' scratch.
_WHOLE = """
def kernel(lo, hi, args):
    words = at_int64(args)
    rows, columns, depth = words[3], words[4], words[5]
    a_row, a_column, b_row, b_column = words[6], words[7], words[8], words[9]
    row_parts, column_parts, passing, size = words[14], words[15], words[16], words[17]
    tiles, panels = (rows + HEIGHT - 1) // HEIGHT, (columns + WIDTH - 1) // WIDTH
    lines = (passing + GROUP - 1) // GROUP * SPREAD
    a_panel, b_panel = lines * HEIGHT * 4 + A_LINE, lines * WIDTH * 4 + B_LINE
    slot = take_slot(words[18], words[21])
    spare = words[19] + slot * words[20]
    right = spare + b_panel + 256
    sums = right + b_panel + 256
    left = sums + tiles * HEIGHT * WIDTH * 4
    passes = (depth + passing - 1) // passing
    packed = -1
    for unit in range(lo, hi):
        rest = unit // column_parts
        column_part = unit - rest * column_parts
        matrix = rest // row_parts
        row_part = rest - matrix * row_parts
        c = words[0] + matrix * rows * columns * size
        a = words[1] + (at_int64(words[12])[matrix] if words[12] else matrix * words[10])
        b = words[2] + (at_int64(words[13])[matrix] if words[13] else matrix * words[11])
        first, last = tiles * row_part // row_parts, tiles * (row_part + 1) // row_parts
        if packed != rest:
            packed = rest
            for t in range(first, last):
                height = min(rows - t * HEIGHT, HEIGHT)
                for p in range(passes):
                    count = min(depth - p * passing, passing)
                    at = left + ((t - first) * passes + p) * a_panel
                    pack_a(at, a + t * HEIGHT * a_row + p * passing * a_column, a_column, a_row, height, count, spare)
        for panel in range(panels * column_part // column_parts, panels * (column_part + 1) // column_parts):
            width = min(columns - panel * WIDTH, WIDTH)
            for p in range(passes):
                count = min(depth - p * passing, passing)
                source = b + panel * WIDTH * b_column + p * passing * b_row
                pack_b(right, source, b_row, b_column, width, count, spare)
                for t in range(first, last):
                    height = min(rows - t * HEIGHT, HEIGHT)
                    place, step = c + (t * HEIGHT * columns + panel * WIDTH) * size, columns * size
                    at, at_row = place, step
                    if size == 2:
                        at, at_row = sums + (t - first) * HEIGHT * WIDTH * 4, WIDTH * 4
                    pieces = (count + GROUP - 1) // GROUP * SPREAD
                    product(left + ((t - first) * passes + p) * a_panel, right, pieces, at, at_row, p, height, width)
                    if size == 2 and p == passes - 1:
                        rounded(at, at_row, place, step, height, width)
    free_slot(words[18], slot)
"""
_SOURCES = {"pack": _PACK, "multiply": _MULTIPLY, "whole": _WHOLE}


class Shape(NamedTuple):
    """The kind of words, the numbers in one as it is packed, and what becomes of it; the tile, in words."""

    kind: str
    group: int
    spread: int
    height: int
    vectors: int
    lanes: int
    block: int

    @property
    def width(self) -> int:
        """Columns of a panel."""
        return self.vectors * self.lanes

    def panel(self, width: int, depth: int) -> int:
        """Bytes of a panel of so many numbers along k, and of the line behind it."""
        line = -(-width // self.lanes) * self.lanes
        return (-(-depth // self.group) * self.spread * width + line) * 4


@cache
def shape_of(element: str) -> Shape:
    """The shape of products of a dtype on this machine."""
    from .vdots import WIDENED, product_kind

    kind, tile = product_kind(element), geometry("float32")
    height = tile.height
    if kind == "bfloat16 exactly":  # which takes two registers for each word
        height = tile.direct_height if tile.registers == 32 else 4
    spread = 2 if kind in WIDENED else 1
    return Shape(kind, 4 if element == "int8" else 2, spread, height, tile.vectors, tile.lanes, tile.block)


@cache
def _kernel(name: str, element: str) -> int:
    s = shape_of(element)
    text = f"KIND, GROUP, SPREAD = {s.kind!r}, {s.group}, {s.spread}\n"
    text += f"HEIGHT, VECTORS, LANES, WIDTH = {s.height}, {s.vectors}, {s.lanes}, {s.width}\n"
    text += _HEAD.replace("RESULT", RESULTS[element]) + (_BFLOAT if s.kind == "bfloat16" else "")
    return native.address(text + _SOURCES[name])


class Narrow:
    """The compiled product of matrices of one short dtype. No operand is empty."""

    def __init__(self, element: str) -> None:
        self.element, self.dtype = element, named(RESULTS[element])
        self.size = named(element).itemsize
        self._plans: dict[tuple[int, ...], tuple[int, ...]] = {}

    def _address(self, name: str) -> int:
        return _kernel(name, self.element)

    def dots(self, a: ndarray, x: ndarray, out: ndarray) -> ndarray:
        """The product of a matrix and a vector."""
        return self.direct(a, x.reshape(-1, 1), out, 1, (0, 0, 0, 0))

    def direct(self, a: ndarray, b: ndarray, out: ndarray, batch: int, steps: tuple[Any, ...]) -> ndarray:
        """Products of `batch` pairs of matrices; `steps` as in gemm.py."""
        (rows, depth), columns = a.shape[-2:], b.shape[-1]
        shape = shape_of(self.element)
        tiles, panels = -(-rows // shape.height), -(-columns // shape.width)
        work = rows * depth * columns
        if batch == 1 and work > WHOLE and rows > shape.height:
            return self.packed(a, b, out)
        passing = min(depth, DEPTH * shape.group // shape.spread)
        passes = -(-depth // passing)
        left = shape.panel(shape.height, passing) * passes
        row_parts = min(tiles, -(-tiles * left // BLOCK))
        column_parts, units = 1, batch * row_parts
        chunk = units
        if batch * work >= 4 * PARALLEL:
            wanted = PARTS * team.get_num_threads()
            if units < wanted:
                column_parts = min(panels, -(-wanted // units))
            units *= column_parts
            chunk = max(units // wanted, 1)
        room = 2 * shape.panel(shape.width, passing) + 512 + tiles * shape.height * shape.width * 4
        room += (-(-tiles // row_parts)) * left + 256
        return team.launch(
            self._address("whole"), units, chunk, out, a, b, rows, columns, depth, *a.strides[-2:], *b.strides[-2:],
            *steps, row_parts, column_parts, passing, out.itemsize, *scratch(room),
        )  # fmt: skip

    def packed(self, a: ndarray, b: ndarray, out: ndarray) -> ndarray:
        """The product of two matrices, of which B is packed once."""
        (rows, depth), columns = a.shape, b.shape[1]
        threads = team.get_num_threads()
        found = self._plans.get((rows, depth, columns, threads))
        if found is None:
            if len(self._plans) > 1000:
                self._plans.clear()
            found = self._plans[rows, depth, columns, threads] = self._plan(rows, depth, columns, threads)
        passing, panels, row_parts, column_parts, length, spare, room = found
        buffer = pool.empty((length,), _BYTE, length)
        pack, multiply = self._address("pack"), self._address("multiply")
        wide = self.dtype.itemsize == 4
        sums = out
        if not wide and passing < depth:
            sums = pool.empty((rows, columns), np.dtype(np.float32), rows * columns * 4)
        c_row = sums.strides[0] if wide or passing < depth else 0
        for k in range(0, depth, passing):
            count = min(depth - k, passing)
            source, left = (b, a) if count == depth else (b[k : k + passing], a[:, k : k + passing])
            team.launch(
                pack, panels, max(panels // (2 * threads), 1), buffer, source, columns, count, *b.strides, *scratch(spare)
            )  # fmt: skip
            last = not wide and k + passing >= depth
            team.launch(
                multiply, row_parts * column_parts, 1, sums, left, buffer, rows, columns, count,
                *a.strides, c_row, row_parts, column_parts, k, out if last else 0, out.strides[0], *scratch(room),
            )  # fmt: skip
        return out

    def _plan(self, rows: int, depth: int, columns: int, threads: int) -> tuple[int, ...]:
        """How a large product is cut, and the bytes of packed B, and of each thread's memory for the two kernels."""
        shape = shape_of(self.element)
        passes = -(-depth // (DEPTH * shape.group // shape.spread))
        passing = -(-depth // (passes * shape.group)) * shape.group
        tiles, panels = -(-rows // shape.height), -(-columns // shape.width)
        row_parts = -(-tiles // shape.block)
        if row_parts > 1:
            row_parts = -(-row_parts // threads) * threads
        column_parts = (
            min(panels, -(-PARTS * threads // row_parts)) if row_parts < PARTS * threads // 2 else 1
        )
        left, right = shape.panel(shape.height, passing), shape.panel(shape.width, passing)
        room = shape.height * shape.width * 4 + (-(-tiles // row_parts) + 1) * left + 512
        return passing, panels, row_parts, column_parts, panels * right + 256, right + 256, room


def make_product(element: str) -> Callable[[ndarray, ndarray], ndarray]:
    """The kernel of a product of operands of a short dtype."""
    if element == "float16" and not native.has_float16():
        return _by_float32(element)
    product = Narrow(element)

    def matmul(x1: ndarray, x2: ndarray, /) -> ndarray:
        if x1.ndim == 2 == x2.ndim and x1.size and x2.size and x1.shape[1] == x2.shape[0]:
            kept = (x1.shape[0], x2.shape[1])
            out = pool.empty(kept, product.dtype, kept[0] * kept[1] * product.dtype.itemsize)
            return product.direct(x1, x2, out, 1, (0, 0, 0, 0))
        a = x1 if x1.ndim > 1 else x1[None]
        b = x2 if x2.ndim > 1 else x2[:, None]
        if a.shape[-1] != b.shape[-2]:
            raise ValueError(f"shapes {x1.shape} and {x2.shape} do not fit")
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        rows, columns = a.shape[-2], b.shape[-1]
        size = math.prod(batch) * rows * columns
        out = pool.empty((*batch, rows, columns), product.dtype, size * product.dtype.itemsize)
        if not a.size or not b.size:
            out.view(np.uint8).fill(0)
        elif size:
            contract._batches(product, a, b, out, batch)  # type: ignore[arg-type]
        kept = (*batch, *(x1.shape[-2:-1] if x1.ndim > 1 else ()), *(x2.shape[-1:] if x2.ndim > 1 else ()))
        return out.reshape(kept)

    return matmul


def _by_float32(element: str) -> Callable[[ndarray, ndarray], ndarray]:
    """Where the machine does not cast."""
    wide, back, product = (
        casts.cast(element, "float32"),
        casts.cast("float32", element),
        contract.make_matmul("float32"),
    )
    return lambda x1, x2, /: back(product(wide(x1), wide(x2)))

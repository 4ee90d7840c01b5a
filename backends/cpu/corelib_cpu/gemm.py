"""Products of matrices of floats: C = A B for operands of any strides.

Three kernels do it. `small` takes matrices of a few rows and columns from NumPy's array objects themselves, because
reading shapes and strides in Python costs more than the product. `direct` reads A and B where they stand, and serves
operands that fit into a cache, batches of them, and few rows. For the rest B is packed once, by all threads, into
panels as wide as a tile; a unit of work is then a block of rows, which is packed by the thread that takes it and meets
every panel. See tile() in simd.py for the innermost loop.

`small` may end with an epilogue: a kernel over the elements of C, which is still in the first cache. For larger products that does
not pay: of 1024 x 256 x 1024 on 2.4 ms, adding a bias costs 0.06 ms as a kernel of its own, and 0.10 to 0.17 after each block of rows,
because what it reads drives the panels of B out of the second cache.

How the sum over k is cut depends on the shape only, so that results do not depend on the number of threads.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy import ndarray

from . import launch as team
from . import native, pool

PARALLEL = 1 << 19  # multiplications from which a second thread pays
CACHED = 1 << 18  # bytes of B up to which it is read where it stands
FEW = 16  # rows up to which B is read where it stands, because packing it reads it as often
PARTS = 4  # units of work for each thread: on a busy machine one thread does more of them than another


@dataclass(frozen=True)
class Geometry:
    """The shape of the tile in registers, and of the blocks in the caches."""

    lanes: int
    height: int  # rows of a tile of packed operands, a multiple of `lanes` or less than that
    vectors: int  # vectors side by side in a tile
    direct_height: int  # rows of a tile of operands that are not packed
    depth: int  # rows of B that pass at a time
    block: int  # tiles of a block of rows, which with `depth` fills most of the second cache
    columns: int = 4096  # columns of B that pass at a time
    registers: int = 32

    @property
    def width(self) -> int:
        return self.lanes * self.vectors


@cache
def geometry(dtype: str) -> Geometry:
    """What this machine's registers hold: 32 of 64 bytes, 16 of 32, or what there is elsewhere."""
    size = np.dtype(dtype).itemsize
    lanes = native.vector_bytes() // size
    single = size == 4
    if native.vector_bytes() == 64:
        return Geometry(16, 14, 2, 8, 1024, 8) if single else Geometry(8, 8, 3, 8, 512, 14, 2040)
    if native.vector_bytes() == 32:
        shape = (8, 6, 2, 6, 512, 16, 4096, 16) if single else (4, 4, 3, 4, 256, 24, 2040, 16)
        return Geometry(*shape)
    if platform.machine().lower() in ("arm64", "aarch64"):
        return Geometry(lanes, 8, 2, 8, 512, 12)
    return Geometry(lanes, 4, 2, 4, 512, 24, 4096, 16)


# The head of every kernel names the shape of a tile: T, SIZE, LANES, HEIGHT, VECTORS, WIDTH.
# Words: packed B, B, columns, depth, bytes from row to row, from column to column, panels. A unit is four panels, so
# that a row of B is read in long runs.
_PACK = """
pack, line = panel_packer(T, WIDTH, LANES), copy_line(T, VECTORS, LANES, False)

def kernel(lo, hi, args):
    words = at_int64(args)
    columns, depth, row_step, column_step, panels = words[2], words[3], words[4], words[5], words[6]
    for unit in range(lo, hi):
        first = unit * 4
        last = min(first + 4, panels)
        if column_step == SIZE and last * WIDTH <= columns:
            for k in range(depth):
                for panel in range(first, last):
                    source = words[1] + k * row_step + panel * WIDTH * SIZE
                    line(source, words[0] + (panel * depth + k) * WIDTH * SIZE, WIDTH)
        else:
            for panel in range(first, last):
                source, out = words[1] + panel * WIDTH * column_step, words[0] + panel * depth * WIDTH * SIZE
                pack(out, source, row_step, column_step, min(columns - panel * WIDTH, WIDTH), depth)
"""
# Words: C, A, packed B, rows, columns, depth, bytes of A from row to row and from column to column, of C from row to
# row, parts of the rows, parts of the columns, whether to add, then the threads' scratch.
_MULTIPLY = """
pack = panel_packer(T, HEIGHT, LANES)
tile, tile_edge = (matrix_tile(T, HEIGHT, VECTORS, LANES, True, edge) for edge in (False, True))

def kernel(lo, hi, args):
    words = at_int64(args)
    rows, columns, depth, row_step, column_step, c_row = words[3], words[4], words[5], words[6], words[7], words[8]
    row_parts, column_parts, add = words[9], words[10], words[11]
    tiles, panels = (rows + HEIGHT - 1) // HEIGHT, (columns + WIDTH - 1) // WIDTH
    slot = take_slot(words[12], words[15])
    scratch = words[13] + slot * words[14]
    packed = -1
    for unit in range(lo, hi):
        row_part = unit // column_parts
        column_part = unit - row_part * column_parts
        first, last = tiles * row_part // row_parts, tiles * (row_part + 1) // row_parts
        if packed != row_part:
            packed = row_part
            for t in range(first, last):
                source, out = words[1] + t * HEIGHT * row_step, scratch + (t - first) * depth * HEIGHT * SIZE
                pack(out, source, column_step, row_step, min(rows - t * HEIGHT, HEIGHT), depth)
        for panel in range(panels * column_part // column_parts, panels * (column_part + 1) // column_parts):
            b = words[2] + panel * depth * WIDTH * SIZE
            width = min(columns - panel * WIDTH, WIDTH)
            for t in range(first, last):
                a = scratch + (t - first) * depth * HEIGHT * SIZE
                height = min(rows - t * HEIGHT, HEIGHT)
                c = words[0] + t * HEIGHT * c_row + panel * WIDTH * SIZE
                if height == HEIGHT and width == WIDTH:
                    tile(a, 0, 0, b, WIDTH * SIZE, depth, c, c_row, add, HEIGHT, WIDTH)
                else:
                    tile_edge(a, 0, 0, b, WIDTH * SIZE, depth, c, c_row, add, height, width)
    free_slot(words[12], slot)
"""
# Words: C, A, B, rows, columns, depth, bytes of A from row to row and from column to column, the same of B, bytes from
# matrix to matrix of A and of B, or tables of their offsets, parts of the rows, parts of the columns, rows of B that
# pass at a time, whether panels of B are packed, then the threads' scratch.
_DIRECT = """
pack, column = panel_packer(T, WIDTH, LANES), tile_column(T, HEIGHT, VECTORS, LANES)

def kernel(lo, hi, args):
    words = at_int64(args)
    rows, columns, depth = words[3], words[4], words[5]
    a_row, a_column, b_row, b_column = words[6], words[7], words[8], words[9]
    row_parts, column_parts, passing, packs = words[14], words[15], words[16], words[17]
    tiles, panels = (rows + HEIGHT - 1) // HEIGHT, (columns + WIDTH - 1) // WIDTH
    c_row = columns * SIZE
    slot, scratch = 0, 0
    if packs:
        slot = take_slot(words[18], words[21])
        scratch = words[19] + slot * words[20]
    for unit in range(lo, hi):
        rest = unit // column_parts
        column_part = unit - rest * column_parts
        matrix = rest // row_parts
        row_part = rest - matrix * row_parts
        c = words[0] + matrix * rows * c_row
        a = words[1] + (at_int64(words[12])[matrix] if words[12] else matrix * words[10])
        b = words[2] + (at_int64(words[13])[matrix] if words[13] else matrix * words[11])
        first, last = tiles * row_part // row_parts * HEIGHT, min(tiles * (row_part + 1) // row_parts * HEIGHT, rows)
        for panel in range(panels * column_part // column_parts, panels * (column_part + 1) // column_parts):
            width = min(columns - panel * WIDTH, WIDTH)
            k = 0
            while k < depth:
                count = min(depth - k, passing)
                source, step = b + k * b_row + panel * WIDTH * b_column, b_row
                if packs:
                    pack(scratch, source, b_row, b_column, width, count)
                    source, step = scratch, WIDTH * SIZE
                column(a + k * a_column, a_row, a_column, source, step, count, c + panel * WIDTH * SIZE, c_row, k,
                       first, last, width)
                k += count
    if packs:
        free_slot(words[18], slot)
"""
# Words: C, A, B, the array objects of A and B, whose shapes and strides stand behind pointers in them, then the address of the
# epilogue, or 0, and its words.
_SMALL = """
pack, column = panel_packer(T, WIDTH, LANES), tile_column(T, HEIGHT, VECTORS, LANES)

def kernel(lo, hi, args):
    words = at_int64(args)
    a_object, b_object = at_int64(words[3] + HEADER), at_int64(words[4] + HEADER)
    shape, a_steps, b_steps = at_int64(a_object[2]), at_int64(a_object[3]), at_int64(b_object[3])
    rows, depth, columns = shape[0], shape[1], at_int64(b_object[2])[1]
    scratch = stack_words(0)
    packs = b_steps[1] != SIZE
    passing = min(depth, 4096 // (WIDTH * SIZE)) if packs else depth
    for panel in range(0, columns, WIDTH):
        width = min(columns - panel, WIDTH)
        k = 0
        while k < depth:
            count = min(depth - k, passing)
            source, step = words[2] + k * b_steps[0] + panel * b_steps[1], b_steps[0]
            if packs:
                pack(scratch, source, b_steps[0], b_steps[1], width, count)
                source, step = scratch, WIDTH * SIZE
            column(words[1] + k * a_steps[1], a_steps[0], a_steps[1], source, step, count, words[0] + panel * SIZE,
                   columns * SIZE, k, 0, rows, width)
            k += count
    if words[5] != 0:
        call_kernel(words[5], 0, rows * columns, args + 8 * 6)
"""
# Words: out, A, x, depth, bytes from row to row. A unit is a row.
_DOTS = """
dots = dot_rows(T, HEIGHT, VECTORS, LANES)

def kernel(lo, hi, args):
    words = at_int64(args)
    for i in range(lo, hi, HEIGHT):
        dots(words[1] + i * words[4], words[4], words[2], words[3], words[0] + i * SIZE, SIZE, min(hi - i, HEIGHT))
"""
_SOURCES = {"pack": _PACK, "multiply": _MULTIPLY, "direct": _DIRECT, "small": _SMALL, "dots": _DOTS}


def scratch(size: int) -> tuple[ndarray, ndarray, int, int]:
    """Memory for each thread, as words for a kernel: flags that say what is taken, memory, bytes of each, how many."""
    count = team.get_num_threads()
    size = -(-size // 64) * 64 + 64
    return (
        np.zeros(8 * count, np.int64),
        pool.empty((count * size,), np.dtype(np.uint8), count * size),
        size,
        count,
    )


class Product:
    """The compiled product of matrices of one floating dtype. No operand is empty."""

    def __init__(self, dtype: str) -> None:
        self.dtype, self.name = np.dtype(dtype), dtype
        self.size = self.dtype.itemsize
        self._kernels: dict[tuple[str, int, int], int] = {}

    def kernel(self, name: str, height: int, vectors: int) -> int:
        """The address of a kernel for a tile of so many rows and vectors."""
        found = self._kernels.get((name, height, vectors))
        if found is None:
            lanes = self.geometry.lanes
            head = f"T, SIZE, LANES, HEIGHT = {self.name!r}, {self.size}, {lanes}, {height}\n"
            head += f"VECTORS, WIDTH = {vectors}, {vectors * lanes}\n"
            found = self._kernels[name, height, vectors] = native.address(head + _SOURCES[name])
        return found

    @property
    def geometry(self) -> Geometry:
        return geometry(self.name)

    @property
    def small(self) -> int:
        """The kernel of a product of two matrices of a few rows and columns."""
        return self.kernel("small", self.geometry.direct_height, self.geometry.vectors)

    def _tile(self, rows: int, columns: int) -> tuple[int, int]:
        """Rows and vectors of a tile that few rows, or few columns, fill: each row of B is read in long runs."""
        shape = self.geometry
        if rows <= 4:
            height = rows if rows < 3 else 4
            filled = 1 << (-(-columns // shape.lanes) - 1).bit_length()  # a power of two: few kernels
            return height, min(shape.registers // (2 * height), filled)
        if columns <= shape.lanes:
            return min(shape.registers // 2 - 2, 14), 1
        return shape.direct_height, shape.vectors

    def dots(self, a: ndarray, x: ndarray, out: ndarray) -> ndarray:
        """The product of a matrix whose rows are contiguous and a contiguous vector."""
        rows, depth = a.shape
        kernel = self.kernel("dots", 4, 2)
        chunk = rows if rows * depth < PARALLEL else -(-rows // (PARTS * team.get_num_threads()) // 4) * 4 + 4
        return team.launch(kernel, rows, chunk, out, a, x, depth, a.strides[0])

    def direct(self, a: ndarray, b: ndarray, out: ndarray, batch: int, steps: tuple[Any, ...]) -> ndarray:
        """Products of `batch` pairs of matrices, read where they stand.

        `steps` are bytes from matrix to matrix of A and of B, and tables of offsets, or 0.
        """
        (rows, depth), columns = a.shape[-2:], b.shape[-1]
        shape = self.geometry
        height, vectors = self._tile(rows, columns)
        b_row, b_column = b.strides[-2:]
        packs = b_column != self.size
        passing = min(depth, shape.depth) if packs else depth
        tiles, panels = -(-rows // height), -(-columns // (vectors * shape.lanes))
        row_parts = column_parts = 1
        chunk = units = batch
        if batch * rows * depth * columns >= PARALLEL:
            wanted = PARTS * team.get_num_threads()
            if batch < wanted:
                if packs:  # by columns first: two parts of the rows would pack the same panels
                    column_parts = min(panels, -(-wanted // batch))
                    row_parts = min(tiles, -(-wanted // (batch * column_parts)))
                else:
                    row_parts = min(tiles, -(-wanted // batch))
                    column_parts = min(panels, -(-wanted // (batch * row_parts)))
            units = batch * row_parts * column_parts
            chunk = max(units // wanted, 1)
        memory = scratch(passing * vectors * shape.lanes * self.size) if packs else (0, 0, 0, 0)
        return team.launch(
            self.kernel("direct", height, vectors), units, chunk, out, a, b, rows, columns, depth, *a.strides[-2:],
            b_row, b_column, *steps, row_parts, column_parts, passing, packs, *memory,
        )  # fmt: skip

    def packed(self, a: ndarray, b: ndarray, out: ndarray) -> ndarray:
        """The product of two matrices that are packed on the way."""
        (rows, depth), columns = a.shape, b.shape[1]
        shape, size = self.geometry, self.size
        threads = team.get_num_threads()
        height, width = shape.height, shape.lanes * shape.vectors
        passing = -(-depth // -(-depth // shape.depth))
        across = min(columns, shape.columns)
        tiles = -(-rows // height)
        row_parts = -(-tiles // shape.block)
        if row_parts > 1:
            row_parts = -(-row_parts // threads) * threads  # the threads finish together
        memory = scratch(-(-tiles // row_parts) * height * passing * size)
        length = -(-across // width) * width * passing * size
        buffer = pool.empty((length,), np.dtype(np.uint8), length)
        pack, multiply = (self.kernel(name, height, shape.vectors) for name in ("pack", "multiply"))
        for j in range(0, columns, across):
            b_part, c_part = b[:, j : j + across], out[:, j : j + across]
            panels = -(-b_part.shape[1] // width)
            column_parts = (
                min(panels, -(-PARTS * threads // row_parts)) if row_parts < PARTS * threads // 2 else 1
            )
            for k in range(0, depth, passing):
                source = b_part[k : k + passing]
                count = len(source)
                team.launch(
                    pack, -(-panels // 4), 1, buffer, source, source.shape[1], count, *source.strides, panels
                )
                team.launch(
                    multiply, row_parts * column_parts, 1, c_part, a[:, k : k + passing], buffer, rows, source.shape[1],
                    count, *a.strides, out.strides[0], row_parts, column_parts, k, *memory,
                )  # fmt: skip
        return out

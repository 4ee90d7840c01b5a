"""Products of matrices.

Small ones, integers and odd cases go to NumPy, which has OpenBLAS for floats. Larger products of floats are
cut into tiles and run by our own team: OpenBLAS hands each of its threads a fixed part and waits for all of
them, so that on a busy machine one product takes 20 ms instead of 0.2; ours waits for nobody. B is packed
into panels of a few vectors; a unit of work is a block of rows of A, for which the panels pass through the
cache.
"""

from __future__ import annotations

import math

import numpy as np
from numpy import ndarray

from . import launch as team
from . import native, pool
from .quiet import quiet

SMALLEST = 1 << 18  # multiplications below which OpenBLAS is as fast, and stays on one thread
PARALLEL = 1 << 19  # multiplications from which a second thread pays
DEPTH = 512  # rows of B that pass at a time: with a panel's width, what fits into the first two caches
BLOCK = 96  # rows of A in a unit of work, at most; a multiple of every tile's height

# Words: packed B, B, columns of B, depth, bytes from row to row, from column to column, from matrix to
# matrix, panels.
_PACK = """
def kernel(lo, hi, args):
    words = at_int64(args)
    columns, depth, row_step, column_step, panels = words[2], words[3], words[4], words[5], words[7]
    for unit in range(lo, hi):
        matrix = unit // panels
        first = (unit - matrix * panels) * {width}
        count = min(columns - first, {width})
        source = words[1] + matrix * words[6] + first * column_step
        for k in range(depth):
            out = at_{dtype}(words[0] + (unit * depth + k) * {width} * {size})
            if column_step == {size}:
                row = at_{dtype}(source + k * row_step)
                for j in range(count):
                    out[j] = row[j]
            else:
                for j in range(count):
                    out[j] = at_{dtype}(source + k * row_step + j * column_step)[0]
            for j in range(count, {width}):
                out[j] = {dtype}(0)
"""
# Words: C, A, packed B, rows, columns, depth, bytes of A from row to row, from column to column, from matrix
# to matrix, bytes of packed B from matrix to matrix, rows in a block, blocks in a matrix.
_MULTIPLY = """
tile = matrix_tile("{dtype}", {height}, {vectors}, {lanes})
line = matrix_tile("{dtype}", 1, {vectors}, {lanes})

def kernel(lo, hi, args):
    words = at_int64(args)
    rows, columns, depth, row_step, column_step = words[3], words[4], words[5], words[6], words[7]
    block, blocks = words[10], words[11]
    scratch = stack_words(0)
    edge = at_{dtype}(scratch)
    for unit in range(lo, hi):
        matrix = unit // blocks
        first = (unit - matrix * blocks) * block
        last = min(first + block, rows)
        source = words[1] + matrix * words[8]
        packed = words[2] + matrix * words[9]
        result = words[0] + matrix * rows * columns * {size}
        for k in range(0, depth, {depth}):
            count = min(depth - k, {depth})
            for j in range(0, columns, {width}):
                panel = packed + (j * depth + k * {width}) * {size}
                width = min(columns - j, {width})
                i = first
                while i < last:
                    a = source + i * row_step + k * column_step
                    c = result + (i * columns + j) * {size}
                    full = last - i >= {height}
                    height = {height} if full else 1
                    if width == {width}:
                        if full:
                            tile(a, row_step, column_step, panel, count, c, columns * {size}, k)
                        else:
                            line(a, row_step, column_step, panel, count, c, columns * {size}, k)
                    else:
                        if full:
                            tile(a, row_step, column_step, panel, count, scratch, {width} * {size}, 0)
                        else:
                            line(a, row_step, column_step, panel, count, scratch, {width} * {size}, 0)
                        for y in range(height):
                            out = at_{dtype}(c + y * columns * {size})
                            for x in range(width):
                                value = edge[y * {width} + x]
                                out[x] = value + out[x] if k else value
                    i += height
"""


class Product:
    """The compiled product of matrices of one floating dtype."""

    def __init__(self, dtype: str) -> None:
        self.dtype = np.dtype(dtype)
        size = self.dtype.itemsize
        lanes = native.vector_bytes() // size
        self.height, vectors = (12, 2) if native.vector_bytes() == 64 else (6, 2)
        self.width = vectors * lanes
        names = {
            "dtype": dtype, "size": size, "lanes": lanes, "vectors": vectors, "height": self.height, "width": self.width,
            "depth": DEPTH,
        }  # fmt: skip
        self._pack = native.address(_PACK.format(**names))
        self._multiply = native.address(_MULTIPLY.format(**names))

    def __call__(self, a: ndarray, b: ndarray) -> ndarray:
        """(batch, m, k) x (batch or 1, k, n) -> (batch, m, n), none of them empty."""
        batch, rows, depth = a.shape
        matrices, _, columns = b.shape
        size = self.dtype.itemsize
        panels = -(-columns // self.width)
        length = panels * depth * self.width * size  # bytes of one packed matrix
        packed = pool.empty((matrices * length,), np.dtype(np.uint8), matrices * length)
        units = matrices * panels
        parts = 4 * team.get_num_threads() if rows * columns * depth * batch >= PARALLEL else 1
        steps = b.strides
        words = (columns, depth, steps[1], steps[2], steps[0], panels)
        team.launch(self._pack, units, -(-units // parts), packed, b, *words)

        block = BLOCK if parts == 1 else -(-(batch * rows) // parts)
        block = min(max(-(-block // self.height) * self.height, self.height), BLOCK)
        blocks = -(-rows // block)
        out = pool.empty((batch, rows, columns), self.dtype, batch * rows * columns * size)
        steps = a.strides
        words = (rows, columns, depth, steps[1], steps[2], steps[0])
        chunk = batch * blocks if parts == 1 else max(batch * blocks // parts, 1)
        between = length if matrices > 1 else 0
        return team.launch(
            self._multiply, batch * blocks, chunk, out, a, packed, *words, between, block, blocks
        )


_products: dict[str, Product] = {}


def matmul(x1: ndarray, x2: ndarray, /) -> ndarray:
    if x1.ndim < 2 or x2.ndim < 2 or x1.size * x2.shape[-1] < SMALLEST or x1.dtype.kind != "f":
        return quiet(np.matmul, x1, x2)
    (rows, depth), columns = x1.shape[-2:], x2.shape[-1]
    if x2.shape[-2] != depth or not x1.flags.aligned or not x2.flags.aligned or not depth or not columns:
        return quiet(np.matmul, x1, x2)
    product = _products.get(x1.dtype.char)
    if product is None:
        product = _products[x1.dtype.char] = Product(x1.dtype.name)
    if x1.ndim == x2.ndim == 2:
        return product(x1[None], x2[None])[0]
    shape = np.broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
    batch = math.prod(shape)
    if (
        x2[..., 0, 0].size == 1
    ):  # one matrix B: the rows of all A are rows of one matrix where that is no copy
        b = x2.reshape(1, depth, columns)
        if x1.flags.c_contiguous and x1[..., 0, 0].size == batch:
            return product(x1.reshape(1, batch * rows, depth), b).reshape(*shape, rows, columns)
    else:
        b = np.broadcast_to(x2, (*shape, depth, columns)).reshape(batch, depth, columns)
    a = np.broadcast_to(x1, (*shape, rows, depth)).reshape(batch, rows, depth)
    return product(a, b).reshape(*shape, rows, columns)

"""Products of matrices, of every dtype and rank: which of the kernels of gemm.py does which.

Integers and odd cases go to NumPy. Which kernel a product of floats takes depends on its shape and strides alone, so that
the same operands give the same bits in every process. NumPy's library hands each of its threads a fixed part and waits for all of them, so that on a busy machine one product
takes 20 ms instead of 0.2; our team waits for nobody.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy import ndarray

from . import launch as team
from . import pool
from .gemm import CACHED, FEW, Product
from .movement import contiguous
from .quiet import quiet

SMALL = 1 << 18  # multiplications up to which a product is one call of a kernel, on one thread
FEWEST = 64  # multiplications up to which NumPy does a product, so that a tiny program needs no compiler
TINY = 1 << 15  # the same where one operand may be a vector


def make_matmul(dtype: str) -> Callable[[ndarray, ndarray], ndarray]:
    """The kernel of `matmul` for a dtype."""
    if dtype.startswith("complex"):
        return _complex_matmul(product_of("float32" if dtype == "complex64" else "float64"))
    if dtype not in ("float32", "float64"):
        return lambda x1, x2, /: quiet(np.matmul, x1, x2)
    product, kind, empty, small = product_of(dtype), np.dtype(dtype), np.empty, 0

    def matmul(x1: ndarray, x2: ndarray, /) -> ndarray:
        nonlocal small
        first, second = x1.shape, x2.shape
        if len(first) == 2 == len(second) and first[1] == second[0]:
            rows, depth = first
            columns = second[1]
            work = rows * depth * columns
            if work <= FEWEST:
                return quiet(np.matmul, x1, x2)
            if 0 < work and small_enough(rows, depth, columns):
                if not small:
                    small = product.small
                return team.launch(small, 1, 1, empty((rows, columns), kind), x1, x2, id(x1), id(x2), 0)
            if work:
                return _matrices(
                    product, x1, x2, pool.empty((rows, columns), kind, rows * columns * product.size)
                )
        return _matmul(product, x1, x2)

    return matmul


@cache
def product_of(dtype: str) -> Product:
    """The product of matrices of a dtype."""
    return Product(dtype)


def small_enough(rows: int, depth: int, columns: int) -> bool:
    """Whether a product of matrices is one call of the kernel for small ones, on one thread."""
    work = rows * depth * columns
    return work <= SMALL and (work <= TINY or (rows > 1 and columns > 1))


def launches(first: tuple[int, ...], second: tuple[int, ...], dtype: str) -> bool:
    """Whether a product of operands of these shapes is our kernels' work and none of NumPy's."""
    columns = second[-1] if len(second) > 1 else 1
    return dtype in ("float32", "float64") and math.prod(first) * columns > FEWEST


def _matmul(product: Product, x1: ndarray, x2: ndarray) -> ndarray:
    """A product of operands of any rank."""
    a = x1 if x1.ndim > 1 else x1[None]
    b = x2 if x2.ndim > 1 else x2[:, None]
    (rows, depth), columns = a.shape[-2:], b.shape[-1]
    work = a.size * columns
    if not work or not b.size or depth != b.shape[-2] or work <= FEWEST:
        return quiet(np.matmul, x1, x2)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    kept = (*batch, *(x1.shape[-2:-1] if x1.ndim > 1 else ()), *(x2.shape[-1:] if x2.ndim > 1 else ()))
    out = pool.empty(kept, product.dtype, math.prod(kept) * product.size)
    if out.size:
        _batches(product, a, b, out.reshape(*batch, rows, columns), batch)
    return out


def _complex_matmul(product: Product) -> Callable[[ndarray, ndarray], ndarray]:
    """Complex products as real ones of twice the depth and width: each row of B is followed by itself times i, and A
    and C are read as real. These are the four real products of the definition.
    """

    def matmul(x1: ndarray, x2: ndarray, /) -> ndarray:
        if x1.ndim < 2 or x2.ndim < 2 or x1.size * x2.shape[-1] <= SMALL or x1.shape[-1] != x2.shape[-2]:
            return quiet(np.matmul, x1, x2)
        depth, columns = x2.shape[-2:]
        wide = np.empty((*x2.shape[:-2], depth, 2, columns), x2.dtype)
        wide[..., 0, :] = x2
        wide[..., 1, :].real = -x2.imag
        wide[..., 1, :].imag = x2.real
        b = wide.reshape(*x2.shape[:-2], 2 * depth, columns).view(product.dtype)
        a = (x1 if x1.strides[-1] == x1.itemsize else np.ascontiguousarray(x1)).view(product.dtype)
        return _matmul(product, a, b).view(x2.dtype)

    return matmul


def _matrices(product: Product, a: ndarray, b: ndarray, out: ndarray) -> ndarray:
    """out = a b for matrices."""
    rows, depth = a.shape
    columns, size = b.shape[1], product.size
    if columns == 1 and a.strides[1] == size:
        product.dots(a, contiguous(b).reshape(-1), out)
    elif rows == 1 and b.strides[0] == size:
        product.dots(b.T, contiguous(a).reshape(-1), out)
    elif depth * columns * size > CACHED and rows > FEW:
        product.packed(a, b, out)
    else:
        product.direct(a, b, out, 1, (0, 0, 0, 0))
    return out


def _batches(product: Product, a: ndarray, b: ndarray, out: ndarray, batch: tuple[int, ...]) -> None:
    """out = a b, with leading axes broadcast to `batch`."""
    (rows, depth), columns = a.shape[-2:], b.shape[-1]
    matrices = math.prod(batch)
    if matrices == 1:
        _matrices(product, a.reshape(rows, depth), b.reshape(depth, columns), out.reshape(rows, columns))
    elif math.prod(b.shape[:-2]) == 1 and (merged := _merged(a, matrices)) is not None:
        # one B: the rows of all A are the rows of one matrix
        _matrices(product, merged, b.reshape(depth, columns), out.reshape(matrices * rows, columns))
    elif depth * columns * product.size > CACHED and rows > FEW:
        for place in np.ndindex(batch):
            _matrices(product, a[_at(place, a)], b[_at(place, b)], out[place])
    else:
        (a_step, a_table), (b_step, b_table) = _offsets(a, batch), _offsets(b, batch)
        product.direct(a, b, out, matrices, (a_step, b_step, a_table, b_table))


def _merged(a: ndarray, matrices: int) -> ndarray | None:
    """The rows of all matrices as the rows of one, where that is no copy."""
    if math.prod(a.shape[:-2]) != matrices:
        return None
    step = a.strides[-2]
    for length, stride in zip(a.shape[-2:0:-1], a.strides[-3::-1], strict=False):
        step *= length
        if stride != step:
            return None
    return np.lib.stride_tricks.as_strided(a, (a.size // a.shape[-1], a.shape[-1]), a.strides[-2:])


def _at(place: tuple[int, ...], x: ndarray) -> tuple[int, ...]:
    """Where the matrix of x for a place in the broadcast batch is."""
    lengths = x.shape[:-2]
    return tuple(i if n > 1 else 0 for i, n in zip(place[len(place) - len(lengths) :], lengths, strict=True))


def _offsets(x: ndarray, batch: tuple[int, ...]) -> tuple[int, Any]:
    """Bytes from matrix to matrix of x broadcast to a batch, and 0; or 0, and the offset of each."""
    lengths = (1,) * (len(batch) + 2 - x.ndim) + x.shape[:-2]
    steps = (0,) * (len(batch) + 2 - x.ndim) + x.strides[:-2]
    axes = [(n, s if k > 1 else 0) for n, k, s in zip(batch, lengths, steps, strict=True) if n > 1]
    if not axes:
        return 0, 0
    step = axes[-1][1]
    reach = step
    for length, stride in reversed(axes):
        if stride != reach:
            break
        reach *= length
    else:
        return step, 0
    return 0, offsets(x, batch)


def offsets(x: ndarray, batch: tuple[int, ...]) -> ndarray:
    """Bytes from the first matrix of x to each, broadcast to a batch."""
    lengths = (1,) * (len(batch) + 2 - x.ndim) + x.shape[:-2]
    steps = (0,) * (len(batch) + 2 - x.ndim) + x.strides[:-2]
    found = np.zeros(1, np.int64)
    for n, k, step in zip(batch, lengths, steps, strict=True):
        found = (found[:, None] + np.arange(n) * (step if k > 1 else 0)).reshape(-1)
    return found

"""Products of matrices, of every dtype and rank: which of the kernels of gemm.py does which.

Integers and odd cases go to NumPy. Floats do so only in a process that has compiled nothing yet, for few elements.
NumPy's library hands each of its threads a fixed part and waits for all of them, so that on a busy machine one product
takes 20 ms instead of 0.2; our team waits for nobody.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from . import native, pool
from .gemm import CACHED, FEW, Product
from .quiet import quiet

SMALL = 1 << 15  # multiplications up to which nothing but the overhead counts
WORTHWHILE = 1 << 16  # multiplications from which a kernel is compiled though nothing else is


def make_matmul(dtype: str) -> Callable[[ndarray, ndarray], ndarray]:
    """The kernel of `matmul` for a dtype."""
    if dtype not in ("float32", "float64"):
        return lambda x1, x2, /: quiet(np.matmul, x1, x2)
    product, kind, empty = Product(dtype), np.dtype(dtype), np.empty

    def matmul(x1: ndarray, x2: ndarray, /) -> ndarray:
        first, second = x1.shape, x2.shape
        if len(first) == 2 == len(second):
            rows, depth = first
            columns = second[1]
            work = rows * depth * columns
            if work <= SMALL:
                if work and depth == second[0] and native.loaded():
                    return product.small(x1, x2, empty((rows, columns), kind))
                return quiet(np.matmul, x1, x2)
        return _matmul(product, x1, x2)

    return matmul


def _matmul(product: Product, x1: ndarray, x2: ndarray) -> ndarray:
    a = x1 if x1.ndim > 1 else x1[None]
    b = x2 if x2.ndim > 1 else x2[:, None]
    (rows, depth), columns = a.shape[-2:], b.shape[-1]
    work = a.size * columns
    if not work or not b.size or depth != b.shape[-2] or not (a.flags.aligned and b.flags.aligned):
        return quiet(np.matmul, x1, x2)
    if work < WORTHWHILE and not native.loaded():
        return quiet(np.matmul, x1, x2)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    kept = (*batch, *(x1.shape[-2:-1] if x1.ndim > 1 else ()), *(x2.shape[-1:] if x2.ndim > 1 else ()))
    count = math.prod(batch) * rows * columns
    out = pool.empty(kept, product.dtype, count * product.size)
    if count:
        _products(product, a, b, out.reshape(*batch, rows, columns), batch)
    return out


def _products(product: Product, a: ndarray, b: ndarray, out: ndarray, batch: tuple[int, ...]) -> None:
    """out = a b, with leading axes broadcast to `batch`."""
    (rows, depth), columns = a.shape[-2:], b.shape[-1]
    matrices = math.prod(batch)
    if matrices > 1 and b[..., 0, 0].size == 1 and a[..., 0, 0].size == matrices:
        merged = _merged(a)
        if merged is not None:  # one B: the rows of all A are the rows of one matrix
            return _products(product, merged, b.reshape(depth, columns), out.reshape(matrices * rows, columns), ())
    if matrices == 1:
        a, b, out = a.reshape(a.shape[-2:]), b.reshape(b.shape[-2:]), out.reshape(rows, columns)
        size = product.size
        if columns == 1 and a.strides[1] == size:
            product.dots(a, np.ascontiguousarray(b).reshape(-1), out)
            return None
        if rows == 1 and b.strides[0] == size:
            product.dots(b.T, np.ascontiguousarray(a).reshape(-1), out)
            return None
        if depth * columns * size > CACHED and rows > FEW:
            product.packed(a, b, out)
        else:
            product.direct(a, b, out, 1, (0, 0, 0, 0))
        return None
    if depth * columns * product.size > CACHED and rows > FEW:
        for place in np.ndindex(batch):
            _products(product, a[_at(place, a)], b[_at(place, b)], out[place], ())
        return None
    a_step, a_table = _offsets(a, batch)
    b_step, b_table = _offsets(b, batch)
    product.direct(a, b, out, matrices, (a_step, b_step, a_table, b_table))
    return None


def _merged(a: ndarray) -> ndarray | None:
    """The rows of all matrices as the rows of one, where that is no copy."""
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
    offsets = np.zeros(1, np.int64)
    for length, stride in axes:
        offsets = (offsets[:, None] + np.arange(length) * stride).reshape(-1)
    return 0, offsets

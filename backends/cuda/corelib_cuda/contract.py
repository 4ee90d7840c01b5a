"""Products of matrices: cuBLAS for floating and complex dtypes, in their own precision; a kernel of ours for
integers (matmul.cu).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np

from corelib.plugin_api import dtypes, ops

from . import launch
from .copy import contiguous
from .kernels import kernels
from .launch import cupy
from .movement import fill

TILE, INT8_TILE = 16, 64  # as in matmul.cu
SIZES = np.dtype(
    [(name, np.int64) for name in ("batches", "rows", "depth", "columns", "a_stride", "b_stride")]
)


@functools.cache
def integer_kernel(dtype: str) -> launch.Kernel:
    entry = (
        f'extern "C" __global__ void __launch_bounds__({TILE * TILE}) matmul_{dtype}(const {dtype}* a, const {dtype}* b, '
        f"{dtype}* c, const __grid_constant__ Sizes sizes) {{ integer_matmul(a, b, c, sizes); }}"
    )
    return launch.Kernel("matmul.cu", f"matmul_{dtype}", entry)


int8_kernel = launch.Kernel("matmul.cu", "matmul_int8_int32")


def every_matmul(names: list[str]) -> Iterator[launch.Kernel]:
    """Each kernel of matmul.cu: what the tests compile."""
    yield int8_kernel
    for dtype in names:
        if dtypes.as_dtype(dtype) in dtypes.INTEGER:
            yield integer_kernel(dtype)


def product_shape(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, int, int]]:
    """(batch shape, (rows, depth, columns)) of a product of arrays of two dimensions at least."""
    if a[-1] != b[-2]:
        raise ValueError(f"matmul of shapes {a} and {b}: {a[-1]} columns meet {b[-2]} rows")
    return np.broadcast_shapes(a[:-2], b[:-2]), (a[-2], a[-1], b[-1])


def _product(multiply: Callable[..., Any], x1: Any, x2: Any, dtype: str) -> Any:
    """matmul by ``multiply(a, b, batch shape, sizes)``, which need not know of vectors and empty arrays; with a result of
    ``dtype``.
    """
    if x1.ndim == 0 or x2.ndim == 0:
        raise ValueError("matmul needs at least one dimension in each operand")
    a = x1.reshape(1, -1) if x1.ndim == 1 else x1
    b = x2.reshape(-1, 1) if x2.ndim == 1 else x2
    batch, (rows, depth, columns) = product_shape(a.shape, b.shape)
    shape = (*batch, rows, columns)
    if 0 in shape or depth == 0:
        out = fill(shape, 0, dtype)
    else:
        out = multiply(a, b, batch, (rows, depth, columns))
    if x1.ndim == 1:
        shape = (*batch, columns)
    if x2.ndim == 1:
        shape = shape[:-1]
    return out.reshape(shape) if out.shape != shape else out


def _launched(
    kernel: launch.Kernel,
    tile: int,
    block: tuple[int, ...],
    result: Any,
    a: Any,
    b: Any,
    batch: tuple[int, ...],
    sizes: tuple[int, int, int],
) -> Any:
    """A product of integers, of dtype ``result``, by blocks of ``tile`` x ``tile`` sums."""
    cp = cupy()
    rows, depth, columns = sizes
    batches = prod(batch)
    dense, strides = [], []
    for x, size in ((a, rows * depth), (b, depth * columns)):
        one = x.size == size  # one matrix serves the whole batch
        dense.append(contiguous(x if one else cp.broadcast_to(x, (*batch, *x.shape[-2:]))))
        strides.append(0 if one else size)
    out = cp.ndarray((*batch, rows, columns), result)
    blocks = batches * -(-rows // tile) * -(-columns // tile)
    if blocks > launch.MAX_BLOCKS:
        raise ValueError(f"matmul: a result of shape {out.shape} takes more blocks than CUDA can launch")
    kernel((blocks,), block, (*dense, out, np.array([(batches, rows, depth, columns, *strides)], SIZES)))
    return out


def _integers(a: Any, b: Any, batch: tuple[int, ...], sizes: tuple[int, int, int]) -> Any:
    return _launched(integer_kernel(a.dtype.name), TILE, (TILE, TILE), a.dtype, a, b, batch, sizes)


def _int8(a: Any, b: Any, batch: tuple[int, ...], sizes: tuple[int, int, int]) -> Any:
    return _launched(int8_kernel, INT8_TILE, (launch.THREADS,), np.int32, a, b, batch, sizes)


def _cublas(a: Any, b: Any, batch: tuple[int, ...], sizes: tuple[int, int, int]) -> Any:
    return cupy().matmul(a, b)


def _cublas_full_precision(a: Any, b: Any, batch: tuple[int, ...], sizes: tuple[int, int, int]) -> Any:
    """cuBLAS with TF32 off, for a process in which CuPy was told to use it (CUPY_TF32)."""
    core = __import__("cupy._core._routines_linalg", fromlist=["set_compute_type"])
    chosen = core.get_compute_type(np.float32)  # complex64 goes by it, too
    core.set_compute_type(np.float32, core.COMPUTE_TYPE_FP32)
    try:
        return cupy().matmul(a, b)
    finally:
        core.set_compute_type(np.float32, chosen)


def _make(op: Any, dtype: Any) -> Callable[..., Any]:
    if dtype in dtypes.INTEGER:
        multiply = _integers
    elif dtype.real is dtypes.float32 and os.environ.get("CUPY_TF32", "0") not in ("", "0"):
        multiply = _cublas_full_precision
    else:
        multiply = _cublas

    def kernel(x1: Any, x2: Any, /) -> Any:
        return _product(multiply, x1, x2, dtype.name)

    return kernel


kernels.family(ops.matmul, _make, dtypes=dtypes.NUMERIC)


@kernels.implements(ops.int8_matmul)
def int8_matmul(x1: Any, x2: Any, /) -> Any:
    return _product(_int8, x1, x2, "int32")

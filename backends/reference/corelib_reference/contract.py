"""Matrix products. Every element is a dot product that is computed exactly and rounded once.

float32: the product of two 24-bit numbers is exact in double, so :func:`math.fsum` of the products is the
correctly rounded sum. float64: rows and columns become integers over a power of two, and Python's integers
are exact. About 50 ns and 75 ns per product; ``math.sumprod`` would be faster for float32, but carries only
three doubles and is not always exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import mul
from typing import Any

from corelib.plugin_api import dtypes, ops

from . import ieee
from .array import RefArray, Shape, broadcast_shape, elements, offsets, strides
from .kernels import kernels
from .reduce import exact_sum, signed_zero
from .rounding import exact, from_exact, rounding

Lines = list[list[Any]]


def _integer_dots(rows: Lines, columns: Lines, dtype: dtypes.DType) -> list[int]:
    return rounding(dtype)([sum(map(mul, row, column)) for row in rows for column in columns])


def _float32_dots(rows: Lines, columns: Lines, dtype: dtypes.DType) -> list[float]:
    return [exact_sum(list(map(mul, row, column)), dtype) for row in rows for column in columns]


def _float64_dots(rows: Lines, columns: Lines, dtype: dtypes.DType) -> list[float]:
    exact_rows, exact_columns = ([_exact_if_finite(line) for line in side] for side in (rows, columns))
    dots = []
    for row, exact_row in zip(rows, exact_rows, strict=True):
        for column, exact_column in zip(columns, exact_columns, strict=True):
            if exact_row is None or exact_column is None:
                dots.append(_infinite_dot(row, column))
                continue
            (a, j), (b, k) = exact_row, exact_column
            total = from_exact(sum(map(mul, a, b)), j + k, dtype)
            dots.append(signed_zero(total, list(map(mul, row, column))) if total == 0 else total)
    return dots


def _exact_if_finite(line: list[float]) -> tuple[list[int], int] | None:
    return exact(line) if all(map(math.isfinite, line)) else None


def _infinite_dot(row: list[float], column: list[float]) -> float:
    """A dot product in which an infinity or a NaN occurs."""
    return sum(map(mul, map(ieee.unit, row), map(ieee.unit, column)))


def _complex_dots(rows: Lines, columns: Lines, dtype: dtypes.DType) -> list[complex]:
    """Each part is a real dot product of twice the length, over the parts of the elements side by side:
    [a, -b] . [c, d] is the real part of a + bi by c + di, and [b, a] . [c, d] the imaginary part.
    """
    dots = _DOTS[dtype.real]
    columns = [[part for z in column for part in (z.real, z.imag)] for column in columns]
    for_real = [[part for z in row for part in (z.real, -z.imag)] for row in rows]
    for_imag = [[part for z in row for part in (z.imag, z.real)] for row in rows]
    return list(map(complex, dots(for_real, columns, dtype.real), dots(for_imag, columns, dtype.real)))


_DOTS: dict[Any, Callable[..., list[Any]]] = {
    dtypes.float32: _float32_dots, dtypes.float64: _float64_dots,
    dtypes.complex64: _complex_dots, dtypes.complex128: _complex_dots,
}  # fmt: skip


@kernels.implements(ops.matmul)
def matmul(x1: RefArray, x2: RefArray, /) -> RefArray:
    """(..., n, k) by (..., k, m) is (..., n, m), leading axes broadcast; a vector is a row or a column."""
    left = x1.shape if len(x1.shape) > 1 else (1, *x1.shape)
    right = x2.shape if len(x2.shape) > 1 else (*x2.shape, 1)
    (n, depth), (other, m) = left[-2:], right[-2:]
    if depth != other or not x1.shape or not x2.shape:
        raise ValueError(f"matmul: shapes {x1.shape} and {x2.shape} do not fit")
    batch = broadcast_shape(left[:-2], right[:-2])
    elements((*batch, n, m))
    dots = _DOTS.get(x1.dtype, _integer_dots)
    data: list[Any] = []
    for a, b in zip(_matrices(left, batch), _matrices(right, batch), strict=True):
        rows = [x1.data[a + i * depth : a + (i + 1) * depth] for i in range(n)]
        columns = [x2.data[b + j : b + depth * m : m] for j in range(m)]
        data += dots(rows, columns, x1.dtype)
    shape = batch + (n,) * (len(x1.shape) > 1) + (m,) * (len(x2.shape) > 1)
    return RefArray(shape, x1.dtype, data)


def _matrices(shape: Shape, batch: Shape) -> list[int]:
    """Where each matrix of an array of ``shape`` starts, for every index of the broadcast ``batch``."""
    leading = (1,) * (len(batch) - len(shape) + 2) + shape[:-2]
    steps = strides((*leading, *shape[-2:]))
    return offsets(batch, tuple(0 if own == 1 else step for own, step in zip(leading, steps, strict=False)))

"""Linear algebra on stacks of matrices: CuPy's functions on cuSOLVER and cuBLAS, in the precision of their operands.

What the contract asks beyond them is added here. CuPy returns garbage for a singular or indefinite matrix unless it
is told to look (`launch.raising`), which waits for the device. Iterations need finite numbers, so those are checked
first. One triangle alone is read, and what has to be zero or real is so exactly. CuPy never sees an empty stack.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from corelib.plugin_api import LinAlgError, dtypes, errors, ops

from . import launch
from .copy import contiguous, copy
from .elementwise import Elementwise, describe
from .kernels import kernels
from .launch import cupy
from .movement import cast, fill
from .reduce import reduction

Shape = tuple[int, ...]
element_wise = functools.cache(describe)  # a kernel is loaded once


# ------------------------------------------------------------------------------------------------- kernels of our own
# Row and column of an element of a stack of dense matrices follow from its position x1: (x1 / columns % rows, x1 % columns).


@functools.cache
def identity_kernel(dtype: str) -> Elementwise:
    """The identity matrices of size x2."""
    return Elementwise(
        "identity", ("position", "int64"), dtype, f"{dtype}(x1 % (x2 * x2) % (x2 + 1) == 0 ? 1 : 0)"
    )


@functools.cache
def lower_kernel(dtype: str) -> Elementwise:
    """The lower triangle of matrices x2 of size x3, with a real diagonal; 0 above."""
    diagonal = "{T}(x2.re)" if dtypes.as_dtype(dtype).kind == "complex" else "x2"
    expression = f"x1 % x3 > x1 / x3 % x3 ? {{T}}(0) : x1 % x3 == x1 / x3 % x3 ? {diagonal} : x2"
    return Elementwise("lower", ("position", dtype, "int64"), dtype, expression)


@functools.cache
def real_diagonal_kernel(dtype: str) -> Elementwise:
    """Complex matrices x2 of x3 rows and x4 columns with the diagonal's imaginary part set to 0."""
    expression = "x1 % x4 == x1 / x4 % x3 ? {T}(x2.re) : x2"
    return Elementwise("real_diagonal", ("position", dtype, "int64", "int64"), dtype, expression)


@functools.cache
def phase_kernel(dtype: str) -> Elementwise:
    """x1 / |x1|, 1 for 0."""
    return Elementwise("phase", (dtype,), dtype, "x1 == {T}(0) ? {T}(1) : sign(x1)")


@functools.cache
def determinant_kernel(dtype: str) -> Elementwise:
    """x1 exp(x2) for a sign x1 and a logarithm x2."""
    d = dtypes.as_dtype(dtype)
    product = "{T}(x1.re * exp(x2), x1.im * exp(x2))" if d.kind == "complex" else "x1 * exp{f}(x2)"
    return Elementwise("determinant", (dtype, d.real.name), dtype, product)


def every_kernel(names: list[str]) -> list[tuple[Elementwise, str]]:
    """Each of these kernels with the forms of its operands: what the tests compile."""
    found = []
    for d in map(dtypes.as_dtype, names):
        if d in dtypes.INEXACT:
            found += [(identity_kernel(d.name), "pv"), (lower_kernel(d.name), "pav")]
            found += [(determinant_kernel(d.name), "aa")]
        if d.kind == "complex":
            found += [(real_diagonal_kernel(d.name), "pavv"), (phase_kernel(d.name), "a")]
    return found


def identity(batch: Shape, n: int, dtype: str) -> Any:
    return identity_kernel(dtype).fill((*batch, n, n), "pv", np.int64(n))


def lower_triangle(x: Any) -> Any:
    return lower_kernel(x.dtype.name).fill(x.shape, "pav", contiguous(x), np.int64(x.shape[-1]))


def finite(x: Any) -> bool:
    """Whether all elements are; waits for the device."""
    flags = arithmetic("isfinite", x)
    return bool(reduction("all", "bool", "bool")(flags, tuple(range(-x.ndim, 0)), False).get())


def only_finite(x: Any) -> Any:
    if not finite(x):
        raise LinAlgError("a matrix has elements that are NaN or infinite")
    return x


def empty(shape: Shape, dtype: Any) -> Any:
    return cupy().ndarray(shape, dtype.numpy)


def arithmetic(name: str, *operands: Any) -> Any:
    """An op of the element-wise family."""
    d = dtypes.as_dtype(operands[0].dtype)
    kernel = element_wise(name, d.name, d.kind)
    return operands[0] if kernel is None else kernel(*operands)


def matmul(a: Any, b: Any) -> Any:
    """The op's kernel, which is of full precision."""
    kernel = kernels.get(ops.matmul, dtypes.as_dtype(a.dtype))
    assert kernel is not None
    return kernel(a, b)


def adjoint(x: Any) -> Any:
    return arithmetic("conj", x.transpose((*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)))


def row(x: Any) -> Any:
    """Vectors (..., n) as matrices (..., 1, n)."""
    return x.reshape((*x.shape[:-1], 1, x.shape[-1]))


def frobenius(x: Any) -> Any:
    """The norm of each matrix, on the host; waits for the device."""
    size = arithmetic("abs", x)
    total = reduction("sum", size.dtype.name, size.dtype.name)
    return np.sqrt(total(arithmetic("multiply", size, size), (-2, -1), False).get())


# -------------------------------------------------------------------------------------------- systems and determinants


@kernels.implements(ops.linalg.solve)
def solve(x1: Any, x2: Any, /) -> Any:
    cp = cupy()
    right = x2.reshape((*x2.shape, 1)) if x2.ndim == 1 else x2
    n, columns = right.shape[-2:]
    if x1.shape[-2:] != (n, n):
        raise ValueError(f"solve: shapes {x1.shape} and {x2.shape} do not fit")
    batch = np.broadcast_shapes(x1.shape[:-2], right.shape[:-2])
    if 0 in (*batch, n, columns):
        solution = cp.ndarray((*batch, n, columns), x1.dtype)
    else:
        with launch.raising():
            solution = cp.linalg.solve(
                cp.broadcast_to(x1, (*batch, n, n)), cp.broadcast_to(right, (*batch, n, columns))
            )
    return solution.reshape(solution.shape[:-1]) if x2.ndim == 1 else solution


@kernels.implements(ops.linalg.slogdet)
def slogdet(x: Any, /) -> tuple[Any, Any]:
    batch, d = x.shape[:-2], dtypes.as_dtype(x.dtype)
    if x.size == 0:
        return fill(batch, 1, d.name), fill(batch, 0, d.real.name)
    sign, logarithm = cupy().linalg.slogdet(x)
    return sign, logarithm


@kernels.implements(ops.linalg.det)
def det(x: Any, /) -> Any:
    return determinant_kernel(x.dtype.name)(*slogdet(x))


# ------------------------------------------------------------------------------------------------------ decompositions


@kernels.implements(ops.linalg.cholesky)
def cholesky(x: Any, /, *, upper: bool) -> Any:
    if x.size == 0:
        return empty(x.shape, dtypes.as_dtype(x.dtype))
    with launch.raising():
        lower = lower_triangle(cupy().linalg.cholesky(lower_triangle(x)))
    if not finite(lower):
        raise LinAlgError("a matrix is not positive definite")
    return adjoint(lower) if upper else lower


@kernels.implements(ops.linalg.eigh)
def eigh(x: Any, /) -> tuple[Any, Any]:
    d = dtypes.as_dtype(x.dtype)
    if x.size == 0:
        return empty(x.shape[:-1], d.real), empty(x.shape, d)
    with launch.raising():
        values, vectors = cupy().linalg.eigh(only_finite(lower_triangle(x)), UPLO="L")
    return values, vectors


@kernels.implements(ops.linalg.eig)
def eig(x: Any, /) -> tuple[Any, Any]:
    if not launch.has_geev():
        raise errors.UnsupportedError(
            "eig on 'cuda' needs CuPy 14 or newer, and cuSOLVER 11.7 or newer for its function geev: update them, or use "
            "x.to('cpu')"
        )
    d = dtypes.as_dtype(x.dtype)
    if x.size == 0:
        return empty(x.shape[:-1], d.complex), empty(x.shape, d.complex)
    values, vectors = _eig(only_finite(x))
    n, wide = x.shape[-1], cast(x, d.complex.name)
    missed = frobenius(
        arithmetic("subtract", matmul(wide, vectors), arithmetic("multiply", vectors, row(values)))
    )
    if (missed > 4 * n * d.eps * frobenius(x)).any():
        # LAPACK scales rows and columns to like norms first, which is harmful where small elements are nothing but
        # small (D. S. Watkins, "A case where balancing is harmful", 2006); cuSOLVER may as well. A matrix that is
        # reflected gives no cause for it.
        u = np.arange(1, n + 1) / np.linalg.norm(np.arange(1, n + 1))
        mirror = cupy().array((np.eye(n) - 2 * np.outer(u, u)).astype(d.complex.numpy))
        around = mirror if d.kind == "complex" else arithmetic("real", mirror)
        values, again = _eig(matmul(matmul(around, x), around))
        vectors = matmul(mirror, again)
    return values, vectors


def _eig(x: Any) -> tuple[Any, Any]:
    with launch.raising():
        values, vectors = cupy().linalg.eig(x)
    return values, vectors


@kernels.implements(ops.linalg.qr)
def qr(x: Any, /, *, mode: str) -> tuple[Any, Any]:
    *batch, m, n = x.shape
    d = dtypes.as_dtype(x.dtype)
    k = m if mode == "complete" else min(m, n)
    if x.size == 0:
        q = identity((*batch,), m, d.name) if k == m else empty((*batch, m, k), d)
        return q, empty((*batch, k, n), d)
    with launch.raising():
        q, r = cupy().linalg.qr(x, mode)
    return (q, r) if d.kind != "complex" else real_diagonal(q, r, min(m, n))


def real_diagonal(q: Any, r: Any, k: int) -> tuple[Any, Any]:
    """QR factors with phases moved from r's diagonal, of k elements, into the columns of q."""
    cp = cupy()
    *batch, rows, columns = r.shape
    dtype = r.dtype.name
    phases = fill((*batch, rows), 1, dtype)
    copy(phase_kernel(dtype)(cp.diagonal(r, 0, r.ndim - 2, r.ndim - 1)), phases[..., :k])
    q = arithmetic("multiply", q, row(phases))
    r = arithmetic("multiply", r, arithmetic("conj", phases).reshape((*batch, rows, 1)))
    sizes = np.int64(rows), np.int64(columns)
    return q, real_diagonal_kernel(dtype).fill(r.shape, "pavv", r, *sizes)


@kernels.implements(ops.linalg.svd)
def svd(x: Any, /, *, full_matrices: bool) -> tuple[Any, Any, Any]:
    *batch, m, n = x.shape
    d = dtypes.as_dtype(x.dtype)
    k = min(m, n)
    if x.size == 0:
        square: Callable[[int], Any] = lambda size: identity((*batch,), size, d.name)
        u = square(m) if full_matrices else empty((*batch, m, k), d)
        vh = square(n) if full_matrices else empty((*batch, k, n), d)
        return u, empty((*batch, k), d.real), vh
    with launch.raising():
        u, s, vh = cupy().linalg.svd(only_finite(x), full_matrices=full_matrices)
    return u, s, vh

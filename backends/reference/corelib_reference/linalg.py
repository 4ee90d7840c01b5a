"""Linear algebra on stacks of matrices: the last two axes of an array are a matrix, the leading ones count them.

Systems and determinants are exact (:mod:`.elimination`); the other decompositions are computed in double precision
(:mod:`.decompositions`); each result is rounded once to its dtype. A matrix with an infinity or a NaN in it is not
positive definite, and has no eigenvalues and no singular values: LinAlgError. Its other results are NaN throughout.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from corelib.plugin_api import LinAlgError, dtypes, ops

from . import decompositions
from .array import RefArray, Shape, broadcast, broadcast_shape, elements
from .decompositions import Rows, adjoint, unit_vectors
from .elimination import determinant, logarithm, quotient, solution
from .kernels import kernels
from .rounding import from_exact, rounding

Specs = list[tuple[Shape, dtypes.DType]]
Results = tuple[Any, ...]  # each a number, a vector or a matrix by rows


def _matrices(x: RefArray) -> Iterator[Rows]:
    """Every matrix of (..., m, n) as m rows."""
    *leading, m, n = x.shape
    for matrix in range(elements(tuple(leading))):
        yield [x.data[row * n : (row + 1) * n] for row in range(matrix * m, (matrix + 1) * m)]


def _stacked(leading: Shape, specs: Specs, results: Iterable[Results]) -> tuple[RefArray, ...]:
    """What results hold for every matrix, as an array (*leading, *shape) of dtype for each of the specs."""
    data: list[list[Any]] = [[] for _ in specs]
    for result in results:
        for flat, part in zip(data, result, strict=True):
            part = part if isinstance(part, list) else [part]
            flat.extend(chain(*part) if part and isinstance(part[0], list) else part)
    for k, (_, dtype) in enumerate(specs):
        data[k] = rounding(dtype)(list(map(complex, data[k])) if dtype.kind == "complex" else data[k])
    return tuple(
        RefArray(leading + shape, dtype, flat) for (shape, dtype), flat in zip(specs, data, strict=True)
    )


def _each(
    x: RefArray, specs: Specs, decompose: Callable[[Rows], Results], read: Callable[[Rows], Rows] = list
) -> tuple[RefArray, ...]:
    """decompose(matrix) of what is read of every matrix of x, stacked; NaN where that is not finite."""
    nans = tuple([math.nan] * math.prod(shape) for shape, _ in specs)
    results = (decompose(a) if _finite(a) else nans for a in map(read, _matrices(x)))
    return _stacked(x.shape[:-2], specs, results)


def _finite(rows: Rows) -> bool:
    return all(map(cmath.isfinite, chain(*rows)))


def _only_finite(a: Rows) -> Rows:
    if not _finite(a):
        raise LinAlgError("a matrix has elements that are NaN or infinite")
    return a


def _hermitian(a: Rows) -> Rows:
    """The Hermitian matrix that has the lower triangle of ``a``, if it is finite."""
    return _only_finite(
        [[*row[:i], row[i].real, *(r[i].conjugate() for r in a[i + 1 :])] for i, row in enumerate(a)]
    )


def _square(x: RefArray) -> Shape:
    """The shape of one matrix of x, (n, n)."""
    *_, m, n = x.shape
    if m != n:
        raise ValueError(f"a matrix must be square, got shape {x.shape}")
    return m, n


# ---- systems and determinants


@kernels.implements(ops.linalg.solve)
def solve(x1: RefArray, x2: RefArray, /) -> RefArray:
    """The numbers nearest to the exact solution. A column of x2 that is not finite has a NaN solution."""
    is_vector, square = len(x2.shape) == 1, _square(x1)
    right = RefArray((*x2.shape, 1) if is_vector else x2.shape, x2.dtype, x2.data)
    shape = right.shape[-2:]
    if shape[0] != square[0]:
        raise ValueError(f"solve: shapes {x1.shape} and {x2.shape} do not fit")
    batch = broadcast_shape(x1.shape[:-2], right.shape[:-2])
    stacks = [
        _matrices(RefArray(batch + x.shape[-2:], x.dtype, broadcast(x, batch + x.shape[-2:])))
        for x in (x1, right)
    ]

    def solved(a: Rows, b: Rows) -> Results:
        if not _finite(a):
            return ([[math.nan] * shape[1]] * shape[0],)
        finite = [all(cmath.isfinite(row[j]) for row in b) for j in range(shape[1])]
        b = [[z if ok else 0.0 for z, ok in zip(row, finite, strict=True)] for row in b]
        x = solution(a, b, x1.dtype.real)
        return ([[z if ok else math.nan for z, ok in zip(row, finite, strict=True)] for row in x],)

    return _stacked(batch, [(shape[: 2 - is_vector], x1.dtype)], map(solved, *stacks))[0]


@kernels.implements(ops.linalg.det)
def det(x: RefArray, /) -> RefArray:
    """The exact determinant, rounded once."""
    _square(x)

    def value(a: Rows) -> Results:
        z, k = determinant(a)
        real, imag = (from_exact(part, k, x.dtype.real) for part in (z.real, z.imag))
        return (complex(real, imag) if x.dtype.kind == "complex" else real,)

    return _each(x, [((), x.dtype)], value)[0]


@kernels.implements(ops.linalg.slogdet)
def slogdet(x: RefArray, /) -> tuple[RefArray, ...]:
    """det / |det| and log |det| of the exact determinant, which neither overflows nor cancels near 1."""
    _square(x)

    def value(a: Rows) -> Results:
        z, k = determinant(a)
        if not z:
            return 0.0, -math.inf
        norm = (z * z.conjugate()).real
        return quotient(z * 2**64, math.isqrt(norm << 128), x.dtype.real), logarithm(norm, 2 * k) / 2

    return _each(x, [((), x.dtype), ((), x.dtype.real)], value)


# ---- decompositions


@kernels.implements(ops.linalg.cholesky)
def cholesky(x: RefArray, /, *, upper: bool) -> RefArray:
    def factor(a: Rows) -> Results:
        lower = decompositions.cholesky(a)
        return (adjoint(lower) if upper else lower,)

    return _each(x, [(_square(x), x.dtype)], factor, _hermitian)[0]


@kernels.implements(ops.linalg.qr)
def qr(x: RefArray, /, *, mode: str) -> tuple[RefArray, ...]:
    *_, m, n = x.shape
    k = m if mode == "complete" else min(m, n)

    def factors(a: Rows) -> Results:
        return decompositions.qr(a, k) if m and n else (unit_vectors(k, m), [])

    return _each(x, [((m, k), x.dtype), ((k, n), x.dtype)], factors)


@kernels.implements(ops.linalg.eigh)
def eigh(x: RefArray, /) -> tuple[RefArray, ...]:
    n, _ = square = _square(x)
    return _each(x, [((n,), x.dtype.real), (square, x.dtype)], decompositions.eigh, _hermitian)


@kernels.implements(ops.linalg.eig)
def eig(x: RefArray, /) -> tuple[RefArray, ...]:
    n, _ = square = _square(x)
    return _each(x, [((n,), x.dtype.complex), (square, x.dtype.complex)], decompositions.eig, _only_finite)


@kernels.implements(ops.linalg.svd)
def svd(x: RefArray, /, *, full_matrices: bool) -> tuple[RefArray, ...]:
    *_, m, n = x.shape
    k = min(m, n)
    rows, columns = (m, n) if full_matrices else (k, k)

    def factors(a: Rows) -> Results:
        return (
            decompositions.svd(a, full_matrices)
            if k
            else (unit_vectors(rows, m), [], unit_vectors(n, columns))
        )

    specs = [((m, rows), x.dtype), ((k,), x.dtype.real), ((columns, n), x.dtype)]
    return _each(x, specs, factors, _only_finite)

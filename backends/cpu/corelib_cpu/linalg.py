"""Linear algebra on stacks of matrices, by LAPACK through numpy.linalg.

What LAPACK leaves open is settled here: of a Hermitian matrix the lower triangle is read; a matrix with an infinity or
a NaN in it is not positive definite and has no eigenvalues or singular values, which LAPACK may not notice, and its
other results are NaN throughout; eigenvalues are complex whatever their values are. numpy.linalg's exceptions become
LinAlgError, for which the core finds the matrix that is to blame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from corelib.plugin_api import LinAlgError

from .quiet import guarded

KERNELS = (
    "solve", "det", "slogdet", "inv", "cholesky", "eigh", "eigvalsh", "eig", "eigvals", "qr", "svd", "svdvals",
)  # fmt: skip


def _lapack(function: Callable[..., Any], *operands: ndarray, **options: Any) -> Any:
    """The results of a function of numpy.linalg: an array, or a tuple of arrays."""
    try:
        results = guarded(function, *operands, **options)
    except np.linalg.LinAlgError as error:
        raise LinAlgError(f"{function.__name__}: {error}") from None
    return tuple(map(np.asarray, results)) if isinstance(results, tuple) else np.asarray(results)


def _refuse_not_finite(x: ndarray) -> ndarray:
    if not np.isfinite(x).all():
        raise LinAlgError("a matrix has elements that are NaN or infinite")
    return x


def _lower(x: ndarray) -> ndarray:
    """The matrices, of which only the lower triangles will be read; these are finite."""
    if not np.isfinite(x).all():
        _refuse_not_finite(np.tril(x))
    return x


def _finite(x: ndarray) -> tuple[ndarray, ndarray | None]:
    """The matrices, those that are not finite replaced by what has every result; and which these are, if any."""
    finite = np.isfinite(x)
    if finite.all():
        return x, None
    lost = ~finite.all((-2, -1))
    return np.where(lost[..., None, None], np.eye(*x.shape[-2:], dtype=x.dtype), x), lost


def _where_finite(function: Callable[..., Any], x: ndarray, **options: Any) -> Any:
    """The results of a function of the matrices, NaN throughout for those that are not finite."""
    x, lost = _finite(x)
    results = _lapack(function, x, **options)
    if lost is not None:
        for result in results if isinstance(results, tuple) else (results,):
            result[lost] = np.nan
    return results


def solve(x1: ndarray, x2: ndarray, /) -> ndarray:
    x1, lost = _finite(x1)
    result = _lapack(np.linalg.solve, x1, x2)
    columns = np.isfinite(x2).all(-1 if x2.ndim == 1 else -2)
    if not columns.all():
        result[np.broadcast_to(~columns[..., None, :] if x2.ndim > 1 else ~columns, result.shape)] = np.nan
    if lost is not None:
        result[np.broadcast_to(lost, result.shape[: result.ndim - min(x2.ndim, 2)])] = np.nan
    return result


def det(x: ndarray, /) -> ndarray:
    return _where_finite(np.linalg.det, x)


def slogdet(x: ndarray, /) -> tuple[ndarray, ndarray]:
    return _where_finite(np.linalg.slogdet, x)


def inv(x: ndarray, /) -> ndarray:
    return _where_finite(np.linalg.inv, x)


def cholesky(x: ndarray, /, *, upper: bool) -> ndarray:
    result = _lapack(np.linalg.cholesky, _lower(x))
    return np.ascontiguousarray(result.mT.conj()) if upper else result


def eigh(x: ndarray, /) -> tuple[ndarray, ndarray]:
    return _lapack(np.linalg.eigh, _lower(x))


def eigvalsh(x: ndarray, /) -> ndarray:
    return _lapack(np.linalg.eigvalsh, _lower(x))


def eig(x: ndarray, /) -> tuple[ndarray, ndarray]:
    return guarded(_stable_eig, _refuse_not_finite(x))


def _stable_eig(x: ndarray) -> tuple[ndarray, ndarray]:
    values, vectors = _eig(x)
    n = x.shape[-1]
    missed = np.linalg.norm(x @ vectors - vectors * values[..., None, :], axis=(-2, -1))
    unstable = missed > 4 * n * np.finfo(x.dtype).eps * np.linalg.norm(x, axis=(-2, -1))
    if unstable.any():
        # LAPACK scales rows and columns to like norms, which is harmful where small elements are nothing but small
        # (D. S. Watkins, "A case where balancing is harmful", 2006): reflected, the matrix gives no cause for it.
        u = np.arange(1, n + 1) / np.linalg.norm(np.arange(1, n + 1))
        mirror = (np.eye(n) - 2 * np.outer(u, u)).astype(x.dtype)
        values[unstable], again = _eig(mirror @ x[unstable] @ mirror)
        vectors[unstable] = mirror @ again
    return values, vectors


def _eig(x: ndarray) -> tuple[ndarray, ndarray]:
    values, vectors = _lapack(np.linalg.eig, x)
    kind = np.result_type(x.dtype, np.complex64)
    return values.astype(kind, copy=False), vectors.astype(kind, copy=False)


def eigvals(x: ndarray, /) -> ndarray:
    values = _lapack(np.linalg.eigvals, _refuse_not_finite(x))
    return values.astype(np.result_type(x.dtype, np.complex64), copy=False)


def qr(x: ndarray, /, *, mode: str) -> tuple[ndarray, ndarray]:
    return _where_finite(np.linalg.qr, x, mode=mode)


def svd(x: ndarray, /, *, full_matrices: bool) -> tuple[ndarray, ndarray, ndarray]:
    return _lapack(np.linalg.svd, _refuse_not_finite(x), full_matrices=full_matrices)


def svdvals(x: ndarray, /) -> ndarray:
    return _lapack(np.linalg.svd, _refuse_not_finite(x), compute_uv=False)

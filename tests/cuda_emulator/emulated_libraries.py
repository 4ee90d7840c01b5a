"""NumPy in the place of CuPy's linear algebra and Fourier transforms, as strict as cuSOLVER and cuFFT are, and as lax.

An empty array is refused, and so are shapes that do not agree, which NumPy would broadcast. A matrix without an answer
gives NaN, unless `cupyx.errstate` asks for an error. What cuSOLVER leaves open comes out otherwise than from LAPACK: the
phases in QR factors, the imaginary part of a diagonal, what an array held before.
"""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

linalg = "ignore"  # what cupyx.errstate has set
available = {"geev"}  # what cuSOLVER is said to have


@contextlib.contextmanager
def errstate(*, linalg: str) -> Iterator[None]:
    before, globals()["linalg"] = globals()["linalg"], linalg
    try:
        yield
    finally:
        globals()["linalg"] = before


def _never_empty(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(x: np.ndarray, *args: Any, **kwargs: Any) -> Any:
        if not x.size:
            raise RuntimeError(f"{function.__name__} of an empty array")
        return function(x, *args, **kwargs)

    return call


def _unless_asked(otherwise: Any, function: Callable[..., Any], *args: Any) -> Any:
    """The result, or if there is none NaN like ``otherwise``."""
    try:
        return function(*args)
    except np.linalg.LinAlgError:
        if linalg == "raise":
            raise
        return np.full_like(otherwise, np.nan)


def solve(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.shape[:-1] != b.shape[:-1]:
        raise ValueError("a must have (..., M, M) shape and b must have (..., M, K) for multidimensional b")
    return _unless_asked(b, np.linalg.solve, a, b)


def cholesky(a: np.ndarray) -> np.ndarray:
    lower = _unless_asked(a, np.linalg.cholesky, np.tril(a))
    return lower + a.dtype.type(1e-30j) * np.eye(a.shape[-1], dtype=a.dtype) if a.dtype.kind == "c" else lower


def qr(a: np.ndarray, mode: str) -> tuple[np.ndarray, np.ndarray]:
    q, r = np.linalg.qr(a, mode)
    if a.dtype.kind != "c":
        return q, r
    phases = np.exp(1j * np.arange(q.shape[-1])).astype(a.dtype)
    return q * phases, phases.conj()[:, None] * r


def eigh(a: np.ndarray, UPLO: str) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.linalg.eigh(a, UPLO))


def eig(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kind = np.result_type(a.dtype, np.complex64)
    return tuple(part.astype(kind) for part in np.linalg.eig(a))


def svd(a: np.ndarray, full_matrices: bool) -> tuple[np.ndarray, ...]:
    return tuple(np.linalg.svd(a, full_matrices))


def slogdet(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.linalg.slogdet(a))


def modules(forwarded: Callable[..., Any]) -> tuple[Any, Any, Any, Any]:
    """cupy.linalg, cupy.fft, cupyx and cupyx.cusolver, by functions of NumPy arrays ``forwarded`` to the device."""
    decompositions = (solve, cholesky, qr, eigh, eig, svd, slogdet)
    transforms = (np.fft.fft, np.fft.ifft, np.fft.rfft, np.fft.irfft)
    cupy_linalg, cupy_fft = (
        types.SimpleNamespace(**{f.__name__: forwarded(_never_empty(f)) for f in functions})
        for functions in (decompositions, transforms)
    )
    cusolver = types.ModuleType("cupyx.cusolver")
    cusolver.check_availability = lambda name: name in available  # type: ignore[attr-defined]
    cupyx = types.ModuleType("cupyx")
    cupyx.cusolver, cupyx.errstate = cusolver, errstate  # type: ignore[attr-defined]
    return cupy_linalg, cupy_fft, cupyx, cusolver

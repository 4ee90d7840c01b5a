"""Fourier transforms of one axis, by numpy.fft: pocketfft, in the precision of the operands."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy import ndarray

from . import pool
from .quiet import quiet


def _transform(
    function: Callable[..., ndarray], x: ndarray, n: int, axis: int, norm: str, size: int, dtype: np.dtype
) -> ndarray:
    """``function(x)``, which has ``size`` elements along ``axis``, in a C-contiguous array."""
    shape = list(x.shape)
    if not shape[axis]:  # all elements are zeros from behind the end, of which NumPy's irfft makes anything
        shape[axis] = 1
        x = np.zeros(shape, x.dtype)
    shape[axis] = size
    out = pool.empty(tuple(shape), dtype, math.prod(shape) * dtype.itemsize)
    return quiet(function, x, n, axis, norm, out)


def fft(x: ndarray, /, *, n: int, axis: int, norm: str) -> ndarray:
    return _transform(np.fft.fft, x, n, axis, norm, n, x.dtype)


def ifft(x: ndarray, /, *, n: int, axis: int, norm: str) -> ndarray:
    return _transform(np.fft.ifft, x, n, axis, norm, n, x.dtype)


def rfft(x: ndarray, /, *, n: int, axis: int, norm: str) -> ndarray:
    return _transform(np.fft.rfft, x, n, axis, norm, n // 2 + 1, np.result_type(x.dtype, np.complex64))


def irfft(x: ndarray, /, *, n: int, axis: int, norm: str) -> ndarray:
    return _transform(np.fft.irfft, x, n, axis, norm, n, x.real.dtype)
